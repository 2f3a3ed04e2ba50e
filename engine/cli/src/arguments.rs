//! The command line: a noun, a verb, and their arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCompleter;

use crate::completion;
use crate::job;
use crate::output::Format;

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the command failed, or the job that it waited for has failed
  2  the command line, the pipeline or the request is invalid
  3  no such job, checkpoint, worker or context
  4  conflict with the present state: a name in use, a job in another state, an incompatible checkpoint
  5  the coordinator or its storage could not be reached, or the outcome of the request is unknown
  6  the timeout of a wait has expired
  7  a checkpoint or its job's journal is damaged

The cluster is selected by the first of: --server, --context, MILLSTREAM_SERVER, MILLSTREAM_CONTEXT, the current context.
Default: http://127.0.0.1:7070.
If it requires a token: MILLSTREAM_TOKEN, or the file MILLSTREAM_TOKEN_FILE.";

/// Client of a Millstream cluster: submits, watches, updates and stops jobs.
#[derive(Debug, Parser)]
#[command(name = "engine-cli", version = env!("MILLSTREAM_VERSION"), after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub noun: Noun,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Addresses of the cluster's coordinators, separated by commas.
    #[arg(long, global = true, value_name = "URL[,URL]")]
    pub server: Option<String>,
    /// Name of the cluster's context.
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCompleter::new(completion::contexts))]
    pub context: Option<String>,
    /// Output format.
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// Kinds of things that commands act on.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Jobs: submit, inspect, update, rescale, stop.
    #[command(subcommand, visible_alias = "job")]
    Jobs(Jobs),
    /// Checkpoints: list, inspect, verify, create, delete.
    #[command(subcommand, visible_alias = "checkpoint")]
    Checkpoints(Checkpoints),
    /// Savepoints: checkpoints that stay until they are deleted.
    #[command(subcommand, visible_alias = "savepoint")]
    Savepoints(Savepoints),
    /// Transactions of exactly-once sinks in external systems.
    #[command(subcommand, visible_alias = "transaction")]
    Transactions(Transactions),
    /// Workers: list, drain, undrain.
    #[command(subcommand, visible_alias = "worker")]
    Workers(Workers),
    /// Information about the cluster.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Named clusters.
    #[command(subcommand, visible_alias = "contexts")]
    Context(Context),
    /// Check that coordinators, workers and storage can be reached, and that versions and clocks agree.
    Doctor,
    /// Print the script that completes commands and job names in a shell.
    Completion {
        #[arg(value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
        shell: String,
    },
}

/// Name of a job.
#[derive(Debug, Clone, Args)]
pub struct Job {
    /// Name of the job.
    #[arg(id = "job", value_name = "JOB", add = ArgValueCompleter::new(completion::jobs))]
    pub name: String,
}

/// Names of jobs.
#[derive(Debug, Clone, Args)]
pub struct JobNames {
    /// Names of jobs.
    #[arg(value_name = "JOB", required = true, add = ArgValueCompleter::new(completion::jobs))]
    pub names: Vec<String>,
}

/// Options of commands that can wait for their effect.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait until the request has taken effect.
    #[arg(long)]
    pub wait: bool,
    /// Longest wait; exit code 6 after it.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    pub timeout: Duration,
}

/// Options of commands that can print repeatedly.
#[derive(Debug, Clone, Copy, Args)]
pub struct Watch {
    /// Print again whenever the output changes.
    #[arg(short, long)]
    pub watch: bool,
    /// Interval between two requests.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub interval: Duration,
}

/// Execution mode of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Stream,
    Batch,
}

/// File of a pipeline.
#[derive(Debug, Clone, Args)]
pub struct File {
    /// Pipeline in .yaml, .yml, .json or .sql; `-` reads YAML from standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// Arguments of `jobs submit`.
#[derive(Debug, Clone, Args)]
pub struct Submit {
    #[command(flatten)]
    pub file: File,
    /// Name of the job. Default: the pipeline's name.
    #[arg(long)]
    pub name: Option<String>,
    /// Subtasks per operator; auto: as many as there are slots. Default: the pipeline's setting, else auto.
    #[arg(long, value_name = "N|auto", value_parser = parallelism)]
    pub parallelism: Option<Parallelism>,
    /// Execution mode. Default: the pipeline's setting, else stream.
    #[arg(long)]
    pub mode: Option<Mode>,
    /// Start from the state of a job's checkpoint or savepoint; without a number, the latest.
    #[arg(long, value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(completion::jobs))]
    pub from_checkpoint: Option<String>,
    /// Drop state that no operator of the pipeline can restore.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// Use state although the pipeline now computes it from other rows or by other expressions; windows that are open
    /// then contain both.
    #[arg(long)]
    pub accept_changed_meaning: bool,
    /// Refuse a pipeline that there are notes about, such as settings without effect or state without a bound.
    #[arg(long)]
    pub strict: bool,
    /// Check and report what would be done, without doing it.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

/// Arguments of `jobs update`.
#[derive(Debug, Clone, Args)]
pub struct Update {
    #[command(flatten)]
    pub file: File,
    /// Name of the job, if it differs from the pipeline's name.
    #[arg(long, add = ArgValueCompleter::new(completion::jobs))]
    pub name: Option<String>,
    /// Subtasks per operator. Default: the pipeline's setting if the edit changed it, else unchanged.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub parallelism: Option<u32>,
    /// Drop state that no operator of the new pipeline can restore.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// Use state although the new pipeline computes it from other rows or by other expressions; windows that are open
    /// then contain both.
    #[arg(long)]
    pub accept_changed_meaning: bool,
    /// Name of the savepoint taken before the update. Default: before-update-TIME.
    #[arg(long, value_name = "NAME", conflicts_with = "no_savepoint")]
    pub savepoint: Option<String>,
    /// Take no savepoint before the update.
    #[arg(long)]
    pub no_savepoint: bool,
    /// Check and report what would be done, without doing it.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

/// Verbs of `jobs`.
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// Plan, check and start a pipeline.
    Submit(Box<Submit>),
    /// Replace the pipeline of a job: take a savepoint and continue with the new pipeline from the last checkpoint. If
    /// the new pipeline fails before its first checkpoint, the old one is restored.
    Update(Box<Update>),
    /// List jobs.
    #[command(visible_alias = "ls")]
    List {
        /// Include jobs that have ended.
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the state, counters and operators of a job.
    #[command(visible_alias = "get")]
    Describe {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        watch: Watch,
    },
    /// Stop jobs with a last checkpoint, from which `restart` continues.
    Stop {
        #[command(flatten)]
        jobs: JobNames,
        /// Keep the last checkpoint as a savepoint of this name. Default name: the time.
        #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
        savepoint: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Cancel jobs without a last checkpoint.
    Cancel {
        #[command(flatten)]
        jobs: JobNames,
        #[command(flatten)]
        wait: Wait,
    },
    /// Change a job's parallelism.
    Rescale {
        #[command(flatten)]
        job: Job,
        /// Subtasks per operator, or `auto` to follow the slots that workers offer.
        #[arg(long, value_name = "N|auto", value_parser = parallelism)]
        parallelism: Parallelism,
        #[command(flatten)]
        wait: Wait,
    },
    /// Restart ended or running jobs from their latest checkpoint.
    Restart {
        #[command(flatten)]
        jobs: JobNames,
        /// If the newest checkpoints are damaged, restore an older one even if output published after it is written a
        /// second time.
        #[arg(long)]
        allow_duplicates: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete ended jobs and their checkpoints; savepoints stay.
    #[command(visible_alias = "rm")]
    Delete {
        #[command(flatten)]
        jobs: JobNames,
    },
    /// Compare an edited pipeline with a checkpoint. The verdict for each operator with state is: same meaning, other
    /// meaning, needs migration, or loses state. Exit code 4 unless all have the same meaning.
    Diff {
        #[command(flatten)]
        file: File,
        /// Checkpoint. Default: the latest one of the job with the pipeline's name.
        #[arg(long, value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(completion::jobs))]
        from: Option<String>,
    },
    /// Print the plan of a pipeline: its operators and the edges between them.
    Explain {
        #[command(flatten)]
        file: File,
        #[arg(long)]
        mode: Option<Mode>,
    },
    /// Report all mistakes of a pipeline, without submitting it.
    Validate {
        #[command(flatten)]
        file: File,
        #[arg(long)]
        mode: Option<Mode>,
        /// Refuse a pipeline that there are notes about, such as settings without effect or state without a bound.
        #[arg(long)]
        strict: bool,
    },
    /// Show live rates, watermarks, back pressure and the age of checkpoints.
    Top {
        /// Jobs to show, with their operators. Default: all.
        #[arg(value_name = "JOB", add = ArgValueCompleter::new(completion::jobs))]
        names: Vec<String>,
        /// Print once and exit.
        #[arg(long)]
        once: bool,
        /// Interval between two requests.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
        interval: Duration,
    },
    /// Print the log lines of coordinator and workers about a job.
    Logs {
        #[command(flatten)]
        job: Job,
        /// Most stored lines to print; 0: all.
        #[arg(long, default_value_t = 100)]
        tail: u32,
        /// Print new lines as they are logged.
        #[arg(short, long)]
        follow: bool,
    },
    /// Explain why a job has no output: missing slots, unreachable systems, back pressure, a held-back watermark.
    Why {
        #[command(flatten)]
        job: Job,
    },
    /// Print each change of state as it happens.
    Watch {
        /// Jobs to watch. Default: all.
        #[arg(value_name = "JOB", add = ArgValueCompleter::new(completion::jobs))]
        names: Vec<String>,
    },
    /// Wait until a job has reached a state.
    Wait {
        #[command(flatten)]
        job: Job,
        /// States, separated by commas; any one of them ends the wait. `ended`: any final state.
        #[arg(long = "for", value_name = "STATE", value_delimiter = ',', default_value = "ended", value_parser = job::STATES)]
        states: Vec<String>,
        /// Longest wait; exit code 6 after it.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
        timeout: Duration,
    },
}

/// Verbs of `checkpoints`.
#[derive(Debug, Subcommand)]
pub enum Checkpoints {
    /// List checkpoints and savepoints of a job, newest first.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the content of a checkpoint: entries and bytes of each operator's state, positions of sources.
    #[command(visible_alias = "describe")]
    Inspect {
        /// Without a number or a savepoint's name: the latest checkpoint.
        #[arg(value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(completion::checkpoints))]
        checkpoint: String,
    },
    /// Read all files of checkpoints; report damage, and which checkpoint a restore would use.
    Verify {
        /// Without a number or a savepoint's name: all checkpoints, newest first.
        #[arg(value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(completion::checkpoints))]
        checkpoint: String,
    },
    /// Take a checkpoint of a running job now, and wait until it is complete.
    Create {
        #[command(flatten)]
        job: Job,
    },
    /// Delete a checkpoint. The newest one and savepoints are refused.
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(value_name = "JOB/CHECKPOINT", add = ArgValueCompleter::new(completion::checkpoints))]
        checkpoint: String,
    },
}

/// Verbs of `savepoints`.
#[derive(Debug, Subcommand)]
pub enum Savepoints {
    /// Take a savepoint of a running job.
    Create {
        #[command(flatten)]
        job: Job,
        /// Name of the savepoint. Default: made from the time.
        name: Option<String>,
    },
    /// List savepoints of a job, newest first.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the content of a savepoint, like `checkpoints inspect`.
    #[command(visible_alias = "describe")]
    Inspect {
        #[command(flatten)]
        job: Job,
        /// Name of the savepoint, or the number of its checkpoint.
        name: String,
    },
    /// Delete a savepoint.
    #[command(visible_alias = "rm")]
    Delete {
        #[command(flatten)]
        job: Job,
        /// Name of the savepoint.
        name: String,
    },
}

/// Owner of transactions: a job of the cluster, or a pipeline.
#[derive(Debug, Clone, Args)]
#[group(id = "owner", required = true)]
pub struct Owner {
    /// Name of the job.
    #[arg(value_name = "JOB", group = "owner", add = ArgValueCompleter::new(completion::jobs))]
    pub job: Option<String>,
    /// Pipeline of a job that was deleted.
    #[arg(long, value_hint = ValueHint::FilePath, group = "owner", conflicts_with = "job")]
    pub file: Option<PathBuf>,
    /// Name of the deleted job, if it differed from the pipeline's name.
    #[arg(long, requires = "file")]
    pub name: Option<String>,
}

/// Verbs of `transactions`.
#[derive(Debug, Subcommand)]
pub enum Transactions {
    /// List transactional ids, the last published transaction of each, and partitions blocked by open transactions.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        owner: Owner,
    },
    /// Abort the open transactions of transactional ids. No output is lost: a running job publishes it again.
    #[command(group(clap::ArgGroup::new("which").args(["ids", "all"]).required(true)))]
    Abort {
        #[command(flatten)]
        owner: Owner,
        /// Transactional id as `list` shows it; may be repeated.
        #[arg(long = "id", value_name = "ID")]
        ids: Vec<String>,
        /// Abort the transactions of all ids that `list` shows.
        #[arg(long)]
        all: bool,
    },
}

/// Verbs of `workers`.
#[derive(Debug, Subcommand)]
pub enum Workers {
    /// List workers.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        watch: Watch,
    },
    /// Let a drained worker receive tasks again.
    Undrain {
        #[arg(value_name = "WORKER", add = ArgValueCompleter::new(completion::workers))]
        name: String,
    },
    /// Move a worker's tasks to other workers and give it no new ones.
    Drain {
        #[arg(value_name = "WORKER", add = ArgValueCompleter::new(completion::workers))]
        name: String,
        #[command(flatten)]
        wait: Wait,
    },
}

/// Verbs of `cluster`.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Show version, leader, storage and slots.
    Info,
}

/// Verbs of `context`.
#[derive(Debug, Subcommand)]
pub enum Context {
    /// Add a named cluster; the first one becomes the current context.
    Add {
        /// Name of the context.
        name: String,
        /// Addresses of the cluster's coordinators.
        #[arg(required = true, value_delimiter = ',')]
        servers: Vec<String>,
    },
    /// Select the current context.
    Use {
        #[arg(add = ArgValueCompleter::new(completion::contexts))]
        name: String,
    },
    /// List contexts.
    #[command(visible_alias = "ls")]
    List,
    /// Delete a context.
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(add = ArgValueCompleter::new(completion::contexts))]
        name: String,
    },
}

/// Value of `--parallelism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallelism {
    Auto,
    Fixed(u32),
}

fn parallelism(text: &str) -> Result<Parallelism, String> {
    match text {
        "auto" => Ok(Parallelism::Auto),
        _ => match text.parse() {
            Ok(number) if number > 0 => Ok(Parallelism::Fixed(number)),
            _ => Err("expected a number from 1, or auto".to_string()),
        },
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    millstream_proto::spec::parse_duration_ms(text).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_parallelism_is_a_number_or_auto() {
        assert_eq!(parallelism("auto"), Ok(Parallelism::Auto));
        assert_eq!(parallelism("3"), Ok(Parallelism::Fixed(3)));
        assert!(parallelism("0").is_err() && parallelism("many").is_err());
        let submitted = ["engine-cli", "jobs", "submit", "x.sql", "--parallelism", "auto"];
        assert!(Arguments::try_parse_from(submitted).is_ok());
    }
}
