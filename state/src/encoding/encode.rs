//! Encoding of columns to rows: computes the length of every row, then fills one buffer, column by column.

use arrow_array::cast::AsArray;
use arrow_array::types::ByteArrayType;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, GenericByteArray, PrimitiveArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::DataType;

use super::primitive::{Fixed, with_fixed};
use super::{EncodedRows, NULL, PRESENT};

/// Encodes `rows` rows of columns that the caller has checked.
pub(crate) fn rows<const ORDERED: bool>(columns: &[ArrayRef], rows: usize) -> EncodedRows {
    let mut offsets = vec![0; rows + 1];
    for column in columns {
        add_lengths::<ORDERED>(column.as_ref(), &mut offsets[1..]);
    }
    let mut total = 0;
    for offset in &mut offsets {
        total += *offset;
        *offset = total;
    }
    let mut bytes = vec![0; total];
    let mut cursors = offsets[..rows].to_vec();
    for column in columns {
        fill::<ORDERED>(column.as_ref(), &mut bytes, &mut cursors);
    }
    debug_assert_eq!(
        cursors,
        offsets[1..],
        "every row fills the length that was computed for it"
    );
    EncodedRows { bytes, offsets }
}

fn add_lengths<const ORDERED: bool>(column: &dyn Array, lengths: &mut [usize]) {
    macro_rules! fixed {
        ($type:ty, $n:literal) => {
            add_constant(column.nulls(), $n, lengths)
        };
    }
    with_fixed!(column.data_type(), fixed,
        DataType::Boolean => add_constant(column.nulls(), 1, lengths),
        DataType::Utf8 => add_bytes::<Utf8Type, ORDERED>(column.as_bytes(), lengths),
        DataType::Binary => add_bytes::<BinaryType, ORDERED>(column.as_bytes(), lengths),
        _ => {
            for (row, length) in lengths.iter_mut().enumerate() {
                *length += length_of::<ORDERED>(column, row);
            }
        }
    );
}

fn add_constant(nulls: Option<&NullBuffer>, count: usize, lengths: &mut [usize]) {
    match nulls {
        None => lengths.iter_mut().for_each(|length| *length += 1 + count),
        Some(nulls) => {
            for (length, valid) in lengths.iter_mut().zip(nulls.iter()) {
                *length += if valid { 1 + count } else { 1 };
            }
        }
    }
}

/// Adds the lengths of strings of the common types, without a match on the type for every row.
fn add_bytes<T: ByteArrayType, const ORDERED: bool>(column: &GenericByteArray<T>, lengths: &mut [usize]) {
    for (row, length) in lengths.iter_mut().enumerate() {
        *length += match column.is_null(row) {
            true => 1,
            false => bytes_length::<ORDERED>(column.value(row).as_ref()),
        };
    }
}

#[inline(always)]
fn bytes_length<const ORDERED: bool>(bytes: &[u8]) -> usize {
    if ORDERED {
        3 + bytes.len() + zeros(bytes)
    } else {
        1 + varint_length(bytes.len()) + bytes.len()
    }
}

fn length_of<const ORDERED: bool>(column: &dyn Array, row: usize) -> usize {
    if column.is_null(row) || column.data_type() == &DataType::Null {
        return 1;
    }
    macro_rules! fixed {
        ($type:ty, $n:literal) => {
            1 + $n
        };
    }
    with_fixed!(column.data_type(), fixed,
        DataType::Boolean => 2,
        DataType::FixedSizeBinary(count) => 1 + *count as usize,
        DataType::Struct(_) => {
            1 + column.as_struct().columns().iter().map(|child| length_of::<ORDERED>(child, row)).sum::<usize>()
        }
        _ => match (bytes_of(column, row), elements_of(column, row)) {
            (Some(bytes), _) => bytes_length::<ORDERED>(bytes),
            (None, Some((child, start, end))) => {
                let elements: usize = (start..end).map(|row| length_of::<ORDERED>(child, row)).sum();
                1 + elements + if ORDERED { end - start + 1 } else { varint_length(end - start) }
            }
            (None, None) => unreachable!("Codec::new refuses all other types"),
        },
    )
}

fn fill<const ORDERED: bool>(column: &dyn Array, bytes: &mut [u8], cursors: &mut [usize]) {
    macro_rules! fixed {
        ($type:ty, $n:literal) => {
            fill_fixed::<$type, $n, ORDERED>(column.as_primitive::<$type>(), bytes, cursors)
        };
    }
    with_fixed!(column.data_type(), fixed,
        DataType::Utf8 => fill_bytes::<Utf8Type, ORDERED>(column.as_bytes(), bytes, cursors),
        DataType::Binary => fill_bytes::<BinaryType, ORDERED>(column.as_bytes(), bytes, cursors),
        _ => {
            for (row, cursor) in cursors.iter_mut().enumerate() {
                *cursor += write::<ORDERED>(column, row, &mut bytes[*cursor..]);
            }
        }
    );
}

fn fill_bytes<T: ByteArrayType, const ORDERED: bool>(
    column: &GenericByteArray<T>,
    bytes: &mut [u8],
    cursors: &mut [usize],
) {
    for (row, cursor) in cursors.iter_mut().enumerate() {
        if column.is_null(row) {
            bytes[*cursor] = NULL;
            *cursor += 1;
        } else {
            bytes[*cursor] = PRESENT;
            *cursor += 1 + write_bytes::<ORDERED>(column.value(row).as_ref(), &mut bytes[*cursor + 1..]);
        }
    }
}

fn fill_fixed<T, const N: usize, const ORDERED: bool>(
    column: &PrimitiveArray<T>,
    bytes: &mut [u8],
    cursors: &mut [usize],
) where
    T: ArrowPrimitiveType,
    T::Native: Fixed<N>,
{
    for (row, (cursor, value)) in cursors.iter_mut().zip(column.values().iter()).enumerate() {
        let at = *cursor;
        if column.is_null(row) {
            bytes[at] = NULL;
            *cursor = at + 1;
        } else {
            bytes[at] = PRESENT;
            bytes[at + 1..at + 1 + N].copy_from_slice(&fixed_bytes::<_, N, ORDERED>(*value));
            *cursor = at + 1 + N;
        }
    }
}

#[inline(always)]
fn fixed_bytes<V: Fixed<N>, const N: usize, const ORDERED: bool>(value: V) -> [u8; N] {
    if ORDERED {
        value.to_ordered()
    } else {
        value.to_compact()
    }
}

/// Writes one row of a column, marker first. Returns the number of bytes.
fn write<const ORDERED: bool>(column: &dyn Array, row: usize, out: &mut [u8]) -> usize {
    if column.is_null(row) || column.data_type() == &DataType::Null {
        out[0] = NULL;
        return 1;
    }
    out[0] = PRESENT;
    macro_rules! fixed {
        ($type:ty, $n:literal) => {{
            let value = column.as_primitive::<$type>().value(row);
            out[1..1 + $n].copy_from_slice(&fixed_bytes::<_, $n, ORDERED>(value));
            1 + $n
        }};
    }
    with_fixed!(column.data_type(), fixed,
        DataType::Boolean => {
            out[1] = column.as_boolean().value(row).into();
            2
        }
        DataType::FixedSizeBinary(count) => {
            let count = *count as usize;
            out[1..1 + count].copy_from_slice(column.as_fixed_size_binary().value(row));
            1 + count
        }
        DataType::Struct(_) => {
            let mut at = 1;
            for child in column.as_struct().columns() {
                at += write::<ORDERED>(child, row, &mut out[at..]);
            }
            at
        }
        _ => match (bytes_of(column, row), elements_of(column, row)) {
            (Some(bytes), _) => 1 + write_bytes::<ORDERED>(bytes, &mut out[1..]),
            (None, Some((child, start, end))) => {
                let mut at = 1;
                if !ORDERED {
                    at += write_varint(end - start, &mut out[1..]);
                }
                for element in start..end {
                    if ORDERED {
                        out[at] = 1;
                        at += 1;
                    }
                    at += write::<ORDERED>(child, element, &mut out[at..]);
                }
                if ORDERED {
                    out[at] = 0;
                    at += 1;
                }
                at
            }
            (None, None) => unreachable!("Codec::new refuses all other types"),
        },
    )
}

#[inline]
fn bytes_of(column: &dyn Array, row: usize) -> Option<&[u8]> {
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).as_bytes(),
        DataType::Utf8View => column.as_string_view().value(row).as_bytes(),
        DataType::Binary => column.as_binary::<i32>().value(row),
        DataType::LargeBinary => column.as_binary::<i64>().value(row),
        DataType::BinaryView => column.as_binary_view().value(row),
        _ => return None,
    })
}

/// Returns the elements of a list or map: the array that holds them, and their range in it.
fn elements_of(column: &dyn Array, row: usize) -> Option<(&dyn Array, usize, usize)> {
    fn ends<O: arrow_array::OffsetSizeTrait>(offsets: &OffsetBuffer<O>, row: usize) -> (usize, usize) {
        (offsets[row].as_usize(), offsets[row + 1].as_usize())
    }
    Some(match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let (start, end) = ends(list.offsets(), row);
            (list.values().as_ref(), start, end)
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let (start, end) = ends(list.offsets(), row);
            (list.values().as_ref(), start, end)
        }
        DataType::Map(..) => {
            let map = column.as_map();
            let (start, end) = ends(map.offsets(), row);
            (map.entries() as &dyn Array, start, end)
        }
        DataType::FixedSizeList(_, count) => {
            let list = column.as_fixed_size_list();
            let start = list.value_offset(row) as usize;
            (list.values().as_ref(), start, start + *count as usize)
        }
        _ => return None,
    })
}

fn zeros(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == 0).count()
}

#[inline(always)]
fn write_bytes<const ORDERED: bool>(bytes: &[u8], out: &mut [u8]) -> usize {
    if ORDERED {
        return write_escaped(bytes, out);
    }
    let at = write_varint(bytes.len(), out);
    out[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

fn write_escaped(bytes: &[u8], out: &mut [u8]) -> usize {
    let mut at = bytes.len();
    if zeros(bytes) == 0 {
        out[..at].copy_from_slice(bytes);
    } else {
        at = 0;
        for byte in bytes {
            out[at] = *byte;
            at += 1;
            if *byte == 0 {
                out[at] = 0xff;
                at += 1;
            }
        }
    }
    out[at] = 0;
    out[at + 1] = 0;
    at + 2
}

fn varint_length(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn write_varint(mut value: usize, out: &mut [u8]) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}
