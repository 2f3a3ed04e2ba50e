//! The coordinator's end of one worker's stream.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::heartbeat::Heartbeat;
use super::status::WorkerStatus;
use crate::clock::now_us as clock_us;
use crate::{Error, clock};

/// Orders that may wait for one worker.
pub(super) const ORDERS_MAX: usize = 4_096;

/// The coordinator's end of a worker's stream.
pub(super) struct Link {
    pub name: String,
    pub address: String,
    /// Random id of the worker's process.
    pub(super) incarnation: String,
    version: String,
    pub(super) slots: u32,
    memory_bytes: u64,
    clock: Clock,
    pub(super) state_bytes: AtomicU64,
    attached_us: i64,
    pub(super) is_leaving: AtomicBool,
    /// The worker was told that it may leave.
    pub(super) is_released: AtomicBool,
    epoch: u64,
    orders: mpsc::Sender<Result<v1::Order, Status>>,
    pub(super) heartbeat: Heartbeat,
    /// Cancelled when the stream has ended.
    pub(super) closed: CancellationToken,
}

impl Link {
    /// Returns the end of a stream that a worker has just opened. Orders go to `orders`, marked with `epoch`.
    pub(super) fn new(register: &v1::Register, epoch: u64, orders: mpsc::Sender<Result<v1::Order, Status>>) -> Self {
        Self {
            name: register.name.clone(),
            address: register.address.clone(),
            incarnation: register.incarnation.clone(),
            version: register.version.clone(),
            slots: register.slots,
            memory_bytes: register.memory_bytes,
            clock: Clock::default(),
            state_bytes: AtomicU64::new(0),
            attached_us: clock_us(),
            is_leaving: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            epoch,
            orders,
            heartbeat: Heartbeat::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Returns the worker's status.
    pub(super) fn status(&self) -> WorkerStatus {
        WorkerStatus {
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
            address: self.address.clone(),
            version: self.version.clone(),
            slots: self.slots,
            memory_bytes: self.memory_bytes,
            clock_offset_us: self.clock.offset_us.load(Ordering::Relaxed),
            state_bytes: self.state_bytes.load(Ordering::Relaxed),
            attached_us: self.attached_us,
            is_leaving: self.is_leaving.load(Ordering::Relaxed),
        }
    }

    /// Tells the worker to end an attempt.
    pub(super) fn cancel(&self, job: &str, attempt: &str) -> Result<(), Error> {
        self.order(v1::order::Order::Command(v1::TaskCommand {
            job: job.to_string(),
            attempt: attempt.to_string(),
            command: Some(v1::task_command::Command::Cancel(v1::CancelTasks {})),
        }))
    }

    /// Ends the stream. Orders that are still queued are not delivered.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Queues an order for the worker. Fails if the worker is not attached or its queue is full.
    pub(super) fn order(&self, order: v1::order::Order) -> Result<(), Error> {
        if self.closed.is_cancelled() {
            return Err(Error::Failed(format!("worker {}: it is no longer attached", self.name)));
        }
        let order = v1::Order {
            epoch: self.epoch,
            order: Some(order),
        };
        self.orders.try_send(Ok(order)).map_err(|error| {
            let why = match error {
                mpsc::error::TrySendError::Full(_) => "its queue of orders is full (ORDERS_MAX): it does not respond",
                mpsc::error::TrySendError::Closed(_) => "it is no longer attached",
            };
            Error::Failed(format!("worker {}: {why}", self.name))
        })
    }
}

/// Offset of a worker's clock, measured by pings. One ping is in flight at a time.
#[derive(Default)]
struct Clock {
    /// See [`clock::min_offset_us`].
    offset_us: AtomicI64,
    has_warned: AtomicBool,
    /// Number of the last ping and the time at which it was sent; `None` before the first.
    ping: Mutex<Option<(u64, Instant)>>,
}

impl Clock {
    /// Updates the offset from a heartbeat. Returns the number of the ping to send now, or `None` while the last one
    /// is in flight.
    fn compare(&self, heartbeat: &v1::Heartbeat, ours_us: i64) -> Option<u64> {
        let mut ping = self.ping.lock();
        let number = match *ping {
            None => 1,
            Some((number, sent)) if heartbeat.ping == number => {
                let round_trip = sent
                    .elapsed()
                    .saturating_sub(Duration::from_micros(heartbeat.ping_age_us));
                let offset_us = clock::min_offset_us(heartbeat.clock_us, ours_us, round_trip);
                self.offset_us.store(offset_us, Ordering::Relaxed);
                number + 1
            }
            Some(_) => return None,
        };
        *ping = Some((number, Instant::now()));
        Some(number)
    }
}

impl Link {
    /// Updates the clock's offset from a heartbeat, and warns if it is large.
    pub(super) fn compare_clocks(&self, heartbeat: &v1::Heartbeat) {
        if let Some(number) = self.clock.compare(heartbeat, clock_us())
            && let Err(error) = self.order(v1::order::Order::Ping(v1::Ping { number }))
        {
            tracing::debug!("{error}");
        }
        let offset_us = self.clock.offset_us.load(Ordering::Relaxed);
        let warning = clock::skew_warning(&format!("worker {}", self.name), offset_us);
        let had_warned = self.clock.has_warned.swap(warning.is_some(), Ordering::Relaxed);
        if let Some(warning) = warning.filter(|_| !had_warned) {
            tracing::warn!(worker = self.name, "{warning}");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_connection_is_no_clock_error() {
        let clock = Clock::default();
        // The message was delayed, so the worker's clock seems to be 2 s behind.
        let heartbeat = |ping: u64, ping_age_us: u64| v1::Heartbeat {
            clock_us: 10_000_000,
            ping,
            ping_age_us,
            ..v1::Heartbeat::default()
        };
        assert_eq!(clock.compare(&heartbeat(0, 0), 12_000_000), Some(1));
        assert_eq!(clock.compare(&heartbeat(0, 0), 12_000_000), None, "one ping at a time");
        assert_eq!(
            clock.offset_us.load(Ordering::Relaxed),
            0,
            "nothing is known before a ping is back"
        );
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        *clock.ping.lock() = ago(4).map(|sent| (1, sent));
        assert_eq!(clock.compare(&heartbeat(1, 0), 12_000_000), Some(2));
        assert_eq!(clock.offset_us.load(Ordering::Relaxed), 0);

        // The worker held the ping for 3.5 of the 4 s: its clock is certainly behind.
        *clock.ping.lock() = ago(4).map(|sent| (2, sent));
        assert_eq!(clock.compare(&heartbeat(2, 3_500_000), 12_000_000), Some(3));
        let offset_ms = clock.offset_us.load(Ordering::Relaxed) / 1_000;
        assert!((-1_500..-1_000).contains(&offset_ms), "{offset_ms}");
    }
}
