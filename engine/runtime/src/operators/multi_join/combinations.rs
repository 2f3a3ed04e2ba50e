//! The combinations of a batch's rows with the rows of the other inputs.

use millstream_state::keyed::Rows;

use crate::operators::join::{NONE, removed_first};
use crate::operators::keyed::CHANGES_MAX;
use crate::operators::mutants::{self, Mutant};

/// The combinations that have not been returned.
pub(super) struct Combinations {
    /// The input whose rows arrived.
    input: usize,
    /// By input: the key of each row of the batch.
    slots: Vec<Vec<u32>>,
    /// Number of times that each row is added (positive) or removed.
    weights: Vec<i64>,
    /// The rows that are added or removed: removed ones first.
    rows: Vec<u32>,
    /// Number of rows whose combinations have been returned.
    returned: usize,
    /// The next combination for the present row: the entry of each other input. Empty: the first one.
    entries: Vec<u32>,
}

impl Combinations {
    pub(super) fn new(input: usize, slots: Vec<Vec<u32>>, weights: Vec<i64>) -> Self {
        Self {
            rows: removed_first(&weights),
            input,
            slots,
            weights,
            returned: 0,
            entries: Vec::new(),
        }
    }

    /// Returns the next combinations, about [`CHANGES_MAX`], and their weights; none at the end. By input: a row of the
    /// batch, or an entry.
    pub(super) fn next(&mut self, rows: &[Rows]) -> (Vec<Vec<u32>>, Vec<i64>) {
        let mut places: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
        let mut weights = Vec::new();
        while let Some(row) = self.rows.get(self.returned).copied()
            && weights.len() < CHANGES_MAX
        {
            if self.entries.is_empty() && !self.begin(row, rows) {
                self.returned += 1;
                continue;
            }
            let mut weight = self.weights[row as usize];
            for (input, places) in places.iter_mut().enumerate() {
                if input == self.input {
                    places.push(row);
                } else {
                    weight *= rows[input].weight(self.entries[input]);
                    places.push(self.entries[input]);
                }
            }
            weights.push(weight);
            if !self.advance(row, rows) {
                self.entries.clear();
                self.returned += 1;
            }
        }
        (places, weights)
    }

    /// Sets the first combination for a row. Returns false if there is none.
    fn begin(&mut self, row: u32, rows: &[Rows]) -> bool {
        for (input, rows) in rows.iter().enumerate() {
            let first = rows.first_entry(self.slots[input][row as usize]);
            let entry = visible_from(rows, first);
            if input != self.input && entry == NONE {
                self.entries.clear();
                return false;
            }
            self.entries.push(entry);
        }
        true
    }

    /// Sets the next combination for a row. Returns false if the present one was the last.
    fn advance(&mut self, row: u32, rows: &[Rows]) -> bool {
        for (input, rows) in rows.iter().enumerate().rev() {
            if input == self.input {
                continue;
            }
            let next = visible_from(rows, rows.next_entry(self.entries[input]));
            if next != NONE {
                self.entries[input] = next;
                return true;
            }
            self.entries[input] = visible_from(rows, rows.first_entry(self.slots[input][row as usize]));
        }
        false
    }
}

/// Returns the first visible entry from one on.
fn visible_from(rows: &Rows, mut entry: u32) -> u32 {
    while entry != NONE && rows.weight(entry) <= 0 && !mutants::is_active(Mutant::InvisibleRowsCombined) {
        entry = rows.next_entry(entry);
    }
    entry
}
