//! A region that fails begins again from the newest complete checkpoint, while the other regions run on.
//!
//! No row goes from one region to another, so each may be ahead of the checkpoint in its own way. What all have in common
//! are checkpoints: one that waits for answers of the failed region is given up, and none is triggered until the region
//! runs again; one that all have answered is waited for, to be stored and published or not, because it says where the
//! region begins. What its sinks had prepared since is lost with it and made anew; what other regions' sinks have
//! prepared is handed over with the next checkpoint.
//!
//! It happens in this order: what still runs of the region is ended; after the back-off slots are found where workers are
//! gone, and the journal is told under which id the region runs from now on, so that no later coordinator takes over what
//! ran before; then its tasks are brought to their state and started. When that does not go well for a reason that may
//! pass, it is tried again, as restarts of the whole job are, and counted with them. The whole job begins again when this
//! cannot help: two regions have failed, the last checkpoint is due, it is not known what the tasks read, there is damage,
//! or it takes too long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_connectors::Source;
use millstream_store_errors::Retry;
use tracing::Span;

use super::driver::{Driver, failure_of};
use crate::checkpoint::Event;
use crate::deployer::{DeploymentEvent, RegionRestart};
use crate::progress::Phase;
use crate::snapshot::Snapshot;
use crate::{Error, spans, splits};

/// How long tasks of a region may take to end after they were told to.
const REGION_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after the back-off a region may wait for slots. The others cut no checkpoint meanwhile, and what they write
/// gathers.
const SLOTS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a region may take to bring its state and start.
const REGION_START_TIMEOUT: Duration = Duration::from_secs(600);

/// A region that does not run.
pub(super) struct RegionFailover<'a> {
    region: usize,
    /// Why it has failed.
    reason: String,
    /// Its next id.
    attempt: String,
    has_ended: bool,
    /// When the back-off is over.
    due: Instant,
    /// The back-off, then the wait for slots.
    relocation: Option<BoxFuture<'a, Result<Vec<String>, Error>>>,
    /// The worker of each of the job's slots, once all that is needed are there.
    place: Option<Vec<String>>,
    is_starting: bool,
    /// When it has taken too long.
    pub until: Option<Instant>,
    span: Span,
}

impl RegionFailover<'_> {
    /// Says so where it is traced.
    pub fn has_failed(&self, error: &Error) {
        spans::set_error(&self.span, error);
    }
}

/// Resolves when a region has a place to run.
pub(super) async fn relocation_result(failover: &mut Option<RegionFailover<'_>>) -> Result<Vec<String>, Error> {
    match failover.as_mut().and_then(|failover| failover.relocation.as_mut()) {
        Some(relocation) => relocation.await,
        None => std::future::pending().await,
    }
}

impl Driver<'_> {
    pub(super) fn region_event(&mut self, news: DeploymentEvent) {
        match news {
            DeploymentEvent::Task(_) => {}
            DeploymentEvent::RegionFailed {
                region,
                operator,
                subtask,
                error,
            } => {
                let retry = error.retry();
                self.region_failed(region, failure_of(&operator, subtask, &error), retry);
            }
            DeploymentEvent::RegionStopped { region } => {
                if let Some(failover) = self.failover.as_mut().filter(|failover| failover.region == region) {
                    failover.has_ended = true;
                    failover.until = Some(failover.due.max(Instant::now()) + SLOTS_TIMEOUT);
                }
            }
            DeploymentEvent::RegionRunning { region } => self.region_running(region),
        }
    }

    fn region_failed(&mut self, region: usize, error: Error, retry: Retry) {
        if let Some(failover) = &self.failover {
            failover.has_failed(&error);
        }
        let another_is_down = self.failover.as_ref().is_some_and(|failover| failover.region != region);
        let reads_unknown = self.were_running && self.stored.is_none();
        let is_ending = self.coordinator.is_ending() || self.failure.is_some();
        if another_is_down || reads_unknown || is_ending {
            return self.fail(error, retry);
        }
        let Some(delay) = self.restarts.next_delay(retry) else {
            return self.fail(error, retry);
        };
        let regions = self.tasks.regions();
        let slots = regions[region].clone();
        let reason = error.to_string();
        let said = format!(
            "{reason}; {} of {} slots restart, the others go on",
            slots.len(),
            regions.iter().map(Vec::len).sum::<usize>()
        );
        self.progress
            .warn(format!("{said}; restarting in {:.1} s", delay.as_secs_f64()));
        self.progress.update(|report| {
            report.phase = Phase::Restarting;
            report.reason = said;
            report.restarts += 1;
        });
        self.checkpoint_event(Event::Suspend {
            reason: format!("given up: {reason}"),
        });
        let attempt = format!("{}-{region}", uuid::Uuid::new_v4().simple());
        let span = tracing::info_span!(
            target: spans::TARGET,
            parent: None,
            "restart region",
            job = self.job.graph.name,
            region,
            slots = slots.len(),
            reason,
        );
        let waiting = span.in_scope(|| spans::span!("wait for slots"));
        let relocation = {
            let (deployer, attempt) = (self.deployer, attempt.clone());
            async move {
                tokio::time::sleep(delay).await;
                spans::in_span(waiting, deployer.relocate(slots, attempt)).await
            }
        };
        self.failover = Some(RegionFailover {
            region,
            reason,
            attempt,
            has_ended: false,
            due: Instant::now() + delay,
            relocation: Some(relocation.boxed()),
            place: None,
            is_starting: false,
            until: Some(Instant::now() + REGION_STOP_TIMEOUT),
            span,
        });
        self.tasks.end_region(region);
    }

    pub(super) fn region_relocated(&mut self, found: Result<Vec<String>, Error>) {
        let Some(failover) = &mut self.failover else { return };
        failover.relocation = None;
        match found {
            Ok(place) => failover.place = Some(place),
            Err(error) => {
                let reason = format!("{}; {error}", failover.reason);
                self.fail(Error::Failed(reason), Retry::Limited);
            }
        }
    }

    pub(super) fn region_failover_timed_out(&mut self) {
        let Some(failover) = &self.failover else { return };
        let (what, limit) = match (failover.is_starting, failover.has_ended) {
            (true, _) => ("run again", "REGION_START_TIMEOUT"),
            (false, true) => ("find slots", "SLOTS_TIMEOUT"),
            (false, false) => ("end", "REGION_STOP_TIMEOUT"),
        };
        let error = format!("{}; its region did not {what} in time ({limit})", failover.reason);
        self.fail(Error::Failed(error), Retry::Limited);
    }

    /// Lets the region begin again if it is time.
    pub(super) fn restart_region_when_ready(&mut self) {
        let Some(failover) = &mut self.failover else { return };
        if !failover.has_ended || failover.is_starting || self.failure.is_some() || !self.coordinator.is_idle() {
            return;
        }
        let Some(place) = failover.place.take() else { return };
        failover.is_starting = true;
        failover.until = Some(Instant::now() + REGION_START_TIMEOUT);
        let (region, attempt, span) = (failover.region, failover.attempt.clone(), failover.span.clone());
        let slots = self.tasks.regions().swap_remove(region);
        let (checkpoint, states) = match (&self.stored, self.base) {
            (Some(stored), _) => {
                let mut snapshot = Snapshot::new(self.job, self.parallelism, stored);
                splits::add_finished_splits(&self.known, &mut snapshot.operators);
                (Some(stored.checkpoint), snapshot.operators)
            }
            (None, Some(base)) => (Some(base.checkpoint), base.operators.clone()),
            (None, None) => (None, Default::default()),
        };
        let mut given = HashMap::new();
        for node in self.connectors.sources.keys() {
            let id = &self.job.graph.nodes[*node].id;
            if let Some(known) = self.known.get_mut(id) {
                let states = states.get(id).map_or(&[][..], Vec::as_slice);
                let begins_again = |subtask| slots.contains(&(subtask % self.parallelism));
                given.insert(*node, known.reassign(states, begins_again));
            }
        }
        let discovers = |source: &Arc<dyn Source>| !self.job.options.batch && source.discovery_interval().is_some();
        let restart = RegionRestart {
            region,
            attempt,
            slots: place,
            splits: given,
            splits_are_final: !self.connectors.sources.values().any(discovers),
            restore: states.into_iter().collect(),
            epoch: self.history.epoch(),
        };
        let restarted = span.in_scope(|| self.tasks.restart_region(restart));
        match restarted {
            Ok(restarted) => self.progress.update(|report| {
                report.counters.pop();
                report.counters.extend([restarted.stopped, restarted.counters]);
                report.restored_from = checkpoint.or(report.restored_from);
            }),
            // Its worker may just have gone.
            Err(error) => {
                let retry = error.retry();
                self.region_failed(region, error, retry);
            }
        }
    }

    fn region_running(&mut self, region: usize) {
        if self.failover.as_ref().is_none_or(|failover| failover.region != region) {
            return;
        }
        self.failover = None;
        self.end_discovery_elsewhere();
        self.progress.update(|report| report.phase = Phase::Running);
        self.checkpoint_event(Event::Resume);
    }
}
