//! Publishing the output of a complete checkpoint: the commits of sinks.
//!
//! Most sinks commit in the process that coordinates the job, because their commit is a rename or one request. If the
//! commit moves the output itself ([`Sink::commits_on_writer_process`]), each worker commits the output of its own
//! subtasks, which it still has in memory, so that the output of a job does not pass through one process. After a
//! failure the process that restores the checkpoint publishes the output, wherever it was written.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_connectors::{Committable, Sink};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Largest number of tries of a commit; after that the attempt fails, and the next one commits.
const COMMIT_TRIES_MAX: u32 = 5;

/// The output of one subtask of a sink.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubtaskOutput {
    /// Id of the sink's operator.
    pub operator: String,
    /// Number of the subtask.
    pub subtask: usize,
    /// The output to commit.
    pub committables: Vec<Committable>,
}

/// A publication by workers. Resolves when all output is published, or to the error.
pub(crate) type Publishing = BoxFuture<'static, Result<(), Error>>;

/// Commits the output of a complete checkpoint, and retries after retryable errors.
pub(crate) async fn commit_with_retries(
    sink: &Arc<dyn Sink>,
    committables: Vec<Committable>,
) -> Result<(), millstream_connectors::Error> {
    with_retries(|| sink.commit(committables.clone())).await
}

/// Publishes the output of a restored checkpoint, and retries after retryable errors.
pub(crate) async fn recover_with_retries(
    sink: &Arc<dyn Sink>,
    committables: Vec<Committable>,
) -> Result<(), millstream_connectors::Error> {
    with_retries(|| sink.recover(committables.clone())).await
}

async fn with_retries<F>(publish: impl Fn() -> F) -> Result<(), millstream_connectors::Error>
where
    F: Future<Output = Result<(), millstream_connectors::Error>>,
{
    let mut tries = 1;
    loop {
        match publish().await {
            Ok(()) => return Ok(()),
            Err(error) if tries < COMMIT_TRIES_MAX && error.retry().is_retryable() => {
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
