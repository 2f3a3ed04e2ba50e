//! `jobs why`: why there is no output, from what a job reports about itself.
//!
//! Findings go from what stops everything (it has ended, it waits for slots, it restarts) over what holds rows up (a
//! slow sink, a partition that holds the watermark back) to what is merely worth knowing.

use millstream_proto::report::{count, listed, time};
use millstream_proto::v1::{Job, JobState, OperatorStatus};

use crate::jobs::{numbers, state};
use crate::output::{age, rate};

/// A share of time from which something is called held up, or busy.
const MUCH: f64 = 0.5;
/// A watermark that is further behind the next partition's than this is held back by its own.
const HELD_BACK_US: i64 = 1_000_000;
/// Splits that are named one by one, at most.
const NAMED_MAX: usize = 5;

/// Findings in the order of their weight; never empty.
pub fn why(job: &Job, now_us: i64) -> Vec<String> {
    let name = &job.name;
    let since = age(now_us, job.since_us);
    let because = because(job);
    let lasting = match state(job) {
        JobState::Submitted | JobState::Deploying => Some(format!(
            "it is not running yet, for {since}{because}; `engine-cli workers list` shows which slots are free"
        )),
        JobState::Restarting => Some(format!(
            "it restarts, for {since} (attempt {}, {} restarts){because}; `engine-cli jobs logs {name}` tells more",
            job.attempt, job.restarts
        )),
        JobState::Stopping => Some(format!("it is being stopped, for {since}{because}")),
        JobState::Finished => Some(format!("all its input was processed {since} ago")),
        JobState::Stopped => Some(format!(
            "it was stopped {since} ago{because}; `engine-cli jobs restart {name}` goes on from its last checkpoint"
        )),
        JobState::Failed => Some(format!(
            "it failed {since} ago{because}; once the cause is gone, `engine-cli jobs restart {name}` goes on from its last checkpoint"
        )),
        JobState::Cancelled => Some(format!(
            "it was cancelled {since} ago{because}; `engine-cli jobs restart {name}` goes on from its last checkpoint"
        )),
        JobState::Running => None,
    };
    match lasting {
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
        return vec!["it runs, but its tasks have not reported anything yet".to_string()];
    }
    let mut findings = unreachable(job, now_us);
    findings.extend(unread(job));
    findings.extend(blocked(job));
    match is_idle(job, now_us) {
        true => findings.extend(idle(job, now_us)),
        false => findings.extend(watermark(job, now_us)),
    }
    findings.extend(swallowed(job));
    findings.extend(unpublished(job, now_us));
    findings.extend(job.absent_columns.iter().cloned());
    findings.extend(set_aside(job));
    let numbers = numbers(job);
    if numbers.rows_out > 0 {
        let now = match numbers.rows_out_per_second {
            rate if rate < 0.05 => "none at present".to_string(),
            per_second => format!("{} a second at present", rate(per_second)),
        };
        findings.push(format!("it has put out {} rows, {now}", count(numbers.rows_out)));
    } else if findings.is_empty() {
        findings.push("nothing holds it up; no row has reached a sink yet".to_string());
    }
    findings
}

/// Why it is in its state; what it cannot reach is told apart.
fn because(job: &Job) -> String {
    if job.reason.is_empty() || !job.outages.is_empty() {
        return String::new();
    }
    format!(": {}", job.reason)
}

/// What its sources and sinks cannot reach, and what that means for a job in this state.
fn unreachable(job: &Job, now_us: i64) -> Vec<String> {
    let waits = |kind: &str| match (state(job), kind) {
        (JobState::Stopping, "sink") => {
            "; the last checkpoint waits for that (`engine-cli jobs cancel` ends the job without one)"
        }
        (_, "sink") => "; rows wait, and checkpoints do not end before it can",
        _ => "; it goes on by itself once it can",
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

/// Sources that have read nothing, and why that may be.
fn unread(job: &Job) -> Vec<String> {
    let silent = sources(job).filter(|source| source.rows_in.max(source.rows_out) == 0);
    silent
        .map(|source| {
            let id = &source.id;
            if source.splits.is_empty() {
                format!("the source `{id}` has read no row and has nothing to read: no file or partition was found")
            } else if source.splits.iter().all(|split| split.lag_rows == Some(0)) {
                format!(
                    "the source `{id}` has read no row: its {} partitions are empty",
                    source.splits.len()
                )
            } else if source.blocked >= MUCH {
                format!("the source `{id}` has read no row: what comes behind it holds it up")
            } else {
                format!("the source `{id}` has read no row yet")
            }
        })
        .collect()
}

/// Who holds up whom: operators that wait for room, and the first one behind them that does not.
fn blocked(job: &Job) -> Option<String> {
    let waiting: Vec<&OperatorStatus> = job
        .operators
        .iter()
        .filter(|operator| operator.blocked >= MUCH)
        .collect();
    let last = waiting.last()?;
    let names: Vec<String> = waiting.iter().map(|operator| format!("`{}`", operator.id)).collect();
    let position = job.operators.iter().position(|operator| operator.id == last.id)?;
    let behind = job.operators[position + 1..]
        .iter()
        .max_by(|a, b| a.busy.total_cmp(&b.busy));
    let names = names.join(", ");
    Some(match behind {
        Some(slow) => format!(
            "{names} wait for room: the {} `{}` takes rows more slowly than they come (busy {:.0} % of the time)",
            slow.kind,
            slow.id,
            slow.busy * 100.0
        ),
        None if last.kind == "sink" => {
            format!("{names} wait: what the sink writes to takes rows more slowly than they come")
        }
        None => format!("{names} wait for room behind them"),
    })
}

/// Time that a job has to run before a rate of 0 says that no rows come: rates need two looks at the counters.
const RATES_AFTER_US: i64 = 10_000_000;

/// Returns true where all that the sources have found is read, as far as they know, and nothing new comes.
fn is_idle(job: &Job, now_us: i64) -> bool {
    let mut splits = sources(job).flat_map(|source| &source.splits).peekable();
    let has_splits = splits.peek().is_some();
    let nothing_left = splits.all(|split| split.lag_rows.unwrap_or(0) == 0);
    let is_held_up = sources(job).any(|source| source.blocked >= MUCH);
    let rates_are_known = now_us.saturating_sub(job.since_us) >= RATES_AFTER_US;
    let numbers = numbers(job);
    has_splits
        && nothing_left
        && !is_held_up
        && numbers.rows_in > 0
        && numbers.rows_in_per_second < 0.05
        && (rates_are_known || lag_is_known(job))
        && job.outages.is_empty()
}

fn lag_is_known(job: &Job) -> bool {
    sources(job)
        .flat_map(|source| &source.splits)
        .all(|split| split.lag_rows.is_some())
}

/// The rows that a job waits for which has read everything; with event time, those that close its last windows.
fn idle(job: &Job, now_us: i64) -> Option<String> {
    let numbers = numbers(job);
    let rows = count(numbers.rows_in);
    let read = match lag_is_known(job) {
        true => format!("all input is read ({rows} rows)"),
        false => format!("no new rows come, {rows} were read"),
    };
    let of_sources = || sources(job).filter_map(|source| source.watermark_us).min();
    match numbers.watermark_us.or_else(of_sources) {
        // It has no event time, or no row had one.
        None if !sources(job).any(has_watermarks) => Some(format!("{read}; it waits for new rows")),
        None => Some(format!(
            "{read}; no row had an event time, so windows wait for rows that have one"
        )),
        Some(i64::MAX) => None,
        Some(watermark) => Some(format!(
            "{read}; the last window waits for newer rows (watermark {}, {} behind the clock): a window fires when a row comes \
             whose event time moves the watermark past the window's end; with `jobs submit --mode batch` the end of the \
             input closes all windows",
            time(watermark),
            age(now_us, watermark.max(1))
        )),
    }
}

/// The partition that holds the watermark: windows fire no earlier.
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
            "the watermark waits for {named}: no row with an event time has come from there, and it is not idle; windows fire when it has moved past their end"
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
            "the watermark is {}, {behind} behind the clock: {holder} holds it back (without it: {}); windows that end later have not fired",
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

/// The first operator that takes rows and lets none through.
fn swallowed(job: &Job) -> Option<String> {
    let operator = job
        .operators
        .iter()
        .find(|operator| operator.kind == "operator" && operator.rows_in > 0 && operator.rows_out == 0)?;
    Some(format!(
        "`{}` has taken {} rows and let none through: a condition that none fulfils, or windows that are not complete",
        operator.id,
        count(operator.rows_in)
    ))
}

/// Sinks that publish with checkpoints publish nothing without one.
fn unpublished(job: &Job, now_us: i64) -> Option<String> {
    match (&job.last_checkpoint, job.checkpoints_completed, job.checkpoints_failed) {
        (None, 0, 0) => Some(
            "no checkpoint has completed yet; what is written exactly once becomes visible with the first".to_string(),
        ),
        (None, 0, failed) => Some(format!(
            "no checkpoint has completed and {failed} have failed; what is written exactly once becomes visible with the first: `engine-cli jobs logs {}` tells why",
            job.name
        )),
        (Some(last), _, failed) if failed > 0 => Some(format!(
            "{failed} checkpoints have failed; the last that completed is {} old: what was written exactly once since then is not visible",
            age(now_us, crate::jobs::current(last))
        )),
        _ => None,
    }
}

fn set_aside(job: &Job) -> Option<String> {
    let numbers = numbers(job);
    let kinds = [
        (numbers.late_rows, "late"),
        (numbers.bad_rows, "bad"),
        (numbers.dead_letters, "dead letters"),
        (numbers.future_rows, "too far in the future"),
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
    fn what_does_not_run_says_so() {
        let mut waiting = job(JobState::Deploying, Vec::new());
        waiting.reason = "needs 4 slots, 2 are free".into();
        check(
            &waiting,
            &[
                "it is not running yet, for 30s: needs 4 slots, 2 are free; `engine-cli workers list` shows which slots are free",
            ],
        );
        let mut failed = job(JobState::Failed, Vec::new());
        failed.reason = "division by zero in `calc`".into();
        check(
            &failed,
            &[
                "it failed 30s ago: division by zero in `calc`; once the cause is gone, `engine-cli jobs restart toll` goes on from its last checkpoint",
            ],
        );
        check(
            &job(JobState::Running, Vec::new()),
            &["it runs, but its tasks have not reported anything yet"],
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
                "the watermark is 2025-12-31 23:58:55, 65s behind the clock: `1` of `entries` holds it back (without it: 2025-12-31 23:59:55); windows that end later have not fired",
                "`per_booth` has taken 10 rows and let none through: a condition that none fulfils, or windows that are not complete",
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
                "all input is read (10 rows); the last window waits for newer rows (watermark 2025-12-31 23:59:55, 5s behind the clock): a window fires when a row comes whose event time moves the watermark past the window's end; with `jobs submit --mode batch` the end of the input closes all windows",
                "it has put out 3 rows, none at present",
            ],
        );
        // A source of files does not know what is left.
        for split in &mut idle.operators[0].splits {
            split.lag_rows = None;
        }
        assert!(why(&idle, NOW)[0].starts_with("no new rows come, 10 were read; the last window waits for newer rows"));
        idle.since_us = NOW - 2_000_000;
        assert!(
            why(&idle, NOW)[0].starts_with("the watermark is 2025-12-31 23:58:55"),
            "rates are not known yet"
        );
        idle.operators[0].splits[0].lag_rows = Some(0);
        // While rows are left, or come, it is not idle.
        idle.operators[0].splits[1].lag_rows = Some(7);
        assert!(why(&idle, NOW)[0].starts_with("the watermark is 2025-12-31 23:58:55"));
        idle.operators[0].splits[1].lag_rows = Some(0);
        idle.numbers.as_mut().expect("it has numbers").rows_in_per_second = 3.0;
        assert!(why(&idle, NOW)[0].starts_with("the watermark is 2025-12-31 23:58:55"));
        // Without event time there is no window to wait for.
        let numbers = idle.numbers.as_mut().expect("it has numbers");
        (numbers.rows_in_per_second, numbers.watermark_us) = (0.0, None);
        idle.operators[0].watermark_us = None;
        for split in &mut idle.operators[0].splits {
            split.watermark_us = None;
        }
        assert_eq!(why(&idle, NOW)[0], "all input is read (10 rows); it waits for new rows");
    }

    #[test]
    fn what_cannot_be_reached_comes_first() {
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
                "the source `stats` cannot reach the Kafka brokers `a:9092`, for 12s: refused; it goes on by itself once it can",
                "it has put out 10 rows, none at present",
            ],
        );
        let mut stopping = job(JobState::Stopping, Vec::new());
        stopping.outages = vec![outage("sink")];
        check(
            &stopping,
            &[
                "it is being stopped, for 30s",
                "the sink `stats` cannot reach the Kafka brokers `a:9092`, for 12s: refused; the last checkpoint waits for that (`engine-cli jobs cancel` ends the job without one)",
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
                "`entries` wait for room: the sink `stats` takes rows more slowly than they come (busy 97 % of the time)",
                "rows set aside: 3 late",
                "it has put out 1,234 rows, 20 a second at present",
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
                "the source `entries` has read no row and has nothing to read: no file or partition was found",
                "no checkpoint has completed yet; what is written exactly once becomes visible with the first",
            ],
        );
    }
}
