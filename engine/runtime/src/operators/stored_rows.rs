//! Rows of state as the store keeps them: key columns and value columns, each encoded row by row.

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use arrow_row::{RowConverter, SortField};

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

/// How the rows of one operator are encoded.
pub struct RowFormat {
    keys: RowConverter,
    values: RowConverter,
    /// How many of the key columns decide the key group.
    hashed: usize,
    max_parallelism: u16,
}

impl RowFormat {
    pub fn new(keys: &[FieldRef], hashed: usize, values: &[FieldRef], max_parallelism: u16) -> Result<Self, Error> {
        let converter = |fields: &[FieldRef]| {
            RowConverter::new(
                fields
                    .iter()
                    .map(|field| SortField::new(field.data_type().clone()))
                    .collect(),
            )
        };
        Ok(Self {
            keys: converter(keys)?,
            values: converter(values)?,
            hashed,
            max_parallelism,
        })
    }

    /// The key group of each row.
    pub fn key_groups(&self, keys: &[ArrayRef], rows: usize) -> Vec<u16> {
        if self.hashed == 0 {
            return vec![0; rows];
        }
        vec![keys.len() as u16 % self.max_parallelism; rows]
    }

    pub fn encode_keys(&self, keys: &[ArrayRef], rows: usize) -> Result<StoredRows, millstream_state::Error> {
        encode(&self.keys, keys, rows)
    }

    pub fn encode_values(&self, values: &[ArrayRef], rows: usize) -> Result<StoredRows, millstream_state::Error> {
        encode(&self.values, values, rows)
    }

    pub fn decode_keys(&self, rows: &StoredRows) -> Result<Vec<ArrayRef>, Error> {
        let parser = self.keys.parser();
        Ok(self.keys.convert_rows(rows.iter().map(|row| parser.parse(row)))?)
    }

    pub fn decode_values(&self, rows: &StoredRows) -> Result<Vec<ArrayRef>, Error> {
        let parser = self.values.parser();
        Ok(self.values.convert_rows(rows.iter().map(|row| parser.parse(row)))?)
    }
}

fn encode(converter: &RowConverter, columns: &[ArrayRef], rows: usize) -> Result<StoredRows, millstream_state::Error> {
    let mut encoded = StoredRows::default();
    if columns.is_empty() {
        for _ in 0..rows {
            encoded.push(b"");
        }
        return Ok(encoded);
    }
    let rows = converter
        .convert_columns(columns)
        .map_err(|error| millstream_state::Error::Corrupt(error.to_string()))?;
    for row in rows.iter() {
        encoded.push(row.data());
    }
    Ok(encoded)
}
