//! One output edge of a task: how a batch finds the subtasks that get it.
//!
//! Hashed batches are cut into one fragment per subtask ([`partition`]). Small fragments are held and gathered into
//! larger batches, without a timer: they leave when enough rows are together, when a few have been gathered, before a
//! barrier, and as soon as the task has nothing else to do, so a lone row leaves at once. A watermark that comes while
//! fragments are held waits with them, behind them; only the newest is kept. Where one subtask gets the whole batch,
//! nothing is copied.

mod partition;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;

pub use self::partition::Partitioner;
use crate::Error;
use crate::channel::Sender;
use crate::element::Element;
use crate::operator::Timestamp;

/// A fragment of so many rows leaves at once; so do gathered ones that are as many together.
const FRAGMENT_ROWS_MIN: usize = 2_048;
/// No more fragments than this are gathered, so that a subtask that gets few rows is not kept waiting.
const FRAGMENTS_MAX: usize = 8;

/// An output edge of one task, with a channel to each subtask that it reaches.
pub struct OutputEdge {
    routing: Routing,
    targets: Vec<Target>,
}

pub enum Routing {
    /// There is one subtask to send to.
    Single,
    Hash(Partitioner),
    /// Batch by batch in turn; the number is whose turn it is.
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
    pub fn new(routing: Routing, senders: Vec<Sender>) -> Self {
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

    /// Whether the task may run, as far as this edge goes. If not, its waker is called when it may.
    pub fn has_credit(&self) -> bool {
        self.targets.iter().all(|target| target.sender.has_credit())
    }

    pub fn send(&mut self, batch: RecordBatch) -> Result<(), Error> {
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

    /// Sends an element that all targets get. Watermarks wait behind held fragments; all else makes them leave.
    pub fn send_control(&mut self, element: &Element) -> Result<(), Error> {
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

    /// Makes held fragments leave: the task has nothing else to do.
    pub fn flush(&mut self) -> Result<(), Error> {
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
