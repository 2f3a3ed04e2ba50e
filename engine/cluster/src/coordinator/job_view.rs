//! Jobs in the messages of the client API.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use millstream_proto::v1;
use millstream_runtime::counters::{JobCounters, Kind};
use millstream_runtime::operator::WATERMARK_MIN;

use crate::api;
use crate::compatibility::{Finding, Verdict};
use crate::coordinator::active_run::ActiveRun;
use crate::coordinator::leader::Leader;
use crate::coordinator::ledger::{LatestUpdate, Record, RunTotals};
use crate::coordinator::rates::Rates;
use crate::coordinator::slots::Slots;
use crate::coordinator::state::Job;
use crate::coordinator::totals;
use crate::outage;

/// Returns the latest update of a job's pipeline.
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

/// Returns a job in detail by its name.
pub(super) fn describe(leader: &Leader, name: &str) -> Result<v1::Job, api::Error> {
    leader.with(|inner| {
        let job = inner.state.job(name)?;
        Ok(self::job(job, inner.runs.get(name), inner.state.slots(), true))
    })
}

/// Returns a job and the status of its run. With `in_detail`, operators and splits are included.
pub(super) fn job(job: &Job, running: Option<&ActiveRun>, slots: &Slots, in_detail: bool) -> v1::Job {
    let record = &job.record;
    let now = job.visible_transition();
    let hidden = usize::from(now != record.current());
    let visible = record.transitions.iter().take(record.transitions.len() - hidden);
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
        transitions: visible
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
    if let Some(job_totals) = totals::job_totals(job, running) {
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

/// Returns all operators in the order of the plan, with their subtasks added up.
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
                // The minimum over the subtasks.
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

/// Returns a verdict about state.
pub(super) fn verdict(verdict: Verdict) -> v1::diff_response::Verdict {
    use v1::diff_response::Verdict as Proto;
    match verdict {
        Verdict::SameMeaning => Proto::Compatible,
        Verdict::ChangedMeaning => Proto::ChangedMeaning,
        Verdict::NeedsMigration => Proto::NeedsMigration,
        Verdict::LosesState => Proto::LosesState,
    }
}

/// Returns the verdict about one operator's state.
pub(super) fn operator_diff(finding: &Finding) -> v1::OperatorDiff {
    let changes = finding.changes.iter().map(|change| v1::MeaningChange {
        operator: change.operator.0.clone(),
        what: change.part.clone(),
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
