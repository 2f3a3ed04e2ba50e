//! The right rows of a temporal join.
//!
//! In event time, a stored row begins with the time of the version, and true if the version is a deletion. So the order
//! of the stored rows of a key is that of their times.

use std::sync::Arc;

use arrow::array::{BooleanArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow_array::RecordBatch;
use millstream_connectors::{RowKind, changelog};
use millstream_graph::VersionTime;
use millstream_state::keyed::{Resolved, Rows};

use crate::Error;
use crate::operator::Timestamp;
use crate::operators::join::Side;
use crate::operators::mutants::{self, Mutant};
use crate::operators::window_aggregate::micros;

/// Place of the byte that is 1 for a deletion, after the time: a marker byte and eight bytes, and a marker byte.
const IS_DELETION: usize = 10;

/// The right input.
pub(super) struct Versions {
    pub side: Side,
    /// The event-time column, in event time.
    time: Option<usize>,
}

impl Versions {
    pub(super) fn new(schema: &SchemaRef, key: Vec<usize>, time: &VersionTime) -> Self {
        let side = Side::new(schema, key, true, false);
        match time {
            VersionTime::Event { right, .. } => Self {
                side: side.with_leading(vec![
                    DataType::Timestamp(TimeUnit::Microsecond, None),
                    DataType::Boolean,
                ]),
                time: Some(*right),
            },
            VersionTime::Processing { .. } => Self { side, time: None },
        }
    }

    /// Stores the rows of a batch. Versions that end at or before `joined_until` are removed: all left rows up to that
    /// time are joined.
    pub(super) fn apply(
        &self,
        batch: &RecordBatch,
        resolved: &Resolved,
        rows: &mut Rows,
        joined_until: Timestamp,
    ) -> Result<(), Error> {
        let kinds = changelog::kinds(batch).filter(|_| self.side.is_changelog);
        let kind = |row: usize| kinds.map_or(1, |kinds| kinds.value(row));
        let Some(time) = self.time else {
            let encoded = self.side.encode(batch, rows, Vec::new())?;
            for (row, slot) in resolved.slots.iter().enumerate() {
                rows.add(*slot, encoded.row(row), i64::from(kind(row).signum()), 0)?;
            }
            return Ok(());
        };
        let (times, _) = micros(batch.column(time))?;
        let count = batch.num_rows();
        let deletions: Vec<bool> = (0..count).map(|row| kind(row) < 0).collect();
        let leading: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(times.iter().copied())),
            Arc::new(BooleanArray::from(deletions)),
        ];
        let encoded = self.side.encode(batch, rows, leading)?;
        for (row, slot) in resolved.slots.iter().enumerate() {
            // The new version follows, and ends the former one.
            if kind(row) == RowKind::UpdateBefore as i8 {
                continue;
            }
            let same: Vec<u32> = visible(rows, *slot)
                .filter(|entry| time_of(rows.bytes(*entry)) == times[row])
                .collect();
            same.into_iter().for_each(|entry| rows.remove_row(entry));
            rows.add(*slot, encoded.row(row), 1, 0)?;
        }
        for slot in &resolved.distinct {
            let present = self.version_at(rows, *slot, joined_until);
            let ended = |entry: &u32| {
                let bytes = rows.bytes(*entry);
                let is_present = present == Some(*entry) && !is_deletion(bytes);
                time_of(bytes) <= joined_until && !is_present
            };
            let ended: Vec<u32> = visible(rows, *slot).filter(ended).collect();
            ended.into_iter().for_each(|entry| rows.remove_row(entry));
        }
        Ok(())
    }

    /// Returns the entries of a key that are valid at a time, or at present.
    pub(super) fn valid(&self, rows: &Rows, slot: u32, time: Option<Timestamp>) -> Vec<u32> {
        match time {
            Some(time) => {
                let version = self.version_at(rows, slot, time);
                version
                    .filter(|entry| !is_deletion(rows.bytes(*entry)))
                    .into_iter()
                    .collect()
            }
            None => visible(rows, slot)
                .flat_map(|entry| (0..rows.weight(entry)).map(move |_| entry))
                .collect(),
        }
    }

    fn version_at(&self, rows: &Rows, slot: u32, time: Timestamp) -> Option<u32> {
        let versions = visible(rows, slot).map(|entry| (time_of(rows.bytes(entry)), entry));
        let version = versions
            .filter(|(begin, _)| *begin <= time - i64::from(mutants::is_active(Mutant::BeginOfVersionExcluded)))
            .max();
        version.map(|(_, entry)| entry)
    }
}

fn visible(rows: &Rows, slot: u32) -> impl Iterator<Item = u32> + '_ {
    rows.entries(slot).filter(|entry| rows.weight(*entry) > 0)
}

/// Returns the time of a stored version: the first column, in the order-preserving encoding.
fn time_of(row: &[u8]) -> Timestamp {
    let bytes = row.get(1..9).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(Timestamp::MIN, |bytes| i64::from_be_bytes(bytes) ^ i64::MIN)
}

fn is_deletion(row: &[u8]) -> bool {
    row.get(IS_DELETION) == Some(&1)
}
