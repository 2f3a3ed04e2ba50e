//! Decoding of the columns of a block.
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use arrow_array::{ArrayRef, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::DataType;

use super::super::Codec;
use super::packed_bytes;
use crate::Error;

pub(super) fn take_nulls(rows: usize, cursor: &mut &[u8]) -> Result<Option<NullBuffer>, Error> {
    match take_byte(cursor)? {
        0 => Ok(None),
        1 => {
            let bits = Buffer::from(take_slice(cursor, rows.div_ceil(8))?);
            Ok(Some(NullBuffer::new(BooleanBuffer::new(bits, 0, rows))))
        }
        other => Err(corrupt(format!("a marker of nulls {other}"))),
    }
}

pub(super) fn unpack(data_type: &DataType, rows: usize, cursor: &mut &[u8]) -> Result<ArrayRef, Error> {
    let nulls = take_nulls(rows, cursor)?;
    let width = take_byte(cursor)?;
    let base = i64::from_le_bytes(take_array(cursor)?);
    if !matches!(width, 0 | 1 | 2 | 4 | 8) {
        return Err(corrupt(format!("a width of {width}")));
    }
    let packed = take_slice(cursor, rows * usize::from(width))?;
    let wide = packed_bytes(data_type) == Some(8);
    let values = if wide {
        Buffer::from_vec(unpack_values(packed, width, rows, |distance| {
            base.wrapping_add(distance.cast_signed())
        }))
    } else {
        Buffer::from_vec(unpack_values(packed, width, rows, |distance| {
            low_half(base.wrapping_add(distance.cast_signed()))
        }))
    };
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .add_buffer(values)
        .nulls(nulls)
        .build()
        .map_err(|error| corrupt(error.to_string()))?;
    Ok(make_array(data))
}

fn unpack_values<T: Clone>(packed: &[u8], width: u8, rows: usize, value: impl Fn(u64) -> T + Copy) -> Vec<T> {
    match width {
        0 => vec![value(0); rows],
        1 => packed.iter().map(|byte| value(u64::from(*byte))).collect(),
        2 => widen(packed, |bytes| value(u64::from(u16::from_le_bytes(bytes)))),
        4 => widen(packed, |bytes| value(u64::from(u32::from_le_bytes(bytes)))),
        _ => widen(packed, |bytes| value(u64::from_le_bytes(bytes))),
    }
}

pub(super) fn widen<T, const N: usize>(packed: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (values, _) = packed.as_chunks::<N>();
    values.iter().map(|bytes| value(*bytes)).collect()
}

pub(super) fn unpack_rows(codec: &Codec, rows: usize, cursor: &mut &[u8]) -> Result<ArrayRef, Error> {
    let (lengths, _) = take_slice(cursor, rows * size_of::<u32>())?.as_chunks();
    let rows = lengths
        .iter()
        .map(|length| take_slice(cursor, u32::from_le_bytes(*length) as usize))
        .collect::<Result<Vec<_>, _>>()?;
    let column = codec.decode(rows)?.pop();
    column.ok_or_else(|| corrupt("no column".to_owned()))
}

pub(super) fn take_slice<'a>(cursor: &mut &'a [u8], count: usize) -> Result<&'a [u8], Error> {
    let (taken, rest) = cursor
        .split_at_checked(count)
        .ok_or_else(|| corrupt(format!("{count} bytes wanted, {} left", cursor.len())))?;
    *cursor = rest;
    Ok(taken)
}

pub(super) fn take_array<const N: usize>(cursor: &mut &[u8]) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(take_slice(cursor, N)?);
    Ok(bytes)
}

pub(super) fn corrupt(what: String) -> Error {
    Error::Corrupt(format!("a block of state is damaged: {what}"))
}

/// Takes one byte from the front.
pub(super) fn take_byte(cursor: &mut &[u8]) -> Result<u8, Error> {
    let [byte] = take_array(cursor)?;
    Ok(byte)
}

/// Returns the lower 32 bits: values of 4 bytes are packed as if they had 8.
#[expect(clippy::cast_possible_truncation, reason = "the upper half only extends the sign")]
fn low_half(value: i64) -> i32 {
    value as i32
}
