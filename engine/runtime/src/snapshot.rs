//! The part of one subtask in a checkpoint: taken on the slot thread, completed off it.

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

/// The part of one operator of one task in a checkpoint, with the work that remains to be done for it.
pub(crate) struct SnapshotPart {
    /// Id of the checkpoint.
    pub checkpoint: u64,
    pub operator: OperatorId,
    pub state: SubtaskState,
    /// The remaining work.
    pub work: Work,
    /// Rows that the barrier has overtaken on its way to the operator.
    pub channel_state: RecordedState,
    /// The checkpoint storage, for channel state.
    pub files: JobFiles,
}

/// The channel state of a part.
pub(crate) enum RecordedState {
    /// The overtaken rows; none in an aligned checkpoint.
    Complete(ChannelState),
    /// There were more rows than the limit: the part fails.
    TooLarge,
    /// A later checkpoint was requested, so this one is aborted.
    Aborted,
}

/// The work to complete a part.
pub(crate) enum Work {
    /// The part is complete.
    Nothing,
    /// The part has failed.
    Failed(Error),
    /// Writing and uploading files of keyed state.
    Keyed(SnapshotTicket),
    /// Making the rows of a sink durable.
    Prepare(BoxFuture<'static, Result<Vec<Committable>, millstream_connectors::Error>>),
}

impl SnapshotPart {
    /// Does the work and returns the resulting event, or `None` if the checkpoint was aborted.
    pub(crate) async fn complete(self) -> Option<TaskEvent> {
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
        // Rows that a sink could not prepare are lost, whatever becomes of the channel state.
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
            operator: "channel state".to_owned(),
            message: format!("it could not be encoded: {error}"),
        })??;
    state.channel_state = Some(files.write("in-flight", "rows", content.into()).await?);
    Ok(())
}
