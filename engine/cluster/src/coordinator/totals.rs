//! Totals of a job over all of its runs, and those of the run under way as the journal records them.

use crate::coordinator::active_run::ActiveRun;
use crate::coordinator::ledger::{LastCheckpoint, RunProgress, RunTotals};
use crate::coordinator::now_us;
use crate::coordinator::state::{Job, State};
use crate::progress::Report;

/// Resolution of checkpoint times in the journal.
const JOURNAL_TIME_RESOLUTION_US: i64 = 100_000;

/// Returns the totals of a job over all runs; `None` if no task has ever run.
pub(super) fn job_totals(job: &Job, running: Option<&ActiveRun>) -> Option<RunTotals> {
    let record = &job.record;
    let present = running.and_then(|running| running.progress.with(run_totals));
    let present = match (State::inherited_progress(job), &record.run_progress) {
        // The tasks have not been adopted yet, so their last known progress is used.
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

/// Returns the totals of a run; `None` if it has not run any task.
pub(super) fn run_totals(report: &Report) -> Option<RunTotals> {
    let has_run = report.restarts > 0 || !report.counters.is_empty();
    has_run.then(|| RunTotals {
        restarts: report.restarts,
        checkpoints: report.checkpoints,
        checkpoints_failed: report.checkpoints_failed,
        checkpoints_unchanged: report.checkpoints_unchanged,
        last_checkpoint: report.last_checkpoint.as_ref().map(|last| LastCheckpoint {
            checkpoint: last.id,
            taken_us: now_us() - last.at.elapsed().as_micros() as i64,
            current_us: now_us() - last.current_at.elapsed().as_micros() as i64,
            state_bytes: last.state_bytes,
            took_ms: last.took.as_millis() as u64,
        }),
        ..RunTotals::from(report.totals())
    })
}

/// Returns the progress of a run for the next coordinator, which gets the rows of the present attempt from its
/// workers.
pub(super) fn run_progress(report: &Report) -> Option<RunProgress> {
    let all = run_totals(report)?;
    let present = report.counters.last().map(|counters| counters.progress());
    let attempt = RunTotals {
        watermark_us: None,
        lag_rows: None,
        ..present.map(RunTotals::from).unwrap_or_default()
    };
    let mut settled = all.without(&attempt);
    if let Some(last) = &mut settled.last_checkpoint {
        // Times are computed from elapsed durations and vary slightly. Rounding avoids a journal record for such a
        // difference.
        last.taken_us -= last.taken_us % JOURNAL_TIME_RESOLUTION_US;
        last.current_us -= last.current_us % JOURNAL_TIME_RESOLUTION_US;
    }
    Some(RunProgress { settled, attempt })
}
