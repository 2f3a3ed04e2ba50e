//! State of the cluster that must survive its coordinators: the jobs, their desired states, and their histories.
//!
//! The ledger is the state of the cluster's journal ([`millstream_state::log`], folder `journal` of the data folder).
//! Its changes, as JSON:
//!
//! | change | meaning |
//! |---|---|
//! | `submitted` | a new job ([`Record`]); its first checkpoint, if it begins with one, exists already |
//! | `wanted` | a person changes the desired state: running, stopped, cancelled; includes the transition that follows |
//! | `parallelism` | number of subtasks, or `null`: as many as there are slots; a running job restarts |
//! | `update` | a person wants another pipeline; a running job restarts with it |
//! | `pipeline` | pipeline of the job and state of its update; written like a transition |
//! | `placed` | workers of the running attempt, or `null`: none runs; written like a transition |
//! | `ran` | totals of all ended runs; written like a transition |
//! | `so_far` | totals of the present run, written at intervals: the next coordinator continues from them |
//! | `transition` | a new state and its reason; written after the fact, several at a time |
//! | `deleting` | a person wants the job deleted: its checkpoints are being removed, and it accepts no requests |
//! | `deleted` | the job is gone and its name is free |
//! | `drained` | a person wants a worker to take no tasks, or to take them again |
//!
//! The base is the list of jobs; if there are drained workers, an object with `jobs` and `drained`.
//!
//! A resolved job is stored as its protobuf message in base64. The values of its variables, secrets among them, are
//! in the message, so the data folder must be protected like the secrets themselves.

mod update;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_proto::v1;
use millstream_state::log;
use serde::{Deserialize, Serialize};

pub use self::update::{LatestUpdate, Update};

/// Transitions in the history of one job.
pub const TRANSITIONS_MAX: usize = 50;
/// Longest reason that is stored.
const REASON_CHARS_MAX: usize = 1000;

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    #[serde(with = "encoded")]
    pub resolved: Arc<v1::ResolvedJob>,
    /// Subtasks per operator; `None`: as many as there are slots.
    pub parallelism: Option<u32>,
    pub max_parallelism: u32,
    /// URL or path of the folder for its checkpoints.
    pub storage: String,
    pub submitted_us: i64,
    pub wanted: DesiredState,
    /// The latest request to run accepts output that is written twice ([`crate::Job::allow_duplicates`]).
    #[serde(default)]
    pub allow_duplicates: bool,
    /// Number of attempts so far.
    #[serde(default)]
    pub attempts: u32,
    /// Placement of the running attempt, which the next leader adopts.
    #[serde(default)]
    pub placement: Option<Placement>,
    /// Totals of all runs that have ended.
    #[serde(default, rename = "ran")]
    pub run_totals: Option<RunTotals>,
    /// Totals of the present run as of the last record.
    #[serde(default, rename = "so_far")]
    pub run_progress: Option<Box<RunProgress>>,
    /// The job is being deleted.
    #[serde(default)]
    pub deleting: bool,
    /// Latest update of its pipeline.
    #[serde(default)]
    pub update: LatestUpdate,
    /// The newest transitions, oldest first.
    pub transitions: VecDeque<Transition>,
}

/// Totals of runs. A record has those of all ended runs together; a run has its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunTotals {
    pub restarts: u32,
    pub checkpoints: u64,
    pub checkpoints_failed: u64,
    pub checkpoints_unchanged: u64,
    pub last_checkpoint: Option<LastCheckpoint>,
    pub rows_in: u64,
    pub rows_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub watermark_us: Option<i64>,
    pub lag_rows: Option<u64>,
    pub late_rows: u64,
    pub bad_rows: u64,
    pub dead_letters: u64,
    pub future_rows: u64,
}

/// Totals of a run that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunProgress {
    /// Totals without the rows of the present attempt.
    pub settled: RunTotals,
    /// Rows of the present attempt, which its workers report.
    pub attempt: RunTotals,
}

impl RunTotals {
    /// Returns the totals without the rows of `part`.
    pub fn without(&self, part: &RunTotals) -> Self {
        Self {
            rows_in: self.rows_in.saturating_sub(part.rows_in),
            rows_out: self.rows_out.saturating_sub(part.rows_out),
            bytes_in: self.bytes_in.saturating_sub(part.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(part.bytes_out),
            late_rows: self.late_rows.saturating_sub(part.late_rows),
            bad_rows: self.bad_rows.saturating_sub(part.bad_rows),
            dead_letters: self.dead_letters.saturating_sub(part.dead_letters),
            future_rows: self.future_rows.saturating_sub(part.future_rows),
            ..self.clone()
        }
    }

    /// Returns the totals with no fewer rows than `known`. Workers that have just been adopted report theirs later.
    pub fn at_least(self, known: &RunTotals) -> Self {
        Self {
            rows_in: self.rows_in.max(known.rows_in),
            rows_out: self.rows_out.max(known.rows_out),
            bytes_in: self.bytes_in.max(known.bytes_in),
            bytes_out: self.bytes_out.max(known.bytes_out),
            late_rows: self.late_rows.max(known.late_rows),
            bad_rows: self.bad_rows.max(known.bad_rows),
            dead_letters: self.dead_letters.max(known.dead_letters),
            future_rows: self.future_rows.max(known.future_rows),
            watermark_us: self.watermark_us.or(known.watermark_us),
            ..self
        }
    }

    /// Returns the totals of this run and all earlier ones. The lag is that of this run alone.
    pub fn after(self, earlier: &RunTotals) -> Self {
        Self {
            restarts: self.restarts + earlier.restarts,
            checkpoints: self.checkpoints + earlier.checkpoints,
            checkpoints_failed: self.checkpoints_failed + earlier.checkpoints_failed,
            checkpoints_unchanged: self.checkpoints_unchanged + earlier.checkpoints_unchanged,
            last_checkpoint: self.last_checkpoint.or_else(|| earlier.last_checkpoint.clone()),
            rows_in: self.rows_in + earlier.rows_in,
            rows_out: self.rows_out + earlier.rows_out,
            bytes_in: self.bytes_in + earlier.bytes_in,
            bytes_out: self.bytes_out + earlier.bytes_out,
            watermark_us: self.watermark_us.or(earlier.watermark_us),
            lag_rows: self.lag_rows,
            late_rows: self.late_rows + earlier.late_rows,
            bad_rows: self.bad_rows + earlier.bad_rows,
            dead_letters: self.dead_letters + earlier.dead_letters,
            future_rows: self.future_rows + earlier.future_rows,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCheckpoint {
    pub checkpoint: u64,
    pub taken_us: i64,
    /// Time until which the checkpoint is known to be up to date.
    pub current_us: i64,
    pub state_bytes: u64,
    pub took_ms: u64,
}

/// Placement of an attempt's tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Worker of each slot.
    pub slots: Vec<String>,
    /// Id under which the worker of each slot knows its tasks; one per region.
    #[serde(default)]
    pub attempts: Vec<String>,
    /// The attempt is to end with a last checkpoint, and another follows. Whoever adopts it stops it.
    #[serde(default)]
    pub is_ending: bool,
}

impl Placement {
    /// Returns the attempts that each worker runs.
    pub fn by_worker(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut running: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (worker, attempt) in self.slots.iter().zip(&self.attempts) {
            running.entry(worker.clone()).or_default().insert(attempt.clone());
        }
        running
    }
}

/// The state in which a person wants a job to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    Running,
    /// Stopped with a last checkpoint, which is kept as a savepoint if there is a name.
    Stopped {
        savepoint: Option<String>,
    },
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    pub status: Status,
    pub at_us: i64,
    pub reason: String,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Submitted,
    Deploying,
    Running,
    Restarting,
    Stopping,
    Finished,
    Stopped,
    Failed,
    Cancelled,
}

impl Status {
    /// Returns true for states that only a request can change.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed | Self::Cancelled)
    }

    /// Returns the state as a word for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Deploying => "deploying",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn to_proto(self) -> v1::JobState {
        match self {
            Self::Submitted => v1::JobState::Submitted,
            Self::Deploying => v1::JobState::Deploying,
            Self::Running => v1::JobState::Running,
            Self::Restarting => v1::JobState::Restarting,
            Self::Stopping => v1::JobState::Stopping,
            Self::Finished => v1::JobState::Finished,
            Self::Stopped => v1::JobState::Stopped,
            Self::Failed => v1::JobState::Failed,
            Self::Cancelled => v1::JobState::Cancelled,
        }
    }
}

impl Transition {
    pub fn new(status: Status, at_us: i64, reason: &str) -> Self {
        let reason = match reason.char_indices().nth(REASON_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &reason[..end]),
            None => reason.to_string(),
        };
        Self { status, at_us, reason }
    }
}

impl Record {
    /// Returns the present state.
    pub fn current(&self) -> &Transition {
        self.transitions
            .back()
            .expect("a record is made with one and never loses the last")
    }

    /// Returns the change that journals the placement.
    pub fn placement_change(&self) -> Change {
        Change::Placed {
            job: self.name.clone(),
            attempts: self.attempts,
            placement: self.placement.clone(),
        }
    }

    /// Changes the desired state and enters the state that follows.
    pub fn set_desired(&mut self, wanted: DesiredState, at_us: i64) {
        let has_ended = self.current().status.is_terminal();
        let entered = match (&wanted, has_ended) {
            (DesiredState::Running, true) => Some((Status::Deploying, "requested")),
            (DesiredState::Running, false) => Some((Status::Restarting, "restart requested")),
            (DesiredState::Stopped { .. }, false) => Some((Status::Stopping, "stop requested")),
            (DesiredState::Cancelled, false) => Some((Status::Stopping, "cancel requested")),
            // The job has ended meanwhile.
            (DesiredState::Stopped { .. } | DesiredState::Cancelled, true) => None,
        };
        // A stop drops a pending update: the job keeps its pipeline.
        if wanted != DesiredState::Running && self.pending_update().is_some() {
            self.update = LatestUpdate::None;
        }
        self.wanted = wanted;
        if let Some((status, reason)) = entered {
            self.end_placement(status);
            self.enter_unless_current(status, at_us, reason);
        }
    }

    /// Changes the parallelism; `None`: as many subtasks as there are slots.
    pub fn rescale(&mut self, parallelism: Option<u32>, at_us: i64) {
        self.parallelism = parallelism;
        if let LatestUpdate::Pending(update) = &mut self.update {
            update.parallelism = parallelism;
        }
        if !self.current().status.is_terminal() && self.wanted == DesiredState::Running {
            self.end_placement(Status::Restarting);
            let wish = parallelism.map_or("auto".to_string(), |parallelism| parallelism.to_string());
            self.enter_unless_current(Status::Restarting, at_us, &format!("rescaling to parallelism {wish}"));
        }
    }

    fn end_placement(&mut self, entered: Status) {
        if let Some(placement) = &mut self.placement {
            placement.is_ending |= entered == Status::Restarting;
        }
    }

    fn enter_unless_current(&mut self, status: Status, at_us: i64, reason: &str) {
        let now = self.current();
        if now.status != status || now.reason != reason {
            // Changes written by earlier versions have no time.
            let at_us = at_us.max(now.at_us);
            self.enter(Transition::new(status, at_us, reason));
        }
    }

    /// Adds the progress of a run whose coordinator is gone to the totals. If the attempt continues, its rows are not
    /// added, because its workers report them.
    pub fn settle(&mut self, attempt_goes_on: bool) {
        let Some(run_progress) = self.run_progress.take() else {
            return;
        };
        let RunProgress { settled, attempt } = *run_progress;
        let own = match attempt_goes_on {
            true => settled,
            false => attempt.clone().after(&settled),
        };
        self.run_totals = Some(match &self.run_totals {
            Some(earlier) => own.after(earlier),
            None => own,
        });
        if attempt_goes_on {
            let settled = RunTotals::default();
            self.run_progress = Some(Box::new(RunProgress { settled, attempt }));
        }
    }

    /// Returns the changes that journal the totals.
    pub fn totals_changes(&self) -> impl Iterator<Item = Change> + use<> {
        let job = self.name.clone();
        let run_totals = self.run_totals.clone().map(Box::new);
        let run_totals = run_totals.map(|run_totals| Change::RunTotals {
            job: job.clone(),
            run_totals,
        });
        let run_progress = self.run_progress.clone();
        let run_progress = run_progress.map(|run_progress| Change::RunProgress { job, run_progress });
        run_totals.into_iter().chain(run_progress)
    }

    /// Returns the placement of an attempt that the next leader can adopt.
    pub fn adoptable_placement(&self) -> Option<&Placement> {
        let goes_on = !self.current().status.is_terminal() && self.wanted != DesiredState::Cancelled;
        let placement = self.placement.as_ref().filter(|_| goes_on);
        placement.filter(|placement| placement.attempts.len() == placement.slots.len())
    }

    pub fn enter(&mut self, transition: Transition) {
        // A transition is applied twice if the answer to its first record was lost.
        if self.transitions.back() == Some(&transition) {
            return;
        }
        self.transitions.push_back(transition);
        while self.transitions.len() > TRANSITIONS_MAX {
            self.transitions.pop_front();
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Submitted(Box<Record>),
    Wanted {
        job: String,
        wanted: DesiredState,
        #[serde(default)]
        allow_duplicates: bool,
        #[serde(default)]
        at_us: i64,
    },
    Parallelism {
        job: String,
        parallelism: Option<u32>,
        #[serde(default)]
        at_us: i64,
    },
    Update {
        job: String,
        update: Box<Update>,
        at_us: i64,
    },
    Pipeline {
        job: String,
        #[serde(with = "encoded")]
        resolved: Arc<v1::ResolvedJob>,
        parallelism: Option<u32>,
        max_parallelism: u32,
        update: LatestUpdate,
    },
    Placed {
        job: String,
        attempts: u32,
        placement: Option<Placement>,
    },
    #[serde(rename = "ran")]
    RunTotals {
        job: String,
        #[serde(rename = "ran")]
        run_totals: Box<RunTotals>,
    },
    #[serde(rename = "so_far")]
    RunProgress {
        job: String,
        #[serde(rename = "so_far")]
        run_progress: Box<RunProgress>,
    },
    Transition {
        job: String,
        transition: Transition,
    },
    Deleting {
        job: String,
    },
    Deleted {
        job: String,
    },
    Drained {
        worker: String,
        /// `false`: the worker takes tasks again.
        drained: bool,
    },
}

impl Change {
    /// Returns the change of a job's desired state.
    pub fn wanted(job: String, wanted: DesiredState, at_us: i64) -> Self {
        Self::Wanted {
            job,
            wanted,
            allow_duplicates: false,
            at_us,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub jobs: BTreeMap<String, Record>,
    /// Workers that a person has drained.
    pub drained: BTreeSet<String>,
    /// Errors of journal records that could not be read.
    pub damaged: Vec<String>,
}

/// The whole state of a ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Base {
    Jobs(Vec<Record>),
    JobsAndWorkers {
        jobs: Vec<Record>,
        drained: BTreeSet<String>,
    },
}

impl log::State for Ledger {
    type Change = Change;
    type Base = Base;

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Submitted(record) => {
                self.jobs.insert(record.name.clone(), (**record).clone());
            }
            Change::Deleted { job } => {
                self.jobs.remove(job);
            }
            Change::Wanted {
                job,
                wanted,
                allow_duplicates,
                at_us,
            } => self.change(job, |record| {
                record.allow_duplicates = *allow_duplicates;
                record.set_desired(wanted.clone(), *at_us);
            }),
            Change::Parallelism {
                job,
                parallelism,
                at_us,
            } => self.change(job, |record| record.rescale(*parallelism, *at_us)),
            Change::Update { job, update, at_us } => self.change(job, |record| {
                record.update((**update).clone(), *at_us);
            }),
            Change::Pipeline {
                job,
                resolved,
                parallelism,
                max_parallelism,
                update,
            } => self.change(job, |record| {
                record.resolved = resolved.clone();
                record.parallelism = *parallelism;
                record.max_parallelism = *max_parallelism;
                record.update.clone_from(update);
            }),
            Change::Deleting { job } => self.change(job, |record| record.deleting = true),
            Change::Drained { worker, drained } => {
                match drained {
                    true => self.drained.insert(worker.clone()),
                    false => self.drained.remove(worker),
                };
            }
            Change::Placed {
                job,
                attempts,
                placement,
            } => self.change(job, |record| {
                record.attempts = *attempts;
                record.placement.clone_from(placement);
            }),
            // The totals include the progress of the run.
            Change::RunTotals { job, run_totals } => self.change(job, |record| {
                record.run_totals = Some((**run_totals).clone());
                record.run_progress = None;
            }),
            Change::RunProgress { job, run_progress } => {
                self.change(job, |record| record.run_progress = Some(run_progress.clone()))
            }
            Change::Transition { job, transition } => self.change(job, |record| record.enter(transition.clone())),
        }
    }

    fn base(&self) -> Base {
        let jobs = self.jobs.values().cloned().collect();
        match self.drained.is_empty() {
            true => Base::Jobs(jobs),
            false => Base::JobsAndWorkers {
                jobs,
                drained: self.drained.clone(),
            },
        }
    }

    fn restore(base: Base) -> Self {
        let (jobs, drained) = match base {
            Base::Jobs(jobs) => (jobs, BTreeSet::new()),
            Base::JobsAndWorkers { jobs, drained } => (jobs, drained),
        };
        Self {
            // A record without transitions has no state; no version has written one.
            jobs: jobs
                .into_iter()
                .filter(|record| !record.transitions.is_empty())
                .map(|record| (record.name.clone(), record))
                .collect(),
            drained,
            damaged: Vec::new(),
        }
    }

    fn damaged(&mut self, reason: String) {
        self.damaged.push(reason);
    }
}

impl Ledger {
    /// Returns the attempts that can be adopted.
    pub fn adoptable_attempts(&self) -> Vec<String> {
        let placements = self.jobs.values().filter_map(Record::adoptable_placement);
        let attempts: BTreeSet<&String> = placements.flat_map(|placement| &placement.attempts).collect();
        attempts.into_iter().cloned().collect()
    }

    /// Changes a record. Does nothing if the job was deleted meanwhile.
    fn change(&mut self, job: &str, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.jobs.get_mut(job) {
            change(record);
        }
    }
}

/// Encoding of a protobuf message inside JSON.
mod encoded {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use millstream_proto::v1;
    use prost::Message;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(resolved: &v1::ResolvedJob, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(resolved.encode_to_vec()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<v1::ResolvedJob>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        Ok(Arc::new(v1::ResolvedJob::decode(&*bytes).map_err(D::Error::custom)?))
    }
}

#[cfg(test)]
pub(super) mod tests;
