//! Writing changed rows of a table to the store.

use arrow_array::ArrayRef;

use super::cells::Cells;
use super::layout::TableCodec;
use crate::Error;
use crate::memory::{MemoryBudget, Reservation};
use crate::store::{FlushSource, KeyedPrefix, WriteChunk};

/// Rows that are encoded at once.
const CHUNK_ROWS: usize = 8_192;

/// Changed rows of a table, frozen.
pub struct FrozenTable {
    codec: TableCodec,
    cells: Cells,
    prefixes: Vec<KeyedPrefix>,
    /// False for rows to delete.
    present: Vec<bool>,
    /// The rows in the order of the store; `None` until the first chunk.
    order: Option<Vec<u32>>,
    written: usize,
    reservation: Option<Reservation>,
}

impl FrozenTable {
    pub(crate) fn new(codec: TableCodec, cells: Cells, prefixes: Vec<KeyedPrefix>, present: Vec<bool>) -> Self {
        debug_assert!(cells.len() == prefixes.len() && prefixes.len() == present.len());
        Self {
            codec,
            cells,
            prefixes,
            present,
            order: None,
            written: 0,
            reservation: None,
        }
    }

    /// Returns the bytes of the rows.
    pub fn size(&self) -> usize {
        self.cells.size() + self.prefixes.len() * (size_of::<KeyedPrefix>() + size_of::<u32>() + 1)
    }

    /// Charges the rows to a budget until they are written.
    #[must_use]
    pub fn charged_to(mut self, memory: &MemoryBudget) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(self.size());
        self.reservation = Some(reservation);
        self
    }

    fn columns(&self, columns: std::ops::Range<usize>, rows: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        columns.map(|column| self.cells.gather(column, rows)).collect()
    }
}

impl FlushSource for FrozenTable {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        if self.order.is_none() {
            let mut order: Vec<u32> = (0..self.prefixes.len() as u32).collect();
            order.sort_unstable_by_key(|row| self.prefixes[*row as usize]);
            self.order = Some(order);
        }
        let order = self.order.as_deref().unwrap_or_default();
        let rest = &order[self.written.min(order.len())..];
        let rows = &rest[..rest.len().min(CHUNK_ROWS)];
        if rows.is_empty() {
            return Ok(None);
        }
        let (keys, columns) = (self.cells.layout().key_count(), self.cells.layout().column_count());
        let keys_encoded = self.codec.encode_keys(&self.columns(0..keys, rows)?, rows.len())?;
        let values = self
            .codec
            .encode_values(&self.columns(keys..columns, rows)?, rows.len())?;
        let mut chunk = WriteChunk::keyed();
        for (at, row) in rows.iter().enumerate() {
            let prefix = self.prefixes[*row as usize];
            match self.present[*row as usize] {
                true => chunk.put_keyed(prefix, keys_encoded.row(at), values.row(at)),
                false => chunk.delete_keyed(prefix, keys_encoded.row(at)),
            }
        }
        self.written += rows.len();
        Ok(Some(chunk))
    }
}
