//! The leading coordinator at work: carries out what the [state machine](State) commands, and tells it what happens.
//!
//! What people change goes one after the other: checked, journalled, applied; nothing is acted upon before the journal
//! has it. State and runs are behind one lock, which is never held while waiting, so that whatever the storage does,
//! what there is can be listed, and what runs goes on. Transitions are journalled after the fact, several at a time.

mod journal;
mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use millstream_proto::v1;
use millstream_state::log::{Leadership, Writer};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::api::{self, Code};
use crate::coordinator::active_run::{ActiveRun, Grant, RunHandles};
use crate::coordinator::gauges::Gauges;
use crate::coordinator::leader::pending::PendingChanges;
use crate::coordinator::ledger::{Change, DesiredState, Ledger, Record};
use crate::coordinator::logs::Log;
use crate::coordinator::slots::LeaseId;
use crate::coordinator::state::{Command, Event, Limits, RunId, State};
use crate::coordinator::{now_us, totals};
use crate::deployer::{self, AdoptedTasks, Allocation, Tasks};
use crate::history::History;
use crate::job::Job;
use crate::progress::{Note, Phase, Progress, ProgressEvent};
use crate::{Error, clock, resolve};

/// How often rates are taken.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the journal is told what runs have come to, where that has changed.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// Where attempts run: the workers of a cluster.
#[async_trait]
pub trait TaskExecutors: Send + Sync {
    /// Starts the tasks of an attempt. When this returns they run, or none does.
    async fn deploy(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        allocation: &Allocation,
        request: deployer::DeployRequest,
    ) -> Result<Box<dyn Tasks>, Error>;

    /// Takes over the tasks of an attempt that an earlier coordinator has started: for each slot its worker, and the id
    /// under which that knows what runs there. If this fails, they are ended.
    async fn adopt(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        attempts: &[String],
        slots: &[String],
    ) -> Result<AdoptedTasks, Error>;

    /// An attempt of an earlier coordinator is not wanted any more.
    fn abandon(&self, attempt: &str);

    /// What is known of the workers: name, address, version, memory, clock. Their slots and states are the leader's.
    fn workers(&self) -> Vec<v1::Worker>;

    /// A drained worker may go.
    fn release(&self, worker: &str);

    /// This coordinator leads no longer.
    fn shut_down(&self, reason: &str);
}

/// Starts a run of a job for a leader; the handle aborts it.
pub type StartRun = fn(Arc<Leader>, RunId, Box<Record>, RunHandles) -> AbortHandle;

/// A coordinator that holds the journal.
pub struct Leader {
    inner: Mutex<Inner>,
    journal: tokio::sync::Mutex<Writer<Ledger>>,
    executors: Arc<dyn TaskExecutors>,
    start_run: StartRun,
    /// Of any change of any job.
    version: watch::Sender<u64>,
    flush: Notify,
    /// Why it leads no longer.
    end_reason: watch::Sender<Option<String>>,
    /// Nobody has taken its place: it had not run for a while, and may take over from itself.
    has_stalled: AtomicBool,
    /// The id of the cluster that it leads.
    pub cluster: String,
    /// The error of the last read of the journal, and of the last write, if they failed.
    journal_problem: Mutex<[Option<String>; 2]>,
    pub epoch: u64,
    pub since_us: i64,
    /// URL or path of the folder for checkpoints of jobs that name none.
    pub checkpoints: String,
}

pub(super) struct Inner {
    pub state: State,
    pub runs: HashMap<String, ActiveRun>,
    gauges: Gauges,
    /// Of jobs that have run here: the right to write their checkpoints. Claimed once, whoever asks for it first.
    histories: HashMap<String, Arc<OnceCell<History>>>,
    pub logs: HashMap<String, Log>,
    /// Changes for the journal that nothing waits for, until it is known to have them.
    unwritten: PendingChanges,
    /// Jobs whose deletion is tried again until it is complete.
    deletions: BTreeSet<String>,
    /// Names of jobs that are being submitted or deleted.
    reserved: BTreeSet<String>,
    clock_steps: clock::StepDetector,
}

/// A name that nobody else may use meanwhile.
pub struct NameReservation {
    leader: Arc<Leader>,
    name: String,
}

impl Drop for NameReservation {
    fn drop(&mut self) {
        self.leader.inner.lock().reserved.remove(&self.name);
    }
}

impl Inner {
    /// The wall clock. If it was set, the deadlines of the state machine are moved with it.
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
    /// Takes over what the journal says: tasks that run go on; other jobs that had not ended run again as soon as there
    /// are slots.
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

    /// Tells the state machine what happened and carries out what it commands.
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

    /// Commands are carried out under the lock, so that they are in the order in which they were decided. Nothing here
    /// waits or comes back.
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
                    // A run that no longer waits is ending, and gives back what it has.
                    if granted.is_none_or(|granted| granted.send(Grant { lease, slots }).is_err()) {
                        tracing::debug!(job, "slots came after the wait was given up");
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

    /// Whether nobody else has claimed the journal, as far as can be seen.
    pub async fn still_leads(&self) -> bool {
        self.check_leadership().await;
        self.end_reason.borrow().is_none()
    }

    /// Keeps others from using a job's name until the answer is dropped.
    pub fn reserve(self: &Arc<Self>, name: &str) -> Result<NameReservation, api::Error> {
        if !self.inner.lock().reserved.insert(name.to_string()) {
            return Err(api::Error::new(
                Code::NameInUse,
                format!("the job `{name}` is just being submitted or deleted; try again"),
            ));
        }
        Ok(NameReservation {
            leader: self.clone(),
            name: name.to_string(),
        })
    }

    /// Registers the deletion of this job; returns false if it is under way already.
    pub(super) fn begin_deletion(&self, job: &str) -> bool {
        self.inner.lock().deletions.insert(job.to_string())
    }

    pub(super) fn end_deletion(&self, job: &str) {
        self.inner.lock().deletions.remove(job);
    }

    /// Looks at state and runs.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.lock())
    }

    pub fn wanted(&self, job: &str) -> Option<DesiredState> {
        let inner = self.inner.lock();
        Some(inner.state.jobs().get(job)?.record.wanted.clone())
    }

    pub fn executors(&self) -> Arc<dyn TaskExecutors> {
        self.executors.clone()
    }

    /// Where slots for a run's next attempt will come.
    pub fn request_slots(self: &Arc<Self>, job: &str, run: RunId) -> oneshot::Receiver<Grant> {
        let job = job.to_string();
        self.request_grant(Event::SlotsWanted { job: job.clone(), run }, &job, run)
    }

    /// Where slots will come for a region of a run's attempt, in place of those that are gone.
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

    /// Something was said about a job.
    pub fn log_line(&self, job: &str, level: &str, text: &str) {
        match level {
            "warn" => tracing::warn!(job, "{text}"),
            _ => tracing::info!(job, "{text}"),
        }
        let log = self.inner.lock().logs.entry(job.to_string()).or_default().clone();
        log.write(now_us(), level, "coordinator", text);
    }

    /// The numbers of a run changed.
    pub fn changed(&self, job: &str, run: RunId) {
        let version = {
            let mut inner = self.inner.lock();
            inner.state.changed(job, run);
            inner.state.version()
        };
        self.version
            .send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    /// Told of every change of any job.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The leadership that claims of jobs' checkpoints carry: earlier leaders of this cluster are refused after such
    /// a claim.
    pub fn leadership(&self) -> Leadership {
        Leadership {
            cluster: self.cluster.clone(),
            epoch: self.epoch,
        }
    }

    /// The right to write a job's checkpoints, claimed at the first call.
    pub async fn history(&self, record: &Record) -> Result<History, Error> {
        let history = self
            .inner
            .lock()
            .histories
            .entry(record.name.clone())
            .or_default()
            .clone();
        let claimed = history.get_or_try_init(async || {
            let retain = resolve::settings(&record.resolved)?.retain;
            History::open_as_leader(self.leadership(), &record.storage, &record.name, retain).await
        });
        claimed.await.cloned()
    }

    /// As of now, if it was claimed.
    pub fn known_history(&self, job: &str) -> Option<History> {
        self.inner.lock().histories.get(job)?.get().cloned()
    }

    /// The job is no more, or its checkpoints are another's.
    pub fn forget(&self, job: &str, with_log: bool) {
        let mut inner = self.inner.lock();
        inner.histories.remove(job);
        if with_log {
            inner.logs.remove(job);
        }
    }

    /// All runs take a last checkpoint; the jobs go on under the next leader. Returns when they have, or at the
    /// deadline.
    pub async fn suspend(self: &Arc<Self>, deadline: Duration) {
        let mut versions = self.version.subscribe();
        self.event(Event::ShutDown);
        let ended = async {
            loop {
                versions.borrow_and_update();
                if self.inner.lock().runs.is_empty() {
                    return;
                }
                // Runs that end under way change the number of them only.
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

    /// Stops at once and changes nothing more.
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
        // First of all: what ends here is the driver of a job, not its tasks.
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

    /// Whether it ended because it had not run for a while.
    pub fn has_stalled(&self) -> bool {
        self.has_stalled.load(Ordering::Relaxed)
    }

    pub fn has_ended(&self) -> bool {
        self.end_reason.borrow().is_some()
    }

    /// Returns when it leads no longer.
    pub async fn ended(&self) -> String {
        let mut end_reason = self.end_reason.subscribe();
        match end_reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Hears the workers, moves jobs when it is time, takes rates.
    async fn run_loop(self: Arc<Self>, mut events: mpsc::Receiver<Event>) {
        let mut sample = tokio::time::interval(SAMPLE_INTERVAL);
        sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut count = tokio::time::interval(COUNT_INTERVAL);
        count.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Comes here at every sample at least, so that a clock that was set is noticed soon.
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
                    None => return self.end("the workers are not heard any more"),
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

    /// Whoever leads next begins with what is known now, not with nothing.
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

    /// Asks a run for something that needs no journal.
    pub fn with_run(&self, job: &str, ask: impl FnOnce(&ActiveRun)) -> bool {
        let inner = self.inner.lock();
        inner.runs.get(job).map(ask).is_some()
    }

    /// What a job's coordinator said about it.
    pub fn log(&self, job: &str) -> Log {
        self.inner.lock().logs.entry(job.to_string()).or_default().clone()
    }
}
