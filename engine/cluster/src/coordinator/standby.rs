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
//! coordinator has twice the [`Patience`] for the next leader, in how long it may be silent and in how long it may take
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
const UNHEARD_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Silence is that of the leader only if it was asked this often meanwhile: this process, too, may not have run.
const UNANSWERED_MIN: u32 = 3;
/// The most time for one answer.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(3);
/// A claim that may have been wrong is forgotten after so long.
const DOUBT_MAX: Duration = Duration::from_secs(300);

/// How long a leader may be silent: longer after each claim that may have been wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// When the last of them was made, and how much patience there is since.
    doubt: Option<(Instant, Duration)>,
}

impl Patience {
    fn silence_max(self, now: Instant) -> Duration {
        match self.doubt {
            Some((since, silence_max)) if now.duration_since(since) < DOUBT_MAX => silence_max,
            _ => SILENCE_MAX,
        }
    }

    fn after_doubtful_claim(self, now: Instant) -> Self {
        let silence_max = (self.silence_max(now) * 2).min(UNHEARD_SILENCE_MAX);
        Self {
            doubt: Some((now, silence_max)),
        }
    }
}

/// Returns when nobody leads but whoever claims now. `is_gone` says of an epoch and the address of its leader whether that is
/// known to lead no longer; `told` hears who leads meanwhile. The answer is the patience for the next time.
pub async fn wait(
    journal: &Log,
    patience: Patience,
    is_gone: impl Fn(u64, &str) -> bool,
    told: impl Fn(&str),
) -> Result<Patience, Error> {
    loop {
        let contents = journal.read::<Ledger>().await?;
        let Some((epoch, leader)) = contents.leader() else {
            return Ok(patience);
        };
        if is_gone(epoch, leader) {
            return Ok(patience);
        }
        told(leader);
        let Some(missing) = watch(journal, patience, epoch, leader).await? else {
            continue;
        };
        tracing::warn!(leader, epoch, "the leader {missing}; taking over");
        return Ok(match missing.is_certain {
            true => patience,
            false => patience.after_doubtful_claim(Instant::now()),
        });
    }
}

/// A leader that is to be replaced.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    silence: Duration,
    was_heard: bool,
    /// Nobody listens where the leader once answered.
    is_certain: bool,
    why: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let never = match self.was_heard {
            true => "",
            false => ", nor ever to this coordinator",
        };
        let (ms, why) = (self.silence.as_millis(), &self.why);
        write!(formatter, "has not answered for {ms} ms{never} ({why})")
    }
}

/// Watches one leader until it is missing, or (`None`) somebody else has claimed the next epoch.
async fn watch(journal: &Log, patience: Patience, epoch: u64, leader: &str) -> Result<Option<Missing>, Error> {
    let mut watch = Watch::begin(patience, Instant::now());
    let mut why = "it does not say that it leads".to_string();
    let mut said = String::new();
    loop {
        let asked = Instant::now();
        let timeout = watch.answer_timeout(asked);
        let is_refused = match connect::coordinator_info(leader, timeout).await {
            Ok(info) if info.is_leader && info.epoch == epoch => {
                watch.heard(Instant::now());
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
                if reason != said && why == reason {
                    tracing::warn!(leader, "the leader cannot be reached: {reason}");
                    said.clone_from(&reason);
                }
                why = reason;
                Some(matches!(unanswered, PingError::Refused(_)))
            }
        };
        if let Some(is_refused) = is_refused
            && watch.unanswered(Instant::now(), is_refused)
        {
            // A standby next to this one may have been faster.
            return Ok(match journal.is_claimed(epoch + 1).await? {
                true => None,
                false => Some(Missing {
                    silence: watch.last_heard.elapsed(),
                    was_heard: watch.was_heard,
                    is_certain: watch.was_heard && is_refused,
                    why,
                }),
            });
        }
        tokio::time::sleep(PING_INTERVAL.saturating_sub(asked.elapsed())).await;
    }
}

/// Decides whether a leader is missing.
#[derive(Debug)]
struct Watch {
    patience: Patience,
    last_heard: Instant,
    was_heard: bool,
    /// How often it was asked since then, in vain.
    unanswered: u32,
}

impl Watch {
    fn begin(patience: Patience, now: Instant) -> Self {
        Self {
            patience,
            last_heard: now,
            was_heard: false,
            unanswered: 0,
        }
    }

    fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.was_heard = true;
        self.unanswered = 0;
    }

    /// Whether it is missing by now.
    fn unanswered(&mut self, now: Instant, is_refused: bool) -> bool {
        self.unanswered += 1;
        self.unanswered >= UNANSWERED_MIN && now.duration_since(self.last_heard) >= self.silence_max(now, is_refused)
    }

    fn silence_max(&self, now: Instant, is_refused: bool) -> Duration {
        match (self.was_heard, is_refused) {
            (true, true) => SILENCE_MAX,
            (true, false) => self.patience.silence_max(now).min(LATE_SILENCE_MAX),
            (false, _) => self.patience.silence_max(now),
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
    fn replaced_after(patience: Patience, was_heard: bool, is_refused: bool) -> Duration {
        let begin = Instant::now();
        let mut watch = Watch::begin(patience, begin);
        if was_heard {
            watch.heard(begin);
        }
        let tries = (1..200).map(|half_second| begin + PING_INTERVAL * half_second);
        let missing = tries.into_iter().find(|now| watch.unanswered(*now, is_refused));
        missing.expect("it is replaced some time").duration_since(begin)
    }

    #[test]
    fn claims_that_may_be_wrong_become_rare_and_are_forgotten() {
        let now = Instant::now();
        let mut patience = Patience::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            patience = patience.after_doubtful_claim(now);
            waits.push(patience.silence_max(now).as_millis());
        }
        assert_eq!(waits, [5_000, 10_000, 20_000, 30_000]);
        assert_eq!(patience.silence_max(now + DOUBT_MAX), SILENCE_MAX);
    }

    #[test]
    fn a_leader_that_nobody_hears_has_more_time_after_a_doubtful_claim_but_one_that_is_gone_has_not() {
        let fresh = Patience::default();
        for (was_heard, is_refused) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(replaced_after(fresh, was_heard, is_refused), SILENCE_MAX);
        }
        let doubtful = fresh.after_doubtful_claim(Instant::now());
        assert_eq!(replaced_after(doubtful, true, true), SILENCE_MAX);
        assert_eq!(replaced_after(doubtful, true, false), ms(5_000));
        assert_eq!(replaced_after(doubtful, false, true), ms(5_000));
        let very = (0..4).fold(fresh, |patience, _| patience.after_doubtful_claim(Instant::now()));
        assert_eq!(replaced_after(very, true, false), LATE_SILENCE_MAX);
        assert_eq!(replaced_after(very, false, true), UNHEARD_SILENCE_MAX);
    }

    #[test]
    fn a_standby_that_did_not_run_itself_asks_again_before_it_claims() {
        let begin = Instant::now();
        let mut watch = Watch::begin(Patience::default(), begin);
        watch.heard(begin);
        assert!(!watch.unanswered(begin + ms(60_000), false));
        assert!(!watch.unanswered(begin + ms(60_500), false));
        assert!(watch.unanswered(begin + ms(61_000), false));
    }

    #[test]
    fn answers_may_take_longer_where_there_is_more_patience() {
        let now = Instant::now();
        let mut watch = Watch::begin(Patience::default(), now);
        assert_eq!(watch.answer_timeout(now).as_millis(), 833);
        watch.patience = watch.patience.after_doubtful_claim(now);
        assert_eq!(watch.answer_timeout(now).as_millis(), 1_666);
        watch.patience = watch.patience.after_doubtful_claim(now);
        assert_eq!(watch.answer_timeout(now), ANSWER_TIMEOUT_MAX);
    }
}
