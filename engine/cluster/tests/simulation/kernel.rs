//! The system calls of simulated processes: time, random numbers, and waiting for events.
//!
//! The engine reads the clock, draws random numbers and sleeps through the C library, like every program. This binary
//! defines those functions itself, so that the whole real code (with its runtime, its timers, its random ids and the
//! order of its hash maps) lives in simulated time. Only the thread that called [`enter`] is simulated; all others,
//! such as those of the database, use the real system.
//!
//! Time advances in two ways only: the simulation moves it to the next event, and each action of a process advances
//! it a little ([`advance_by_step`]).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use libc::{c_int, c_uint, c_void, clockid_t, epoll_event, size_t, ssize_t, timespec};

use crate::random::Random;

/// Wall clock at the start: 2026-01-01.
const EPOCH_NS: u64 = 1_767_225_600_000_000_000;
/// Monotonic clock at the start: not 0, so that code may subtract.
const BOOT_NS: u64 = 1_000_000_000_000;
/// Number of polls for work in one turn of a process.
const POLLS_MAX: u32 = 64;
/// Size of a signal set, as the kernel expects it.
const SIGNAL_SET_BYTES: usize = 8;

static NOW_NS: AtomicU64 = AtomicU64::new(0);
static STEP_NS: AtomicU64 = AtomicU64::new(0);
/// Offset of the wall clock of the process that has its turn.
static AHEAD_NS: AtomicI64 = AtomicI64::new(0);
static RANDOM_STATE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    static TURN: Cell<Turn> = const { Cell::new(Turn::Running) };
    static POLLS: Cell<u32> = const { Cell::new(0) };
    static ROOT: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// The state of a process's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Running,
    /// It has more work, but its turn has ended.
    Paused,
    /// It has no work until this time, if any.
    Idle {
        until_ns: Option<u64>,
    },
}

/// Makes this thread the simulated one.
pub fn enter(seed: u64, step_ns: u64) {
    RANDOM_STATE.store(seed, Ordering::Relaxed);
    STEP_NS.store(step_ns, Ordering::Relaxed);
    IS_SIMULATED.set(true);
}

pub fn now_ns() -> u64 {
    NOW_NS.load(Ordering::Relaxed)
}

pub fn advance_to(at_ns: u64) {
    NOW_NS.fetch_max(at_ns, Ordering::Relaxed);
}

/// Advances the time by the step of an action.
pub fn advance_by_step() {
    NOW_NS.fetch_add(STEP_NS.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Returns true if this thread is the simulated one.
pub fn is_simulated() -> bool {
    IS_SIMULATED.get()
}

/// Sets the offset of the wall clock for the process that has its turn next.
pub fn set_wall_clock_ahead(ahead_ns: i64) {
    AHEAD_NS.store(ahead_ns, Ordering::Relaxed);
}

/// Runs a runtime until it has no work or its turn ends.
pub fn turn(runtime: &tokio::runtime::Runtime) -> Turn {
    TURN.set(Turn::Running);
    POLLS.set(0);
    runtime.block_on(UntilTurnEnds);
    ROOT.take();
    TURN.get()
}

/// Ends the turn of the process that has it.
pub fn end_turn() {
    TURN.set(Turn::Paused);
    wake_root();
}

fn wake_root() {
    ROOT.with_borrow(|root| {
        if let Some(root) = root {
            root.wake_by_ref();
        }
    });
}

struct UntilTurnEnds;

impl Future for UntilTurnEnds {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if TURN.get() != Turn::Running {
            return Poll::Ready(());
        }
        ROOT.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

/// Waits for events, as the runtime does when no task is ready: there are none but those of the simulation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    events_max: c_int,
    timeout_ms: c_int,
) -> c_int {
    let look = |timeout_ms: c_int| {
        let no_mask = std::ptr::null::<c_void>();
        // SAFETY: the caller's arguments go to the kernel as they are.
        let found = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                epoll,
                events,
                events_max,
                timeout_ms,
                no_mask,
                SIGNAL_SET_BYTES,
            )
        };
        found as c_int
    };
    if !IS_SIMULATED.get() {
        return look(timeout_ms);
    }
    advance_by_step();
    let found = look(0);
    if found != 0 {
        return found;
    }
    if timeout_ms == 0 {
        POLLS.set(POLLS.get() + 1);
        if POLLS.get() > POLLS_MAX {
            end_turn();
        }
        return 0;
    }
    let until_ns = u64::try_from(timeout_ms)
        .ok()
        .map(|wait_ms| now_ns() + wait_ms * 1_000_000);
    TURN.set(Turn::Idle { until_ns });
    wake_root();
    0
}

/// # Safety
/// As the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let is_time = matches!(
        clock,
        libc::CLOCK_REALTIME
            | libc::CLOCK_REALTIME_COARSE
            | libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_BOOTTIME
    );
    if !IS_SIMULATED.get() || !is_time {
        // SAFETY: the caller's arguments go to the kernel as they are.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int };
    }
    let now_ns = now_ns();
    let shown_ns = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
            (EPOCH_NS + now_ns).saturating_add_signed(AHEAD_NS.load(Ordering::Relaxed))
        }
        _ => BOOT_NS + now_ns,
    };
    let shown = timespec {
        tv_sec: (shown_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (shown_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the caller hands over a place for the time.
    unsafe { time.write(shown) };
    0
}

/// # Safety
/// As the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(to: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !IS_SIMULATED.get() {
        // SAFETY: the caller's arguments go to the kernel as they are.
        return unsafe { libc::syscall(libc::SYS_getrandom, to, length, flags) as ssize_t };
    }
    if length == 0 {
        return 0;
    }
    let mut chance = Random(RANDOM_STATE.load(Ordering::Relaxed));
    // SAFETY: the caller hands over a place for so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&chance.next().to_le_bytes()[..chunk.len()]);
    }
    RANDOM_STATE.store(chance.0, Ordering::Relaxed);
    length as ssize_t
}
