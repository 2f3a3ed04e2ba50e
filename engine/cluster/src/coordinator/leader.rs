//! The leading coordinator: executes the commands of the [state machine](State) and feeds it events.
//!
//! Requests are processed one at a time: checked, journalled, applied. Nothing acts on a request before it is in the
//! journal. State and runs are behind one lock that is never held across an await, so that jobs can be listed and
//! keep running however slow the storage is. Transitions are journalled after the fact, several at a time.

mod journal;
mod ownership;
mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millstream_state::log::Writer;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::api::{self, Code};
use crate::clock;
use crate::coordinator::active_run::{ActiveRun, Grant, RunHandles};
use crate::coordinator::executors::TaskExecutors;
use crate::coordinator::gauges::Gauges;
use crate::coordinator::leader::pending::PendingChanges;
use crate::coordinator::ledger::{Change, DesiredState, Ledger, Record};
use crate::coordinator::logs::Log;
use crate::coordinator::slots::LeaseId;
use crate::coordinator::state::{Command, Event, Limits, RunId, State};
use crate::coordinator::{now_us, totals};
use crate::history::History;
use crate::progress::{Note, Phase, Progress, ProgressEvent};

pub(super) use self::ownership::NameReservation;

/// Interval at which rates are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the progress of runs is journalled, if it has changed.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// Starts a run of a job for a leader; the handle aborts it.
pub(super) type StartRun = fn(Arc<Leader>, RunId, Box<Record>, RunHandles) -> AbortHandle;

/// A coordinator that holds the journal.
pub struct Leader {
    inner: Mutex<Inner>,
    journal: tokio::sync::Mutex<Writer<Ledger>>,
    executors: Arc<dyn TaskExecutors>,
    start_run: StartRun,
    /// Version of the latest change of any job.
    version: watch::Sender<u64>,
    flush: Notify,
    /// The reason why this coordinator leads no longer, once it does not.
    end_reason: watch::Sender<Option<String>>,
    /// It ended because the process stalled. No other coordinator need have taken over, so it may lead again.
    has_stalled: AtomicBool,
    /// Id of the cluster.
    pub cluster: String,
    /// Errors of the last read and of the last write of the journal.
    journal_problem: Mutex<[Option<String>; 2]>,
    /// Epoch of the journal that it has claimed.
    pub epoch: u64,
    /// Time at which it began to lead.
    pub since_us: i64,
    /// URL or path of the folder for checkpoints of jobs that configure no other.
    pub checkpoints: String,
}

/// State behind the leader's lock.
pub(super) struct Inner {
    pub state: State,
    /// Runs under way, by job.
    pub runs: HashMap<String, ActiveRun>,
    gauges: Gauges,
    /// Claims on the checkpoints of jobs, each made at its first use.
    histories: HashMap<String, Arc<OnceCell<History>>>,
    /// Logs, by job.
    pub logs: HashMap<String, Log>,
    /// Changes that nothing waits for, until the journal has them.
    unwritten: PendingChanges,
    /// Jobs whose deletion is being retried.
    deletions: BTreeSet<String>,
    /// Names of jobs that are being submitted or deleted.
    reserved: BTreeSet<String>,
    clock_steps: clock::StepDetector,
}

impl Inner {
    /// Returns the wall clock's time. If the clock was set, the deadlines of the state machine are moved with it.
    fn now_us(&mut self) -> i64 {
        let now_us = now_us();
        let step_us = self.clock_steps.take(Instant::now(), now_us);
        if step_us != 0 {
            tracing::warn!("the clock of this machine was set by {} s", step_us / 1_000_000);
            self.state.on_clock_step(step_us);
        }
        now_us
    }

    fn report_adoption(&mut self, job: &str, run: RunId, verdict: Result<LeaseId, String>) {
        if let Some(running) = self.runs.get(job).filter(|running| running.run == run) {
            running.adoption.send_replace(Some(verdict));
        }
    }
}

impl Leader {
    /// Starts leading with the state of the journal: running tasks are adopted, and other jobs that have not ended
    /// run again once there are slots.
    pub fn start(
        cluster: &str,
        journal: Writer<Ledger>,
        executors: Arc<dyn TaskExecutors>,
        events: mpsc::Receiver<Event>,
        limits: Limits,
        checkpoints: String,
        start_run: StartRun,
    ) -> Arc<Self> {
        let now_us = now_us();
        let epoch = journal.epoch();
        let ledger = journal.state().clone();
        for damage in &ledger.damaged {
            tracing::error!("a record of the cluster's journal is lost: {damage}");
        }
        let (state, commands) = State::restore(ledger, limits, epoch, now_us);
        let leader = Arc::new(Self {
            version: watch::Sender::new(state.version()),
            inner: Mutex::new(Inner {
                state,
                runs: HashMap::new(),
                gauges: Gauges::default(),
                histories: HashMap::new(),
                logs: HashMap::new(),
                unwritten: PendingChanges::default(),
                deletions: BTreeSet::new(),
                reserved: BTreeSet::new(),
                clock_steps: clock::StepDetector::new(Instant::now(), now_us),
            }),
            journal: tokio::sync::Mutex::new(journal),
            executors,
            start_run,
            flush: Notify::new(),
            end_reason: watch::Sender::new(None),
            has_stalled: AtomicBool::new(false),
            cluster: cluster.to_string(),
            journal_problem: Mutex::default(),
            epoch,
            since_us: now_us,
            checkpoints,
        });
        leader.execute(&mut leader.inner.lock(), commands);
        tokio::spawn(leader.clone().run_loop(events));
        tokio::spawn(leader.clone().journal_loop());
        leader
    }

    /// Passes an event to the state machine and executes its commands.
    pub fn event(self: &Arc<Self>, event: Event) {
        if let Event::Stalled { reason } = &event {
            self.has_stalled.store(true, Ordering::Relaxed);
            return self.end(reason);
        }
        let mut inner = self.inner.lock();
        if let Event::Ended { job, run, .. } = &event
            && inner.runs.get(job).is_some_and(|running| running.run == *run)
        {
            inner.runs.remove(job);
        }
        if let Event::Logged { worker, lines } = &event {
            for line in lines {
                if inner.state.jobs().contains_key(&line.job) {
                    let log = inner.logs.entry(line.job.clone()).or_default();
                    log.write(line.at_us, &line.level, worker, &line.message);
                }
            }
        }
        let now_us = inner.now_us();
        let commands = inner.state.on_event(event, now_us);
        self.execute(&mut inner, commands);
    }

    /// Executes commands in the order in which they were decided, since the lock is held. Must not wait or call back.
    fn execute(self: &Arc<Self>, inner: &mut Inner, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::StartRun { run, record } => self.run(inner, run, record),
                Command::RequestStop { job, run, request } => {
                    if let Some(running) = inner.runs.get(&job).filter(|running| running.run == run) {
                        running.stop.send_replace(request);
                    }
                }
                Command::GrantSlots { job, run, lease, slots } => {
                    let running = inner.runs.get_mut(&job).filter(|running| running.run == run);
                    let granted = running.and_then(|running| running.granted.take());
                    // A run that no longer waits is ending and returns its slots.
                    if granted.is_none_or(|granted| granted.send(Grant { lease, slots }).is_err()) {
                        tracing::debug!(job, "slots were granted after the run had stopped waiting");
                    }
                }
                Command::Adopt { job, run, lease } => inner.report_adoption(&job, run, Ok(lease)),
                Command::RefuseSlots { job, run } => {
                    let running = inner.runs.get_mut(&job).filter(|running| running.run == run);
                    drop(running.and_then(|running| running.granted.take()));
                }
                Command::Abandon {
                    job,
                    run,
                    attempts,
                    reason,
                } => {
                    attempts.iter().for_each(|attempt| self.executors.abandon(attempt));
                    inner.report_adoption(&job, run, Err(reason));
                }
                Command::Journal(change) => {
                    if let Change::Transition { job, transition } = &change {
                        let separator = if transition.reason.is_empty() { "" } else { ": " };
                        let text = format!("{}{separator}{}", transition.status.as_str(), transition.reason);
                        tracing::info!(job, "{text}");
                        let log = inner.logs.entry(job.clone()).or_default();
                        log.write(transition.at_us, "info", "coordinator", &text);
                    }
                    inner.unwritten.push(change);
                    self.flush.notify_one();
                }
                Command::ReleaseWorker { worker } => self.executors.release(&worker),
            }
        }
        let version = inner.state.version();
        self.version
            .send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    fn run(self: &Arc<Self>, inner: &mut Inner, run: RunId, record: Box<Record>) {
        let name = record.name.clone();
        let checkpointed = watch::Sender::new(0);
        let progress = Progress::with_observer(self.observer(run, name.clone(), checkpointed.clone()));
        let mut active = ActiveRun::new(run, progress, checkpointed);
        active.task = Some((self.start_run)(self.clone(), run, record, active.handles()));
        inner.runs.insert(name, active);
    }

    /// Returns the function that is called with the progress of a run.
    fn observer(
        self: &Arc<Self>,
        run: RunId,
        job: String,
        checkpointed: watch::Sender<u64>,
    ) -> impl Fn(ProgressEvent) + Send + Sync + 'static {
        let leader = Arc::downgrade(self);
        move |event| {
            let Some(leader) = leader.upgrade() else { return };
            match event {
                ProgressEvent::Phase(Phase::Running, _) => leader.event(Event::Running { job: job.clone(), run }),
                ProgressEvent::Phase(Phase::Restarting, reason) => leader.event(Event::Restarting {
                    job: job.clone(),
                    run,
                    reason,
                }),
                ProgressEvent::Phase(..) => {}
                ProgressEvent::Note(Note::Info(text)) => leader.log_line(&job, "info", &text),
                ProgressEvent::Note(Note::Warning(text)) => leader.log_line(&job, "warn", &text),
                ProgressEvent::Checkpoint(checkpoint) => {
                    checkpointed.send_replace(checkpoint);
                    leader.changed(&job, run);
                }
                ProgressEvent::Outages => leader.changed(&job, run),
            }
        }
    }

    fn check_not_ended(&self) -> Result<(), api::Error> {
        match &*self.end_reason.borrow() {
            None => Ok(()),
            Some(reason) => Err(api::Error::new(Code::NotLeader, reason.clone())),
        }
    }

    /// Returns true if no other coordinator is known to have claimed the journal.
    pub async fn still_leads(&self) -> bool {
        self.check_leadership().await;
        self.end_reason.borrow().is_none()
    }

    /// Calls `look` with the state and the runs.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.lock())
    }

    /// Returns the desired state of a job.
    pub fn wanted(&self, job: &str) -> Option<DesiredState> {
        let inner = self.inner.lock();
        Some(inner.state.jobs().get(job)?.record.wanted.clone())
    }

    /// Returns the workers.
    pub fn executors(&self) -> Arc<dyn TaskExecutors> {
        self.executors.clone()
    }

    /// Requests slots for a run's next attempt.
    pub fn request_slots(self: &Arc<Self>, job: &str, run: RunId) -> oneshot::Receiver<Grant> {
        let job = job.to_string();
        self.request_grant(Event::SlotsWanted { job: job.clone(), run }, &job, run)
    }

    /// Requests slots for a region of a run's attempt, in place of those on lost workers.
    pub fn request_relocation(self: &Arc<Self>, job: &str, run: RunId, region: &[usize]) -> oneshot::Receiver<Grant> {
        let wanted = Event::RelocationWanted {
            job: job.to_string(),
            run,
            region: region.to_vec(),
        };
        self.request_grant(wanted, job, run)
    }

    fn request_grant(self: &Arc<Self>, wanted: Event, job: &str, run: RunId) -> oneshot::Receiver<Grant> {
        let (granted, receiver) = oneshot::channel();
        {
            let mut inner = self.inner.lock();
            if let Some(running) = inner.runs.get_mut(job).filter(|running| running.run == run) {
                running.granted = Some(granted);
            }
        }
        self.event(wanted);
        receiver
    }

    /// Logs a line about a job.
    pub fn log_line(&self, job: &str, level: &str, text: &str) {
        match level {
            "warn" => tracing::warn!(job, "{text}"),
            _ => tracing::info!(job, "{text}"),
        }
        let log = self.inner.lock().logs.entry(job.to_string()).or_default().clone();
        log.write(now_us(), level, "coordinator", text);
    }

    /// Notifies watchers that the progress of a run has changed.
    pub fn changed(&self, job: &str, run: RunId) {
        let version = {
            let mut inner = self.inner.lock();
            inner.state.changed(job, run);
            inner.state.version()
        };
        self.version
            .send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    /// Returns a receiver of the version, which grows with every change of any job.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Stops all runs with a last checkpoint, for the next leader to resume. Returns when all have stopped, or after
    /// `deadline`.
    pub async fn suspend(self: &Arc<Self>, deadline: Duration) {
        let mut versions = self.version.subscribe();
        self.event(Event::ShutDown);
        let ended = async {
            loop {
                versions.borrow_and_update();
                if self.inner.lock().runs.is_empty() {
                    return;
                }
                // The version does not change when a run ends, so the runs are polled as well.
                tokio::select! {
                    changed = versions.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            tracing::warn!("some jobs did not take a last checkpoint in time");
        }
    }

    /// Ends the leadership at once. Nothing is changed from then on.
    pub fn end(&self, reason: &str) {
        let first = self.end_reason.send_if_modified(|end_reason| {
            let first = end_reason.is_none();
            end_reason.get_or_insert_with(|| reason.to_string());
            first
        });
        if !first {
            return;
        }
        tracing::warn!("{reason}");
        // First of all the workers are disconnected: only the drivers of jobs end here, not their tasks.
        self.executors.shut_down(reason);
        let runs = {
            let mut inner = self.inner.lock();
            inner.gauges.withdraw();
            std::mem::take(&mut inner.runs)
        };
        for running in runs.values() {
            if let Some(task) = &running.task {
                task.abort();
            }
        }
    }

    /// Returns true if it ended because the process stalled.
    pub fn has_stalled(&self) -> bool {
        self.has_stalled.load(Ordering::Relaxed)
    }

    /// Returns true if it leads no longer.
    pub fn has_ended(&self) -> bool {
        self.end_reason.borrow().is_some()
    }

    /// Waits until it leads no longer, and returns the reason.
    pub async fn ended(&self) -> String {
        let mut end_reason = self.end_reason.subscribe();
        match end_reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Processes events of the workers, deadlines, and samples until it leads no longer.
    async fn run_loop(self: Arc<Self>, mut events: mpsc::Receiver<Event>) {
        let mut sample = tokio::time::interval(SAMPLE_INTERVAL);
        sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut count = tokio::time::interval(COUNT_INTERVAL);
        count.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Computed at least once per sample, so that a change of the clock is noticed soon.
            let tick_in_us = {
                let mut inner = self.inner.lock();
                let now_us = inner.now_us();
                inner.state.next_tick_us().map(|at_us| at_us.saturating_sub(now_us))
            };
            let tick = async {
                match tick_in_us {
                    Some(wait_us) => tokio::time::sleep(Duration::from_micros(wait_us.max(0) as u64)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return self.end("messages of the workers no longer arrive"),
                },
                () = tick => self.event(Event::Tick),
                _ = sample.tick() => self.sample_rates(),
                _ = count.tick() => self.record_progress(),
                _ = self.ended() => return,
            }
        }
    }

    fn sample_rates(&self) {
        let mut inner = self.inner.lock();
        for running in inner.runs.values_mut() {
            let counters = running.progress.with(|report| report.counters.last().cloned());
            if let Some(counters) = counters {
                running.rates.sample(&counters);
            }
        }
        let Inner {
            state, runs, gauges, ..
        } = &mut *inner;
        gauges.publish(state, runs.iter());
    }

    /// Journals the progress of all runs, from which the next leader continues.
    fn record_progress(self: &Arc<Self>) {
        let counted: Vec<Event> = {
            let inner = self.inner.lock();
            let runs = inner.runs.iter().filter_map(|(job, running)| {
                let run_progress = Box::new(running.progress.with(totals::run_progress)?);
                let (job, run) = (job.clone(), running.run);
                Some(Event::RunProgress { job, run, run_progress })
            });
            runs.collect()
        };
        counted.into_iter().for_each(|event| self.event(event));
    }

    /// Calls `ask` with a job's run, for requests that need no journal. Returns false if there is no run.
    pub fn with_run(&self, job: &str, ask: impl FnOnce(&ActiveRun)) -> bool {
        let inner = self.inner.lock();
        inner.runs.get(job).map(ask).is_some()
    }

    /// Returns the log of a job.
    pub fn log(&self, job: &str) -> Log {
        self.inner.lock().logs.entry(job.to_string()).or_default().clone()
    }
}
