//! A subtask's part of a checkpoint: cut on the slot thread, finished off it.

use futures::future::BoxFuture;
use millstream_connectors::Committable;
use millstream_fail_point as fail_point;
use millstream_planner::graph::OperatorId;
use millstream_state::SnapshotTicket;
use millstream_state::checkpoint::JobFiles;
use millstream_state::threads;

use crate::Error;
use crate::in_flight::InFlight;
use crate::job::{SubtaskState, TaskEvent};

/// What one operator of one task contributes to a checkpoint, with the work that is still to be done for it.
pub struct SnapshotPart {
    pub checkpoint: u64,
    pub operator: OperatorId,
    pub state: SubtaskState,
    pub work: Work,
    pub overtaken: Overtaken,
    /// Where what is in flight is kept.
    pub files: JobFiles,
}

/// What a checkpoint's barrier has overtaken on its way.
pub enum Overtaken {
    /// Nothing, mostly.
    Known(InFlight),
    /// More than is kept: the checkpoint is declined.
    TooMuch,
    /// A later checkpoint was asked for: this one has come to nothing.
    GivenUp,
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
    /// Does the work and says how it went, if that still means anything to anybody.
    pub async fn complete(self) -> Option<TaskEvent> {
        let Self {
            checkpoint,
            operator,
            mut state,
            work,
            overtaken,
            files,
        } = self;
        let is_sink = matches!(work, Work::Prepare(_));
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
        // What a sink could not prepare is lost, whatever else there is to say.
        let rows_lost = is_sink && done.is_err();
        let done = match (done, overtaken) {
            (Err(error), _) => Err(error),
            (Ok(()), Overtaken::Known(in_flight)) => keep(&mut state, in_flight, &files).await,
            (Ok(()), Overtaken::TooMuch) => Err(Error::TooMuchInFlight),
            (Ok(()), Overtaken::GivenUp) => return None,
        };
        Some(match done {
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
                rows_lost,
            },
        })
    }
}

async fn keep(state: &mut SubtaskState, in_flight: InFlight, files: &JobFiles) -> Result<(), Error> {
    if in_flight.is_empty() {
        return Ok(());
    }
    let content = threads::blocking(move || in_flight.encode())
        .await
        .map_err(|error| Error::Operator {
            operator: "rows in flight".to_owned(),
            message: format!("they could not be encoded: {error}"),
        })??;
    state.in_flight = Some(files.write("in-flight", "rows", content.into()).await?);
    Ok(())
}
