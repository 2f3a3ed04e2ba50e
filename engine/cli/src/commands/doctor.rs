//! `doctor`: checks that coordinators, workers and storage can be reached, and that versions and clocks agree.

use std::time::{Duration, Instant};

use millstream_proto::v1;
use tonic::transport::Channel;

use crate::client::{self, Client, Retry};
use crate::failure::{Exit, Failure};
use crate::output::{Printer, now_us, print};
use crate::paint::Paint;
use crate::requests::{cluster_info, list_workers};

/// Largest tolerable difference of two clocks: more distorts processing-time windows and the times of checkpoints.
const CLOCK_OFFSET_US_MAX: i64 = 1_000_000;
/// Longest failover: a failed leader is replaced sooner.
const FAIL_OVER_MAX: Duration = Duration::from_secs(8);
/// Interval between two requests to a coordinator that knows no leader.
const LEADER_POLL_INTERVAL: Duration = Duration::from_millis(300);
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Doubtful,
    Bad,
}

/// Result of one check.
struct Check {
    verdict: Verdict,
    message: String,
}

fn check(verdict: Verdict, message: impl Into<String>) -> Check {
    Check {
        verdict,
        message: message.into(),
    }
}

/// Runs all checks and prints their results. Fails if one of them is bad.
pub async fn doctor(servers: Vec<String>, printer: &Printer) -> Result<(), Failure> {
    let mut checks = Vec::new();
    let mut reached = false;
    for server in &servers {
        let found = check_coordinator(server).await;
        reached |= found.iter().any(|check| check.verdict != Verdict::Bad);
        checks.extend(found);
    }
    if reached {
        let mut client = Client::new(servers);
        checks.extend(check_cluster(&mut client).await);
    }
    let bad = checks.iter().filter(|check| check.verdict == Verdict::Bad).count();
    print(&printer.value(
        || {
            let checks = checks
                .iter()
                .map(|check| serde_json::json!({ "verdict": word(check.verdict), "what": check.message }));
            serde_json::json!({ "checks": checks.collect::<Vec<_>>(), "healthy": bad == 0 })
        },
        || checks.iter().map(|check| word(check.verdict).to_string()).collect(),
        || {
            let lines = checks.iter().map(|check| {
                let (sign, paint) = match check.verdict {
                    Verdict::Good => ("ok", Paint::Green),
                    Verdict::Doubtful => ("??", Paint::Yellow),
                    Verdict::Bad => ("!!", Paint::Red),
                };
                format!("{}  {}\n", printer.paint(paint, sign), check.message)
            });
            lines.collect()
        },
    ))?;
    match (bad, reached) {
        (0, _) => Ok(()),
        // The failed checks are on standard output.
        (_, true) => Err(Failure::new(Exit::Failed, "")),
        (_, false) => Err(Failure::new(Exit::Unreachable, "")),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Doubtful => "doubtful",
        Verdict::Bad => "bad",
    }
}

/// Checks one coordinator, leader or standby. Repeats the request while there is no leader, as a failover may be under
/// way.
async fn check_coordinator(server: &str) -> Vec<Check> {
    let channel = match client::connect(server).await {
        Ok(channel) => channel,
        Err(why) => return vec![check(Verdict::Bad, format!("coordinator {why}"))],
    };
    let began = Instant::now();
    loop {
        let (checks, knows_leader) = request_info(server, channel.clone()).await;
        if knows_leader || began.elapsed() > FAIL_OVER_MAX {
            return checks;
        }
        tokio::time::sleep(LEADER_POLL_INTERVAL).await;
    }
}

/// Returns the checks of one response of a coordinator, and true if the coordinator knows a leader.
async fn request_info(server: &str, channel: Channel) -> (Vec<Check>, bool) {
    let (asked, before_us) = (Instant::now(), now_us());
    let info = match client::cluster(channel).info(v1::ClusterInfoRequest::default()).await {
        Ok(info) => info.into_inner(),
        Err(status) => {
            let failure = Failure::from(status);
            let refused = match failure.code() {
                Some("not-leader") => check(
                    Verdict::Good,
                    format!("coordinator {server} is a standby: {}", failure.message),
                ),
                _ => check(
                    Verdict::Bad,
                    format!("coordinator {server} answers with an error: {}", failure.message),
                ),
            };
            return (vec![refused], true);
        }
    };
    let took = asked.elapsed();
    let role = match (info.is_leader, info.leader.as_str()) {
        (true, _) => format!("leads (epoch {})", info.epoch),
        (false, "") => "is a standby; there is no leader".to_string(),
        (false, leader) => format!("is a standby; the leader is {leader}"),
    };
    let has_no_leader = !info.is_leader && info.leader.is_empty();
    let mut checks = vec![check(
        if has_no_leader { Verdict::Bad } else { Verdict::Good },
        format!(
            "coordinator {server} answers in {:.1} ms and {role}",
            took.as_secs_f64() * 1e3
        ),
    )];
    if info.version != VERSION {
        checks.push(check(
            Verdict::Doubtful,
            format!(
                "coordinator {server} is version {}, this client {VERSION}",
                info.version
            ),
        ));
    }
    // The response was made at an unknown moment of the round trip.
    let took_us = took.as_micros() as i64;
    let offset_us = info.clock_us - (before_us + took_us / 2);
    let clock = format!("coordinator {server}");
    checks.push(check_clock(&clock, "this machine's", offset_us, took_us / 2));
    (checks, !has_no_leader)
}

/// Compares the clock of `process` with another; the true offset is within `error_us` of `offset_us`.
fn check_clock(process: &str, other: &str, offset_us: i64, error_us: i64) -> Check {
    let ms = offset_us / 1000;
    if offset_us.abs() <= CLOCK_OFFSET_US_MAX {
        return check(
            Verdict::Good,
            format!("{process}: its clock agrees with {other} ({ms:+} ms)"),
        );
    }
    if offset_us.abs() - error_us <= CLOCK_OFFSET_US_MAX {
        let round_trip_ms = error_us * 2 / 1000;
        let what =
            format!("{process}: its clock cannot be compared with {other}: the round trip takes {round_trip_ms} ms");
        return check(Verdict::Doubtful, what);
    }
    check(
        Verdict::Bad,
        format!("{process}: its clock differs from {other} by {ms:+} ms; synchronise both (NTP)"),
    )
}

/// Checks workers, slots and storage through the leader.
async fn check_cluster(client: &mut Client) -> Vec<Check> {
    let info = match cluster_info(client).await {
        Ok(info) => info,
        Err(failure) => {
            return vec![check(Verdict::Bad, format!("there is no leader: {}", failure.message))];
        }
    };
    let mut checks = match list_workers(client).await {
        Ok(answer) => check_workers(&answer.workers, &info.version),
        Err(failure) => vec![check(
            Verdict::Bad,
            format!("workers cannot be listed: {}", failure.message),
        )],
    };
    checks.push(storage(client, &info).await);
    checks
}

fn check_workers(workers: &[v1::Worker], version: &str) -> Vec<Check> {
    if workers.is_empty() {
        let what = "no worker is registered, so jobs wait for slots; start one with `engine worker --coordinator URL`";
        return vec![check(Verdict::Bad, what)];
    }
    let mut checks = Vec::new();
    for worker in workers {
        let is_gone = ["lost", "left"].contains(&worker.state.as_str());
        let name = format!("worker {}", worker.name);
        let slots = format!("{} of {} slots in use", worker.slots_used, worker.slots);
        checks.push(match worker.state.as_str() {
            "lost" => check(Verdict::Bad, format!("{name} is lost")),
            "left" => check(Verdict::Good, format!("{name} has shut down")),
            "unreachable" => check(
                Verdict::Bad,
                format!(
                    "{name} ({}) is registered but cannot be reached, so it gets no tasks: {}; correct its --advertise",
                    worker.address, worker.reason
                ),
            ),
            state => check(
                Verdict::Good,
                format!("{name} ({}) is {state}, {slots}", worker.address),
            ),
        });
        if !is_gone && worker.version != version {
            let what = format!("{name} is version {}, the coordinator {version}", worker.version);
            checks.push(check(Verdict::Bad, what));
        }
        if !is_gone {
            // The coordinator has already corrected the offset for the round trip.
            checks.push(check_clock(&name, "the coordinator's", worker.clock_offset_us, 0));
        }
    }
    let mut ready = workers.iter().filter(|worker| worker.state == "ready").peekable();
    if ready.peek().is_none() {
        let what = "no worker is ready, so jobs wait for slots; start one with `engine worker --coordinator URL`";
        checks.push(check(Verdict::Bad, what));
    } else if ready.all(|worker| worker.slots_used >= worker.slots) {
        let what = "all slots are in use, so new jobs wait";
        checks.push(check(Verdict::Doubtful, what));
    }
    checks
}

/// Checks storage through the coordinator, which writes a file and lists the checkpoints of a job.
async fn storage(client: &mut Client, info: &v1::ClusterInfo) -> Check {
    let request = v1::ClusterInfoRequest { check_storage: true };
    let response = client
        .call(Retry::ReadOnly, async |channel| {
            client::cluster(channel).info(request).await
        })
        .await;
    match response {
        Ok(tried) if tried.storage_problem.is_empty() => {}
        Ok(tried) => {
            let what = format!("storage {} cannot be written: {}", info.storage, tried.storage_problem);
            return check(Verdict::Bad, what);
        }
        Err(failure) => return check(Verdict::Bad, format!("storage {}: {}", info.storage, failure.message)),
    }
    let jobs = client
        .call(Retry::ReadOnly, async |channel| {
            client::jobs(channel).list(v1::ListJobsRequest { all: true }).await
        })
        .await;
    let job = match jobs {
        Ok(answer) => answer.jobs.into_iter().next().map(|job| job.name),
        Err(failure) => return check(Verdict::Bad, format!("jobs cannot be listed: {}", failure.message)),
    };
    let Some(job) = job else {
        let what = format!(
            "storage {} can be written; there are no checkpoints to read yet",
            info.storage
        );
        return check(Verdict::Good, what);
    };
    let request = v1::ListCheckpointsRequest {
        job: job.clone(),
        savepoints_only: false,
    };
    let listed = client
        .call(Retry::ReadOnly, async |channel| {
            client::checkpoints(channel).list(request.clone()).await
        })
        .await;
    match listed {
        Ok(answer) => check(
            Verdict::Good,
            format!(
                "storage {} can be written; {} checkpoints of `{job}` found",
                info.storage,
                answer.checkpoints.len()
            ),
        ),
        Err(failure) => check(Verdict::Bad, format!("storage {}: {}", info.storage, failure.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, state: &str, version: &str) -> v1::Worker {
        v1::Worker {
            name: name.into(),
            state: state.into(),
            version: version.into(),
            slots: 2,
            reason: "no such host".into(),
            ..v1::Worker::default()
        }
    }

    #[test]
    fn a_slow_answer_is_no_clock_error() {
        #[track_caller]
        fn verdict(offset_ms: i64, round_trip_ms: i64, expected: Verdict) {
            let found = check_clock("a", "ours", offset_ms * 1000, round_trip_ms * 1000 / 2);
            assert_eq!(found.verdict, expected, "{}", found.message);
        }
        verdict(900, 0, Verdict::Good);
        verdict(-900, 0, Verdict::Good);
        verdict(1_100, 1, Verdict::Bad);
        // The whole round trip of 4 s may have been in one direction.
        verdict(2_000, 4_000, Verdict::Doubtful);
        verdict(-2_000, 4_000, Verdict::Doubtful);
        verdict(3_100, 4_000, Verdict::Bad);
        verdict(-3_600_000, 4_000, Verdict::Bad);
    }

    #[test]
    fn lost_workers_are_not_checked_further() {
        let bad = |workers: &[v1::Worker]| -> Vec<String> {
            let checks = check_workers(workers, "1");
            let bad = checks.into_iter().filter(|check| check.verdict == Verdict::Bad);
            bad.map(|check| check.message).collect()
        };
        let there = worker("a", "ready", "1");
        assert_eq!(bad(&[there.clone(), worker("b", "left", "")]), Vec::<String>::new());
        assert_eq!(bad(&[there.clone(), worker("b", "lost", "")]), ["worker b is lost"]);
        assert_eq!(
            bad(&[there.clone(), worker("b", "ready", "2")]),
            ["worker b is version 2, the coordinator 1"]
        );
        let unreachable = bad(&[there, worker("b", "unreachable", "1")]);
        assert!(
            unreachable.len() == 1 && unreachable[0].contains("cannot be reached"),
            "{unreachable:?}"
        );
        assert!(bad(&[worker("b", "left", "")])[0].starts_with("no worker is ready"));
    }
}
