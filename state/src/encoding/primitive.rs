//! The order-preserving and compact encodings of fixed-width values.

use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, i256};

/// A value of `N` bytes.
pub(crate) trait Fixed<const N: usize>: Copy + Default {
    fn to_ordered(self) -> [u8; N];
    fn from_ordered(bytes: [u8; N]) -> Self;
    fn to_compact(self) -> [u8; N];
    fn from_compact(bytes: [u8; N]) -> Self;
}

macro_rules! signed {
    ($($type:ty, $n:literal);*) => {$(
        impl Fixed<$n> for $type {
            #[inline(always)]
            fn to_ordered(self) -> [u8; $n] {
                let mut bytes = self.to_be_bytes();
                bytes[0] ^= 0x80;
                bytes
            }
            #[inline(always)]
            fn from_ordered(mut bytes: [u8; $n]) -> Self {
                bytes[0] ^= 0x80;
                Self::from_be_bytes(bytes)
            }
            #[inline(always)]
            fn to_compact(self) -> [u8; $n] {
                self.to_le_bytes()
            }
            #[inline(always)]
            fn from_compact(bytes: [u8; $n]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}
signed!(i8, 1; i16, 2; i32, 4; i64, 8; i128, 16; i256, 32);

macro_rules! unsigned {
    ($($type:ty, $n:literal);*) => {$(
        impl Fixed<$n> for $type {
            #[inline(always)]
            fn to_ordered(self) -> [u8; $n] {
                self.to_be_bytes()
            }
            #[inline(always)]
            fn from_ordered(bytes: [u8; $n]) -> Self {
                Self::from_be_bytes(bytes)
            }
            #[inline(always)]
            fn to_compact(self) -> [u8; $n] {
                self.to_le_bytes()
            }
            #[inline(always)]
            fn from_compact(bytes: [u8; $n]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}
unsigned!(u8, 1; u16, 2; u32, 4; u64, 8);

use half::f16 as F16;

macro_rules! float {
    ($($type:ty, $bits:ty, $n:literal, $sign:literal, $nan:literal, $zero:expr);*) => {$(
        impl Fixed<$n> for $type {
            #[inline(always)]
            fn to_ordered(self) -> [u8; $n] {
                let bits = if self.is_nan() { $nan } else if self == $zero { 0 } else { self.to_bits() };
                let ordered: $bits = if bits & $sign != 0 { !bits } else { bits ^ $sign };
                ordered.to_be_bytes()
            }
            #[inline(always)]
            fn from_ordered(bytes: [u8; $n]) -> Self {
                let ordered = <$bits>::from_be_bytes(bytes);
                Self::from_bits(if ordered & $sign != 0 { ordered ^ $sign } else { !ordered })
            }
            #[inline(always)]
            fn to_compact(self) -> [u8; $n] {
                self.to_bits().to_le_bytes()
            }
            #[inline(always)]
            fn from_compact(bytes: [u8; $n]) -> Self {
                Self::from_bits(<$bits>::from_le_bytes(bytes))
            }
        }
    )*};
}
float!(
    F16, u16, 2, 0x8000, 0x7e00, F16::from_bits(0);
    f32, u32, 4, 0x8000_0000, 0x7fc0_0000, 0.0;
    f64, u64, 8, 0x8000_0000_0000_0000, 0x7ff8_0000_0000_0000, 0.0
);

/// Joins the bytes of parts.
fn join<const A: usize, const B: usize, const N: usize>(a: [u8; A], b: [u8; B]) -> [u8; N] {
    let mut joined = [0; N];
    joined[..A].copy_from_slice(&a);
    joined[A..].copy_from_slice(&b);
    joined
}

fn part<const A: usize, const N: usize>(bytes: [u8; N], at: usize) -> [u8; A] {
    let mut part = [0; A];
    part.copy_from_slice(&bytes[at..at + A]);
    part
}

impl Fixed<8> for IntervalDayTime {
    fn to_ordered(self) -> [u8; 8] {
        join(self.days.to_ordered(), self.milliseconds.to_ordered())
    }
    fn from_ordered(bytes: [u8; 8]) -> Self {
        Self::new(i32::from_ordered(part(bytes, 0)), i32::from_ordered(part(bytes, 4)))
    }
    fn to_compact(self) -> [u8; 8] {
        join(self.days.to_compact(), self.milliseconds.to_compact())
    }
    fn from_compact(bytes: [u8; 8]) -> Self {
        Self::new(i32::from_compact(part(bytes, 0)), i32::from_compact(part(bytes, 4)))
    }
}

impl Fixed<16> for IntervalMonthDayNano {
    fn to_ordered(self) -> [u8; 16] {
        let date: [u8; 8] = join(self.months.to_ordered(), self.days.to_ordered());
        join(date, self.nanoseconds.to_ordered())
    }
    fn from_ordered(bytes: [u8; 16]) -> Self {
        Self::new(
            i32::from_ordered(part(bytes, 0)),
            i32::from_ordered(part(bytes, 4)),
            i64::from_ordered(part(bytes, 8)),
        )
    }
    fn to_compact(self) -> [u8; 16] {
        let date: [u8; 8] = join(self.months.to_compact(), self.days.to_compact());
        join(date, self.nanoseconds.to_compact())
    }
    fn from_compact(bytes: [u8; 16]) -> Self {
        Self::new(
            i32::from_compact(part(bytes, 0)),
            i32::from_compact(part(bytes, 4)),
            i64::from_compact(part(bytes, 8)),
        )
    }
}

/// Calls a macro for a fixed-width type with its Arrow type and its bytes; for other types, the fallback.
macro_rules! with_fixed {
    ($data_type:expr, $call:ident, $($otherwise:tt)+) => {{
        #[allow(unused_imports, reason = "some callers ignore the type")]
        use arrow_array::types::*;
        use arrow_schema::{IntervalUnit, TimeUnit};
        match $data_type {
            DataType::Int8 => $call!(Int8Type, 1),
            DataType::Int16 => $call!(Int16Type, 2),
            DataType::Int32 => $call!(Int32Type, 4),
            DataType::Int64 => $call!(Int64Type, 8),
            DataType::UInt8 => $call!(UInt8Type, 1),
            DataType::UInt16 => $call!(UInt16Type, 2),
            DataType::UInt32 => $call!(UInt32Type, 4),
            DataType::UInt64 => $call!(UInt64Type, 8),
            DataType::Float16 => $call!(Float16Type, 2),
            DataType::Float32 => $call!(Float32Type, 4),
            DataType::Float64 => $call!(Float64Type, 8),
            DataType::Date32 => $call!(Date32Type, 4),
            DataType::Date64 => $call!(Date64Type, 8),
            DataType::Time32(TimeUnit::Second) => $call!(Time32SecondType, 4),
            DataType::Time32(_) => $call!(Time32MillisecondType, 4),
            DataType::Time64(TimeUnit::Microsecond) => $call!(Time64MicrosecondType, 8),
            DataType::Time64(_) => $call!(Time64NanosecondType, 8),
            DataType::Timestamp(TimeUnit::Second, _) => $call!(TimestampSecondType, 8),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $call!(TimestampMillisecondType, 8),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $call!(TimestampMicrosecondType, 8),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $call!(TimestampNanosecondType, 8),
            DataType::Duration(TimeUnit::Second) => $call!(DurationSecondType, 8),
            DataType::Duration(TimeUnit::Millisecond) => $call!(DurationMillisecondType, 8),
            DataType::Duration(TimeUnit::Microsecond) => $call!(DurationMicrosecondType, 8),
            DataType::Duration(TimeUnit::Nanosecond) => $call!(DurationNanosecondType, 8),
            DataType::Interval(IntervalUnit::YearMonth) => $call!(IntervalYearMonthType, 4),
            DataType::Interval(IntervalUnit::DayTime) => $call!(IntervalDayTimeType, 8),
            DataType::Interval(IntervalUnit::MonthDayNano) => $call!(IntervalMonthDayNanoType, 16),
            DataType::Decimal32(..) => $call!(Decimal32Type, 4),
            DataType::Decimal64(..) => $call!(Decimal64Type, 8),
            DataType::Decimal128(..) => $call!(Decimal128Type, 16),
            DataType::Decimal256(..) => $call!(Decimal256Type, 32),
            $($otherwise)+
        }
    }};
}
pub(super) use with_fixed;
