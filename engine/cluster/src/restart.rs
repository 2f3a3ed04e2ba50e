//! Whether, and when, a failed attempt is tried again.
//!
//! Failures of the outside world (a broker that is down, a connection that broke) may pass: the job restarts
//! from its last complete checkpoint, waiting longer each time, up to a limit. What would fail again in the same way
//! (a row that does not decode, a panic, a definition that cannot work) ends the job at once. A checkpoint completed
//! after a restart is progress and starts the count anew.
//!
//! A full disk is an outage that only a person ends, at any time: restarts for want of space have no limit, and do not
//! count against it. [`Retry`] is the classification of every error; nothing else decides it.

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

/// Whether, and for how long, it is worth trying again after an error. Ordered by how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// It would fail again in the same way.
    Never,
    /// Up to [`Config::attempts_max`] times in a row.
    Limited,
    /// Until it succeeds: a disk is full.
    Unlimited,
}

impl Retry {
    /// As another process reports it.
    pub fn of_report(may_pass: bool, is_disk_full: bool) -> Self {
        match (may_pass, is_disk_full) {
            (_, true) => Self::Unlimited,
            (true, false) => Self::Limited,
            (false, false) => Self::Never,
        }
    }

    pub fn may_pass(self) -> bool {
        self != Self::Never
    }

    pub fn is_disk_full(self) -> bool {
        self == Self::Unlimited
    }
}

/// The restarts of one job so far.
#[derive(Debug)]
pub struct RestartStrategy {
    config: Config,
    /// Without a completed checkpoint in between, those for want of space not counted.
    failures_in_row: u32,
    /// For want of space, without anything else in between.
    disk_full_in_row: u32,
    pub total: u32,
}

impl RestartStrategy {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            failures_in_row: 0,
            disk_full_in_row: 0,
            total: 0,
        }
    }

    pub fn attempts_max(&self) -> u32 {
        self.config.attempts_max
    }

    /// How long to wait before the next attempt; `None`: give up.
    pub fn next_delay(&mut self, retry: Retry) -> Option<Duration> {
        let so_far = match retry {
            Retry::Never => return None,
            Retry::Limited if self.failures_in_row >= self.config.attempts_max => return None,
            Retry::Limited => {
                self.disk_full_in_row = 0;
                &mut self.failures_in_row
            }
            Retry::Unlimited => &mut self.disk_full_in_row,
        };
        let delay = self.config.delay_first.saturating_mul(1 << (*so_far).min(20));
        *so_far = so_far.saturating_add(1);
        self.total += 1;
        Some(delay.min(self.config.delay_max))
    }

    pub fn reset(&mut self) {
        self.failures_in_row = 0;
        self.disk_full_in_row = 0;
    }
}

/// Classifies an error of a whole job.
pub fn retry(error: &crate::Error) -> Retry {
    use crate::Error;
    match error {
        Error::Runtime(error) => retry_tasks(error),
        Error::Connector(error) => retry_connector(error),
        Error::State(error) => retry_state(error),
        Error::Invalid(_) | Error::Failed(_) => Retry::Never,
    }
}

/// Classifies a failure of tasks.
pub fn retry_tasks(error: &Error) -> Retry {
    match error {
        Error::Connector(error) => retry_connector(error),
        Error::State(error) => retry_state(error),
        Error::Remote {
            is_retryable,
            is_disk_full,
            ..
        } => Retry::of_report(*is_retryable, *is_disk_full),
        _ => Retry::Never,
    }
}

pub fn retry_connector(error: &millstream_connectors::Error) -> Retry {
    use millstream_connectors::Error;
    match error {
        Error::Unavailable(_) => Retry::Limited,
        Error::Io { source, .. } => retry_io(source),
        Error::ObjectStore(error) => retry_store(error),
        Error::Invalid(_) | Error::Data(_) | Error::Arrow(_) => Retry::Never,
    }
}

pub fn retry_state(error: &millstream_state::Error) -> Retry {
    use millstream_state::Error;
    match error {
        Error::DiskFull(_) => Retry::Unlimited,
        Error::Io { source, .. } => retry_io(source),
        Error::Storage { source, .. } => retry_store(source),
        Error::Unreachable(_) => Retry::Limited,
        error if error.is_local_damage() => Retry::Limited,
        _ => Retry::Never,
    }
}

fn retry_io(error: &std::io::Error) -> Retry {
    use std::io::ErrorKind;
    if millstream_state::disk::is_full(error) {
        return Retry::Unlimited;
    }
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidData
        | ErrorKind::UnexpectedEof
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::Unsupported => Retry::Never,
        _ => Retry::Limited,
    }
}

fn retry_store(error: &object_store::Error) -> Retry {
    match error {
        object_store::Error::Generic { .. } => Retry::Limited,
        _ => Retry::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_end() {
        let mut restarts = RestartStrategy::new(Config {
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(3),
            attempts_max: 3,
        });
        let delays: Vec<_> = (0..4)
            .map(|_| restarts.next_delay(Retry::Limited).map(|delay| delay.as_secs()))
            .collect();
        assert_eq!(delays, [Some(1), Some(2), Some(3), None]);
        restarts.reset();
        assert_eq!(restarts.next_delay(Retry::Limited), Some(Duration::from_secs(1)));
    }

    #[test]
    fn restarts_for_want_of_space_have_no_limit_and_leave_the_others_theirs() {
        let mut restarts = RestartStrategy::new(Config {
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(3),
            attempts_max: 2,
        });
        assert!(restarts.next_delay(Retry::Limited).is_some());
        let delays: Vec<_> = (0..100)
            .filter_map(|_| restarts.next_delay(Retry::Unlimited).map(|delay| delay.as_secs()))
            .collect();
        assert_eq!(delays.len(), 100);
        assert_eq!(delays[..4], [1, 2, 3, 3]);
        assert!(restarts.next_delay(Retry::Limited).is_some());
        assert_eq!(restarts.next_delay(Retry::Limited), None);
        assert_eq!(restarts.next_delay(Retry::Never), None);
    }

    #[test]
    fn only_the_outside_world_is_given_another_chance() {
        use millstream_connectors::Error as Connector;
        assert_eq!(
            retry_tasks(&Connector::Unavailable("broker".into()).into()),
            Retry::Limited
        );
        assert_eq!(retry_tasks(&Connector::Data("row".into()).into()), Retry::Never);
        assert_eq!(retry_tasks(&Connector::Invalid("option".into()).into()), Retry::Never);
        let panicked = Error::Operator {
            operator: "a".into(),
            message: "panicked".into(),
        };
        assert_eq!(retry_tasks(&panicked), Retry::Never);
    }

    #[test]
    fn a_full_disk_is_waited_for_wherever_it_shows() {
        let full = || std::io::Error::from_raw_os_error(libc::ENOSPC);
        let of_sink = millstream_connectors::Error::Io {
            context: "cannot write the file `a`".into(),
            source: full(),
        };
        let of_state = millstream_state::Error::write(std::path::Path::new("/"), "cannot write a")(full());
        assert!(
            matches!(&of_state, millstream_state::Error::DiskFull(said) if said.starts_with("no space left on /, ")),
            "{of_state}"
        );
        assert_eq!(retry_tasks(&of_sink.into()), Retry::Unlimited);
        assert_eq!(retry(&crate::Error::State(of_state)), Retry::Unlimited);
        let remote = Error::Remote {
            message: "worker a: no space left".into(),
            is_retryable: true,
            is_disk_full: true,
        };
        assert_eq!(retry(&crate::Error::Runtime(remote)), Retry::Unlimited);
    }
}
