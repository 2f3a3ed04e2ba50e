//! Writing changed rows of a [`Rows`](super::Rows) collection to the store.

use std::ops::Range;

use super::cells::Cells;
use super::layout::TableCodec;
use crate::Error;
use crate::encoding::EncodedRows;
use crate::memory::{MemoryBudget, Reservation};
use crate::store::{FlushSource, KeyedPrefix, WriteChunk};

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// An entry to write or delete.
pub(crate) struct Item {
    /// Number of the key among those that are frozen.
    key: usize,
    prefix: KeyedPrefix,
    is_present: bool,
    /// The part of the database key after the key, and the value, in [`FrozenRows::bytes`].
    suffix: Range<usize>,
    value: Range<usize>,
}

impl Item {
    /// Returns an entry to write. `key` is the number of its key among those that are frozen.
    pub(crate) fn put(key: usize, prefix: KeyedPrefix) -> Self {
        Self::new(key, prefix, true)
    }

    /// Returns an entry to delete.
    pub(crate) fn delete(key: usize, prefix: KeyedPrefix) -> Self {
        Self::new(key, prefix, false)
    }

    fn new(key: usize, prefix: KeyedPrefix, is_present: bool) -> Self {
        Self {
            key,
            prefix,
            is_present,
            suffix: 0..0,
            value: 0..0,
        }
    }
}

/// Changed rows, frozen.
pub struct FrozenRows {
    codec: TableCodec,
    keys: Cells,
    items: Vec<Item>,
    bytes: Vec<u8>,
    /// The encoded keys; the items are sorted once they are known.
    encoded: Option<EncodedRows>,
    written: usize,
    reservation: Option<Reservation>,
}

impl FrozenRows {
    pub(crate) fn new(codec: TableCodec, keys: Cells) -> Self {
        Self {
            codec,
            keys,
            items: Vec::new(),
            bytes: Vec::new(),
            encoded: None,
            written: 0,
            reservation: None,
        }
    }

    pub(crate) fn push(&mut self, mut item: Item, suffix: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(suffix);
        item.suffix = start..self.bytes.len();
        self.bytes.extend_from_slice(value);
        item.value = item.suffix.end..self.bytes.len();
        self.items.push(item);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the bytes of the rows.
    pub fn size(&self) -> usize {
        self.keys.size() + self.bytes.capacity() + self.items.capacity() * size_of::<Item>()
    }

    /// Charges the rows to a budget until they are written.
    #[must_use]
    pub fn charged_to(mut self, memory: &MemoryBudget) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(self.size());
        self.reservation = Some(reservation);
        self
    }

    /// Encodes the keys and sorts the entries, at the first call.
    fn prepare(&mut self) -> Result<(), Error> {
        if self.encoded.is_some() {
            return Ok(());
        }
        let rows: Vec<u32> = (0..self.keys.len() as u32).collect();
        let columns = (0..self.keys.layout().key_count()).map(|column| self.keys.gather(column, &rows));
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        let encoded = self.codec.encode_keys(&columns, rows.len())?;
        let bytes = &self.bytes;
        self.items.sort_unstable_by(|left, right| {
            let of = |item: &Item| (item.prefix, encoded.row(item.key));
            let order = of(left).cmp(&of(right));
            order.then_with(|| bytes[left.suffix.clone()].cmp(&bytes[right.suffix.clone()]))
        });
        self.encoded = Some(encoded);
        Ok(())
    }
}

impl FlushSource for FrozenRows {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        self.prepare()?;
        let Some(encoded) = &self.encoded else {
            return Ok(None);
        };
        let mut chunk = WriteChunk::keyed();
        let mut key = Vec::new();
        while let Some(item) = self.items.get(self.written).filter(|_| chunk.bytes() < WRITE_BYTES) {
            key.clear();
            key.extend_from_slice(encoded.row(item.key));
            key.extend_from_slice(&self.bytes[item.suffix.clone()]);
            match item.is_present {
                true => chunk.put_keyed(item.prefix, &key, &self.bytes[item.value.clone()]),
                false => chunk.delete_keyed(item.prefix, &key),
            }
            self.written += 1;
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
