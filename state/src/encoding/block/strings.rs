//! String and binary columns in a block: Arrow's buffer of bytes in one copy, preceded by the lengths.

use std::sync::Arc;

use arrow_array::types::{BinaryType, ByteArrayType, Utf8Type};
use arrow_array::{Array, ArrayRef, GenericByteArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use super::unpack::{corrupt, take_byte, take_nulls, take_slice, widen};
use super::{append, append_nulls};
use crate::Error;

/// Returns true for strings and byte strings with 32-bit offsets.
pub(super) fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

pub(super) fn append_strings(column: &ArrayRef, block: &mut Vec<u8>) {
    append_nulls(column, block);
    if let Some(strings) = column.as_any().downcast_ref() {
        append_bytes::<Utf8Type>(strings, block);
    } else if let Some(strings) = column.as_any().downcast_ref() {
        append_bytes::<BinaryType>(strings, block);
    }
}

fn append_bytes<T: ByteArrayType<Offset = i32>>(column: &GenericByteArray<T>, block: &mut Vec<u8>) {
    let offsets = column.value_offsets();
    // The bytes of null rows, which Arrow allows, are copied, because skipping them would cost a check of each row.
    let lengths = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u32);
    let longest = lengths.clone().max().unwrap_or(0);
    let width = match longest {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    block.push(width);
    match width {
        1 => block.extend(lengths.map(|length| length as u8)),
        2 => append(column.len(), lengths.map(|length| (length as u16).to_le_bytes()), block),
        _ => append(column.len(), lengths.map(u32::to_le_bytes), block),
    }
    debug_assert!(
        offsets.windows(2).all(|pair| pair[0] <= pair[1]),
        "offsets of strings ascend"
    );
    let (from, to) = (offsets[0] as usize, offsets[column.len()] as usize);
    block.extend_from_slice(&column.value_data()[from..to]);
}

pub(super) fn take_strings(data_type: &DataType, rows: usize, cursor: &mut &[u8]) -> Result<ArrayRef, Error> {
    let nulls = take_nulls(rows, cursor)?;
    let width = take_byte(cursor)?;
    if !matches!(width, 1 | 2 | 4) {
        return Err(corrupt(format!("lengths of width {width}")));
    }
    let lengths = take_slice(cursor, rows * usize::from(width))?;
    let lengths: Vec<u32> = match width {
        1 => lengths.iter().map(|byte| u32::from(*byte)).collect(),
        2 => widen(lengths, |bytes| u32::from(u16::from_le_bytes(bytes))),
        _ => widen(lengths, u32::from_le_bytes),
    };
    let mut end = 0_i32;
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    for length in lengths {
        let next = i32::try_from(length).ok().and_then(|length| end.checked_add(length));
        end = next.ok_or_else(|| corrupt("strings of more than 2 GB".to_owned()))?;
        offsets.push(end);
    }
    let bytes = Buffer::from(take_slice(cursor, end as usize)?);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let column: Result<ArrayRef, ArrowError> = match data_type {
        DataType::Utf8 => {
            GenericByteArray::<Utf8Type>::try_new(offsets, bytes, nulls).map(|column| Arc::new(column) as ArrayRef)
        }
        _ => GenericByteArray::<BinaryType>::try_new(offsets, bytes, nulls).map(|column| Arc::new(column) as ArrayRef),
    };
    column.map_err(|error| corrupt(error.to_string()))
}
