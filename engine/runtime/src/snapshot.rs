//! A subtask's part of a checkpoint: cut on the slot thread, finished off it.

use futures::future::BoxFuture;
use millstream_connectors::Committable;
use millstream_fail_point as fail_point;
use millstream_graph::OperatorId;
use millstream_state::SnapshotTicket;
use millstream_state::job_files::JobFiles;
use millstream_state::threads;

use crate::Error;
use crate::channel_state::ChannelState;
use crate::command::TaskEvent;
use crate::inputs::RECORDED_BYTES_MAX;
use crate::subtask_state::SubtaskState;

/// What one operator of one task contributes to a checkpoint, with the work that is still to be done for it.
pub struct SnapshotPart {
    pub checkpoint: u64,
    pub operator: OperatorId,
    pub state: SubtaskState,
    pub work: Work,
    pub channel_state: RecordedState,
    /// Where what is in flight is kept.
    pub files: JobFiles,
}

/// What a checkpoint's barrier has overtaken on its way.
pub enum RecordedState {
    /// Nothing, mostly.
    Complete(ChannelState),
    /// More than is kept: the checkpoint is declined.
    TooLarge,
    /// A later checkpoint was asked for: this one has come to nothing.
    Aborted,
}

pub enum Work {
    Nothing,
    /// There is nothing to be had: the checkpoint is declined.
    Failed(Error),
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
            channel_state: recorded,
            files,
        } = self;
        let is_sink = matches!(work, Work::Prepare(_));
        let done: Result<(), Error> = match work {
            Work::Nothing => Ok(()),
            Work::Failed(error) => Err(error),
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
        let done = match (done, recorded) {
            (Err(error), _) => Err(error),
            (Ok(()), RecordedState::Complete(channel_state)) => {
                store_channel_state(&mut state, channel_state, &files).await
            }
            (Ok(()), RecordedState::TooLarge) => Err(Error::ChannelStateTooLarge {
                bytes_max: RECORDED_BYTES_MAX,
            }),
            (Ok(()), RecordedState::Aborted) => return None,
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

async fn store_channel_state(
    state: &mut SubtaskState,
    channel_state: ChannelState,
    files: &JobFiles,
) -> Result<(), Error> {
    if channel_state.is_empty() {
        return Ok(());
    }
    let content = threads::run_blocking(move || channel_state.encode())
        .await
        .map_err(|error| Error::Operator {
            operator: "rows in flight".to_owned(),
            message: format!("they could not be encoded: {error}"),
        })??;
    state.channel_state = Some(files.write("in-flight", "rows", content.into()).await?);
    Ok(())
}
