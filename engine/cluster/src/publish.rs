//! Publishing what a complete checkpoint contains: sinks' output becomes visible.
//!
//! Most sinks are told by the process that coordinates the job: their commit is a rename, or one request. Where output itself
//! is moved by it ([`Sink::commits_on_writer_process`]), each worker publishes what its own subtasks have written and
//! still has in memory, so that a wide job's output never passes through one process. After a failure whoever restores
//! the checkpoint publishes it, wherever it was written.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_connectors::{Committable, Sink};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Commits of one checkpoint are tried this often before the attempt fails (and the next one commits).
const COMMIT_TRIES_MAX: u32 = 5;

/// What one subtask of a sink has to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubtaskOutput {
    /// The operator's id.
    pub operator: String,
    pub subtask: usize,
    pub committables: Vec<Committable>,
}

/// Resolves when all is published, or with why it is not.
pub type Publishing = BoxFuture<'static, Result<(), Error>>;

/// Lets a sink publish, again where that may help.
pub async fn commit_with_retries(
    sink: &Arc<dyn Sink>,
    committables: Vec<Committable>,
) -> Result<(), millstream_connectors::Error> {
    let mut tries = 1;
    loop {
        match sink.commit(committables.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if tries < COMMIT_TRIES_MAX && error.retry().is_retryable() => {
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
