//! Joins of several inputs by one key, without intermediate results.
//!
//! Each input has a collection of its rows by key, as in a join of two inputs ([`super::join`]). A row that arrives is
//! combined with every combination of one row of each other input. So state is as large as the inputs, whatever the
//! number of combinations.

mod combinations;
#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{FieldRef, Int64Type, Schema, SchemaRef};
use arrow_array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow_select::filter::{filter, filter_record_batch};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph as graph;
use millstream_state::keyed::{Identity, Resolved, Rows, RowsOptions};

use self::combinations::Combinations;
use super::OperatorContext;
use super::join::{Side, nullable_fields};
use super::keyed::{KeyedRows, Keys, OutputForm, RowKeys, RowsForm, RowsLogic, WeightedRows, expires};
use crate::Error;
use crate::operator::Timestamp;

/// Makes the operator of a node.
pub(super) fn multi_join(
    node: &graph::MultiJoin,
    inputs: &[SchemaRef],
    output: &graph::Stream,
    context: OperatorContext,
) -> Result<KeyedRows<MultiJoinLogic>, Error> {
    let logic = MultiJoinLogic::new(node, inputs, context.max_parallelism);
    let form = RowsForm {
        output: OutputForm::of_changes(output),
        emission: node.emission,
        state_ttl: vec![logic.state_ttl; inputs.len()],
    };
    KeyedRows::new(logic, form, context)
}

/// The logic of the operator.
pub(super) struct MultiJoinLogic {
    sides: Vec<Side>,
    condition: Option<PhysicalExprRef>,
    /// Columns of all inputs.
    schema: SchemaRef,
    /// Positions of the output columns in `schema`.
    output: Vec<usize>,
    state_ttl: Option<Duration>,
    max_parallelism: u16,
    /// Rows of the present call that have a key, and their input.
    batch: Option<(usize, RecordBatch)>,
    combinations: Option<Combinations>,
}

impl MultiJoinLogic {
    fn new(node: &graph::MultiJoin, inputs: &[SchemaRef], max_parallelism: u16) -> Self {
        let sides: Vec<Side> = inputs
            .iter()
            .zip(&node.keys)
            .map(|(schema, key)| Side::new(schema, key.clone(), false, false))
            .collect();
        let fields: Vec<FieldRef> = inputs.iter().flat_map(nullable_fields).collect();
        let first = |input: usize| sides[..input].iter().map(Side::width).sum::<usize>();
        Self {
            output: node
                .output
                .iter()
                .map(|(input, column)| first(*input) + column)
                .collect(),
            schema: Arc::new(Schema::new(fields)),
            condition: node.filter.clone(),
            state_ttl: node.state_ttl.filter(|_| expires(node.state_ttl, node.emission)),
            max_parallelism,
            batch: None,
            combinations: None,
            sides,
        }
    }

    /// Returns combinations as output rows, without those that do not meet the condition.
    fn output_rows(
        &self,
        input: usize,
        batch: &RecordBatch,
        (places, weights): (Vec<Vec<u32>>, Vec<i64>),
        rows: &[Rows],
    ) -> Result<WeightedRows, Error> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (other, side) in self.sides.iter().enumerate() {
            columns.extend(match other == input {
                true => side.take(batch, &places[other])?,
                false => side.gather(&rows[other], &places[other])?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let mut combined = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let mut weights = weights;
        if let Some(condition) = &self.condition {
            let passed = condition.evaluate(&combined)?.into_array(weights.len())?;
            let passed: &BooleanArray = datafusion::common::cast::as_boolean_array(&passed)?;
            combined = filter_record_batch(&combined, passed)?;
            let kept = filter(&Int64Array::from(weights), passed)?;
            weights = kept.as_primitive::<Int64Type>().values().to_vec();
        }
        Ok(WeightedRows {
            columns: self.output.iter().map(|at| Arc::clone(combined.column(*at))).collect(),
            weights,
        })
    }
}

impl RowsLogic for MultiJoinLogic {
    fn collections(&self) -> Vec<RowsOptions> {
        let options =
            |(input, side): (usize, &Side)| side.options(input as u8, self.max_parallelism, self.state_ttl.is_some());
        self.sides.iter().enumerate().map(options).collect()
    }

    fn late_rows(&self, _input: usize, _batch: &RecordBatch, _watermark: Timestamp) -> Result<Vec<u32>, Error> {
        Ok(Vec::new())
    }

    fn keys(&mut self, input: usize, batch: &RecordBatch) -> Result<Vec<RowKeys>, Error> {
        let batch = match self.sides[input].null_keys(batch) {
            None => batch.clone(),
            Some(nulls) => filter_record_batch(batch, &BooleanArray::new(nulls.inner().clone(), None))?,
        };
        let keys = self.sides.iter().enumerate().map(|(other, side)| {
            let Keys { columns, rows } = self.sides[input].keys(&batch);
            RowKeys {
                keys: Keys { columns, rows },
                is_read: other != input || side.identity == Identity::Content,
                is_looked_up: false,
            }
        });
        let keys = keys.collect();
        self.batch = Some((input, batch));
        Ok(keys)
    }

    fn apply(
        &mut self,
        input: usize,
        _batch: &RecordBatch,
        resolved: &[Resolved],
        rows: &mut [Rows],
        generations: &[u32],
    ) -> Result<(), Error> {
        let Some((_, batch)) = &self.batch else { return Ok(()) };
        let slots = &resolved[input].slots;
        let generation = |_: usize| generations[input];
        let forgets = self.state_ttl.is_some();
        let weights = self.sides[input].store_net(batch, slots, &mut rows[input], generation, forgets)?;
        let slots = resolved.iter().map(|resolved| resolved.slots.clone()).collect();
        self.combinations = Some(Combinations::new(input, slots, weights));
        Ok(())
    }

    fn next_changes(&mut self, rows: &[Rows]) -> Result<Option<WeightedRows>, Error> {
        while let (Some(combinations), Some((input, batch))) = (&mut self.combinations, &self.batch) {
            let (input, batch) = (*input, batch.clone());
            let (places, weights) = combinations.next(rows);
            if weights.is_empty() {
                break;
            }
            let changes = self.output_rows(input, &batch, (places, weights), rows)?;
            if !changes.weights.is_empty() {
                return Ok(Some(changes));
            }
        }
        self.combinations = None;
        self.batch = None;
        Ok(None)
    }

    fn final_collections(&self) -> Vec<usize> {
        Vec::new()
    }

    fn apply_final(&mut self, _collection: usize, _resolved: &[Resolved], _rows: &[Rows]) -> Result<(), Error> {
        Ok(())
    }

    fn expired(&mut self, _watermark: Timestamp) -> Vec<Vec<u32>> {
        Vec::new()
    }

    fn sees_expired(&self, _collection: usize) -> bool {
        false
    }

    fn expire_row(&mut self, _collection: usize, _rows: &Rows, _entry: u32) {}

    fn expire_stored(&mut self, _collection: usize, _rows: &Rows, _stored: &[(&[u8], &[u8])]) -> Result<(), Error> {
        Ok(())
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        watermark
    }

    fn inline(&self) -> Vec<(u8, u32, Timestamp)> {
        Vec::new()
    }

    fn restore(&mut self, _inline: Vec<(u8, u32, Timestamp)>, _watermark: Timestamp) {}
}
