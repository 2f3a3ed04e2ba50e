//! Why a job did not run, or did not end well.

/// An error of a whole job. Messages say what, where and what to do instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot work: trying again changes nothing.
    #[error("{0}")]
    Invalid(String),
    /// The job failed while it ran.
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Runtime(#[from] millstream_runtime::Error),
    #[error(transparent)]
    Connector(#[from] millstream_connectors::Error),
    #[error(transparent)]
    State(#[from] millstream_state::Error),
}

impl Error {
    /// Whether what was to be restored is not as it was written: an older checkpoint may be.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::State(error) | Self::Runtime(millstream_runtime::Error::State(error)) => error.is_damage(),
            _ => false,
        }
    }
}
