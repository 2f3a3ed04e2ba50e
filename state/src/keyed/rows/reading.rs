//! Reading rows of a [`Rows`] collection from the store.

use arrow_array::ArrayRef;

use super::entries::{Entry, MARK, STORED};
use super::{Identity, Rows};
use crate::Error;
use crate::keyed::table::Resolved;
use crate::store::{StoreKeys, StoredRows, key_after_prefix};

/// Rows that were read from the store.
pub struct DecodedRows {
    /// The key columns.
    pub keys: Vec<ArrayRef>,
    /// The columns of the rows.
    pub values: Vec<ArrayRef>,
    /// The weight of each row.
    pub weights: Vec<i64>,
}

/// The keys that are completed by a read of the store ([`Rows::missing`]).
pub struct MissingRows {
    /// The slot of the key and the generation of each prefix that is read.
    places: Vec<(u32, u32)>,
    slots: Vec<u32>,
}

impl MissingRows {
    /// Returns the number of keys.
    pub fn keys(&self) -> usize {
        self.slots.len()
    }
}

impl Rows {
    /// Returns those of the resolved keys whose rows must be read before they are used, and the prefixes of these rows
    /// in the store: one per key and generation that may have some. `None` if there are none.
    pub fn missing(&mut self, resolved: &Resolved) -> Result<Option<(MissingRows, StoreKeys)>, Error> {
        let mut slots = Vec::new();
        for slot in resolved.distinct.iter().copied() {
            let state = &mut self.states[slot as usize];
            if !state.is_complete {
                // Generations may have expired since the key came to memory.
                state.is_complete = self.written.of_key(self.keys.hash_of(slot)).next().is_none();
            }
            if !state.is_complete {
                slots.push(slot);
            }
        }
        if slots.is_empty() {
            return Ok(None);
        }
        let encoded = self.keys.encoded_keys(&slots)?;
        let mut prefixes = StoreKeys::default();
        let mut places = Vec::with_capacity(slots.len());
        for (slot, key) in slots.iter().zip(encoded.iter()) {
            for generation in self.written.of_key(self.keys.hash_of(*slot)) {
                prefixes.push(self.prefix(*slot, generation), key);
                places.push((*slot, generation));
            }
        }
        Ok(Some((MissingRows { places, slots }, prefixes)))
    }

    /// Completes keys with the rows that the store has under their prefixes.
    pub fn load(&mut self, missing: &MissingRows, found: &[StoredRows]) -> Result<(), Error> {
        debug_assert_eq!(missing.places.len(), found.len());
        for ((slot, generation), rows) in missing.places.iter().zip(found) {
            for at in 0..rows.keys.len() {
                if let (Some(suffix), Some(value)) = (rows.keys.get(at), rows.values.get(at)) {
                    self.load_entry(*slot, suffix, value, *generation)?;
                }
            }
        }
        for slot in &missing.slots {
            self.states[*slot as usize].is_complete = true;
        }
        Ok(())
    }

    fn load_entry(&mut self, slot: u32, suffix: &[u8], value: &[u8], generation: u32) -> Result<(), Error> {
        match self.options.identity {
            Identity::Content => {
                let (weight, is_marked) = decode_weight(value)?;
                let tag = self.tag(slot, suffix);
                if self.find(slot, tag, suffix).is_none() {
                    let entry = self.push(slot, tag, suffix, generation)?;
                    self.set_weight(entry, weight);
                    self.entries[entry].flags |= STORED | if is_marked { MARK } else { 0 };
                    self.states[slot as usize].has_counts = false;
                }
            }
            Identity::Sequence => {
                let first = u64::from_be_bytes(suffix.try_into().map_err(|_| corrupt())?);
                if first >= self.states[slot as usize].since {
                    return Ok(());
                }
                for row in chunk_rows(value)? {
                    let entry = self.push(slot, first, row, generation)?;
                    self.set_weight(entry, 1);
                    self.entries[entry].flags |= STORED;
                    self.states[slot as usize].has_counts = false;
                }
            }
        }
        Ok(())
    }

    /// Returns the columns of rows as the store has them ([`Identity::Content`]): the part of a row's key after the key
    /// of the collection.
    pub fn decode_stored<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        self.codec.decode(rows)
    }

    /// Returns the key columns of rows that a scan of the collection in the store returned, and their number.
    /// Consecutive rows of one key count once, and those of the key `last` not at all; `last` becomes the last key.
    pub fn scanned_keys(&self, rows: &StoredRows, last: &mut Vec<u8>) -> Result<(Vec<ArrayRef>, usize), Error> {
        let rows: Vec<&[u8]> = (0..rows.keys.len())
            .filter_map(|at| rows.keys.get(at))
            .map(key_after_prefix)
            .collect();
        let mut suffixes = rows.clone();
        self.keys.codec().decode_first_keys(&mut suffixes)?;
        let keys = rows.iter().zip(&suffixes);
        let mut keys: Vec<&[u8]> = keys.map(|(row, suffix)| &row[..row.len() - suffix.len()]).collect();
        keys.dedup();
        keys.retain(|key| *key != last.as_slice() || last.is_empty());
        if let Some(key) = keys.last() {
            *last = key.to_vec();
        }
        let count = keys.len();
        Ok((self.keys.codec().decode_keys(keys)?, count))
    }

    /// Returns those of some stored rows ([`Identity::Content`]) that are visible and not marked: their key columns,
    /// their columns, and their weights. Rows are given as whole database keys with values.
    pub fn decode_unmarked(&self, stored: &[(&[u8], &[u8])]) -> Result<DecodedRows, Error> {
        let mut rows = Vec::new();
        let mut weights = Vec::new();
        for (key, value) in stored {
            let (weight, is_marked) = decode_weight(value)?;
            if weight > 0 && !is_marked {
                rows.push(key_after_prefix(key));
                weights.push(weight);
            }
        }
        let keys = self.keys.codec().decode_first_keys(&mut rows)?;
        Ok(DecodedRows {
            keys,
            values: self.codec.decode(rows)?,
            weights,
        })
    }

    /// Returns stored rows ([`Identity::Sequence`]): their key columns, and their columns. They are given as whole
    /// database keys with values.
    pub fn decode_chunks(&self, stored: &[(&[u8], &[u8])]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>), Error> {
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for (key, chunk) in stored {
            for row in chunk_rows(chunk)? {
                keys.push(key_after_prefix(key));
                rows.push(row);
            }
        }
        let keys = self.keys.codec().decode_first_keys(&mut keys)?;
        Ok((keys, self.codec.decode(rows)?))
    }

    /// Returns true if the store has, or will have, an entry.
    pub fn is_stored(&self, entry: u32) -> bool {
        self.entries[entry].flags & STORED != 0
    }

    /// Returns the database key under which an entry is stored.
    pub fn stored_key(&self, entry: u32) -> Result<Vec<u8>, Error> {
        let Entry {
            tag,
            key,
            stored_generation,
            ..
        } = self.entries[entry];
        let encoded = self.keys.encoded_keys(&[key])?;
        let mut stored = StoreKeys::default();
        stored.push(self.prefix(key, stored_generation), encoded.row(0));
        Ok(match self.options.identity {
            Identity::Content => [stored.key(0), self.bytes(entry)].concat(),
            Identity::Sequence => [stored.key(0), &tag.to_be_bytes()].concat(),
        })
    }
}

/// Returns the rows that are stored together.
fn chunk_rows(mut chunk: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut rows = Vec::new();
    while !chunk.is_empty() {
        let (length, rest) = chunk.split_first_chunk::<4>().ok_or_else(corrupt)?;
        let (row, rest) = rest
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or_else(corrupt)?;
        rows.push(row);
        chunk = rest;
    }
    Ok(rows)
}

fn decode_weight(value: &[u8]) -> Result<(i64, bool), Error> {
    match value.split_first_chunk::<8>() {
        Some((weight, [mark])) => Ok((i64::from_le_bytes(*weight), *mark != 0)),
        _ => Err(corrupt()),
    }
}

fn corrupt() -> Error {
    Error::Corrupt("a row of a keyed collection is not in its layout".into())
}
