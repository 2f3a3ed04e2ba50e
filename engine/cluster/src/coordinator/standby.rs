//! Standing by: watching whoever leads, until it is missing.
//!
//! The leader's address stands in its claim. A standby asks there who leads, again and again, and measures the silence
//! by its own monotonic clock; clocks are never compared. An answer counts only if it comes from a coordinator that
//! leads and has the epoch of the claim. Two standbys that lose patience at once claim one epoch after the other, and
//! the journal makes the later one the leader; the earlier one notices and stands by again.
//!
//! Two that do not reach each other's addresses would take the lead from one another for ever, each in good faith. So a
//! standby that claims without ever having heard the leader waits twice as long before it does so again ([`Patience`]).

use std::time::{Duration, Instant};

use millstream_state::log::Log;

use crate::coordinator::ledger::Ledger;
use crate::{Error, connect};

/// How often the leader is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A leader that did not answer for so long is missing.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);

const UNHEARD_SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a leader may be silent that was never heard: longer after each claim that was made so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(SILENCE_MAX)
    }
}

impl Patience {
    /// After a claim over a leader that was, or was never, heard.
    fn after_claim(self, was_heard: bool) -> Self {
        match was_heard {
            true => Self::default(),
            false => Self((self.0 * 2).min(UNHEARD_SILENCE_MAX)),
        }
    }
}

/// Returns when nobody leads but whoever claims now. `is_gone` says of an epoch and the address of its leader whether that is
/// known to lead no longer; `told` hears who leads meanwhile. The answer is the patience for the next time.
pub async fn wait(
    journal: &Log,
    mut patience: Patience,
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
        let (was_heard, why) = match watch(journal, patience, epoch, leader).await? {
            Next::Missing { was_heard, why } => (was_heard, Some(why)),
            Next::Another { was_heard } => (was_heard, None),
        };
        if let Some(why) = why {
            let silence = if was_heard { SILENCE_MAX } else { patience.0 };
            let never = if was_heard {
                ""
            } else {
                ", nor ever to this coordinator"
            };
            tracing::warn!(
                leader,
                epoch,
                "the leader has not answered for {} ms{never} ({why}); taking over",
                silence.as_millis()
            );
            return Ok(patience.after_claim(was_heard));
        }
        if was_heard {
            patience = Patience::default();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It does not answer, and why.
    Missing { was_heard: bool, why: String },
    /// Someone else has claimed the next epoch.
    Another { was_heard: bool },
}

async fn watch(journal: &Log, patience: Patience, epoch: u64, leader: &str) -> Result<Next, Error> {
    let mut heard = Instant::now();
    let mut silence_max = patience.0;
    let mut why = "it does not say that it leads".to_string();
    let mut said = String::new();
    let mut was_heard = false;
    loop {
        let asked = Instant::now();
        match connect::ask_who_leads(leader).await {
            Ok(info) if info.is_leader && info.epoch == epoch => {
                heard = Instant::now();
                silence_max = SILENCE_MAX;
                was_heard = true;
            }
            Ok(_) => {
                // It leads no longer, or not yet: perhaps somebody else does.
                if journal.is_claimed(epoch + 1).await? {
                    return Ok(Next::Another { was_heard });
                }
            }
            Err(reason) => {
                // One lost answer is nothing to talk about.
                if reason != said && why == reason {
                    tracing::warn!(leader, "the leader cannot be reached: {reason}");
                    said.clone_from(&reason);
                }
                why = reason;
            }
        }
        if heard.elapsed() >= silence_max {
            // A standby next to this one may have been faster.
            return match journal.is_claimed(epoch + 1).await? {
                true => Ok(Next::Another { was_heard }),
                false => Ok(Next::Missing { was_heard, why }),
            };
        }
        tokio::time::sleep(PING_INTERVAL.saturating_sub(asked.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_over_leaders_that_were_never_heard_become_rare() {
        let mut patience = Patience::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            patience = patience.after_claim(false);
            waits.push(patience.0.as_millis());
        }
        assert_eq!(waits, [5_000, 10_000, 20_000, 30_000]);
        assert_eq!(patience.after_claim(true), Patience::default());
    }
}
