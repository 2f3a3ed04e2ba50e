//! Standing by: watching whoever leads, until it is missing.
//!
//! The leader's address stands in its claim. A standby asks there who leads, again and again, and measures the silence
//! by its own monotonic clock; clocks are never compared. An answer counts only if it comes from a coordinator that
//! leads and has the epoch of the claim. Two standbys that lose patience at once claim one epoch after the other, and
//! the journal makes the later one the leader; the earlier one notices and stands by again.

use std::time::{Duration, Instant};

use millstream_state::log::Log;

use crate::coordinator::ledger::Ledger;
use crate::{Error, connect};

/// How often the leader is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A leader that did not answer for so long is missing.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);

/// Returns when nobody leads but whoever claims now. `is_gone` says of an epoch and the address of its leader whether that is
/// known to lead no longer; `told` hears who leads meanwhile.
pub async fn wait(journal: &Log, is_gone: impl Fn(u64, &str) -> bool, told: impl Fn(&str)) -> Result<(), Error> {
    loop {
        let contents = journal.read::<Ledger>().await?;
        let Some((epoch, leader)) = contents.leader() else {
            return Ok(());
        };
        if is_gone(epoch, leader) {
            return Ok(());
        }
        told(leader);
        if watch(journal, epoch, leader).await? == Next::Missing {
            tracing::warn!(
                leader,
                epoch,
                "the leader has not answered for {} ms; taking over",
                SILENCE_MAX.as_millis()
            );
            return Ok(());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It does not answer any more.
    Missing,
    /// Someone else has claimed the next epoch.
    Another,
}

async fn watch(journal: &Log, epoch: u64, leader: &str) -> Result<Next, Error> {
    let mut heard = Instant::now();
    loop {
        let asked = Instant::now();
        match connect::ask_who_leads(leader).await {
            Ok(info) if info.is_leader && info.epoch == epoch => heard = Instant::now(),
            Ok(_) => {
                // It leads no longer, or not yet: perhaps somebody else does.
                if journal.is_claimed(epoch + 1).await? {
                    return Ok(Next::Another);
                }
            }
            Err(reason) => tracing::debug!(leader, reason, "no answer"),
        }
        if heard.elapsed() >= SILENCE_MAX {
            // A standby next to this one may have been faster.
            return match journal.is_claimed(epoch + 1).await? {
                true => Ok(Next::Another),
                false => Ok(Next::Missing),
            };
        }
        tokio::time::sleep(PING_INTERVAL.saturating_sub(asked.elapsed())).await;
    }
}
