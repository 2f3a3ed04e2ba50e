//! Decisions of the leading coordinator: a state machine without I/O, threads or a clock.
//!
//! Requests are checked here first ([`State::request`]). The change that they make is journalled and then returns as
//! [`Event::Applied`]. Everything else is an event, too: reports of runs, changes of workers, the passage of time.
//! The results are commands, which the shell executes. A *run* is one call of [`crate::run`]. It goes through any
//! number of attempts, each on slots of its own. It ends when the job ends, is stopped, or is to continue in another
//! way (rescaled, restarted, moved); another run then follows from the last checkpoint.
//!
//! Attempts outlive their coordinator. Where the journal has a running attempt, the next coordinator's run waits for
//! its workers to attach with their tasks and adopts them ([`adoption`]). Otherwise the job restarts from its last
//! checkpoint.
//!
//! A job of fixed parallelism waits until there are enough free slots. Jobs of parallelism `auto` share the remaining
//! slots evenly. They are moved when their share changes, some time after the last change, so that several workers
//! which attach one after the other cause a single move.

mod adoption;
mod apply;
mod messages;
mod requests;
mod run_end;
mod scheduling;

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::ledger::{Change, DesiredState, Ledger, Placement, Record, RunProgress, Status, Transition};
use crate::coordinator::slots::{LeaseId, Slots, WorkerState};
use crate::job::StopRequest;

use adoption::Adoption;
pub use messages::{Command, End, Event};
pub use requests::Request;

/// Limits of a cluster.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most jobs, ended ones included.
    pub jobs_max: usize,
    /// Most slots of a job of parallelism `auto`.
    pub auto_parallelism_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs_max: 10_000,
            auto_parallelism_max: usize::MAX,
        }
    }
}

/// The state machine.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    jobs: BTreeMap<String, Job>,
    slots: Slots,
    /// Workers that a person has drained, attached or not.
    drained: BTreeSet<String>,
    /// Runs that wait for slots, oldest first.
    waiting: Vec<(String, RunId)>,
    next_run: RunId,
    /// Version of the latest change of any job.
    version: u64,
    rebalance_at_us: Option<i64>,
    shutting_down: bool,
}

/// Number of a run; unique under one leader.
pub type RunId = u64;

/// A job and its run.
#[derive(Debug)]
pub struct Job {
    pub record: Record,
    /// Version of its latest change.
    pub version: u64,
    pub run: Option<Run>,
    /// It has ended, but its end is not in the journal yet: the next leader would resume it.
    is_ending: bool,
}

impl Job {
    /// Returns the state that clients see. The end of a job is visible only once it is in the journal.
    pub fn visible_transition(&self) -> &Transition {
        let transitions = &self.record.transitions;
        let before = transitions.iter().rev().find(|before| !before.status.is_terminal());
        before.filter(|_| self.is_ending).unwrap_or(self.record.current())
    }
}

/// A run that has been started.
#[derive(Debug)]
pub struct Run {
    pub id: RunId,
    /// The strongest stop request so far.
    pub stop_requested: StopRequest,
    next_action: NextAction,
    /// Slots of its present attempt.
    pub lease: Option<LeaseId>,
    /// Set while it waits for tasks of an earlier coordinator.
    adoption: Option<Adoption>,
    /// Slots whose tasks wait for other slots.
    displaced: Vec<usize>,
}

/// Next step after the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NextAction {
    End,
    /// Another run, for this reason.
    Rerun(String),
    /// None: the next leader resumes the job.
    Suspend,
}

impl State {
    /// Returns the state after the journal was read, and the commands that resume jobs.
    pub fn restore(ledger: Ledger, limits: Limits, epoch: u64, now_us: i64) -> (Self, Vec<Command>) {
        let mut state = Self {
            limits,
            jobs: BTreeMap::new(),
            slots: Slots::default(),
            drained: ledger.drained,
            waiting: Vec::new(),
            next_run: 1,
            // Versions grow from one coordinator to the next.
            version: epoch << 32,
            rebalance_at_us: None,
            shutting_down: false,
        };
        let mut commands = Vec::new();
        for (name, record) in ledger.jobs {
            let resumes = !record.current().status.is_terminal() && !record.deleting;
            let fresh = record.current().status == Status::Submitted;
            let wanted = record.wanted.clone();
            state.insert(record);
            if !resumes {
                continue;
            }
            match wanted {
                // The run claims the job's checkpoints, so an earlier coordinator that still runs cannot complete
                // another one.
                DesiredState::Cancelled => {
                    state.settle(&name, false, &mut commands);
                    state.run(&name, None, None, &mut commands);
                    state.request_stop(&name, StopRequest::Abort, NextAction::End, &mut commands);
                }
                DesiredState::Stopped { .. } => {
                    if !state.adopt(&name, now_us, &mut commands) {
                        state.settle(&name, false, &mut commands);
                        state.run(&name, None, None, &mut commands);
                    }
                    state.request_stop(&name, StopRequest::Stop, NextAction::End, &mut commands);
                }
                DesiredState::Running => {
                    let reason = match fresh {
                        true => "submitted",
                        false => "resumed by a new coordinator",
                    };
                    state.resume(&name, reason, now_us, &mut commands);
                }
            }
        }
        (state, commands)
    }

    /// Resumes a job of an earlier coordinator.
    fn resume(&mut self, name: &str, reason: &str, now_us: i64, commands: &mut Vec<Command>) {
        let record = self.jobs.get(name).map(|job| &job.record);
        let follows = record.is_some_and(|record| record.placement.as_ref().is_some_and(|placed| placed.is_ending));
        if follows {
            let moved = "a restart was under way when the coordinator changed";
            let now = record
                .map(Record::current)
                .filter(|now| now.status == Status::Restarting);
            let why = now.map_or(moved.to_string(), |now| now.reason.clone());
            self.enter(name, Status::Restarting, &why, now_us, commands);
            if self.adopt(name, now_us, commands) {
                return self.request_stop(name, StopRequest::Stop, NextAction::Rerun(why), commands);
            }
        } else if self.adopt(name, now_us, commands) {
            return;
        }
        self.settle(name, false, commands);
        self.start(name, reason, now_us, commands);
    }

    /// Returns all jobs by name.
    pub fn jobs(&self) -> &BTreeMap<String, Job> {
        &self.jobs
    }

    /// Returns workers and leases.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Returns the version, which grows with every change of any job.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the progress of a job under an earlier coordinator, until its tasks have been adopted.
    pub fn inherited_progress(job: &Job) -> Option<&RunProgress> {
        let waits = job.run.as_ref().is_some_and(|run| run.adoption.is_some());
        job.record.run_progress.as_deref().filter(|_| waits)
    }

    /// Returns the number of runs.
    pub fn runs(&self) -> usize {
        self.jobs.values().filter(|job| job.run.is_some()).count()
    }

    /// Returns the next time at which [`Event::Tick`] has an effect.
    pub fn next_tick_us(&self) -> Option<i64> {
        let adoption = self.adoptions().map(|(_, adoption)| adoption.until_us).min();
        let forget = self.slots.next_forget_us();
        self.rebalance_at_us.into_iter().chain(adoption).chain(forget).min()
    }

    /// Handles a change of the wall clock by moving all deadlines with it.
    pub fn on_clock_step(&mut self, step_us: i64) {
        let adoptions = self
            .jobs
            .values_mut()
            .filter_map(|job| job.run.as_mut()?.adoption.as_mut());
        let deadlines = adoptions.map(|adoption| &mut adoption.until_us);
        for at_us in deadlines.chain(&mut self.rebalance_at_us) {
            *at_us = at_us.saturating_add(step_us);
        }
    }

    /// Handles an event. Returns the commands to execute.
    pub fn on_event(&mut self, event: Event, now_us: i64) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Applied(change) => self.applied(change, now_us, &mut commands),
            Event::Placed { job, run, attempts } => {
                if let Some(lease) = self.current_run(&job, run).and_then(|current| current.lease) {
                    self.placed(&job, lease, attempts, &mut commands);
                }
            }
            Event::RelocationWanted { job, run, region } => {
                if let Some(current) = self.current_run(&job, run) {
                    current.displaced = region;
                    self.wait_for_grant(job, run, now_us, &mut commands);
                }
            }
            Event::Relocated {
                job,
                run,
                region,
                attempt,
            } => {
                let lease = self.current_run(&job, run).and_then(|current| current.lease);
                let placement = self.jobs.get(&job).and_then(|job| job.record.placement.as_ref());
                if let (Some(lease), Some(placement)) = (lease, placement) {
                    let mut attempts = placement.attempts.clone();
                    for slot in region {
                        attempts[slot].clone_from(&attempt);
                    }
                    self.placed(&job, lease, attempts, &mut commands);
                }
            }
            Event::Running { job, run } => {
                if let Some(current) = self.current_run(&job, run)
                    && current.stop_requested == StopRequest::None
                    // A job that was adopted has not changed its state.
                    && self.jobs[&job].record.current().status != Status::Running
                {
                    self.enter(&job, Status::Running, "", now_us, &mut commands);
                }
            }
            Event::Restarting { job, run, reason } => {
                if let Some(current) = self.current_run(&job, run)
                    && current.stop_requested == StopRequest::None
                {
                    self.enter(&job, Status::Restarting, &reason, now_us, &mut commands);
                }
            }
            Event::UpdateConfirmed { job, run } => {
                if self.current_run(&job, run).is_some()
                    && let Some(found) = self.jobs.get_mut(&job)
                    && found.record.tried_update().is_some()
                {
                    found.record.confirm_update();
                    commands.push(Command::Journal(found.record.pipeline_change()));
                    self.touch(&job);
                }
            }
            Event::Ended {
                job,
                run,
                end,
                run_totals,
            } => {
                if self.current_run(&job, run).is_some() {
                    self.run_totals(&job, run_totals, &mut commands);
                    self.ended(&job, end, now_us, &mut commands);
                }
            }
            Event::RunProgress { job, run, run_progress } => {
                let counts = self.current_run(&job, run).is_some_and(|run| run.adoption.is_none());
                if let Some(job) = self.jobs.get_mut(&job).filter(|_| counts)
                    && job.record.run_progress.as_ref() != Some(&run_progress)
                {
                    job.record.run_progress = Some(run_progress.clone());
                    let job = job.record.name.clone();
                    commands.push(Command::Journal(Change::RunProgress { job, run_progress }));
                }
            }
            Event::SlotsWanted { job, run } => {
                if self.current_run(&job, run).is_some() {
                    self.wait_for_grant(job, run, now_us, &mut commands);
                }
            }
            Event::SlotsReturned { job, run, lease } => {
                if let Some(current) = self.current_run(&job, run)
                    && current.lease == Some(lease)
                {
                    current.lease = None;
                    current.displaced.clear();
                    self.waiting.retain(|(waiting, _)| *waiting != job);
                }
                self.release_lease(lease, now_us, &mut commands);
            }
            Event::Attached {
                worker,
                incarnation,
                slots,
                running,
            } => {
                self.slots.attach(&worker, &incarnation, slots, now_us);
                self.worker_returned(&worker, &running, now_us, &mut commands);
                match self.drained.contains(&worker) {
                    true => self.drain(&worker, WorkerState::Draining, now_us, &mut commands),
                    false => self.slots_changed(now_us, &mut commands),
                }
            }
            Event::Reached {
                worker,
                incarnation,
                found,
            } => {
                if self.slots.reached(&worker, &incarnation, found, now_us) {
                    self.slots_changed(now_us, &mut commands);
                }
            }
            Event::Lost {
                worker, incarnation, ..
            } => {
                if self.slots.lose(&worker, &incarnation, now_us) {
                    self.worker_lost_again(&worker);
                    self.slots_changed(now_us, &mut commands);
                }
            }
            Event::Logged { .. } | Event::Stalled { .. } => {}
            Event::Leaving { worker } => self.drain(&worker, WorkerState::Leaving, now_us, &mut commands),
            Event::Tick => {
                if self.rebalance_at_us.is_some_and(|at_us| now_us >= at_us) {
                    self.rebalance_at_us = None;
                    self.rebalance(now_us, &mut commands);
                }
                self.abandon_overdue_adoptions(now_us, &mut commands);
                self.slots.forget_gone(now_us);
            }
            Event::ShutDown => {
                self.shutting_down = true;
                let names: Vec<String> = self.jobs.keys().cloned().collect();
                for name in names {
                    self.request_stop(&name, StopRequest::Stop, NextAction::Suspend, &mut commands);
                }
            }
        }
        commands
    }

    /// Starts a run from the last checkpoint.
    fn start(&mut self, name: &str, reason: &str, now_us: i64, commands: &mut Vec<Command>) {
        self.enter(name, Status::Deploying, reason, now_us, commands);
        self.run(name, None, None, commands);
    }

    fn run(
        &mut self,
        name: &str,
        lease: Option<LeaseId>,
        adoption: Option<Adoption>,
        commands: &mut Vec<Command>,
    ) -> Option<RunId> {
        let job = self.jobs.get_mut(name)?;
        let run = self.next_run;
        self.next_run += 1;
        // Only a run that adopts an attempt may see a placement; any other would wait for an adoption that never
        // comes.
        if adoption.is_none() && job.record.placement.take().is_some() {
            commands.push(Command::Journal(job.record.placement_change()));
        }
        // Adopted tasks are those of the old pipeline.
        if adoption.is_none() && job.record.wanted == DesiredState::Running && job.record.try_update() {
            commands.push(Command::Journal(job.record.pipeline_change()));
        }
        job.run = Some(Run {
            id: run,
            stop_requested: StopRequest::None,
            next_action: NextAction::End,
            lease,
            adoption,
            displaced: Vec::new(),
        });
        let record = Box::new(job.record.clone());
        commands.push(Command::StartRun { run, record });
        Some(run)
    }

    /// Journals the placement of the attempt.
    fn placed(&mut self, name: &str, lease: LeaseId, attempts: Vec<String>, commands: &mut Vec<Command>) {
        let (Some(job), Some(lease)) = (self.jobs.get_mut(name), self.slots.lease(lease)) else {
            return;
        };
        let slots = lease.slots.clone();
        let is_ending = job
            .run
            .as_ref()
            .is_some_and(|run| matches!(run.next_action, NextAction::Rerun(_)));
        job.record.placement = Some(Placement {
            slots,
            attempts,
            is_ending,
        });
        commands.push(Command::Journal(job.record.placement_change()));
    }

    /// Stops the present run with a last checkpoint and starts another.
    fn rerun(&mut self, name: &str, reason: &str, now_us: i64, commands: &mut Vec<Command>) {
        let Some(job) = self.jobs.get(name) else { return };
        let wanted = job.record.wanted == DesiredState::Running;
        let Some(run) = &job.run else { return };
        if !wanted || run.next_action == NextAction::Suspend {
            return;
        }
        self.enter(name, Status::Restarting, reason, now_us, commands);
        self.request_stop(name, StopRequest::Stop, NextAction::Rerun(reason.to_string()), commands);
        if let Some(job) = self.jobs.get_mut(name)
            && let Some(placement) = &mut job.record.placement
            && !placement.is_ending
        {
            placement.is_ending = true;
            commands.push(Command::Journal(job.record.placement_change()));
        }
    }

    fn request_stop(&mut self, name: &str, request: StopRequest, next_action: NextAction, commands: &mut Vec<Command>) {
        let Some(run) = self.jobs.get_mut(name).and_then(|job| job.run.as_mut()) else {
            return;
        };
        run.next_action = next_action;
        if request > run.stop_requested {
            run.stop_requested = request;
            let (job, run) = (name.to_string(), run.id);
            commands.push(Command::RequestStop { job, run, request });
        }
    }

    /// Replaces the reason of the present state without a transition.
    fn set_reason(&mut self, name: &str, reason: String) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        if let Some(now) = job.record.transitions.back_mut()
            && now.reason != reason
        {
            now.reason = reason;
            self.touch(name);
        }
    }

    fn current_run(&mut self, name: &str, run: RunId) -> Option<&mut Run> {
        let current = self.jobs.get_mut(name)?.run.as_mut()?;
        (current.id == run).then_some(current)
    }

    fn insert(&mut self, record: Record) {
        let job = Job {
            version: self.version,
            run: None,
            is_ending: false,
            record,
        };
        let name = job.record.name.clone();
        self.jobs.insert(name.clone(), job);
        self.touch(&name);
    }

    fn enter(&mut self, name: &str, status: Status, reason: &str, now_us: i64, commands: &mut Vec<Command>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let now = job.record.current();
        if now.status == status && now.reason == reason {
            return;
        }
        let transition = Transition::new(status, now_us, reason);
        job.record.enter(transition.clone());
        job.is_ending = status.is_terminal();
        let job = name.to_string();
        commands.push(Command::Journal(Change::Transition { job, transition }));
        self.touch(name);
    }

    fn touch(&mut self, name: &str) {
        self.version += 1;
        if let Some(job) = self.jobs.get_mut(name) {
            job.version = self.version;
        }
    }

    /// Handles a change of a run's progress, which this state machine does not store.
    pub fn changed(&mut self, name: &str, run: RunId) {
        if self.current_run(name, run).is_some() {
            self.touch(name);
        }
    }
}

#[cfg(test)]
mod tests;
