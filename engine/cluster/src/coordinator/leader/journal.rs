//! The leader and the cluster's journal: requests are written before they count, transitions soon after they happened.

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
/// Transitions gather for so long before they are journalled.
const GATHER: Duration = Duration::from_millis(100);
/// Pause before transitions that could not be journalled are tried again.
const JOURNAL_RETRY: Duration = Duration::from_secs(2);

impl Leader {
    /// Checks, journals and applies a request, also when the caller does not wait for it. An error says that nothing
    /// was changed, or that it is not known whether it was.
    pub async fn change(self: &Arc<Self>, request: Request) -> Result<(), api::Error> {
        // A run that it begins is caused by the call.
        let changing = self.clone().change_to_end(request).instrument(Span::current());
        let changed = tokio::spawn(changing);
        changed.await.map_err(|error| internal(&error))?
    }

    async fn change_to_end(self: Arc<Self>, request: Request) -> Result<(), api::Error> {
        let mut journal = self.journal.lock().await;
        self.check_not_ended()?;
        // What is asked for is judged by all that counts.
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
                "whether the request took effect is not known, as the cluster's journal did not answer: {error}; look at \
                 what there is before trying again"
            ),
        ))
    }

    /// Finds out whether the record counts that was put last, where that is not known.
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

    /// Journals what happened so far, then this change, as one record, and applies what counts.
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

    /// These changes are in the journal. None: the record that was put last is not.
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

    /// Writes transitions soon after they happened, and notices when somebody else leads.
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

    /// Looks whether it still leads, and ends if not.
    pub async fn check_leadership(&self) {
        let checked = self.journal.lock().await.check().await;
        self.journal_problem.lock()[0] = checked.as_ref().err().map(ToString::to_string);
        match checked {
            Ok(()) => {}
            Err(millstream_state::Error::Superseded(reason)) => self.end(&reason),
            Err(error) => tracing::warn!("the cluster's journal cannot be reached: {error}"),
        }
    }

    /// An error unless nobody else has claimed the journal: before something is done to the outside world that must
    /// not be done beside another leader.
    pub async fn verify_leadership(&self) -> Result<(), Error> {
        let checked = self.journal.lock().await.check().await;
        checked.map_err(|error| {
            self.end_if_superseded(&error);
            Error::State(error)
        })
    }

    /// Returns when the journal has all that has happened so far, however long it cannot be written; meanwhile that
    /// is why this run of the job waits.
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

    /// Writes what happened to the journal. `Some`: why it is to be tried again.
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
                tracing::warn!("what became of jobs could not be journalled yet: {error}");
                Some(error.to_string())
            }
        }
    }

    /// The reason why the journal cannot be used, as far as that is known.
    pub fn journal_problem(&self) -> Option<String> {
        self.journal_problem.lock().iter().flatten().next().cloned()
    }
}
