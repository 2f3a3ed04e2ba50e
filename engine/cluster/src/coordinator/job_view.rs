//! A job in the words of the client API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use millstream_proto::v1;
use millstream_runtime::counters::{JobCounters, Kind};
use millstream_runtime::operator::WATERMARK_MIN;

use crate::compatibility::{Finding, Verdict};
use crate::coordinator::ledger::{LastCheckpoint, LatestUpdate, Record, RunProgress, RunTotals};
use crate::coordinator::runs::ActiveRun;
use crate::coordinator::slots::Slots;
use crate::coordinator::state::{Job, State};
use crate::outage;
use crate::progress::Report;

/// The journal is told times of checkpoints no more exactly than this.
const JOURNAL_TIME_RESOLUTION_US: i64 = 100_000;

/// Rows and times as of two moments, for rates.
#[derive(Debug, Default)]
pub struct Rates {
    before: Option<Sample>,
    latest: Option<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    rows_in: u64,
    rows_out: u64,
    /// Per operator, of each subtask: nanoseconds busy, microseconds blocked.
    times: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Rates {
    /// Looks at the counters as of now.
    pub fn sample(&mut self, counters: &JobCounters) {
        let mut sample = Sample {
            at: Instant::now(),
            rows_in: 0,
            rows_out: 0,
            times: BTreeMap::new(),
        };
        for operator in &counters.operators {
            match operator.kind {
                Kind::Source => sample.rows_in += read(&operator.rows_in),
                Kind::Sink => sample.rows_out += read(&operator.rows_out),
                Kind::Operator => {}
            }
            let times = sample.times.entry(operator.operator.0.clone()).or_default();
            times.push((read(&operator.busy_ns), read(&operator.blocked_us)));
        }
        self.before = self.latest.replace(sample);
    }

    /// Rows in and out per second between the two latest samples.
    fn rows(&self) -> (f64, f64) {
        let (Some(before), Some(latest)) = (&self.before, &self.latest) else {
            return (0.0, 0.0);
        };
        let seconds = (latest.at - before.at).as_secs_f64().max(1e-3);
        // Counters begin anew with each attempt.
        let rate = |before: u64, latest: u64| latest.saturating_sub(before) as f64 / seconds;
        (
            rate(before.rows_in, latest.rows_in),
            rate(before.rows_out, latest.rows_out),
        )
    }

    /// Shares of time that an operator's busiest and most blocked subtask were so.
    fn shares(&self, operator: &str) -> (f64, f64) {
        let (Some(before), Some(latest)) = (&self.before, &self.latest) else {
            return (0.0, 0.0);
        };
        let (Some(then), Some(now)) = (before.times.get(operator), latest.times.get(operator)) else {
            return (0.0, 0.0);
        };
        let seconds = (latest.at - before.at).as_secs_f64().max(1e-3);
        let pairs = || then.iter().zip(now);
        let busy = pairs()
            .map(|(then, now)| now.0.saturating_sub(then.0))
            .max()
            .unwrap_or(0);
        let blocked = pairs()
            .map(|(then, now)| now.1.saturating_sub(then.1))
            .max()
            .unwrap_or(0);
        (
            (busy as f64 / 1e9 / seconds).min(1.0),
            (blocked as f64 / 1e6 / seconds).min(1.0),
        )
    }
}

/// The latest update of a job's pipeline.
fn update(record: &Record) -> Option<v1::JobUpdate> {
    use v1::job_update::State;
    let (state, reason) = match &record.update {
        LatestUpdate::None => return None,
        LatestUpdate::Pending(_) => (State::Pending, ""),
        LatestUpdate::Tried(_) => (State::Tried, ""),
        LatestUpdate::Confirmed => (State::Confirmed, ""),
        LatestUpdate::Reverted { reason } => (State::Reverted, reason.as_str()),
    };
    Some(v1::JobUpdate {
        state: state as i32,
        reason: reason.to_string(),
    })
}

/// A job, with what is known of its run. `in_detail`: operators and splits, too.
pub fn job(job: &Job, running: Option<&ActiveRun>, slots: &Slots, in_detail: bool) -> v1::Job {
    let record = &job.record;
    let now = job.visible_transition();
    let hidden = usize::from(now != record.current());
    let told = record.transitions.iter().take(record.transitions.len() - hidden);
    let lease = job
        .run
        .as_ref()
        .and_then(|run| run.lease)
        .and_then(|lease| slots.lease(lease));
    let mut described = v1::Job {
        name: record.name.clone(),
        state: now.status.to_proto() as i32,
        reason: now.reason.clone(),
        submitted_us: record.submitted_us,
        since_us: now.at_us,
        parallelism: lease.map_or(record.parallelism.unwrap_or(0), |lease| lease.slots.len() as u32),
        parallelism_auto: record.parallelism.is_none(),
        max_parallelism: record.max_parallelism,
        update: update(record),
        mode: record.resolved.mode,
        attempt: record.attempts,
        transitions: told
            .map(|transition| v1::Transition {
                state: transition.status.to_proto() as i32,
                at_us: transition.at_us,
                reason: transition.reason.clone(),
            })
            .collect(),
        placement: lease.map(|lease| lease.slots.clone()).unwrap_or_default(),
        version: job.version,
        fingerprint: format!("{:016x}", record.resolved.fingerprint),
        ..v1::Job::default()
    };
    if record.deleting {
        described.reason = "being deleted: its checkpoints are being removed".into();
    }
    let report = running.map(|running| running.progress.report());
    if let Some(job_totals) = job_totals(job, running) {
        describe_totals(&mut described, &job_totals);
    }
    let (Some(running), Some(report)) = (running, report) else {
        return described;
    };
    described.reason = outage::describe_reason(&described.reason, &report.outages);
    described.outages.clone_from(&report.outages);
    described.absent_columns = report.absent_columns();
    let (rows_in_per_second, rows_out_per_second) = running.rates.rows();
    if let Some(numbers) = &mut described.numbers {
        numbers.rows_in_per_second = rows_in_per_second;
        numbers.rows_out_per_second = rows_out_per_second;
    }
    if in_detail && let Some(counters) = report.counters.last() {
        described.operators = operators(counters, &running.rates);
        let is_cut_off = |source: &str| {
            let of_source = report.outages.iter().filter(|outage| outage.kind == outage::SOURCE);
            of_source.into_iter().any(|outage| outage.operator == source)
        };
        let cut_off = described
            .operators
            .iter_mut()
            .filter(|operator| is_cut_off(&operator.id));
        for split in cut_off.flat_map(|operator| &mut operator.splits) {
            split.lag_rows = None;
        }
    }
    described
}

/// What the run under way and those before it have come to; `None`: nothing has run yet.
pub fn job_totals(job: &Job, running: Option<&ActiveRun>) -> Option<RunTotals> {
    let record = &job.record;
    let present = running.and_then(|running| running.progress.with(run_totals));
    let present = match (State::inherited_progress(job), &record.run_progress) {
        // Nobody looks after the tasks yet: what the last coordinator knew.
        (Some(RunProgress { settled, attempt }), _) => Some(attempt.clone().after(settled)),
        (None, Some(run_progress)) => Some(present.unwrap_or_default().at_least(&run_progress.attempt)),
        (None, None) => present,
    };
    match (present, &record.run_totals) {
        (Some(present), Some(earlier)) => Some(present.after(earlier)),
        (Some(present), None) => Some(present),
        (None, earlier) => earlier.clone(),
    }
}

/// What a run has come to so far; `None`: nothing has run yet.
pub fn run_totals(report: &Report) -> Option<RunTotals> {
    let has_run = report.restarts > 0 || !report.counters.is_empty();
    let numbers = report.numbers();
    has_run.then(|| RunTotals {
        restarts: report.restarts,
        checkpoints: report.checkpoints,
        checkpoints_failed: report.checkpoints_failed,
        checkpoints_unchanged: report.checkpoints_unchanged,
        last_checkpoint: report.last_checkpoint.as_ref().map(|last| LastCheckpoint {
            checkpoint: last.id,
            taken_us: super::now_us() - last.at.elapsed().as_micros() as i64,
            current_us: super::now_us() - last.current_at.elapsed().as_micros() as i64,
            state_bytes: last.state_bytes,
            took_ms: last.took.as_millis() as u64,
        }),
        rows_in: numbers.rows_in,
        rows_out: numbers.rows_out,
        bytes_in: numbers.bytes_in,
        bytes_out: numbers.bytes_out,
        watermark_us: numbers.watermark,
        lag_rows: numbers.lag,
        late_rows: numbers.late_rows,
        bad_rows: numbers.bad_rows,
        dead_letters: numbers.dead_letters,
        future_rows: numbers.future_rows,
    })
}

/// The same for the next coordinator, which gets the rows of the present attempt from its workers.
pub fn run_progress(report: &Report) -> Option<RunProgress> {
    let all = run_totals(report)?;
    let present = report.counters.last().map(|counters| counters.progress());
    let attempt = present.map_or_else(RunTotals::default, |numbers| RunTotals {
        rows_in: numbers.rows_in,
        rows_out: numbers.rows_out,
        bytes_in: numbers.bytes_in,
        bytes_out: numbers.bytes_out,
        late_rows: numbers.late_rows,
        bad_rows: numbers.bad_rows,
        dead_letters: numbers.dead_letters,
        future_rows: numbers.future_rows,
        ..RunTotals::default()
    });
    let mut settled = all.without(&attempt);
    if let Some(last) = &mut settled.last_checkpoint {
        // They are computed from how long ago it was, a little differently each time; that is no news.
        last.taken_us -= last.taken_us % JOURNAL_TIME_RESOLUTION_US;
        last.current_us -= last.current_us % JOURNAL_TIME_RESOLUTION_US;
    }
    Some(RunProgress { settled, attempt })
}

fn describe_totals(described: &mut v1::Job, run_totals: &RunTotals) {
    described.restarts = run_totals.restarts;
    described.checkpoints_completed = run_totals.checkpoints;
    described.checkpoints_failed = run_totals.checkpoints_failed;
    described.checkpoints_unchanged = run_totals.checkpoints_unchanged;
    described.last_checkpoint = run_totals.last_checkpoint.as_ref().map(|last| v1::Checkpoint {
        job: described.name.clone(),
        checkpoint: last.checkpoint,
        taken_us: last.taken_us,
        current_us: last.current_us,
        state_bytes: last.state_bytes,
        duration_ms: last.took_ms,
        parallelism: described.parallelism,
        ..v1::Checkpoint::default()
    });
    described.numbers = Some(v1::JobNumbers {
        rows_in: run_totals.rows_in,
        rows_out: run_totals.rows_out,
        bytes_in: run_totals.bytes_in,
        bytes_out: run_totals.bytes_out,
        watermark_us: run_totals.watermark_us,
        lag_rows: run_totals.lag_rows,
        late_rows: run_totals.late_rows,
        bad_rows: run_totals.bad_rows,
        dead_letters: run_totals.dead_letters,
        future_rows: run_totals.future_rows,
        ..v1::JobNumbers::default()
    });
}

/// All operators, in the order of the plan; the subtasks of each together.
fn operators(counters: &JobCounters, rates: &Rates) -> Vec<v1::OperatorStatus> {
    let mut operators: Vec<v1::OperatorStatus> = Vec::new();
    for counters in &counters.operators {
        let id = &counters.operator.0;
        let place = operators.iter().position(|operator| operator.id == *id);
        let place = place.unwrap_or_else(|| {
            let (busy, blocked) = rates.shares(id);
            operators.push(v1::OperatorStatus {
                id: id.clone(),
                kind: match counters.kind {
                    Kind::Source => "source",
                    Kind::Operator => "operator",
                    Kind::Sink => "sink",
                }
                .into(),
                // Until a subtask says less.
                watermark_us: Some(i64::MAX),
                busy,
                blocked,
                ..v1::OperatorStatus::default()
            });
            operators.len() - 1
        });
        let status = &mut operators[place];
        status.subtasks += 1;
        status.rows_in += read(&counters.rows_in);
        status.rows_out += read(&counters.rows_out);
        let watermark = watermark(&counters.watermark);
        status.watermark_us = status.watermark_us.and_then(|least| Some(least.min(watermark?)));
    }
    for split in counters.splits() {
        let status = operators.iter_mut().find(|operator| operator.id == split.source.0);
        if let Some(status) = status {
            status.splits.push(v1::SplitStatus {
                id: split.split.to_string(),
                watermark_us: watermark(&split.watermark),
                lag_rows: split.lag(),
                ..v1::SplitStatus::default()
            });
        }
    }
    operators
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn watermark(watermark: &AtomicI64) -> Option<i64> {
    Some(watermark.load(Ordering::Relaxed)).filter(|watermark| *watermark != WATERMARK_MIN)
}

/// A verdict about state, for clients.
pub fn verdict(verdict: Verdict) -> v1::diff_response::Verdict {
    use v1::diff_response::Verdict as Proto;
    match verdict {
        Verdict::SameMeaning => Proto::Compatible,
        Verdict::ChangedMeaning => Proto::ChangedMeaning,
        Verdict::NeedsMigration => Proto::NeedsMigration,
        Verdict::LosesState => Proto::LosesState,
    }
}

/// The verdict about one operator's state, for a client.
pub fn operator_diff(finding: &Finding) -> v1::OperatorDiff {
    let changes = finding.changes.iter().map(|change| v1::MeaningChange {
        operator: change.operator.0.clone(),
        what: change.what.clone(),
        old: change.old.clone(),
        new: change.new.clone(),
        edited: change.edited.clone(),
    });
    v1::OperatorDiff {
        operator: finding.operator.0.clone(),
        verdict: verdict(finding.verdict) as i32,
        remedy: finding.remedy.clone(),
        changes: changes.collect(),
    }
}
