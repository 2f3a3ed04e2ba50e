//! Encoding of keyed state: key columns and value columns, each row by row, or both together as blocks of columns.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use millstream_state::key_group::KeyGroup;
use millstream_state::{BlockCodec, Codec, EncodedRows};

use crate::Error;

/// Byte strings, one per row, in one buffer.
#[derive(Debug, Default)]
pub(crate) struct StoredRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl StoredRows {
    /// Appends a row.
    pub(crate) fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// Removes all rows, keeping allocations.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the bytes of a row.
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Returns all rows in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.row(index))
    }
}

/// The encodings of an operator's state.
pub(crate) struct RowFormat {
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
    /// Creates the encodings of these key and value columns. The first `hashed` key columns decide the key group.
    pub(crate) fn new(
        keys: &[FieldRef],
        hashed: usize,
        values: &[FieldRef],
        max_parallelism: u16,
    ) -> Result<Self, Error> {
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
    pub(crate) fn key_groups(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u16>, Error> {
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

    /// Encodes key columns.
    pub(crate) fn encode_keys(&self, keys: &[ArrayRef]) -> Result<EncodedRows, millstream_state::Error> {
        encode(&self.keys, &self.key_types, keys)
    }

    /// Encodes value columns.
    pub(crate) fn encode_values(&self, values: &[ArrayRef]) -> Result<EncodedRows, millstream_state::Error> {
        encode(&self.values, &self.value_types, values)
    }

    /// Decodes key columns.
    pub(crate) fn decode_keys(&self, rows: &StoredRows) -> Result<Vec<ArrayRef>, Error> {
        Ok(self.keys.decode(rows.iter())?)
    }

    /// Decodes value columns.
    pub(crate) fn decode_values(&self, rows: &StoredRows) -> Result<Vec<ArrayRef>, Error> {
        Ok(self.values.decode(rows.iter())?)
    }

    /// Appends a block of these rows: key columns, then value columns.
    pub(crate) fn encode_block(
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
    pub(crate) fn decode_block(&self, block: &[u8]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>, usize), Error> {
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
