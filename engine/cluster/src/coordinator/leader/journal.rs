//! The leader's use of the cluster's journal: requests are written before they take effect, transitions soon after.

use std::sync::Arc;
use std::time::Duration;

use millstream_state::log::Writer;
use tracing::{Instrument, Span};

use super::Leader;
use crate::Error;
use crate::api::{self, Code};
use crate::coordinator::errors::internal;
use crate::coordinator::ledger::{Change, Ledger};
use crate::coordinator::now_us;
use crate::coordinator::state::{Event, Request, RunId};

/// Interval of the checks whether another coordinator has claimed the journal.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which transitions are collected before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// Pause before a failed write is repeated.
const JOURNAL_RETRY: Duration = Duration::from_secs(2);

impl Leader {
    /// Checks, journals and applies a request, even if the caller stops waiting. After an error either nothing was
    /// changed, or the error says that the outcome is unknown.
    pub async fn change(self: &Arc<Self>, request: Request) -> Result<(), api::Error> {
        // A run that the request starts is recorded as caused by the call.
        let changing = self.clone().change_to_end(request).instrument(Span::current());
        let changed = tokio::spawn(changing);
        changed.await.map_err(|error| internal(&error))?
    }

    async fn change_to_end(self: Arc<Self>, request: Request) -> Result<(), api::Error> {
        let mut journal = self.journal.lock().await;
        self.check_not_ended()?;
        // The request is checked against everything that the journal has.
        if let Err(error) = self.resolve_uncertain_put(&mut journal).await {
            self.end_if_superseded(&error);
            self.check_not_ended()?;
            return Err(api::Error::new(
                Code::Unavailable,
                format!("the cluster's journal could not be written, so nothing was changed: {error}"),
            ));
        }
        let change = self.inner.lock().state.request(request, now_us())?;
        let Err(error) = self.append(&mut journal, Some(change)).await else {
            return Ok(());
        };
        self.end_if_superseded(&error);
        if !journal.is_uncertain() {
            self.check_not_ended()?;
        }
        self.flush.notify_one();
        Err(api::Error::new(
            Code::Unavailable,
            format!(
                "it is not known whether the request took effect, as the cluster's journal did not answer: {error}; check the \
                 present state before trying again"
            ),
        ))
    }

    /// Determines whether the journal has the record that was put last, if that is unknown.
    async fn resolve_uncertain_put(
        self: &Arc<Self>,
        journal: &mut Writer<Ledger>,
    ) -> Result<(), millstream_state::Error> {
        if journal.is_uncertain() {
            let journalled = journal.append(Vec::new()).await?;
            self.apply_journalled(journalled);
        }
        Ok(())
    }

    /// Journals all pending changes and this one as one record, and applies them.
    async fn append(
        self: &Arc<Self>,
        journal: &mut Writer<Ledger>,
        change: Option<Change>,
    ) -> Result<(), millstream_state::Error> {
        self.resolve_uncertain_put(journal).await?;
        let mut changes = self.inner.lock().unwritten.begin_put();
        changes.extend(change);
        let journalled = journal.append(changes).await?;
        self.apply_journalled(journalled);
        Ok(())
    }

    /// Applies changes that the journal has. None: it does not have the record that was put last.
    fn apply_journalled(self: &Arc<Self>, journalled: Vec<Change>) {
        self.inner.lock().unwritten.end_put(!journalled.is_empty());
        for change in journalled {
            self.event(Event::Applied(change));
        }
    }

    fn end_if_superseded(&self, error: &millstream_state::Error) {
        if let millstream_state::Error::Superseded(reason) = error {
            self.end(reason);
        }
    }

    /// Writes pending changes, and notices when another coordinator leads, until it leads no longer.
    pub(super) async fn journal_loop(self: Arc<Self>) {
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.flush.notified() => {
                    tokio::time::sleep(GATHER).await;
                    if self.write_unwritten().await.is_some() {
                        tokio::time::sleep(JOURNAL_RETRY).await;
                        self.flush.notify_one();
                    }
                }
                _ = check.tick() => self.check_leadership().await,
                _ = self.ended() => return,
            }
        }
    }

    /// Checks whether it still leads, and ends if not.
    pub async fn check_leadership(&self) {
        let checked = self.journal.lock().await.check().await;
        self.journal_problem.lock()[0] = checked.as_ref().err().map(ToString::to_string);
        match checked {
            Ok(()) => {}
            Err(millstream_state::Error::Superseded(reason)) => self.end(&reason),
            Err(error) => tracing::warn!("the cluster's journal cannot be reached: {error}"),
        }
    }

    /// Fails if another coordinator has claimed the journal. To be called before changes of outside systems that must
    /// not coincide with those of another leader.
    pub async fn verify_leadership(&self) -> Result<(), Error> {
        let checked = self.journal.lock().await.check().await;
        checked.map_err(|error| {
            self.end_if_superseded(&error);
            Error::State(error)
        })
    }

    /// Waits until the journal has all pending changes. While it cannot be written, that is the reason shown for the
    /// job.
    pub async fn flush_journal(self: &Arc<Self>, job: &str, run: RunId) {
        while let Some(problem) = self.write_unwritten().await {
            self.event(Event::Restarting {
                job: job.to_string(),
                run,
                reason: format!("the cluster's journal cannot be written: {problem}"),
            });
            tokio::time::sleep(JOURNAL_RETRY).await;
        }
    }

    /// Writes pending changes to the journal. Returns the error if that is to be retried.
    pub(in crate::coordinator) async fn write_unwritten(self: &Arc<Self>) -> Option<String> {
        let mut journal = self.journal.lock().await;
        if self.end_reason.borrow().is_some() {
            return None;
        }
        let appended = self.append(&mut journal, None).await;
        self.journal_problem.lock()[1] = appended.as_ref().err().map(ToString::to_string);
        match appended {
            Ok(()) => None,
            Err(millstream_state::Error::Superseded(reason)) => {
                self.end(&reason);
                None
            }
            Err(error) => {
                tracing::warn!("state changes of jobs could not be journalled yet: {error}");
                Some(error.to_string())
            }
        }
    }

    /// Returns the reason why the journal cannot be used, if it is known.
    pub fn journal_problem(&self) -> Option<String> {
        self.journal_problem.lock().iter().flatten().next().cloned()
    }
}
