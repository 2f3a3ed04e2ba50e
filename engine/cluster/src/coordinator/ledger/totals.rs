//! Totals of runs.

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
        Self {
            rows_in: self.rows_in.saturating_sub(part.rows_in),
            rows_out: self.rows_out.saturating_sub(part.rows_out),
            bytes_in: self.bytes_in.saturating_sub(part.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(part.bytes_out),
            late_rows: self.late_rows.saturating_sub(part.late_rows),
            bad_rows: self.bad_rows.saturating_sub(part.bad_rows),
            dead_letters: self.dead_letters.saturating_sub(part.dead_letters),
            future_rows: self.future_rows.saturating_sub(part.future_rows),
            ..self.clone()
        }
    }

    /// Returns the totals with no fewer rows than `known`. Workers that have just been adopted report theirs later.
    pub fn at_least(self, known: &RunTotals) -> Self {
        Self {
            rows_in: self.rows_in.max(known.rows_in),
            rows_out: self.rows_out.max(known.rows_out),
            bytes_in: self.bytes_in.max(known.bytes_in),
            bytes_out: self.bytes_out.max(known.bytes_out),
            late_rows: self.late_rows.max(known.late_rows),
            bad_rows: self.bad_rows.max(known.bad_rows),
            dead_letters: self.dead_letters.max(known.dead_letters),
            future_rows: self.future_rows.max(known.future_rows),
            watermark_us: self.watermark_us.or(known.watermark_us),
            ..self
        }
    }

    /// Returns the totals of this run and all earlier ones. The lag is that of this run alone.
    pub fn after(self, earlier: &RunTotals) -> Self {
        Self {
            restarts: self.restarts + earlier.restarts,
            checkpoints: self.checkpoints + earlier.checkpoints,
            checkpoints_failed: self.checkpoints_failed + earlier.checkpoints_failed,
            checkpoints_unchanged: self.checkpoints_unchanged + earlier.checkpoints_unchanged,
            last_checkpoint: self.last_checkpoint.or_else(|| earlier.last_checkpoint.clone()),
            rows_in: self.rows_in + earlier.rows_in,
            rows_out: self.rows_out + earlier.rows_out,
            bytes_in: self.bytes_in + earlier.bytes_in,
            bytes_out: self.bytes_out + earlier.bytes_out,
            watermark_us: self.watermark_us.or(earlier.watermark_us),
            lag_rows: self.lag_rows,
            late_rows: self.late_rows + earlier.late_rows,
            bad_rows: self.bad_rows + earlier.bad_rows,
            dead_letters: self.dead_letters + earlier.dead_letters,
            future_rows: self.future_rows + earlier.future_rows,
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
