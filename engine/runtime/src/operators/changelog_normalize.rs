//! The newest row per key of a changelog that was read.
//!
//! A source of changes does not say what a row was before, and may repeat changes. The operator keeps the present row
//! of each key, and emits the changes between these rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow_array::RecordBatch;
use arrow_select::take::take;
use millstream_connectors::{RowKind, changelog};
use millstream_graph::{self as graph, ChangelogMode};
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};

use super::OperatorContext;
use super::keyed::{Keyed, KeyedLogic, Keys, Output, Refill, expires};
use crate::Error;

/// Makes the operator of a node.
pub(super) fn changelog_normalize(
    node: &graph::ChangelogNormalize,
    input: &SchemaRef,
    output: &SchemaRef,
    mode: &ChangelogMode,
    context: OperatorContext,
) -> Result<Keyed<NormalizeLogic>, Error> {
    let columns = input.fields().len() - usize::from(changelog::is_changelog(input));
    let values: Vec<usize> = (0..columns).filter(|column| !node.keys.contains(column)).collect();
    let types = |columns: &[usize]| -> Vec<DataType> {
        columns
            .iter()
            .map(|column| input.field(*column).data_type().clone())
            .collect()
    };
    let logic = NormalizeLogic {
        options: TableOptions {
            layout: Layout::new(&types(&node.keys), &types(&values))?,
            collection: 0,
            hashed: node.keys.len(),
            max_parallelism: context.max_parallelism,
            is_ordered: false,
            is_expiring: expires(node.state_ttl, node.emission),
        },
        keys: node.keys.clone(),
        values,
        last: Vec::new(),
    };
    Keyed::new(
        logic,
        mode.clone(),
        node.emission,
        node.state_ttl,
        Arc::clone(output),
        context,
    )
}

/// The logic of the operator. Collection: the columns that are not keys, by key.
pub(super) struct NormalizeLogic {
    options: TableOptions,
    keys: Vec<usize>,
    /// The columns that are not keys.
    values: Vec<usize>,
    /// By slot: the last row of the present batch that changes it, plus 1.
    last: Vec<u32>,
}

impl KeyedLogic for NormalizeLogic {
    fn collections(&self) -> Vec<TableOptions> {
        vec![self.options.clone()]
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error> {
        Ok(vec![Keys {
            columns: self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect(),
            rows: batch.num_rows(),
        }])
    }

    fn apply(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        tables: &mut [Table],
    ) -> Result<Vec<Refill>, Error> {
        let (Some(resolved), Some(table)) = (resolved.first(), tables.first_mut()) else {
            return Ok(Vec::new());
        };
        let kinds = changelog::kinds(batch);
        let is_positive = |row: usize| kinds.is_none_or(|kinds| kinds.value(row) > 0);
        for (row, slot) in resolved.slots.iter().enumerate() {
            if kinds.is_some_and(|kinds| kinds.value(row) == RowKind::UpdateBefore as i8) {
                continue;
            }
            let slot = *slot as usize;
            if self.last.len() <= slot {
                self.last.resize(slot + 1, 0);
            }
            self.last[slot] = row as u32 + 1;
        }
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        for slot in &resolved.distinct {
            let last = self.last.get_mut(*slot as usize).map_or(0, std::mem::take);
            let Some(row) = last.checked_sub(1) else { continue };
            if is_positive(row as usize) {
                table.set_changed(*slot);
                slots.push(*slot);
                rows.push(row);
            } else if table.is_present(*slot) {
                table.remove(*slot);
            }
        }
        let rows = UInt32Array::from(rows);
        for (value, column) in self.values.iter().enumerate() {
            table.scatter(value, &slots, &take(batch.column(*column), &rows, None)?)?;
        }
        Ok(Vec::new())
    }

    fn output(&mut self, table: &Table, slots: &[u32]) -> Result<Output, Error> {
        let columns: Vec<ArrayRef> = (0..self.values.len())
            .map(|value| table.values(value, slots))
            .collect::<Result<_, _>>()?;
        let present = slots.iter().map(|slot| table.is_present(*slot));
        Ok(Output {
            columns,
            present: BooleanArray::from(present.collect::<Vec<bool>>()),
        })
    }

    fn output_order(&self) -> Option<Vec<usize>> {
        let columns: Vec<usize> = self.keys.iter().chain(&self.values).copied().collect();
        let place = |column: usize| columns.iter().position(|other| *other == column);
        (0..columns.len()).map(place).collect()
    }
}
