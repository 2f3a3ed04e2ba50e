//! Loss of workers: streams that end, workers that are silent, and a coordinator process that did not run itself.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::messages::{MessageBody, WorkerMessage};
use super::{FleetEvent, Inner};

/// Interval of the checks for silent workers.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Delay of a check beyond which it judges no worker: this process did not run itself.
const STALL_TOLERANCE: Duration = Duration::from_secs(1);

/// Stall of this process after which its workers, which ping it (`KEEP_ALIVE_TIMEOUT`), have closed their streams.
/// Such a closed stream says nothing about the worker.
const STALL_WORKERS_LEAVE: Duration = Duration::from_secs(4);
/// Time after a stall in which streams that broke during it are noticed.
const STALL_AFTERMATH: Duration = Duration::from_secs(3);

impl Inner {
    /// Returns the length of a stall of this process that is under way or has just ended.
    fn stall(&self) -> Option<Duration> {
        let silence = self.process_heartbeat.silence();
        if silence > WATCH_INTERVAL + STALL_WORKERS_LEAVE {
            return Some(silence);
        }
        let (noticed, length) = (*self.stall.lock())?;
        (noticed.elapsed() < STALL_AFTERMATH).then_some(length)
    }

    /// Handles the end of a worker's stream. If this process stalled, the workers have closed their streams although
    /// their tasks run: the fleet shuts down and leaves the tasks to be adopted. Otherwise the worker is lost.
    pub(super) async fn on_stream_broken(&self, worker: &str, incarnation: &str, reason: &str) {
        let Some(stall) = self.stall() else {
            return self.remove_worker(worker, incarnation, reason).await;
        };
        if self.shutdown_reason.lock().is_some() {
            return;
        }
        let reason = format!(
            "this coordinator did not run for {:.1} s, so its workers have left it",
            stall.as_secs_f64()
        );
        self.shut_down(&reason);
        self.send_event(FleetEvent::Stalled { reason }).await;
    }

    /// Removes a worker and notifies its attempts and the coordinator.
    async fn remove_worker(&self, worker: &str, incarnation: &str, reason: &str) {
        let is_released = {
            let mut links = self.links.lock();
            if links.get(worker).is_none_or(|link| link.incarnation != incarnation) {
                return;
            }
            let link = links.remove(worker);
            link.is_some_and(|link| link.is_released.load(Ordering::Relaxed))
        };
        match is_released {
            true => tracing::info!(worker, "worker has left"),
            false => tracing::warn!(worker, "worker lost: {reason}"),
        }
        let mut listeners: Vec<mpsc::Sender<WorkerMessage>> = Vec::new();
        for entry in &self.attempts {
            // One channel may serve several regions.
            if !listeners.iter().any(|known| known.same_channel(entry.value())) {
                listeners.push(entry.value().clone());
            }
        }
        for listener in listeners {
            let message = WorkerMessage {
                worker: worker.to_string(),
                body: MessageBody::Lost(reason.to_string()),
            };
            if listener.try_send(message).is_err() {
                tracing::debug!("an attempt that is ending was not notified");
            }
        }
        self.send_event(FleetEvent::Lost {
            worker: worker.to_string(),
            incarnation: incarnation.to_string(),
            reason: reason.to_string(),
        })
        .await;
    }
}

/// Removes workers that have been silent for too long, until the fleet is dropped.
pub(super) async fn watch(inner: Weak<Inner>) {
    loop {
        let before = Instant::now();
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(inner) = inner.upgrade() else { return };
        let links: Vec<_> = inner.links.lock().values().cloned().collect();
        // After a stall, messages of workers may still be unread.
        let has_stalled = before.elapsed() > WATCH_INTERVAL + STALL_TOLERANCE;
        if before.elapsed() > WATCH_INTERVAL + STALL_WORKERS_LEAVE {
            *inner.stall.lock() = Some((Instant::now(), before.elapsed()));
        }
        // Only after the stall is recorded: `stall` would otherwise miss it in between.
        inner.process_heartbeat.beat();
        for link in links {
            if has_stalled {
                link.heartbeat.beat();
            }
            let silence = link.heartbeat.silence();
            if silence > inner.options.lost_after {
                let reason = format!("no message arrived from it for {:.1} s", silence.as_secs_f64());
                inner.remove_worker(&link.name, &link.incarnation, &reason).await;
            }
        }
    }
}
