//! The encoding of blocks: many rows as one byte string, column by column, for state that is written once and read
//! whole.
//!
//! The database takes about a microsecond for a row, and hardly more for a block of some thousand rows. Layout, version
//! 2 (integers little-endian):
//!
//! ```text
//! 0   1   layout version = 2
//! 1   4   rows, at most BLOCK_ROWS_MAX
//! then each column:
//!     1   kind: 0 packed, 1 rows, 2 strings
//! packed (integers, dates, times, timestamps, durations, floats by their bits, of 4 or 8 bytes):
//!     1   0: no nulls; 1: a bitmap follows, ceil(rows / 8) bytes, lowest bit first, set where present
//!     1   width: 0, 1, 2, 4 or 8
//!     8   base, i64
//!         each row's distance from the base, unsigned, of `width` bytes
//! strings (Utf8 and Binary):
//!     1   nulls, as for packed columns, and their bitmap
//!     1   width of a length: 1, 2 or 4
//!         each row's length, unsigned, of `width` bytes
//!         the bytes of all rows, one after the other (the bytes of a null row have no meaning)
//! rows (all other types):
//!     4   length of each row
//!         each row in the compact encoding of values
//! ```
//!
//! Version 1, which is still read, encoded strings as rows.

mod strings;
mod unpack;

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use self::strings::{append_strings, is_string, take_strings};
use self::unpack::{corrupt, take_array, take_byte, unpack, unpack_rows};
use super::{Codec, check};
use crate::Error;

/// Largest number of rows in a block, which limits the memory that decoding damaged bytes can allocate.
pub const BLOCK_ROWS_MAX: usize = 65_536;

const LAYOUT_VERSION: u8 = 2;
const LAYOUT_VERSION_MIN: u8 = 1;
const PACKED: u8 = 0;
const ROWS: u8 = 1;
const STRINGS: u8 = 2;

/// An encoding of blocks with columns of given types.
#[derive(Debug, Clone)]
pub struct BlockCodec {
    types: Vec<DataType>,
    /// Codecs of the columns that are not packed. Strings have one, too, for blocks of version 1.
    rows: Vec<Option<Codec>>,
}

impl BlockCodec {
    /// Returns the encoding for columns of these types. Fails for types that state cannot hold.
    pub fn new(types: &[DataType]) -> Result<Self, Error> {
        types.iter().try_for_each(check)?;
        let rows = types.iter().map(|data_type| match packed_bytes(data_type) {
            Some(_) => Ok(None),
            None => Codec::values(std::slice::from_ref(data_type)).map(Some),
        });
        Ok(Self {
            rows: rows.collect::<Result<_, _>>()?,
            types: types.to_vec(),
        })
    }

    /// Appends a block. Fails unless the columns have the codec's types and `rows` rows, at most [`BLOCK_ROWS_MAX`].
    pub fn encode(&self, columns: &[ArrayRef], rows: usize, block: &mut Vec<u8>) -> Result<(), Error> {
        let is_alike = columns.len() == self.types.len()
            && columns
                .iter()
                .zip(&self.types)
                .all(|(column, data_type)| column.len() == rows && column.data_type() == data_type);
        if !is_alike || rows > BLOCK_ROWS_MAX {
            return Err(Error::Invalid(format!(
                "a block of {rows} rows (BLOCK_ROWS_MAX is {BLOCK_ROWS_MAX}) of columns {:?} given to an encoding of {:?}",
                columns.iter().map(|column| column.data_type()).collect::<Vec<_>>(),
                self.types
            )));
        }
        block.push(LAYOUT_VERSION);
        block.extend_from_slice(&(rows as u32).to_le_bytes());
        for (column, codec) in columns.iter().zip(&self.rows) {
            match codec {
                None => pack(column, block),
                Some(_) if is_string(column.data_type()) => {
                    block.push(STRINGS);
                    append_strings(column, block);
                }
                Some(codec) => {
                    block.push(ROWS);
                    let encoded = codec.encode(std::slice::from_ref(column))?;
                    for row in encoded.iter() {
                        let length = u32::try_from(row.len())
                            .map_err(|_| Error::Limit(format!("a value of {} bytes in state", row.len())))?;
                        block.extend_from_slice(&length.to_le_bytes());
                    }
                    block.extend_from_slice(encoded.bytes());
                }
            }
        }
        Ok(())
    }

    /// Decodes a block. Returns its columns and number of rows. Fails with [`Error::Corrupt`] for bytes that are not a
    /// block.
    pub fn decode(&self, mut block: &[u8]) -> Result<(Vec<ArrayRef>, usize), Error> {
        let cursor = &mut block;
        let version = take_byte(cursor)?;
        if !(LAYOUT_VERSION_MIN..=LAYOUT_VERSION).contains(&version) {
            return Err(corrupt(format!(
                "layout {version}; this engine reads {LAYOUT_VERSION_MIN} to {LAYOUT_VERSION}"
            )));
        }
        let rows = u32::from_le_bytes(take_array(cursor)?) as usize;
        if rows > BLOCK_ROWS_MAX {
            return Err(corrupt(format!(
                "{rows} rows, more than {BLOCK_ROWS_MAX} (BLOCK_ROWS_MAX)"
            )));
        }
        let columns = self
            .types
            .iter()
            .zip(&self.rows)
            .map(|(data_type, codec)| match (take_byte(cursor)?, codec) {
                (PACKED, None) => unpack(data_type, rows, cursor),
                (STRINGS, Some(_)) if is_string(data_type) => take_strings(data_type, rows, cursor),
                (ROWS, Some(codec)) => unpack_rows(codec, rows, cursor),
                (kind, _) => Err(corrupt(format!("a column of type {data_type} of kind {kind}"))),
            })
            .collect::<Result<_, _>>()?;
        if !cursor.is_empty() {
            return Err(corrupt(format!("{} bytes behind the last column", cursor.len())));
        }
        Ok((columns, rows))
    }
}

/// Returns the width in bytes of a packed type; `None` for types that are not packed.
fn packed_bytes(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Int64
        | DataType::UInt64
        | DataType::Float64
        | DataType::Timestamp(..)
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Duration(_) => Some(8),
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 | DataType::Time32(_) => Some(4),
        _ => None,
    }
}

fn append_nulls(column: &ArrayRef, block: &mut Vec<u8>) {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => block.push(0),
        Some(nulls) => {
            block.push(1);
            let bits = nulls.inner().sliced();
            block.extend_from_slice(&bits.as_slice()[..column.len().div_ceil(8)]);
        }
    }
}

fn pack(column: &ArrayRef, block: &mut Vec<u8>) {
    block.push(PACKED);
    append_nulls(column, block);
    let data = column.to_data();
    let (from, to) = (data.offset(), data.offset() + data.len());
    if packed_bytes(column.data_type()) == Some(8) {
        pack_values(&data.buffers()[0].typed_data::<i64>()[from..to], |value| *value, block);
    } else {
        pack_values(
            &data.buffers()[0].typed_data::<i32>()[from..to],
            |value| i64::from(*value),
            block,
        );
    }
}

fn pack_values<T>(values: &[T], wide: impl Fn(&T) -> i64 + Copy, block: &mut Vec<u8>) {
    let (least, most) = values
        .iter()
        .map(wide)
        .fold((i64::MAX, i64::MIN), |(least, most), value| {
            (least.min(value), most.max(value))
        });
    let base = if values.is_empty() { 0 } else { least };
    let span = if values.is_empty() {
        0
    } else {
        most.wrapping_sub(least) as u64
    };
    let width: u8 = match span {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    block.push(width);
    block.extend_from_slice(&base.to_le_bytes());
    let distances = values.iter().map(|value| wide(value).wrapping_sub(base) as u64);
    match width {
        0 => {}
        1 => block.extend(distances.map(|distance| distance as u8)),
        2 => append(
            values.len(),
            distances.map(|distance| (distance as u16).to_le_bytes()),
            block,
        ),
        4 => append(
            values.len(),
            distances.map(|distance| (distance as u32).to_le_bytes()),
            block,
        ),
        _ => append(values.len(), distances.map(u64::to_le_bytes), block),
    }
}

/// Appends `count` values of a fixed width.
fn append<const N: usize>(count: usize, values: impl Iterator<Item = [u8; N]>, block: &mut Vec<u8>) {
    let start = block.len();
    block.resize(start + count * N, 0);
    for (place, value) in block[start..].chunks_exact_mut(N).zip(values) {
        place.copy_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Float64Type;
    use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn codec(columns: &[ArrayRef]) -> BlockCodec {
        let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
        BlockCodec::new(&types).unwrap()
    }

    #[track_caller]
    fn check(column: impl Array + 'static, expected: &str) {
        let columns: [ArrayRef; 1] = [Arc::new(column)];
        let codec = codec(&columns);
        let mut block = Vec::new();
        codec.encode(&columns, columns[0].len(), &mut block).unwrap();
        let hex: Vec<String> = block[5..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.join(" "), expected);
        assert_eq!(block[..5], [LAYOUT_VERSION, columns[0].len() as u8, 0, 0, 0]);
        assert_eq!(codec.decode(&block).unwrap().0, columns);
    }

    #[test]
    fn blocks_are_golden() {
        check(Int64Array::from(vec![7, 7]), "00 00 00 07 00 00 00 00 00 00 00");
        check(Int32Array::from(vec![-1, 1]), "00 00 01 ff ff ff ff ff ff ff ff 00 02");
        check(
            Int64Array::from(vec![Some(256), None]),
            "00 01 01 02 00 00 00 00 00 00 00 00 00 01 00 00",
        );
        check(
            Int64Array::from(vec![i64::MIN, i64::MAX]),
            "00 00 08 00 00 00 00 00 00 00 80 00 00 00 00 00 00 00 00 ff ff ff ff ff ff ff ff",
        );
        check(StringArray::from(vec![Some("a"), None]), "02 01 01 01 01 00 61");
        check(StringArray::from(vec!["", "é"]), "02 00 01 00 02 c3 a9");
        check(BooleanArray::from(vec![true]), "01 02 00 00 00 01 01");
        check(Int64Array::from(Vec::<i64>::new()), "00 00 00 00 00 00 00 00 00 00 00");
    }

    #[test]
    fn texts_of_version_1_are_read() {
        let expected: [ArrayRef; 1] = [Arc::new(StringArray::from(vec![Some("a"), None]))];
        let block = [1, 2, 0, 0, 0, 1, 3, 0, 0, 0, 1, 0, 0, 0, 1, 1, b'a', 0];
        assert_eq!(codec(&expected).decode(&block).unwrap().0, expected);
    }

    #[test]
    fn texts_of_any_length_read_back() {
        for length in [255, 256, 65_535, 65_536] {
            let texts: [ArrayRef; 2] = [
                Arc::new(StringArray::from(vec![
                    Some("x".repeat(length)),
                    None,
                    Some(String::new()),
                ])),
                Arc::new(BinaryArray::from(vec![
                    Some(vec![0xff; length].as_slice()),
                    None,
                    Some(b""),
                ])),
            ];
            let mut block = Vec::new();
            codec(&texts).encode(&texts, 3, &mut block).unwrap();
            assert_eq!(codec(&texts).decode(&block).unwrap().0, texts);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(
            rows in proptest::collection::vec((any::<Option<i64>>(), -70_000i32..70_000, any::<Option<String>>(), any::<f64>()), 0..40),
            from in 0usize..10,
        ) {
            let columns: [ArrayRef; 4] = [
                Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))),
                Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1))),
                Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.clone()))),
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.3))),
            ];
            // Slices, too, as operators hand them over.
            let from = from.min(rows.len());
            let columns = columns.map(|column| column.slice(from, rows.len() - from));
            let codec = codec(&columns);
            let mut block = Vec::new();
            codec.encode(&columns, rows.len() - from, &mut block).unwrap();
            let (decoded, count) = codec.decode(&block).unwrap();
            prop_assert_eq!(count, rows.len() - from);
            for (decoded, column) in decoded.iter().zip(&columns).take(3) {
                prop_assert_eq!(decoded, column);
            }
            // Floats by their bits: NaNs differ from themselves.
            let bits = |column: &ArrayRef| column.as_primitive::<Float64Type>().values().inner().as_slice().to_vec();
            prop_assert_eq!(bits(&decoded[3]), bits(&columns[3]));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(
            bytes in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..60),
            flip in any::<proptest::sample::Index>(),
            to in any::<u8>(),
        ) {
            let columns: [ArrayRef; 2] = [
                Arc::new(Int64Array::from(vec![Some(1), None, Some(300)])),
                Arc::new(StringArray::from(vec![Some("a"), None, Some("bc")])),
            ];
            let codec = codec(&columns);
            let whole = [&[LAYOUT_VERSION, 2, 0, 0, 0], bytes.as_slice()].concat();
            drop(codec.decode(&whole));
            let mut block = Vec::new();
            codec.encode(&columns, 3, &mut block).unwrap();
            let at = flip.index(block.len());
            block[at] = to;
            drop(codec.decode(&block));
            drop(codec.decode(&block[..at]));
        }
    }
}
