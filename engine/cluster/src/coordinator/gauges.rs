//! The leader's metrics: of each job, and of the slots.
//!
//! The exporter keeps a gauge for minutes after its last update. Gauges that no longer apply are therefore reset: the
//! previous state of a job, all gauges of a deleted job, and all gauges of a coordinator that stops leading.

use std::collections::BTreeMap;

use crate::coordinator::active_run::ActiveRun;
use crate::coordinator::ledger::{RunTotals, Status};
use crate::coordinator::state::State;
use crate::coordinator::{now_us, totals};

/// Gauges that are published at the moment.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// State and number of slots of each job, as published last.
    published: BTreeMap<String, (Status, usize)>,
}

impl Gauges {
    /// Publishes all gauges. To be called about once a second.
    pub(super) fn publish<'a>(&mut self, state: &State, running: impl Iterator<Item = (&'a String, &'a ActiveRun)>) {
        for (name, job) in state.jobs() {
            let lease = job.run.as_ref().and_then(|run| run.lease);
            let slots = lease.and_then(|lease| state.slots().lease(lease));
            let now = (job.record.current().status, slots.map_or(0, |lease| lease.slots.len()));
            let before = self.published.insert(name.clone(), now);
            if let Some((left, _)) = before.filter(|(left, _)| *left != now.0) {
                publish_state(name, left, 0.0);
            }
            publish_state(name, now.0, 1.0);
            publish_slots(name, now.1 as f64);
        }
        self.published.retain(|name, (left, _)| {
            let is_kept = state.jobs().contains_key(name);
            if !is_kept {
                withdraw(name, *left);
            }
            is_kept
        });
        for (name, running) in running {
            running.progress.with(|report| report.publish(name));
            let job_totals = state
                .jobs()
                .get(name)
                .and_then(|job| totals::job_totals(job, Some(running)));
            if let Some(job_totals) = job_totals {
                publish_earlier(name, &job_totals);
            }
        }
        let ready = state.slots().ready().count();
        metrics::gauge!("millstream_leading").set(1.0);
        metrics::gauge!("millstream_workers").set(ready as f64);
        metrics::gauge!("millstream_slots").set(state.slots().offered() as f64);
        metrics::gauge!("millstream_slots_used").set(state.slots().used_total() as f64);
    }

    /// Resets all gauges, because this coordinator leads no longer.
    pub(super) fn withdraw(&mut self) {
        for (name, (left, _)) in std::mem::take(&mut self.published) {
            withdraw(&name, left);
        }
        metrics::gauge!("millstream_leading").set(0.0);
        for name in ["millstream_workers", "millstream_slots", "millstream_slots_used"] {
            metrics::gauge!(name).set(f64::NAN);
        }
    }
}

/// Publishes totals that include earlier runs and those of earlier coordinators.
fn publish_earlier(job: &str, job_totals: &RunTotals) {
    let labels = [("job", job.to_string())];
    metrics::gauge!("millstream_restarts", &labels).set(f64::from(job_totals.restarts));
    metrics::gauge!("millstream_checkpoints_failed", &labels).set(job_totals.checkpoints_failed as f64);
    if let Some(last) = &job_totals.last_checkpoint {
        let age_us = (now_us() - last.current_us).max(0);
        metrics::gauge!("millstream_checkpoint_age_seconds", &labels).set(age_us as f64 / 1e6);
    }
}

fn withdraw(job: &str, left: Status) {
    publish_state(job, left, 0.0);
    publish_slots(job, 0.0);
    metrics::gauge!("millstream_checkpoint_age_seconds", "job" => job.to_string()).set(f64::NAN);
}

fn publish_state(job: &str, status: Status, value: f64) {
    metrics::gauge!("millstream_job_state", "job" => job.to_string(), "state" => status.as_str()).set(value);
}

fn publish_slots(job: &str, slots: f64) {
    metrics::gauge!("millstream_job_slots", "job" => job.to_string()).set(slots);
}
