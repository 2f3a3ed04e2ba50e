//! Inputs and outputs of the coordinator's state machine: events, ends of runs, and commands.

use millstream_proto::v1;

use super::RunId;
use crate::coordinator::ledger::{Change, Record, RunProgress, RunTotals};
use crate::coordinator::slots::LeaseId;
use crate::job::StopRequest;

#[derive(Debug, Clone)]
pub enum Event {
    /// A change that the journal has.
    Applied(Change),
    /// The tasks of an attempt run, those of each slot under this id.
    Placed {
        job: String,
        run: RunId,
        attempts: Vec<String>,
    },
    /// These slots of a running attempt are to run its tasks anew: others are needed where workers are gone.
    RelocationWanted {
        job: String,
        run: RunId,
        region: Vec<usize>,
    },
    /// The tasks of these slots have ended; this attempt is to follow.
    Relocated {
        job: String,
        run: RunId,
        region: Vec<usize>,
        attempt: String,
    },
    /// All tasks of an attempt run and are looked after.
    Running {
        job: String,
        run: RunId,
    },
    /// An attempt failed and another is to follow.
    Restarting {
        job: String,
        run: RunId,
        reason: String,
    },
    /// The new pipeline of an update has a checkpoint.
    UpdateConfirmed {
        job: String,
        run: RunId,
    },
    Ended {
        job: String,
        run: RunId,
        end: End,
        /// Its totals, if any task ever ran.
        run_totals: Option<Box<RunTotals>>,
    },
    /// The totals of a run so far, from time to time.
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
        /// The attempts that it brings along and that are waited for.
        running: Vec<String>,
    },
    /// Other workers can reach it, or the reason why they cannot.
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
    /// This process did not run for so long that its workers have left it. The shell's to act upon: whoever leads next,
    /// this one perhaps, takes over what runs.
    Stalled {
        reason: String,
    },
    /// Tasks on a worker logged something: kept by the shell, it decides nothing.
    Logged {
        worker: String,
        lines: Vec<v1::JobLine>,
    },
    /// A worker's process was asked to end.
    Leaving {
        worker: String,
    },
    Tick,
    /// All runs take a last checkpoint and end; the jobs go on elsewhere or later.
    ShutDown,
}

/// The end of a run.
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
        /// The reason why the output that it holds may not be published yet.
        unpublished: Option<String>,
    },
    Failed {
        reason: String,
    },
    /// Another claim of the job's checkpoints, made for this cluster, has superseded its own: a run with a new one
    /// goes on.
    Superseded {
        reason: String,
    },
}

impl End {
    pub fn aborted(last_checkpoint: Option<u64>) -> Self {
        Self::Aborted {
            last_checkpoint,
            unpublished: None,
        }
    }
}

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
    /// There is no place for what is displaced, and none is waited for.
    RefuseSlots {
        job: String,
        run: RunId,
    },
    /// The workers have come with the tasks that the run waits for, which has these slots.
    Adopt {
        job: String,
        run: RunId,
        lease: LeaseId,
    },
    /// The tasks that the run waits for do not come back: what there is of the attempt is to end.
    Abandon {
        job: String,
        run: RunId,
        attempts: Vec<String>,
        reason: String,
    },
    /// To be written soon; nothing waits for it.
    Journal(Change),
    /// The worker has nothing to do any more and may go.
    ReleaseWorker {
        worker: String,
    },
}
