//! One memory budget per process: hot state, RocksDB's block cache and write buffers, all under one hard cap.
//!
//! Operators hold a [`Reservation`] and resize it as their hot set grows; when a resize is refused they evict. The
//! budget counts bytes that operators report; it allocates nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl MemoryBudget {
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit_bytes,
                used_bytes: AtomicUsize::new(0),
            }),
        }
    }

    pub fn limit_bytes(&self) -> usize {
        self.inner.limit_bytes
    }

    pub fn used_bytes(&self) -> usize {
        self.inner.used_bytes.load(Ordering::Relaxed)
    }

    /// A reservation of nothing, to be resized.
    pub fn reservation(&self) -> Reservation {
        Reservation {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl Reservation {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the share to `bytes`. Refused (and unchanged) if it would grow beyond the budget.
    pub fn try_resize(&mut self, bytes: usize) -> bool {
        let used = &self.budget.inner.used_bytes;
        if bytes <= self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return true;
        }
        let grow = bytes - self.bytes;
        let limit = self.budget.inner.limit_bytes;
        let granted = used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.checked_add(grow).filter(|next| *next <= limit)
            })
            .is_ok();
        if granted {
            self.bytes = bytes;
        }
        granted
    }

    /// Sets the share to `bytes` even beyond the budget: for memory that exists already and cannot be given back at
    /// once. The holder must evict next.
    pub fn force_resize(&mut self, bytes: usize) {
        let used = &self.budget.inner.used_bytes;
        if bytes >= self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.inner.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
