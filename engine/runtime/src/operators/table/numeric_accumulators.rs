//! Accumulators that fold numbers in place: count, sum, min, max and average.
//!
//! Each is a vector of values indexed by group. A second vector tells which groups have had a value at all (the sum of
//! the others is NULL). It exists only once it is needed: as long as no input had NULLs or a filter, all groups have a
//! value.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};

use super::group_index::vec_growth;
use super::{Accumulator, Select};
use crate::Error;

/// A fold of numbers.
pub(in crate::operators) trait FoldOperation: Send {
    /// Returns the value before the first.
    fn initial<N: ArrowNativeTypeOp>() -> N;
    /// Folds a value into the former result.
    fn apply<N: ArrowNativeTypeOp>(held: N, value: N) -> N;
}

/// The sum. Wraps on integer overflow, as in Flink and DataFusion.
pub(super) struct Sum;
/// The sum of decimals, NULL if it has more digits than its type, as in Flink. On overflow of the 128 bits it becomes
/// the greatest integer, which is not a valid decimal, and stays so.
pub(super) struct DecimalSum;
/// The minimum.
pub(in crate::operators) struct Min;
/// The maximum.
pub(in crate::operators) struct Max;

impl FoldOperation for Sum {
    fn initial<N: ArrowNativeTypeOp>() -> N {
        N::ZERO
    }

    #[inline]
    fn apply<N: ArrowNativeTypeOp>(held: N, value: N) -> N {
        held.add_wrapping(value)
    }
}

impl FoldOperation for DecimalSum {
    fn initial<N: ArrowNativeTypeOp>() -> N {
        N::ZERO
    }

    #[inline]
    fn apply<N: ArrowNativeTypeOp>(held: N, value: N) -> N {
        let beyond = N::MAX_TOTAL_ORDER;
        if held.is_eq(beyond) || value.is_eq(beyond) {
            return beyond;
        }
        held.add_checked(value).unwrap_or(beyond)
    }
}

impl FoldOperation for Min {
    fn initial<N: ArrowNativeTypeOp>() -> N {
        N::MAX_TOTAL_ORDER
    }

    #[inline]
    fn apply<N: ArrowNativeTypeOp>(held: N, value: N) -> N {
        if value.is_lt(held) { value } else { held }
    }
}

impl FoldOperation for Max {
    fn initial<N: ArrowNativeTypeOp>() -> N {
        N::MIN_TOTAL_ORDER
    }

    #[inline]
    fn apply<N: ArrowNativeTypeOp>(held: N, value: N) -> N {
        if value.is_gt(held) { value } else { held }
    }
}

/// Returns the rows that count: neither NULL nor filtered out. `None` if all do.
fn counted(array: Option<&dyn Array>, filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let nulls = array
        .and_then(|array| array.nulls())
        .filter(|nulls| nulls.null_count() > 0)
        .cloned();
    let passed = filter.map(|filter| {
        let passed = match filter.nulls() {
            Some(nulls) => filter.values() & nulls.inner(),
            None => filter.values().clone(),
        };
        NullBuffer::new(passed)
    });
    NullBuffer::union(nulls.as_ref(), passed.as_ref())
}

/// Sum, minimum or maximum.
pub(super) struct NumericAccumulator<T: ArrowPrimitiveType, O> {
    data_type: DataType,
    values: Vec<T::Native>,
    /// By group: true if it has had a value. `None` if all have.
    seen: Option<Vec<bool>>,
    operation: PhantomData<O>,
}

impl<T: ArrowPrimitiveType, O: FoldOperation> NumericAccumulator<T, O>
where
    T::Native: ArrowNativeTypeOp,
{
    pub(super) fn new(data_type: &DataType) -> Self {
        Self {
            data_type: data_type.clone(),
            values: Vec::new(),
            seen: None,
            operation: PhantomData,
        }
    }

    fn fold(
        &mut self,
        array: &ArrayRef,
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        let converted;
        let array = if array.data_type() == &self.data_type {
            array
        } else {
            converted = cast(array, &self.data_type)?;
            &converted
        };
        let array = array.as_primitive::<T>();
        let counted = counted(Some(array), filter);
        if counted.is_some() && self.seen.is_none() {
            self.seen = Some(vec![true; self.values.len()]);
        }
        self.values.resize(group_count, O::initial());
        let values = &mut self.values[..];
        match counted {
            None => {
                for (group, value) in groups.iter().zip(array.values()) {
                    let held = &mut values[*group as usize];
                    *held = O::apply(*held, *value);
                }
                if let Some(seen) = &mut self.seen {
                    seen.resize(group_count, false);
                    for group in groups {
                        seen[*group as usize] = true;
                    }
                }
            }
            Some(counted) => {
                let seen = self.seen.as_mut().expect("made above");
                seen.resize(group_count, false);
                for row in counted.valid_indices() {
                    let group = groups[row] as usize;
                    values[group] = O::apply(values[group], array.value(row));
                    seen[group] = true;
                }
            }
        }
        Ok(())
    }

    fn read(&self, select: &Select<'_>) -> ArrayRef {
        let values = select.gather(&self.values);
        let nulls = self.seen.as_ref().map(|seen| NullBuffer::from(select.gather(seen)));
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(self.data_type.clone()))
    }
}

impl<T: ArrowPrimitiveType, O: FoldOperation> Accumulator for NumericAccumulator<T, O>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        self.fold(&values[0], filter, groups, group_count)
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        self.fold(&states[0], None, groups, group_count)
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        Ok(vec![self.read(select)])
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        let values = self.read(select);
        Ok(match (values.as_primitive_opt::<Decimal128Type>(), &self.data_type) {
            (Some(decimals), DataType::Decimal128(precision, _)) => {
                let decimals = decimals.null_if_overflow_precision(*precision);
                Arc::new(decimals.with_data_type(self.data_type.clone()))
            }
            _ => values,
        })
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.seen.as_ref().map_or(0, Vec::capacity)
    }

    fn growth(&self, groups: usize) -> usize {
        let seen = self.seen.as_ref().map_or(0, |seen| vec_growth(seen, groups));
        vec_growth(&self.values, groups) + seen
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.values.clear();
        self.seen = None;
        Ok(())
    }
}

/// Makes the accumulator of the minimum or maximum of values of this type; `None` if they are not numbers or times.
pub(super) fn extremum<O: FoldOperation + 'static>(result: &DataType) -> Option<Box<dyn Accumulator>> {
    use arrow::datatypes::*;

    macro_rules! fold {
        ($type:ty) => {
            Some(Box::new(NumericAccumulator::<$type, O>::new(result)))
        };
    }
    match result {
        DataType::Int8 => fold!(Int8Type),
        DataType::Int16 => fold!(Int16Type),
        DataType::Int32 => fold!(Int32Type),
        DataType::Int64 => fold!(Int64Type),
        DataType::UInt8 => fold!(UInt8Type),
        DataType::UInt16 => fold!(UInt16Type),
        DataType::UInt32 => fold!(UInt32Type),
        DataType::UInt64 => fold!(UInt64Type),
        DataType::Float32 => fold!(Float32Type),
        DataType::Float64 => fold!(Float64Type),
        DataType::Date32 => fold!(Date32Type),
        DataType::Date64 => fold!(Date64Type),
        DataType::Timestamp(TimeUnit::Second, _) => fold!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => fold!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => fold!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => fold!(TimestampNanosecondType),
        DataType::Duration(TimeUnit::Microsecond) => fold!(DurationMicrosecondType),
        DataType::Interval(IntervalUnit::YearMonth) => fold!(IntervalYearMonthType),
        DataType::Decimal128(..) => fold!(Decimal128Type),
        _ => None,
    }
}

/// The number of rows, or of values that are not NULL.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        self.counts.resize(group_count, 0);
        let counts = &mut self.counts[..];
        match counted(values.first().map(|array| array.as_ref()), filter) {
            None => {
                for group in groups {
                    counts[*group as usize] += 1;
                }
            }
            Some(counted) => {
                for row in counted.valid_indices() {
                    counts[groups[row] as usize] += 1;
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        self.counts.resize(group_count, 0);
        for (group, count) in groups.iter().zip(states[0].as_primitive::<Int64Type>().values()) {
            self.counts[*group as usize] += count;
        }
        Ok(())
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        Ok(vec![Arc::new(Int64Array::from(select.gather(&self.counts)))])
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        Ok(Arc::new(Int64Array::from(select.gather(&self.counts))))
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }

    fn growth(&self, groups: usize) -> usize {
        vec_growth(&self.counts, groups)
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.counts.clear();
        Ok(())
    }
}

/// The average of floating-point numbers; integers are converted.
#[derive(Default)]
pub(super) struct Average {
    counts: Vec<u64>,
    sums: Vec<f64>,
}

impl Average {
    fn resize(&mut self, group_count: usize) {
        self.counts.resize(group_count, 0);
        self.sums.resize(group_count, 0.0);
    }
}

impl Accumulator for Average {
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        self.resize(group_count);
        let array = cast(&values[0], &DataType::Float64)?;
        let array = array.as_primitive::<Float64Type>();
        match counted(Some(array), filter) {
            None => {
                for (group, value) in groups.iter().zip(array.values()) {
                    self.sums[*group as usize] += value;
                    self.counts[*group as usize] += 1;
                }
            }
            Some(counted) => {
                for row in counted.valid_indices() {
                    self.sums[groups[row] as usize] += array.value(row);
                    self.counts[groups[row] as usize] += 1;
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        self.resize(group_count);
        let counts = states[0].as_primitive::<UInt64Type>();
        let sums = states[1].as_primitive::<Float64Type>();
        for (row, group) in groups.iter().enumerate() {
            if counts.is_valid(row) && sums.is_valid(row) {
                self.counts[*group as usize] += counts.value(row);
                self.sums[*group as usize] += sums.value(row);
            }
        }
        Ok(())
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        Ok(vec![
            Arc::new(UInt64Array::from(select.gather(&self.counts))),
            Arc::new(PrimitiveArray::<Float64Type>::from(select.gather(&self.sums))),
        ])
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        let means = select.iter().map(|group| {
            let count = self.counts[group as usize];
            (count > 0).then(|| self.sums[group as usize] / count as f64)
        });
        Ok(Arc::new(means.collect::<PrimitiveArray<Float64Type>>()))
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<u64>() + self.sums.capacity() * size_of::<f64>()
    }

    fn growth(&self, groups: usize) -> usize {
        vec_growth(&self.counts, groups) + vec_growth(&self.sums, groups)
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.counts.clear();
        self.sums.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Decimal128Array;

    use super::*;

    #[test]
    fn a_sum_of_decimals_with_too_many_digits_is_null_and_stays_so() {
        let decimals = |values: &[i128]| {
            let values = Decimal128Array::from(values.to_vec()).with_data_type(DataType::Decimal128(38, 0));
            Arc::new(values) as ArrayRef
        };
        let most = 10_i128.pow(38) - 1;
        let mut sums = NumericAccumulator::<Decimal128Type, DecimalSum>::new(&DataType::Decimal128(38, 0));
        // 0 wraps the machine's words, and would come back; 1 has a digit too many for a while; 2 is sound.
        let update = |sums: &mut NumericAccumulator<_, _>, values: &[i128]| {
            let (values, groups) = (decimals(values), [0, 1, 2]);
            for _ in 0..2 {
                Accumulator::update(sums, std::slice::from_ref(&values), None, &groups, 3).unwrap();
            }
        };
        update(&mut sums, &[most, most / 2 + 1, 1]);
        assert_eq!(
            sums.evaluate(&Select::Range(0..3)).unwrap().as_ref(),
            &Decimal128Array::from(vec![None, None, Some(2)]).with_data_type(DataType::Decimal128(38, 0)) as &dyn Array
        );
        update(&mut sums, &[-most, -1, -1]);
        let expected = [None, Some(most - 1), Some(0)];
        let found = sums.evaluate(&Select::Range(0..3)).unwrap();
        assert_eq!(
            found.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(),
            expected
        );

        // Through a checkpoint, too.
        let state = sums.state(&Select::Range(0..3)).unwrap();
        let mut merged = NumericAccumulator::<Decimal128Type, DecimalSum>::new(&DataType::Decimal128(38, 0));
        for _ in 0..2 {
            merged.merge(&state, &[0, 0, 0], 1).unwrap();
        }
        assert!(merged.evaluate(&Select::Range(0..1)).unwrap().is_null(0));
    }
}
