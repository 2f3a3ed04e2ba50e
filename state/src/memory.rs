//! One memory budget per process: hot state, RocksDB's block cache and write buffers, all under one hard cap.
//!
//! Operators hold a [`Reservation`] and resize it as their hot set grows; when a resize is refused they evict. The
//! budget counts bytes that operators report; it allocates nothing.
//!
//! What operators report is not all that a process holds: rows are under way between tasks, clients have buffers, an
//! allocator keeps what was freed. So the budget may also be told how to find out what the process holds in all
//! ([`MemoryBudget::within_process`]), and then refuses growth that would carry that over the cap. State always keeps
//! a small share ([`STATE_SHARE_MIN`]), however much the rest holds: a process whose buffers alone are as large as its
//! cap goes on, slowly, and beyond it. What a step takes for a moment is kept free ([`HEADROOM_SHARE`]).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

/// Bytes that this process holds, where that can be found out.
pub type ProcessGauge = fn() -> Option<usize>;

/// State may hold this share of the budget (one in so many bytes) even if other memory of the process fills its cap.
const STATE_SHARE_MIN: usize = 8;
/// This share of what the process may hold (one in so many bytes) is not granted: the table being enlarged, the block being
/// written and the like come on top of what is held.
const HEADROOM_SHARE: usize = 16;
/// Below this there is hardly room for anything but the program itself, its buffers and RocksDB's.
pub const ADVISED_BYTES_MIN: usize = 128 << 20;
/// While memory is short, a process lets go this often what it can do without.
const LET_GO_INTERVAL: Duration = Duration::from_secs(10);
/// The process is looked at again whenever this share of its cap has been granted.
const LOOK_SHARE: usize = 64;

/// The budget itself. Cheap to clone.
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
    /// What it held when it was last looked at.
    held_bytes: AtomicUsize,
    /// What was granted since.
    granted_bytes: AtomicUsize,
}

impl Process {
    /// Whether it may hold so many bytes more.
    fn has_room(&self, bytes: usize) -> bool {
        if self.granted_bytes.load(Ordering::Relaxed) >= self.limit_bytes / LOOK_SHARE {
            self.look();
        }
        if self.fits(bytes) {
            return true;
        }
        let_go();
        // Much may have been given back since.
        self.look();
        self.fits(bytes)
    }

    fn fits(&self, bytes: usize) -> bool {
        let held = self.held_bytes.load(Ordering::Relaxed) + self.granted_bytes.load(Ordering::Relaxed);
        held.saturating_add(bytes) <= self.limit_bytes
    }

    fn look(&self) {
        self.granted_bytes.store(0, Ordering::Relaxed);
        self.held_bytes.store((self.gauge)().unwrap_or(0), Ordering::Relaxed);
    }
}

static LET_GO: OnceLock<fn()> = OnceLock::new();

/// Says what else this process can do when its memory is short: give back what allocators keep, and the like. Only the
/// first call counts.
pub fn when_short(let_go: fn()) {
    LET_GO.get_or_init(|| let_go);
}

fn let_go() {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    /// Since the start, in milliseconds; 0: never.
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    let Some(let_go) = LET_GO.get() else {
        return;
    };
    let now_ms = START.elapsed().as_millis() as u64 + 1;
    let last_ms = LAST_MS.load(Ordering::Relaxed);
    let is_due = last_ms == 0 || now_ms - last_ms.min(now_ms) >= LET_GO_INTERVAL.as_millis() as u64;
    // Of several threads that are refused at once, one does it.
    if is_due
        && LAST_MS
            .compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    {
        let_go();
    }
}

impl MemoryBudget {
    pub fn new(limit_bytes: usize) -> Self {
        Self::of(limit_bytes, None)
    }

    /// A budget of `limit_bytes` in a process that is to hold no more than `process_bytes` in all.
    pub fn within_process(limit_bytes: usize, process_bytes: usize, gauge: ProcessGauge) -> Self {
        let process = Process {
            limit_bytes: process_bytes - process_bytes / HEADROOM_SHARE,
            gauge,
            held_bytes: AtomicUsize::new(0),
            granted_bytes: AtomicUsize::new(process_bytes),
        };
        Self::of(limit_bytes, Some(process))
    }

    fn of(limit_bytes: usize, process: Option<Process>) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit_bytes,
                used_bytes: AtomicUsize::new(0),
                process,
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

    /// Whether the process may hold so many bytes more of state.
    fn process_has_room(&self, bytes: usize) -> bool {
        let Some(process) = &self.inner.process else {
            return true;
        };
        let is_little = self.used_bytes().saturating_add(bytes) <= self.inner.limit_bytes / STATE_SHARE_MIN;
        is_little || process.has_room(bytes)
    }

    fn note_granted(&self, bytes: usize) {
        if let Some(process) = &self.inner.process {
            process.granted_bytes.fetch_add(bytes, Ordering::Relaxed);
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
        if !self.budget.process_has_room(grow) {
            return false;
        }
        let limit = self.budget.inner.limit_bytes;
        let granted = used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.checked_add(grow).filter(|next| *next <= limit)
            })
            .is_ok();
        if granted {
            self.budget.note_granted(grow);
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
            self.budget.note_granted(bytes - self.bytes);
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

/// Bytes of memory that this process has resident, pages of the program and its libraries included, as control groups and
/// people count them. `None` where the system does not tell.
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
