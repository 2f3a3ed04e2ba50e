//! Results of functions of all values of a group: the first or last one, an array, a text of all, or a value that an
//! accumulator computes from them.
//!
//! An *entry* is a value in the order-preserving encoding, preceded by its sort key if the function has `ORDER BY`.
//! Equal values have equal entries, and entries compare as the values do.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, new_empty_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use millstream_state::{Codec, EncodedRows};

use crate::Error;

/// Functions without a way to take values back. Over rows that are updated or deleted, all values are kept, and the
/// result is computed from them.
const COMPUTED: &[&str] = &[
    "$percentile",
    "bitmap_and_agg",
    "bitmap_build_agg",
    "bitmap_or_agg",
    "bitmap_xor_agg",
    "median",
    "percentile_cont",
];

/// Returns true for the name of a function that is computed from all values of a group.
pub(super) fn is_computed(name: &str) -> bool {
    COMPUTED.contains(&name)
}

/// Returns true for the name of a function whose result depends on the different values only.
pub(super) fn is_of_distinct_values(name: &str) -> bool {
    matches!(
        name,
        "min" | "max" | "bitmap_and_agg" | "bitmap_build_agg" | "bitmap_or_agg"
    )
}

/// Result of a [`Collection`].
#[derive(Debug, Clone)]
pub(super) enum CollectionResult {
    First,
    Last,
    /// An array with this field of elements.
    Array(FieldRef),
    /// Strings with a separator between them.
    Text(String),
    /// The result of an accumulator that gets all values.
    Computed(Arc<AggregateFunctionExpr>),
}

/// A function of all values of a group.
pub(super) struct Collection {
    /// The name of the function, for errors.
    pub name: String,
    pub kind: CollectionResult,
    value: DataType,
    result: DataType,
    /// True if the last argument is a sort key.
    pub is_ordered: bool,
    pub ignores_nulls: bool,
}

impl Collection {
    /// Returns the function of an aggregate call over rows of this schema; `None` if it is another one.
    pub(super) fn of(function: &Arc<AggregateFunctionExpr>, input: &Schema) -> Option<Self> {
        let result = function.field().data_type().clone();
        let name = function.fun().name();
        let (kind, value) = match (name, &result) {
            ("first_value" | "min", value) => (CollectionResult::First, value.clone()),
            ("last_value" | "max", value) => (CollectionResult::Last, value.clone()),
            ("array_agg", DataType::List(field)) => (CollectionResult::Array(field.clone()), field.data_type().clone()),
            ("string_agg", _) => {
                let separator = function.expressions().get(1)?.clone();
                let separator = separator.downcast_ref::<Literal>()?.value().try_as_str()?;
                let separator = separator.unwrap_or_default().to_owned();
                (CollectionResult::Text(separator), DataType::Utf8)
            }
            _ if is_computed(name) => {
                let value = function.expressions().first()?.data_type(input).ok()?;
                (CollectionResult::Computed(Arc::clone(function)), value)
            }
            _ => return None,
        };
        Some(Self {
            name: name.to_uppercase(),
            kind,
            value,
            result,
            is_ordered: !function.order_bys().is_empty(),
            ignores_nulls: matches!(name, "string_agg" | "min" | "max") || is_computed(name) || function.ignore_nulls(),
        })
    }

    /// Returns the collection of all values of this type but NULL.
    pub(super) fn all(name: &str, value: &DataType) -> Self {
        let element = Field::new("element", value.clone(), true);
        Self {
            name: name.to_uppercase(),
            kind: CollectionResult::Array(Arc::new(element)),
            value: value.clone(),
            result: value.clone(),
            is_ordered: false,
            ignores_nulls: true,
        }
    }

    fn codec(&self) -> Result<Codec, Error> {
        let key = self.is_ordered.then_some(DataType::Binary);
        let types: Vec<DataType> = key.into_iter().chain([self.value.clone()]).collect();
        Ok(Codec::keys(&types)?)
    }

    /// Returns the entries of rows with these arguments, and the rows that have none, if there are any.
    pub(super) fn entries(&self, arguments: &[ArrayRef]) -> Result<(EncodedRows, Option<NullBuffer>), Error> {
        let values = in_type(&arguments[0], &self.value)?;
        let nulls = self.ignores_nulls.then(|| values.logical_nulls()).flatten();
        let key = arguments.last().filter(|_| self.is_ordered).cloned();
        let columns: Vec<ArrayRef> = key.into_iter().chain([values]).collect();
        Ok((self.codec()?.encode(&columns)?, nulls))
    }

    /// Returns the results of groups with these entries, in the order of the result.
    pub(super) fn results(&self, groups: &[Vec<&[u8]>]) -> Result<ArrayRef, Error> {
        // The encoding of NULL, with a sort key that is NULL or without one.
        let null: &[u8] = if self.is_ordered { &[0, 0] } else { &[0] };
        let all = || groups.iter().flatten().copied().collect();
        match &self.kind {
            CollectionResult::First => {
                self.values(groups.iter().map(|group| *group.first().unwrap_or(&null)).collect())
            }
            CollectionResult::Last => self.values(groups.iter().map(|group| *group.last().unwrap_or(&null)).collect()),
            CollectionResult::Array(field) => {
                let lengths = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
                let present: Vec<bool> = groups.iter().map(|group| !group.is_empty()).collect();
                let nulls = Some(NullBuffer::from(present));
                let values = self.values(all())?;
                Ok(Arc::new(ListArray::try_new(field.clone(), lengths, values, nulls)?))
            }
            CollectionResult::Text(separator) => {
                let values = self.values(all())?;
                let mut values = values.as_string::<i32>().iter().flatten();
                let texts = groups.iter().map(|group| {
                    let parts: Vec<&str> = values.by_ref().take(group.len()).collect();
                    (!group.is_empty()).then(|| parts.join(separator))
                });
                let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
                in_type(&texts, &self.result)
            }
            CollectionResult::Computed(function) => self.computed(function, groups),
        }
    }

    /// Returns the results of an accumulator for groups with these entries.
    fn computed(&self, function: &AggregateFunctionExpr, groups: &[Vec<&[u8]>]) -> Result<ArrayRef, Error> {
        let constants: Vec<ScalarValue> = function.expressions()[1..]
            .iter()
            .filter_map(|argument| Some(argument.downcast_ref::<Literal>()?.value().clone()))
            .collect();
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let mut accumulator = function.create_accumulator()?;
            if !group.is_empty() {
                let mut arguments = vec![self.values(group.clone())?];
                for constant in &constants {
                    arguments.push(constant.to_array_of_size(group.len())?);
                }
                accumulator.update_batch(&arguments)?;
            }
            results.push(accumulator.evaluate()?);
        }
        match results.is_empty() {
            true => Ok(new_empty_array(&self.result)),
            false => in_type(&ScalarValue::iter_to_array(results)?, &self.result),
        }
    }

    /// Returns the values of entries.
    pub(super) fn values(&self, entries: Vec<&[u8]>) -> Result<ArrayRef, Error> {
        let columns = self.codec()?.decode(entries)?;
        Ok(Arc::clone(&columns[usize::from(self.is_ordered)]))
    }
}

/// Returns a column in this type.
pub(super) fn in_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, Error> {
    match column.data_type() == data_type {
        true => Ok(Arc::clone(column)),
        false => Ok(arrow::compute::cast(column, data_type)?),
    }
}
