//! Expiry of the rows of an interval join.
//!
//! The planner provides the time until which a row can have matches. Rows are grouped into generations by that time, so
//! that whole generations are deleted ([`TimeRange`]). In a batch, where the watermark does not advance, all rows are
//! of one generation.

use std::collections::BTreeMap;

use arrow::array::Array;
use arrow::buffer::NullBuffer;
use arrow_array::RecordBatch;
use millstream_graph::{Emission, TimeBounds};
use millstream_state::keyed::Rows;
use millstream_state::store::StoredValues;

use super::{JoinLogic, Role};
use crate::Error;
use crate::operator::Timestamp;
use crate::operators::keyed::{CHANGES_MAX, TimeRange, WeightedRows};
use crate::operators::mutants::{self, Mutant};
use crate::operators::window_aggregate::micros;

/// Length of the shortest generation, for [`TimeRange::of_few_lengths`]: a second. Rows stay in state for the delay of
/// the watermark at least, which is of this order, so shorter generations would be many.
const SHORTEST_EXPONENT: u32 = 12;
/// As [`SHORTEST_EXPONENT`], for rows whose expiry is output: an eighth of a second.
const SHORTEST_EXPONENT_OUTPUT: u32 = 9;

/// The bounds of a join, and the rows that are about to expire.
pub(super) struct Expiry {
    bounds: TimeBounds,
    emission: Emission,
    /// By input: true if rows without a match are emitted when they expire.
    is_output: [bool; 2],
    /// By input: the generations of its rows, and the first time that is after the expiry of all of them.
    ends: [BTreeMap<u32, Timestamp>; 2],
    /// Distance between the watermarks of inputs and output.
    lag: i64,
    /// By input: rows of both may expire at one watermark.
    expired: [ExpiredRows; 2],
}

/// Rows without a match that were removed from memory.
#[derive(Default)]
struct ExpiredRows {
    slots: Vec<u32>,
    rows: StoredValues,
    weights: Vec<i64>,
    returned: usize,
}

impl Expiry {
    pub(super) fn new(bounds: TimeBounds, roles: [Role; 2], emission: Emission) -> Self {
        // Rows without a match are emitted when their generation expires.
        let is_output = roles.map(|role| matches!(role, Role::Outer | Role::Anti));
        let retention = (0..2)
            .filter(|side| is_output[*side])
            .filter_map(|side| bounds.retention[side]);
        let longest = retention.map(|retention| range_of(0, retention, true).length()).max();
        Self {
            lag: bounds.watermark_delay.saturating_add(longest.unwrap_or(0)),
            bounds,
            emission,
            is_output,
            ends: Default::default(),
            expired: Default::default(),
        }
    }

    /// Returns the rows that are behind the watermark, or have no time.
    pub(super) fn late_rows(&self, side: usize, batch: &RecordBatch, watermark: Timestamp) -> Result<Vec<u32>, Error> {
        let column = batch.column(self.bounds.time[side]);
        let (times, nulls) = micros(column)?;
        let is_late = |row: &u32| {
            let row = *row as usize;
            nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) || times[row] <= watermark
        };
        Ok((0..batch.num_rows() as u32).filter(is_late).collect())
    }

    /// Returns `nulls` with the rows that cannot have matches as invalid, too.
    pub(super) fn with_unmatchable(
        &self,
        side: usize,
        batch: &RecordBatch,
        nulls: Option<NullBuffer>,
    ) -> Option<NullBuffer> {
        let expiry = batch.column(self.bounds.expiry[side]);
        let nulls = NullBuffer::union(nulls.as_ref(), expiry.nulls());
        nulls.filter(|nulls| nulls.null_count() > 0)
    }

    /// Returns the generation of each row.
    pub(super) fn generations(&mut self, side: usize, batch: &RecordBatch) -> Result<Vec<u32>, Error> {
        if self.emission == Emission::Final {
            self.ends[side].insert(0, Timestamp::MAX);
            return Ok(vec![0; batch.num_rows()]);
        }
        let (times, _) = micros(batch.column(self.bounds.time[side]))?;
        let (expiries, _) = micros(batch.column(self.bounds.expiry[side]))?;
        let mut last = None;
        let generations = times.iter().zip(expiries.iter()).map(|(time, expiry)| {
            let range = range_of(*time, *expiry, self.is_output[side]);
            if last != Some(range) {
                last = Some(range);
                // If a number repeats, the generation expires with the later range.
                let end = self.ends[side].entry(range.generation()).or_insert(range.end());
                *end = range.end().max(*end);
            }
            range.generation()
        });
        Ok(generations.collect())
    }

    /// Returns the generations, by input, all of whose rows have expired, and forgets them.
    pub(super) fn expired(&mut self, watermark: Timestamp) -> Vec<Vec<u32>> {
        let early_us = if mutants::is_active(Mutant::RowsExpireEarly) {
            60_000_000
        } else {
            0
        };
        let first_time = watermark.saturating_add(1 + early_us);
        let expired = self.ends.iter_mut().map(|ends| {
            let expired: Vec<u32> = ends
                .iter()
                .filter(|(_, end)| **end <= first_time)
                .map(|(generation, _)| *generation)
                .collect();
            for generation in &expired {
                ends.remove(generation);
            }
            expired
        });
        expired.collect()
    }

    /// Takes a row that is about to be removed from memory, if it has no match.
    pub(super) fn expire_row(&mut self, side: usize, rows: &Rows, entry: u32) {
        if rows.is_marked(entry) || rows.weight(entry) <= 0 || mutants::is_active(Mutant::ExpiredRowsNotEmitted) {
            return;
        }
        let expired = &mut self.expired[side];
        expired.slots.push(rows.key_of(entry));
        expired.rows.push(Some(rows.bytes(entry)));
        expired.weights.push(rows.weight(entry));
    }

    /// Returns the watermark to forward.
    pub(super) fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        match watermark {
            crate::operator::WATERMARK_MAX => watermark,
            watermark => watermark.saturating_sub(self.lag),
        }
    }

    /// Returns the generations for the manifest: input, generation, end.
    pub(super) fn inline(&self) -> Vec<(u8, u32, Timestamp)> {
        let of = |side: usize| {
            self.ends[side]
                .iter()
                .map(move |(generation, end)| (side as u8, *generation, *end))
        };
        of(0).chain(of(1)).collect()
    }

    /// Adds the generations of a subtask of a checkpoint.
    pub(super) fn restore(&mut self, inline: Vec<(u8, u32, Timestamp)>) {
        for (side, generation, end) in inline {
            if let Some(ends) = self.ends.get_mut(usize::from(side)) {
                let known = ends.entry(generation).or_insert(end);
                *known = end.max(*known);
            }
        }
    }
}

/// Returns the range of the expiry of a row that lives from `start` to `end`.
fn range_of(start: Timestamp, end: Timestamp, is_output: bool) -> TimeRange {
    let shortest = match is_output {
        true => SHORTEST_EXPONENT_OUTPUT,
        false => SHORTEST_EXPONENT,
    };
    TimeRange::of_few_lengths(start, end, shortest)
}

impl JoinLogic {
    /// Returns the next rows without a match that were removed from memory.
    pub(super) fn next_expired(&mut self, rows: &[Rows]) -> Result<Option<WeightedRows>, Error> {
        let Some(expiry) = &mut self.expiry else {
            return Ok(None);
        };
        let Some(side) = (0..2).find(|side| !expiry.expired[*side].weights.is_empty()) else {
            return Ok(None);
        };
        let expired = &mut expiry.expired[side];
        let end = expired.weights.len().min(expired.returned + CHANGES_MAX);
        let range = expired.returned..end;
        expired.returned = end;
        let keys = rows[side].keys(&expired.slots[range.clone()])?;
        let values = rows[side].decode_stored(range.clone().filter_map(|at| expired.rows.get(at)))?;
        let weights = expired.weights[range].to_vec();
        if expired.returned == expired.weights.len() {
            *expired = ExpiredRows::default();
        }
        let columns = self.sides[side].assemble(&keys, &values);
        Ok(Some(self.unmatched_rows(side, columns, weights)))
    }
}
