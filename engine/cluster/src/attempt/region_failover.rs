//! Failover of one region: it restarts from the newest complete checkpoint while the other regions run on.
//!
//! No row goes from one region to another, so each may be ahead of the checkpoint by its own amount. Checkpoints are
//! what they have in common: one that waits for acknowledgements of the failed region is aborted, and none is triggered
//! until the region runs again; one that all have acknowledged is waited for, until it is stored and published or has
//! failed, because it decides where the region restarts. Output that the region's sinks have prepared since is lost and
//! produced again; output that other regions' sinks have prepared is part of the next checkpoint.
//!
//! The steps: the remaining tasks of the region are stopped; after the back-off, slots are found in place of those
//! whose workers are gone, and the journal records the region's next attempt id, so that a later coordinator does not
//! adopt the old tasks; then the new tasks restore their state and start. A retryable failure of these steps begins
//! them again, counted with the restarts of the whole job. The whole job restarts instead when two regions have failed,
//! the last checkpoint is due, the splits of adopted tasks are not known yet, sinks keep output back over
//! several checkpoints, the checkpoint is damaged, or a step times out.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tracing::Span;

use crate::{Error, spans};

/// Limit of the time until the tasks of a region have stopped.
const REGION_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Limit of the time after the back-off until there are slots. No checkpoint is taken meanwhile, so the prepared output
/// of the other regions grows.
const SLOTS_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit of the time until a region has restored its state and started.
const REGION_START_TIMEOUT: Duration = Duration::from_secs(600);

/// The back-off, then the search for slots.
pub(super) type Relocation<'a> = BoxFuture<'a, Result<Vec<String>, Error>>;

/// The failover of a region that does not run.
pub(super) struct RegionFailover<'a> {
    region: usize,
    /// The cause of the failure.
    reason: String,
    /// The id of the region's next attempt.
    attempt: String,
    /// The end of the back-off.
    due: Instant,
    relocation: Option<Relocation<'a>>,
    step: Step,
    /// The worker of each of the job's slots, once all that are needed have been found.
    slots: Option<Vec<String>>,
    /// The time at which the present step has failed.
    deadline: Instant,
    span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The old tasks are being stopped.
    Stopping,
    /// The old tasks have stopped; slots may not have been found yet.
    Stopped,
    /// The new tasks restore their state.
    Starting,
}

impl<'a> RegionFailover<'a> {
    /// Begins the failover of a region whose tasks are being stopped.
    pub(super) fn new(
        region: usize,
        attempt: String,
        reason: String,
        delay: Duration,
        relocation: Relocation<'a>,
        span: Span,
    ) -> Self {
        let now = Instant::now();
        Self {
            region,
            reason,
            attempt,
            due: now + delay,
            relocation: Some(relocation),
            step: Step::Stopping,
            slots: None,
            deadline: now + REGION_STOP_TIMEOUT,
            span,
        }
    }

    /// Returns the region's number.
    pub(super) fn region(&self) -> usize {
        self.region
    }

    /// Returns the id of the region's next attempt.
    pub(super) fn attempt(&self) -> &str {
        &self.attempt
    }

    /// Returns the span of the failover.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Returns the time at which the present step has failed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes note that the old tasks have stopped.
    pub(super) fn on_stopped(&mut self, now: Instant) {
        if self.step == Step::Stopping {
            self.step = Step::Stopped;
            self.deadline = self.due.max(now) + SLOTS_TIMEOUT;
        }
    }

    /// Takes note of the result of the search for slots. An error fails the attempt.
    pub(super) fn on_relocated(&mut self, result: Result<Vec<String>, Error>) -> Result<(), Error> {
        self.relocation = None;
        let slots = result.map_err(|error| Error::Failed(format!("{}; {error}", self.reason)))?;
        self.slots = Some(slots);
        Ok(())
    }

    /// Begins the start of the new tasks if the old ones have stopped and there are slots, which are returned.
    pub(super) fn start_if_ready(&mut self, now: Instant) -> Option<Vec<String>> {
        if self.step != Step::Stopped {
            return None;
        }
        let slots = self.slots.take()?;
        self.step = Step::Starting;
        self.deadline = now + REGION_START_TIMEOUT;
        Some(slots)
    }

    /// Returns the error of a step that has exceeded its limit.
    pub(super) fn timeout_error(&self) -> Error {
        let (verb, limit) = match self.step {
            Step::Starting => ("start", "REGION_START_TIMEOUT"),
            Step::Stopped => ("find slots", "SLOTS_TIMEOUT"),
            Step::Stopping => ("stop", "REGION_STOP_TIMEOUT"),
        };
        Error::Failed(format!("{}; its region did not {verb} in time ({limit})", self.reason))
    }

    /// Marks the span of the failover as failed.
    pub(super) fn set_error(&self, error: &Error) {
        spans::set_error(&self.span, error);
    }
}

/// Waits for the result of the search for slots; without a search, forever.
pub(super) async fn relocation_result(failover: &mut Option<RegionFailover<'_>>) -> Result<Vec<String>, Error> {
    match failover.as_mut().and_then(|failover| failover.relocation.as_mut()) {
        Some(relocation) => relocation.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    enum Event {
        Stopped,
        Relocated,
        Start,
    }

    /// Applies events at these seconds after the failure, with a back-off of 10 s. Expected after each: whether the new
    /// tasks are to start now, the seconds until the deadline, and the limit that is named then.
    #[track_caller]
    fn check(steps: &[(u64, Event, bool, u64, &str)]) {
        let pending = std::future::pending().boxed();
        let delay = Duration::from_secs(10);
        let mut failover = RegionFailover::new(0, "x-0".into(), "it broke".into(), delay, pending, Span::none());
        let began = failover.due - delay;
        for (step, (at_s, event, starts, deadline_s, limit)) in steps.iter().enumerate() {
            let now = began + Duration::from_secs(*at_s);
            let started = match event {
                Event::Stopped => {
                    failover.on_stopped(now);
                    None
                }
                Event::Relocated => {
                    failover.on_relocated(Ok(vec!["a".into()])).unwrap();
                    None
                }
                Event::Start => failover.start_if_ready(now),
            };
            assert_eq!(started.is_some(), *starts, "step {step}");
            assert_eq!((failover.deadline() - began).as_secs(), *deadline_s, "step {step}");
            let error = failover.timeout_error().to_string();
            assert!(
                error.starts_with("it broke; its region did not ") && error.contains(limit),
                "{error}"
            );
        }
    }

    #[test]
    fn a_region_starts_once_it_has_stopped_and_there_are_slots() {
        use Event::{Relocated, Start, Stopped};
        check(&[
            (1, Start, false, 30, "stop in time (REGION_STOP_TIMEOUT)"),
            (2, Stopped, false, 70, "find slots in time (SLOTS_TIMEOUT)"),
            (3, Start, false, 70, "SLOTS_TIMEOUT"),
            (12, Relocated, false, 70, "SLOTS_TIMEOUT"),
            (13, Start, true, 613, "start in time (REGION_START_TIMEOUT)"),
            (14, Start, false, 613, "REGION_START_TIMEOUT"),
        ]);
        check(&[
            (11, Relocated, false, 30, "REGION_STOP_TIMEOUT"),
            (12, Start, false, 30, "REGION_STOP_TIMEOUT"),
            (20, Stopped, false, 80, "SLOTS_TIMEOUT"),
            (20, Start, true, 620, "REGION_START_TIMEOUT"),
        ]);
    }

    #[test]
    fn a_failed_search_for_slots_names_the_failure_of_the_region() {
        let pending = std::future::pending().boxed();
        let mut failover = RegionFailover::new(
            0,
            "x-0".into(),
            "it broke".into(),
            Duration::ZERO,
            pending,
            Span::none(),
        );
        let error = failover
            .on_relocated(Err(Error::Failed("no slots".into())))
            .unwrap_err();
        assert_eq!(error.to_string(), "it broke; no slots");
    }
}
