//! The output edges of a task: route batches to the subtasks that receive them.
//!
//! Hashed batches are divided into one fragment per subtask ([`partition`]). Small fragments are buffered and
//! concatenated, without a timer: they are sent when they have enough rows, when there are a few of them, before a
//! barrier, and as soon as the task has nothing else to do, so a single row is not delayed. A watermark is queued
//! behind buffered fragments; only the newest watermark is sent. If one subtask receives a whole batch, nothing is
//! copied.

mod partition;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;

pub(crate) use self::partition::Partitioner;
use crate::Error;
use crate::channel::Sender;
use crate::element::Element;
use crate::operator::Timestamp;

/// Buffered fragments of a subtask are sent once they have this many rows together.
const FRAGMENT_ROWS_MIN: usize = 2_048;
/// Buffered fragments of a subtask are sent once there are this many, so that a subtask that gets few rows need not
/// wait.
const FRAGMENTS_MAX: usize = 8;

/// An output edge of one task, with a channel to each receiving subtask.
pub(crate) struct OutputEdge {
    routing: Routing,
    targets: Vec<Target>,
}

/// The distribution of batches over the receiving subtasks.
pub(crate) enum Routing {
    /// There is one receiving subtask.
    Single,
    Hash(Partitioner),
    /// Batches go to the subtasks in turn; contains the next one.
    Rebalance(usize),
    Broadcast,
}

struct Target {
    sender: Sender,
    fragments: Vec<RecordBatch>,
    rows: usize,
    /// The watermark to send behind the fragments.
    watermark: Option<Timestamp>,
}

impl OutputEdge {
    pub(crate) fn new(routing: Routing, senders: Vec<Sender>) -> Self {
        let routing = if senders.len() == 1 { Routing::Single } else { routing };
        let target = |sender| Target {
            sender,
            fragments: Vec::new(),
            rows: 0,
            watermark: None,
        };
        Self {
            routing,
            targets: senders.into_iter().map(target).collect(),
        }
    }

    /// Returns true if all channels of the edge have credit. If not, the waker of the task is called when they have.
    pub(crate) fn has_credit(&self) -> bool {
        self.targets.iter().all(|target| target.sender.has_credit())
    }

    /// Sends a batch.
    pub(crate) fn send(&mut self, batch: RecordBatch) -> Result<(), Error> {
        match &mut self.routing {
            Routing::Single => self.targets[0].sender.send(Element::Batch(batch)),
            Routing::Rebalance(next) => {
                self.targets[*next].sender.send(Element::Batch(batch));
                *next = (*next + 1) % self.targets.len();
            }
            Routing::Broadcast => {
                for target in &self.targets {
                    target.sender.send(Element::Batch(batch.clone()));
                }
            }
            Routing::Hash(partitioner) => {
                let targets = &mut self.targets;
                partitioner.partition(batch, |target, fragment| targets[target].gather(fragment))?;
            }
        }
        Ok(())
    }

    /// Sends an element other than a batch to all subtasks. Buffered fragments are sent before it, except before
    /// watermarks, which are queued behind them.
    pub(crate) fn send_control(&mut self, element: &Element) -> Result<(), Error> {
        for target in &mut self.targets {
            match element {
                Element::Watermark(watermark) if !target.fragments.is_empty() => target.watermark = Some(*watermark),
                element => {
                    target.flush()?;
                    target.sender.send(element.clone());
                }
            }
        }
        Ok(())
    }

    /// Sends buffered fragments.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.targets.iter_mut().try_for_each(Target::flush)
    }
}

impl Target {
    fn gather(&mut self, fragment: RecordBatch) -> Result<(), Error> {
        self.rows += fragment.num_rows();
        self.fragments.push(fragment);
        if self.rows >= FRAGMENT_ROWS_MIN || self.fragments.len() >= FRAGMENTS_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let batch = match self.fragments.len() {
            0 => return Ok(()),
            1 => self.fragments.swap_remove(0),
            _ => concat_batches(&self.fragments[0].schema(), &self.fragments)?,
        };
        self.fragments.clear();
        self.rows = 0;
        self.sender.send(Element::Batch(batch));
        if let Some(watermark) = self.watermark.take() {
            self.sender.send(Element::Watermark(watermark));
        }
        Ok(())
    }
}
