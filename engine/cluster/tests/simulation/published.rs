//! The external system that the jobs write to: rows become visible when their committable is committed.

use std::collections::BTreeMap;

use crate::world::World;

/// A row of the output; the second number is a time.
pub type Row = (i64, i64, i64, i64);
/// A row and the table it was written to.
pub type Written = (String, Row);

#[derive(Default)]
pub struct Published {
    /// Rows by committable: the name of the table, a slash, and a unique id.
    pub epochs: BTreeMap<String, Vec<Row>>,
}

impl Published {
    /// Returns all visible rows, in order.
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
    /// Makes rows visible. Repeating it has no effect.
    pub fn publish(&mut self, id: &str, rows: Vec<Row>) {
        let count = rows.len();
        let first = self.published.epochs.insert(id.to_string(), rows).is_none();
        let again = if first { "" } else { " again" };
        self.note(&format!("{count} rows of {id} are published{again}"));
    }
}
