//! Scheduling of slots: grants them to waiting runs, takes them back, and moves jobs as workers come and go.

use super::{Command, Job, Run, RunId, State};
use crate::coordinator::ledger::{Record, Status};
use crate::coordinator::slots::{LeaseId, WorkerState};
use crate::job::StopRequest;

/// Delay after the last change of slots before jobs of parallelism `auto` are moved.
const REBALANCE_DELAY_US: i64 = 2_000_000;

/// Start of the part of a reason that is replaced as soon as there are slots. The cause of a restart may precede it.
const WAITING_PREFIX: &str = "waiting for ";

/// Returns the part of a reason that is not about waiting for slots.
fn cause(reason: &str) -> &str {
    if reason.starts_with(WAITING_PREFIX) {
        return "";
    }
    let waits = reason.rmatch_indices(WAITING_PREFIX).map(|(at, _)| &reason[..at]);
    waits
        .filter_map(|before| before.strip_suffix("; "))
        .next()
        .unwrap_or(reason)
}

impl State {
    /// Marks a worker as draining or leaving, and moves its jobs.
    pub(super) fn drain(&mut self, worker: &str, state: WorkerState, now_us: i64, commands: &mut Vec<Command>) {
        if !self.slots.drain(worker, state, now_us) {
            return;
        }
        for job in self.slots.jobs_on(worker) {
            self.rerun(&job, &format!("moving away from worker {worker}"), now_us, commands);
        }
        self.release_drained_workers(commands);
        self.slots_changed(now_us, commands);
    }

    /// Releases leaving workers that have no tasks any more.
    fn release_drained_workers(&self, commands: &mut Vec<Command>) {
        for (name, worker) in self.slots.workers() {
            if worker.state == WorkerState::Leaving && self.slots.used(name) == 0 {
                commands.push(Command::ReleaseWorker { worker: name.clone() });
            }
        }
    }

    /// Ends a lease and the placement of its job.
    pub(super) fn release_lease(&mut self, lease: LeaseId, now_us: i64, commands: &mut Vec<Command>) {
        if let Some(returned) = self.slots.release(lease) {
            if let Some(job) = self.jobs.get_mut(&returned.job)
                && job.record.placement.take().is_some()
            {
                commands.push(Command::Journal(job.record.placement_change()));
            }
            self.release_drained_workers(commands);
            self.slots_changed(now_us, commands);
        }
    }

    /// Grants slots after a change, and schedules a rebalance.
    pub(super) fn slots_changed(&mut self, now_us: i64, commands: &mut Vec<Command>) {
        self.rebalance_at_us = Some(now_us + REBALANCE_DELAY_US);
        self.grant(commands);
    }

    /// Queues a run for slots, and grants them if there are enough.
    pub(super) fn wait_for_grant(&mut self, job: String, run: RunId, now_us: i64, commands: &mut Vec<Command>) {
        self.waiting.push((job, run));
        self.grant(commands);
        if !self.waiting.is_empty() {
            // Jobs that have more than their share give slots up.
            self.rebalance_at_us.get_or_insert(now_us + REBALANCE_DELAY_US);
        }
    }

    /// Grants slots to waiting runs, oldest first. A run that needs more than there are does not block the others.
    fn grant(&mut self, commands: &mut Vec<Command>) {
        for (name, run) in std::mem::take(&mut self.waiting) {
            let Some(job) = self.jobs.get(&name) else { continue };
            if job.run.as_ref().is_none_or(|current| current.id != run) {
                continue;
            }
            let free = self.slots.free();
            if let Some(Run {
                lease: Some(lease),
                displaced,
                ..
            }) = &job.run
                && !displaced.is_empty()
            {
                let (lease, displaced) = (*lease, displaced.clone());
                self.relocate(name, run, lease, displaced, commands);
                continue;
            }
            let (needed, count) = match job.record.parallelism {
                Some(parallelism) => (parallelism as usize, parallelism as usize),
                None => (1, self.share(&job.record).min(free).max(1)),
            };
            let Some((lease, slots)) = self.slots.grant(&name, count) else {
                self.explain_wait(&name, needed, free);
                self.waiting.push((name, run));
                continue;
            };
            let Some(job) = self.jobs.get_mut(&name) else { continue };
            job.record.attempts += 1;
            if let Some(current) = &mut job.run {
                current.lease = Some(lease);
            }
            commands.push(self.grant_command(name, run, lease, slots));
        }
    }

    /// Returns the command that grants slots to a run.
    fn grant_command(&mut self, name: String, run: RunId, lease: LeaseId, slots: Vec<String>) -> Command {
        let reason = self.jobs.get(&name).map(|job| job.record.current().reason.as_str());
        let known = reason.map(cause);
        if known != reason {
            let now = known
                .filter(|cause| !cause.is_empty())
                .unwrap_or("starting tasks")
                .to_string();
            self.set_reason(&name, now);
        }
        self.touch(&name);
        Command::GrantSlots {
            job: name,
            run,
            lease,
            slots,
        }
    }

    /// Leases other slots for displaced tasks. A job of parallelism `auto` does not wait for them: it restarts with
    /// fewer.
    fn relocate(
        &mut self,
        name: String,
        run: RunId,
        lease: LeaseId,
        displaced: Vec<usize>,
        commands: &mut Vec<Command>,
    ) {
        let found = self.slots.relocate(lease, &displaced);
        let Some(job) = self.jobs.get_mut(&name) else { return };
        match found {
            Ok(slots) => {
                if let Some(current) = &mut job.run {
                    current.displaced.clear();
                }
                commands.push(self.grant_command(name, run, lease, slots));
            }
            Err(_) if job.record.parallelism.is_none() => commands.push(Command::RefuseSlots { job: name, run }),
            Err(missing) => {
                let free = self.slots.free();
                self.explain_wait(&name, missing, free);
                self.waiting.push((name, run));
            }
        }
    }

    fn explain_wait(&mut self, name: &str, needed: usize, free: usize) {
        let offered = self.slots.offered();
        let workers = self.slots.ready().count();
        let advice = match (self.slots.unreachable().next(), workers, needed > offered) {
            (Some(name), ..) => {
                format!("worker {name} is attached but cannot be reached, see `engine-cli doctor`")
            }
            (_, 0, _) => "no worker is attached; start one".to_string(),
            (_, _, true) => "add workers, or rescale the job".to_string(),
            (_, _, false) => "stop another job, or add workers".to_string(),
        };
        let waits =
            format!("{WAITING_PREFIX}{needed} slots: {workers} workers offer {offered}, {free} of them free; {advice}");
        let now = self.jobs.get(name).map(|job| job.record.current());
        // The cause of a restart stays visible while the job waits for slots.
        let cause = now
            .filter(|now| now.status == Status::Restarting)
            .map(|now| cause(&now.reason));
        let reason = match cause {
            None | Some("") => waits,
            Some(cause) => format!("{cause}; {waits}"),
        };
        self.set_reason(name, reason);
    }

    /// Returns the number of slots that a job of parallelism `auto` should have.
    fn share(&self, record: &Record) -> usize {
        let running = self.jobs.values().filter(|job| job.run.is_some());
        let (auto, fixed): (Vec<&Job>, Vec<&Job>) = running.partition(|job| job.record.parallelism.is_none());
        let fixed: usize = fixed
            .iter()
            .map(|job| job.record.parallelism.unwrap_or(0) as usize)
            .sum();
        let rest = self.slots.offered().saturating_sub(fixed);
        (rest / auto.len().max(1))
            .min(record.max_parallelism as usize)
            .min(self.limits.auto_parallelism_max)
            .max(1)
    }

    /// Moves jobs of parallelism `auto` to their share of slots: to fewer if other jobs wait, to more if slots are
    /// free.
    pub(super) fn rebalance(&mut self, now_us: i64, commands: &mut Vec<Command>) {
        let mut free = self.slots.free();
        let others_wait = !self.waiting.is_empty();
        let mut moves = Vec::new();
        for (name, job) in &self.jobs {
            let Some(run) = &job.run else { continue };
            let Some(lease) = run.lease.and_then(|lease| self.slots.lease(lease)) else {
                continue;
            };
            if job.record.parallelism.is_some() || run.stop_requested != StopRequest::None || run.adoption.is_some() {
                continue;
            }
            let (has, share) = (lease.slots.len(), self.share(&job.record));
            if has < share && free > 0 {
                free = free.saturating_sub(share - has);
                moves.push((
                    name.clone(),
                    format!("rescaling from {has} to more slots, which are free"),
                ));
            } else if has > share && others_wait {
                moves.push((
                    name.clone(),
                    format!("rescaling from {has} to {share} slots, as others wait"),
                ));
            }
        }
        for (name, reason) in moves {
            self.rerun(&name, &reason, now_us, commands);
        }
    }
}
