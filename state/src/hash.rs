//! The hash of keys, version 1. It determines the key group, and so the subtask, of a key.
//!
//! The hash is part of the on-disk format: it must never change for a version. It depends on values only, not on how
//! an array holds them (slices, views, offsets widths), nor on integers' widths: an `Int32` 5 and an `Int64` 5 are
//! alike, and so are the strings of `Utf8`, `LargeUtf8` and `Utf8View`.
//!
//! A row starts with `h = SEED`; each column, in order, does `h = mix(h ^ w)` with its words `w` (all arithmetic modulo
//! 2^64; `>>` unsigned):
//!
//! ```text
//! mix(x)        x ^= x >> 32; x *= 0xd6e8feb86659fd93; x ^= x >> 32; x *= 0xd6e8feb86659fd93; x ^= x >> 32
//! SEED          0x9e3779b97f4a7c15
//! null          one word, 0xa0761d6478bd642f
//! integers, dates, times, timestamps, durations, months   one word, sign- or zero-extended to 64 bits
//! booleans      one word, 0 or 1
//! floats        one word, the bits as f64; -0.0 as 0.0, every NaN as 0x7ff8000000000000
//! 128/256 bit   decimals: their 64-bit words, least significant first
//! strings, binary of n bytes   n <= 8: one word, the bytes little-endian, zero-padded, + n * 0xe7037ed1a0b428db
//!               n > 8: one word per 8 bytes (the last zero-padded), then n * 0xe7037ed1a0b428db
//! all others    (structs, lists, maps, intervals) as the binary string of their key encoding
//! ```
//!
//! The mixer is a two-multiplication xorshift: full avalanche, no table, and independent from row to row, so that the
//! processor works on several rows at once.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};

use crate::Error;
use crate::encoding::Codec;

/// Version of the hash, stored with every checkpoint.
pub const HASH_VERSION: u8 = 1;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;
const NULL_WORD: u64 = 0xa076_1d64_78bd_642f;
const LENGTH_FACTOR: u64 = 0xe703_7ed1_a0b4_28db;
const CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;

/// Hashes rows made of these columns (equally long) into `hashes`, which is overwritten. Without columns, or without
/// rows, the result is empty.
pub fn hash_columns(columns: &[ArrayRef], hashes: &mut Vec<u64>) -> Result<(), Error> {
    hashes.clear();
    let Some(first) = columns.first() else {
        return Ok(());
    };
    hashes.resize(first.len(), SEED);
    for column in columns {
        hash_column(column, hashes)?;
    }
    Ok(())
}

/// Returns the hash of a byte string, as that of a row with one binary column.
pub(crate) fn hash_of_bytes(value: &[u8]) -> u64 {
    hash_bytes(SEED, value)
}

fn hash_column(column: &ArrayRef, hashes: &mut [u64]) -> Result<(), Error> {
    macro_rules! integers {
        ($type:ty) => {
            words(column.as_primitive::<$type>(), hashes, |value| {
                value as i64 as u64
            })
        };
    }
    match column.data_type() {
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => integers!(UInt64Type),
        DataType::Date32 => integers!(Date32Type),
        DataType::Date64 => integers!(Date64Type),
        DataType::Time32(TimeUnit::Second) => integers!(Time32SecondType),
        DataType::Time32(_) => integers!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => integers!(Time64MicrosecondType),
        DataType::Time64(_) => integers!(Time64NanosecondType),
        DataType::Timestamp(TimeUnit::Second, _) => integers!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => integers!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integers!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => integers!(TimestampNanosecondType),
        DataType::Duration(TimeUnit::Second) => integers!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => integers!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => integers!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => integers!(DurationNanosecondType),
        DataType::Interval(IntervalUnit::YearMonth) => integers!(IntervalYearMonthType),
        DataType::Decimal32(..) => integers!(Decimal32Type),
        DataType::Decimal64(..) => integers!(Decimal64Type),
        DataType::Float16 => words(column.as_primitive::<Float16Type>(), hashes, |value| {
            float(value.to_f64())
        }),
        DataType::Float32 => words(column.as_primitive::<Float32Type>(), hashes, |value| {
            float(value.into())
        }),
        DataType::Float64 => words(column.as_primitive::<Float64Type>(), hashes, float),
        DataType::Boolean => {
            let values = column.as_boolean();
            for (row, hash) in hashes.iter_mut().enumerate() {
                *hash = mix(*hash
                    ^ if values.is_null(row) {
                        NULL_WORD
                    } else {
                        values.value(row).into()
                    });
            }
        }
        DataType::Decimal128(..) => wide(column.as_primitive::<Decimal128Type>(), hashes, |value| {
            [value as u64, (value >> 64) as u64]
        }),
        DataType::Decimal256(..) => wide(column.as_primitive::<Decimal256Type>(), hashes, |value| {
            let bytes = value.to_le_bytes();
            std::array::from_fn::<u64, 4, _>(|word| word_at(&bytes, 8 * word))
        }),
        DataType::Utf8 => bytes(column.as_string::<i32>().iter(), hashes, |value| value.as_bytes()),
        DataType::LargeUtf8 => bytes(column.as_string::<i64>().iter(), hashes, |value| value.as_bytes()),
        DataType::Utf8View => bytes(column.as_string_view().iter(), hashes, |value| value.as_bytes()),
        DataType::Binary => bytes(column.as_binary::<i32>().iter(), hashes, |value| value),
        DataType::LargeBinary => bytes(column.as_binary::<i64>().iter(), hashes, |value| value),
        DataType::BinaryView => bytes(column.as_binary_view().iter(), hashes, |value| value),
        DataType::FixedSizeBinary(_) => bytes(column.as_fixed_size_binary().iter(), hashes, |value| value),
        DataType::Null => hashes.iter_mut().for_each(|hash| *hash = mix(*hash ^ NULL_WORD)),
        other => {
            let rows = Codec::keys(std::slice::from_ref(other))?.encode(std::slice::from_ref(column))?;
            for (row, hash) in hashes.iter_mut().enumerate() {
                *hash = match column.is_null(row) {
                    true => mix(*hash ^ NULL_WORD),
                    false => hash_bytes(*hash, rows.row(row)),
                };
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn mix(mut x: u64) -> u64 {
    x ^= x >> 32;
    x = x.wrapping_mul(MULTIPLIER);
    x ^= x >> 32;
    x = x.wrapping_mul(MULTIPLIER);
    x ^ (x >> 32)
}

#[inline(always)]
fn float(value: f64) -> u64 {
    if value == 0.0 {
        0
    } else if value.is_nan() {
        CANONICAL_NAN
    } else {
        value.to_bits()
    }
}

#[inline(always)]
fn words<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, hashes: &mut [u64], word: impl Fn(T::Native) -> u64) {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            for (hash, value) in hashes.iter_mut().zip(column.values().iter()) {
                *hash = mix(*hash ^ word(*value));
            }
        }
        Some(nulls) => {
            for ((hash, value), valid) in hashes.iter_mut().zip(column.values().iter()).zip(nulls.iter()) {
                *hash = mix(*hash ^ if valid { word(*value) } else { NULL_WORD });
            }
        }
    }
}

fn wide<T: ArrowPrimitiveType, const N: usize>(
    column: &PrimitiveArray<T>,
    hashes: &mut [u64],
    words: impl Fn(T::Native) -> [u64; N],
) {
    for (hash, value) in hashes.iter_mut().zip(column.iter()) {
        *hash = match value {
            None => mix(*hash ^ NULL_WORD),
            Some(value) => words(value).into_iter().fold(*hash, |hash, word| mix(hash ^ word)),
        };
    }
}

#[inline(always)]
fn bytes<V>(values: impl Iterator<Item = Option<V>>, hashes: &mut [u64], of: impl Fn(&V) -> &[u8]) {
    for (hash, value) in hashes.iter_mut().zip(values) {
        *hash = match &value {
            None => mix(*hash ^ NULL_WORD),
            Some(value) => hash_bytes(*hash, of(value)),
        };
    }
}

#[inline(always)]
fn hash_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let length = (bytes.len() as u64).wrapping_mul(LENGTH_FACTOR);
    if bytes.len() <= 8 {
        return mix(hash ^ short_word(bytes).wrapping_add(length));
    }
    let (whole, rest) = bytes.as_chunks::<8>();
    for word in whole {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        hash = mix(hash ^ short_word(rest));
    }
    mix(hash ^ length)
}

/// Returns up to eight bytes as a zero-padded little-endian word, by overlapping reads instead of a loop.
#[inline(always)]
fn short_word(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0 => 0,
        count @ 1..=3 => {
            let middle = count / 2;
            let byte = |at: usize| u64::from(bytes[at]) << (8 * at);
            byte(0) | byte(middle) | byte(count - 1)
        }
        count @ 4..=7 => {
            let half = |at: usize| {
                u64::from(u32::from_le_bytes([
                    bytes[at],
                    bytes[at + 1],
                    bytes[at + 2],
                    bytes[at + 3],
                ]))
            };
            half(0) | half(count - 4) << (8 * (count - 4))
        }
        _ => word_at(bytes, 0),
    }
}

#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests;
