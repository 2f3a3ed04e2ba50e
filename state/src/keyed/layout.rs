//! The columns of rows of cells, and the encodings of such rows in the store.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::DataType;

use crate::Error;
use crate::encoding::{Codec, EncodedRows};

/// Bytes of the cell of a string.
pub(super) const BYTES_CELL: usize = 16;

/// The columns of rows of cells: key columns, then value columns.
#[derive(Debug)]
pub struct Layout {
    pub(super) columns: Vec<CellColumn>,
    /// Number of key columns.
    keys: usize,
    /// Bytes of a row.
    pub(super) stride: usize,
}

/// A column of cells.
#[derive(Debug)]
pub(super) struct CellColumn {
    pub data_type: DataType,
    pub kind: CellKind,
    /// First byte of the cell in its row.
    pub offset: usize,
}

/// Representation of a column's values in cells.
#[derive(Debug)]
pub(crate) enum CellKind {
    /// Values of this many bytes: 1, 2, 4, 8 or 16.
    Fixed(usize),
    /// One byte, 0 or 1.
    Boolean,
    /// UTF-8 strings and byte strings.
    Bytes,
    /// Values of other types, as byte strings in this encoding.
    Encoded(Codec),
}

impl Layout {
    /// Creates the layout of rows with these columns. Fails for types that state cannot hold.
    pub fn new(keys: &[DataType], values: &[DataType]) -> Result<Arc<Self>, Error> {
        let count = keys.len() + values.len();
        let mut offset = count.div_ceil(8);
        let mut columns = Vec::with_capacity(count);
        for (index, data_type) in keys.iter().chain(values).enumerate() {
            let kind = CellKind::new(data_type, index < keys.len())?;
            let width = match &kind {
                CellKind::Fixed(width) => *width,
                CellKind::Boolean => 1,
                CellKind::Bytes | CellKind::Encoded(_) => BYTES_CELL,
            };
            columns.push(CellColumn {
                data_type: data_type.clone(),
                kind,
                offset,
            });
            offset += width;
        }
        Ok(Arc::new(Self {
            columns,
            keys: keys.len(),
            stride: offset.max(1),
        }))
    }

    /// Returns the number of key columns.
    pub fn key_count(&self) -> usize {
        self.keys
    }

    /// Returns the number of columns.
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Returns the types of the key columns.
    pub(crate) fn key_types(&self) -> Vec<DataType> {
        self.columns[..self.keys]
            .iter()
            .map(|column| column.data_type.clone())
            .collect()
    }

    /// Returns the types of the value columns.
    pub(crate) fn value_types(&self) -> Vec<DataType> {
        self.columns[self.keys..]
            .iter()
            .map(|column| column.data_type.clone())
            .collect()
    }

    pub(crate) fn kind(&self, column: usize) -> &CellKind {
        &self.columns[column].kind
    }
}

impl CellKind {
    fn new(data_type: &DataType, is_key: bool) -> Result<Self, Error> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Utf8 | DataType::Binary => Self::Bytes,
            _ => match data_type.primitive_width() {
                Some(width @ (1 | 2 | 4 | 8 | 16)) => Self::Fixed(width),
                _ => {
                    let types = std::slice::from_ref(data_type);
                    // Only in the encoding of keys, equal values have equal bytes.
                    Self::Encoded(match is_key {
                        true => Codec::keys(types)?,
                        false => Codec::values(types)?,
                    })
                }
            },
        })
    }
}

/// The encodings of a table's keys and rows in the store.
#[derive(Debug, Clone)]
pub(crate) struct TableCodec {
    keys: Codec,
    values: Codec,
}

impl TableCodec {
    pub(crate) fn new(layout: &Layout) -> Result<Self, Error> {
        Ok(Self {
            keys: Codec::keys(&layout.key_types())?,
            values: Codec::values(&layout.value_types())?,
        })
    }

    pub(crate) fn encode_keys(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows, Error> {
        encode(&self.keys, columns, rows)
    }

    pub(crate) fn encode_values(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows, Error> {
        encode(&self.values, columns, rows)
    }

    pub(crate) fn decode_keys<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        self.keys.decode(rows)
    }

    /// Decodes the keys at the beginning of byte strings, which become what follows them.
    pub(crate) fn decode_first_keys(&self, rows: &mut [&[u8]]) -> Result<Vec<ArrayRef>, Error> {
        self.keys.decode_first(rows)
    }

    pub(crate) fn decode_values<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        self.values.decode(rows)
    }
}

/// Encodes columns; without columns, as empty rows.
fn encode(codec: &Codec, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows, Error> {
    match columns.is_empty() {
        true => Ok(EncodedRows::empty_rows(rows)),
        false => codec.encode(columns),
    }
}
