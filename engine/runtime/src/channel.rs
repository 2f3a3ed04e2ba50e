//! A channel between two subtasks: a queue bounded by the bytes of the batches in it.
//!
//! A sender checks for credit before it works, not while it sends: a task runs only when all of its output channels
//! have credit, and the output of one call may exceed it. A channel has credit while the bytes in it are below its
//! capacity, so an element larger than the capacity passes once the channel is empty. Elements other than batches
//! (watermarks, barriers) count against a limit of their own, not against the bytes.
//!
//! The queue is a crossbeam queue. Each end holds a waker of the task at the other end; waking a task that is about to
//! run does nothing. A sender without credit is woken when half of the capacity is free again, so that sender and
//! receiver do not alternate batch by batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::task::Waker;

use crossbeam::queue::SegQueue;

use crate::element::{Element, batch_bytes};

/// Number of elements other than batches that may wait in one channel.
pub const CONTROL_MAX: usize = 256;

/// The sending end of a channel.
pub struct Sender(Arc<Shared>);

/// The receiving end of a channel.
pub struct Receiver(Arc<Shared>);

struct Shared {
    queue: SegQueue<(Element, usize)>,
    bytes: AtomicUsize,
    control: AtomicUsize,
    bytes_max: usize,
    /// True while the sender waits to be woken for lack of credit.
    sender_waits: AtomicBool,
    sender: Waker,
    receiver: Waker,
}

/// Makes a channel of the given capacity. The wakers wake the tasks at its two ends.
pub fn channel(bytes_max: usize, sender: Waker, receiver: Waker) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        queue: SegQueue::new(),
        bytes: AtomicUsize::new(0),
        control: AtomicUsize::new(0),
        bytes_max,
        sender_waits: AtomicBool::new(false),
        sender,
        receiver,
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    /// Returns true if the channel has credit, so the sending task may run. If not, the waker of the sending task is
    /// called when there is credit again.
    pub fn has_credit(&self) -> bool {
        if self.0.has_credit() {
            return true;
        }
        self.0.sender_waits.store(true, Ordering::Relaxed);
        // Pairs with the fence in `Receiver::pop`: either this thread sees that an element was taken, or the receiver
        // sees `sender_waits`.
        fence(Ordering::SeqCst);
        self.0.has_credit()
    }

    /// Requests one call of the sender's waker once the receiver has taken an element and half of the capacity is free,
    /// even if there is credit now.
    pub fn watch(&self) {
        self.0.sender_waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Returns the number of elements that were sent and not yet taken.
    pub fn waiting(&self) -> usize {
        self.0.queue.len()
    }

    /// Sends an element, with or without credit, and wakes the receiver.
    pub fn send(&self, element: Element) {
        let bytes = match &element {
            Element::Batch(batch) => {
                let bytes = batch_bytes(batch);
                self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
                bytes
            }
            _ => {
                self.0.control.fetch_add(1, Ordering::Relaxed);
                0
            }
        };
        self.0.queue.push((element, bytes));
        self.0.receiver.wake_by_ref();
    }
}

impl Receiver {
    /// Returns the capacity in bytes.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// Takes the next element. Returns `None` if the channel is empty; the waker of the receiving task is called when
    /// an element arrives.
    pub fn pop(&self) -> Option<Element> {
        let (element, bytes) = self.0.queue.pop()?;
        match element {
            Element::Batch(_) => self.0.bytes.fetch_sub(bytes, Ordering::Relaxed),
            _ => self.0.control.fetch_sub(1, Ordering::Relaxed),
        };
        fence(Ordering::SeqCst);
        if self.0.sender_waits.load(Ordering::Relaxed)
            && self.0.is_half_free()
            && self.0.sender_waits.swap(false, Ordering::Relaxed)
        {
            self.0.sender.wake_by_ref();
        }
        Some(element)
    }
}

impl Shared {
    fn has_credit(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.bytes_max && self.control.load(Ordering::Relaxed) < CONTROL_MAX
    }

    fn is_half_free(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) <= self.bytes_max / 2
            && self.control.load(Ordering::Relaxed) <= CONTROL_MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use arrow::array::Int64Array;
    use arrow_array::RecordBatch;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn rows(count: usize) -> Element {
        let column = Arc::new(Int64Array::from(vec![0; count])) as _;
        Element::Batch(RecordBatch::try_from_iter([("n", column)]).expect("one column"))
    }

    #[test]
    fn an_element_larger_than_the_channel_passes_when_it_is_empty() {
        let (sender, receiver) = channel(64, Waker::noop().clone(), Waker::noop().clone());
        assert!(sender.has_credit());
        sender.send(rows(1_000));
        assert!(!sender.has_credit());
        assert!(receiver.pop().is_some());
        assert!(sender.has_credit());
    }

    #[test]
    fn a_sender_without_credit_is_woken_when_half_is_free() {
        let woken = Arc::new(Count::default());
        let (sender, receiver) = channel(64, Waker::from(Arc::clone(&woken)), Waker::noop().clone());
        for _ in 0..8 {
            sender.send(rows(1));
        }
        assert!(!sender.has_credit());
        for taken in 1..=8 {
            receiver.pop();
            assert_eq!(
                woken.0.load(Ordering::Relaxed),
                usize::from(taken >= 4),
                "after {taken}"
            );
        }
    }

    #[test]
    fn control_elements_do_not_use_up_the_credit_of_batches() {
        let (sender, receiver) = channel(64, Waker::noop().clone(), Waker::noop().clone());
        for time in 0..CONTROL_MAX as i64 {
            assert!(sender.has_credit());
            sender.send(Element::Watermark(time));
        }
        assert!(!sender.has_credit());
        receiver.pop();
        assert!(sender.has_credit());
    }
}
