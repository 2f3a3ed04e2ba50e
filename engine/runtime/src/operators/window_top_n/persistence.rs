//! Writing ranked rows to the store.

use std::sync::Arc;

use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, WriteChunk};

use super::ranked_rows::{Cursor, RankedRows, RowRefs};
use crate::Error;
use crate::operators::keyed_state::{ENCODE_ROWS, FrozenRows, KeySuffix, RowFormat, encode_rows};
use crate::operators::table::Select;
use crate::operators::window_panes::PaneState;

/// Copies the partitions of a window that have changed since they were last written; `None` if there are none.
pub(super) fn dirty_rows(end: i64, ranked: &RankedRows, format: &RowFormat) -> Result<Option<FrozenRows>, Error> {
    let rows = ranked.next_dirty_rows(&mut Cursor::default(), usize::MAX);
    match rows.len() {
        0 => Ok(None),
        _ => frozen_rows(end, ranked, &rows, format).map(Some),
    }
}

/// Returns the key groups of all partitions.
pub(super) fn key_groups(ranked: &RankedRows, format: &RowFormat) -> Result<Vec<u16>, Error> {
    let partitions = ranked.partitions();
    let keys = partitions.keys(&Select::Range(0..partitions.len()))?;
    format.key_groups(&keys, partitions.len())
}

fn frozen_rows(end: i64, ranked: &RankedRows, rows: &RowRefs, format: &RowFormat) -> Result<FrozenRows, Error> {
    let keys = ranked.partitions().keys(&Select::Indices(&rows.partitions))?;
    let epoch = u64::from(ranked.epoch) << 32;
    Ok(FrozenRows {
        namespace: end,
        key_groups: format.key_groups(&keys, rows.len())?,
        keys,
        suffix: KeySuffix::PerRow(rows.numbers.iter().map(|rank| epoch | u64::from(*rank)).collect()),
        values: ranked.gather(rows)?.into(),
    })
}

/// A flush of the rows of an evicted window, encoded off the slot thread.
pub(super) struct RankedRowFlush {
    end: i64,
    ranked: RankedRows,
    cursor: Cursor,
    format: Arc<RowFormat>,
    /// Released when everything is written.
    _reservation: Reservation,
}

impl RankedRowFlush {
    /// Creates a flush of the window that ends here.
    pub(super) fn new(end: i64, ranked: RankedRows, format: &Arc<RowFormat>, memory: &MemoryBudget) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(ranked.size());
        Self {
            end,
            ranked,
            cursor: Cursor::default(),
            format: Arc::clone(format),
            _reservation: reservation,
        }
    }

    fn encode_chunk(&mut self) -> Result<Option<FrozenRows>, Error> {
        let rows = self.ranked.next_dirty_rows(&mut self.cursor, ENCODE_ROWS);
        match rows.len() {
            0 => Ok(None),
            _ => frozen_rows(self.end, &self.ranked, &rows, &self.format).map(Some),
        }
    }
}

impl FlushSource for RankedRowFlush {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        let part = self
            .encode_chunk()
            .map_err(|error| millstream_state::Error::Invalid(format!("ranked rows of a window: {error}")))?;
        let Some(mut part) = part else {
            return Ok(None);
        };
        let rows: Vec<u32> = (0..part.key_groups.len() as u32).collect();
        encode_rows(&self.format, &mut part, &rows).map(Some)
    }
}
