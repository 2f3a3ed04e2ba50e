//! Local pre-aggregation: the first of two phases, before rows are exchanged by key.
//!
//! The rows of a batch that have equal keys become one row with their partial state, which is emitted at once: so no
//! row waits, and there is no state. Where keys hardly repeat, this only costs time; then every row is converted to a
//! partial state of its own for a while.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use millstream_graph::{self as graph, Port};

use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot};
use crate::operators::adaptive_bypass::AdaptiveBypass;
use crate::operators::table::{RowStates, Select, Table, TableSpec};
use crate::operators::window_aggregate::conform;

/// Emitted groups per row, in percent, above which pre-aggregation is bypassed.
const OUTPUT_PERCENT_MAX: usize = 60;

/// The operator of local pre-aggregation: phase `Local`.
pub(in crate::operators) struct LocalGroupAggregate {
    keys: Vec<usize>,
    spec: Arc<TableSpec>,
    table: Table,
    row_states: RowStates,
    bypass: AdaptiveBypass,
    output: SchemaRef,
    groups: Vec<u32>,
}

impl LocalGroupAggregate {
    /// Creates the operator.
    pub(in crate::operators) fn new(
        node: &graph::GroupAggregate,
        input: &SchemaRef,
        output: &SchemaRef,
    ) -> Result<Self, Error> {
        let key_fields: Vec<FieldRef> = node.keys.iter().map(|key| Arc::clone(&input.fields()[*key])).collect();
        let spec = TableSpec::weighted(key_fields, &node.aggregates, input)?;
        Ok(Self {
            keys: node.keys.clone(),
            table: Table::new(&spec)?,
            row_states: RowStates::new(&spec)?,
            spec,
            bypass: AdaptiveBypass::new(OUTPUT_PERCENT_MAX),
            output: Arc::clone(output),
            groups: Vec::new(),
        })
    }
}

impl Operator for LocalGroupAggregate {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let rows = batch.num_rows();
        let arguments = self.spec.arguments(&batch)?;
        let mut columns: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        if self.bypass.should_bypass(rows) {
            columns.extend(self.row_states.convert(&arguments, rows)?);
        } else {
            self.table.update(&columns, &arguments, rows, &mut self.groups)?;
            let all = Select::Range(0..self.table.len());
            columns = self.table.keys(&all)?;
            columns.extend(self.table.states(&all)?.into_iter().flatten());
            self.bypass.record_input(rows);
            self.bypass.record_output(self.table.len());
            self.bypass.end_sample();
            self.table.clear()?;
        }
        out.emit(Port::Main, conform(&self.output, columns)?);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }
}
