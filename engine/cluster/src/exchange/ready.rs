//! Which of a stream's channels have something to do.
//!
//! Tasks wake a channel's [`ReadyFlag`] from their slot threads; the first wake-up since the channel was last looked at puts
//! it on its stream's list and wakes the stream. Looking takes the mark down before the channel is read, so no wake-up
//! is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Wake;

use crossbeam::queue::SegQueue;
use tokio::sync::Notify;

#[derive(Default)]
pub struct ReadyList {
    /// Places of channels; at most one entry each, and one more for a wake-up while the list was being joined.
    queue: SegQueue<usize>,
    notify: Notify,
}

impl ReadyList {
    /// The next channel with something to do.
    pub async fn next(&self) -> usize {
        loop {
            if let Some(index) = self.queue.pop() {
                return index;
            }
            self.notify.notified().await;
        }
    }
}

/// A channel's index on the list of its stream.
#[derive(Default)]
pub struct ReadyFlag {
    is_set: AtomicBool,
    list: OnceLock<(Arc<ReadyList>, usize)>,
}

impl ReadyFlag {
    pub fn join(&self, list: &Arc<ReadyList>, index: usize) {
        if self.list.set((Arc::clone(list), index)).is_ok() && self.is_set.load(Ordering::Acquire) {
            self.enqueue();
        }
    }

    pub fn clear(&self) {
        self.is_set.store(false, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    pub fn set(&self) {
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
