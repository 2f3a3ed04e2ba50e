//! Numbers in cells.

use arrow::datatypes::*;
use millstream_state::keyed::Table;

/// A primitive type whose values are in cells.
pub(super) trait CellType: ArrowPrimitiveType + Send {
    /// Returns the value of a cell; zero for NULL.
    fn get(table: &Table, slot: u32, value: usize) -> Self::Native;

    /// Sets a cell.
    fn set(table: &mut Table, slot: u32, value: usize, number: Self::Native);
}

macro_rules! cells {
    ($($type:ty),*) => {$(
        impl CellType for $type {
            #[inline(always)]
            fn get(table: &Table, slot: u32, value: usize) -> Self::Native {
                Self::Native::from_le_bytes(table.fixed(slot, value))
            }

            #[inline(always)]
            fn set(table: &mut Table, slot: u32, value: usize, number: Self::Native) {
                table.set_fixed(slot, value, number.to_le_bytes());
            }
        }
    )*};
}
cells!(
    Int8Type,
    Int16Type,
    Int32Type,
    Int64Type,
    UInt8Type,
    UInt16Type,
    UInt32Type,
    UInt64Type,
    Float32Type,
    Float64Type,
    Date32Type,
    Date64Type,
    TimestampSecondType,
    TimestampMillisecondType,
    TimestampMicrosecondType,
    TimestampNanosecondType,
    Time32SecondType,
    Time32MillisecondType,
    Time64MicrosecondType,
    Time64NanosecondType,
    DurationMicrosecondType,
    IntervalYearMonthType,
    Decimal128Type
);
