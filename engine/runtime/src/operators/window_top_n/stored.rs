//! Best rows and the store: writing them, and ranking what was written together.

use std::sync::Arc;

use arrow_array::RecordBatch;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};

use super::best::{Best, Cursor, Places};
use super::{Firing, WindowTopN};
use crate::Error;
use crate::operators::stored_rows::{
    ENCODE_ROWS, FrozenRows, KeyGroupSet, KeySuffix, RowFormat, StoredRows, encode_rows,
};
use crate::operators::table::Select;

/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;

/// Everything of a window that has changed since it was last written.
pub fn dirty_rows(end: i64, best: &Best, epoch: u32, format: &RowFormat) -> Result<Option<FrozenRows>, Error> {
    let places = best.next_places(&mut Cursor::default(), 0, usize::MAX, true);
    match places.len() {
        0 => Ok(None),
        _ => frozen_rows(end, best, &places, epoch, format).map(Some),
    }
}

fn frozen_rows(end: i64, best: &Best, places: &Places, epoch: u32, format: &RowFormat) -> Result<FrozenRows, Error> {
    let keys = best.partitions().keys(&Select::Indices(&places.partitions))?;
    let epoch = u64::from(epoch) << 32;
    Ok(FrozenRows {
        namespace: end,
        key_groups: format.key_groups(&keys, places.len())?,
        keys,
        suffix: KeySuffix::PerRow(places.ranks.iter().map(|rank| epoch | u64::from(*rank)).collect()),
        values: best.gather(places)?.into(),
    })
}

/// A window's rows that have left memory, encoded off the slot thread.
pub struct FrozenBest {
    end: i64,
    best: Best,
    epoch: u32,
    cursor: Cursor,
    format: Arc<RowFormat>,
    /// Held until everything is written.
    _reservation: Reservation,
}

impl FrozenBest {
    pub fn new(end: i64, best: Best, epoch: u32, format: &Arc<RowFormat>, memory: &MemoryBudget) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(best.size());
        Self {
            end,
            best,
            epoch,
            cursor: Cursor::default(),
            format: Arc::clone(format),
            _reservation: reservation,
        }
    }

    /// Notes the key groups of all partitions.
    pub fn note_written(&self, written: &mut KeyGroupSet) -> Result<(), Error> {
        let partitions = self.best.partitions();
        let keys = partitions.keys(&Select::Range(0..partitions.len()))?;
        for group in self.format.key_groups(&keys, partitions.len())? {
            written.insert(group);
        }
        Ok(())
    }

    fn encode_chunk(&mut self) -> Result<Option<FrozenRows>, Error> {
        let places = self.best.next_places(&mut self.cursor, 0, ENCODE_ROWS, true);
        match places.len() {
            0 => Ok(None),
            _ => frozen_rows(self.end, &self.best, &places, self.epoch, &self.format).map(Some),
        }
    }
}

impl FlushSource for FrozenBest {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        let part = self
            .encode_chunk()
            .map_err(|error| millstream_state::Error::Invalid(format!("the best rows of a window: {error}")))?;
        let Some(mut part) = part else {
            return Ok(None);
        };
        let rows: Vec<u32> = (0..part.key_groups.len() as u32).collect();
        encode_rows(&self.format, &mut part, &rows).map(Some)
    }
}

impl WindowTopN {
    /// Reads some more of a stored window's key group; once it is whole, its best rows are known.
    pub(super) fn read(&mut self, firing: &mut Firing) -> Result<(), Error> {
        let Some(group) = firing.key_groups.last().copied() else {
            firing.emitted = Some(Cursor::default());
            return Ok(());
        };
        let slot = KeyPrefix {
            group: KeyGroup(group),
            namespace: firing.end,
        };
        let mut values = StoredRows::default();
        let mut last = Vec::new();
        let store = &self.spill.store;
        // Rows of a partition come in the order of epoch and rank: so equal ones keep the order in which they came.
        let more = store.scan(slot, firing.after.as_deref(), SCAN_ROWS, &mut |key, value| {
            values.push(value);
            last.clear();
            last.extend_from_slice(key);
        })?;
        if !values.is_empty() {
            let rows = RecordBatch::try_new(Arc::clone(&self.ranking.input), self.format.decode_values(&values)?)?;
            firing.best.insert(&self.ranking, rows, &mut self.groups)?;
        }
        if more {
            firing.after = Some(last);
            return Ok(());
        }
        firing.after = None;
        firing.key_groups.pop();
        firing.emitted = Some(Cursor::default());
        Ok(())
    }
}
