//! Control of the tasks by the driver of the attempt: [`Tasks`] for [`RemoteTasks`].

use std::sync::Arc;

use async_trait::async_trait;
use millstream_proto::v1;
use millstream_proto::v1::task_command::Command as Wire;
use millstream_runtime::command::{Command, TaskEvent};
use millstream_runtime::counters::JobCounters;
use millstream_store_errors::Retry;
use tracing::Span;

use super::events::task_failed;
use super::region::{InitialState, Region, Stage};
use super::{RemoteTasks, remote_error};
use crate::deployer::{DeploymentEvent, RegionRestart, RestartedRegion, Tasks};
use crate::publish::{Publishing, SubtaskOutput};
use crate::{Error, encoding, outage};

impl RemoteTasks {
    fn order_all(&mut self, command: &Wire) -> Result<(), Error> {
        for index in 0..self.regions.len() {
            let ordered = self.regions[index].order(&self.job, command);
            self.after_order(index, ordered)?;
        }
        Ok(())
    }

    /// Handles the result of an order to a region. With several regions, a worker that takes no order fails only its
    /// own.
    pub(super) fn after_order(&mut self, region: usize, ordered: Result<(), Error>) -> Result<(), Error> {
        match ordered {
            Err(error) if self.regions.len() > 1 => {
                self.fail(region, "worker", 0, error.to_string(), Retry::Limited);
                Ok(())
            }
            ordered => ordered,
        }
    }
}

#[async_trait]
impl Tasks for RemoteTasks {
    fn send(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Checkpoint {
                id,
                last,
                aligned_timeout,
            } => self.order_all(&Wire::Checkpoint(v1::TriggerCheckpoint {
                checkpoint: id,
                last,
                aligned_timeout_ms: aligned_timeout.map(|timeout| timeout.as_millis() as u64),
            })),
            Command::Point { number } => self.trigger_point(number),
            Command::NoMoreSplits { node } => {
                self.order_all(&Wire::NoMoreSplits(v1::NoMoreSplits { node: node as u32 }))
            }
            Command::Confirm { checkpoint } => self.order_all(&Wire::Confirm(v1::ConfirmCheckpoint { checkpoint })),
            Command::Cancel => {
                self.publication = None;
                self.order_all(&Wire::Cancel(v1::CancelTasks {}))
            }
            Command::AssignSplits { node, subtask, splits } => {
                let slot = subtask % self.slots.len();
                let assign = Wire::AssignSplits(v1::AssignSplits {
                    node: node as u32,
                    subtask: subtask as u32,
                    splits: encoding::encode(&splits)?,
                });
                let Some(region) = self.regions.iter().position(|region| region.slots.contains(&slot)) else {
                    return Ok(());
                };
                let ordered = self.regions[region].order_one(&self.job, &self.slots[slot], assign);
                self.after_order(region, ordered)
            }
        }
    }

    fn are_remote(&self) -> bool {
        true
    }

    fn publish(&mut self, checkpoint: u64, outputs: Vec<SubtaskOutput>, span: &Span) -> Publishing {
        self.start_publication(checkpoint, outputs, span)
    }

    async fn next_event(&mut self) -> Option<DeploymentEvent> {
        loop {
            if let Some(events) = self.events.pop_front() {
                return Some(events);
            }
            if self.is_terminated {
                return None;
            }
            if std::mem::take(&mut self.had_finished) {
                return Some(DeploymentEvent::Task(TaskEvent::Finished));
            }
            if self.regions.iter().all(Region::has_stopped) {
                self.is_terminated = true;
                return Some(DeploymentEvent::Task(TaskEvent::Stopped));
            }
            let taken = match self.messages.recv().await {
                Some(message) => self.on_message(message),
                None => {
                    self.is_terminated = true;
                    return Some(task_failed(
                        "worker",
                        0,
                        "messages of the workers no longer arrive".into(),
                        Retry::Limited,
                    ));
                }
            };
            if let Err(error) = taken {
                return Some(task_failed("worker", 0, error.to_string(), Retry::Never));
            }
        }
    }

    fn counters(&self) -> Arc<JobCounters> {
        Arc::clone(&self.counters)
    }

    fn outages(&self) -> Vec<v1::Outage> {
        let is_current = |attempt: &str, worker: &str| {
            let region = self.regions.iter().find(|region| region.attempt == attempt);
            region.is_some_and(|region| !region.stopped.contains(worker))
        };
        let reported = self.outages.iter();
        let current = reported.filter(|((attempt, worker), _)| is_current(attempt, worker));
        outage::merge(current.flat_map(|(_, outages)| outages.clone()))
    }

    fn input_fields(&self) -> Vec<v1::InputFields> {
        // A region that is restarted reads again, so only its present attempt counts.
        let is_present = |attempt: &str| self.regions.iter().any(|region| region.attempt == attempt);
        let current = self.input_fields.iter().filter(|((attempt, _), _)| is_present(attempt));
        current.flat_map(|(_, fields)| fields.clone()).collect()
    }

    fn regions(&self) -> Vec<Vec<usize>> {
        match self.regions.as_slice() {
            [_] => Vec::new(),
            several => several.iter().map(|region| region.slots.clone()).collect(),
        }
    }

    fn stop_region(&mut self, index: usize) {
        self.give_up_point(index);
        let region = &mut self.regions[index];
        region.stage = Stage::Ending;
        // A worker that takes no order is lost, which is reported separately.
        if let Err(error) = region.order(&self.job, &Wire::Cancel(v1::CancelTasks {})) {
            tracing::debug!(job = self.job, "{error}");
        }
        self.notify_if_ended(index);
    }

    fn restart_region(&mut self, restart: RegionRestart) -> Result<RestartedRegion, Error> {
        let slots = self.regions[restart.region].slots.clone();
        let Some(listener) = self.listener.upgrade() else {
            return Err(remote_error("messages of the workers no longer arrive".into()));
        };
        self.fleet.inner.attempts.insert(restart.attempt.clone(), listener);
        self.slots = restart.slots;
        let mut region = Region::new(restart.attempt, slots.clone(), Vec::new());
        region.stage = Stage::Ended;
        let links = self.fleet.links(slots.iter().map(|slot| &self.slots[*slot]));
        self.regions[restart.region] = region;
        let region = &mut self.regions[restart.region];
        region.links = links?;
        region.stage = Stage::Restoring(region.links.iter().map(|link| link.name.clone()).collect());
        let deploy = self.deployment(InitialState {
            splits: restart.splits,
            splits_are_final: restart.splits_are_final,
            restore: restart.restore,
            epoch: restart.epoch,
        })?;
        self.regions[restart.region].deploy(&deploy, &self.slots)?;
        let (before, counters) = self
            .counters
            .restart_subtasks(|subtask| slots.contains(&(subtask % self.slots.len())));
        self.counters = Arc::new(counters);
        Ok(RestartedRegion {
            stopped: Arc::new(before),
            counters: self.counters(),
        })
    }
}

impl Drop for RemoteTasks {
    fn drop(&mut self) {
        for region in &self.regions {
            self.fleet.inner.attempts.remove(&region.attempt);
        }
        if self.fleet.inner.shutdown_reason.lock().is_some() {
            // The next coordinator adopts the tasks.
            return;
        }
        for region in &self.regions {
            if let Err(error) = region.order(&self.job, &Wire::Cancel(v1::CancelTasks {})) {
                tracing::debug!(job = self.job, "{error}");
            }
        }
    }
}
