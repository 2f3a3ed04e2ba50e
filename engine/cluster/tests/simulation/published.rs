//! The outside system that the job writes to: rows become visible when what was prepared is committed.

use std::collections::BTreeMap;

use crate::world::World;

/// One row of the answer: key, window start, how many, their sum.
pub type Row = (i64, i64, i64, i64);

#[derive(Default)]
pub struct Published {
    /// By what was prepared together.
    pub epochs: BTreeMap<String, Vec<Row>>,
}

impl Published {
    /// Everything that is visible, in order.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.epochs.values().flatten().copied().collect();
        rows.sort_unstable();
        rows
    }
}

impl World {
    /// Doing it again makes no difference.
    pub fn publish(&mut self, id: &str, rows: Vec<Row>) {
        let count = rows.len();
        let first = self.published.epochs.insert(id.to_string(), rows).is_none();
        let again = if first { "" } else { " again" };
        self.note(&format!("{count} rows of {id} are published{again}"));
    }
}
