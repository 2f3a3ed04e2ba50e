//! The command line of the `engine` binary.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A stream-processing engine: pipelines in YAML or SQL, run here.
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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline in this process until its input ends or someone stops it; the same command again resumes.
    Run(Box<Run>),
    /// Accept jobs and run them here: a coordinator and a worker in one process.
    Standalone(Box<Standalone>),
    /// Accept jobs and run them over the workers that attach here; several take turns over one data folder.
    Coordinator(Box<Coordinator>),
    /// Run the parts of jobs that a coordinator gives to this process.
    Worker(Box<Worker>),
    /// Print the JSON Schema of the YAML spelling, for editors.
    Schema,
    /// List connectors and formats with their options.
    Connectors {
        /// Only this one.
        name: Option<String>,
    },
    /// List the checkpoints of a job.
    Checkpoints {
        /// The pipeline file, or the job's name.
        job: String,
        /// Read through all that checkpoints consist of, or that one, and say what is damaged and what a restore
        /// would do about it. Exit code 7: something is damaged.
        #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, require_equals = true)]
        verify: Option<Option<u64>>,
        /// With --verify: print one JSON document per line, the last one is the result.
        #[arg(long, requires = "verify")]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print the version.
    Version,
}

#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Folder for state, checkpoints and locks.
    #[arg(long, value_name = "DIR", env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    pub data_dir: PathBuf,
    /// Where checkpoints are kept, as a URL (file://, s3://, gs://, az://). Default: in the data folder.
    #[arg(long, value_name = "URL", env = "MILLSTREAM_CHECKPOINT_STORAGE")]
    pub checkpoint_storage: Option<String>,
}

impl Place {
    /// URL or folder of the checkpoints; what a pipeline says counts less than the command line.
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

#[derive(Debug, Args)]
pub struct Run {
    /// The pipeline: .yaml, .yml, .json or .sql.
    pub file: PathBuf,
    /// Follow the sources, or read them to their end.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// The job's name; state and checkpoints are kept under it. Default: the spec's, or the script's file name.
    #[arg(long)]
    pub name: Option<String>,
    /// Start anew: earlier checkpoints of the job are moved aside.
    #[arg(long, conflicts_with = "from_checkpoint")]
    pub fresh: bool,
    /// With --fresh: first remove the files that earlier runs have published where the pipeline writes files. Without
    /// it they stay beside the new ones.
    #[arg(long, requires = "fresh")]
    pub remove_output: bool,
    /// Resume from this retained checkpoint instead of the latest.
    #[arg(long, value_name = "N")]
    pub from_checkpoint: Option<u64>,
    /// Where the newest checkpoints are damaged, resume from an older one even if output published after it is then
    /// written a second time.
    #[arg(long)]
    pub allow_duplicates: bool,
    /// Resume although the edited pipeline computes what is in the checkpoint's state from other rows or by other
    /// expressions: windows that are open then mix both.
    #[arg(long, conflicts_with = "fresh")]
    pub accept_changed_meaning: bool,
    #[command(flatten)]
    pub place: Place,
    /// Subtasks per operator. Default: the spec's, else one per slot.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub parallelism: Option<u16>,
    /// Threads that process rows. Default: the number of cores, but no more than the parallelism.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), env = "MILLSTREAM_SLOTS")]
    pub slots: Option<u16>,
    /// What the process may hold in memory: state, caches, rows under way; such as 512mb or 2gb. State that has no room
    /// is kept on disk. Default: a quarter of the machine's memory, or of the container's if that is limited.
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<usize>,
    /// From the start of one checkpoint to the start of the next, such as 10s.
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    pub checkpoint_interval: Option<u64>,
    /// Plan, check, say what would run, and end.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the job graph, and end.
    #[arg(long)]
    pub explain: bool,
    /// The form of --explain: a tree, or a flowchart for Mermaid.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        requires = "explain"
    )]
    pub format: ExplainFormat,
    /// Serve /metrics, /healthz and /readyz here, such as 127.0.0.1:8080.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_HTTP")]
    pub http: Option<SocketAddr>,
    #[command(flatten)]
    pub telling: Telling,
    /// Write the summary of the run to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Coordinator {
    #[command(flatten)]
    pub lead: Lead,
    /// How clients, workers and other coordinators reach this one. Default: the host's name, or the address that is
    /// listened at.
    #[arg(long, value_name = "URL", value_parser = address, env = "MILLSTREAM_ADVERTISE")]
    pub advertise: Option<String>,
}

#[derive(Debug, Args)]
pub struct Standalone {
    #[command(flatten)]
    pub lead: Lead,
    /// Threads that process rows, for all jobs together.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u16).range(1..=1024), env = "MILLSTREAM_SLOTS")]
    pub slots: u16,
    /// What the process may hold in memory: state, caches, rows under way; such as 512mb or 2gb. State that has no room
    /// is kept on disk. Default: a quarter of the machine's memory, or of the container's if that is limited.
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<usize>,
    /// Folder for local state. Default: in the data folder, if that is local.
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
}

/// What every process has that may lead a cluster.
#[derive(Debug, Args)]
pub struct Lead {
    /// Where the cluster keeps what it must not forget, and checkpoints: a folder or a URL (file://, s3://, gs://,
    /// az://). All coordinators of a cluster share one.
    #[arg(long, value_name = "URL", env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    pub data_dir: String,
    /// Where clients and workers connect. Port 0: any.
    #[arg(
        long,
        value_name = "ADDR",
        env = "MILLSTREAM_LISTEN",
        default_value = "127.0.0.1:7070"
    )]
    pub listen: SocketAddr,
    /// Serve REST, /metrics, /healthz and /readyz here. Default: port 8080 at the address of --listen.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_HTTP")]
    pub http: Option<SocketAddr>,
    /// The cluster that the data folder must be of; a folder of another one is refused.
    #[arg(long, value_name = "ID", env = "MILLSTREAM_CLUSTER")]
    pub cluster: Option<String>,
    /// Jobs that are kept at once, ended ones too.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub jobs_max: usize,
    #[command(flatten)]
    pub telling: Telling,
}

#[derive(Debug, Args)]
pub struct Worker {
    /// Addresses of the coordinators, such as http://host:7070; whichever leads is found.
    #[arg(
        long,
        value_name = "URL",
        required = true,
        value_delimiter = ',',
        value_parser = address,
        env = "MILLSTREAM_COORDINATOR"
    )]
    pub coordinator: Vec<String>,
    /// Unique in the cluster, and the same after a restart. Default: the host's name with the
    /// port, or with a number that stands for the data folder where one is given.
    #[arg(long, env = "MILLSTREAM_NAME")]
    pub name: Option<String>,
    /// Where other workers connect. Default: the first free port of 7071 to 7086 at the address from which the
    /// coordinator is reached.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// How other workers reach that address, where they need another one, such as http://worker-0.workers:7071.
    #[arg(long, value_name = "URL", value_parser = address, env = "MILLSTREAM_ADVERTISE")]
    pub advertise: Option<String>,
    /// Threads that process rows, for all jobs together. Default: the number of cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), env = "MILLSTREAM_SLOTS")]
    pub slots: Option<u16>,
    /// What the process may hold in memory: state, caches, rows under way; such as 512mb or 2gb. State that has no room
    /// is kept on disk. Default: a quarter of the machine's memory, or of the container's if that is limited.
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<usize>,
    /// How rows are compressed that go to other workers: worth it where the network is slower than the cores.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "none",
        env = "MILLSTREAM_EXCHANGE_COMPRESSION"
    )]
    pub exchange_compression: ExchangeCompression,
    /// Folder for local state. Default: .millstream/workers/NAME.
    #[arg(long, value_name = "DIR", env = "MILLSTREAM_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub service: Service,
}

/// What every service has.
#[derive(Debug, Args)]
pub struct Service {
    /// Serve /metrics, /healthz and /readyz here, such as 0.0.0.0:8080.
    #[arg(long, value_name = "ADDR", env = "MILLSTREAM_HTTP")]
    pub http: Option<SocketAddr>,
    #[command(flatten)]
    pub telling: Telling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Stream,
    Batch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    Text,
    Mermaid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExchangeCompression {
    None,
    Lz4,
}

/// What a process tells of itself.
#[derive(Debug, Clone, Args)]
pub struct Telling {
    /// How log lines look.
    #[arg(long, value_enum, default_value = "text", env = "MILLSTREAM_LOG_FORMAT")]
    pub log: Log,
    /// Send traces of control operations to this OpenTelemetry collector (OTLP over gRPC), such as
    /// http://localhost:4317. Default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else nowhere.
    #[arg(long, value_name = "URL")]
    pub traces: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Log {
    Text,
    Json,
}

/// Where a process listens; whether anybody does shows later.
fn address(text: &str) -> Result<String, String> {
    millstream_cluster::connect::check_address(text.trim())?;
    Ok(text.trim().trim_end_matches('/').to_string())
}

fn duration_ms(text: &str) -> Result<u64, String> {
    match millstream_proto::spec::parse_duration_ms(text)? {
        0 => Err("0 would do nothing but checkpoints; write at least `10ms`".into()),
        ms => Ok(ms),
    }
}

/// `512mb`, `2 gb`, `1048576`; powers of 1024.
fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not an amount of memory; write a number and a unit, such as `512mb` or `2gb`");
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: usize = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let amount = number.checked_mul(1 << shift).ok_or_else(wrong)?;
    if amount < MEMORY_BYTES_MIN {
        return Err(format!("{text} is less than the engine needs; give it at least 8mb"));
    }
    Ok(amount)
}

/// Below this there is no room for one write buffer and one block cache.
const MEMORY_BYTES_MIN: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_read_as_people_write_them() {
        assert_eq!(bytes("64mb"), Ok(64 << 20));
        assert_eq!(bytes("2 GB"), Ok(2 << 30));
        assert_eq!(bytes("16777216"), Ok(16 << 20));
        assert!(bytes("1kb").is_err());
        assert!(bytes("many").is_err());
        assert!(bytes("99999999999999999999gb").is_err());
    }

    #[test]
    fn addresses_that_cannot_be_any_are_refused_at_once() {
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
