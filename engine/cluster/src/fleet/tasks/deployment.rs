//! Start of an attempt's tasks: waits until all workers have reached a milestone.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_proto::v1::attempt_report::Event;
use millstream_store_errors::Retry;

use super::{RemoteTasks, failure, remote_error};
use crate::Error;
use crate::fleet::messages::MessageBody;

/// Time for a deployment. Restoring state may take long; the loss of a worker is noticed at once.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(600);

/// A milestone of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Milestone {
    Restored,
    Deployed,
}

impl std::fmt::Display for Milestone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Restored => "restored",
            Self::Deployed => "deployed",
        })
    }
}

impl RemoteTasks {
    /// Waits until all workers have reached a milestone.
    pub(super) async fn wait_for(&mut self, milestone: Milestone) -> Result<(), Error> {
        let reached = tokio::time::timeout(DEPLOY_TIMEOUT, self.reached(milestone));
        reached.await.map_err(|_| {
            remote_error(format!(
                "the tasks were not {milestone} within {} s (DEPLOY_TIMEOUT)",
                DEPLOY_TIMEOUT.as_secs()
            ))
        })?
    }

    async fn reached(&mut self, milestone: Milestone) -> Result<(), Error> {
        let mut missing = self.parts();
        while !missing.is_empty() {
            let Some((worker, region, event)) = self.next_while_starting().await? else {
                continue;
            };
            match event {
                Event::Restored(_) if milestone == Milestone::Restored => {
                    missing.remove(&(region, worker));
                }
                Event::Deployed(_) if milestone == Milestone::Deployed => {
                    missing.remove(&(region, worker));
                }
                // Tasks without input may finish before those of other workers run.
                Event::Finished(_) => {
                    self.regions[region].finished.insert(worker);
                }
                Event::Stopped(_) => {
                    return Err(remote_error(format!(
                        "worker {worker} stopped its tasks during the deployment"
                    )));
                }
                _ => {}
            }
        }
        self.had_finished = self.have_all_finished();
        Ok(())
    }

    /// Waits until all workers have reported their part of an adopted attempt. Returns the newest checkpoint that any
    /// of them was asked for.
    pub(super) async fn wait_for_adoption(&mut self) -> Result<u64, Error> {
        let mut missing = self.parts();
        let mut newest = 0;
        while !missing.is_empty() {
            let Some((worker, region, event)) = self.next_while_starting().await? else {
                continue;
            };
            match event {
                Event::Adopted(adopted) => {
                    newest = newest.max(adopted.newest_checkpoint);
                    if adopted.is_finished {
                        self.regions[region].finished.insert(worker.clone());
                    }
                    missing.remove(&(region, worker));
                }
                Event::Finished(_) => {
                    self.regions[region].finished.insert(worker);
                }
                Event::Stopped(_) => {
                    return Err(remote_error(format!("worker {worker} no longer runs its tasks")));
                }
                // Checkpoints of the earlier coordinator are ignored: the first one of this coordinator contains
                // their changes.
                _ => {}
            }
        }
        self.had_finished = self.have_all_finished();
        Ok(newest)
    }

    /// Returns every region's part on each of its workers.
    fn parts(&self) -> BTreeSet<(usize, String)> {
        let regions = self.regions.iter().enumerate();
        let parts = regions.flat_map(|(region, state)| state.links.iter().map(move |link| (region, link.name.clone())));
        parts.collect()
    }

    /// Returns the next event of a worker, and its region, before all tasks run. A failure fails the whole attempt.
    async fn next_while_starting(&mut self) -> Result<Option<(String, usize, Event)>, Error> {
        let Some(message) = self.messages.recv().await else {
            return Err(remote_error("messages of the workers no longer arrive".into()));
        };
        let worker = message.worker;
        match message.body {
            MessageBody::Lost(reason) if self.regions.iter().any(|region| region.is_on(&worker)) => {
                Err(remote_error(format!("worker {worker} was lost: {reason}")))
            }
            MessageBody::Report(report) => match (self.region_of(&report.attempt), report.event) {
                (Some(_), Some(Event::Failed(failed))) => {
                    let message = format!("worker {worker}: {}", failed.message);
                    if failed.is_damage {
                        return Err(Error::State(millstream_state::Error::Corrupt(message)));
                    }
                    let retry = Retry::from_report(failed.may_pass, failed.is_disk_full);
                    Err(Error::Runtime(failure(message, retry)))
                }
                (Some(region), Some(event)) => Ok(Some((worker, region, event))),
                _ => Ok(None),
            },
            MessageBody::Lost(_) | MessageBody::Progress(_) => Ok(None),
        }
    }
}
