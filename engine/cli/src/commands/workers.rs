//! `workers` and `cluster`.

use millstream_proto::report::{amount, time};
use millstream_proto::spec::format_duration_ms;
use millstream_proto::v1;
use tokio::time::{Duration, Instant, sleep};

use super::refresh::print_or_refresh;
use crate::arguments::{Cluster, Workers};
use crate::client::{Client, Retry, workers};
use crate::failure::{Exit, Failure};
use crate::output::{Printer, age, now_us, print};
use crate::paint::Paint;
use crate::requests::{cluster_info, list_workers};
use crate::table::{ALWAYS, Cell, Table};

/// Interval between two requests for the state of a worker that is being drained.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Runs a verb of `workers`.
pub async fn run(client: &mut Client, printer: &Printer, command: &Workers) -> Result<(), Failure> {
    match command {
        Workers::List { watch } => {
            print_or_refresh(printer, watch, async || {
                let answer = list_workers(client).await?;
                let names = answer.workers.iter().map(|worker| worker.name.clone()).collect();
                Ok(printer.list(&answer, names, || table(&answer.workers, printer.is_wide())))
            })
            .await
        }
        Workers::Undrain { name } => {
            let worker = drain(client, name, true).await?;
            print(&printer.message(&worker, &worker.name, || format!("{}: {}\n", worker.name, worker.state)))
        }
        Workers::Drain { name, wait } => {
            let mut worker = drain(client, name, false).await?;
            if wait.wait {
                worker = wait_until_drained(client, worker, wait.timeout).await?;
            }
            print(&printer.message(&worker, &worker.name, || {
                let left = match worker.slots_used {
                    0 => "no task is left on it".to_string(),
                    left => format!("{left} slots are still in use"),
                };
                format!("{}: {}, {left}\n", worker.name, worker.state)
            }))
        }
    }
}

async fn drain(client: &mut Client, name: &str, undo: bool) -> Result<v1::Worker, Failure> {
    let name = name.to_string();
    let request = v1::DrainWorkerRequest { name, undo };
    client
        .call(
            Retry::Idempotent {
                inspect: "engine-cli workers list",
            },
            async |channel| workers(channel).drain(request.clone()).await,
        )
        .await
}

/// Waits until no slot of the worker is in use, or the worker has left.
async fn wait_until_drained(
    client: &mut Client,
    mut worker: v1::Worker,
    timeout: Duration,
) -> Result<v1::Worker, Failure> {
    let deadline = Instant::now() + timeout;
    let mut printed = String::new();
    while worker.slots_used > 0 {
        let left = format!(
            "{}: {}, {} slots in use ({})",
            worker.name,
            worker.state,
            worker.slots_used,
            worker.jobs.join(", ")
        );
        if left != printed {
            eprintln!("{}  {left}", time(now_us()));
            printed = left;
        }
        if Instant::now() >= deadline {
            let message = format!(
                "`{}` still has {} slots in use after {} ({})",
                worker.name,
                worker.slots_used,
                format_duration_ms(timeout.as_millis() as u64),
                worker.jobs.join(", ")
            );
            return Err(Failure::new(Exit::TimedOut, message));
        }
        sleep(DRAIN_POLL_INTERVAL).await;
        let found = list_workers(client).await?.workers;
        match found.into_iter().find(|found| found.name == worker.name) {
            Some(found) => worker = found,
            None => worker.slots_used = 0,
        }
    }
    Ok(worker)
}

fn table(workers: &[v1::Worker], wide: bool) -> Table {
    let mut columns = vec![
        ("NAME", ALWAYS),
        ("STATE", ALWAYS),
        ("FOR", 2),
        ("SLOTS USED", 3),
        ("ADDRESS", 1),
        ("JOBS", ALWAYS),
    ];
    if wide {
        columns.extend([
            ("VERSION", ALWAYS),
            ("MEMORY", ALWAYS),
            ("LOCAL STATE", ALWAYS),
            ("CLOCK", ALWAYS),
            ("REASON", ALWAYS),
        ]);
    }
    let mut table = Table::new(&columns, "no workers; start one with `engine worker --coordinator URL`");
    let now = now_us();
    for worker in workers {
        let paint = match worker.state.as_str() {
            "ready" => Paint::Green,
            "lost" | "unreachable" => Paint::Red,
            "left" => Paint::Dim,
            _ => Paint::Yellow,
        };
        let mut row = vec![
            worker.name.as_str().into(),
            Cell::painted(worker.state.as_str(), paint),
            age(now, worker.since_us).into(),
            format!("{} of {}", worker.slots_used, worker.slots).into(),
            worker.address.as_str().into(),
            worker.jobs.join(",").into(),
        ];
        if wide {
            row.extend([
                worker.version.as_str().into(),
                Cell::number(amount(worker.memory_bytes)),
                Cell::number(amount(worker.state_bytes)),
                Cell::number(format!("{:+} ms", worker.clock_offset_us / 1000)),
                worker.reason.as_str().into(),
            ]);
        }
        table.row(row);
    }
    table
}

/// Runs a verb of `cluster`.
pub async fn cluster(client: &mut Client, printer: &Printer, command: &Cluster) -> Result<(), Failure> {
    match command {
        Cluster::Info => {
            let info = cluster_info(client).await?;
            print(&printer.message(&info, &info.cluster_id, || describe(&info)))
        }
    }
}

fn describe(info: &v1::ClusterInfo) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<13} {value}\n"));
        }
    };
    line("cluster", info.cluster_id.clone());
    line("version", info.version.clone());
    let leads = match info.is_leader {
        true => format!(
            "{} for {} (epoch {})",
            info.leader,
            age(now_us(), info.leader_since_us),
            info.epoch
        ),
        false if info.leader.is_empty() => "none; this coordinator is a standby".to_string(),
        false => format!("{}; this coordinator is a standby", info.leader),
    };
    line("leader", leads);
    line("storage", info.storage.clone());
    // A standby does not know them.
    if info.is_leader {
        line("workers", info.workers.to_string());
        line("slots", format!("{} of {} in use", info.slots_used, info.slots));
        line("jobs", format!("{} running", info.jobs_running));
    }
    line("clock", time(info.clock_us));
    out
}
