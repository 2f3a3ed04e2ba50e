//! `engine run`: plans a pipeline and runs it in this process; stops on signals and prints a summary.

use std::time::Instant;

use axum::Router;
use millstream_cluster::deployer::Embedded;
use millstream_cluster::resolve::Resolved;
use millstream_cluster::run::retry_while_disk_full;
use millstream_cluster::{Error, Job, Outcome, Phase, Progress, Start, StopRequest};
use millstream_planner::{Mode, explain};
use tokio::sync::watch;

use crate::arguments::{ExplainFormat, Run};
use crate::pipeline;
use crate::status_line::StatusLine;
use crate::traces::Role;
use crate::{Failure, http, logging, process, recorder, summary};

pub fn run(arguments: &Run) -> Result<(), Failure> {
    let started = Instant::now();
    let overrides = pipeline::overrides(arguments.name.clone(), arguments.mode);
    let planned = pipeline::load(&arguments.file, &overrides).map_err(Failure::Invalid)?;
    if arguments.strict && !planned.notes.is_empty() {
        return Err(Failure::Invalid(
            "error: the pipeline has notes, see above, which --strict does not accept\n".to_string(),
        ));
    }
    for listing in &planned.listings {
        crate::print(listing)?;
    }
    if planned.settings.only_lists {
        return Ok(());
    }
    if arguments.explain || planned.settings.explain {
        return crate::print(&match arguments.format {
            ExplainFormat::Text => explain::explain(&planned.graph),
            ExplainFormat::Mermaid => explain::mermaid(&planned.graph),
        });
    }
    if planned.settings.mode == Mode::Serve {
        return Err(Failure::Invalid(format!(
            "error: {}: the mode is `serve`: run it with `engine serve`, or with --mode stream or --mode batch\n",
            arguments.file.display()
        )));
    }
    let local = Local::new(arguments, &planned);
    let job = job(arguments, &planned, &local)?;
    if arguments.dry_run {
        return crate::print(&dry_run(&job, &local, &planned));
    }
    let status = StatusLine::new(&job.graph);
    process::block_on(async {
        let role = Role {
            service: "millstream-run",
            instance: &job.graph.name,
        };
        logging::start(&arguments.observability, &role, &status, None)?;
        run_job(arguments, job, local, status, started).await
    })
}

/// Resources of this machine for the run.
struct Local {
    parallelism: usize,
    slots: usize,
    memory_bytes: usize,
}

impl Local {
    fn new(arguments: &Run, planned: &Resolved) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = arguments.slots.map(usize::from);
        let parallelism = arguments
            .parallelism
            .map(usize::from)
            .or(planned.settings.parallelism)
            .unwrap_or(slots.unwrap_or(cores).min(usize::from(planned.graph.max_parallelism)));
        Self {
            parallelism,
            slots: slots.unwrap_or(cores).min(parallelism).max(1),
            memory_bytes: arguments.memory.unwrap_or_else(default_memory),
        }
    }
}

fn job(arguments: &Run, planned: &Resolved, local: &Local) -> Result<Job, Failure> {
    let parallelism = local.parallelism;
    if parallelism > usize::from(planned.graph.max_parallelism) {
        return Err(Failure::Invalid(format!(
            "error: the parallelism {parallelism} exceeds the job's {} key groups (max_parallelism); choose a lower one\n",
            planned.graph.max_parallelism
        )));
    }
    let storage = arguments
        .storage
        .checkpoints(planned.settings.storage.as_deref())
        .map_err(Failure::Invalid)?;
    let start = match (arguments.fresh, arguments.from_checkpoint) {
        (true, _) => Start::Fresh,
        (false, Some(id)) => Start::FromCheckpoint(id),
        (false, None) if planned.settings.only_prints => Start::Fresh,
        (false, None) => Start::Resume,
    };
    let mut job = planned.job(parallelism, storage, start);
    job.allow_duplicates = arguments.allow_duplicates;
    job.accept_changed_meaning = arguments.accept_changed_meaning;
    job.remove_output = arguments.remove_output;
    if let Some(interval_ms) = arguments.checkpoint_interval {
        job.checkpoints.interval_ms = interval_ms;
    }
    Ok(job)
}

/// Returns a quarter of the memory of the machine or container; 1 GB if neither is known. At least 64 MB.
pub fn default_memory() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    });
    let container = CONTAINER_LIMITS.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        // The file contains `max` if there is no limit.
        text.trim().parse::<usize>().ok()
    });
    let limits = machine.map(|kib| kib * 1024).into_iter().chain(container);
    limits.min().map_or(1 << 30, |bytes| bytes / 4).max(64 << 20)
}

/// Files with the container's memory limit in bytes, of control groups version 2 and 1.
const CONTAINER_LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

fn dry_run(job: &Job, local: &Local, planned: &Resolved) -> String {
    format!(
        "{} is valid: {} operators, parallelism {}, {} slots, {} mode, a checkpoint every {}, {} of memory\n{}",
        job.graph.name,
        job.graph.nodes.len(),
        job.parallelism,
        local.slots,
        match planned.settings.mode {
            Mode::Batch => "batch",
            Mode::Serve => "serve",
            Mode::Stream => "stream",
        },
        millstream_proto::spec::format_duration_ms(job.checkpoints.interval_ms),
        millstream_proto::report::amount(local.memory_bytes as u64),
        explain::explain(&planned.graph),
    )
}

async fn run_job(arguments: &Run, job: Job, local: Local, status: StatusLine, started: Instant) -> Result<(), Failure> {
    let progress = Progress::default();
    if let Some(address) = arguments.http {
        let listener = http::bind(address).await.map_err(Failure::Failed)?;
        let metrics = recorder::install().map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
        let ready = ready(progress.clone());
        tokio::spawn(http::serve(listener, metrics, ready, Router::new()));
    }
    let (ask, stop) = watch::channel(StopRequest::None);
    let signals = tokio::spawn(process::signals(
        ask,
        [
            (
                StopRequest::Stop,
                "stopping: taking a last checkpoint (repeat the signal to exit at once)",
            ),
            (StopRequest::Abort, "exiting at once"),
        ],
    ));
    let reporter = tokio::spawn(status.clone().follow(progress.clone(), arguments.http.is_some()));
    let result = run_embedded(&job, arguments, &local, stop, &progress).await;
    reporter.abort();
    signals.abort();
    status.end(&progress);
    let summary = summary::Summary::new(&job, &progress, started.elapsed(), &result);
    eprint!("{}", summary.text());
    if let Some(file) = &arguments.summary {
        std::fs::write(file, summary.json())
            .map_err(|error| Failure::Failed(format!("error: --summary {}: {error}\n", file.display())))?;
    }
    match result {
        Ok(Outcome::Aborted { .. }) => Err(Failure::Failed(String::new())),
        Ok(Outcome::AlreadyFinished { unread, .. }) if !unread.is_empty() => Err(Failure::Invalid(format!(
            "error: {}: the job has finished and does not read newer input: {}; process all input with --fresh \
             (--remove-output removes the earlier output first), or only the new input with its path and another --name\n",
            arguments.file.display(),
            unread.join("; ")
        ))),
        Ok(_) => Ok(()),
        Err(error @ Error::Invalid(_)) => Err(Failure::Invalid(format!(
            "error: {}: {error}\n",
            arguments.file.display()
        ))),
        Err(error) => Err(Failure::Failed(format!(
            "error: {}: {error}\n",
            arguments.file.display()
        ))),
    }
}

/// Returns the readiness check of the job.
fn ready(progress: Progress) -> http::Ready {
    Box::new(move || match progress.report().phase {
        Phase::Running | Phase::Stopping => Ok("ready"),
        Phase::Starting => Err("starting".into()),
        Phase::Restarting => Err("restarting".into()),
        Phase::Ended => Err("ended".into()),
    })
}

async fn run_embedded(
    job: &Job,
    arguments: &Run,
    local: &Local,
    stop: watch::Receiver<StopRequest>,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let open = || {
        let data_dir = arguments.storage.data_dir.clone();
        Embedded::new(data_dir, &job.graph.name, local.slots, local.memory_bytes)
    };
    let Some(deployer) = retry_while_disk_full(stop.clone(), progress, open).await? else {
        return Ok(Outcome::aborted(None));
    };
    millstream_cluster::run(job, &deployer, stop, progress).await
}
