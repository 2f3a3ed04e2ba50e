//! One step of a chain inside a task: a source, an operator or a sink, with its queue of calls and its outputs.
//!
//! An element that reaches a stage is expanded into [`Call`]s: a barrier becomes "flush, emit what is held back,
//! snapshot, forward". The task always works on the deepest stage that has calls, so the output of an operator is
//! consumed before the operator is called again, and no queue holds more than the output of one call. A call that
//! returns `More` or `Pending` is resumed before the next call of its stage.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::RecordBatch;
use millstream_graph::{OperatorId, Port};

use crate::Error;
use crate::counters::{OperatorCounters, add};
use crate::element::{Barrier, BarrierNumber, Element, batch_bytes};
use crate::exchange::OutputEdge;
use crate::operator::{Collector, Operator, Progress, Timestamp, WATERMARK_MIN};
use crate::operators::Ended;
use crate::sink_stage::SinkStage;
use crate::source_stage::SourceStage;
use crate::stage_output::StageOutput;

/// One step of a chain.
pub(crate) struct Stage {
    /// Id of the operator.
    pub id: OperatorId,
    pub subtask: usize,
    pub kind: StageKind,
    pub outputs: Vec<Output>,
    pub counters: Arc<OperatorCounters>,
    /// The calls to make, the next one first.
    pub calls: VecDeque<Call>,
    /// The progress of the last call.
    pub progress: Progress,
    /// The newest processing time that was delivered to the operator.
    pub last_time: Timestamp,
    /// The newest watermark that was delivered to the operator.
    pub watermark: Timestamp,
    /// The watermark and idleness that are held back, if the operator holds back changes until consistency points.
    pub held_back: Option<HeldControl>,
    /// Number of the newest barrier that was forwarded.
    pub passed: BarrierNumber,
    /// True once the end of input was forwarded.
    pub ended: bool,
    /// True if the operator has no use for its state once its input has ended.
    pub emits_at_end: bool,
}

/// Elements that a stage holds back until the next barrier, behind the changes that its operator holds back.
#[derive(Debug, Default)]
pub(crate) struct HeldControl {
    watermark: Option<Timestamp>,
    is_idle: bool,
}

impl HeldControl {
    /// Takes note of rows: they end idleness.
    pub(crate) fn set_active(&mut self) {
        self.is_idle = false;
    }

    /// Holds back a watermark or idleness. Forwards everything else, behind what was held back.
    pub(crate) fn forward(&mut self, element: &Element, output: &mut ChainOutput<'_>) {
        match element {
            Element::Watermark(watermark) => {
                self.is_idle = false;
                self.watermark = self.watermark.max(Some(*watermark));
            }
            Element::Idle => self.is_idle = true,
            Element::Batch(_) | Element::Barrier(_) | Element::End => {
                if let Some(watermark) = self.watermark.take() {
                    output.forward(&Element::Watermark(watermark));
                }
                if std::mem::take(&mut self.is_idle) {
                    output.forward(&Element::Idle);
                }
                output.forward(element);
            }
        }
    }
}

/// The implementation of a stage.
pub(crate) enum StageKind {
    Source(Box<SourceStage>),
    Operator(Box<dyn Operator>),
    Sink(Box<SinkStage>),
}

/// A connection from a port of a stage to a consumer.
pub(crate) struct Output {
    pub port: Port,
    pub target: Target,
}

/// A consumer of the output of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A later stage of the same chain, by its index.
    Stage(usize),
    /// An output edge of the task, by its index.
    Edge(usize),
}

/// A call of a stage.
pub(crate) enum Call {
    /// Process rows.
    Process { input: usize, batch: RecordBatch },
    /// Advance processing time.
    Time,
    /// Emit buffered rows.
    Flush,
    /// Advance event time.
    Watermark(Timestamp),
    /// Emit the changes that are held back.
    Point,
    /// Take the stage's part of a checkpoint.
    Snapshot(Barrier),
    /// Process the end of one input.
    InputEnd(usize),
    /// Emit the remaining rows at the end of input.
    Finish,
    /// Forward an element to everything downstream.
    Forward(Element),
}

impl Stage {
    pub(crate) fn new(
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
            held_back: None,
            passed: BarrierNumber::default(),
            ended: false,
            emits_at_end: false,
        }
    }

    /// Takes note that the end of input was forwarded.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        if self.emits_at_end {
            let id = self.id.clone();
            self.kind = StageKind::Operator(Box::new(Ended { id }));
        }
    }

    /// Returns true if there is a call to make or to resume.
    pub(crate) fn has_work(&self) -> bool {
        self.progress != Progress::Done || !self.calls.is_empty()
    }

    /// Expands an element of one input into calls.
    pub(crate) fn accept(&mut self, input: usize, element: Element) {
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
                if self.held_back.is_some() {
                    self.calls.push_back(Call::Point);
                }
                if barrier.number.is_checkpoint() {
                    self.calls.push_back(Call::Snapshot(barrier));
                }
                self.calls.push_back(Call::Forward(Element::Barrier(barrier)));
            }
            Element::End => {
                self.calls.push_back(Call::Flush);
                self.calls.push_back(Call::Finish);
                self.calls.push_back(Call::Forward(Element::End));
            }
        }
    }

    /// Queues the end of one input of the stage's operator.
    pub(crate) fn accept_input_end(&mut self, input: usize) {
        self.calls.push_back(Call::InputEnd(input));
    }

    /// Returns true if the stage is a sink that has not accepted the last batch.
    pub(crate) fn is_blocked_sink(&self) -> bool {
        matches!(self.kind, StageKind::Sink(_)) && self.progress == Progress::Pending
    }

    /// Returns true if the barrier of this number is in the queue.
    pub(crate) fn has_barrier(&self, number: BarrierNumber) -> bool {
        self.calls.iter().any(|call| match call {
            Call::Snapshot(barrier) | Call::Forward(Element::Barrier(barrier)) => barrier.number == number,
            _ => false,
        })
    }

    /// Returns the bytes of the rows in the queue.
    pub(crate) fn queued_bytes(&self) -> usize {
        let batches = self.calls.iter().map(|call| match call {
            Call::Process { batch, .. } => batch_bytes(batch),
            _ => 0,
        });
        batches.sum()
    }

    /// Moves the barrier of this checkpoint to the front of the queue of a blocked sink. Returns the barrier and the
    /// rows it has overtaken, so that the caller takes the sink's snapshot, or `None` if the barrier is not in the
    /// queue.
    pub(crate) fn overtake_queued_rows(&mut self, number: BarrierNumber) -> Option<(Barrier, Vec<RecordBatch>)> {
        let is_snapshot = |call: &Call| matches!(call, Call::Snapshot(barrier) if barrier.number == number);
        let place = self.calls.iter().position(is_snapshot)?;
        let mut after = self.calls.split_off(place);
        let Some(Call::Snapshot(barrier)) = after.pop_front() else {
            return None;
        };
        let forward = after.pop_front();
        let mut before = std::mem::take(&mut self.calls);
        // Earlier checkpoints are aborted. A sink must not prepare one of them after this one.
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

    /// Returns the processing time that the restored state had reached, see [`Operator::processing_time`].
    pub(crate) fn processing_time(&self) -> Option<Timestamp> {
        match &self.kind {
            StageKind::Operator(operator) => operator.processing_time(),
            StageKind::Source(_) | StageKind::Sink(_) => None,
        }
    }
}

/// Delivers the output of one stage to the later stages and the output edges.
pub(crate) struct ChainOutput<'a> {
    pub outputs: &'a [Output],
    /// The stages after the emitting one. `first` is the index of the first of them.
    pub later: &'a mut [Stage],
    pub first: usize,
    pub edges: &'a mut [OutputEdge],
    pub counters: &'a OperatorCounters,
    /// The first error of an edge, because `emit` returns none.
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
