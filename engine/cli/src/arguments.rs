//! The command line: a noun, a verb, and what they need.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCompleter;

use crate::complete;
use crate::output::Format;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it was tried and failed (or a job waited for has failed)
  2  what was asked for is wrong: the command line, the pipeline, the request
  3  there is no such job, checkpoint, worker or context
  4  not possible as things stand: a name in use, a job in another state, a checkpoint that does not fit
  5  no coordinator, or not its storage, could be reached
  6  what was waited for did not happen in time
  7  something of a checkpoint, or of its job's journal, is damaged

Which cluster: --server, --context, MILLSTREAM_SERVER, MILLSTREAM_CONTEXT, the context in use, else http://127.0.0.1:7070.";

/// Everything a person does to a running Millstream cluster.
#[derive(Debug, Parser)]
#[command(name = "engine-cli", version = env!("MILLSTREAM_VERSION"), after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub noun: Noun,
}

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Addresses of the cluster's coordinators, separated by commas.
    #[arg(long, global = true, value_name = "URL[,URL]")]
    pub server: Option<String>,
    /// A cluster by the name of its context.
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCompleter::new(complete::contexts))]
    pub context: Option<String>,
    /// What is printed.
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Pipelines that run, or have run, on the cluster.
    #[command(subcommand, visible_alias = "job")]
    Jobs(Jobs),
    /// What a job can be restored from.
    #[command(subcommand, visible_alias = "checkpoint")]
    Checkpoints(Checkpoints),
    /// Checkpoints that are kept until a person deletes them.
    #[command(subcommand, visible_alias = "savepoint")]
    Savepoints(Savepoints),
    /// What exactly-once sinks hold in the systems that they write to.
    #[command(subcommand, visible_alias = "transaction")]
    Transactions(Transactions),
    /// The processes that run tasks.
    #[command(subcommand, visible_alias = "worker")]
    Workers(Workers),
    /// The cluster as a whole.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Clusters by name.
    #[command(subcommand, visible_alias = "contexts")]
    Context(Context),
    /// Whether this client can reach coordinators, workers and storage, and whether versions and clocks are alike.
    Doctor,
    /// The script that completes commands and job names in a shell.
    Completion {
        #[arg(value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
        shell: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Job {
    /// The job's name.
    #[arg(id = "job", value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    pub name: String,
}

#[derive(Debug, Clone, Args)]
pub struct JobNames {
    /// Names of jobs.
    #[arg(value_name = "JOB", required = true, add = ArgValueCompleter::new(complete::jobs))]
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Come back only when it has happened.
    #[arg(long)]
    pub wait: bool,
    /// Wait at most so long (exit code 6).
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Watch {
    /// Print again whenever something changes.
    #[arg(short, long)]
    pub watch: bool,
    /// How often to look.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Stream,
    Batch,
}

#[derive(Debug, Clone, Args)]
pub struct File {
    /// The pipeline: .yaml, .yml, .json or .sql; `-` reads YAML from standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct Submit {
    #[command(flatten)]
    pub file: File,
    /// Instead of the pipeline's own name.
    #[arg(long)]
    pub name: Option<String>,
    /// Subtasks per operator; auto: as many as there are slots, which is what a pipeline has that says nothing.
    #[arg(long, value_name = "N|auto", value_parser = parallelism)]
    pub parallelism: Option<Parallelism>,
    #[arg(long)]
    pub mode: Option<Mode>,
    /// Begin with the state of a checkpoint or savepoint of some job; without a number with its latest.
    #[arg(long, value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(complete::jobs))]
    pub from_checkpoint: Option<String>,
    /// State that no operator of the pipeline takes may be dropped.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// State that the pipeline computes from other rows or by other expressions than before may be used: windows that
    /// are open then mix both.
    #[arg(long)]
    pub accept_changed_meaning: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Clone, Args)]
pub struct Update {
    #[command(flatten)]
    pub file: File,
    /// The job, if it has another name than the pipeline.
    #[arg(long, add = ArgValueCompleter::new(complete::jobs))]
    pub name: Option<String>,
    /// Subtasks per operator. Default: the pipeline's, if the edit changed it, else as before.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub parallelism: Option<u32>,
    /// State that no operator of the new pipeline takes may be dropped.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// State that the new pipeline computes from other rows or by other expressions may be used: windows that are open
    /// then mix both.
    #[arg(long)]
    pub accept_changed_meaning: bool,
    /// Keep the state before the update under this name. Default: before-update-TIME.
    #[arg(long, value_name = "NAME", conflicts_with = "no_savepoint")]
    pub savepoint: Option<String>,
    /// Do not keep the state before the update.
    #[arg(long)]
    pub no_savepoint: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// Plan, check, store and start a pipeline.
    Submit(Box<Submit>),
    /// Replace the pipeline of a job by an edited one: a savepoint, then the new one from the last checkpoint; if it
    /// fails before its first checkpoint, the old one goes on.
    Update(Box<Update>),
    /// List jobs.
    #[command(visible_alias = "ls")]
    List {
        /// Ended ones, too.
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// Everything about one job.
    #[command(visible_alias = "get")]
    Describe {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        watch: Watch,
    },
    /// End jobs with a last checkpoint; `restart` goes on from there.
    Stop {
        #[command(flatten)]
        jobs: JobNames,
        /// Keep the last checkpoint under this name (or one made from the time).
        #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
        savepoint: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// End jobs at once, without a last checkpoint.
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
    /// Start jobs that have ended, or running ones anew, from their latest checkpoint.
    Restart {
        #[command(flatten)]
        jobs: JobNames,
        /// Where the newest checkpoints are damaged, go on from an older one even if output published after it is then
        /// written a second time.
        #[arg(long)]
        allow_duplicates: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Forget ended jobs and their checkpoints; savepoints stay.
    #[command(visible_alias = "rm")]
    Delete {
        #[command(flatten)]
        jobs: JobNames,
    },
    /// Compare an edited pipeline with a checkpoint, for each operator with state: same meaning, other meaning, needs
    /// migration, or loses state. Exit code 4 unless all have the same meaning.
    Diff {
        #[command(flatten)]
        file: File,
        /// The checkpoint; without it the latest of the job that has the pipeline's name.
        #[arg(long, value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(complete::jobs))]
        from: Option<String>,
    },
    /// The plan of a pipeline: its operators and what flows between them.
    Explain {
        #[command(flatten)]
        file: File,
        #[arg(long)]
        mode: Option<Mode>,
    },
    /// All mistakes of a pipeline, without submitting it.
    Validate {
        #[command(flatten)]
        file: File,
        #[arg(long)]
        mode: Option<Mode>,
    },
    /// Live rates, watermarks, backpressure and the age of checkpoints.
    Top {
        /// Only these jobs, with their operators.
        #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
        names: Vec<String>,
        /// Print once and end.
        #[arg(long)]
        once: bool,
        /// How often to look.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
        interval: Duration,
    },
    /// What coordinator and workers logged about a job.
    Logs {
        #[command(flatten)]
        job: Job,
        /// At most so many lines of what is kept; 0: all.
        #[arg(long, default_value_t = 100)]
        tail: u32,
        /// Go on with new lines.
        #[arg(short, long)]
        follow: bool,
    },
    /// Why there is no output: what the job waits for, what holds it up.
    Why {
        #[command(flatten)]
        job: Job,
    },
    /// Each change of state, as it happens.
    Watch {
        /// Only these jobs.
        #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
        names: Vec<String>,
    },
    /// Come back when a job has reached a state.
    Wait {
        #[command(flatten)]
        job: Job,
        /// States, separated by commas: one of them is enough. `ended` means any that lasts.
        #[arg(long = "for", value_name = "STATE", value_delimiter = ',', default_value = "ended", value_parser = crate::wait::STATES)]
        states: Vec<String>,
        /// Wait at most so long (exit code 6).
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
        timeout: Duration,
    },
}

#[derive(Debug, Subcommand)]
pub enum Checkpoints {
    /// Checkpoints and savepoints of a job, newest first.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        watch: Watch,
    },
    /// What is in one: operators with rows and bytes of their state, and how far sources have read.
    #[command(visible_alias = "describe")]
    Inspect {
        /// Without a number or a savepoint's name: the latest.
        #[arg(value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(complete::checkpoints))]
        checkpoint: String,
    },
    /// Read through all that checkpoints consist of: what is damaged, and what a restore would do about it.
    Verify {
        /// Without a number or a savepoint's name: all, newest first.
        #[arg(value_name = "JOB[/CHECKPOINT]", add = ArgValueCompleter::new(complete::checkpoints))]
        checkpoint: String,
    },
    /// Take one now, of a job that runs, and come back when it is complete.
    Create {
        #[command(flatten)]
        job: Job,
    },
    /// Delete one that is no longer needed. The newest stays, and savepoints have a command of their own.
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(value_name = "JOB/CHECKPOINT", add = ArgValueCompleter::new(complete::checkpoints))]
        checkpoint: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Savepoints {
    /// Take one now, while the job runs.
    Create {
        #[command(flatten)]
        job: Job,
        /// Without a name one is made from the time.
        name: Option<String>,
    },
    /// Savepoints of a job, newest first.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        watch: Watch,
    },
    /// What is in one, as `checkpoints inspect` tells it.
    #[command(visible_alias = "describe")]
    Inspect {
        #[command(flatten)]
        job: Job,
        /// Its name, or the number of its checkpoint.
        name: String,
    },
    /// Delete one.
    #[command(visible_alias = "rm")]
    Delete {
        #[command(flatten)]
        job: Job,
        name: String,
    },
}

/// Whose transactions: a job of the cluster, or a pipeline.
#[derive(Debug, Clone, Args)]
#[group(id = "owner", required = true)]
pub struct Owner {
    /// The job's name.
    #[arg(value_name = "JOB", group = "owner", add = ArgValueCompleter::new(complete::jobs))]
    pub job: Option<String>,
    /// Instead of a job: its pipeline, where the job is gone.
    #[arg(long, value_hint = ValueHint::FilePath, group = "owner", conflicts_with = "job")]
    pub file: Option<PathBuf>,
    /// What the job was called, if not as the pipeline says.
    #[arg(long, requires = "file")]
    pub name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Transactions {
    /// Transactional ids, what was published last under each, and partitions that an open transaction blocks.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        owner: Owner,
    },
    /// End what transactional ids hold open. Nothing is lost: a job that runs publishes again.
    #[command(group(clap::ArgGroup::new("which").args(["ids", "all"]).required(true)))]
    Abort {
        #[command(flatten)]
        owner: Owner,
        /// A transactional id, as `list` shows it; may be repeated.
        #[arg(long = "id", value_name = "ID")]
        ids: Vec<String>,
        /// All that `list` shows.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Workers {
    /// List workers.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        watch: Watch,
    },
    /// Give a worker tasks again that was drained.
    Undrain {
        #[arg(value_name = "WORKER", add = ArgValueCompleter::new(complete::workers))]
        name: String,
    },
    /// Move a worker's tasks elsewhere and give it no new ones.
    Drain {
        #[arg(value_name = "WORKER", add = ArgValueCompleter::new(complete::workers))]
        name: String,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Version, leader, storage, slots.
    Info,
}

#[derive(Debug, Subcommand)]
pub enum Context {
    /// Give a cluster a name; the first one is used from then on.
    Add {
        name: String,
        /// Addresses of its coordinators.
        #[arg(required = true, value_delimiter = ',')]
        servers: Vec<String>,
    },
    /// Use a cluster from now on.
    Use {
        #[arg(add = ArgValueCompleter::new(complete::contexts))]
        name: String,
    },
    /// List contexts.
    #[command(visible_alias = "ls")]
    List,
    /// Forget one.
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(add = ArgValueCompleter::new(complete::contexts))]
        name: String,
    },
}

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
            _ => Err("write a number from 1, or auto".to_string()),
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
    fn the_command_line_is_sound() {
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
