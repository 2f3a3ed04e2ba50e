//! Decoding of rows to columns. All lengths are checked: damaged bytes are an error, never a panic.
//!
//! A column is decoded for all rows at once; `cursors` hold the remaining bytes of each row.
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow_array::builder::{BinaryViewBuilder, StringViewBuilder};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, GenericBinaryArray,
    GenericListArray, GenericStringArray, MapArray, NullArray, OffsetSizeTrait, PrimitiveArray, StructArray,
    UInt32Array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef};

use super::primitive::{Fixed, with_fixed};
use super::{NULL, PRESENT};
use crate::Error;

/// Decodes the next column of all rows.
pub(crate) fn column<const ORDERED: bool>(data_type: &DataType, cursors: &mut [&[u8]]) -> Result<ArrayRef, Error> {
    macro_rules! fixed {
        ($type:ty, $n:literal) => {
            Arc::new(primitives::<$type, $n, ORDERED>(cursors)?.with_data_type(data_type.clone()))
        };
    }
    Ok(with_fixed!(data_type, fixed,
        DataType::Boolean => {
            let (values, nulls) = present(cursors, |cursor| match bytes::<1>(cursor)? {
                [flag @ 0..=1] => Ok(flag == 1),
                [other] => Err(corrupt(format!("a boolean of {other}"))),
            })?;
            Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls))
        }
        DataType::Null => {
            let (_, nulls) = present(cursors, |_| Err::<(), _>(corrupt("a value of the null type")))?;
            Arc::new(NullArray::new(nulls.map_or(0, |nulls| nulls.len())))
        }
        DataType::Utf8 => strings::<i32, ORDERED>(cursors)?,
        DataType::LargeUtf8 => strings::<i64, ORDERED>(cursors)?,
        DataType::Binary => binaries::<i32, ORDERED>(cursors)?,
        DataType::LargeBinary => binaries::<i64, ORDERED>(cursors)?,
        DataType::Utf8View => {
            let values = strings::<i64, ORDERED>(cursors)?;
            let values = arrow_array::cast::AsArray::as_string::<i64>(&values).clone();
            let mut builder = StringViewBuilder::with_capacity(values.len());
            values.iter().for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        DataType::BinaryView => {
            let values = binaries::<i64, ORDERED>(cursors)?;
            let values = arrow_array::cast::AsArray::as_binary::<i64>(&values).clone();
            let mut builder = BinaryViewBuilder::with_capacity(values.len());
            values.iter().for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        DataType::FixedSizeBinary(count) => {
            let width = usize::try_from(*count).map_err(|_| corrupt("a negative width"))?;
            let mut content = Vec::with_capacity(cursors.len() * width);
            let (_, nulls) = present(cursors, |cursor| {
                content.extend_from_slice(slice(cursor, width)?);
                Ok(())
            })?;
            // Null rows have a value, too.
            let content = match &nulls {
                Some(nulls) => scatter(&content, width, nulls),
                None => content,
            };
            Arc::new(FixedSizeBinaryArray::try_new(*count, Buffer::from_vec(content), nulls).map_err(invalid)?)
        }
        DataType::Struct(fields) => {
            let (_, nulls) = present(cursors, |_| Ok(()))?;
            let children = fields
                .iter()
                .map(|field| children_of::<ORDERED>(field.data_type(), cursors, nulls.as_ref()))
                .collect::<Result<Vec<_>, _>>()?;
            let array = StructArray::try_new_with_length(fields.clone(), children, nulls, cursors.len());
            Arc::new(array.map_err(invalid)?)
        }
        DataType::List(field) => lists::<i32, ORDERED>(field, cursors)?,
        DataType::LargeList(field) => lists::<i64, ORDERED>(field, cursors)?,
        DataType::Map(field, sorted) => {
            let (elements, offsets, nulls) = elements::<i32, ORDERED>(field, cursors)?;
            let entries = arrow_array::cast::AsArray::as_struct(&elements).clone();
            Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *sorted).map_err(invalid)?)
        }
        DataType::FixedSizeList(field, count) => {
            let (elements, offsets, nulls) = elements::<i64, ORDERED>(field, cursors)?;
            let width = i64::from(*count);
            let mut rows = Vec::with_capacity(cursors.len() * usize::try_from(*count).unwrap_or(0));
            for (row, (start, end)) in offsets.iter().zip(offsets.iter().skip(1)).enumerate() {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    rows.extend((0..width).map(|_| None));
                } else if end - start == width {
                    for at in *start..*end {
                        rows.push(Some(index(at)?));
                    }
                } else {
                    return Err(corrupt(format!("a list of {} elements instead of {width}", end - start)));
                }
            }
            let elements = arrow_select::take::take(&elements, &UInt32Array::from(rows), None).map_err(invalid)?;
            let array = FixedSizeListArray::try_new(Arc::clone(field), *count, elements, nulls);
            Arc::new(array.map_err(invalid)?)
        }
        other => return Err(Error::Invalid(format!("values of type {other} cannot be kept in state"))),
    ))
}

/// Reads the marker of every row, and the value of rows that are not null. Null rows get a default value.
fn present<'a, V: Default>(
    cursors: &mut [&'a [u8]],
    mut read: impl FnMut(&mut &'a [u8]) -> Result<V, Error>,
) -> Result<(Vec<V>, Option<NullBuffer>), Error> {
    let mut values = Vec::with_capacity(cursors.len());
    let mut valid: Option<Vec<bool>> = None;
    for cursor in cursors.iter_mut() {
        match bytes::<1>(cursor)? {
            [PRESENT] => {
                values.push(read(cursor)?);
                if let Some(valid) = &mut valid {
                    valid.push(true);
                }
            }
            [NULL] => {
                valid.get_or_insert_with(|| vec![true; values.len()]).push(false);
                values.push(V::default());
            }
            [other] => return Err(corrupt(format!("a marker byte {other}"))),
        }
    }
    Ok((values, valid.map(NullBuffer::from)))
}

fn primitives<T, const N: usize, const ORDERED: bool>(cursors: &mut [&[u8]]) -> Result<PrimitiveArray<T>, Error>
where
    T: ArrowPrimitiveType,
    T::Native: Fixed<N>,
{
    let (values, nulls) = present(cursors, |cursor| {
        let bytes = bytes::<N>(cursor)?;
        Ok(if ORDERED {
            T::Native::from_ordered(bytes)
        } else {
            T::Native::from_compact(bytes)
        })
    })?;
    PrimitiveArray::try_new(values.into(), nulls).map_err(invalid)
}

type Contents<O> = (OffsetBuffer<O>, Buffer, Option<NullBuffer>);

fn contents<O: OffsetSizeTrait, const ORDERED: bool>(cursors: &mut [&[u8]]) -> Result<Contents<O>, Error> {
    let mut content: Vec<u8> = Vec::new();
    let mut lengths = Vec::with_capacity(cursors.len());
    let rows = cursors.len();
    let mut valid: Option<Vec<bool>> = None;
    for (row, cursor) in cursors.iter_mut().enumerate() {
        let start = content.len();
        match bytes::<1>(cursor)? {
            [PRESENT] if ORDERED => unescape(cursor, &mut content)?,
            [PRESENT] => {
                let length = varint(cursor)?;
                content.extend_from_slice(slice(cursor, length)?);
            }
            [NULL] => {
                if let Some(valid) = valid.get_or_insert_with(|| vec![true; rows]).get_mut(row) {
                    *valid = false;
                }
            }
            [other] => return Err(corrupt(format!("a marker byte {other}"))),
        }
        lengths.push(content.len() - start);
    }
    if O::from_usize(content.len()).is_none() {
        return Err(Error::Limit(format!(
            "{} bytes of strings in one batch of state",
            content.len()
        )));
    }
    Ok((
        OffsetBuffer::from_lengths(lengths),
        Buffer::from_vec(content),
        valid.map(NullBuffer::from),
    ))
}

fn strings<O: OffsetSizeTrait, const ORDERED: bool>(cursors: &mut [&[u8]]) -> Result<ArrayRef, Error> {
    let (offsets, content, nulls) = contents::<O, ORDERED>(cursors)?;
    Ok(Arc::new(
        GenericStringArray::<O>::try_new(offsets, content, nulls).map_err(invalid)?,
    ))
}

fn binaries<O: OffsetSizeTrait, const ORDERED: bool>(cursors: &mut [&[u8]]) -> Result<ArrayRef, Error> {
    let (offsets, content, nulls) = contents::<O, ORDERED>(cursors)?;
    Ok(Arc::new(
        GenericBinaryArray::<O>::try_new(offsets, content, nulls).map_err(invalid)?,
    ))
}

/// Decodes the child of a struct. Only rows whose struct is not null have bytes for it.
fn children_of<'a, const ORDERED: bool>(
    data_type: &DataType,
    cursors: &mut [&'a [u8]],
    nulls: Option<&NullBuffer>,
) -> Result<ArrayRef, Error> {
    let Some(nulls) = nulls else {
        return column::<ORDERED>(data_type, cursors);
    };
    let present = cursors.iter().zip(nulls.iter()).filter(|(_, valid)| *valid);
    let mut dense: Vec<&'a [u8]> = present.map(|(cursor, _)| *cursor).collect();
    let child = column::<ORDERED>(data_type, &mut dense)?;
    let mut places = Vec::with_capacity(cursors.len());
    let mut rest = dense.iter().enumerate();
    for (cursor, valid) in cursors.iter_mut().zip(nulls.iter()) {
        let value = if valid { rest.next() } else { None };
        places.push(match value {
            Some((place, after)) => {
                *cursor = after;
                Some(index(place)?)
            }
            None => None,
        });
    }
    arrow_select::take::take(&child, &UInt32Array::from(places), None).map_err(invalid)
}

type Elements<O> = (ArrayRef, OffsetBuffer<O>, Option<NullBuffer>);

/// Decodes the elements of all lists as one column: first finds the bytes of each element, then decodes them.
fn elements<O: OffsetSizeTrait, const ORDERED: bool>(
    field: &FieldRef,
    cursors: &mut [&[u8]],
) -> Result<Elements<O>, Error> {
    let mut flat: Vec<&[u8]> = Vec::new();
    let (lengths, nulls) = present(cursors, |cursor| {
        let before = flat.len();
        if ORDERED {
            while bytes::<1>(cursor)? == [1] {
                flat.push(element::<ORDERED>(field.data_type(), cursor)?);
            }
        } else {
            for _ in 0..varint(cursor)? {
                flat.push(element::<ORDERED>(field.data_type(), cursor)?);
            }
        }
        Ok(flat.len() - before)
    })?;
    if O::from_usize(flat.len()).is_none() {
        return Err(Error::Limit(format!(
            "{} list elements in one batch of state",
            flat.len()
        )));
    }
    let elements = column::<ORDERED>(field.data_type(), &mut flat)?;
    Ok((elements, OffsetBuffer::from_lengths(lengths), nulls))
}

fn lists<O: OffsetSizeTrait, const ORDERED: bool>(field: &FieldRef, cursors: &mut [&[u8]]) -> Result<ArrayRef, Error> {
    let (elements, offsets, nulls) = elements::<O, ORDERED>(field, cursors)?;
    let array = GenericListArray::<O>::try_new(Arc::clone(field), offsets, elements, nulls);
    Ok(Arc::new(array.map_err(invalid)?))
}

/// Returns the bytes of one value and its marker.
fn element<'a, const ORDERED: bool>(data_type: &DataType, cursor: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let start = *cursor;
    skip::<ORDERED>(data_type, cursor)?;
    start
        .get(..start.len() - cursor.len())
        .ok_or_else(|| corrupt("cut off"))
}

/// Skips the next column of all rows.
pub(crate) fn skip_column<const ORDERED: bool>(data_type: &DataType, cursors: &mut [&[u8]]) -> Result<(), Error> {
    cursors
        .iter_mut()
        .try_for_each(|cursor| skip::<ORDERED>(data_type, cursor))
}

/// Skips one value and its marker.
fn skip<const ORDERED: bool>(data_type: &DataType, cursor: &mut &[u8]) -> Result<(), Error> {
    match bytes::<1>(cursor)? {
        [NULL] => return Ok(()),
        [PRESENT] => {}
        [other] => return Err(corrupt(format!("a marker byte {other}"))),
    }
    macro_rules! fixed {
        ($type:ty, $n:literal) => {
            slice(cursor, $n).map(|_| ())
        };
    }
    with_fixed!(data_type, fixed,
        DataType::Boolean => slice(cursor, 1).map(|_| ()),
        DataType::FixedSizeBinary(count) => {
            let width = usize::try_from(*count).map_err(|_| corrupt("a negative width"))?;
            slice(cursor, width).map(|_| ())
        }
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|field| skip::<ORDERED>(field.data_type(), cursor))
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => {
            if ORDERED {
                while bytes::<1>(cursor)? == [1] {
                    skip::<ORDERED>(field.data_type(), cursor)?;
                }
            } else {
                for _ in 0..varint(cursor)? {
                    skip::<ORDERED>(field.data_type(), cursor)?;
                }
            }
            Ok(())
        }
        DataType::Null => Err(corrupt("a value of the null type")),
        _ if ORDERED => {
            let length = escaped_length(cursor)?;
            slice(cursor, length).map(|_| ())
        }
        _ => {
            let length = varint(cursor)?;
            slice(cursor, length).map(|_| ())
        }
    )
}

#[inline(always)]
fn bytes<const N: usize>(cursor: &mut &[u8]) -> Result<[u8; N], Error> {
    let (found, rest) = cursor.split_first_chunk().ok_or_else(|| corrupt("cut off"))?;
    *cursor = rest;
    Ok(*found)
}

#[inline(always)]
fn slice<'a>(cursor: &mut &'a [u8], count: usize) -> Result<&'a [u8], Error> {
    let (found, rest) = cursor.split_at_checked(count).ok_or_else(|| corrupt("cut off"))?;
    *cursor = rest;
    Ok(found)
}

fn varint(cursor: &mut &[u8]) -> Result<usize, Error> {
    let mut value = 0usize;
    for shift in (0..usize::BITS).step_by(7) {
        let [byte] = bytes::<1>(cursor)?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(corrupt("a length of more than 64 bits"))
}

/// Returns the length of an escaped string, its end `00 00` included.
fn escaped_length(bytes: &[u8]) -> Result<usize, Error> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let zero = rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(|| corrupt("a string without end"))?;
        match rest.get(zero + 1) {
            Some(0) => return Ok(at + zero + 2),
            Some(0xff) => at += zero + 2,
            _ => return Err(corrupt("a wrong escape in a string")),
        }
    }
}

fn unescape(cursor: &mut &[u8], content: &mut Vec<u8>) -> Result<(), Error> {
    let length = escaped_length(cursor)?;
    let escaped = slice(cursor, length)?;
    let mut rest = escaped.strip_suffix(&[0, 0]).unwrap_or(escaped);
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        // `00 FF` is an escaped `00`.
        let (plain, escape) = rest.split_at_checked(zero + 1).unwrap_or((rest, &[]));
        content.extend_from_slice(plain);
        rest = escape.get(1..).unwrap_or_default();
    }
    content.extend_from_slice(rest);
    Ok(())
}

/// Moves densely stored values to the positions of their rows.
fn scatter(content: &[u8], width: usize, nulls: &NullBuffer) -> Vec<u8> {
    let mut wide = vec![0; nulls.len() * width];
    if width == 0 {
        return wide;
    }
    let mut values = content.chunks_exact(width);
    for (place, valid) in wide.chunks_exact_mut(width).zip(nulls.iter()) {
        if valid && let Some(value) = values.next() {
            place.copy_from_slice(value);
        }
    }
    wide
}

/// Converts the position of an element to an index for `take`.
fn index(position: impl TryInto<u32>) -> Result<u32, Error> {
    position
        .try_into()
        .map_err(|_| Error::Limit("more than 2^32 elements in one batch of state".into()))
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("an encoded row is damaged: {what}"))
}

fn invalid(error: ArrowError) -> Error {
    corrupt(error)
}
