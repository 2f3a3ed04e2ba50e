//! The channels of a stream that have work.
//!
//! Tasks wake the [`ReadyFlag`] of a channel from their slot threads. The first wake-up since the flag was cleared
//! puts the channel on the list of its stream and wakes the stream. The flag is cleared before the channel is read,
//! so no wake-up is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Wake;

use crossbeam::queue::SegQueue;
use tokio::sync::Notify;

/// The channels of one stream that have work.
#[derive(Default)]
pub(super) struct ReadyList {
    /// Indexes of channels: at most one entry each, and one more for a wake-up while the flag joined the list.
    queue: SegQueue<usize>,
    notify: Notify,
}

impl ReadyList {
    /// Waits for the next channel with work.
    pub(super) async fn next(&self) -> usize {
        loop {
            if let Some(index) = self.queue.pop() {
                return index;
            }
            self.notify.notified().await;
        }
    }
}

/// The flag of a channel that has work, with its index on the list of its stream.
#[derive(Default)]
pub(super) struct ReadyFlag {
    is_set: AtomicBool,
    list: OnceLock<(Arc<ReadyList>, usize)>,
}

impl ReadyFlag {
    /// Adds the flag to the list of a stream.
    pub(super) fn join(&self, list: &Arc<ReadyList>, index: usize) {
        if self.list.set((Arc::clone(list), index)).is_ok() && self.is_set.load(Ordering::Acquire) {
            self.enqueue();
        }
    }

    /// Clears the flag, before the channel is read.
    pub(super) fn clear(&self) {
        self.is_set.store(false, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Sets the flag: the channel has work.
    pub(super) fn set(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            self.enqueue();
        }
    }

    fn enqueue(&self) {
        if let Some((list, index)) = self.list.get() {
            list.queue.push(*index);
            list.notify.notify_one();
        }
    }
}

impl Wake for ReadyFlag {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}
