//! A subtask's part of a checkpoint: cut on the slot thread, finished off it.

use futures::future::BoxFuture;
use millstream_connectors::Committable;
use millstream_fail_point as fail_point;
use millstream_planner::graph::OperatorId;
use millstream_state::SnapshotTicket;

use crate::Error;
use crate::job::{SubtaskState, TaskEvent};

/// What one operator of one task contributes to a checkpoint, with the work that is still to be done for it.
pub struct SnapshotPart {
    pub checkpoint: u64,
    pub operator: OperatorId,
    pub state: SubtaskState,
    pub work: Work,
}

pub enum Work {
    Nothing,
    /// There is nothing to be had: the checkpoint is declined.
    Refused(Error),
    /// Cutting and uploading files of keyed state.
    Keyed(SnapshotTicket),
    /// Making a sink's rows durable.
    Prepare(BoxFuture<'static, Result<Vec<Committable>, millstream_connectors::Error>>),
}

impl SnapshotPart {
    /// Does the work and says how it went.
    pub async fn complete(self) -> TaskEvent {
        let Self {
            checkpoint,
            operator,
            mut state,
            work,
        } = self;
        let done: Result<(), Error> = match work {
            Work::Nothing => Ok(()),
            Work::Refused(error) => Err(error),
            Work::Keyed(ticket) => match ticket.finished.await {
                Ok(keyed) => {
                    state.keyed = Some(keyed);
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
            Work::Prepare(prepare) => match prepare.await {
                Ok(committables) => {
                    state.committables = committables;
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
        };
        fail_point::reach("prepared");
        match done {
            Ok(()) => TaskEvent::Snapshot {
                checkpoint,
                operator,
                state,
            },
            Err(error) => TaskEvent::SnapshotFailed {
                checkpoint,
                operator,
                subtask: state.subtask,
                error,
            },
        }
    }
}
