//! Whether work that only saves work pays.
//!
//! Pre-aggregating rows, or holding them against others, makes fewer of them; where it does not, it only costs. So rows in
//! and out are counted for a while, and where too many come out the next ones pass untouched before it is tried again.

/// Rows after which it is judged.
pub const TRIAL_ROWS: usize = 65_536;
/// Rows that pass before the next trial.
const PASS_ROWS: usize = 4_000_000;

pub struct Trial {
    /// It does not pay where more than this share of the rows comes out, in percent.
    pays_below_percent: usize,
    rows_in: usize,
    rows_out: usize,
    /// Rows still to pass.
    pass_rows: usize,
}

impl Trial {
    pub fn new(pays_below_percent: usize) -> Self {
        Self {
            pays_below_percent,
            rows_in: 0,
            rows_out: 0,
            pass_rows: 0,
        }
    }

    /// Whether these rows are to pass untouched.
    pub fn passes(&mut self, rows: usize) -> bool {
        let passes = self.pass_rows > 0;
        self.pass_rows = self.pass_rows.saturating_sub(rows);
        passes
    }

    pub fn takes(&mut self, rows: usize) {
        self.rows_in += rows;
    }

    pub fn gives(&mut self, rows: usize) {
        self.rows_out += rows;
    }

    /// Judges once enough rows came in; `true`: it does not pay.
    pub fn judge(&mut self) -> bool {
        if self.rows_in < TRIAL_ROWS {
            return false;
        }
        let fails = self.rows_out * 100 > self.rows_in * self.pays_below_percent;
        if fails {
            self.pass_rows = PASS_ROWS;
        }
        self.rows_in = 0;
        self.rows_out = 0;
        fails
    }
}
