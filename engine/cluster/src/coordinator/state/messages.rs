//! Inputs and outputs of the coordinator's state machine: events, ends of runs, and commands.

use millstream_proto::v1;

use super::RunId;
use crate::coordinator::ledger::{Change, Record, RunProgress, RunTotals};
use crate::coordinator::slots::LeaseId;
use crate::job::StopRequest;

/// An input of the state machine.
#[derive(Debug, Clone)]
pub enum Event {
    /// The journal has this change.
    Applied(Change),
    /// The tasks of an attempt run. `attempts` has the id under which the worker of each slot knows them.
    Placed {
        job: String,
        run: RunId,
        attempts: Vec<String>,
    },
    /// These slots of a running attempt need others in place of those on lost workers.
    RelocationWanted {
        job: String,
        run: RunId,
        region: Vec<usize>,
    },
    /// The tasks of these slots have ended, and this attempt replaces them.
    Relocated {
        job: String,
        run: RunId,
        region: Vec<usize>,
        attempt: String,
    },
    /// All tasks of an attempt run.
    Running {
        job: String,
        run: RunId,
    },
    /// An attempt failed, and another follows.
    Restarting {
        job: String,
        run: RunId,
        reason: String,
    },
    /// The new pipeline of an update has completed a checkpoint.
    UpdateConfirmed {
        job: String,
        run: RunId,
    },
    Ended {
        job: String,
        run: RunId,
        end: End,
        /// Its totals, if it ever ran tasks.
        run_totals: Option<Box<RunTotals>>,
    },
    /// Totals of a run that has not ended, sent at intervals.
    RunProgress {
        job: String,
        run: RunId,
        run_progress: Box<RunProgress>,
    },
    SlotsWanted {
        job: String,
        run: RunId,
    },
    SlotsReturned {
        job: String,
        run: RunId,
        lease: LeaseId,
    },
    Attached {
        worker: String,
        incarnation: String,
        slots: u32,
        /// Attempts that it runs and that can be adopted.
        running: Vec<String>,
    },
    /// Result of connecting to the worker's address.
    Reached {
        worker: String,
        incarnation: String,
        found: Result<(), String>,
    },
    Lost {
        worker: String,
        incarnation: String,
        reason: String,
    },
    /// This process did not run for so long that its workers have left it. Handled by the shell: the next leader,
    /// possibly this coordinator again, adopts the tasks.
    Stalled {
        reason: String,
    },
    /// Tasks on a worker logged lines. Stored by the shell; no decision depends on them.
    Logged {
        worker: String,
        lines: Vec<v1::JobLine>,
    },
    /// A worker's process was asked to end.
    Leaving {
        worker: String,
    },
    Tick,
    /// All runs take a last checkpoint and end. The next leader resumes the jobs.
    ShutDown,
}

/// End of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Finished {
        checkpoint: u64,
    },
    Stopped {
        checkpoint: u64,
    },
    Aborted {
        last_checkpoint: Option<u64>,
        /// The reason why the output of that checkpoint may not have been published.
        unpublished: Option<String>,
    },
    Failed {
        reason: String,
    },
    /// Another claim of this cluster on the job's checkpoints superseded the run's: another run follows with a new
    /// claim.
    Superseded {
        reason: String,
    },
}

impl End {
    /// Returns the end of a run that was aborted, with no output left to publish.
    pub fn aborted(last_checkpoint: Option<u64>) -> Self {
        Self::Aborted {
            last_checkpoint,
            unpublished: None,
        }
    }
}

/// An output of the state machine.
#[derive(Debug, Clone)]
pub enum Command {
    StartRun {
        run: RunId,
        record: Box<Record>,
    },
    RequestStop {
        job: String,
        run: RunId,
        request: StopRequest,
    },
    GrantSlots {
        job: String,
        run: RunId,
        lease: LeaseId,
        slots: Vec<String>,
    },
    /// There are no slots for the displaced tasks, and none are waited for.
    RefuseSlots {
        job: String,
        run: RunId,
    },
    /// The workers have attached with the tasks that the run waits for. The lease has their slots.
    Adopt {
        job: String,
        run: RunId,
        lease: LeaseId,
    },
    /// The tasks that the run waits for will not be adopted. Those that still run are cancelled.
    Abandon {
        job: String,
        run: RunId,
        attempts: Vec<String>,
        reason: String,
    },
    /// A change that is to be journalled soon. Nothing waits for it.
    Journal(Change),
    /// The worker has no tasks any more and may leave.
    ReleaseWorker {
        worker: String,
    },
}
