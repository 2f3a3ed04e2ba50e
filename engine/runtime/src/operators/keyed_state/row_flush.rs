//! Writing frozen rows to the store, each under its key.
//!
//! Key of a row: the key columns in the store's key encoding, then a [`KeySuffix`]. Value: the value columns in the
//! store's row encoding.

use std::sync::Arc;

use arrow::array::ArrayRef;
use millstream_state::EncodedRows;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};

use super::blocks::{rows_by_key_group, state_error, take_rows};
use super::row_format::RowFormat;
use crate::operators::table::{Select, StateSnapshots};

/// Minimal number of rows that are encoded at once.
pub(crate) const ENCODE_ROWS: usize = 8_192;

/// The part of a row's key after the key columns.
pub(crate) enum KeySuffix {
    /// The same for all rows, as u32 BE.
    Constant(u32),
    /// One number per row, as u64 BE.
    PerRow(Vec<u64>),
}

impl KeySuffix {
    fn of(&self, row: usize) -> u64 {
        match self {
            Self::Constant(number) => u64::from(*number),
            Self::PerRow(numbers) => numbers[row],
        }
    }

    fn append(&self, row: usize, key: &mut Vec<u8>) {
        match self {
            Self::Constant(number) => key.extend_from_slice(&number.to_be_bytes()),
            Self::PerRow(numbers) => key.extend_from_slice(&numbers[row].to_be_bytes()),
        }
    }
}

/// A copy of rows of one namespace.
pub(crate) struct FrozenRows {
    /// Namespace of the rows.
    pub namespace: i64,
    /// Key columns.
    pub keys: Vec<ArrayRef>,
    /// Key group of each row.
    pub key_groups: Vec<u16>,
    /// The rest of each row's key.
    pub suffix: KeySuffix,
    /// Value columns.
    pub values: StateSnapshots,
}

impl FrozenRows {
    fn size(&self) -> usize {
        let keys = self.keys.iter().map(|column| column.get_array_memory_size());
        keys.sum::<usize>() + self.values.size() + self.key_groups.len() * 10
    }
}

/// A flush of frozen rows, encoded off the slot thread, part by part, each in the order of its keys.
pub(crate) struct RowFlush {
    /// Parts to be encoded, the next one last.
    parts: Vec<FrozenRows>,
    current: Option<Encoding>,
    format: Arc<RowFormat>,
    /// Released when everything is written.
    _reservation: Reservation,
}

/// A part that is being encoded: its rows by key group, and the next one.
struct Encoding {
    part: FrozenRows,
    order: Vec<u32>,
    next: usize,
}

impl RowFlush {
    /// Creates a flush of parts, which are written in this order.
    pub(crate) fn new(mut parts: Vec<FrozenRows>, format: &Arc<RowFormat>, memory: &MemoryBudget) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(parts.iter().map(FrozenRows::size).sum());
        parts.reverse();
        Self {
            parts,
            current: None,
            format: Arc::clone(format),
            _reservation: reservation,
        }
    }

    /// Encodes the next key groups. Only whole key groups, so that few rows are sorted at once.
    fn encode_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        let mut encoding = match self.current.take() {
            Some(encoding) => encoding,
            None => {
                let Some(part) = self.parts.pop() else {
                    return Ok(None);
                };
                Encoding {
                    order: rows_by_key_group(&part.key_groups),
                    part,
                    next: 0,
                }
            }
        };
        let Encoding { part, order, next } = &mut encoding;
        let mut to = *next;
        while to < order.len() && to - *next < ENCODE_ROWS {
            let group = part.key_groups[order[to] as usize];
            while to < order.len() && part.key_groups[order[to] as usize] == group {
                to += 1;
            }
        }
        let chunk = encode_rows(&self.format, part, &order[*next..to])?;
        *next = to;
        if to < order.len() {
            self.current = Some(encoding);
        }
        Ok(Some(chunk))
    }
}

/// Encodes some rows of a part, in the order of their keys.
pub(crate) fn encode_rows(
    format: &RowFormat,
    part: &mut FrozenRows,
    rows: &[u32],
) -> Result<WriteChunk, millstream_state::Error> {
    let keys = match part.keys.is_empty() {
        true => None,
        false => Some(format.encode_keys(&take_rows(&part.keys, rows)?)?),
    };
    let places = key_order(part, rows, keys.as_ref());
    let sorted: Vec<u32> = places.iter().map(|place| rows[*place as usize]).collect();
    let columns = part.values.read(&Select::Indices(&sorted)).map_err(state_error)?;
    // A row without columns has an empty value.
    let values = (!columns.is_empty())
        .then(|| format.encode_values(&columns))
        .transpose()?;
    let mut chunk = WriteChunk::default();
    let mut key = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let row = rows[*place as usize] as usize;
        key.clear();
        if let Some(keys) = &keys {
            key.extend_from_slice(keys.row(*place as usize));
        }
        part.suffix.append(row, &mut key);
        let prefix = KeyPrefix {
            group: KeyGroup(part.key_groups[row]),
            namespace: part.namespace,
        };
        chunk.put(prefix, &key, values.as_ref().map_or(&[], |values| values.row(at)));
    }
    Ok(chunk)
}

/// Returns the indices of `rows` in the order of their keys in the store; `keys` are the keys of these rows.
fn key_order(part: &FrozenRows, rows: &[u32], keys: Option<&EncodedRows>) -> Vec<u32> {
    let key_of = |place: u32| -> &[u8] { keys.map_or(&[], |keys| keys.row(place as usize)) };
    let suffix_of = |place: u32| part.suffix.of(rows[place as usize] as usize);
    // Key group and the key's first bytes decide nearly always, as one integer.
    let mut places: Vec<(u128, u32)> = (0..rows.len() as u32)
        .map(|place| {
            let key = key_of(place);
            let taken = key.len().min(PREFIX_BYTES);
            let mut prefix = [0; size_of::<u128>()];
            prefix[..2].copy_from_slice(&part.key_groups[rows[place as usize] as usize].to_be_bytes());
            prefix[2..2 + taken].copy_from_slice(&key[..taken]);
            (u128::from_be_bytes(prefix), place)
        })
        .collect();
    places.sort_unstable_by(|(a, place_a), (b, place_b)| {
        a.cmp(b)
            .then_with(|| (key_of(*place_a), suffix_of(*place_a)).cmp(&(key_of(*place_b), suffix_of(*place_b))))
    });
    places.into_iter().map(|(_, place)| place).collect()
}

/// Leading bytes of a key that are compared at once, together with its key group.
const PREFIX_BYTES: usize = size_of::<u128>() - size_of::<u16>();

impl FlushSource for RowFlush {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        self.encode_chunk()
    }
}
