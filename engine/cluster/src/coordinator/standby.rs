//! Standing by: monitors the leader and takes over when it fails.
//!
//! The leader's address is part of its claim. A standby pings it and measures the time without an answer by its own
//! monotonic clock; clocks of machines are never compared. Only an answer from a coordinator that leads with the
//! claim's epoch counts. Two standbys that take over at once claim consecutive epochs; the later claim wins, and the
//! other coordinator stands by again.
//!
//! Failure is certain only if the leader's port refuses connections. A leader that answers late may have been short
//! of CPU, and one that never answered may only be unreachable from this standby. Two coordinators in this situation
//! would take the lead from each other forever. After a claim that may have been wrong, a coordinator therefore
//! doubles the [`LeaderTimeout`] for the next leader: the time without an answer and the time for one answer.

use std::time::{Duration, Instant};

use millstream_state::log::Log;

use crate::connect::PingError;
use crate::coordinator::ledger::Ledger;
use crate::{Error, connect};

/// Interval of the pings.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// Time without an answer after which a leader has failed.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);
/// Longest timeout for a leader that once answered, and for one that never did.
const LATE_SILENCE_MAX: Duration = Duration::from_secs(10);
const UNREACHED_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Number of unanswered pings before a leader has failed: this process may have been paused, too.
const UNANSWERED_MIN: u32 = 3;
/// Longest time for one answer.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(3);
/// Time after which a claim that may have been wrong has no effect on the timeout any more.
const BACKOFF_RESET: Duration = Duration::from_secs(300);

/// Time without an answer after which a leader has failed. It doubles after each claim that may have been wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeaderTimeout {
    /// Time of the last such claim, and the timeout since.
    backoff: Option<(Instant, Duration)>,
}

impl LeaderTimeout {
    fn silence_max(self, now: Instant) -> Duration {
        match self.backoff {
            Some((since, silence_max)) if now.duration_since(since) < BACKOFF_RESET => silence_max,
            _ => SILENCE_MAX,
        }
    }

    fn after_uncertain_claim(self, now: Instant) -> Self {
        let silence_max = (self.silence_max(now) * 2).min(UNREACHED_SILENCE_MAX);
        Self {
            backoff: Some((now, silence_max)),
        }
    }
}

/// Returns once no leader is alive, so the caller may claim leadership. `is_gone` tells whether the leader of an
/// epoch and address is known to have ended. `on_leader` is called with each leader's address. Returns the timeout
/// for the next leader.
pub(super) async fn wait_until_leaderless(
    journal: &Log,
    timeout: LeaderTimeout,
    is_gone: impl Fn(u64, &str) -> bool,
    on_leader: impl Fn(&str),
) -> Result<LeaderTimeout, Error> {
    loop {
        let contents = journal.read::<Ledger>().await?;
        let Some((epoch, leader)) = contents.leader() else {
            return Ok(timeout);
        };
        if is_gone(epoch, leader) {
            return Ok(timeout);
        }
        on_leader(leader);
        let Some(lost) = watch(journal, timeout, epoch, leader).await? else {
            continue;
        };
        tracing::warn!(leader, epoch, "the leader {lost}; taking over");
        return Ok(match lost.is_certain {
            true => timeout,
            false => timeout.after_uncertain_claim(Instant::now()),
        });
    }
}

/// A leader that has failed.
#[derive(Debug, PartialEq, Eq)]
struct LostLeader {
    silence: Duration,
    was_reached: bool,
    /// Its port refuses connections, and it answered before.
    is_certain: bool,
    why: String,
}

impl std::fmt::Display for LostLeader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let never = match self.was_reached {
            true => "",
            false => "and has never answered this coordinator",
        };
        let (ms, why) = (self.silence.as_millis(), &self.why);
        write!(formatter, "has not answered for {ms} ms{never} ({why})")
    }
}

/// Monitors one leader until it fails. Returns `None` if another coordinator has claimed the next epoch.
async fn watch(journal: &Log, timeout: LeaderTimeout, epoch: u64, leader: &str) -> Result<Option<LostLeader>, Error> {
    let mut detector = FailureDetector::new(timeout, Instant::now());
    let mut why = "it does not report that it leads".to_string();
    let mut warned_reason = String::new();
    loop {
        let asked = Instant::now();
        let timeout = detector.answer_timeout(asked);
        let is_refused = match connect::coordinator_info(leader, timeout).await {
            Ok(info) if info.is_leader && info.epoch == epoch => {
                detector.on_answer(Instant::now());
                None
            }
            Ok(_) => {
                // It leads no longer, or not yet. Another coordinator may.
                if journal.is_claimed(epoch + 1).await? {
                    return Ok(None);
                }
                Some(false)
            }
            Err(unanswered) => {
                let reason = unanswered.to_string();
                // A single unanswered ping is not logged.
                if reason != warned_reason && why == reason {
                    tracing::warn!(leader, "the leader cannot be reached: {reason}");
                    warned_reason.clone_from(&reason);
                }
                why = reason;
                Some(matches!(unanswered, PingError::Refused(_)))
            }
        };
        if let Some(is_refused) = is_refused
            && detector.on_no_answer(Instant::now(), is_refused)
        {
            // Another standby may have claimed first.
            return Ok(match journal.is_claimed(epoch + 1).await? {
                true => None,
                false => Some(LostLeader {
                    silence: detector.last_answer.elapsed(),
                    was_reached: detector.was_reached,
                    is_certain: detector.was_reached && is_refused,
                    why,
                }),
            });
        }
        tokio::time::sleep(PING_INTERVAL.saturating_sub(asked.elapsed())).await;
    }
}

/// Decides when a leader has failed.
#[derive(Debug)]
struct FailureDetector {
    timeout: LeaderTimeout,
    last_answer: Instant,
    was_reached: bool,
    /// Number of unanswered pings since the last answer.
    unanswered: u32,
}

impl FailureDetector {
    fn new(timeout: LeaderTimeout, now: Instant) -> Self {
        Self {
            timeout,
            last_answer: now,
            was_reached: false,
            unanswered: 0,
        }
    }

    fn on_answer(&mut self, now: Instant) {
        self.last_answer = now;
        self.was_reached = true;
        self.unanswered = 0;
    }

    /// Handles a ping without an answer. Returns true if the leader has failed.
    fn on_no_answer(&mut self, now: Instant, is_refused: bool) -> bool {
        self.unanswered += 1;
        self.unanswered >= UNANSWERED_MIN && now.duration_since(self.last_answer) >= self.silence_max(now, is_refused)
    }

    fn silence_max(&self, now: Instant, is_refused: bool) -> Duration {
        match (self.was_reached, is_refused) {
            (true, true) => SILENCE_MAX,
            (true, false) => self.timeout.silence_max(now).min(LATE_SILENCE_MAX),
            (false, _) => self.timeout.silence_max(now),
        }
    }

    /// Returns the time for one answer, such that enough pings fit into the timeout.
    fn answer_timeout(&self, now: Instant) -> Duration {
        (self.silence_max(now, false) / UNANSWERED_MIN).min(ANSWER_TIMEOUT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// After how long a leader is replaced that answered once and is then asked every half second in vain.
    #[track_caller]
    fn replaced_after(timeout: LeaderTimeout, was_reached: bool, is_refused: bool) -> Duration {
        let begin = Instant::now();
        let mut detector = FailureDetector::new(timeout, begin);
        if was_reached {
            detector.on_answer(begin);
        }
        let tries = (1..200).map(|half_second| begin + PING_INTERVAL * half_second);
        let lost = tries.into_iter().find(|now| detector.on_no_answer(*now, is_refused));
        lost.expect("it is replaced some time").duration_since(begin)
    }

    #[test]
    fn claims_that_may_be_wrong_become_rare_and_are_forgotten() {
        let now = Instant::now();
        let mut timeout = LeaderTimeout::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            timeout = timeout.after_uncertain_claim(now);
            waits.push(timeout.silence_max(now).as_millis());
        }
        assert_eq!(waits, [5_000, 10_000, 20_000, 30_000]);
        assert_eq!(timeout.silence_max(now + BACKOFF_RESET), SILENCE_MAX);
    }

    #[test]
    fn a_leader_that_nobody_hears_has_more_time_after_a_doubtful_claim_but_one_that_is_gone_has_not() {
        let fresh = LeaderTimeout::default();
        for (was_reached, is_refused) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(replaced_after(fresh, was_reached, is_refused), SILENCE_MAX);
        }
        let doubtful = fresh.after_uncertain_claim(Instant::now());
        assert_eq!(replaced_after(doubtful, true, true), SILENCE_MAX);
        assert_eq!(replaced_after(doubtful, true, false), ms(5_000));
        assert_eq!(replaced_after(doubtful, false, true), ms(5_000));
        let very = (0..4).fold(fresh, |timeout, _| timeout.after_uncertain_claim(Instant::now()));
        assert_eq!(replaced_after(very, true, false), LATE_SILENCE_MAX);
        assert_eq!(replaced_after(very, false, true), UNREACHED_SILENCE_MAX);
    }

    #[test]
    fn a_standby_that_did_not_run_itself_asks_again_before_it_claims() {
        let begin = Instant::now();
        let mut detector = FailureDetector::new(LeaderTimeout::default(), begin);
        detector.on_answer(begin);
        assert!(!detector.on_no_answer(begin + ms(60_000), false));
        assert!(!detector.on_no_answer(begin + ms(60_500), false));
        assert!(detector.on_no_answer(begin + ms(61_000), false));
    }

    #[test]
    fn answers_may_take_longer_where_there_is_more_patience() {
        let now = Instant::now();
        let mut detector = FailureDetector::new(LeaderTimeout::default(), now);
        assert_eq!(detector.answer_timeout(now).as_millis(), 833);
        detector.timeout = detector.timeout.after_uncertain_claim(now);
        assert_eq!(detector.answer_timeout(now).as_millis(), 1_666);
        detector.timeout = detector.timeout.after_uncertain_claim(now);
        assert_eq!(detector.answer_timeout(now), ANSWER_TIMEOUT_MAX);
    }
}
