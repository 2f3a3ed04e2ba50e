//! The rows of one primary key in a cell, in the order of their arrival.
//!
//! The cell is a list of byte strings ([`byte_list`](crate::operators::byte_list)). Each is the weight of a row (i64
//! LE), never 0, then the encoded row. A weight is negative while a row has been deleted that has not arrived.

use std::collections::HashMap;

use millstream_graph::ConflictStrategy;

use crate::operators::byte_list;

/// Number of rows from which on they are found by hash.
const HASHED_ROWS: usize = 16;

/// The rows of a key during an update.
pub(super) struct LiveRows<'a> {
    /// Weights and rows. A row of weight 0 is removed.
    rows: Vec<(i64, &'a [u8])>,
    /// Places of the rows, if they are many.
    places: Option<HashMap<&'a [u8], usize, ahash::RandomState>>,
    /// Sum of the positive weights.
    count: i64,
}

impl<'a> LiveRows<'a> {
    /// Returns the rows of a cell; `changes` is the number of changes to come.
    pub(super) fn new(cell: &'a [u8], changes: usize) -> Self {
        let rows: Vec<(i64, &[u8])> = entries(cell).collect();
        let is_hashed = rows.len() + changes > HASHED_ROWS;
        let places = rows.iter().enumerate().map(|(place, (_, row))| (*row, place));
        Self {
            places: is_hashed.then(|| places.collect()),
            count: rows.iter().map(|(weight, _)| (*weight).max(0)).sum(),
            rows,
        }
    }

    /// Returns the number of rows.
    pub(super) fn count(&self) -> i64 {
        self.count
    }

    fn place(&self, row: &[u8]) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(row).copied(),
            None => self
                .rows
                .iter()
                .position(|(weight, other)| *weight != 0 && *other == row),
        }
    }

    /// Changes the weight of a row; a row that is new becomes the last one.
    fn change(&mut self, row: &'a [u8], by: i64) {
        let place = self.place(row).unwrap_or_else(|| {
            if let Some(places) = &mut self.places {
                places.insert(row, self.rows.len());
            }
            self.rows.push((0, row));
            self.rows.len() - 1
        });
        let weight = &mut self.rows[place].0;
        self.count += (*weight + by).max(0) - (*weight).max(0);
        *weight += by;
        if *weight == 0
            && let Some(places) = &mut self.places
        {
            places.remove(row);
        }
    }

    /// Adds a row as the last one, unless it was deleted before it arrived.
    pub(super) fn add(&mut self, row: &'a [u8]) {
        self.change(row, 1);
    }

    /// Deletes a row. With `forgets`, returns false if there is no such row, which has expired.
    pub(super) fn remove(&mut self, row: &'a [u8], forgets: bool) -> bool {
        if forgets && self.place(row).is_none() {
            return false;
        }
        self.change(row, -1);
        true
    }

    /// Gives a row new values at its place. Returns false if that is not possible.
    pub(super) fn replace(&mut self, old: &'a [u8], new: &'a [u8]) -> bool {
        if old == new && self.place(old).is_some() {
            return true;
        }
        let Some(place) = self.place(old).filter(|place| self.rows[*place].0 == 1) else {
            return false;
        };
        if self.place(new).is_some() {
            return false;
        }
        self.rows[place].1 = new;
        if let Some(places) = &mut self.places {
            places.remove(old);
            places.insert(new, place);
        }
        true
    }

    /// Returns the first and the last of several rows, which may be equal.
    pub(super) fn first_and_last(&self) -> Option<[&'a [u8]; 2]> {
        let mut live = self.rows.iter().filter(|(weight, _)| *weight > 0).map(|(_, row)| *row);
        let first = live.next()?;
        Some([first, live.next_back().unwrap_or(first)])
    }

    /// Returns the cell; empty if there are no rows.
    pub(super) fn encode(&self) -> Vec<u8> {
        let live = self.rows.iter().filter(|(weight, _)| *weight != 0);
        let entries: Vec<Vec<u8>> = live
            .map(|(weight, row)| [&weight.to_le_bytes(), *row].concat())
            .collect();
        byte_list::encode(entries.iter().map(Vec::as_slice))
    }
}

/// Returns the weights and rows of a cell.
fn entries(cell: &[u8]) -> impl Iterator<Item = (i64, &[u8])> {
    byte_list::decode(cell).into_iter().filter_map(|entry| {
        let (weight, row) = entry.split_first_chunk()?;
        Some((i64::from_le_bytes(*weight), row))
    })
}

/// Returns the row of a cell that the table has.
pub(super) fn chosen(cell: &[u8], strategy: ConflictStrategy) -> Option<&[u8]> {
    let mut live = entries(cell).filter(|(weight, _)| *weight > 0).map(|(_, row)| row);
    match strategy {
        ConflictStrategy::Nothing => live.next(),
        ConflictStrategy::Deduplicate | ConflictStrategy::Error => live.last(),
    }
}
