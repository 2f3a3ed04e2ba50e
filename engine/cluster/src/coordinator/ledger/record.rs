//! Record of a job.

mod update;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_proto::v1;
use serde::{Deserialize, Serialize};

use super::totals::{RunProgress, RunTotals};
use super::update::LatestUpdate;
use super::{Change, encoded};

/// Transitions in the history of one job.
pub const TRANSITIONS_MAX: usize = 50;
/// Longest reason that is stored.
pub(super) const REASON_CHARS_MAX: usize = 1000;

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    /// The job's pipeline.
    #[serde(with = "encoded")]
    pub resolved: Arc<v1::ResolvedJob>,
    /// Subtasks per operator; `None`: as many as there are slots.
    pub parallelism: Option<u32>,
    pub max_parallelism: u32,
    /// URL or path of the folder for its checkpoints.
    pub storage: String,
    pub submitted_us: i64,
    /// Desired state.
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
    #[serde(default, deserialize_with = "LatestUpdate::read")]
    pub update: LatestUpdate,
    /// The newest transitions, oldest first.
    pub transitions: VecDeque<Transition>,
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

/// A change of a job's state.
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

    /// Returns the state in the client API.
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
    /// Returns a transition. A reason that is too long is cut off.
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
            let target = parallelism.map_or("auto".to_string(), |parallelism| parallelism.to_string());
            self.enter_unless_current(Status::Restarting, at_us, &format!("rescaling to parallelism {target}"));
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

    /// Appends a transition.
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
