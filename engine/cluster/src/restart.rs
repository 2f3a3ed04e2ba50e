//! The restart strategy of a job: the delay before the next attempt after a failure, and when to give up.
//!
//! The retryability of an error ([`Retry`]) decides. After an outage (a broker that is down, a broken connection) the
//! job restarts from its latest complete checkpoint, after a delay that doubles each time, a limited number of times.
//! An error that would occur again in the same way (a row that does not decode, a panic, an invalid definition) ends
//! the job at once. Restarts because a disk is full are unlimited and counted apart. A checkpoint completed after a
//! restart resets the counts.

use std::time::Duration;

use millstream_store_errors::Retry;

/// Configuration of the restart strategy.
#[derive(Debug, Clone)]
pub struct Config {
    /// Delay before the first restart.
    pub delay_first: Duration,
    /// Longest delay.
    pub delay_max: Duration,
    /// Restarts in a row without a completed checkpoint.
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

/// The restart strategy of one job, with the restarts so far.
#[derive(Debug)]
pub struct RestartStrategy {
    config: Config,
    /// Restarts without a completed checkpoint in between, except those because of a full disk.
    failures_in_row: u32,
    /// Restarts because of a full disk, without another one in between.
    disk_full_in_row: u32,
    /// All restarts.
    pub total: u32,
}

impl RestartStrategy {
    /// Creates the strategy of a job that has not failed.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            failures_in_row: 0,
            disk_full_in_row: 0,
            total: 0,
        }
    }

    /// Returns the limit of restarts in a row.
    pub fn attempts_max(&self) -> u32 {
        self.config.attempts_max
    }

    /// Counts a failure and returns the delay before the next attempt; `None`: give up.
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

    /// Resets the counts after a completed checkpoint.
    pub fn reset(&mut self) {
        self.failures_in_row = 0;
        self.disk_full_in_row = 0;
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
    fn restarts_because_of_a_full_disk_are_unlimited_and_counted_apart() {
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
}
