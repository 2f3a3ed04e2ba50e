//! Functions of arrays, with Flink's treatment of NULL: a NULL array gives NULL, a NULL element is a value.

use std::ops::Range;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Int32Builder, ListArray, MutableArrayData, StringBuilder, make_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{SortOptions, sort_to_indices, take};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::scalar::{Scalar, array, array_result, boolean, utf8};

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("array_contains", array_and_element, boolean, contains)
            .comparing()
            .aliases(&["array_has"]),
        Scalar::infallible("array_position", array_and_element, |_| DataType::Int32, position).comparing(),
        Scalar::infallible("array_remove", array_and_element, first, remove).comparing(),
        Scalar::infallible("array_append", array_and_element, first, append),
        Scalar::infallible("array_prepend", array_and_element, first, prepend),
        Scalar::infallible("array_concat", arrays, first, concat),
        Scalar::infallible("array_slice", array_and_offsets, first, slice),
        Scalar::infallible("array_sort", array_and_orders, first, sort).comparing(),
        Scalar::infallible("array_join", texts, utf8, join).aliases(&["array_to_string"]),
    ]
}

pub(super) fn list_of(element: DataType) -> DataType {
    DataType::List(Field::new_list_field(element, true).into())
}

/// Returns the type of an array's elements; that of NULL for NULL.
pub(super) fn element_of(given: &DataType) -> Result<&DataType> {
    match given {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            Ok(element.data_type())
        }
        DataType::Null => Ok(&DataType::Null),
        other => plan_err!("takes an ARRAY, not {}", millstream_graph::sql_type::name(other)),
    }
}

pub(super) fn common(left: &DataType, right: &DataType) -> Result<DataType> {
    // Text and other types would be mixed as text.
    let is_mixed = left.is_string() != right.is_string() && !left.is_null() && !right.is_null();
    match type_union_coercion(left, right).filter(|_| !is_mixed) {
        Some(common) => Ok(common),
        None => plan_err!(
            "takes elements of one type, not {} and {}",
            millstream_graph::sql_type::name(left),
            millstream_graph::sql_type::name(right)
        ),
    }
}

/// Accepts an array and a value of its type of elements.
fn array_and_element(given: &[DataType]) -> Result<Vec<DataType>> {
    let [list, element] = given else {
        return plan_err!("takes 2 arguments, not {}", given.len());
    };
    let element = common(element_of(list)?, element)?;
    Ok(vec![list_of(element.clone()), element])
}

/// Accepts arrays of one type of elements.
fn arrays(given: &[DataType]) -> Result<Vec<DataType>> {
    let mut element = DataType::Null;
    for list in given {
        element = common(&element, element_of(list)?)?;
    }
    match given {
        [] => plan_err!("takes at least 1 argument"),
        _ => Ok(vec![list_of(element); given.len()]),
    }
}

fn array_and_offsets(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [list, offsets @ ..] if (1..=2).contains(&offsets.len()) => {
            let mut accepted = vec![list_of(element_of(list)?.clone())];
            accepted.extend(vec![DataType::Int64; offsets.len()]);
            Ok(accepted)
        }
        _ => plan_err!(
            "takes an array, a start and optionally an end, not {} arguments",
            given.len()
        ),
    }
}

fn array_and_orders(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [list, orders @ ..] if orders.len() <= 2 => {
            let element = element_of(list)?;
            if element.is_nested() {
                let found = millstream_graph::sql_type::name(element);
                return plan_err!("takes elements that have an order, not {found}");
            }
            let mut accepted = vec![list_of(element.clone())];
            for order in orders {
                match order {
                    DataType::Boolean | DataType::Null => accepted.push(DataType::Boolean),
                    other => {
                        return plan_err!(
                            "takes TRUE or FALSE as its order, not {}",
                            millstream_graph::sql_type::name(other)
                        );
                    }
                }
            }
            Ok(accepted)
        }
        _ => plan_err!("takes 1 to 3 arguments, not {}", given.len()),
    }
}

/// Accepts an array of strings and one or two strings.
fn texts(given: &[DataType]) -> Result<Vec<DataType>> {
    let [list, rest @ ..] = given else {
        return plan_err!("takes an array and a separator");
    };
    if !(1..=2).contains(&rest.len()) {
        return plan_err!("takes 2 or 3 arguments, not {}", given.len());
    }
    let element = element_of(list)?;
    if !element.is_string() && !element.is_null() {
        let found = millstream_graph::sql_type::name(element);
        return plan_err!("takes an array of STRING, not of {found}: CAST the array to ARRAY<STRING>");
    }
    let mut accepted = vec![list_of(DataType::Utf8)];
    accepted.extend(vec![DataType::Utf8; rest.len()]);
    Ok(accepted)
}

fn first(given: &[DataType]) -> DataType {
    given.first().cloned().unwrap_or(DataType::Null)
}

/// An argument of type ARRAY, one per row.
struct Lists {
    array: ArrayRef,
}

impl Lists {
    fn of(arguments: &ScalarFunctionArgs, index: usize) -> Result<Self> {
        let array = array(arguments, index)?;
        match array.as_list_opt::<i32>() {
            Some(_) => Ok(Self { array }),
            None => plan_err!("argument {} must be an ARRAY", index + 1),
        }
    }

    fn list(&self) -> &ListArray {
        self.array.as_list()
    }

    /// Returns the range of a row's elements in the values; `None` for NULL.
    fn range(&self, row: usize) -> Option<Range<usize>> {
        let list = self.list();
        let offsets = list.value_offsets();
        list.is_valid(row)
            .then(|| offsets[row] as usize..offsets[row + 1] as usize)
    }
}

/// Values in a form whose equality is that of SQL, where NULL equals NULL.
fn comparable(values: &[&ArrayRef]) -> Result<Vec<Rows>> {
    let converter = RowConverter::new(vec![SortField::new(values[0].data_type().clone())])?;
    let rows = values
        .iter()
        .map(|values| converter.convert_columns(&[(*values).clone()]));
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

/// Calls `each` with every row's elements that are equal to its second argument; `None` for a NULL array.
fn for_each_match(
    arguments: &ScalarFunctionArgs,
    mut each: impl FnMut(usize, Option<(Range<usize>, &mut dyn Iterator<Item = usize>)>),
) -> Result<()> {
    let (lists, needles) = (Lists::of(arguments, 0)?, array(arguments, 1)?);
    let rows = comparable(&[lists.list().values(), &needles])?;
    let (elements, wanted) = (&rows[0], &rows[1]);
    for row in 0..arguments.number_rows {
        match lists.range(row) {
            None => each(row, None),
            Some(range) => {
                let mut matching = range.clone().filter(|index| elements.row(*index) == wanted.row(row));
                each(row, Some((range, &mut matching)));
            }
        }
    }
    Ok(())
}

fn contains(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let mut result = BooleanBuilder::with_capacity(arguments.number_rows);
    for_each_match(arguments, |_, found| {
        result.append_option(found.map(|(_, matching)| matching.next().is_some()));
    })?;
    array_result(result.finish())
}

fn position(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let needles = array(arguments, 1)?;
    let mut result = Int32Builder::with_capacity(arguments.number_rows);
    for_each_match(arguments, |row, found| {
        let found = found.filter(|_| needles.is_valid(row));
        result.append_option(found.map(|(range, matching)| {
            let index = matching.next().map(|index| index - range.start + 1);
            index.and_then(|index| i32::try_from(index).ok()).unwrap_or(0)
        }));
    })?;
    array_result(result.finish())
}

/// Ranges of elements, each with the index of its source.
type Parts = Vec<(usize, Range<usize>)>;

/// Builds an array per row out of ranges of given arrays; `None` is NULL.
fn build(
    element: &DataType,
    sources: &[&ArrayRef],
    rows: usize,
    parts: impl Fn(usize) -> Option<Parts>,
) -> Result<ColumnarValue> {
    let data: Vec<_> = sources.iter().map(|source| source.to_data()).collect();
    let mut values = MutableArrayData::new(data.iter().collect(), true, data.iter().map(|data| data.len()).sum());
    let mut offsets: Vec<i32> = vec![0];
    let mut valid = Vec::with_capacity(rows);
    for row in 0..rows {
        let parts = parts(row);
        valid.push(parts.is_some());
        for (source, range) in parts.into_iter().flatten() {
            values.try_extend(source, range.start, range.end)?;
        }
        match i32::try_from(values.len()) {
            Ok(end) => offsets.push(end),
            Err(_) => return plan_err!("the arrays of a batch have more than 2,147,483,647 elements"),
        }
    }
    let field = Field::new_list_field(element.clone(), true);
    let nulls = Some(NullBuffer::from(valid));
    let list = ListArray::try_new(
        field.into(),
        OffsetBuffer::new(offsets.into()),
        make_array(values.freeze()),
        nulls,
    );
    array_result(list?)
}

fn remove(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let lists = Lists::of(arguments, 0)?;
    let mut kept: Vec<Option<Parts>> = Vec::with_capacity(arguments.number_rows);
    for_each_match(arguments, |_, found| {
        kept.push(found.map(|(range, matching)| {
            let mut parts = Vec::new();
            let mut start = range.start;
            for index in matching {
                parts.push((0, start..index));
                start = index + 1;
            }
            parts.push((0, start..range.end));
            parts
        }));
    })?;
    let values = lists.list().values();
    build(values.data_type(), &[values], arguments.number_rows, |row| {
        kept[row].clone()
    })
}

fn append(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (lists, elements) = (Lists::of(arguments, 0)?, array(arguments, 1)?);
    let values = lists.list().values();
    build(values.data_type(), &[values, &elements], arguments.number_rows, |row| {
        lists.range(row).map(|range| vec![(0, range), (1, row..row + 1)])
    })
}

fn prepend(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (lists, elements) = (Lists::of(arguments, 0)?, array(arguments, 1)?);
    let values = lists.list().values();
    build(values.data_type(), &[values, &elements], arguments.number_rows, |row| {
        lists.range(row).map(|range| vec![(1, row..row + 1), (0, range)])
    })
}

fn concat(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let lists = (0..arguments.args.len()).map(|index| Lists::of(arguments, index));
    let lists = lists.collect::<Result<Vec<_>>>()?;
    let values: Vec<&ArrayRef> = lists.iter().map(|lists| lists.list().values()).collect();
    build(values[0].data_type(), &values, arguments.number_rows, |row| {
        let ranges = lists.iter().enumerate();
        ranges.map(|(index, lists)| Some((index, lists.range(row)?))).collect()
    })
}

fn slice(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (lists, starts) = (Lists::of(arguments, 0)?, array(arguments, 1)?);
    let ends = match arguments.args.len() {
        2 => None,
        _ => Some(array(arguments, 2)?),
    };
    let values = lists.list().values();
    build(values.data_type(), &[values], arguments.number_rows, |row| {
        let range = lists.range(row)?;
        let start = value_at(&starts, row)?;
        let end = match &ends {
            Some(ends) => value_at(ends, row)?,
            None => i64::MAX,
        };
        Some(vec![(0, sub_range(range, start, end))])
    })
}

fn value_at(numbers: &ArrayRef, row: usize) -> Option<i64> {
    numbers
        .is_valid(row)
        .then(|| numbers.as_primitive::<Int64Type>().value(row))
}

/// Returns the elements from the 1-based `start` to `end`, both included. Negative positions count from the end, 0 is
/// the first.
fn sub_range(range: Range<usize>, start: i64, end: i64) -> Range<usize> {
    let length = i64::try_from(range.len()).unwrap_or(i64::MAX);
    // From 1, which a position before the array is below of.
    let from_start = |position: i64| match position {
        0 => 1,
        1.. => position,
        _ => length.saturating_add(position).saturating_add(1),
    };
    let (start, end) = (from_start(start), from_start(end));
    if start > end || start > length || end < 1 {
        return range.start..range.start;
    }
    let first = usize::try_from(start.max(1) - 1).unwrap_or(0);
    let last = usize::try_from(end.min(length)).unwrap_or(0);
    range.start + first..range.start + last
}

fn sort(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let lists = Lists::of(arguments, 0)?;
    let orders = (1..arguments.args.len()).map(|index| array(arguments, index));
    let orders = orders.collect::<Result<Vec<_>>>()?;
    let values = lists.list().values();
    let mut indices: Vec<i32> = Vec::with_capacity(values.len());
    let mut ranges: Vec<Option<Range<usize>>> = Vec::with_capacity(arguments.number_rows);
    for row in 0..arguments.number_rows {
        let range = lists
            .range(row)
            .filter(|_| orders.iter().all(|order| order.is_valid(row)));
        let Some(range) = range else {
            ranges.push(None);
            continue;
        };
        let order = |index: usize| orders.get(index).map(|order: &ArrayRef| order.as_boolean().value(row));
        let ascending = order(0).unwrap_or(true);
        let options = SortOptions {
            descending: !ascending,
            nulls_first: order(1).unwrap_or(ascending),
        };
        let sorted = sort_to_indices(&values.slice(range.start, range.len()), Some(options), None)?;
        let start = indices.len();
        let offset = i32::try_from(range.start).unwrap_or(i32::MAX);
        indices.extend(
            sorted
                .values()
                .iter()
                .map(|index| offset + i32::try_from(*index).unwrap_or(i32::MAX)),
        );
        ranges.push(Some(start..indices.len()));
    }
    let indices = datafusion::arrow::array::PrimitiveArray::<Int32Type>::from(indices);
    let sorted = take(values, &indices, None)?;
    build(values.data_type(), &[&sorted], arguments.number_rows, |row| {
        ranges[row].clone().map(|range| vec![(0, range)])
    })
}

fn join(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (lists, separators) = (Lists::of(arguments, 0)?, array(arguments, 1)?);
    let replacements = match arguments.args.len() {
        2 => None,
        _ => Some(array(arguments, 2)?),
    };
    let texts = lists.list().values().as_string::<i32>();
    let text_at = |texts: &ArrayRef, row: usize| -> Option<String> {
        texts
            .is_valid(row)
            .then(|| texts.as_string::<i32>().value(row).to_owned())
    };
    let mut result = StringBuilder::new();
    for row in 0..arguments.number_rows {
        let (range, separator) = (lists.range(row), text_at(&separators, row));
        let replacement = replacements.as_ref().map(|replacements| text_at(replacements, row));
        let (Some(range), Some(separator), None | Some(Some(_))) = (range, separator, &replacement) else {
            result.append_null();
            continue;
        };
        let replacement = replacement.flatten();
        let parts = range.filter_map(|index| match texts.is_valid(index) {
            true => Some(texts.value(index)),
            false => replacement.as_deref(),
        });
        result.append_value(parts.collect::<Vec<_>>().join(&separator));
    }
    array_result(result.finish())
}
