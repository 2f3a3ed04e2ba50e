//! Whether, and when, a failed attempt is tried again.
//!
//! What failed because of the outside world (a broker that is down, a disk that was full) may pass: the job restarts
//! from its last complete checkpoint, waiting longer each time, up to a limit. What would fail again in the same way
//! (a row that does not decode, a panic, a definition that cannot work) ends the job at once. A checkpoint completed
//! after a restart is progress and starts the count anew.

use std::time::Duration;

use millstream_runtime::Error;

#[derive(Debug, Clone)]
pub struct Config {
    pub delay_first: Duration,
    pub delay_max: Duration,
    /// Restarts without a completed checkpoint in between.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delay_first: Duration::from_millis(200),
            delay_max: Duration::from_secs(60),
            attempts_max: 10,
        }
    }
}

/// The restarts of one job so far.
#[derive(Debug)]
pub struct Restarts {
    config: Config,
    in_row: u32,
    pub total: u32,
}

impl Restarts {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            in_row: 0,
            total: 0,
        }
    }

    pub fn attempts_max(&self) -> u32 {
        self.config.attempts_max
    }

    /// How long to wait before the next attempt; `None`: give up.
    pub fn after_failure(&mut self) -> Option<Duration> {
        if self.in_row >= self.config.attempts_max {
            return None;
        }
        let delay = self.config.delay_first.saturating_mul(1 << self.in_row.min(20));
        self.in_row += 1;
        self.total += 1;
        Some(delay.min(self.config.delay_max))
    }

    pub fn on_progress(&mut self) {
        self.in_row = 0;
    }
}

/// Whether an error may pass by itself.
pub fn error_may_pass(error: &crate::Error) -> bool {
    use crate::Error;
    match error {
        Error::Runtime(error) => may_pass(error),
        Error::Connector(error) => connector_error_may_pass(error),
        Error::State(error) => state_error_may_pass(error),
        Error::Invalid(_) | Error::Failed(_) => false,
    }
}

/// Whether a failure of tasks may pass by itself.
pub fn may_pass(error: &Error) -> bool {
    match error {
        Error::Connector(error) => connector_error_may_pass(error),
        Error::State(error) => state_error_may_pass(error),
        Error::Elsewhere { may_pass, .. } => *may_pass,
        _ => false,
    }
}

pub fn connector_error_may_pass(error: &millstream_connectors::Error) -> bool {
    use millstream_connectors::Error;
    match error {
        Error::Unavailable(_) => true,
        Error::Io { source, .. } => io_error_may_pass(source),
        Error::ObjectStore(error) => store_error_may_pass(error),
        Error::Invalid(_) | Error::Data(_) | Error::Arrow(_) => false,
    }
}

pub fn state_error_may_pass(error: &millstream_state::Error) -> bool {
    use millstream_state::Error;
    match error {
        Error::Io { source, .. } => io_error_may_pass(source),
        Error::Storage { source, .. } => store_error_may_pass(source),
        Error::Unreachable(_) => true,
        error => error.is_local_damage(),
    }
}

fn io_error_may_pass(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    !matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidData
            | ErrorKind::UnexpectedEof
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::Unsupported
    )
}

fn store_error_may_pass(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_end() {
        let mut restarts = Restarts::new(Config {
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(3),
            attempts_max: 3,
        });
        let delays: Vec<_> = (0..4)
            .map(|_| restarts.after_failure().map(|delay| delay.as_secs()))
            .collect();
        assert_eq!(delays, [Some(1), Some(2), Some(3), None]);
        restarts.on_progress();
        assert_eq!(restarts.after_failure(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn only_the_outside_world_is_given_another_chance() {
        use millstream_connectors::Error as Connector;
        assert!(may_pass(&Connector::Unavailable("broker".into()).into()));
        assert!(!may_pass(&Connector::Data("row".into()).into()));
        assert!(!may_pass(&Connector::Invalid("option".into()).into()));
        assert!(!may_pass(&Error::Operator {
            operator: "a".into(),
            message: "panicked".into(),
        }));
    }
}
