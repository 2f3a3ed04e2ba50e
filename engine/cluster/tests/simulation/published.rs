//! The outside system that the job writes to: rows become visible when what was prepared is committed.

use std::collections::BTreeMap;

use crate::world::World;

/// One row of the answer; the second number is a time.
pub type Row = (i64, i64, i64, i64);
/// A row and the table that it was written to.
pub type Written = (String, Row);

#[derive(Default)]
pub struct Published {
    /// By what was prepared together: the table's name, a slash, and more.
    pub epochs: BTreeMap<String, Vec<Row>>,
}

impl Published {
    /// Everything that is visible, in order.
    pub fn rows(&self) -> Vec<Written> {
        let table = |id: &str| id.split('/').next().unwrap_or_default().to_string();
        let epochs = self.epochs.iter();
        let mut rows: Vec<Written> = epochs
            .flat_map(|(id, rows)| rows.iter().map(move |row| (table(id), *row)))
            .collect();
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
