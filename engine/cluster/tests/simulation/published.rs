//! The external system that the jobs write to: rows become visible when their committable is committed.

use std::collections::BTreeMap;

use crate::world::World;

/// A row of the output; the second number is a time.
pub type Row = (i64, i64, i64, i64);
/// A row and the table it was written to.
pub type Written = (String, Row);
/// A row, and 1 if it is added to its table or -1 if it is removed.
pub type Change = (Row, i64);

#[derive(Default)]
pub struct Published {
    /// Changes by committable: the name of the table, a slash, and a unique id.
    pub epochs: BTreeMap<String, Vec<Change>>,
}

impl Published {
    /// Returns the visible rows after all changes, in order. Rows that were removed more often than they were added
    /// have a minus before the name of their table.
    pub fn rows(&self) -> Vec<Written> {
        let mut weights: BTreeMap<Written, i64> = BTreeMap::new();
        for (id, changes) in &self.epochs {
            let table = id.split('/').next().unwrap_or_default();
            for (row, weight) in changes {
                *weights.entry((table.to_string(), *row)).or_default() += weight;
            }
        }
        let rows = weights.into_iter().flat_map(|((table, row), weight)| {
            let sign = if weight < 0 { "-" } else { "" };
            std::iter::repeat_n((format!("{sign}{table}"), row), weight.unsigned_abs() as usize)
        });
        let mut rows: Vec<Written> = rows.collect();
        rows.sort_unstable();
        rows
    }
}

impl World {
    /// Makes rows visible. Repeating it has no effect.
    pub fn publish(&mut self, id: &str, rows: Vec<Change>) {
        let count = rows.len();
        let first = self.published.epochs.insert(id.to_string(), rows).is_none();
        let again = if first { "" } else { " again" };
        self.note(&format!("{count} rows of {id} are published{again}"));
    }
}
