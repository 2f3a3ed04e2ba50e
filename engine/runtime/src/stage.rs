//! One step of a chain inside a task: an operator (or a source, or a sink), what it still has to do, and where its
//! output goes.
//!
//! What is to be done is a queue of [`Call`]s. An element that reaches the stage is expanded into the calls it means: a
//! barrier is "flush, snapshot, pass it on". The task always works on the deepest stage that has something
//! to do, so an operator's output is consumed before the operator is asked for more, and no queue holds more than what
//! one call emits. A call that answers `More` or `Pending` is resumed before anything else of its stage.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::RecordBatch;
use millstream_graph::{OperatorId, Port};

use crate::Error;
use crate::counters::{OperatorCounters, add};
use crate::element::{Barrier, Element, batch_bytes};
use crate::exchange::OutputEdge;
use crate::operator::{Collector, Operator, Progress, Timestamp, WATERMARK_MIN};
use crate::sink_stage::SinkStage;
use crate::source_stage::SourceStage;
use crate::stage_output::StageOutput;

/// One step of a chain.
pub struct Stage {
    pub id: OperatorId,
    pub subtask: usize,
    pub kind: StageKind,
    pub outputs: Vec<Output>,
    pub counters: Arc<OperatorCounters>,
    pub calls: VecDeque<Call>,
    /// The call before the next one in `calls` answered this.
    pub progress: Progress,
    /// The newest time the operator was told.
    pub last_time: Timestamp,
    pub watermark: Timestamp,
    pub ended: bool,
}

pub enum StageKind {
    Source(Box<SourceStage>),
    Operator(Box<dyn Operator>),
    Sink(Box<SinkStage>),
}

/// Where a stage's output goes.
pub struct Output {
    pub port: Port,
    pub target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A later stage of the same chain.
    Stage(usize),
    /// An output edge of the task.
    Edge(usize),
}

/// One thing a stage has to do.
pub enum Call {
    Process {
        input: usize,
        batch: RecordBatch,
    },
    Time,
    Flush,
    Watermark(Timestamp),
    Snapshot(Barrier),
    Finish,
    /// Pass it to everything downstream.
    Forward(Element),
}

impl Stage {
    pub fn new(
        id: OperatorId,
        subtask: usize,
        kind: StageKind,
        outputs: Vec<Output>,
        counters: Arc<OperatorCounters>,
    ) -> Self {
        Self {
            id,
            subtask,
            kind,
            outputs,
            counters,
            calls: VecDeque::new(),
            progress: Progress::Done,
            last_time: Timestamp::MIN,
            watermark: WATERMARK_MIN,
            ended: false,
        }
    }

    pub fn has_work(&self) -> bool {
        self.progress != Progress::Done || !self.calls.is_empty()
    }

    /// Expands an element into calls.
    pub fn accept(&mut self, input: usize, element: Element) {
        match element {
            Element::Batch(batch) => self.calls.push_back(Call::Process { input, batch }),
            Element::Watermark(watermark) => {
                if watermark > self.watermark {
                    self.watermark = watermark;
                    self.calls.push_back(Call::Watermark(watermark));
                }
                self.calls.push_back(Call::Forward(Element::Watermark(watermark)));
            }
            Element::Idle => {
                self.calls.push_back(Call::Flush);
                self.calls.push_back(Call::Forward(Element::Idle));
            }
            Element::Barrier(barrier) => {
                self.calls.push_back(Call::Flush);
                self.calls.push_back(Call::Snapshot(barrier));
                self.calls.push_back(Call::Forward(Element::Barrier(barrier)));
            }
            Element::End => {
                self.calls.push_back(Call::Flush);
                self.calls.push_back(Call::Finish);
                self.calls.push_back(Call::Forward(Element::End));
            }
        }
    }

    /// A sink that did not take what it was last offered.
    pub fn is_blocked_sink(&self) -> bool {
        matches!(self.kind, StageKind::Sink(_)) && self.progress == Progress::Pending
    }

    /// Whether this checkpoint's barrier is in here.
    pub fn has_barrier(&self, checkpoint: u64) -> bool {
        self.calls.iter().any(|call| match call {
            Call::Snapshot(barrier) | Call::Forward(Element::Barrier(barrier)) => barrier.checkpoint == checkpoint,
            _ => false,
        })
    }

    /// Bytes of the rows that it is still to be called with.
    pub fn queued_bytes(&self) -> usize {
        let batches = self.calls.iter().map(|call| match call {
            Call::Process { batch, .. } => batch_bytes(batch),
            _ => 0,
        });
        batches.sum()
    }

    /// Lets this checkpoint's barrier pass what is before it in a waiting sink, if it is here. Answers with the rows
    /// that it has passed: the sink is to be cut now.
    pub fn overtake_queued_rows(&mut self, checkpoint: u64) -> Option<(Barrier, Vec<RecordBatch>)> {
        let is_it = |call: &Call| matches!(call, Call::Snapshot(barrier) if barrier.checkpoint == checkpoint);
        let place = self.calls.iter().position(is_it)?;
        let mut after = self.calls.split_off(place);
        let Some(Call::Snapshot(barrier)) = after.pop_front() else {
            return None;
        };
        let forward = after.pop_front();
        let mut before = std::mem::take(&mut self.calls);
        // Earlier checkpoints are given up, and a sink that prepared one of them after this one would mix them up.
        before.retain(|call| !matches!(call, Call::Snapshot(_) | Call::Forward(Element::Barrier(_))));
        let rows = before.iter().filter_map(|call| match call {
            Call::Process { batch, .. } => Some(batch.clone()),
            _ => None,
        });
        let rows = rows.collect();
        self.calls.extend(forward);
        self.calls.append(&mut before);
        self.calls.append(&mut after);
        self.progress = Progress::Done;
        Some((barrier, rows))
    }

    /// See [`Operator::processing_time`](crate::operator::Operator::processing_time).
    pub fn processing_time(&self) -> Option<Timestamp> {
        match &self.kind {
            StageKind::Operator(operator) => operator.processing_time(),
            StageKind::Source(_) | StageKind::Sink(_) => None,
        }
    }
}

/// Takes what one stage emits to the stages and edges behind it.
pub struct ChainOutput<'a> {
    pub outputs: &'a [Output],
    /// The stages after the emitting one; `first` is the index of the first of them.
    pub later: &'a mut [Stage],
    pub first: usize,
    pub edges: &'a mut [OutputEdge],
    pub counters: &'a OperatorCounters,
    /// The first error of an edge; an operator's `emit` cannot fail.
    pub error: Option<Error>,
}

impl ChainOutput<'_> {
    fn deliver(&mut self, target: Target, batch: RecordBatch) {
        match target {
            Target::Stage(stage) => self.later[stage - self.first].accept(0, Element::Batch(batch)),
            Target::Edge(edge) => {
                if let Err(error) = self.edges[edge].send(batch) {
                    self.error.get_or_insert(error);
                }
            }
        }
    }
}

impl StageOutput for ChainOutput<'_> {
    fn forward(&mut self, element: &Element) {
        for (index, output) in self.outputs.iter().enumerate() {
            if self.outputs[..index]
                .iter()
                .any(|earlier| earlier.target == output.target)
            {
                continue;
            }
            match output.target {
                Target::Stage(stage) => self.later[stage - self.first].accept(0, element.clone()),
                Target::Edge(edge) => {
                    if let Err(error) = self.edges[edge].send_control(element) {
                        self.error.get_or_insert(error);
                    }
                }
            }
        }
    }
}

impl Collector for ChainOutput<'_> {
    fn count_bad(&mut self, rows: u64) {
        add(&self.counters.bad_rows, rows);
    }

    fn emit(&mut self, port: Port, batch: RecordBatch) {
        let rows = batch.num_rows();
        if rows == 0 {
            return;
        }
        match port {
            Port::Main => {
                add(&self.counters.rows_out, rows as u64);
                add(&self.counters.bytes_out, batch_bytes(&batch) as u64);
            }
            Port::Late(_) => add(&self.counters.late_rows, rows as u64),
            Port::DeadLetters => add(&self.counters.dead_letters, rows as u64),
        }
        let outputs = self.outputs;
        let mut rest = Some(batch);
        let last = outputs.iter().rposition(|output| output.port == port);
        for (index, output) in outputs.iter().enumerate().filter(|(_, output)| output.port == port) {
            let batch = if Some(index) == last { rest.take() } else { rest.clone() };
            if let Some(batch) = batch {
                self.deliver(output.target, batch);
            }
        }
    }
}
