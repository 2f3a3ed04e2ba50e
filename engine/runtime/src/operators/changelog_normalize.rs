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
use crate::operators::mutants::{self, Mutant};

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
        Ok(vec![Keys::of(batch, &self.keys)])
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
            } else if table.is_present(*slot) && !mutants::is_active(Mutant::DeletionsIgnored) {
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

#[cfg(test)]
pub(super) mod tests {
    use arrow::array::{AsArray, Int8Array};
    use arrow::datatypes::{Field, Int8Type, Schema};
    use millstream_graph::Emission;

    use super::*;
    use crate::operator::Operator;
    use crate::operators::testing::{Subtasks, integers, on_own_thread, rows_of};

    /// Columns: a value, the key, the kind.
    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("v", DataType::Int64, true),
            Field::new("k", DataType::Int64, false),
            changelog::kind_field(),
        ]))
    }

    /// Returns changes: value, key, kind.
    fn changes(rows: &[(Option<i64>, i64, RowKind)]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            integers(&rows.iter().map(|row| row.0).collect::<Vec<_>>()),
            integers(&rows.iter().map(|row| Some(row.1)).collect::<Vec<_>>()),
            Arc::new(Int8Array::from_iter_values(rows.iter().map(|row| row.2 as i8))),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    #[test]
    fn every_change_gets_its_former_row_and_repeated_ones_are_left_out() {
        use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
        let new = |context: OperatorContext| -> Box<dyn Operator> {
            let node = graph::ChangelogNormalize {
                keys: vec![1],
                emission: Emission::Changes,
                state_ttl: None,
            };
            let mode = ChangelogMode::Retract;
            Box::new(changelog_normalize(&node, &schema(), &schema(), &mode, context).unwrap())
        };
        for memory_bytes in [1, 1 << 30] {
            on_own_thread(|| {
                let mut subtasks = Subtasks::new(&new, &[1], memory_bytes);
                let mut check = |rows: &[(Option<i64>, i64, RowKind)], expected: &[&str]| {
                    subtasks.process(0, &changes(rows));
                    let batches = std::mem::take(&mut subtasks.out.main);
                    assert_eq!(rows_of(&batches), expected, "{memory_bytes} bytes");
                    for batch in &batches {
                        let kinds = batch.column(2).as_primitive::<Int8Type>().values();
                        let pairs = kinds.windows(2).filter(|pair| pair == &[-2, 2]).count();
                        assert_eq!(kinds.iter().filter(|kind| kind.abs() == 2).count(), 2 * pairs);
                    }
                    subtasks.snapshot(Some(2));
                };
                check(&[(Some(5), 1, UpdateAfter), (None, 2, Insert)], &[",2,1", "5,1,1"]);
                // The same rows again, and the former version of one, which the state has anyway.
                check(&[(Some(5), 1, UpdateAfter), (Some(9), 2, UpdateBefore)], &[]);
                check(&[(Some(6), 1, UpdateAfter)], &["5,1,-2", "6,1,2"]);
                // Of several changes in a batch, the last one counts.
                check(&[(Some(7), 2, UpdateAfter), (None, 2, UpdateAfter)], &[]);
                // A deletion has only its key; one without a row is left out.
                check(&[(None, 1, Delete), (None, 3, Delete)], &["6,1,-1"]);
                check(&[(Some(8), 1, Insert)], &["8,1,1"]);
            });
        }
    }

    /// Checks the rows before changes.
    pub(in crate::operators) fn check_changes() {
        every_change_gets_its_former_row_and_repeated_ones_are_left_out();
    }
}
