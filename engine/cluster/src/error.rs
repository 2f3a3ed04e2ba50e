//! The error of a whole job.

use millstream_store_errors::Retry;

/// An error of a whole job. Messages state the cause, the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that cannot work: repeating it does not help.
    #[error("{0}")]
    Invalid(String),
    /// A failure of the running job.
    #[error("{0}")]
    Failed(String),
    /// A failure of the tasks.
    #[error(transparent)]
    Runtime(#[from] millstream_runtime::Error),
    /// A failure of a source or sink.
    #[error(transparent)]
    Connector(#[from] millstream_connectors::Error),
    /// A failure of a state store or of the checkpoint storage.
    #[error(transparent)]
    State(#[from] millstream_state::Error),
}

impl Error {
    /// Returns whether, and for how long, it is worth restarting the job.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Runtime(error) => error.retry(),
            Self::Connector(error) => error.retry(),
            Self::State(error) => error.retry(),
            Self::Invalid(_) | Self::Failed(_) => Retry::Never,
        }
    }

    /// Returns true if the checkpoint to restore is damaged; an older one may be intact.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::State(error) | Self::Runtime(millstream_runtime::Error::State(error)) => error.is_damage(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_connectors::Error as Connector;
    use millstream_runtime::Error as Runtime;
    use millstream_state::Error as State;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<Error>, expected: Retry) {
        let error = error.into();
        assert_eq!(error.retry(), expected, "{error}");
    }

    #[test]
    fn outages_are_retryable_and_mistakes_are_not() {
        check(Connector::Unavailable("broker".into()), Retry::Limited);
        check(Connector::Data("row".into()), Retry::Never);
        check(Connector::Invalid("option".into()), Retry::Never);
        check(
            Runtime::Connector(Connector::Unavailable("broker".into())),
            Retry::Limited,
        );
        check(State::Unreachable("bucket".into()), Retry::Limited);
        check(State::Superseded("claim".into()), Retry::Never);
        let operator = Runtime::Operator {
            operator: "a".into(),
            message: "panicked".into(),
        };
        check(operator, Retry::Never);
        check(Error::Failed("the tasks stopped".into()), Retry::Never);
    }

    #[test]
    fn a_full_disk_is_waited_for_wherever_it_shows() {
        let full = || std::io::Error::from_raw_os_error(libc::ENOSPC);
        let of_sink = || Connector::Io {
            context: "cannot write the file `a`".into(),
            source: full(),
        };
        let of_state = State::write(std::path::Path::new("/"), "cannot write a")(full());
        assert!(
            matches!(&of_state, State::DiskFull(message) if message.starts_with("no space left on /, ")),
            "{of_state}"
        );
        check(of_sink(), Retry::Unlimited);
        check(Runtime::Connector(of_sink()), Retry::Unlimited);
        check(of_state, Retry::Unlimited);
        let remote = Runtime::Remote {
            message: "worker a: no space left".into(),
            is_retryable: true,
            is_disk_full: true,
        };
        check(remote, Retry::Unlimited);
    }
}
