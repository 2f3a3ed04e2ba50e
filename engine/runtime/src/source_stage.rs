//! The source of a chain: drives a [`SourceReader`], computes columns, and tracks event time per split.
//!
//! One call is one poll of the reader, which returns about one batch. Its rows pass the table's calc (computed columns,
//! pushed-down filter) and are emitted; then the watermark of all splits is forwarded, if it has advanced. In batch
//! mode there is no watermark before the end. Records that did not decode are subject to the source's error policy.

mod event_time;
mod splits;

use std::collections::HashMap;
use std::sync::Arc;

use millstream_connectors::source::{RejectedRecord, SourceBatch, SourceEvent, SourceReader};
use millstream_connectors::{Boundedness, Split};
use millstream_graph::{self as graph, ErrorPolicy, OperatorId, Port};

use self::event_time::EventTime;
use self::splits::{Splits, SplitsWatermark};
use crate::Error;
use crate::counters::{JobCounters, OperatorCounters, add};
use crate::dead_letters;
use crate::element::Element;
use crate::operator::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::operators::Calc;
use crate::stage_output::StageOutput;
use crate::subtask_state::SplitState;

/// The remedy for records that do not decode, for both languages: the graph does not know in which one the table was
/// declared.
const SKIP_REMEDY: &str = "To go on past such records set `on_error: skip` or `on_error: dead_letter` of the source in YAML, or the option \
                           'on-error' = 'skip' or 'dead-letter' of the table in SQL";

/// One subtask of a source.
pub(crate) struct SourceStage {
    name: OperatorId,
    reader: Box<dyn SourceReader>,
    calc: Option<Calc>,
    event_time: Option<EventTime>,
    splits: Splits,
    on_error: ErrorPolicy,
    /// True in batch mode: no watermark before the end.
    batch: bool,
    /// The watermark that was forwarded last.
    watermark: Timestamp,
    /// True while downstream does not wait for this source.
    idle: bool,
    /// True after the last barrier: nothing more is read.
    stopped: bool,
    /// Watermarks of splits in the restored checkpoint.
    restored: HashMap<String, Timestamp>,
    /// Splits that were finished before this run; part of checkpoints.
    finished: Vec<Split>,
    /// Time of the last poll of the reader.
    polled: Timestamp,
    /// The split that was read last, for error messages.
    last_split: Option<Arc<str>>,
}

/// The result of polling a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polled {
    /// The source has emitted rows, or its splits have changed.
    Emitted,
    /// There is nothing to read now. The reader calls the task's waker when there is.
    Pending,
    /// The source has ended.
    Ended,
}

impl SourceStage {
    pub(crate) fn new(
        name: OperatorId,
        node: &graph::Node,
        source: &graph::Source,
        input: &arrow::datatypes::SchemaRef,
        reader: Box<dyn SourceReader>,
        boundedness: Boundedness,
        batch: bool,
    ) -> Result<Self, Error> {
        let calc = match &source.calc {
            Some(calc) => Some(Calc::new(name.0.clone(), calc, input, node.output.schema.clone())?),
            None => None,
        };
        let event_time = source.watermark.as_ref().map(EventTime::new);
        let idle_timeout_us = source.watermark.as_ref().map_or(i64::MAX, |watermark| {
            i64::try_from(watermark.idle_timeout.as_micros()).unwrap_or(i64::MAX)
        });
        Ok(Self {
            name,
            reader,
            calc,
            event_time,
            splits: Splits::new(idle_timeout_us, boundedness),
            on_error: source.on_error,
            batch,
            watermark: WATERMARK_MIN,
            idle: false,
            stopped: false,
            restored: HashMap::new(),
            finished: Vec::new(),
            polled: Timestamp::MIN,
            last_split: None,
        })
    }

    /// Declares that splits are in the order of event time: those not yet started do not hold the watermark back.
    pub(crate) fn set_ordered(&mut self) {
        self.splits.set_ordered();
    }

    /// Restores the watermarks of splits from a checkpoint.
    pub(crate) fn restore(&mut self, states: impl Iterator<Item = SplitState>) {
        self.restored
            .extend(states.filter_map(|state| state.watermark.map(|watermark| (state.id, watermark))));
    }

    /// Adds splits to read. Finished ones are only kept for checkpoints.
    pub(crate) fn add_splits(&mut self, splits: Vec<Split>, counters: &JobCounters) -> Result<(), Error> {
        let (finished, open): (Vec<_>, Vec<_>) = splits.into_iter().partition(|split| split.finished);
        self.finished.extend(finished);
        for split in &open {
            let id: Arc<str> = Arc::from(split.id.as_str());
            let gauge = counters.split(&self.name, &id);
            let watermark = self.restored.get(&split.id).copied();
            self.splits
                .add(id, watermark, self.reader.is_deferred(&split.id), gauge);
        }
        if !open.is_empty() {
            self.reader.add_splits(open)?;
        }
        Ok(())
    }

    /// Declares that no further splits will be added.
    pub(crate) fn no_more_splits(&mut self) {
        self.splits.no_more();
        self.reader.no_more_splits();
    }

    /// Stops reading.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Restarts the idle timeout of splits, because the task was blocked by back-pressure.
    pub(crate) fn on_blocked(&mut self, now: Timestamp) {
        self.splits.restart_idle_timeout(now);
    }

    /// Returns the time of the next poll that is needed even if the reader does not call the waker.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        if self.stopped {
            return None;
        }
        let follows_time = self.event_time.is_some() && !self.batch && !self.idle;
        let idle = follows_time.then(|| self.splits.next_idle(self.polled)).flatten();
        let due = self.reader.pending_for().map(|wait| {
            let wait_us = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
            // Rounded up: a poll that is too early would find nothing.
            self.polled.saturating_add(wait_us).saturating_add(1)
        });
        idle.into_iter().chain(due).min()
    }

    /// Returns the position of the source, for error messages.
    pub(crate) fn position(&self) -> Option<String> {
        self.last_split.as_ref().map(|split| format!("after rows of {split}"))
    }

    /// Returns the positions and watermarks of all splits.
    pub(crate) fn snapshot(&mut self) -> Result<Vec<SplitState>, Error> {
        let mut splits = self.reader.snapshot()?;
        splits.extend(self.finished.iter().cloned());
        Ok(splits
            .into_iter()
            .map(|split| SplitState {
                watermark: self.splits.watermark(&split.id),
                id: split.id,
                position: split.position,
                weight: split.weight,
                finished: split.finished,
            })
            .collect())
    }

    /// Polls the reader once. `now` is steady time, for durations; `wall` is the wall clock, which event times are
    /// compared with.
    pub(crate) fn poll(
        &mut self,
        now: Timestamp,
        wall: Timestamp,
        counters: &OperatorCounters,
        out: &mut dyn StageOutput,
    ) -> Result<Polled, Error> {
        if self.stopped {
            return Ok(Polled::Pending);
        }
        self.polled = now;
        match self.reader.poll()? {
            SourceEvent::Batch(batch) => {
                self.on_batch(batch, wall, counters, out)?;
                self.advance(now, out);
                Ok(Polled::Emitted)
            }
            SourceEvent::SplitFinished { split } => {
                self.splits.finish(&split);
                self.advance(now, out);
                Ok(Polled::Emitted)
            }
            SourceEvent::CaughtUp { split } => {
                self.splits.caught_up(&split, now);
                Ok(Polled::Emitted)
            }
            SourceEvent::Pending => {
                self.advance(now, out);
                Ok(Polled::Pending)
            }
            SourceEvent::End => {
                out.forward(&Element::Watermark(WATERMARK_MAX));
                out.forward(&Element::End);
                Ok(Polled::Ended)
            }
        }
    }

    fn on_batch(
        &mut self,
        batch: SourceBatch,
        wall: Timestamp,
        counters: &OperatorCounters,
        out: &mut dyn StageOutput,
    ) -> Result<(), Error> {
        add(&counters.rows_in, batch.rows.num_rows() as u64);
        add(&counters.bytes_in, batch.bytes);
        self.last_split = Some(Arc::clone(&batch.split));
        if self.idle {
            // Downstream must wait for this source again before it gets a row.
            self.idle = false;
            out.forward(&Element::Watermark(self.watermark));
        }
        if !batch.rejected.is_empty() {
            self.reject(batch.rejected, wall, counters, out)?;
        }
        self.splits.started(&batch.split, batch.lag);
        if batch.rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = match &self.calc {
            None => Some(batch.rows),
            Some(calc) => {
                let calculated = calc.evaluate(&batch.rows, Some(&batch.split), wall)?;
                out.count_bad(calculated.bad_rows);
                if let Some(dead_letters) = calculated.dead_letters {
                    out.emit(Port::DeadLetters, dead_letters);
                }
                calculated.rows
            }
        };
        let Some(rows) = rows else {
            return Ok(());
        };
        if let Some(event_time) = &self.event_time
            && !self.batch
        {
            let observed = event_time.observe(&rows, wall)?;
            add(&counters.future_rows, observed.future_rows);
            if let Some(watermark) = observed.watermark {
                self.splits.advance(&batch.split, watermark);
            }
        }
        out.emit(Port::Main, rows);
        Ok(())
    }

    fn reject(
        &mut self,
        rejected: Vec<RejectedRecord>,
        wall: Timestamp,
        counters: &OperatorCounters,
        out: &mut dyn StageOutput,
    ) -> Result<(), Error> {
        add(&counters.bad_rows, rejected.len() as u64);
        match self.on_error {
            ErrorPolicy::Fail => {
                let record = &rejected[0];
                Err(Error::Operator {
                    operator: self.name.0.clone(),
                    message: format!("{}: {}. {SKIP_REMEDY}", record.position, record.error),
                })
            }
            ErrorPolicy::DeadLetter => {
                out.emit(
                    Port::DeadLetters,
                    dead_letters::of_records(&self.name.0, wall, &rejected)?,
                );
                Ok(())
            }
            ErrorPolicy::Skip | ErrorPolicy::Null => Ok(()),
        }
    }

    /// Forwards the change of the watermark, if there is one.
    fn advance(&mut self, now: Timestamp, out: &mut dyn StageOutput) {
        if self.event_time.is_none() || self.batch {
            return;
        }
        match self.splits.watermark_at(now) {
            SplitsWatermark::Watermark(watermark) => {
                if watermark > self.watermark || self.idle {
                    self.watermark = self.watermark.max(watermark);
                    self.idle = false;
                    out.forward(&Element::Watermark(self.watermark));
                }
            }
            SplitsWatermark::Idle(greatest) => {
                if !self.idle {
                    self.idle = true;
                    if let Some(watermark) = greatest.filter(|greatest| *greatest > self.watermark) {
                        self.watermark = watermark;
                        out.forward(&Element::Watermark(watermark));
                    }
                    out.forward(&Element::Idle);
                }
            }
            SplitsWatermark::Unknown => {}
        }
    }
}
