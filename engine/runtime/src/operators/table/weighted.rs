//! Accumulators of rows that can be taken back: of a changelog.
//!
//! The last value column of an update is the weight of each row: 1 adds it, -1 takes it back. Counts, sums and averages
//! are sums of weighted values; all other functions keep the values of each group with their weights ([`Values`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Float64Array,
    Int64Array, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type};

use super::numeric_accumulators::{Max, Min, extremum};
use super::{Accumulator, AggregateSpec, Select};
use millstream_connectors::changelog;
use millstream_graph::partial_state;

use crate::Error;
use crate::operators::collection::{Collection, CollectionResult, in_type, is_of_distinct_values};
use crate::operators::double::Double;

/// Makes the accumulator of a call, with the fields of its partial state. Fails if the function cannot take rows back.
pub(super) fn new_weighted(spec: &AggregateSpec) -> Result<(Box<dyn Accumulator>, Vec<FieldRef>), Error> {
    accumulator(spec).ok_or_else(|| Error::Operator {
        operator: spec.aggregate.function.fun().name().to_uppercase(),
        message: "a window cannot take back rows that its input updates or deletes".to_owned(),
    })
}

fn accumulator(spec: &AggregateSpec) -> Option<(Box<dyn Accumulator>, Vec<FieldRef>)> {
    let function = &spec.aggregate.function;
    let name = function.fun().name();
    // Values that are never taken back need not be kept.
    let is_append = !changelog::is_changelog(&spec.weighted.as_ref()?.input);
    if is_append && partial_state(&spec.aggregate, false).is_some() {
        let extremum = match name {
            "min" => extremum::<Min>(&spec.result_type),
            "max" => extremum::<Max>(&spec.result_type),
            _ => None,
        };
        if let Some(extremum) = extremum {
            return Some((
                extremum,
                vec![Arc::new(Field::new(name, spec.result_type.clone(), true))],
            ));
        }
    }
    if let Some(collection) = Collection::of(function, &spec.weighted.as_ref()?.input) {
        // Without an order, the first value is that of the first row, and the order of rows is not kept.
        let is_first = matches!(name, "first_value" | "last_value");
        if is_first && !collection.is_ordered {
            return None;
        }
        let is_distinct = function.is_distinct() || is_of_distinct_values(name);
        return Some((Box::new(Values::new(collection, None, is_distinct)), values_state()));
    }
    let (constant, types) = constant_state(name, &spec.result_type)?;
    if function.is_distinct() {
        let [argument] = <[_; 1]>::try_from(function.expressions()).ok()?;
        let value = argument.data_type(&spec.weighted.as_ref()?.input).ok()?;
        let collection = Collection::all(name, &value);
        return Some((Box::new(Values::new(collection, Some(constant), true)), values_state()));
    }
    let fields = types.into_iter().enumerate();
    let fields = fields.map(|(at, of)| Arc::new(Field::new(format!("{name}[{at}]"), of, true)));
    Some((constant, fields.collect()))
}

fn values_state() -> Vec<FieldRef> {
    vec![Arc::new(Field::new("values", DataType::Binary, true))]
}

/// Makes the accumulator of a function whose state has constant size, with the types of its partial state.
fn constant_state(name: &str, result: &DataType) -> Option<(Box<dyn Accumulator>, Vec<DataType>)> {
    let floats = || {
        let mut types = vec![DataType::Int64; 6];
        types[1] = DataType::Float64;
        types[2] = DataType::Float64;
        types
    };
    let sum = |sum: Box<dyn Accumulator>| Some((sum, vec![DataType::Int64, result.clone()]));
    match (name, result) {
        ("count", _) => Some((Box::new(Count::default()), vec![DataType::Int64])),
        ("sum", DataType::Int64) => sum(Box::new(Sum::<Int64Type>::new(result))),
        ("sum", DataType::Decimal128(..)) => sum(Box::new(Sum::<Decimal128Type>::new(result))),
        ("sum", DataType::Float64) => Some((Box::new(Floats::new(false)), floats())),
        ("avg", DataType::Float64) => Some((Box::new(Floats::new(true)), floats())),
        _ => None,
    }
}

/// Calls `visit(row, group, weight)` for each row that passes the filter and is not NULL.
fn for_each(
    values: &[ArrayRef],
    nulls: Option<&NullBuffer>,
    filter: Option<&BooleanArray>,
    groups: &[u32],
    mut visit: impl FnMut(usize, usize, i64),
) {
    let Some(weights) = values
        .last()
        .and_then(|weights| weights.as_primitive_opt::<Int64Type>())
    else {
        return;
    };
    for (row, group) in groups.iter().enumerate() {
        let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        if passes && nulls.is_none_or(|nulls| nulls.is_valid(row)) {
            visit(row, *group as usize, weights.value(row));
        }
    }
}

/// The number of rows, or of values that are not NULL.
#[derive(Default)]
struct Count {
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
        let arguments = &values[..values.len() - 1];
        let nulls = arguments.first().and_then(|argument| argument.logical_nulls());
        for_each(values, nulls.as_ref(), filter, groups, |_, group, weight| {
            self.counts[group] += weight;
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        merge_counts(&mut self.counts, &states[0], groups, group_count);
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

    fn clear(&mut self) -> Result<(), Error> {
        self.counts.clear();
        Ok(())
    }
}

fn merge_counts(counts: &mut Vec<i64>, state: &ArrayRef, groups: &[u32], group_count: usize) {
    counts.resize(group_count, 0);
    for (group, count) in groups.iter().zip(state.as_primitive::<Int64Type>().values()) {
        counts[*group as usize] += count;
    }
}

/// The sum of integers, which wraps, or of decimals, which is NULL if it has more digits than its type. A sum of
/// decimals beyond 128 bits becomes the greatest integer, which is not a valid decimal, and stays so.
struct Sum<T: ArrowPrimitiveType> {
    result: DataType,
    counts: Vec<i64>,
    sums: Vec<T::Native>,
}

impl<T: ArrowPrimitiveType> Sum<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn new(result: &DataType) -> Self {
        Self {
            result: result.clone(),
            counts: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Adds `value`, or subtracts it.
    fn add(&mut self, group: usize, value: T::Native, is_added: bool) {
        let beyond = T::Native::MAX_TOTAL_ORDER;
        let sum = &mut self.sums[group];
        *sum = match (self.result.is_decimal(), is_added) {
            (false, true) => sum.add_wrapping(value),
            (false, false) => sum.sub_wrapping(value),
            (true, _) if sum.is_eq(beyond) || value.is_eq(beyond) => beyond,
            (true, true) => sum.add_checked(value).unwrap_or(beyond),
            (true, false) => sum.sub_checked(value).unwrap_or(beyond),
        };
    }

    fn sums(&self, select: &Select<'_>, nulls: Option<NullBuffer>) -> PrimitiveArray<T> {
        PrimitiveArray::<T>::new(select.gather(&self.sums).into(), nulls).with_data_type(self.result.clone())
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Sum<T>
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
        self.counts.resize(group_count, 0);
        self.sums.resize(group_count, T::Native::ZERO);
        let column = in_type(&values[0], &self.result)?;
        let column = column.as_primitive::<T>();
        for_each(values, column.nulls(), filter, groups, |row, group, weight| {
            self.counts[group] += weight;
            self.add(group, column.value(row), weight > 0);
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        merge_counts(&mut self.counts, &states[0], groups, group_count);
        self.sums.resize(group_count, T::Native::ZERO);
        for (group, sum) in groups.iter().zip(states[1].as_primitive::<T>().values()) {
            self.add(*group as usize, *sum, true);
        }
        Ok(())
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        Ok(vec![
            Arc::new(Int64Array::from(select.gather(&self.counts))),
            Arc::new(self.sums(select, None)),
        ])
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        let counts = select.gather(&self.counts);
        let nulls = NullBuffer::from_iter(counts.iter().map(|count| *count > 0));
        let sums: ArrayRef = Arc::new(self.sums(select, Some(nulls)));
        Ok(match (sums.as_primitive_opt::<Decimal128Type>(), &self.result) {
            (Some(decimals), DataType::Decimal128(precision, _)) => {
                let decimals = decimals.null_if_overflow_precision(*precision);
                Arc::new(decimals.with_data_type(self.result.clone()))
            }
            _ => sums,
        })
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>() + self.sums.capacity() * size_of::<T::Native>()
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.counts.clear();
        self.sums.clear();
        Ok(())
    }
}

/// A sum of floating-point numbers. The numbers that are not finite are counted, and are not part of the sum.
#[derive(Debug, Clone, Copy, Default)]
struct FloatSum {
    count: i64,
    sum: Double,
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

impl FloatSum {
    fn add(&mut self, value: f64, weight: i64) {
        self.count += weight;
        match value {
            value if value.is_nan() => self.nans += weight,
            f64::INFINITY => self.infinities += weight,
            f64::NEG_INFINITY => self.negative_infinities += weight,
            value => self.sum = self.sum.plus(Double::sum(value * weight as f64, 0.0)),
        }
    }

    fn result(&self) -> f64 {
        match (self.nans > 0, self.infinities > 0, self.negative_infinities > 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => self.sum.rounded(),
        }
    }
}

/// The sum or average of floating-point numbers; integers are converted.
struct Floats {
    is_average: bool,
    sums: Vec<FloatSum>,
}

impl Floats {
    fn new(is_average: bool) -> Self {
        Self {
            is_average,
            sums: Vec::new(),
        }
    }
}

impl Accumulator for Floats {
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        self.sums.resize(group_count, FloatSum::default());
        let column = in_type(&values[0], &DataType::Float64)?;
        let column = column.as_primitive::<Float64Type>();
        for_each(values, column.nulls(), filter, groups, |row, group, weight| {
            self.sums[group].add(column.value(row), weight);
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        self.sums.resize(group_count, FloatSum::default());
        let integers = |at: usize| states[at].as_primitive::<Int64Type>();
        let floats = |at: usize| states[at].as_primitive::<Float64Type>();
        for (row, group) in groups.iter().enumerate() {
            let sum = &mut self.sums[*group as usize];
            sum.count += integers(0).value(row);
            sum.sum = sum.sum.plus(Double {
                high: floats(1).value(row),
                low: floats(2).value(row),
            });
            sum.nans += integers(3).value(row);
            sum.infinities += integers(4).value(row);
            sum.negative_infinities += integers(5).value(row);
        }
        Ok(())
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let sums = select.gather(&self.sums);
        let integers =
            |of: fn(&FloatSum) -> i64| Arc::new(Int64Array::from_iter_values(sums.iter().map(of))) as ArrayRef;
        let floats =
            |of: fn(&FloatSum) -> f64| Arc::new(Float64Array::from_iter_values(sums.iter().map(of))) as ArrayRef;
        Ok(vec![
            integers(|sum| sum.count),
            floats(|sum| sum.sum.high),
            floats(|sum| sum.sum.low),
            integers(|sum| sum.nans),
            integers(|sum| sum.infinities),
            integers(|sum| sum.negative_infinities),
        ])
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        let results = select.gather(&self.sums).into_iter().map(|sum| {
            let divisor = if self.is_average { sum.count as f64 } else { 1.0 };
            (sum.count > 0).then(|| sum.result() / divisor)
        });
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<FloatSum>()
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.sums.clear();
        Ok(())
    }
}

/// The values of each group, as entries of a [`Collection`], with their weights.
///
/// The partial state of a group is one byte string: for each entry its weight (i64 LE), its length (u32 LE) and its
/// bytes.
struct Values {
    collection: Collection,
    /// A function of the different values; `None` for that of the collection.
    of_values: Option<Box<dyn Accumulator>>,
    /// True if each value counts once.
    is_distinct: bool,
    groups: Vec<BTreeMap<Box<[u8]>, i64>>,
    /// Bytes of the entries.
    bytes: usize,
}

/// Bytes of an entry besides its own.
const ENTRY_BYTES: usize = 64;

impl Values {
    fn new(collection: Collection, of_values: Option<Box<dyn Accumulator>>, is_distinct: bool) -> Self {
        Self {
            collection,
            of_values,
            is_distinct,
            groups: Vec::new(),
            bytes: 0,
        }
    }

    fn add(&mut self, group: usize, entry: &[u8], weight: i64) {
        let entries = &mut self.groups[group];
        match entries.get_mut(entry) {
            Some(held) => {
                *held += weight;
                if *held == 0 {
                    entries.remove(entry);
                    self.bytes = self.bytes.saturating_sub(entry.len() + ENTRY_BYTES);
                }
            }
            None => {
                entries.insert(entry.into(), weight);
                self.bytes += entry.len() + ENTRY_BYTES;
            }
        }
    }

    /// Returns the entries of a group that are there, as often as they count.
    fn present(&self, group: u32) -> Vec<&[u8]> {
        let entries = self.groups[group as usize].iter().filter(|(_, weight)| **weight > 0);
        entries
            .flat_map(|(entry, weight)| {
                let times = if self.is_distinct { 1 } else { *weight as usize };
                std::iter::repeat_n(entry.as_ref(), times)
            })
            .collect()
    }
}

impl Accumulator for Values {
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        self.groups.resize_with(group_count, BTreeMap::new);
        let (entries, nulls) = self.collection.entries(&values[..values.len() - 1])?;
        for_each(values, nulls.as_ref(), filter, groups, |row, group, weight| {
            self.add(group, entries.row(row), weight);
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        self.groups.resize_with(group_count, BTreeMap::new);
        for (group, state) in groups.iter().zip(states[0].as_binary::<i32>()) {
            let mut rest = state.unwrap_or_default();
            while let Some((weight, entries)) = rest.split_first_chunk()
                && let Some((length, entries)) = entries.split_first_chunk()
                && let Some((entry, next)) = entries.split_at_checked(u32::from_le_bytes(*length) as usize)
            {
                self.add(*group as usize, entry, i64::from_le_bytes(*weight));
                rest = next;
            }
        }
        Ok(())
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let states = select.iter().map(|group| {
            let mut state = Vec::new();
            for (entry, weight) in &self.groups[group as usize] {
                state.extend_from_slice(&weight.to_le_bytes());
                state.extend_from_slice(&(entry.len() as u32).to_le_bytes());
                state.extend_from_slice(entry);
            }
            state
        });
        Ok(vec![Arc::new(BinaryArray::from_iter_values(states))])
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        let groups: Vec<Vec<&[u8]>> = match self.collection.kind {
            // Only one value is decoded.
            CollectionResult::First | CollectionResult::Last if self.of_values.is_none() => select
                .iter()
                .map(|group| {
                    let mut entries = self.groups[group as usize].iter();
                    let found = match self.collection.kind {
                        CollectionResult::First => entries.find(|(_, weight)| **weight > 0),
                        _ => entries.rfind(|(_, weight)| **weight > 0),
                    };
                    found.map(|(entry, _)| entry.as_ref()).into_iter().collect()
                })
                .collect(),
            _ => select.iter().map(|group| self.present(group)).collect(),
        };
        if self.of_values.is_none() {
            return self.collection.results(&groups);
        }
        let numbers = groups.iter().enumerate();
        let numbers: Vec<u32> = numbers
            .flat_map(|(number, group)| std::iter::repeat_n(number as u32, group.len()))
            .collect();
        let values = self.collection.values(groups.iter().flatten().copied().collect())?;
        let weights: ArrayRef = Arc::new(Int64Array::from_value(1, values.len()));
        let count = groups.len();
        drop(groups);
        match &mut self.of_values {
            Some(function) => {
                function.clear()?;
                function.update(&[values, weights], None, &numbers, count)?;
                function.evaluate(&Select::Range(0..count))
            }
            None => Ok(values),
        }
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<BTreeMap<Box<[u8]>, i64>>() + self.bytes
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.groups.clear();
        self.bytes = 0;
        Ok(())
    }
}
