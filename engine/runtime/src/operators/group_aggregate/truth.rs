//! `BOOL_AND` and `BOOL_OR` of rows that can be taken back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use millstream_state::keyed::Table;

use super::function::{Function, Rows, in_type};
use super::number::CellType;
use crate::Error;

const TRUE: usize = 0;
const FALSE: usize = 1;

/// The conjunction or disjunction. Cells: the numbers of true and of false values.
pub(super) struct Truth {
    pub is_conjunction: bool,
}

impl Function for Truth {
    fn value_types(&self) -> Vec<DataType> {
        vec![DataType::Int64, DataType::Int64]
    }

    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        _ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error> {
        let values = in_type(&arguments[0], &DataType::Boolean)?;
        let values = values.as_boolean();
        rows.for_each(values.nulls(), |row, slot, weight| {
            let cell = first + if values.value(row) { TRUE } else { FALSE };
            let count = Int64Type::get(table, slot, cell);
            Int64Type::set(table, slot, cell, count + i64::from(weight));
        });
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        let results = slots.iter().map(|slot| {
            let has = |cell: usize| Int64Type::get(table, *slot, first + cell) > 0;
            (has(TRUE) || has(FALSE)).then(|| match self.is_conjunction {
                true => !has(FALSE),
                false => has(TRUE),
            })
        });
        Ok(Arc::new(results.collect::<BooleanArray>()))
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        [TRUE, FALSE]
            .iter()
            .all(|cell| Int64Type::get(table, slot, first + cell) == 0)
    }
}
