//! Messages of the workers: they change the state of the regions and become events for the driver.

use millstream_graph::OperatorId;
use millstream_proto::v1;
use millstream_proto::v1::attempt_report::Event;
use millstream_proto::v1::task_command::Command as Wire;
use millstream_runtime::command::TaskEvent;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_store_errors::Retry;

use super::region::Stage;
use super::{RemoteTasks, failure};
use crate::deployer::DeploymentEvent;
use crate::fleet::messages::{MessageBody, WorkerMessage};
use crate::{Error, encoding};

impl RemoteTasks {
    /// Queues the failure of a region, or of the attempt if there is only one region.
    pub(super) fn fail(&mut self, region: usize, operator: &str, subtask: usize, message: String, retry: Retry) {
        if self.regions.len() == 1 {
            self.events.push_back(task_failed(operator, subtask, message, retry));
        } else if self.regions[region].fail() {
            self.give_up_point(region);
            self.events.push_back(DeploymentEvent::RegionFailed {
                region,
                operator: OperatorId(operator.to_string()),
                subtask,
                error: failure(message, retry),
            });
        }
    }

    /// Handles a worker's message and queues the events that the driver needs.
    pub(super) fn on_message(&mut self, message: WorkerMessage) -> Result<(), Error> {
        let worker = message.worker;
        match message.body {
            MessageBody::Progress(progress) => {
                if self.region_of(&progress.attempt).is_some() {
                    let sample = encoding::decode(&progress.operators, "a worker's progress")?;
                    self.counters.apply(&sample);
                    let from = (progress.attempt, worker);
                    self.input_fields.insert(from.clone(), progress.fields);
                    self.outages.insert(from, progress.outages);
                }
            }
            MessageBody::Lost(reason) => self.on_worker_lost(&worker, &reason),
            MessageBody::Report(report) => {
                if let (Some(region), Some(event)) = (self.region_of(&report.attempt), report.event) {
                    self.on_report(worker, region, event)?;
                }
            }
        }
        Ok(())
    }

    /// Handles the loss of a worker. If it ran several regions, the whole attempt fails.
    fn on_worker_lost(&mut self, worker: &str, reason: &str) {
        let hit: Vec<usize> = (0..self.regions.len())
            .filter(|index| {
                let region = &mut self.regions[*index];
                region.is_on(worker) && region.stopped.insert(worker.to_string())
            })
            .collect();
        hit.iter().for_each(|region| self.give_up_publication(*region, worker));
        let message = format!("worker {worker} was lost: {reason}");
        if hit.len() > 1 {
            self.events.push_back(task_failed("worker", 0, message, Retry::Limited));
            return;
        }
        for index in hit {
            self.fail(index, "worker", 0, message.clone(), Retry::Limited);
            self.notify_if_ended(index);
        }
    }

    fn on_report(&mut self, worker: String, index: usize, event: Event) -> Result<(), Error> {
        let region = &mut self.regions[index];
        match event {
            Event::Snapshot(done) => {
                let mut state: SubtaskState = encoding::decode(&done.state, "a subtask's snapshot")?;
                if let Some(keyed) = &mut state.keyed {
                    keyed.entries = done.keyed_entries;
                }
                self.events.push_back(DeploymentEvent::Task(TaskEvent::Snapshot {
                    checkpoint: done.checkpoint,
                    operator: OperatorId(done.operator),
                    state,
                }));
            }
            Event::SnapshotFailed(failed) => self.events.push_back(DeploymentEvent::Task(TaskEvent::SnapshotFailed {
                checkpoint: failed.checkpoint,
                operator: OperatorId(failed.operator),
                subtask: failed.subtask as usize,
                error: failure(
                    format!("worker {worker}: {}", failed.reason),
                    Retry::from_report(true, failed.is_disk_full),
                ),
                rows_lost: failed.rows_lost,
            })),
            Event::Finished(_) => {
                region.finished.insert(worker);
                self.notify_if_finished();
            }
            // Only the whole job can recover from a damaged checkpoint: it restores an earlier one.
            Event::Failed(task) if task.is_damage => {
                let message = format!("worker {worker}: {}", task.message);
                self.events.push_back(task_failed("worker", 0, message, Retry::Limited));
            }
            Event::Failed(task) => {
                let (operator, message) = match task.operator.is_empty() {
                    true => ("worker", format!("worker {worker}: {}", task.message)),
                    // The worker whose disk is full matters more than the operator that noticed it.
                    false if task.is_disk_full => {
                        (task.operator.as_str(), format!("worker {worker}: {}", task.message))
                    }
                    false => (task.operator.as_str(), task.message.clone()),
                };
                let retry = Retry::from_report(task.may_pass, task.is_disk_full);
                self.fail(index, operator, task.subtask as usize, message, retry);
            }
            Event::Published(answer) => self.on_published(index, worker, answer),
            Event::Stopped(_) => {
                region.stopped.insert(worker.clone());
                self.give_up_publication(index, &worker);
                if self.regions.len() > 1 {
                    let message = format!("worker {worker} stopped its tasks");
                    self.fail(index, "worker", 0, message, Retry::Limited);
                    self.notify_if_ended(index);
                }
            }
            Event::Restored(_) => {
                if region.on_restored(&worker) {
                    let ordered = region.order(&self.job, &Wire::Start(v1::StartTasks {}));
                    self.after_order(index, ordered)?;
                }
            }
            Event::Deployed(_) => {
                if region.on_started(&worker) {
                    self.events.push_back(DeploymentEvent::RegionRunning { region: index });
                    // Its tasks may have finished before all workers had reported that they run.
                    self.notify_if_finished();
                }
            }
            Event::PointPassed(passed) => {
                self.on_point_passed(index, worker, encoding::barrier_number(passed.number));
            }
            Event::PointRequested(_) => self.events.push_back(DeploymentEvent::Task(TaskEvent::PointRequested)),
            Event::Adopted(_) => {}
        }
        Ok(())
    }

    fn notify_if_finished(&mut self) {
        if self.have_all_finished() {
            self.events.push_back(DeploymentEvent::Task(TaskEvent::Finished));
        }
    }

    /// Queues an event if a region that is being stopped has stopped.
    pub(super) fn notify_if_ended(&mut self, index: usize) {
        let region = &mut self.regions[index];
        if region.stage == Stage::Ending && region.has_stopped() {
            region.stage = Stage::Ended;
            self.fleet.inner.attempts.remove(&region.attempt);
            self.events.push_back(DeploymentEvent::RegionStopped { region: index });
        }
    }
}

/// Returns the event for a failure of the whole attempt.
pub(super) fn task_failed(operator: &str, subtask: usize, message: String, retry: Retry) -> DeploymentEvent {
    DeploymentEvent::Task(TaskEvent::Failed {
        operator: OperatorId(operator.to_string()),
        subtask,
        error: failure(message, retry),
    })
}
