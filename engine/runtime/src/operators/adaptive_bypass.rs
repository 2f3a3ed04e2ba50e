//! Measures whether an optional optimisation removes enough rows to be worth running.
//!
//! Pre-aggregation and dynamic filters only reduce the number of rows; where they reduce it little, they only cost
//! time. [`AdaptiveBypass`] counts rows in and out over a sample. If too many come out, the next rows bypass the
//! optimisation before it is measured again.

/// Rows of a sample.
pub(super) const SAMPLE_ROWS: usize = 65_536;
/// Rows that bypass the optimisation after a sample in which it was not worth running.
const BYPASS_ROWS: usize = 4_000_000;

/// Decides when rows bypass an optimisation.
pub(super) struct AdaptiveBypass {
    /// The optimisation is not worth running if a larger percentage of the sample comes out.
    output_percent_max: usize,
    rows_in: usize,
    rows_out: usize,
    /// Rows still to bypass.
    bypass_rows: usize,
}

impl AdaptiveBypass {
    pub(super) fn new(output_percent_max: usize) -> Self {
        Self {
            output_percent_max,
            rows_in: 0,
            rows_out: 0,
            bypass_rows: 0,
        }
    }

    /// Returns true if the next `rows` rows are to bypass the optimisation, and counts them as bypassed.
    pub(super) fn should_bypass(&mut self, rows: usize) -> bool {
        let is_bypassed = self.bypass_rows > 0;
        self.bypass_rows = self.bypass_rows.saturating_sub(rows);
        is_bypassed
    }

    /// Counts rows that went into the optimisation.
    pub(super) fn record_input(&mut self, rows: usize) {
        self.rows_in += rows;
    }

    /// Counts rows that came out of the optimisation.
    pub(super) fn record_output(&mut self, rows: usize) {
        self.rows_out += rows;
    }

    /// Ends the sample once it has enough rows. Returns true if the optimisation was not worth running, so that the
    /// next rows bypass it.
    pub(super) fn end_sample(&mut self) -> bool {
        if self.rows_in < SAMPLE_ROWS {
            return false;
        }
        let is_wasteful = self.rows_out * 100 > self.rows_in * self.output_percent_max;
        if is_wasteful {
            self.bypass_rows = BYPASS_ROWS;
        }
        self.rows_in = 0;
        self.rows_out = 0;
        is_wasteful
    }
}
