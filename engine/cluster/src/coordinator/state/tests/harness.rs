//! A state machine with a clock and a journal, and short names for what happens to it.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_proto::v1;

use super::super::*;

/// A state machine, the time, and what was commanded, in words.
pub(super) struct Harness {
    pub state: State,
    pub now_us: i64,
    pub journal: Vec<Change>,
}

impl Harness {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        let (state, commands) = State::restore(Ledger::default(), limits, 1, 0);
        assert!(commands.is_empty());
        Self {
            state,
            now_us: 1,
            journal: Vec::new(),
        }
    }

    /// A job `a` that runs on one worker as attempt `x`; the journal has all of that.
    pub(super) fn running() -> Self {
        let mut harness = Self::new();
        harness.attach("w", 2);
        harness.submit("a", Some(1));
        harness.wants("a");
        harness.places("a", "x");
        harness.runs("a");
        harness
    }

    pub(super) fn record(name: &str, parallelism: Option<u32>) -> Box<Record> {
        Box::new(Record {
            name: name.into(),
            resolved: Arc::new(v1::ResolvedJob::default()),
            parallelism,
            max_parallelism: 128,
            storage: "/tmp".into(),
            submitted_us: 0,
            wanted: DesiredState::Running,
            allow_duplicates: false,
            attempts: 0,
            placement: None,
            run_totals: None,
            run_progress: None,
            deleting: false,
            update: Default::default(),
            transitions: VecDeque::from([Transition::new(Status::Submitted, 0, "")]),
        })
    }

    /// Something happens; the answer is what is commanded, journalled transitions aside.
    pub(super) fn event(&mut self, event: Event) -> String {
        self.now_us += 1;
        let commands = self.state.on_event(event, self.now_us);
        self.words(commands)
    }

    pub(super) fn words(&mut self, commands: Vec<Command>) -> String {
        let mut words = Vec::new();
        for command in commands {
            match command {
                Command::StartRun { run, record } => words.push(format!("run {}#{run}", record.name)),
                Command::RequestStop { job, request, .. } => words.push(format!("{request:?} {job}").to_lowercase()),
                Command::GrantSlots { job, slots, .. } => words.push(format!("grant {job} {}", slots.join(" "))),
                Command::ReleaseWorker { worker } => words.push(format!("leave {worker}")),
                Command::Adopt { job, .. } => words.push(format!("adopt {job}")),
                Command::Abandon {
                    job, attempts, reason, ..
                } => words.push(format!("abandon {job} {}: {reason}", attempts.join(" "))),
                Command::RefuseSlots { job, .. } => words.push(format!("refuse {job}")),
                Command::Journal(change) => self.journal.push(change),
            }
        }
        words.join(", ")
    }

    pub(super) fn request(&mut self, request: Request) -> String {
        match self.state.request(request, self.now_us) {
            Ok(change) => {
                self.journal.push(change.clone());
                self.event(Event::Applied(change))
            }
            Err(error) => format!("{}: {}", error.code.as_str(), error.message),
        }
    }

    pub(super) fn submit(&mut self, name: &str, parallelism: Option<u32>) -> String {
        self.request(Request::Submit(Self::record(name, parallelism)))
    }

    pub(super) fn drain(&mut self, worker: &str, undo: bool) -> String {
        let worker = worker.to_string();
        self.request(Request::Drain { worker, undo })
    }

    /// The journal has all that was commanded so far.
    pub(super) fn journalled(&mut self) {
        for change in self.journal.clone() {
            if let Change::Transition { .. } = &change {
                assert_eq!(self.event(Event::Applied(change)), "");
            }
        }
    }

    pub(super) fn run_of(&self, job: &str) -> RunId {
        self.state.jobs[job].run.as_ref().expect("a run").id
    }

    pub(super) fn wants(&mut self, job: &str) -> String {
        let (job, run) = (job.to_string(), self.run_of(job));
        self.event(Event::SlotsWanted { job, run })
    }

    pub(super) fn returns(&mut self, job: &str) -> String {
        let run = self.state.jobs[job].run.as_ref().expect("a run");
        let (run, lease) = (run.id, run.lease.expect("slots"));
        let job = job.to_string();
        self.event(Event::SlotsReturned { job, run, lease })
    }

    pub(super) fn runs(&mut self, job: &str) -> String {
        let (job, run) = (job.to_string(), self.run_of(job));
        self.event(Event::Running { job, run })
    }

    pub(super) fn ends(&mut self, job: &str, end: End) -> String {
        let (job, run) = (job.to_string(), self.run_of(job));
        self.event(Event::Ended {
            job,
            run,
            end,
            run_totals: None,
        })
    }

    pub(super) fn attach(&mut self, worker: &str, slots: u32) -> String {
        self.attach_with(worker, slots, &[])
    }

    pub(super) fn attach_with(&mut self, worker: &str, slots: u32, running: &[&str]) -> String {
        let (worker, incarnation) = (worker.to_string(), "1".to_string());
        let attached = self.event(Event::Attached {
            worker: worker.clone(),
            incarnation,
            slots,
            running: running.iter().map(|attempt| attempt.to_string()).collect(),
        });
        let reached = self.reach(&worker, Ok(()));
        [attached, reached]
            .into_iter()
            .filter(|words| !words.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    }

    pub(super) fn reach(&mut self, worker: &str, found: Result<(), String>) -> String {
        let (worker, incarnation) = (worker.to_string(), "1".to_string());
        self.event(Event::Reached {
            worker,
            incarnation,
            found,
        })
    }

    /// The attempt's tasks run.
    pub(super) fn places(&mut self, job: &str, attempt: &str) -> String {
        let run = self.state.jobs[job].run.as_ref().expect("a run");
        let slots = self
            .state
            .slots
            .lease(run.lease.expect("slots"))
            .expect("a lease")
            .slots
            .len();
        self.places_each(job, &vec![attempt; slots])
    }

    /// The same, with the id of each slot's region.
    pub(super) fn places_each(&mut self, job: &str, attempts: &[&str]) -> String {
        let (job, run) = (job.to_string(), self.run_of(job));
        let attempts = attempts.iter().map(|attempt| attempt.to_string()).collect();
        self.event(Event::Placed { job, run, attempts })
    }

    /// A region needs a place.
    pub(super) fn displaces(&mut self, job: &str, region: &[usize]) -> String {
        let (job, run, region) = (job.to_string(), self.run_of(job), region.to_vec());
        self.event(Event::RelocationWanted { job, run, region })
    }

    /// It has one, and begins again as this.
    pub(super) fn relocates(&mut self, job: &str, region: &[usize], attempt: &str) -> String {
        let (job, run, region, attempt) = (job.to_string(), self.run_of(job), region.to_vec(), attempt.to_string());
        self.event(Event::Relocated {
            job,
            run,
            region,
            attempt,
        })
    }

    pub(super) fn lose(&mut self, worker: &str) -> String {
        self.event(Event::Lost {
            worker: worker.into(),
            incarnation: "1".into(),
            reason: "silent".into(),
        })
    }

    pub(super) fn tick(&mut self) -> String {
        self.now_us = self.state.next_tick_us().unwrap_or(self.now_us);
        self.event(Event::Tick)
    }

    #[track_caller]
    pub(super) fn is(&self, job: &str, status: Status, reason: &str) {
        let now = self.state.jobs[job].record.current();
        assert_eq!(now.status, status, "{now:?}");
        assert!(now.reason.contains(reason), "{now:?}");
    }

    /// Returns the state machine of a new coordinator with this journal, and its first commands.
    pub(super) fn successor(&self) -> (Harness, String) {
        self.successor_as_of(self.journal.len())
    }

    /// A new coordinator over the first `count` changes of the journal; the others were not written in time.
    pub(super) fn successor_as_of(&self, changes: usize) -> (Harness, String) {
        use millstream_state::log::State as _;
        let mut ledger = Ledger::default();
        for change in &self.journal[..changes] {
            ledger.apply(change);
        }
        let (state, commands) = State::restore(ledger, Limits::default(), 2, self.now_us);
        let mut harness = Harness {
            state,
            now_us: self.now_us,
            journal: self.journal[..changes].to_vec(),
        };
        let words = harness.words(commands);
        (harness, words)
    }
}
