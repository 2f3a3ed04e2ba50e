//! Channels between tasks that run in different processes.
//!
//! To the task at either end, a remote channel is an ordinary [`channel`](crate::channel). The other end of it is given
//! to a [`RemoteTransport`] instead of a task: the transport takes elements out of the [`OutgoingChannel`] in the
//! sending process and puts them into the [`IncomingChannel`] with the same [`ChannelId`] in the receiving process. It
//! must keep the order of each channel, and must not put more into an incoming channel than it has credit for.

use std::sync::Arc;
use std::task::Waker;

use arrow::datatypes::SchemaRef;

use crate::channel::{Receiver, Sender};

/// Number of a channel between two subtasks, in the order in which every process derives the channels from the plan.
pub type ChannelId = u32;

/// Moves elements between this process and the other processes of a job.
pub trait RemoteTransport: Send + Sync {
    /// Returns a waker that is called when the outgoing channel has an element, or the incoming channel has credit
    /// again.
    fn waker(&self, channel: ChannelId) -> Waker;

    /// Takes the receiving end of a channel to a task in another process.
    fn outgoing(&self, channel: OutgoingChannel);

    /// Takes the sending end of a channel from a task in another process.
    fn incoming(&self, channel: IncomingChannel);
}

/// A channel whose receiving task runs in another process.
pub struct OutgoingChannel {
    /// Number of the channel.
    pub id: ChannelId,
    /// The job's slot in which the receiving task runs.
    pub slot: usize,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// Capacity of the incoming end.
    pub bytes_max: usize,
    /// The end to take elements from.
    pub receiver: Receiver,
}

/// A channel whose sending task runs in another process.
pub struct IncomingChannel {
    /// Number of the channel.
    pub id: ChannelId,
    /// The job's slot in which the sending task runs.
    pub slot: usize,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// Capacity of the channel.
    pub bytes_max: usize,
    /// The end to put elements into.
    pub sender: Sender,
}

/// The slots of a job that run in this process, and the transport to the other processes.
#[derive(Clone)]
pub struct LocalSlots {
    /// Numbers of the slots that run here, in ascending order.
    pub slots: Vec<usize>,
    /// Number of slots of the whole job.
    pub slots_total: usize,
    /// `None` if all slots run here.
    pub transport: Option<Arc<dyn RemoteTransport>>,
}

impl LocalSlots {
    /// Returns the job's slot that runs a subtask.
    pub(crate) fn slot(&self, subtask: usize) -> usize {
        subtask % self.slots_total
    }

    /// Returns the position in `slots` of the slot that runs a subtask, or `None` if it runs in another process.
    pub(crate) fn position(&self, subtask: usize) -> Option<usize> {
        self.slots.binary_search(&self.slot(subtask)).ok()
    }
}
