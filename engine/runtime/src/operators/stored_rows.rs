//! Encoding of state as rows: key columns and value columns, each encoded row by row.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use arrow_select::take::take_arrays;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};
use millstream_state::{BlockCodec, Codec, EncodedRows};

use super::table::{Select, StateSnapshots};
use crate::Error;

/// Byte strings, one per row, in one buffer.
#[derive(Debug, Default)]
pub struct StoredRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl StoredRows {
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// Removes all rows, keeping allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn row(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.row(index))
    }
}

/// The encodings of an operator's state.
pub struct RowFormat {
    keys: Codec,
    key_types: Vec<DataType>,
    values: Codec,
    value_types: Vec<DataType>,
    /// Encodes key and value columns together.
    blocks: BlockCodec,
    /// Number of key columns, from the first on, that the exchange hashes; they decide the key group.
    hashed: usize,
    max_parallelism: u16,
}

impl RowFormat {
    pub fn new(keys: &[FieldRef], hashed: usize, values: &[FieldRef], max_parallelism: u16) -> Result<Self, Error> {
        let types =
            |fields: &[FieldRef]| -> Vec<DataType> { fields.iter().map(|field| field.data_type().clone()).collect() };
        let (key_types, value_types) = (types(keys), types(values));
        Ok(Self {
            keys: Codec::keys(&key_types)?,
            values: Codec::values(&value_types)?,
            blocks: BlockCodec::new(&[key_types.as_slice(), &value_types].concat())?,
            key_types,
            value_types,
            hashed,
            max_parallelism,
        })
    }

    /// Returns the key group of each row.
    pub fn key_groups(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u16>, Error> {
        if self.hashed == 0 {
            return Ok(vec![0; rows]);
        }
        let mut hashes = Vec::with_capacity(rows);
        millstream_state::hash_columns(&keys[..self.hashed], &mut hashes)?;
        Ok(hashes
            .iter()
            .map(|hash| KeyGroup::of_hash(*hash, self.max_parallelism).0)
            .collect())
    }

    pub fn encode_keys(&self, keys: &[ArrayRef]) -> Result<EncodedRows, millstream_state::Error> {
        encode(&self.keys, &self.key_types, keys)
    }

    fn encode_values(&self, values: &[ArrayRef]) -> Result<EncodedRows, millstream_state::Error> {
        encode(&self.values, &self.value_types, values)
    }

    pub fn decode_keys(&self, rows: &StoredRows) -> Result<Vec<ArrayRef>, Error> {
        Ok(self.keys.decode(rows.iter())?)
    }

    pub fn decode_values(&self, rows: &StoredRows) -> Result<Vec<ArrayRef>, Error> {
        Ok(self.values.decode(rows.iter())?)
    }

    /// Appends a block of these rows: key columns, then value columns.
    pub fn encode_block(
        &self,
        keys: &[ArrayRef],
        values: &[ArrayRef],
        rows: usize,
        block: &mut Vec<u8>,
    ) -> Result<(), millstream_state::Error> {
        let mut columns = as_declared(&self.key_types, keys)?;
        columns.extend(as_declared(&self.value_types, values)?);
        self.blocks.encode(&columns, rows, block)
    }

    /// Returns key columns, value columns and number of rows of a block.
    pub fn decode_block(&self, block: &[u8]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>, usize), Error> {
        let (mut keys, rows) = self.blocks.decode(block)?;
        let values = keys.split_off(self.key_types.len());
        Ok((keys, values, rows))
    }
}

fn encode(codec: &Codec, types: &[DataType], columns: &[ArrayRef]) -> Result<EncodedRows, millstream_state::Error> {
    codec.encode(&as_declared(types, columns)?)
}

/// Casts columns to the declared types. They may differ in the names of list items.
fn as_declared(types: &[DataType], columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, millstream_state::Error> {
    columns
        .iter()
        .zip(types)
        .map(|(column, data_type)| match column.data_type() == data_type {
            true => Ok(Arc::clone(column)),
            false => cast(column, data_type),
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| millstream_state::Error::Invalid(format!("state of another type than declared: {error}")))
}

/// Minimal number of rows that are encoded at once.
pub const ENCODE_ROWS: usize = 8_192;

/// The part of a row's key after the key columns.
pub enum KeySuffix {
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
pub struct FrozenRows {
    pub namespace: i64,
    pub keys: Vec<ArrayRef>,
    pub key_groups: Vec<u16>,
    pub suffix: KeySuffix,
    pub values: StateSnapshots,
}

impl FrozenRows {
    fn size(&self) -> usize {
        let keys = self.keys.iter().map(|column| column.get_array_memory_size());
        keys.sum::<usize>() + self.values.size() + self.key_groups.len() * 10
    }
}

/// A flush of frozen rows, encoded off the slot thread, part by part, each in the order of its keys.
pub struct RowFlush {
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
    pub fn new(mut parts: Vec<FrozenRows>, format: &Arc<RowFormat>, memory: &MemoryBudget) -> Self {
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
pub fn encode_rows(
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
        let slot = KeyPrefix {
            group: KeyGroup(part.key_groups[row]),
            namespace: part.namespace,
        };
        chunk.put(slot, &key, values.as_ref().map_or(&[], |values| values.row(at)));
    }
    Ok(chunk)
}

/// Converts an error in reading a table's state, for a flush.
pub fn state_error(error: Error) -> millstream_state::Error {
    millstream_state::Error::Invalid(format!("state cannot be read from its table: {error}"))
}

/// Returns some rows of columns of state.
pub fn take_rows(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>, millstream_state::Error> {
    take_arrays(columns, &UInt32Array::from(rows.to_vec()), None)
        .map_err(|error| millstream_state::Error::Invalid(format!("rows of state: {error}")))
}

/// Maximal number of rows of a block: large enough to make the database's cost per entry negligible.
pub const BLOCK_ROWS_MAX: usize = 4_096;
/// Approximate bytes of a block: few compared to a chunk.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks read from the store at once; fewer if they have many bytes.
pub const SCAN_BLOCKS: usize = 64;
/// Approximate bytes of blocks that are passed to the database at once.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Returns the number of rows per block, for `rows` rows of `bytes` bytes in all.
pub fn rows_per_block(bytes: usize, rows: usize) -> usize {
    (BLOCK_BYTES / (bytes / rows.max(1)).max(1)).clamp(1, BLOCK_ROWS_MAX)
}

/// Returns the rows ordered by key group, and otherwise in their present order (a counting sort).
pub fn rows_by_key_group(key_groups: &[u16]) -> Vec<u32> {
    let mut starts = vec![0u32; key_groups.iter().max().map_or(0, |max| *max as usize + 2)];
    for group in key_groups {
        starts[*group as usize + 1] += 1;
    }
    for group in 1..starts.len() {
        starts[group] += starts[group - 1];
    }
    let mut order = vec![0; key_groups.len()];
    for (row, group) in key_groups.iter().enumerate() {
        let place = &mut starts[*group as usize];
        order[*place as usize] = row as u32;
        *place += 1;
    }
    order
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

/// A set of key groups. Operators keep the key groups that have rows of a namespace, to delete from no others.
#[derive(Debug, Clone, Default)]
pub struct KeyGroupSet {
    /// By key group, up to the greatest one in the set.
    contained: Vec<bool>,
}

impl Extend<u16> for KeyGroupSet {
    fn extend<T: IntoIterator<Item = u16>>(&mut self, groups: T) {
        groups.into_iter().for_each(|group| self.insert(group));
    }
}

impl KeyGroupSet {
    pub fn insert(&mut self, group: u16) {
        let group = group as usize;
        if self.contained.len() <= group {
            self.contained.resize(group + 1, false);
        }
        self.contained[group] = true;
    }

    pub fn is_empty(&self) -> bool {
        !self.contained.contains(&true)
    }

    pub fn contains(&self, group: u16) -> bool {
        self.contained.get(group as usize).copied().unwrap_or(false)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u16> {
        self.contained
            .iter()
            .enumerate()
            .filter(|(_, contained)| **contained)
            .map(|(group, _)| group as u16)
    }

    pub fn to_vec(&self) -> Vec<KeyGroup> {
        self.iter().map(KeyGroup).collect()
    }
}
