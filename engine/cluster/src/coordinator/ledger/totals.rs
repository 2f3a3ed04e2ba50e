//! Totals of runs.

use millstream_runtime::counters::JobProgress;
use serde::{Deserialize, Serialize};

/// Totals of runs. A record has those of all ended runs together; a run has its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunTotals {
    pub restarts: u32,
    pub checkpoints: u64,
    pub checkpoints_failed: u64,
    pub checkpoints_unchanged: u64,
    pub last_checkpoint: Option<LastCheckpoint>,
    pub rows_in: u64,
    pub rows_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub watermark_us: Option<i64>,
    pub lag_rows: Option<u64>,
    pub late_rows: u64,
    pub bad_rows: u64,
    pub dead_letters: u64,
    pub future_rows: u64,
}

/// Totals of a run that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunProgress {
    /// Totals without the rows of the present attempt.
    pub settled: RunTotals,
    /// Rows of the present attempt, which its workers report.
    pub attempt: RunTotals,
}

impl RunTotals {
    /// Returns the totals without the rows of `part`.
    pub fn without(&self, part: &RunTotals) -> Self {
        self.clone().combine_rows(part, u64::saturating_sub)
    }

    /// Returns the totals with no fewer rows than `known`. Workers that have just been adopted report theirs later.
    pub fn at_least(self, known: &RunTotals) -> Self {
        Self {
            watermark_us: self.watermark_us.or(known.watermark_us),
            ..self.combine_rows(known, u64::max)
        }
    }

    /// Returns the totals of this run and all earlier ones. The lag is that of this run alone.
    pub fn after(self, earlier: &RunTotals) -> Self {
        Self {
            restarts: self.restarts + earlier.restarts,
            checkpoints: self.checkpoints + earlier.checkpoints,
            checkpoints_failed: self.checkpoints_failed + earlier.checkpoints_failed,
            checkpoints_unchanged: self.checkpoints_unchanged + earlier.checkpoints_unchanged,
            last_checkpoint: self.last_checkpoint.clone().or_else(|| earlier.last_checkpoint.clone()),
            watermark_us: self.watermark_us.or(earlier.watermark_us),
            ..self.combine_rows(earlier, |own, earlier| own + earlier)
        }
    }

    /// Combines each count of rows and bytes with that of `other`.
    fn combine_rows(mut self, other: &RunTotals, combine: impl Fn(u64, u64) -> u64) -> Self {
        let mut other = other.clone();
        for (count, other) in self.rows_mut().into_iter().zip(other.rows_mut()) {
            *count = combine(*count, *other);
        }
        self
    }

    /// Returns the counts of rows and bytes. The pattern names every field, so that a new one is not forgotten.
    fn rows_mut(&mut self) -> [&mut u64; 8] {
        let Self {
            restarts: _,
            checkpoints: _,
            checkpoints_failed: _,
            checkpoints_unchanged: _,
            last_checkpoint: _,
            rows_in,
            rows_out,
            bytes_in,
            bytes_out,
            watermark_us: _,
            lag_rows: _,
            late_rows,
            bad_rows,
            dead_letters,
            future_rows,
        } = self;
        [
            rows_in,
            rows_out,
            bytes_in,
            bytes_out,
            late_rows,
            bad_rows,
            dead_letters,
            future_rows,
        ]
    }
}

impl From<JobProgress> for RunTotals {
    /// Returns totals with the rows, the watermark and the lag of a progress.
    fn from(progress: JobProgress) -> Self {
        Self {
            rows_in: progress.rows_in,
            rows_out: progress.rows_out,
            bytes_in: progress.bytes_in,
            bytes_out: progress.bytes_out,
            watermark_us: progress.watermark,
            lag_rows: progress.lag,
            late_rows: progress.late_rows,
            bad_rows: progress.bad_rows,
            dead_letters: progress.dead_letters,
            future_rows: progress.future_rows,
            ..Self::default()
        }
    }
}

/// The latest checkpoint of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCheckpoint {
    pub checkpoint: u64,
    pub taken_us: i64,
    /// Time until which the checkpoint is known to be up to date.
    pub current_us: i64,
    pub state_bytes: u64,
    pub took_ms: u64,
}
