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
use tracing::Span;

use super::driver::{Driver, failure_of};
use crate::checkpoint::Event;
use crate::deployer::{News, RegionRestart};
use crate::manifest::Snapshot;
use crate::progress::Phase;
use crate::restart::Retry;
use crate::{Error, control, restart, splits};

/// How long tasks of a region may take to end after they were told to.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after the back-off a region may wait for slots. The others cut no checkpoint meanwhile, and what they write
/// gathers.
const PLACE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a region may take to bring its state and start.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// A region that does not run.
pub(super) struct Mending<'a> {
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

impl Mending<'_> {
    /// Says so where it is traced.
    pub fn has_failed(&self, error: &Error) {
        control::failed(&self.span, error);
    }
}

/// Resolves when a region has a place to run.
pub(super) async fn relocated(mending: &mut Option<Mending<'_>>) -> Result<Vec<String>, Error> {
    match mending.as_mut().and_then(|mending| mending.relocation.as_mut()) {
        Some(relocation) => relocation.await,
        None => std::future::pending().await,
    }
}

impl Driver<'_> {
    pub(super) fn region_news(&mut self, news: News) {
        match news {
            News::Of(_) => {}
            News::RegionFailed {
                region,
                operator,
                subtask,
                error,
            } => {
                let retry = restart::retry_tasks(&error);
                self.region_failed(region, failure_of(&operator, subtask, &error), retry);
            }
            News::RegionEnded { region } => {
                if let Some(mending) = self.mending.as_mut().filter(|mending| mending.region == region) {
                    mending.has_ended = true;
                    mending.until = Some(mending.due.max(Instant::now()) + PLACE_TIMEOUT);
                }
            }
            News::RegionRuns { region } => self.region_runs(region),
        }
    }

    fn region_failed(&mut self, region: usize, error: Error, retry: Retry) {
        if let Some(mending) = &self.mending {
            mending.has_failed(&error);
        }
        let another_is_down = self.mending.as_ref().is_some_and(|mending| mending.region != region);
        let reads_unknown = self.were_running && self.stored.is_none();
        let is_ending = self.coordinator.is_ending() || self.failure.is_some();
        if another_is_down || reads_unknown || is_ending {
            return self.fail(error, retry);
        }
        let Some(delay) = self.restarts.after_failure(retry) else {
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
        self.checkpoint_event(Event::Halt {
            reason: format!("given up: {reason}"),
        });
        let attempt = format!("{}-{region}", uuid::Uuid::new_v4().simple());
        let span = tracing::info_span!(
            target: control::TARGET,
            parent: None,
            "restart region",
            job = self.job.graph.name,
            region,
            slots = slots.len(),
            reason,
        );
        let waiting = span.in_scope(|| control::span!("wait for slots"));
        let relocation = {
            let (deployer, attempt) = (self.deployer, attempt.clone());
            async move {
                tokio::time::sleep(delay).await;
                control::step(waiting, deployer.relocate(slots, attempt)).await
            }
        };
        self.mending = Some(Mending {
            region,
            reason,
            attempt,
            has_ended: false,
            due: Instant::now() + delay,
            relocation: Some(relocation.boxed()),
            place: None,
            is_starting: false,
            until: Some(Instant::now() + END_TIMEOUT),
            span,
        });
        self.tasks.end_region(region);
    }

    pub(super) fn has_place(&mut self, found: Result<Vec<String>, Error>) {
        let Some(mending) = &mut self.mending else { return };
        mending.relocation = None;
        match found {
            Ok(place) => mending.place = Some(place),
            Err(error) => {
                let reason = format!("{}; {error}", mending.reason);
                self.fail(Error::Failed(reason), Retry::Limited);
            }
        }
    }

    pub(super) fn mending_takes_too_long(&mut self) {
        let Some(mending) = &self.mending else { return };
        let (what, limit) = match (mending.is_starting, mending.has_ended) {
            (true, _) => ("run again", "START_TIMEOUT"),
            (false, true) => ("find slots", "PLACE_TIMEOUT"),
            (false, false) => ("end", "END_TIMEOUT"),
        };
        let error = format!("{}; its region did not {what} in time ({limit})", mending.reason);
        self.fail(Error::Failed(error), Retry::Limited);
    }

    /// Lets the region begin again if it is time.
    pub(super) fn mend(&mut self) {
        let Some(mending) = &mut self.mending else { return };
        if !mending.has_ended || mending.is_starting || self.failure.is_some() || !self.coordinator.is_idle() {
            return;
        }
        let Some(place) = mending.place.take() else { return };
        mending.is_starting = true;
        mending.until = Some(Instant::now() + START_TIMEOUT);
        let (region, attempt, span) = (mending.region, mending.attempt.clone(), mending.span.clone());
        let slots = self.tasks.regions().swap_remove(region);
        let (checkpoint, states) = match (&self.stored, self.base) {
            (Some(stored), _) => {
                let mut snapshot = Snapshot::new(self.job, self.parallelism, stored);
                splits::keep_finished(&self.known, &mut snapshot.operators);
                (Some(stored.checkpoint), snapshot.operators)
            }
            (None, Some(base)) => (Some(base.checkpoint), base.operators.clone()),
            (None, None) => (None, Default::default()),
        };
        let mut given = HashMap::new();
        for node in self.ends.sources.keys() {
            let id = &self.job.graph.nodes[*node].id;
            if let Some(known) = self.known.get_mut(id) {
                let states = states.get(id).map_or(&[][..], Vec::as_slice);
                let begins_again = |subtask| slots.contains(&(subtask % self.parallelism));
                given.insert(*node, known.give_again(states, begins_again));
            }
        }
        let discovers = |source: &Arc<dyn Source>| !self.job.options.batch && source.discovery_interval().is_some();
        let restart = RegionRestart {
            region,
            attempt,
            slots: place,
            splits: given,
            splits_are_final: !self.ends.sources.values().any(discovers),
            restore: states.into_iter().collect(),
            epoch: self.history.epoch(),
        };
        let restarted = span.in_scope(|| self.tasks.restart_region(restart));
        match restarted {
            Ok(restarted) => self.progress.update(|report| {
                report.counters.pop();
                report.counters.extend([restarted.before, restarted.counters]);
                report.restored_from = checkpoint.or(report.restored_from);
            }),
            // Its worker may just have gone.
            Err(error) => {
                let retry = restart::retry(&error);
                self.region_failed(region, error, retry);
            }
        }
    }

    fn region_runs(&mut self, region: usize) {
        if self.mending.as_ref().is_none_or(|mending| mending.region != region) {
            return;
        }
        self.mending = None;
        self.end_discovery_elsewhere();
        self.progress.update(|report| report.phase = Phase::Running);
        self.checkpoint_event(Event::GoOn);
    }
}
