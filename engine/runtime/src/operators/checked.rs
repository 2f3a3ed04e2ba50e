//! Checks of the contract of operators, in debug builds.
//!
//! [`CheckedOperator`] wraps an operator and panics on the first violation, by the operator or by the task that calls
//! it:
//!
//! * batches have the schema of their port;
//! * one call emits no more rows than [`EMIT_ROWS_MAX`], besides as many as it was given and its last batch;
//! * watermarks and processing time never go back, neither those the operator is given nor those it forwards;
//! * a windowed operator emits no row at or below the watermark it has forwarded;
//! * a call that returned [`Progress::More`] or [`Progress::Pending`] is resumed before anything else is delivered;
//! * nothing is delivered after the end of input, so nothing is emitted after it.

use std::cell::Cell;

use arrow::array::AsArray;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow_array::RecordBatch;
use millstream_graph::{self as graph, Node, Phase, Port, dead_letter_schema};

use crate::Error;
use crate::operator::{Collector, EMIT_ROWS_MAX, HeldBack, Operator, Progress, Snapshot, Timestamp, WATERMARK_MIN};

/// An operator inside checks of its contract.
pub(super) struct CheckedOperator {
    operator: Box<dyn Operator>,
    declared: Declared,
    progress: Progress,
    watermark: Timestamp,
    forwarded: Cell<Timestamp>,
    time: Timestamp,
    /// True once `finish` was called.
    is_finishing: bool,
}

/// The output that an operator declares.
struct Declared {
    name: String,
    main: SchemaRef,
    inputs: Vec<SchemaRef>,
    dead_letters: SchemaRef,
    /// The event-time column of an operator whose rows are never late.
    on_time_column: Option<usize>,
}

impl CheckedOperator {
    /// Wraps the operator of a node. `inputs` are the schemas of the node's inputs.
    pub(super) fn new(node: &Node, inputs: &[SchemaRef], operator: Box<dyn Operator>) -> Self {
        let is_windowed = match &node.operator {
            graph::Operator::WindowAggregate(aggregate) => aggregate.phase != Phase::Local,
            graph::Operator::WindowJoin(_) | graph::Operator::WindowTopN(_) => true,
            graph::Operator::Source(_)
            | graph::Operator::Sink(_)
            | graph::Operator::Calc(_)
            | graph::Operator::ChangelogNormalize(_)
            | graph::Operator::SinkMaterialize(_)
            | graph::Operator::GroupAggregate(_)
            | graph::Operator::Join(_)
            | graph::Operator::TopN(_)
            | graph::Operator::Sort(_)
            | graph::Operator::MultiJoin(_)
            | graph::Operator::TemporalJoin(_)
            | graph::Operator::DynamicFilter(_)
            | graph::Operator::Unnest(_)
            | graph::Operator::WindowAssign(_) => false,
        };
        Self {
            operator,
            declared: Declared {
                name: node.id.to_string(),
                main: node.output.schema.clone(),
                inputs: inputs.to_vec(),
                dead_letters: dead_letter_schema(),
                on_time_column: node.output.event_time.filter(|_| is_windowed),
            },
            progress: Progress::Done,
            watermark: WATERMARK_MIN,
            forwarded: Cell::new(WATERMARK_MIN),
            time: Timestamp::MIN,
            is_finishing: false,
        }
    }

    /// Makes one call of the operator. `rows` is the number of rows it is given.
    fn call(
        &mut self,
        rows: usize,
        out: &mut dyn Collector,
        call: impl FnOnce(&mut dyn Operator, &mut dyn Collector) -> Result<Progress, Error>,
    ) -> Result<Progress, Error> {
        let mut out = CheckedCollector {
            out,
            declared: &self.declared,
            rows_max: EMIT_ROWS_MAX + rows,
            rows: 0,
            forwarded: self.forwarded.get(),
        };
        self.progress = call(&mut *self.operator, &mut out)?;
        Ok(self.progress)
    }

    /// Makes a call that delivers something new.
    fn deliver(
        &mut self,
        rows: usize,
        out: &mut dyn Collector,
        call: impl FnOnce(&mut dyn Operator, &mut dyn Collector) -> Result<Progress, Error>,
    ) -> Result<Progress, Error> {
        self.assert_is_done();
        let name = &self.declared.name;
        assert!(!self.is_finishing, "{name} was called after the end of its input");
        self.call(rows, out, call)
    }

    fn assert_is_done(&self) {
        let Self { declared, progress, .. } = self;
        let name = &declared.name;
        assert_eq!(*progress, Progress::Done, "{name} was not resumed after its last call");
    }
}

// Every method is forwarded, those with a default too.
#[warn(clippy::missing_trait_methods)]
impl Operator for CheckedOperator {
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let name = &self.declared.name;
        assert!(batch.num_rows() > 0, "{name} was given an empty batch");
        assert!(input < self.declared.inputs.len(), "{name} has no input {input}");
        self.deliver(batch.num_rows(), out, |operator, out| {
            operator.process(input, batch, out)
        })
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        let (name, last) = (&self.declared.name, self.watermark);
        assert!(
            watermark >= last,
            "{name} was given the watermark {watermark} after {last}"
        );
        self.watermark = watermark;
        self.deliver(0, out, |operator, out| operator.on_watermark(watermark, out))
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        let output = self.operator.output_watermark(watermark);
        let (name, last) = (&self.declared.name, self.forwarded.get());
        assert!(
            output <= watermark,
            "{name} forwards the watermark {output} for {watermark}"
        );
        assert!(output >= last, "{name} forwards the watermark {output} after {last}");
        self.forwarded.set(output);
        output
    }

    fn on_time(&mut self, now: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        let (name, last) = (&self.declared.name, self.time);
        assert!(now >= last, "{name} was given the processing time {now} after {last}");
        self.time = now;
        self.deliver(0, out, |operator, out| operator.on_time(now, out))
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.operator.next_timer()
    }

    fn processing_time(&self) -> Option<Timestamp> {
        self.operator.processing_time()
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let name = &self.declared.name;
        assert_ne!(self.progress, Progress::Done, "{name} was resumed although it was done");
        self.call(0, out, |operator, out| operator.resume(out))
    }

    fn flush(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.deliver(0, out, |operator, out| operator.flush(out))
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        self.assert_is_done();
        self.operator.snapshot(checkpoint)
    }

    fn on_input_end(&mut self, input: usize, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.deliver(0, out, |operator, out| operator.on_input_end(input, out))
    }

    fn on_point(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.deliver(0, out, |operator, out| operator.on_point(out))
    }

    fn held_back(&self) -> HeldBack {
        self.operator.held_back()
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let progress = self.deliver(0, out, |operator, out| operator.finish(out));
        self.is_finishing = true;
        progress
    }
}

/// Checks the batches that one call emits.
struct CheckedCollector<'a> {
    out: &'a mut dyn Collector,
    declared: &'a Declared,
    rows_max: usize,
    /// Number of rows emitted by this call so far.
    rows: usize,
    /// The watermark that the operator has forwarded.
    forwarded: Timestamp,
}

impl CheckedCollector<'_> {
    fn check_schema(&self, port: Port, batch: &RecordBatch) {
        let name = &self.declared.name;
        let declared = match port {
            Port::Main => &self.declared.main,
            Port::Late(input) => &self.declared.inputs[input],
            Port::DeadLetters => &self.declared.dead_letters,
        };
        let schema = batch.schema_ref();
        let is_same = schema.fields().len() == declared.fields().len()
            && schema.fields().iter().zip(declared.fields()).all(|(found, declared)| {
                found.name() == declared.name() && found.data_type().equals_datatype(declared.data_type())
            });
        assert!(
            is_same,
            "{name} emits rows of {schema:?} on {port:?}, which declares {declared:?}"
        );
    }

    fn check_event_time(&self, batch: &RecordBatch) {
        let Some(column) = self.declared.on_time_column else {
            return;
        };
        let times = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>();
        if let Some(least) = times.and_then(arrow::compute::min) {
            let (name, forwarded) = (&self.declared.name, self.forwarded);
            assert!(
                forwarded == WATERMARK_MIN || least > forwarded,
                "{name} emits a row of the time {least} after the watermark {forwarded}"
            );
        }
    }
}

impl Collector for CheckedCollector<'_> {
    fn emit(&mut self, port: Port, batch: RecordBatch) {
        self.check_schema(port, &batch);
        if port == Port::Main && batch.num_rows() > 0 {
            let Self {
                declared,
                rows,
                rows_max,
                ..
            } = self;
            let name = &declared.name;
            assert!(rows < rows_max, "{name} emits more than {rows_max} rows in one call");
            self.rows += batch.num_rows();
            self.check_event_time(&batch);
        }
        self.out.emit(port, batch);
    }

    fn count_bad(&mut self, rows: u64) {
        self.out.count_bad(rows);
    }
}

#[cfg(test)]
mod tests;
