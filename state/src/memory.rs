//! One memory budget per process: hot state, RocksDB's block cache and write buffers, all under one hard cap.
//!
//! Operators hold a [`Reservation`] and resize it as their hot set grows; when a resize is refused they evict. The
//! budget counts bytes that operators report; it allocates nothing.
//!
//! Operators do not report everything that a process holds: rows in channels, buffers of clients, freed memory that the
//! allocator retains. A budget with a [`ProcessGauge`] ([`MemoryBudget::within_process`]) therefore also measures the
//! whole process, and refuses growth that would carry it over the cap. State always keeps a small share
//! ([`STATE_SHARE_MIN`]), so that a process whose buffers alone fill the cap makes progress, slowly and beyond the cap.
//! Some memory is never granted, for short-lived allocations ([`HEADROOM_SHARE`]).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

/// A function that returns the bytes this process holds, `None` where that cannot be measured.
pub type ProcessGauge = fn() -> Option<usize>;

/// The share of the budget (one in this many bytes) that state may hold even if other memory of the process fills the
/// cap.
const STATE_SHARE_MIN: usize = 8;
/// The share of the process's limit (one in this many bytes) that is never granted: enlarging a table or writing a
/// block briefly takes memory on top of what is reserved.
const HEADROOM_SHARE: usize = 16;
/// Smallest cap that leaves state some memory beside the program, its buffers and RocksDB's.
pub const RECOMMENDED_BYTES_MIN: usize = 128 << 20;
/// Minimum time between two calls of the reclaimer ([`set_reclaimer`]).
const RECLAIM_INTERVAL: Duration = Duration::from_secs(10);
/// The process is measured again whenever this share of its limit (one in this many bytes) has been granted.
const MEASURE_SHARE: usize = 64;

/// The memory budget of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    process: Option<Process>,
}

/// The process that the budget belongs to.
#[derive(Debug)]
struct Process {
    limit_bytes: usize,
    gauge: ProcessGauge,
    /// Bytes the process held at the last measurement.
    measured_bytes: AtomicUsize,
    /// Bytes granted since the last measurement.
    granted_bytes: AtomicUsize,
}

impl Process {
    /// Returns true if the process may hold `bytes` more. Measures the process, and calls the reclaimer, as needed.
    fn admits(&self, bytes: usize) -> bool {
        if self.granted_bytes.load(Ordering::Relaxed) >= self.limit_bytes / MEASURE_SHARE {
            self.measure();
        }
        if self.fits(bytes) {
            return true;
        }
        reclaim();
        // Much may have been freed since the last measurement.
        self.measure();
        self.fits(bytes)
    }

    fn fits(&self, bytes: usize) -> bool {
        let held = self.measured_bytes.load(Ordering::Relaxed) + self.granted_bytes.load(Ordering::Relaxed);
        held.saturating_add(bytes) <= self.limit_bytes
    }

    fn measure(&self) {
        self.granted_bytes.store(0, Ordering::Relaxed);
        self.measured_bytes
            .store((self.gauge)().unwrap_or(0), Ordering::Relaxed);
    }
}

static RECLAIMER: OnceLock<fn()> = OnceLock::new();

/// Sets the function that is called when the process's memory is short, to return freed memory to the system. Only the
/// first call counts.
pub fn set_reclaimer(reclaimer: fn()) {
    RECLAIMER.get_or_init(|| reclaimer);
}

/// Calls the reclaimer, at most once per [`RECLAIM_INTERVAL`].
fn reclaim() {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    /// Milliseconds since the start; 0 if it was never called.
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    let Some(reclaimer) = RECLAIMER.get() else {
        return;
    };
    let now_ms = START.elapsed().as_millis() as u64 + 1;
    let last_ms = LAST_MS.load(Ordering::Relaxed);
    let is_due = last_ms == 0 || now_ms - last_ms.min(now_ms) >= RECLAIM_INTERVAL.as_millis() as u64;
    // Of several threads that are refused at once, one calls it.
    if is_due
        && LAST_MS
            .compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    {
        reclaimer();
    }
}

impl MemoryBudget {
    /// Creates a budget of `limit_bytes` that ignores other memory of the process.
    pub fn new(limit_bytes: usize) -> Self {
        Self::with_process(limit_bytes, None)
    }

    /// Creates a budget of `limit_bytes` in a process that is to hold no more than `process_bytes` in total, as `gauge`
    /// measures it.
    pub fn within_process(limit_bytes: usize, process_bytes: usize, gauge: ProcessGauge) -> Self {
        let process = Process {
            limit_bytes: process_bytes - process_bytes / HEADROOM_SHARE,
            gauge,
            measured_bytes: AtomicUsize::new(0),
            // So much that the first request measures.
            granted_bytes: AtomicUsize::new(process_bytes),
        };
        Self::with_process(limit_bytes, Some(process))
    }

    fn with_process(limit_bytes: usize, process: Option<Process>) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit_bytes,
                used_bytes: AtomicUsize::new(0),
                process,
            }),
        }
    }

    /// Returns the most that all reservations together may hold.
    pub fn limit_bytes(&self) -> usize {
        self.inner.limit_bytes
    }

    /// Returns the sum of all reservations. It exceeds the limit after [`Reservation::force_resize`].
    pub fn used_bytes(&self) -> usize {
        self.inner.used_bytes.load(Ordering::Relaxed)
    }

    /// Creates an empty reservation.
    pub fn reservation(&self) -> Reservation {
        Reservation {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Returns true if the process may hold `bytes` more of state.
    fn process_admits(&self, bytes: usize) -> bool {
        let Some(process) = &self.inner.process else {
            return true;
        };
        let is_little = self.used_bytes().saturating_add(bytes) <= self.inner.limit_bytes / STATE_SHARE_MIN;
        is_little || process.admits(bytes)
    }

    fn record_granted(&self, bytes: usize) {
        if let Some(process) = &self.inner.process {
            process.granted_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn release(&self, bytes: usize) {
        let used = self.inner.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(
            used >= bytes,
            "{bytes} bytes are released of a budget of which {used} are used"
        );
    }
}

/// A share of the budget; returned to it when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl Reservation {
    /// Returns the size of the share.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the share to `bytes`. Returns false, and leaves the share as it is, if it would grow beyond the budget.
    pub fn try_resize(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            self.budget.release(self.bytes - bytes);
            self.bytes = bytes;
            return true;
        }
        let grow = bytes - self.bytes;
        if !self.budget.process_admits(grow) {
            return false;
        }
        let limit = self.budget.inner.limit_bytes;
        let granted = self
            .budget
            .inner
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.checked_add(grow).filter(|next| *next <= limit)
            })
            .is_ok();
        if granted {
            self.budget.record_granted(grow);
            self.bytes = bytes;
        }
        granted
    }

    /// Sets the share to `bytes` even beyond the budget: for memory that is allocated already and cannot be freed at
    /// once. The holder must evict next.
    pub fn force_resize(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            let grow = bytes - self.bytes;
            self.budget.inner.used_bytes.fetch_add(grow, Ordering::Relaxed);
            self.budget.record_granted(grow);
        } else {
            self.budget.release(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// Returns the resident memory of this process, pages of the program and its libraries included, as control groups
/// count it. `None` where the system does not report it.
pub fn process_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_refused_where_the_process_has_no_room_and_granted_when_it_has() {
        static HELD: AtomicUsize = AtomicUsize::new(600);
        // A sixteenth is kept free.
        let budget = MemoryBudget::within_process(800, 1_067, || Some(HELD.load(Ordering::Relaxed)));
        let mut share = budget.reservation();
        assert!(share.try_resize(300));
        // What was granted is held by now, and there are 600 of other things.
        HELD.store(900, Ordering::Relaxed);
        assert!(!share.try_resize(500));
        assert_eq!(share.bytes(), 300);
        assert!(share.try_resize(350));
        HELD.store(400, Ordering::Relaxed);
        assert!(share.try_resize(750));
        // The budget itself is a limit, too.
        assert!(!share.try_resize(801));
    }

    #[test]
    fn state_keeps_a_small_share_of_a_process_that_is_full() {
        let budget = MemoryBudget::within_process(800, 1_000, || Some(5_000));
        let mut share = budget.reservation();
        assert!(share.try_resize(800 / STATE_SHARE_MIN));
        assert!(!share.try_resize(800 / STATE_SHARE_MIN + 1));
        assert!(share.try_resize(10));
    }

    #[test]
    fn a_process_knows_what_it_holds() {
        let held = process_bytes().expect("Linux tells");
        assert!(held > 100 << 10, "{held}");
    }
}
