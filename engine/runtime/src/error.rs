//! The errors that end a task or fail its part of a checkpoint.

use millstream_store_errors::Retry;

/// An error of a running task, or of its part of a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operator failed, or a part of the runtime that is named like one.
    #[error("{operator}: {message}")]
    Operator {
        /// Id of the operator.
        operator: String,
        /// The cause and, where there is one, the remedy.
        message: String,
    },
    /// An error in another process, of which only the message is known here.
    #[error("{message}")]
    Remote {
        /// The message of the error in that process.
        message: String,
        /// True if the job may succeed when it is restarted.
        is_retryable: bool,
        /// True if the cause is a full disk in that process: the job can go on once there is space.
        is_disk_full: bool,
    },
    /// The channel state of one task exceeds the limit. The checkpoint fails; the job goes on.
    #[error(
        "the channel state of one task exceeds {} MB (RECORDED_BYTES_MAX); the next checkpoint waits for alignment",
        .bytes_max >> 20
    )]
    ChannelStateTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// A source or a sink failed.
    #[error(transparent)]
    Connector(#[from] millstream_connectors::Error),
    /// A state store failed.
    #[error(transparent)]
    State(#[from] millstream_state::Error),
    /// An expression or an aggregate failed.
    #[error(transparent)]
    DataFusion(#[from] datafusion::error::DataFusionError),
    /// A columnar computation failed.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Error {
    /// Returns whether, and for how long, it is worth restarting the task.
    pub fn retry(&self) -> Retry {
        match self {
            Error::Connector(error) => error.retry(),
            Error::State(error) => error.retry(),
            Error::Remote {
                is_retryable,
                is_disk_full,
                ..
            } => Retry::from_report(*is_retryable, *is_disk_full),
            Error::Operator { .. } | Error::ChannelStateTooLarge { .. } | Error::DataFusion(_) | Error::Arrow(_) => {
                Retry::Never
            }
        }
    }
}
