//! The encoding of rows as byte strings: the keys and values of state.
//!
//! Both encodings are version 1 ([`ENCODING_VERSION`]; a store's values begin with that version). A row is its columns
//! one after the other; each is a marker byte, `00` for null or `01`, and then, unless null:
//!
//! ```text
//! type                                   keys (order-preserving)              values (compact)
//! boolean                                1 byte, 0 or 1                       the same
//! signed integers, dates, times,         big-endian, sign bit flipped         little-endian
//!   timestamps, durations, decimals
//! unsigned integers                      big-endian                           little-endian
//! floats (IEEE bits)                     big-endian; sign set: all bits       little-endian, bits as they are
//!                                        flipped, else sign bit flipped;
//!                                        -0.0 as 0.0, every NaN the positive quiet one
//! interval year-month / day-time /       each part as a signed integer        little-endian parts
//!   month-day-nano                       (months i32; days i32, ms i32; months i32, days i32, ns i64)
//! strings, binary                        bytes, `00` as `00 FF`, end `00 00`  length (LEB128), bytes
//! fixed-size binary                      the bytes                            the bytes
//! structs                                the fields, each like a column       the same
//! lists, large lists, fixed-size lists   `01` element (as a column) ...,      count (LEB128), elements (as columns)
//! and maps (lists of entries)            end `00`
//! null type                              only the marker `00`                 the same
//! ```
//!
//! Keys compare byte by byte as their rows do, column by column, nulls first, a shorter list before a longer one. Equal
//! keys have equal bytes (hence the floats' zeros and NaNs). Values keep every bit. Dictionaries, unions and
//! run-end-encoded columns are refused: state never has them.

mod block;
mod decode;
mod encode;
mod primitive;

use arrow_array::ArrayRef;
use arrow_schema::DataType;

use crate::Error;

pub use block::{BLOCK_ROWS_MAX, BlockCodec};

/// Version of both encodings.
pub const ENCODING_VERSION: u8 = 1;

const NULL: u8 = 0;
const PRESENT: u8 = 1;

/// An encoding of the rows of columns of given types.
#[derive(Debug, Clone)]
pub struct Codec {
    types: Vec<DataType>,
    ordered: bool,
}

impl Codec {
    /// Returns the order-preserving encoding. Fails for types that state cannot hold.
    pub fn keys(types: &[DataType]) -> Result<Self, Error> {
        Self::new(types, true)
    }

    /// Returns the compact encoding. Fails for types that state cannot hold.
    pub fn values(types: &[DataType]) -> Result<Self, Error> {
        Self::new(types, false)
    }

    fn new(types: &[DataType], ordered: bool) -> Result<Self, Error> {
        types.iter().try_for_each(check)?;
        Ok(Self {
            types: types.to_vec(),
            ordered,
        })
    }

    /// Encodes rows. Fails unless the columns have the codec's types and equal lengths.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedRows, Error> {
        let rows = columns.first().map_or(0, |column| column.len());
        if columns.len() != self.types.len() || columns.iter().any(|column| column.len() != rows) {
            return Err(Error::Invalid(format!(
                "{} columns of lengths {:?} given to an encoding of {} columns",
                columns.len(),
                columns.iter().map(|column| column.len()).collect::<Vec<_>>(),
                self.types.len()
            )));
        }
        for (column, expected) in columns.iter().zip(&self.types) {
            if column.data_type() != expected {
                return Err(Error::Invalid(format!(
                    "a column of type {} given to an encoding of {expected}",
                    column.data_type()
                )));
            }
        }
        Ok(match self.ordered {
            true => encode::rows::<true>(columns, rows),
            false => encode::rows::<false>(columns, rows),
        })
    }

    /// Decodes rows to columns. Fails with [`Error::Corrupt`] for bytes that are not the encoding of a row.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        let mut cursors: Vec<&[u8]> = rows.into_iter().collect();
        let columns = self.decode_first(&mut cursors)?;
        if cursors.iter().any(|rest| !rest.is_empty()) {
            return Err(Error::Corrupt("an encoded row has bytes behind its last column".into()));
        }
        Ok(columns)
    }

    /// Decodes some columns of rows: those with the numbers `wanted`, which ascend. Fails with [`Error::Corrupt`] for
    /// bytes that are not the encoding of a row.
    pub fn decode_some<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a [u8]>,
        wanted: &[usize],
    ) -> Result<Vec<ArrayRef>, Error> {
        let mut cursors: Vec<&[u8]> = rows.into_iter().collect();
        let mut columns = Vec::with_capacity(wanted.len());
        for (column, data_type) in self.types.iter().enumerate() {
            if columns.len() == wanted.len() {
                break;
            }
            match (wanted.contains(&column), self.ordered) {
                (true, true) => columns.push(decode::column::<true>(data_type, &mut cursors)?),
                (true, false) => columns.push(decode::column::<false>(data_type, &mut cursors)?),
                (false, true) => decode::skip_column::<true>(data_type, &mut cursors)?,
                (false, false) => decode::skip_column::<false>(data_type, &mut cursors)?,
            }
        }
        Ok(columns)
    }

    /// Decodes the rows at the beginning of byte strings, which become what follows the rows.
    pub(crate) fn decode_first(&self, cursors: &mut [&[u8]]) -> Result<Vec<ArrayRef>, Error> {
        let columns = self.types.iter().map(|data_type| match self.ordered {
            true => decode::column::<true>(data_type, cursors),
            false => decode::column::<false>(data_type, cursors),
        });
        columns.collect()
    }
}

/// Encoded rows in one buffer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    /// Row `i` is `offsets[i]..offsets[i + 1]`; empty if there are no rows.
    offsets: Vec<usize>,
}

impl EncodedRows {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns rows without columns.
    pub(crate) fn empty_rows(rows: usize) -> Self {
        Self {
            bytes: Vec::new(),
            offsets: vec![0; rows + 1],
        }
    }

    /// Returns the bytes of a row. Panics if there is no such row.
    #[inline]
    pub fn row(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index]..self.offsets[index + 1]]
    }

    /// Iterates over the rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.offsets.windows(2).map(|ends| &self.bytes[ends[0]..ends[1]])
    }

    /// Returns the bytes of all rows, concatenated.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Returns an error for types that state cannot hold.
fn check(data_type: &DataType) -> Result<(), Error> {
    match data_type {
        DataType::Dictionary(..)
        | DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => Err(Error::Invalid(format!(
            "values of type {data_type} cannot be kept in state"
        ))),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            check(field.data_type())
        }
        DataType::Map(field, _) => check(field.data_type()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
