//! The command line of the `engine` binary.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Stream-processing engine for pipelines in YAML or SQL.
#[derive(Debug, Parser)]
#[command(
    name = "engine",
    version = env!("MILLSTREAM_VERSION"),
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline in this process until its input ends or it is stopped. The same command resumes it.
    Run(Box<Run>),
    /// Answer HTTP requests with pipelines: each request is a batch of its own.
    Serve(Box<Serve>),
    /// Run tests of pipelines: given rows of sources, and expected rows of sinks, without external systems.
    Test(Box<TestArguments>),
    /// Run a coordinator and a worker in one process.
    Standalone(Box<Standalone>),
    /// Accept jobs and run them on registered workers. Coordinators that share a data folder elect a leader.
    Coordinator(Box<Coordinator>),
    /// Run the tasks that a coordinator deploys.
    Worker(Box<Worker>),
    /// Print the JSON Schema of pipelines in YAML, for editors.
    Schema,
    /// List connectors and formats with their options.
    Connectors {
        /// Connector or format to list. Default: all.
        name: Option<String>,
    },
    /// List the checkpoints of a job.
    Checkpoints {
        /// Pipeline file, or name of the job.
        job: String,
        /// Read all files of all checkpoints, or of this one; report damage, and which checkpoint a restore would use.
        /// Exit code 7 if a file is damaged.
        #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, require_equals = true)]
        verify: Option<Option<u64>>,
        /// With --verify: print one JSON document per line; the last one is the result.
        #[arg(long, requires = "verify")]
        json: bool,
        #[command(flatten)]
        storage: StorageArguments,
    },
    /// Create, list and revoke the tokens of callers.
    #[command(subcommand)]
    Tokens(Tokens),
    /// Print the version.
    Version,
}

/// Commands of `engine tokens`.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Create a token and print it. The file has its hash only.
    Create {
        /// Name of the token.
        #[arg(long)]
        name: String,
        /// Role: viewers read; operators also run and change jobs, and invoke services; admins also delete jobs and
        /// savepoints, and drain workers; workers only register.
        #[arg(long, value_enum)]
        role: TokenRole,
        /// Time for which the token is valid, such as 30d. Default: until it is revoked.
        #[arg(long, value_name = "TIME", value_parser = lifetime_ms)]
        expires: Option<u64>,
        /// Pipelines that the token is limited to, separated by commas. Default: all.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        pipelines: Vec<String>,
        #[command(flatten)]
        file: TokensFile,
    },
    /// List the tokens of a file.
    List {
        #[command(flatten)]
        file: TokensFile,
    },
    /// Remove a token. Servers refuse it within a second.
    Revoke {
        /// Name of the token.
        name: String,
        #[command(flatten)]
        file: TokensFile,
    },
}

/// The file that `engine tokens` changes.
#[derive(Debug, Args)]
pub struct TokensFile {
    /// File of tokens.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_TOKENS", default_value = "tokens.json")]
    pub tokens: PathBuf,
}

/// Role of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    Viewer,
    Operator,
    Admin,
    Worker,
}

/// Location of state and checkpoints.
#[derive(Debug, Clone, Args)]
pub struct StorageArguments {
    /// Folder for state, checkpoints and locks.
    #[arg(long, value_name = "DIR", env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    pub data_dir: PathBuf,
    /// URL of checkpoint storage (file://, s3://, gs://, az://). Default: in the data folder.
    #[arg(long, value_name = "URL", env = "MILLSTREAM_CHECKPOINT_STORAGE")]
    pub checkpoint_storage: Option<String>,
}

impl StorageArguments {
    /// Returns the URL or folder of the checkpoints; the command line takes precedence over the pipeline.
    pub fn checkpoints(&self, of_pipeline: Option<&str>) -> Result<String, String> {
        if let Some(url) = self.checkpoint_storage.as_deref().or(of_pipeline) {
            return Ok(url.to_string());
        }
        let local = self.data_dir.join("checkpoints");
        let text = local.to_str().ok_or_else(|| {
            format!(
                "error: the data folder {} is not UTF-8; choose another\n",
                self.data_dir.display()
            )
        })?;
        Ok(text.to_string())
    }
}

/// Arguments of `engine test`.
#[derive(Debug, Args)]
pub struct TestArguments {
    /// Files of tests: NAME.tests.yaml.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Run only the tests whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Write the results to this file as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// Arguments of `engine run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Pipeline: .yaml, .yml, .json or .sql.
    pub file: PathBuf,
    /// Execution mode: process new input as it arrives, or read the present input to its end.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Name of the job, and of its state and checkpoints. Default: the spec's name, or the script's file name.
    #[arg(long)]
    pub name: Option<String>,
    /// Start without state; earlier checkpoints of the job are moved to another folder.
    #[arg(long, conflicts_with = "from_checkpoint")]
    pub fresh: bool,
    /// With --fresh: first remove the output files of earlier runs. Without it they stay beside the new ones.
    #[arg(long, requires = "fresh")]
    pub remove_output: bool,
    /// Resume from this retained checkpoint instead of the latest.
    #[arg(long, value_name = "N")]
    pub from_checkpoint: Option<u64>,
    /// If the newest checkpoints are damaged, resume from an older one even if output published after it is written a
    /// second time.
    #[arg(long)]
    pub allow_duplicates: bool,
    /// Resume although the edited pipeline computes the checkpoint's state from other rows or by other expressions;
    /// windows that are open then contain both.
    #[arg(long, conflicts_with = "fresh")]
    pub accept_changed_meaning: bool,
    #[command(flatten)]
    pub storage: StorageArguments,
    /// Subtasks per operator. Default: the spec's setting, else one per slot.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub parallelism: Option<u16>,
    /// Threads that process rows. Default: the number of cores, at most the parallelism.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), env = "MILLSTREAM_SLOTS")]
    pub slots: Option<u16>,
    /// Memory budget for state, caches and rows in flight, such as 512mb or 2gb. State beyond it is spilled to disk.
    /// Default: a quarter of the memory of the machine or container.
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<usize>,
    /// Interval between the starts of two checkpoints, such as 10s.
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    pub checkpoint_interval: Option<u64>,
    /// Refuse a pipeline that there are notes about, such as settings without effect or state without a bound.
    #[arg(long)]
    pub strict: bool,
    /// Plan and check the pipeline, print what would run, and exit.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the job graph, and exit.
    #[arg(long)]
    pub explain: bool,
    /// Format of --explain: a tree, or a flowchart for Mermaid.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        requires = "explain"
    )]
    pub format: ExplainFormat,
    /// Address of /metrics, /healthz and /readyz, such as 127.0.0.1:8080.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_HTTP")]
    pub http: Option<SocketAddr>,
    #[command(flatten)]
    pub secrets: SecretArguments,
    #[command(flatten)]
    pub observability: Observability,
    /// File for the summary of the run, as JSON.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// Arguments of `engine serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Pipelines: .yaml, .yml, .json or .sql. SIGHUP reads them again, and replaces the ones that have changed.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Address of the services, /metrics, /healthz and /readyz. Port 0: any free port.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_HTTP", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// Serve at an address that others can reach, without encryption.
    #[arg(long)]
    pub insecure: bool,
    /// File of the tokens of callers (`engine tokens create`). With it, every call needs one of them; it is read again
    /// when it changes.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_TOKENS")]
    pub tokens: Option<PathBuf>,
    /// Requests of one pipeline that run at the same time. Default: twice the number of cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency_max: Option<u16>,
    /// Requests of one pipeline that wait to run; further ones are refused with 429.
    #[arg(long, value_name = "N", default_value = "1000")]
    pub queue_max: usize,
    /// Time for a request that has no X-Timeout-Ms, such as 5s.
    #[arg(long, value_name = "TIME", value_parser = duration_ms, default_value = "30s")]
    pub timeout: u64,
    /// Largest body of a request, such as 16mb.
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "16mb")]
    pub body_max: usize,
    /// Time for requests in progress to end after SIGTERM, such as 30s.
    #[arg(long, value_name = "TIME", value_parser = duration_ms, default_value = "30s")]
    pub drain_timeout: u64,
    /// Memory budget for state and tables, such as 512mb or 2gb. Default: a quarter of the memory of the machine or
    /// container.
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<usize>,
    /// Folder for state that outgrows memory.
    #[arg(long, value_name = "DIR", env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub secrets: SecretArguments,
    #[command(flatten)]
    pub observability: Observability,
}

/// Arguments of `engine coordinator`.
#[derive(Debug, Args)]
pub struct Coordinator {
    #[command(flatten)]
    pub common: CoordinatorArguments,
    /// URL at which clients, workers and other coordinators reach this one. Default: the host's name, or the address of
    /// --listen.
    #[arg(long, value_name = "URL", value_parser = address, env = "MILLSTREAM_ADVERTISE")]
    pub advertise: Option<String>,
}

/// Arguments of `engine standalone`.
#[derive(Debug, Args)]
pub struct Standalone {
    #[command(flatten)]
    pub common: CoordinatorArguments,
    /// Threads that process rows, shared by all jobs.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u16).range(1..=1024), env = "MILLSTREAM_SLOTS")]
    pub slots: u16,
    /// Memory budget for state, caches and rows in flight, such as 512mb or 2gb. State beyond it is spilled to disk.
    /// Default: a quarter of the memory of the machine or container.
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<usize>,
    /// Folder for local state. Default: in the data folder if that is local, else .millstream/work.
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
}

/// Arguments of processes that can lead a cluster.
#[derive(Debug, Args)]
pub struct CoordinatorArguments {
    /// Folder or URL (file://, s3://, gs://, az://) of the cluster's journal and checkpoints. All coordinators of a
    /// cluster share it.
    #[arg(long, value_name = "URL", env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    pub data_dir: String,
    /// Address at which clients and workers connect. Port 0: any free port.
    #[arg(
        long,
        value_name = "ADDR",
        env = "MILLSTREAM_LISTEN",
        default_value = "127.0.0.1:7070"
    )]
    pub listen: SocketAddr,
    /// Address of the REST API, /metrics, /healthz and /readyz. Default: port 8080 at the address of --listen.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_HTTP")]
    pub http: Option<SocketAddr>,
    /// Id of the cluster to which the data folder must belong; the folder of another cluster is refused.
    #[arg(long, value_name = "ID", env = "MILLSTREAM_CLUSTER")]
    pub cluster: Option<String>,
    /// File of the tokens of callers (`engine tokens create`). With it, every call needs one of them; it is read again
    /// when it changes.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_TOKENS")]
    pub tokens: Option<PathBuf>,
    /// Most jobs that the cluster stores, ended ones included.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub jobs_max: usize,
    #[command(flatten)]
    pub secrets: SecretArguments,
    #[command(flatten)]
    pub observability: Observability,
}

/// Arguments of `engine worker`.
#[derive(Debug, Args)]
pub struct Worker {
    /// Addresses of the coordinators, such as http://host:7070. The worker finds the leader among them.
    #[arg(
        long,
        value_name = "URL",
        required = true,
        value_delimiter = ',',
        value_parser = address,
        env = "MILLSTREAM_COORDINATOR"
    )]
    pub coordinator: Vec<String>,
    /// Name of the worker: unique in the cluster, and the same after a restart. Default: the host's name with the port,
    /// or with a hash of --data-dir if that is given.
    #[arg(long, env = "MILLSTREAM_NAME")]
    pub name: Option<String>,
    /// Address at which other workers connect. Default: the first free port of 7071 to 7086 at the address from which
    /// the coordinator is reached.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// URL at which other workers reach this one, if it differs from --listen, such as http://worker-0.workers:7071.
    #[arg(long, value_name = "URL", value_parser = address, env = "MILLSTREAM_ADVERTISE")]
    pub advertise: Option<String>,
    /// Threads that process rows, shared by all jobs. Default: the number of cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), env = "MILLSTREAM_SLOTS")]
    pub slots: Option<u16>,
    /// Memory budget for state, caches and rows in flight, such as 512mb or 2gb. State beyond it is spilled to disk.
    /// Default: a quarter of the memory of the machine or container.
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<usize>,
    /// Compression of rows that are sent to other workers, for networks that are slower than the cores.
    #[arg(
        long,
        value_enum,
        value_name = "CODEC",
        default_value = "none",
        env = "MILLSTREAM_EXCHANGE_COMPRESSION"
    )]
    pub exchange_compression: ExchangeCompression,
    /// File that contains the worker's token (role `worker`), for coordinators with --tokens.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Folder for local state. Default: .millstream/workers/NAME.
    #[arg(long, value_name = "DIR", env = "MILLSTREAM_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub secrets: SecretArguments,
    #[command(flatten)]
    pub service: Service,
}

/// Arguments of long-running services.
#[derive(Debug, Args)]
pub struct Service {
    /// Address of /metrics, /healthz and /readyz, such as 0.0.0.0:8080.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_HTTP")]
    pub http: Option<SocketAddr>,
    #[command(flatten)]
    pub observability: Observability,
}

/// Execution mode of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Stream,
    Batch,
}

/// Format of `--explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    Text,
    Mermaid,
}

/// Compression of the exchange between workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExchangeCompression {
    None,
    Lz4,
}

/// Arguments for secrets.
#[derive(Debug, Clone, Args)]
pub struct SecretArguments {
    /// Folder of secrets that options refer to as ${secret:NAME}: one file per secret, with its name, as Kubernetes
    /// mounts them. A secret without a file is the value of MILLSTREAM_SECRET_NAME.
    #[arg(long, value_name = "DIR", env = "MILLSTREAM_SECRETS")]
    pub secrets: Option<PathBuf>,
}

impl Command {
    /// Returns the folder of secrets.
    pub fn secrets(&self) -> Option<&Path> {
        let arguments = match self {
            Command::Run(arguments) => &arguments.secrets,
            Command::Serve(arguments) => &arguments.secrets,
            Command::Standalone(arguments) => &arguments.common.secrets,
            Command::Coordinator(arguments) => &arguments.common.secrets,
            Command::Worker(arguments) => &arguments.secrets,
            _ => return None,
        };
        arguments.secrets.as_deref()
    }
}

/// Arguments for logs and traces.
#[derive(Debug, Clone, Args)]
pub struct Observability {
    /// Format of log lines.
    #[arg(long, value_enum, default_value = "text", env = "MILLSTREAM_LOG_FORMAT")]
    pub log: LogFormat,
    /// Send traces of control operations to this OpenTelemetry collector (OTLP over gRPC), such as
    /// http://localhost:4317. Default: OTEL_EXPORTER_OTLP_ENDPOINT; without it no traces are sent.
    #[arg(long, value_name = "URL")]
    pub traces: Option<String>,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Parses the URL of a process; no connection is opened.
fn address(text: &str) -> Result<String, String> {
    millstream_cluster::connect::check_address(text.trim())?;
    Ok(text.trim().trim_end_matches('/').to_string())
}

fn duration_ms(text: &str) -> Result<u64, String> {
    match millstream_proto::spec::parse_duration_ms(text)? {
        0 => Err("0 would take checkpoints without a pause; use at least `10ms`".into()),
        ms => Ok(ms),
    }
}

/// Parses the time for which a token is valid.
fn lifetime_ms(text: &str) -> Result<u64, String> {
    match millstream_proto::spec::parse_duration_ms(text)? {
        0 => Err("0 would make a token that is never valid; use a time such as `30d`".into()),
        ms => Ok(ms),
    }
}

/// Parses a memory budget such as `512mb`, `2 gb` or `1048576`.
fn bytes(text: &str) -> Result<usize, String> {
    match size(text)? {
        amount if amount < MEMORY_BYTES_MIN => Err(format!("{text} is below the minimum of 8mb")),
        amount => Ok(amount),
    }
}

/// Parses a number of bytes such as `512mb`, `2 gb` or `1048576`; units are powers of 1024.
fn size(text: &str) -> Result<usize, String> {
    let invalid = || format!("`{text}` is not a number of bytes; use a number and a unit, such as `512mb` or `2gb`");
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: usize = text[..digits].parse().map_err(|_| invalid())?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(invalid()),
    };
    number.checked_mul(1 << shift).ok_or_else(invalid)
}

/// Smallest memory budget: one write buffer and one block cache.
const MEMORY_BYTES_MIN: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_have_units() {
        assert_eq!(bytes("64mb"), Ok(64 << 20));
        assert_eq!(bytes("2 GB"), Ok(2 << 30));
        assert_eq!(bytes("16777216"), Ok(16 << 20));
        assert!(bytes("1kb").is_err());
        assert!(bytes("many").is_err());
        assert!(bytes("99999999999999999999gb").is_err());
    }

    #[test]
    fn invalid_addresses_are_refused() {
        let refused = |arguments: &[&str]| {
            let all = ["engine"].into_iter().chain(arguments.iter().copied());
            Arguments::try_parse_from(all)
                .err()
                .map(|error| (error.exit_code(), error.to_string()))
        };
        let good = "http://a:7070,http://b:7070/";
        assert_eq!(
            refused(&[
                "worker",
                "--coordinator",
                good,
                "--advertise",
                "http://nohost.invalid:7071"
            ]),
            None
        );
        for wrong in [
            &["worker", "--coordinator", "bogus://"][..],
            &["worker", "--coordinator", good, "--advertise", "w1:7071"],
            &["coordinator", "--advertise", "http://"],
        ] {
            let (code, text) = refused(wrong).expect("refused");
            assert_eq!(code, 2);
            assert!(text.contains("write one like http://host:7070"), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
