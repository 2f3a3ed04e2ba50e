//! The parts of a job that run in other processes, as the tasks here see them: not at all.
//!
//! A task's channel to or from a task elsewhere is an ordinary [`crate::channel`], of which one end is handed to a
//! carrier ([`RemoteTransport`]) instead of a task. The carrier takes elements out of [`OutgoingChannel`] ends, moves them to the
//! process where the other task runs, and puts them into the [`IncomingChannel`] end there. Both processes number the channels
//! of the plan alike, so a number says which is meant. How elements travel, and how credit comes back, is the carrier's
//! business; it must keep the order of each channel, and put no more into an incoming end than it has room for.

use std::sync::Arc;
use std::task::Waker;

use arrow::datatypes::SchemaRef;

pub use crate::channel::{CONTROL_MAX, Receiver, Sender, channel};

/// Number of a channel between two subtasks, in the order in which every process derives them from the plan.
pub type ChannelId = u32;

/// Carries elements between this process and the others of a job.
pub trait RemoteTransport: Send + Sync {
    /// Wakes the carrier: an outgoing channel has an element, or room has been made in an incoming one.
    fn waker(&self, channel: ChannelId) -> Waker;

    fn outgoing(&self, channel: OutgoingChannel);

    fn incoming(&self, channel: IncomingChannel);
}

/// A channel whose receiving task runs in another process.
pub struct OutgoingChannel {
    pub id: ChannelId,
    /// The job's slot in which the receiving task runs.
    pub slot: usize,
    pub schema: SchemaRef,
    /// Capacity of the incoming end.
    pub bytes_max: usize,
    pub receiver: Receiver,
}

/// A channel whose sending task runs in another process.
pub struct IncomingChannel {
    pub id: ChannelId,
    /// The job's slot in which the sending task runs.
    pub slot: usize,
    pub schema: SchemaRef,
    pub bytes_max: usize,
    pub sender: Sender,
}

/// Which of a job's slots run in this process, and who carries to the others.
#[derive(Clone)]
pub struct LocalSlots {
    /// In ascending order.
    pub slots: Vec<usize>,
    /// Of the whole job.
    pub slots_total: usize,
    /// `None`: there is nothing elsewhere.
    pub transport: Option<Arc<dyn RemoteTransport>>,
}

impl LocalSlots {
    /// The job's slot of a subtask.
    pub(crate) fn slot(&self, subtask: usize) -> usize {
        subtask % self.slots_total
    }

    /// Which of the slots here runs a subtask, if any.
    pub(crate) fn position(&self, subtask: usize) -> Option<usize> {
        self.slots.binary_search(&self.slot(subtask)).ok()
    }
}
