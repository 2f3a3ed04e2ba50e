//! What ends a task.

/// An error of a running task. Each names the operator and says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operator}: {message}")]
    Operator { operator: String, message: String },
    /// In another process, of which only the words are known here.
    #[error("{message}")]
    Elsewhere {
        message: String,
        may_pass: bool,
        /// It passes once there is space on a disk there.
        is_disk_full: bool,
    },
    #[error(
        "more rows were in flight than a checkpoint keeps of one task ({} MB, RECORDED_BYTES_MAX); the next one waits for \
         them",
        crate::inputs::RECORDED_BYTES_MAX >> 20
    )]
    TooMuchInFlight,
    #[error(transparent)]
    Connector(#[from] millstream_connectors::Error),
    #[error(transparent)]
    State(#[from] millstream_state::Error),
    #[error(transparent)]
    DataFusion(#[from] datafusion::error::DataFusionError),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}
