//! A task: one subtask of one chain, as a state machine that reads elements and emits elements.
//!
//! [`Task::step`] makes one bounded call. The deepest stage that has calls goes first, then timers, then the head of
//! the chain takes new input: the next element of a channel, or a poll of the source. Nothing runs while an output edge
//! lacks credit, so a channel exceeds its capacity by the output of one call at most. When there is nothing to do,
//! operators and edges flush the rows that they buffer for batching.
//!
//! A task knows no thread, socket or clock. Its caller passes in the time (see also [`Task::set_wall_clock_ahead`]) and
//! the duration of each step ([`Task::record_elapsed`]), and completes the parts of its checkpoints
//! ([`Task::take_parts`]). So a simulator can run a whole job in one thread.

mod clock;
mod points;
mod unaligned;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use millstream_fail_point as fail_point;
use millstream_graph::{NodeIndex, OperatorId};
use millstream_state::job_files::JobFiles;

use self::clock::Clock;
use self::points::Points;
use self::unaligned::{CheckpointRequest, UnalignedCheckpoint};
use crate::Error;
use crate::channel_state::ChannelState;
use crate::command::Command;
use crate::counters::{JobCounters, OperatorCounters, add};
use crate::element::{Barrier, BarrierNumber, Element, batch_bytes};
use crate::exchange::OutputEdge;
use crate::inputs::{Delivery, Inputs};
use crate::operator::{Progress, Timestamp};
use crate::sink_stage::SinkStage;
use crate::snapshot::{RecordedState, SnapshotPart, Work};
use crate::source_stage::Polled;
use crate::stage::{Call, ChainOutput, Stage, StageKind};
use crate::stage_output::StageOutput;
use crate::subtask_state::SubtaskState;

/// One subtask of one chain.
pub(crate) struct Task {
    /// Node of the first stage, which commands refer to.
    head: NodeIndex,
    stages: Vec<Stage>,
    edges: Vec<OutputEdge>,
    /// `None` if the first stage is a source.
    inputs: Option<Inputs>,
    counters: Arc<JobCounters>,
    parts: Vec<SnapshotPart>,
    /// The newest checkpoint of which this task took parts, and the nanoseconds that they took so far.
    pause: (u64, u64),
    /// Parallelism of the job.
    parallelism: usize,
    /// The checkpoint storage, for channel state.
    files: JobFiles,
    /// The newest checkpoint or consistency point that was requested.
    requested: Option<CheckpointRequest>,
    /// The unaligned checkpoint whose channel state is being recorded.
    unaligned: Option<UnalignedCheckpoint>,
    /// Number of the newest barrier that has entered the chain.
    entered: BarrierNumber,
    /// The consistency points of this task.
    points: Points,
    /// True if operators may have buffered rows since the last flush.
    unflushed: bool,
    /// Index of the stage that was called last, for failures.
    current: usize,
    timed_work: TimedWork,
    blocked_since: Option<Timestamp>,
    clock: Clock,
    ended: bool,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be more to do at once.
    Worked,
    /// There is nothing to do until the task's waker is called.
    Waiting {
        /// Time at which there is something to do even if the waker is not called.
        until: Option<Timestamp>,
    },
}

/// The work of the last step, whose duration is recorded.
#[derive(Debug, Clone, Copy)]
enum TimedWork {
    Nothing,
    /// A call of this stage.
    Call(usize),
    /// Taking this stage's part of a checkpoint.
    Snapshot(usize, u64),
}

/// The failure of a task.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Id of the operator that failed.
    pub operator: OperatorId,
    pub subtask: usize,
    pub error: Error,
}

impl Task {
    /// Makes a task of connected stages.
    pub(crate) fn new(
        head: NodeIndex,
        stages: Vec<Stage>,
        edges: Vec<OutputEdge>,
        inputs: Option<Inputs>,
        counters: Arc<JobCounters>,
        parallelism: usize,
        files: JobFiles,
    ) -> Self {
        Self {
            head,
            stages,
            edges,
            inputs,
            counters,
            parts: Vec::new(),
            pause: (0, 0),
            parallelism,
            files,
            requested: None,
            unaligned: None,
            entered: BarrierNumber::default(),
            points: Points::default(),
            unflushed: false,
            current: 0,
            timed_work: TimedWork::Nothing,
            blocked_since: None,
            clock: Clock::default(),
            ended: false,
        }
    }

    /// Returns true once all stages have processed the end of their input.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the parts of checkpoints that were taken since the last call.
    pub(crate) fn take_parts(&mut self) -> Vec<SnapshotPart> {
        std::mem::take(&mut self.parts)
    }

    /// Returns a failure of the stage that was called last.
    pub(crate) fn failure(&self, error: Error) -> Box<Failure> {
        let stage = &self.stages[self.current.min(self.stages.len() - 1)];
        Box::new(Failure {
            operator: stage.id.clone(),
            subtask: stage.subtask,
            error,
        })
    }

    /// Returns the position of the task's source, if it has one.
    pub(crate) fn position(&self) -> Option<String> {
        match &self.stages.first()?.kind {
            StageKind::Source(source) => source.position(),
            _ => None,
        }
    }

    /// Processes a command. Commands that do not concern this task are ignored.
    pub(crate) fn on_command(&mut self, command: &Command) -> Result<(), Box<Failure>> {
        self.current = 0;
        let subtask = self.stages[0].subtask;
        match command {
            Command::Checkpoint {
                id,
                last,
                aligned_timeout,
            } => {
                self.request(Barrier::of_checkpoint(*id, *last), *aligned_timeout);
            }
            Command::Point { number } => self.request(Barrier::of_point(*number), None),
            Command::AssignSplits {
                node,
                subtask: receiver,
                splits,
            } => {
                if *node == self.head
                    && *receiver == subtask
                    && let StageKind::Source(source) = &mut self.stages[0].kind
                    && let Err(error) = source.add_splits(splits.clone(), &self.counters)
                {
                    return Err(self.failure(error));
                }
            }
            Command::NoMoreSplits { node } => {
                if *node == self.head
                    && let StageKind::Source(source) = &mut self.stages[0].kind
                {
                    source.no_more_splits();
                }
            }
            Command::Confirm { checkpoint } => {
                for stage in &self.stages {
                    if let StageKind::Sink(sink) = &stage.kind {
                        fail_point::reach("confirm");
                        sink.confirm(*checkpoint);
                    }
                }
            }
            Command::Cancel => {}
        }
        Ok(())
    }

    /// Sets the difference between the wall clock and the steady time passed to the next steps.
    pub(crate) fn set_wall_clock_ahead(&mut self, ahead_us: i64) {
        self.clock.set_wall_ahead(ahead_us);
    }

    /// Makes one bounded call. `now` is steady time: it does not jump when the wall clock is set.
    pub(crate) fn step(&mut self, now: Timestamp) -> Result<Step, Box<Failure>> {
        let stages = &self.stages;
        self.clock
            .tick(now, || stages.iter().filter_map(Stage::processing_time).max());
        self.try_step(now).map_err(|error| self.failure(error))
    }

    /// Records the duration of the last step in the counters.
    pub(crate) fn record_elapsed(&mut self, elapsed: Duration) {
        let elapsed_ns = elapsed.as_nanos() as u64;
        match self.timed_work {
            TimedWork::Nothing => {}
            TimedWork::Call(stage) => add(&self.stages[stage].counters.busy_ns, elapsed_ns),
            TimedWork::Snapshot(stage, checkpoint) => {
                add(&self.stages[stage].counters.checkpoint_pause_ns, elapsed_ns);
                if self.pause.0 != checkpoint {
                    self.pause = (checkpoint, 0);
                }
                self.pause.1 += elapsed_ns;
                self.counters.checkpoint_paused(self.pause.1);
            }
        }
    }

    fn try_step(&mut self, now: Timestamp) -> Result<Step, Error> {
        self.timed_work = TimedWork::Nothing;
        if self.ended {
            return self.answer_ended();
        }
        let unaligned_at = self.start_unaligned_if_due(now)?;
        if !self.edges.iter().all(OutputEdge::has_credit) {
            self.flush_edges()?;
            if !self.edges.iter().all(OutputEdge::has_credit) {
                self.blocked_since.get_or_insert(now);
                return Ok(Step::Waiting { until: unaligned_at });
            }
        }
        if let Some(since) = self.blocked_since.take() {
            self.on_unblocked(since, now);
        }
        if let Some(deepest) = self.stages.iter().rposition(Stage::has_work) {
            self.run_stage(deepest)?;
            if self.stages[deepest].progress == Progress::Pending {
                if self.bypass_blocked_sinks(now)? {
                    return Ok(Step::Worked);
                }
                self.flush_edges()?;
                // Timers could not run before this stage is resumed.
                return Ok(Step::Waiting { until: unaligned_at });
            }
            return Ok(Step::Worked);
        }
        if self.start_timers() || self.take_input(now)? {
            return Ok(Step::Worked);
        }
        if std::mem::take(&mut self.unflushed) {
            for stage in &mut self.stages {
                if let (StageKind::Operator(_), false) = (&stage.kind, stage.ended) {
                    stage.calls.push_back(Call::Flush);
                }
            }
            return Ok(Step::Worked);
        }
        self.flush_edges()?;
        Ok(Step::Waiting {
            until: self.next_timer().into_iter().chain(unaligned_at).min(),
        })
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let timers = self.stages.iter().filter_map(|stage| match &stage.kind {
            _ if stage.ended => None,
            StageKind::Operator(operator) => Some(self.clock.due(operator.next_timer()?)),
            StageKind::Source(source) => source.next_timer(),
            StageKind::Sink(_) => None,
        });
        timers.min()
    }

    fn flush_edges(&mut self) -> Result<(), Error> {
        self.edges.iter_mut().try_for_each(OutputEdge::flush)
    }

    fn on_unblocked(&mut self, since: Timestamp, now: Timestamp) {
        let head = &mut self.stages[0];
        add(&head.counters.blocked_us, now.saturating_sub(since).max(0) as u64);
        if let StageKind::Source(source) = &mut head.kind {
            source.on_blocked(now);
        }
    }

    /// Queues calls of operators whose timers are due. Returns true if there were any.
    fn start_timers(&mut self) -> bool {
        let now = self.clock.processing();
        let mut started = false;
        for stage in &mut self.stages {
            if let StageKind::Operator(operator) = &stage.kind
                && !stage.ended
                && stage.last_time < now
                && operator.next_timer().is_some_and(|due| due <= now)
            {
                stage.calls.push_back(Call::Time);
                started = true;
            }
        }
        started
    }

    /// Takes one element from a channel, or polls the source. Returns false if there was nothing to take.
    fn take_input(&mut self, now: Timestamp) -> Result<bool, Error> {
        self.current = 0;
        if let Some(inputs) = &mut self.inputs {
            let stage = &mut self.stages[0];
            let entered = &mut self.entered;
            let found = inputs.read(now, |input, delivery| match delivery {
                Delivery::Element(element) => {
                    if let Element::Barrier(barrier) = element {
                        *entered = barrier.number;
                    }
                    stage.accept(input, element);
                }
                Delivery::InputEnd => stage.accept_input_end(input),
            });
            let aligned_us = inputs.take_alignment_us();
            if aligned_us > 0 {
                add(&stage.counters.alignment_us, aligned_us);
            }
            self.unflushed |= found;
            return Ok(found);
        }
        if let Some(barrier) = self.pending_barrier() {
            self.inject_barrier(barrier)?;
            return Ok(true);
        }
        let (first, later) = self.stages.split_at_mut(1);
        let stage = &mut first[0];
        let StageKind::Source(source) = &mut stage.kind else {
            return Ok(false);
        };
        let mut output = ChainOutput {
            outputs: &stage.outputs,
            later,
            first: 1,
            edges: &mut self.edges,
            counters: &stage.counters,
            error: None,
        };
        self.timed_work = TimedWork::Call(0);
        let polled = source.poll(now, self.clock.wall(), &stage.counters, &mut output)?;
        if let Some(error) = output.error {
            return Err(error);
        }
        match polled {
            Polled::Emitted => self.unflushed = true,
            // `poll` may have forwarded an element, such as idleness, to the later stages.
            Polled::Pending => return Ok(self.stages.iter().any(Stage::has_work)),
            Polled::Ended => {
                stage.ended = true;
                self.check_end();
            }
        }
        Ok(true)
    }

    /// Takes the source's part of a checkpoint, then emits the barrier of the checkpoint or consistency point.
    fn inject_barrier(&mut self, barrier: Barrier) -> Result<(), Error> {
        self.entered = barrier.number;
        if barrier.number.is_checkpoint() {
            self.snapshot_stage(0, barrier, Vec::new())?;
            fail_point::reach("barrier");
        }
        let (first, later) = self.stages.split_at_mut(1);
        let stage = &mut first[0];
        if let (true, StageKind::Source(source)) = (barrier.last, &mut stage.kind) {
            source.stop();
        }
        let mut output = ChainOutput {
            outputs: &stage.outputs,
            later,
            first: 1,
            edges: &mut self.edges,
            counters: &stage.counters,
            error: None,
        };
        output.forward(&Element::Barrier(barrier));
        let error = output.error;
        stage.passed = barrier.number;
        error.map_or(Ok(()), Err)
    }

    /// Takes the parts of a requested checkpoint after the end of input, because no barrier will arrive.
    fn answer_ended(&mut self) -> Result<Step, Error> {
        let Some(barrier) = self.pending_barrier() else {
            return Ok(Step::Waiting { until: None });
        };
        self.entered = barrier.number;
        for stage in 0..self.stages.len() {
            match barrier.number.is_checkpoint() {
                true => self.snapshot_stage(stage, barrier, Vec::new())?,
                false => self.stages[stage].passed = barrier.number,
            }
        }
        Ok(Step::Worked)
    }

    fn check_end(&mut self) {
        self.ended = self.stages.iter().all(|stage| stage.ended);
    }

    /// Takes a stage's part of a checkpoint. If a source cannot return its positions, only the checkpoint fails. If the
    /// snapshot of an operator fails, the task fails, because the operator may have lost track of what is to be
    /// written.
    ///
    /// `queued` are rows in the queue of a sink that the barrier has overtaken.
    fn snapshot_stage(&mut self, index: usize, barrier: Barrier, queued: Vec<RecordBatch>) -> Result<(), Error> {
        debug_assert!(barrier.number.is_checkpoint());
        let checkpoint = barrier.number.checkpoint;
        self.current = index;
        self.timed_work = TimedWork::Snapshot(index, checkpoint);
        let stage = &mut self.stages[index];
        let mut state = SubtaskState {
            subtask: stage.subtask,
            finished: stage.ended,
            ..SubtaskState::default()
        };
        let work = match &mut stage.kind {
            StageKind::Source(source) => match source.snapshot() {
                Ok(splits) => {
                    state.splits = splits;
                    Work::Nothing
                }
                Err(error) => Work::Failed(error),
            },
            StageKind::Operator(operator) => {
                let snapshot = operator.snapshot(checkpoint)?;
                if snapshot.keyed.is_some() {
                    fail_point::reach("snapshot");
                }
                state.inline = snapshot.inline;
                snapshot.keyed.map_or(Work::Nothing, Work::Keyed)
            }
            StageKind::Sink(sink) => Work::Prepare(sink.prepare(barrier)),
        };
        let part = SnapshotPart {
            checkpoint,
            operator: stage.id.clone(),
            state,
            work,
            channel_state: RecordedState::Complete(ChannelState {
                parallelism: self.parallelism,
                channels: Vec::new(),
                queued,
            }),
            files: self.files.clone(),
        };
        self.submit_part(index, part);
        Ok(())
    }

    /// Makes or resumes one call of a stage.
    fn run_stage(&mut self, index: usize) -> Result<(), Error> {
        let (processing, wall) = (self.clock.processing(), self.clock.wall());
        self.current = index;
        let stage = &mut self.stages[index];
        let resumes = stage.progress != Progress::Done;
        if !resumes && let Some(Call::Snapshot(barrier)) = stage.calls.front() {
            let barrier = *barrier;
            stage.calls.pop_front();
            return self.snapshot_stage(index, barrier, Vec::new());
        }
        self.timed_work = TimedWork::Call(index);
        let (stages, later) = self.stages.split_at_mut(index + 1);
        let stage = &mut stages[index];
        let mut output = ChainOutput {
            outputs: &stage.outputs,
            later,
            first: index + 1,
            edges: &mut self.edges,
            counters: &stage.counters,
            error: None,
        };
        let mut ended = false;
        let calls = &mut stage.calls;
        stage.progress = match &mut stage.kind {
            StageKind::Operator(operator) => {
                if resumes {
                    operator.resume(&mut output)?
                } else {
                    match calls.pop_front() {
                        Some(Call::Process { input, batch }) => {
                            let mut progress = Progress::Done;
                            if stage.last_time < processing {
                                stage.last_time = processing;
                                progress = operator.on_time(processing, &mut output)?;
                            }
                            if progress == Progress::Done {
                                add(&stage.counters.rows_in, batch.num_rows() as u64);
                                add(&stage.counters.bytes_in, batch_bytes(&batch) as u64);
                                if let Some(held_back) = &mut stage.held_back {
                                    held_back.set_active();
                                }
                                operator.process(input, batch, &mut output)?
                            } else {
                                calls.push_front(Call::Process { input, batch });
                                progress
                            }
                        }
                        Some(Call::Time) => {
                            stage.last_time = stage.last_time.max(processing);
                            operator.on_time(processing, &mut output)?
                        }
                        Some(Call::Flush) => operator.flush(&mut output)?,
                        Some(Call::Watermark(watermark)) => {
                            stage.counters.set_watermark(watermark);
                            operator.on_watermark(watermark, &mut output)?
                        }
                        Some(Call::InputEnd(input)) => operator.on_input_end(input, &mut output)?,
                        Some(Call::Point) => operator.on_point(&mut output)?,
                        Some(Call::Finish) => operator.finish(&mut output)?,
                        Some(Call::Forward(mut element)) => {
                            if let Element::Watermark(watermark) = &mut element {
                                *watermark = operator.output_watermark(*watermark);
                            }
                            match &mut stage.held_back {
                                Some(held_back) => held_back.forward(&element, &mut output),
                                None => output.forward(&element),
                            }
                            if let Element::Barrier(barrier) = element {
                                stage.passed = barrier.number;
                            }
                            ended = matches!(element, Element::End);
                            Progress::Done
                        }
                        Some(Call::Snapshot(_)) | None => Progress::Done,
                    }
                }
            }
            StageKind::Sink(sink) => {
                if let Some(Call::Forward(Element::Barrier(barrier))) = calls.front() {
                    stage.passed = barrier.number;
                }
                run_sink(sink, calls, &stage.counters, wall, &mut output, &mut ended)?
            }
            StageKind::Source(_) => Progress::Done,
        };
        if let Some(error) = output.error {
            return Err(error);
        }
        if ended {
            stage.end();
            self.check_end();
        }
        self.watch_held_back(index);
        Ok(())
    }
}

fn run_sink(
    sink: &mut SinkStage,
    calls: &mut VecDeque<Call>,
    counters: &OperatorCounters,
    now: Timestamp,
    output: &mut ChainOutput<'_>,
    ended: &mut bool,
) -> Result<Progress, Error> {
    match calls.pop_front() {
        Some(Call::Process { input, batch }) => {
            if !sink.is_ready()? {
                calls.push_front(Call::Process { input, batch });
                return Ok(Progress::Pending);
            }
            sink.write(&batch, now, counters, output)?;
        }
        Some(Call::Watermark(watermark)) => counters.set_watermark(watermark),
        // A sink has outputs only for dead letters.
        Some(Call::Forward(element)) => {
            output.forward(&element);
            *ended = matches!(element, Element::End);
        }
        Some(Call::Time | Call::Flush | Call::InputEnd(_) | Call::Point | Call::Finish | Call::Snapshot(_)) | None => {}
    }
    Ok(Progress::Done)
}
