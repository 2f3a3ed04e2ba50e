//! Adoption of attempts that outlived their coordinator.
//!
//! A worker that attaches reports the attempts that it runs. Once all workers of an attempt have attached with its
//! tasks, the attempt is adopted. If one attaches without them or does not attach in time, the attempt is abandoned,
//! and the job restarts from its last checkpoint. Its slots are leased meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use super::{Command, State};
use crate::coordinator::ledger::Status;

/// Time for workers to attach to a new coordinator. They must notice the failure of the old one and try other
/// addresses.
const ADOPTION_GRACE_US: i64 = 10_000_000;

/// An attempt that waits for its workers.
#[derive(Debug)]
pub(super) struct Adoption {
    /// Attempts that each of its workers runs.
    workers: BTreeMap<String, BTreeSet<String>>,
    /// Workers that have not attached yet.
    missing: BTreeSet<String>,
    /// Time at which the wait ends.
    pub until_us: i64,
    /// Reason of the job's state before the wait.
    previous_reason: String,
}

impl State {
    /// Starts a run that adopts the job's attempt. Returns false if the journal has none.
    pub(super) fn adopt(&mut self, name: &str, now_us: i64, commands: &mut Vec<Command>) -> bool {
        let Some(record) = self.jobs.get(name).map(|job| &job.record) else {
            return false;
        };
        let Some(placement) = record.adoptable_placement() else {
            return false;
        };
        let workers = placement.by_worker();
        let adoption = Adoption {
            missing: workers.keys().cloned().collect(),
            workers,
            until_us: now_us + ADOPTION_GRACE_US,
            previous_reason: record.current().reason.clone(),
        };
        let slots = placement.slots.clone();
        let lease = self.slots.hold(name, slots);
        self.run(name, Some(lease), Some(adoption), commands);
        self.explain_adoption(name);
        true
    }

    /// Returns the adoptions that wait for workers, by job.
    pub(super) fn adoptions(&self) -> impl Iterator<Item = (&String, &Adoption)> {
        let runs = self
            .jobs
            .iter()
            .filter_map(|(name, job)| Some((name, job.run.as_ref()?)));
        runs.filter_map(|(name, run)| Some((name, run.adoption.as_ref()?)))
    }

    /// Handles a worker that has attached with these attempts.
    pub(super) fn worker_returned(
        &mut self,
        worker: &str,
        running: &[String],
        now_us: i64,
        commands: &mut Vec<Command>,
    ) {
        let concerned = self
            .adoptions()
            .filter(|(_, adoption)| adoption.workers.contains_key(worker));
        let concerned: Vec<String> = concerned.map(|(name, _)| name.clone()).collect();
        for name in concerned {
            let Some(run) = self.jobs.get_mut(&name).and_then(|job| job.run.as_mut()) else {
                continue;
            };
            let (Some(adoption), Some(lease)) = (&mut run.adoption, run.lease) else {
                continue;
            };
            let mut wanted = adoption.workers.get(worker).into_iter().flatten();
            if !wanted.all(|attempt| running.contains(attempt)) {
                let reason = format!("worker {worker} attached without its tasks");
                self.abandon(&name, reason, now_us, commands);
                continue;
            }
            adoption.missing.remove(worker);
            if !adoption.missing.is_empty() {
                self.explain_adoption(&name);
                continue;
            }
            let previous_reason = adoption.previous_reason.clone();
            run.adoption = None;
            let (job, run, asked) = (name.clone(), run.id, run.stop_requested);
            self.settle(&name, true, commands);
            commands.push(Command::Adopt { job, run, lease });
            self.set_reason(&name, previous_reason);
            if asked == crate::job::StopRequest::None {
                let reason = "its tasks continued under a new coordinator";
                self.enter(&name, Status::Running, reason, now_us, commands);
            }
        }
    }

    /// Handles the loss of a worker that had attached while others are missing.
    pub(super) fn worker_lost_again(&mut self, worker: &str) {
        for job in self.jobs.values_mut() {
            if let Some(adoption) = job.run.as_mut().and_then(|run| run.adoption.as_mut())
                && adoption.workers.contains_key(worker)
            {
                adoption.missing.insert(worker.to_string());
            }
        }
    }

    /// Abandons attempts whose workers did not attach in time.
    pub(super) fn abandon_overdue_adoptions(&mut self, now_us: i64, commands: &mut Vec<Command>) {
        let late = self.adoptions().filter(|(_, adoption)| adoption.until_us <= now_us);
        let late: Vec<(String, String)> = late
            .map(|(name, adoption)| {
                let reason = format!(
                    "{} did not attach to the new coordinator within {} s (ADOPTION_GRACE_US)",
                    adoption.describe_missing(),
                    ADOPTION_GRACE_US / 1_000_000
                );
                (name.clone(), reason)
            })
            .collect();
        for (name, reason) in late {
            self.abandon(&name, reason, now_us, commands);
        }
    }

    fn abandon(&mut self, name: &str, reason: String, now_us: i64, commands: &mut Vec<Command>) {
        let Some(run) = self.jobs.get_mut(name).and_then(|job| job.run.as_mut()) else {
            return;
        };
        let Some(adoption) = run.adoption.take() else { return };
        let (run, lease) = (run.id, run.lease.take());
        self.settle(name, false, commands);
        let attempts: BTreeSet<String> = adoption.workers.into_values().flatten().collect();
        commands.push(Command::Abandon {
            job: name.to_string(),
            run,
            attempts: attempts.into_iter().collect(),
            reason,
        });
        self.set_reason(name, adoption.previous_reason);
        if let Some(lease) = lease {
            self.release_lease(lease, now_us, commands);
        }
    }

    fn explain_adoption(&mut self, name: &str) {
        let found = self.adoptions().find(|(waiting, _)| *waiting == name);
        if let Some((_, adoption)) = found {
            let reason = format!(
                "its tasks are running; the new coordinator waits for {}",
                adoption.describe_missing()
            );
            self.set_reason(name, reason);
        }
    }
}

impl Adoption {
    fn describe_missing(&self) -> String {
        let names: Vec<&str> = self.missing.iter().map(String::as_str).collect();
        match names.as_slice() {
            [one] => format!("worker {one}"),
            several => format!("workers {}", several.join(", ")),
        }
    }
}
