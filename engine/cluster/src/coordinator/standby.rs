//! Standing by: watching whoever leads, until it is missing.
//!
//! The leader's address stands in its claim. A standby asks there who leads, again and again, and measures the silence
//! by its own monotonic clock; clocks are never compared. An answer counts only if it comes from a coordinator that
//! leads and has the epoch of the claim. Two standbys that lose patience at once claim one epoch after the other, and
//! the journal makes the later one the leader; the earlier one notices and stands by again.
//!
//! Only a leader at whose address nobody listens any more is certainly gone. One that answers too late may merely have got
//! no CPU for a while, and one that was never heard may only be out of this standby's reach: two coordinators of that
//! kind would take the lead from one another for ever, each in good faith. So after a claim that may have been wrong a
//! coordinator has twice the [`LeaderTimeout`] for the next leader, in how long it may be silent and in how long it may take
//! to answer.

use std::time::{Duration, Instant};

use millstream_state::log::Log;

use crate::connect::PingError;
use crate::coordinator::ledger::Ledger;
use crate::{Error, connect};

/// How often the leader is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A leader that did not answer for so long is missing.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);
/// The most patience with a leader that once answered, and with one that never did.
const LATE_SILENCE_MAX: Duration = Duration::from_secs(10);
const UNREACHED_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Silence is that of the leader only if it was asked this often meanwhile: this process, too, may not have run.
const UNANSWERED_MIN: u32 = 3;
/// The most time for one answer.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(3);
/// A claim that may have been wrong is forgotten after so long.
const BACKOFF_RESET: Duration = Duration::from_secs(300);

/// How long a leader may be silent: longer after each claim that may have been wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaderTimeout {
    /// When the last of them was made, and how much patience there is since.
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

/// Returns when nobody leads but whoever claims now. `is_gone` says of an epoch and the address of its leader whether that is
/// known to lead no longer; `on_leader` hears who leads meanwhile. The answer is the patience for the next time.
pub async fn wait_until_leaderless(
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

/// A leader that is to be replaced.
#[derive(Debug, PartialEq, Eq)]
struct LostLeader {
    silence: Duration,
    was_reached: bool,
    /// Nobody listens where the leader once answered.
    is_certain: bool,
    why: String,
}

impl std::fmt::Display for LostLeader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let never = match self.was_reached {
            true => "",
            false => ", nor ever to this coordinator",
        };
        let (ms, why) = (self.silence.as_millis(), &self.why);
        write!(formatter, "has not answered for {ms} ms{never} ({why})")
    }
}

/// Watches one leader until it is missing, or (`None`) somebody else has claimed the next epoch.
async fn watch(journal: &Log, timeout: LeaderTimeout, epoch: u64, leader: &str) -> Result<Option<LostLeader>, Error> {
    let mut detector = FailureDetector::new(timeout, Instant::now());
    let mut why = "it does not say that it leads".to_string();
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
                // It leads no longer, or not yet: perhaps somebody else does.
                if journal.is_claimed(epoch + 1).await? {
                    return Ok(None);
                }
                Some(false)
            }
            Err(unanswered) => {
                let reason = unanswered.to_string();
                // One lost answer is nothing to talk about.
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
            // A standby next to this one may have been faster.
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

/// Decides whether a leader is missing.
#[derive(Debug)]
struct FailureDetector {
    timeout: LeaderTimeout,
    last_answer: Instant,
    was_reached: bool,
    /// How often it was asked since then, in vain.
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

    /// Whether it is missing by now.
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

    /// So that it can be asked often enough before patience ends.
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
