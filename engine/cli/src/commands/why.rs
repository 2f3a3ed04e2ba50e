//! `jobs why`: explains why a job has no output, from the figures that the job reports.
//!
//! Findings are ordered by weight: first states without any output (ended, waiting for slots, restarting), then
//! obstacles for rows (a slow sink, a partition that holds the watermark back), then remarks.

use millstream_proto::report::{count, listed, time};
use millstream_proto::v1::{Job, JobState, OperatorStatus};

use crate::job::{counters, current_us, state};
use crate::output::{age, rate};

/// Share of time from which an operator counts as back-pressured.
const BLOCKED_SHARE_MIN: f64 = 0.5;
/// Distance between the two lowest watermarks of partitions from which the lowest one is reported.
const HELD_BACK_US: i64 = 1_000_000;
/// Most splits that a finding names.
const NAMED_MAX: usize = 5;

/// Returns the findings, ordered by weight; never empty.
pub fn why(job: &Job, now_us: i64) -> Vec<String> {
    let name = &job.name;
    let since = age(now_us, job.since_us);
    let because = because(job);
    let finding = match state(job) {
        JobState::Submitted | JobState::Deploying => Some(format!(
            "the job has not been running for {since}{because}; `engine-cli workers list` shows the free slots"
        )),
        JobState::Restarting => Some(format!(
            "the job has been restarting for {since} (attempt {}, {} restarts){because}; see `engine-cli jobs logs {name}`",
            job.attempt, job.restarts
        )),
        JobState::Stopping => Some(format!("the job has been stopping for {since}{because}")),
        JobState::Finished => Some(format!("all input was processed {since} ago")),
        JobState::Stopped => Some(format!(
            "the job was stopped {since} ago{because}; `engine-cli jobs restart {name}` continues from its last checkpoint"
        )),
        JobState::Failed => Some(format!(
            "the job failed {since} ago{because}; remove the cause, then `engine-cli jobs restart {name}` continues from its last checkpoint"
        )),
        JobState::Cancelled => Some(format!(
            "the job was cancelled {since} ago{because}; `engine-cli jobs restart {name}` continues from its last checkpoint"
        )),
        JobState::Running => None,
    };
    match finding {
        Some(finding) => {
            let mut findings = vec![finding];
            findings.extend(unreachable(job, now_us));
            findings.extend(set_aside(job));
            findings
        }
        None => running(job, now_us),
    }
}

fn running(job: &Job, now_us: i64) -> Vec<String> {
    if job.operators.is_empty() {
        return vec!["the job is running, but its tasks have not reported yet".to_string()];
    }
    let mut findings = unreachable(job, now_us);
    findings.extend(unread(job));
    findings.extend(blocked(job));
    match is_idle(job, now_us) {
        true => findings.extend(idle(job, now_us)),
        false => findings.extend(watermark(job, now_us)),
    }
    findings.extend(without_output(job));
    findings.extend(unpublished(job, now_us));
    findings.extend(job.absent_columns.iter().cloned());
    findings.extend(set_aside(job));
    let counters = counters(job);
    if counters.rows_out > 0 {
        let now = match counters.rows_out_per_second {
            rate if rate < 0.05 => "none at present".to_string(),
            per_second => format!("{} per second at present", rate(per_second)),
        };
        findings.push(format!("{} rows written, {now}", count(counters.rows_out)));
    } else if findings.is_empty() {
        findings.push("no obstacle found; no row has reached a sink yet".to_string());
    }
    findings
}

/// Returns the reason of the state. Outages are left out, as [`unreachable`] reports them.
fn because(job: &Job) -> String {
    if job.reason.is_empty() || !job.outages.is_empty() {
        return String::new();
    }
    format!(": {}", job.reason)
}

/// Reports systems that sources and sinks cannot reach, and the consequence in the present state.
fn unreachable(job: &Job, now_us: i64) -> Vec<String> {
    let waits = |kind: &str| match (state(job), kind) {
        (JobState::Stopping, "sink") => {
            "; the last checkpoint waits until it can (`engine-cli jobs cancel` ends the job without one)"
        }
        (_, "sink") => "; rows and checkpoints wait until it can",
        _ => "; the job continues by itself once it can",
    };
    let outages = job.outages.iter();
    outages
        .map(|outage| {
            format!(
                "the {} `{}` cannot reach {}, for {}: {}{}",
                outage.kind,
                outage.operator,
                outage.system,
                age(now_us, outage.since_us),
                outage.problem,
                waits(&outage.kind)
            )
        })
        .collect()
}

fn sources(job: &Job) -> impl Iterator<Item = &OperatorStatus> {
    job.operators.iter().filter(|operator| operator.kind == "source")
}

/// Reports sources that have read no rows, with a possible cause.
fn unread(job: &Job) -> Vec<String> {
    let silent = sources(job).filter(|source| source.rows_in.max(source.rows_out) == 0);
    silent
        .map(|source| {
            let id = &source.id;
            if source.splits.is_empty() {
                format!("the source `{id}` has read no rows: no file or partition was found")
            } else if source.splits.iter().all(|split| split.lag_rows == Some(0)) {
                format!(
                    "the source `{id}` has read no rows: its {} partitions are empty",
                    source.splits.len()
                )
            } else if source.blocked >= BLOCKED_SHARE_MIN {
                format!("the source `{id}` has read no rows: it is blocked by back pressure")
            } else {
                format!("the source `{id}` has read no rows yet")
            }
        })
        .collect()
}

/// Reports back-pressured operators and the slowest operator downstream of them.
fn blocked(job: &Job) -> Option<String> {
    let waiting: Vec<&OperatorStatus> = job
        .operators
        .iter()
        .filter(|operator| operator.blocked >= BLOCKED_SHARE_MIN)
        .collect();
    let last = waiting.last()?;
    let names: Vec<String> = waiting.iter().map(|operator| format!("`{}`", operator.id)).collect();
    let position = job.operators.iter().position(|operator| operator.id == last.id)?;
    let downstream = job.operators[position + 1..]
        .iter()
        .max_by(|a, b| a.busy.total_cmp(&b.busy));
    let names = names.join(", ");
    Some(match downstream {
        Some(slow) => format!(
            "back pressure on {names}: the {} `{}` is the slowest downstream (busy {:.0} % of the time)",
            slow.kind,
            slow.id,
            slow.busy * 100.0
        ),
        None if last.kind == "sink" => {
            format!("back pressure on {names}: the system that the sink writes to accepts rows too slowly")
        }
        None => format!("back pressure on {names}"),
    })
}

/// Running time from which a rate of 0 means that no rows arrive: rates need two readings of the counters.
const RATES_AFTER_US: i64 = 10_000_000;

/// Returns true if all known input is read and no new rows arrive.
fn is_idle(job: &Job, now_us: i64) -> bool {
    let mut splits = sources(job).flat_map(|source| &source.splits).peekable();
    let has_splits = splits.peek().is_some();
    let nothing_left = splits.all(|split| split.lag_rows.unwrap_or(0) == 0);
    let is_blocked = sources(job).any(|source| source.blocked >= BLOCKED_SHARE_MIN);
    let rates_are_known = now_us.saturating_sub(job.since_us) >= RATES_AFTER_US;
    let counters = counters(job);
    has_splits
        && nothing_left
        && !is_blocked
        && counters.rows_in > 0
        && counters.rows_in_per_second < 0.05
        && (rates_are_known || lag_is_known(job))
        && job.outages.is_empty()
}

fn lag_is_known(job: &Job) -> bool {
    sources(job)
        .flat_map(|source| &source.splits)
        .all(|split| split.lag_rows.is_some())
}

/// Reports that an idle job waits for new rows, and with event time, for rows that close its last windows.
fn idle(job: &Job, now_us: i64) -> Option<String> {
    let counters = counters(job);
    let rows = count(counters.rows_in);
    let read = match lag_is_known(job) {
        true => format!("all input is read ({rows} rows)"),
        false => format!("no new rows arrive, {rows} were read"),
    };
    let of_sources = || sources(job).filter_map(|source| source.watermark_us).min();
    match counters.watermark_us.or_else(of_sources) {
        // The job has no event time, or no row had one.
        None if !sources(job).any(has_watermarks) => Some(format!("{read}; the job waits for new rows")),
        None => Some(format!(
            "{read}; no row had an event time, so windows wait for rows that have one"
        )),
        Some(i64::MAX) => None,
        Some(watermark) => Some(format!(
            "{read}; the last window waits for newer rows (watermark {}, {} behind the clock): a window fires when a row \
             arrives whose event time moves the watermark past the window's end; with `jobs submit --mode batch` the end of the \
             input closes all windows",
            time(watermark),
            age(now_us, watermark.max(1))
        )),
    }
}

/// Reports the watermark and the partition that holds it back.
fn watermark(job: &Job, now_us: i64) -> Option<String> {
    let splits = || {
        sources(job).flat_map(|source| {
            let active = source.splits.iter().filter(|split| !split.idle);
            active.map(move |split| (source, split))
        })
    };
    let without: Vec<String> = splits()
        .filter(|(source, split)| split.watermark_us.is_none() && has_watermarks(source))
        .map(|(source, split)| format!("`{}` of `{}`", split.id, source.id))
        .collect();
    if !without.is_empty() {
        let named = listed(without, NAMED_MAX);
        return Some(format!(
            "the watermark waits for {named}: no row with an event time has arrived from there, and it is not idle; windows fire once the watermark has passed their end"
        ));
    }
    let mut known: Vec<(i64, String)> = splits()
        .filter_map(|(source, split)| Some((split.watermark_us?, format!("`{}` of `{}`", split.id, source.id))))
        .collect();
    known.sort();
    let (slowest, holder) = known.first()?.clone();
    if slowest == i64::MAX {
        return None;
    }
    let behind = age(now_us, slowest.max(1));
    match known.get(1) {
        Some((next, _)) if next.saturating_sub(slowest) > HELD_BACK_US => Some(format!(
            "the watermark is {}, {behind} behind the clock, held back by {holder} (without it: {}); windows that end later have not fired",
            time(slowest),
            time(*next)
        )),
        _ => Some(format!(
            "the watermark is {}, {behind} behind the clock; windows that end later have not fired",
            time(slowest)
        )),
    }
}

fn has_watermarks(source: &OperatorStatus) -> bool {
    // A source without event time has none anywhere.
    source.watermark_us.is_some() || source.splits.iter().any(|split| split.watermark_us.is_some())
}

/// Reports the first operator that has received rows and emitted none.
fn without_output(job: &Job) -> Option<String> {
    let operator = job
        .operators
        .iter()
        .find(|operator| operator.kind == "operator" && operator.rows_in > 0 && operator.rows_out == 0)?;
    Some(format!(
        "`{}` has received {} rows and emitted none: no row meets a condition, or no window is complete",
        operator.id,
        count(operator.rows_in)
    ))
}

/// Reports missing checkpoints, without which exactly-once sinks publish nothing.
fn unpublished(job: &Job, now_us: i64) -> Option<String> {
    match (&job.last_checkpoint, job.checkpoints_completed, job.checkpoints_failed) {
        (None, 0, 0) => {
            Some("no checkpoint has completed yet; exactly-once output becomes visible with the first one".to_string())
        }
        (None, 0, failed) => Some(format!(
            "no checkpoint has completed and {failed} have failed; exactly-once output becomes visible with the first one; see `engine-cli jobs logs {}`",
            job.name
        )),
        (Some(last), _, failed) if failed > 0 => Some(format!(
            "{failed} checkpoints have failed; the last completed one is {} old; exactly-once output since then is not visible",
            age(now_us, current_us(last))
        )),
        _ => None,
    }
}

/// Reports the numbers of late, bad and otherwise unprocessed rows.
fn set_aside(job: &Job) -> Option<String> {
    let counters = counters(job);
    let kinds = [
        (counters.late_rows, "late"),
        (counters.bad_rows, "bad"),
        (counters.dead_letters, "dead letters"),
        (counters.future_rows, "too far in the future"),
    ];
    let some: Vec<String> = kinds
        .iter()
        .filter(|(rows, _)| *rows > 0)
        .map(|(rows, kind)| format!("{} {kind}", count(*rows)))
        .collect();
    (!some.is_empty()).then(|| format!("rows set aside: {}", some.join(", ")))
}

#[cfg(test)]
mod tests {
    use millstream_proto::v1::{self, JobNumbers, SplitStatus};

    use super::*;

    const NOW: i64 = 1_767_225_600_000_000;

    fn job(state: JobState, operators: Vec<OperatorStatus>) -> Job {
        Job {
            name: "toll".into(),
            state: state as i32,
            since_us: NOW - 30_000_000,
            operators,
            checkpoints_completed: 1,
            numbers: Some(JobNumbers::default()),
            ..Job::default()
        }
    }

    fn operator(id: &str, kind: &str, rows: (u64, u64)) -> OperatorStatus {
        OperatorStatus {
            id: id.into(),
            kind: kind.into(),
            rows_in: rows.0,
            rows_out: rows.1,
            ..OperatorStatus::default()
        }
    }

    fn split(id: &str, watermark_us: Option<i64>, idle: bool) -> SplitStatus {
        SplitStatus {
            id: id.into(),
            watermark_us,
            idle,
            ..SplitStatus::default()
        }
    }

    #[track_caller]
    fn check(job: &Job, expected: &[&str]) {
        assert_eq!(why(job, NOW), expected);
    }

    #[test]
    fn a_job_that_is_not_running_is_explained() {
        let mut waiting = job(JobState::Deploying, Vec::new());
        waiting.reason = "needs 4 slots, 2 are free".into();
        check(
            &waiting,
            &[
                "the job has not been running for 30s: needs 4 slots, 2 are free; `engine-cli workers list` shows the free slots",
            ],
        );
        let mut failed = job(JobState::Failed, Vec::new());
        failed.reason = "division by zero in `calc`".into();
        check(
            &failed,
            &[
                "the job failed 30s ago: division by zero in `calc`; remove the cause, then `engine-cli jobs restart toll` continues from its last checkpoint",
            ],
        );
        check(
            &job(JobState::Running, Vec::new()),
            &["the job is running, but its tasks have not reported yet"],
        );
    }

    #[test]
    fn the_partition_that_holds_the_watermark_is_named() {
        let mut source = operator("entries", "source", (10, 10));
        source.splits = vec![
            split("0", Some(NOW - 5_000_000), false),
            split("1", Some(NOW - 65_000_000), false),
        ];
        source.watermark_us = Some(NOW - 65_000_000);
        let mut running = job(
            JobState::Running,
            vec![source, operator("per_booth", "operator", (10, 0))],
        );
        check(
            &running,
            &[
                "the watermark is 2025-12-31 23:58:55, 65s behind the clock, held back by `1` of `entries` (without it: 2025-12-31 23:59:55); windows that end later have not fired",
                "`per_booth` has received 10 rows and emitted none: no row meets a condition, or no window is complete",
            ],
        );
        running.operators[0].splits[1].watermark_us = None;
        assert!(why(&running, NOW)[0].starts_with("the watermark waits for `1` of `entries`: no row"));
        running.operators[0].splits[1].idle = true;
        assert!(why(&running, NOW)[0].starts_with("the watermark is 2025-12-31 23:59:55, 5s behind"));
    }

    #[test]
    fn a_job_that_has_read_everything_says_what_its_last_window_waits_for() {
        let mut source = operator("entries", "source", (10, 10));
        source.splits = vec![
            split("0", Some(NOW - 5_000_000), false),
            split("1", Some(NOW - 65_000_000), false),
        ];
        source.splits[0].lag_rows = Some(0);
        source.splits[1].lag_rows = Some(0);
        source.watermark_us = Some(NOW - 65_000_000);
        let mut idle = job(JobState::Running, vec![source]);
        idle.numbers = Some(JobNumbers {
            rows_in: 10,
            rows_out: 3,
            watermark_us: Some(NOW - 5_000_000),
            ..JobNumbers::default()
        });
        check(
            &idle,
            &[
                "all input is read (10 rows); the last window waits for newer rows (watermark 2025-12-31 23:59:55, 5s behind the clock): a window fires when a row arrives whose event time moves the watermark past the window's end; with `jobs submit --mode batch` the end of the input closes all windows",
                "3 rows written, none at present",
            ],
        );
        // A source of files does not know its lag.
        for split in &mut idle.operators[0].splits {
            split.lag_rows = None;
        }
        assert!(
            why(&idle, NOW)[0].starts_with("no new rows arrive, 10 were read; the last window waits for newer rows")
        );
        idle.since_us = NOW - 2_000_000;
        assert!(
            why(&idle, NOW)[0].starts_with("the watermark is 2025-12-31 23:58:55"),
            "rates are not known yet"
        );
        idle.operators[0].splits[0].lag_rows = Some(0);
        // A job with a lag or a rate is not idle.
        idle.operators[0].splits[1].lag_rows = Some(7);
        assert!(why(&idle, NOW)[0].starts_with("the watermark is 2025-12-31 23:58:55"));
        idle.operators[0].splits[1].lag_rows = Some(0);
        idle.numbers.as_mut().expect("it has counters").rows_in_per_second = 3.0;
        assert!(why(&idle, NOW)[0].starts_with("the watermark is 2025-12-31 23:58:55"));
        // Without event time there is no open window.
        let counters = idle.numbers.as_mut().expect("it has counters");
        (counters.rows_in_per_second, counters.watermark_us) = (0.0, None);
        idle.operators[0].watermark_us = None;
        for split in &mut idle.operators[0].splits {
            split.watermark_us = None;
        }
        assert_eq!(
            why(&idle, NOW)[0],
            "all input is read (10 rows); the job waits for new rows"
        );
    }

    #[test]
    fn outages_come_first() {
        let outage = |kind: &str| v1::Outage {
            operator: "stats".into(),
            kind: kind.into(),
            system: "the Kafka brokers `a:9092`".into(),
            since_us: NOW - 12_000_000,
            problem: "refused".into(),
        };
        let mut running = job(JobState::Running, vec![operator("stats", "source", (10, 10))]);
        running.numbers = Some(JobNumbers {
            rows_out: 10,
            ..JobNumbers::default()
        });
        running.outages = vec![outage("source")];
        running.reason = "the source `stats` cannot reach ...".into();
        check(
            &running,
            &[
                "the source `stats` cannot reach the Kafka brokers `a:9092`, for 12s: refused; the job continues by itself once it can",
                "10 rows written, none at present",
            ],
        );
        let mut stopping = job(JobState::Stopping, Vec::new());
        stopping.outages = vec![outage("sink")];
        check(
            &stopping,
            &[
                "the job has been stopping for 30s",
                "the sink `stats` cannot reach the Kafka brokers `a:9092`, for 12s: refused; the last checkpoint waits until it can (`engine-cli jobs cancel` ends the job without one)",
            ],
        );
    }

    #[test]
    fn the_slow_sink_is_named() {
        let mut source = operator("entries", "source", (10, 10));
        source.blocked = 0.9;
        let mut sink = operator("stats", "sink", (10, 10));
        sink.busy = 0.97;
        let mut running = job(JobState::Running, vec![source, sink]);
        running.numbers = Some(JobNumbers {
            rows_out: 1234,
            rows_out_per_second: 20.0,
            late_rows: 3,
            ..JobNumbers::default()
        });
        check(
            &running,
            &[
                "back pressure on `entries`: the sink `stats` is the slowest downstream (busy 97 % of the time)",
                "rows set aside: 3 late",
                "1,234 rows written, 20 per second at present",
            ],
        );
    }

    #[test]
    fn a_source_without_input_and_a_job_without_checkpoints_are_told() {
        let mut running = job(JobState::Running, vec![operator("entries", "source", (0, 0))]);
        running.checkpoints_completed = 0;
        check(
            &running,
            &[
                "the source `entries` has read no rows: no file or partition was found",
                "no checkpoint has completed yet; exactly-once output becomes visible with the first one",
            ],
        );
    }
}
