//! `ORDER BY` of aggregate functions over rows that can be taken back: the order as a byte string.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryBuilder};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use millstream_state::Codec;

use crate::Error;

/// First byte of a NULL that is after all other values. Other columns begin with 0 or 1, or its complement.
const NULL_LAST: u8 = 0xFF;

/// The columns that rows are ordered by.
pub(super) struct SortKey {
    columns: Vec<(DataType, SortOptions)>,
}

impl SortKey {
    /// Returns the order of a call's rows; `None` if it has none.
    pub(super) fn of(function: &AggregateFunctionExpr, input: &Schema) -> Result<Option<Self>, Error> {
        let columns = function
            .order_bys()
            .iter()
            .map(|sort| Ok((sort.expr.data_type(input)?, sort.options)))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok((!columns.is_empty()).then_some(Self { columns }))
    }

    /// Replaces the last columns, those of the order, by one column of byte strings.
    pub(super) fn replace_columns(&self, columns: &mut Vec<ArrayRef>) -> Result<(), Error> {
        let first = columns.len().saturating_sub(self.columns.len());
        let key = self.encode(&columns[first..])?;
        columns.truncate(first);
        columns.push(key);
        Ok(())
    }

    /// Returns a column of byte strings that compare as the rows of these columns do.
    fn encode(&self, columns: &[ArrayRef]) -> Result<ArrayRef, Error> {
        let encoded = self
            .columns
            .iter()
            .zip(columns)
            .map(|((data_type, _), column)| {
                Ok(Codec::keys(std::slice::from_ref(data_type))?.encode(std::slice::from_ref(column))?)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let nulls: Vec<_> = columns.iter().map(|column| column.logical_nulls()).collect();
        let mut keys = BinaryBuilder::new();
        let mut key = Vec::new();
        for row in 0..columns.first().map_or(0, |column| column.len()) {
            key.clear();
            for (column, (_, options)) in self.columns.iter().enumerate() {
                let is_null = nulls[column].as_ref().is_some_and(|nulls| nulls.is_null(row));
                match (is_null, options.nulls_first, options.descending) {
                    (true, true, _) => key.push(0),
                    (true, false, _) => key.push(NULL_LAST),
                    (false, _, false) => key.extend_from_slice(encoded[column].row(row)),
                    // No encoded value is the beginning of another one.
                    (false, _, true) => key.extend(encoded[column].row(row).iter().map(|byte| !byte)),
                }
            }
            keys.append_value(&key);
        }
        Ok(Arc::new(keys.finish()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, StringArray};
    use arrow::compute::sort_to_indices;

    use super::*;

    #[test]
    fn keys_compare_as_rows_do() {
        let values = ["b", "", "a\0", "a", "ab", "\u{10ffff}"].map(Some);
        let column: ArrayRef = Arc::new(StringArray::from_iter(values.into_iter().chain([None])));
        for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
            let options = SortOptions {
                descending,
                nulls_first,
            };
            let key = SortKey {
                columns: vec![(DataType::Utf8, options)],
            };
            let keys = key.encode(std::slice::from_ref(&column)).unwrap();
            let keys = keys.as_binary::<i32>();
            let mut order: Vec<u32> = (0..column.len() as u32).collect();
            order.sort_by_key(|row| keys.value(*row as usize));
            let expected = sort_to_indices(&column, Some(options), None).unwrap();
            assert_eq!(order, expected.values().to_vec(), "{options:?}");
        }
    }
}
