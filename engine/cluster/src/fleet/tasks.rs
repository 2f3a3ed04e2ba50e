//! The tasks of one attempt on several workers, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_planner::graph::OperatorId;
use millstream_proto::v1;
use millstream_proto::v1::attempt_report::Event;
use millstream_runtime::job::{Command, SubtaskState, TaskEvent};
use millstream_runtime::progress::JobCounters;
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use super::Fleet;
use super::link::Link;
use crate::deployer::{Adopted, Allocation, BeforeStart, Request, Tasks};
use crate::publish::{Output, Publishing};
use crate::{Error, Job, control, encoding};

/// News that may wait for the driver of one attempt.
const HEARD_MAX: usize = 16_384;
/// Restoring state may take long; a worker that dies meanwhile is noticed at once.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(600);
/// How long workers may take to say how an attempt is that is adopted.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Something a worker said about an attempt.
pub struct Heard {
    pub worker: String,
    pub what: What,
}

pub enum What {
    Report(v1::AttemptReport),
    Progress(v1::AttemptProgress),
    Lost(String),
}

/// How far a deployment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Restored,
    Deployed,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Restored => "restored",
            Self::Deployed => "deployed",
        })
    }
}

impl Fleet {
    /// Starts an attempt's tasks on the workers of its allocation. When this returns they all run, or none does.
    pub async fn deploy(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        allocation: &Allocation,
        request: Request,
    ) -> Result<Box<dyn Tasks>, Error> {
        let mut tasks = self.listen(job, &request.identity.attempt, &allocation.slots)?;
        let before_start = tasks.deploy(job, resolved, allocation, request)?;
        control::step(control::span!("restore state"), tasks.all(Step::Restored)).await?;
        before_start.await?;
        // A worker that was lost in between ends this attempt, not the job.
        tasks
            .order_all(&v1::task_command::Command::Start(v1::StartTasks {}))
            .map_err(|error| elsewhere(error.to_string()))?;
        control::step(control::span!("start tasks"), tasks.all(Step::Deployed)).await?;
        Ok(Box::new(tasks))
    }

    /// Takes over the tasks of an attempt that another coordinator has started on these workers, one name per slot.
    /// If this fails, they are ended.
    pub async fn adopt(&self, job: &Job, attempt: &str, slots: &[String]) -> Result<Adopted, Error> {
        self.inner.awaited.lock().remove(attempt);
        let mut tasks = self.listen(job, attempt, slots)?;
        for link in &tasks.links {
            let adopt = v1::Adopt {
                job: tasks.job.clone(),
                attempt: attempt.to_string(),
            };
            link.order(v1::order::Order::Adopt(adopt))
                .map_err(|error| elsewhere(error.to_string()))?;
        }
        let newest_checkpoint = tokio::time::timeout(ADOPT_TIMEOUT, tasks.adopted())
            .await
            .map_err(|_| {
                elsewhere(format!(
                    "the workers did not say how the tasks are within {} s (ADOPT_TIMEOUT)",
                    ADOPT_TIMEOUT.as_secs()
                ))
            })??;
        Ok(Adopted {
            parallelism: slots.len(),
            tasks: Box::new(tasks),
            newest_checkpoint,
        })
    }

    /// From here on what these workers say about the attempt is heard.
    fn listen(&self, job: &Job, attempt: &str, slots: &[String]) -> Result<RemoteTasks, Error> {
        let names: BTreeSet<&String> = slots.iter().collect();
        let links = {
            let known = self.inner.links.lock();
            let links = names.iter().map(|name| {
                known
                    .get(*name)
                    .cloned()
                    .ok_or_else(|| elsewhere(format!("worker {name} is no longer attached")))
            });
            links.collect::<Result<Vec<Arc<Link>>, Error>>()?
        };
        let (listener, heard) = mpsc::channel(HEARD_MAX);
        self.inner.attempts.insert(attempt.to_string(), listener);
        Ok(RemoteTasks {
            fleet: self.clone(),
            job: job.graph.name.clone(),
            attempt: attempt.to_string(),
            slots: slots.to_vec(),
            links,
            heard,
            counters: millstream_runtime::job::counters(&job.graph, slots.len()),
            finished: BTreeSet::new(),
            stopped: BTreeSet::new(),
            had_finished: false,
            publication: None,
            lost: None,
            is_over: false,
        })
    }
}

fn elsewhere(message: String) -> Error {
    Error::Runtime(failure(message, true))
}

fn failure(message: String, may_pass: bool) -> millstream_runtime::Error {
    millstream_runtime::Error::Elsewhere { message, may_pass }
}

struct RemoteTasks {
    fleet: Fleet,
    job: String,
    attempt: String,
    /// The worker of each slot.
    slots: Vec<String>,
    links: Vec<Arc<Link>>,
    heard: mpsc::Receiver<Heard>,
    counters: Arc<JobCounters>,
    finished: BTreeSet<String>,
    stopped: BTreeSet<String>,
    /// All had finished before they were adopted, which is still to be told.
    had_finished: bool,
    /// What workers are publishing.
    publication: Option<Publication>,
    /// A worker that was lost, to be told as a failure.
    lost: Option<String>,
    is_over: bool,
}

/// A checkpoint whose output workers publish. Dropped: it is given up.
struct Publication {
    checkpoint: u64,
    /// Workers that have not answered.
    missing: BTreeSet<String>,
    done: oneshot::Sender<Result<(), Error>>,
}

impl RemoteTasks {
    /// A worker has published its part, or says why not.
    fn published(&mut self, worker: &str, answer: v1::OutputPublished) {
        let Some(mut publication) = self.publication.take_if(|it| it.checkpoint == answer.checkpoint) else {
            return;
        };
        publication.missing.remove(worker);
        let result = match answer.reason.as_str() {
            "" if !publication.missing.is_empty() => {
                self.publication = Some(publication);
                return;
            }
            "" => Ok(()),
            reason => Err(elsewhere(format!("worker {worker}: {reason}"))),
        };
        if publication.done.send(result).is_err() {
            tracing::debug!(job = self.job, "nobody waits for what was published");
        }
    }

    /// Answers what is to be done before the tasks start.
    fn deploy(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        allocation: &Allocation,
        request: Request,
    ) -> Result<BeforeStart, Error> {
        let place = |name: &String| self.links.iter().position(|link| link.name == *name).unwrap_or(0) as u32;
        let addresses = self.links.iter().map(|link| v1::WorkerAddress {
            name: link.name.clone(),
            address: link.address.clone(),
        });
        let restore = request.restore.iter().map(|(operator, states)| (&operator.0, states));
        let restore: Vec<(&String, &Vec<SubtaskState>)> = restore.collect();
        let deploy = v1::Deploy {
            job: self.job.clone(),
            attempt: self.attempt.clone(),
            resolved: Some(resolved.clone()),
            parallelism: allocation.parallelism as u32,
            slots: allocation.slots.iter().map(place).collect(),
            workers: addresses.collect(),
            self_: 0,
            splits: encoding::encode(&request.splits)?,
            splits_are_final: request.splits_are_final,
            restore: encoding::encode(&restore)?,
            checkpoint_storage: job.checkpoint_storage.clone(),
            checkpoint_epoch: request.epoch,
            trace_parent: control::trace_parent(&Span::current()),
        };
        for (index, link) in self.links.iter().enumerate() {
            let mut deploy = deploy.clone();
            deploy.self_ = index as u32;
            link.order(v1::order::Order::Deploy(deploy))
                .map_err(|error| elsewhere(error.to_string()))?;
        }
        Ok(request.before_start)
    }

    /// Waits until all workers have come so far.
    async fn all(&mut self, step: Step) -> Result<(), Error> {
        let reached = tokio::time::timeout(DEPLOY_TIMEOUT, self.reached(step));
        reached.await.map_err(|_| {
            elsewhere(format!(
                "the tasks were not {step} within {} s (DEPLOY_TIMEOUT)",
                DEPLOY_TIMEOUT.as_secs()
            ))
        })?
    }

    async fn reached(&mut self, step: Step) -> Result<(), Error> {
        let mut missing: BTreeSet<String> = self.links.iter().map(|link| link.name.clone()).collect();
        while !missing.is_empty() {
            let Some(heard) = self.heard.recv().await else {
                return Err(elsewhere("the workers are not heard any more".into()));
            };
            match heard.what {
                What::Lost(reason) if missing.contains(&heard.worker) || self.is_mine(&heard.worker) => {
                    return Err(elsewhere(format!("worker {} was lost: {reason}", heard.worker)));
                }
                What::Report(report) => match report.event {
                    Some(Event::Restored(_)) if step == Step::Restored => {
                        missing.remove(&heard.worker);
                    }
                    Some(Event::Deployed(_)) if step == Step::Deployed => {
                        missing.remove(&heard.worker);
                    }
                    Some(Event::Failed(failed)) => {
                        let message = format!("worker {}: {}", heard.worker, failed.message);
                        if failed.is_damage {
                            return Err(Error::State(millstream_state::Error::Corrupt(message)));
                        }
                        return Err(Error::Runtime(failure(message, failed.may_pass)));
                    }
                    Some(Event::Stopped(_)) => {
                        return Err(elsewhere(format!("worker {} ended its part at once", heard.worker)));
                    }
                    _ => {}
                },
                What::Lost(_) | What::Progress(_) => {}
            }
        }
        Ok(())
    }

    /// Waits until all workers have said how their part is; the newest checkpoint that any was asked for.
    async fn adopted(&mut self) -> Result<u64, Error> {
        let mut missing: BTreeSet<String> = self.links.iter().map(|link| link.name.clone()).collect();
        let mut newest = 0;
        while !missing.is_empty() {
            let Some(heard) = self.heard.recv().await else {
                return Err(elsewhere("the workers are not heard any more".into()));
            };
            match heard.what {
                What::Lost(reason) if self.is_mine(&heard.worker) => {
                    return Err(elsewhere(format!("worker {} was lost: {reason}", heard.worker)));
                }
                What::Report(report) => match report.event {
                    Some(Event::Adopted(adopted)) => {
                        newest = newest.max(adopted.newest_checkpoint);
                        if adopted.is_finished {
                            self.finished.insert(heard.worker.clone());
                        }
                        missing.remove(&heard.worker);
                    }
                    Some(Event::Finished(_)) => {
                        self.finished.insert(heard.worker);
                    }
                    Some(Event::Failed(failed)) => {
                        let message = format!("worker {}: {}", heard.worker, failed.message);
                        return Err(Error::Runtime(failure(message, failed.may_pass)));
                    }
                    Some(Event::Stopped(_)) => {
                        let why = format!("worker {} does not run its part any more", heard.worker);
                        return Err(elsewhere(why));
                    }
                    // Checkpoints of the earlier coordinator: the first one of this coordinator contains what they would.
                    _ => {}
                },
                What::Lost(_) | What::Progress(_) => {}
            }
        }
        self.had_finished = self.finished.len() == self.links.len();
        Ok(newest)
    }

    fn is_mine(&self, worker: &str) -> bool {
        self.links.iter().any(|link| link.name == worker)
    }

    fn order(&self, worker: &str, command: v1::task_command::Command) -> Result<(), Error> {
        let Some(link) = self.links.iter().find(|link| link.name == worker) else {
            return Ok(());
        };
        link.order(v1::order::Order::Command(v1::TaskCommand {
            job: self.job.clone(),
            attempt: self.attempt.clone(),
            command: Some(command),
        }))
    }

    fn order_all(&self, command: &v1::task_command::Command) -> Result<(), Error> {
        let open = self.links.iter().filter(|link| !self.stopped.contains(&link.name));
        open.map(|link| self.order(&link.name, command.clone()))
            .fold(Ok(()), Result::and)
    }

    /// What the driver should hear of it, if anything.
    fn take(&mut self, heard: Heard) -> Result<Option<TaskEvent>, Error> {
        match heard.what {
            What::Progress(progress) => {
                self.counters
                    .apply(&encoding::decode(&progress.operators, "a worker's progress")?);
                Ok(None)
            }
            What::Lost(reason) => {
                if !self.is_mine(&heard.worker) || !self.stopped.insert(heard.worker.clone()) {
                    return Ok(None);
                }
                let message = format!("worker {} was lost: {reason}", heard.worker);
                self.lost = Some(message.clone());
                self.publication = None;
                Ok(Some(failed("worker", 0, message, true)))
            }
            What::Report(report) => match report.event {
                Some(Event::Snapshot(done)) => Ok(Some(TaskEvent::Snapshot {
                    checkpoint: done.checkpoint,
                    operator: OperatorId(done.operator),
                    state: encoding::decode(&done.state, "a subtask's snapshot")?,
                })),
                Some(Event::SnapshotFailed(failed)) => Ok(Some(TaskEvent::SnapshotFailed {
                    checkpoint: failed.checkpoint,
                    operator: OperatorId(failed.operator),
                    subtask: failed.subtask as usize,
                    error: failure(format!("worker {}: {}", heard.worker, failed.reason), true),
                    rows_lost: failed.rows_lost,
                })),
                Some(Event::Finished(_)) => {
                    self.finished.insert(heard.worker);
                    let all = self.finished.len() == self.links.len();
                    Ok(all.then_some(TaskEvent::Finished))
                }
                Some(Event::Failed(task)) => {
                    let operator = if task.operator.is_empty() {
                        "worker"
                    } else {
                        &task.operator
                    };
                    let message = match task.operator.is_empty() {
                        true => format!("worker {}: {}", heard.worker, task.message),
                        false => task.message.clone(),
                    };
                    Ok(Some(failed(operator, task.subtask as usize, message, task.may_pass)))
                }
                Some(Event::Published(answer)) => {
                    self.published(&heard.worker, answer);
                    Ok(None)
                }
                Some(Event::Stopped(_)) => {
                    self.stopped.insert(heard.worker);
                    self.publication = None;
                    Ok(None)
                }
                Some(Event::Restored(_) | Event::Deployed(_) | Event::Adopted(_)) | None => Ok(None),
            },
        }
    }
}

fn failed(operator: &str, subtask: usize, message: String, may_pass: bool) -> TaskEvent {
    TaskEvent::Failed {
        operator: OperatorId(operator.to_string()),
        subtask,
        error: failure(message, may_pass),
    }
}

#[async_trait]
impl Tasks for RemoteTasks {
    fn send(&mut self, command: Command) -> Result<(), Error> {
        use v1::task_command::Command as Wire;
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
            Command::NoMoreSplits { node } => {
                self.order_all(&Wire::NoMoreSplits(v1::NoMoreSplits { node: node as u32 }))
            }
            Command::Confirm { checkpoint } => self.order_all(&Wire::Confirm(v1::ConfirmCheckpoint { checkpoint })),
            Command::Cancel => {
                self.publication = None;
                self.order_all(&Wire::Cancel(v1::CancelTasks {}))
            }
            Command::AssignSplits { node, subtask, splits } => {
                let worker = self.slots[subtask % self.slots.len()].clone();
                let assign = v1::AssignSplits {
                    node: node as u32,
                    subtask: subtask as u32,
                    splits: encoding::encode(&splits)?,
                };
                self.order(&worker, Wire::AssignSplits(assign))
            }
        }
    }

    fn are_elsewhere(&self) -> bool {
        true
    }

    fn publish(&mut self, checkpoint: u64, outputs: Vec<Output>, span: &Span) -> Publishing {
        let mut by_worker: BTreeMap<&String, Vec<Output>> = BTreeMap::new();
        for output in outputs {
            let worker = &self.slots[output.subtask % self.slots.len()];
            by_worker.entry(worker).or_default().push(output);
        }
        let ordered = by_worker.iter().try_for_each(|(worker, outputs)| {
            let publish = v1::PublishOutput {
                checkpoint,
                outputs: encoding::encode(outputs)?,
                trace_parent: control::trace_parent(span),
            };
            self.order(worker, v1::task_command::Command::Publish(publish))
        });
        if let Err(error) = ordered {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (done, result) = oneshot::channel();
        self.publication = Some(Publication {
            checkpoint,
            missing: by_worker.into_keys().cloned().collect(),
            done,
        });
        Box::pin(async move {
            result
                .await
                .unwrap_or_else(|_| Err(elsewhere("the workers that were to publish it are gone".into())))
        })
    }

    async fn next_event(&mut self) -> Option<TaskEvent> {
        loop {
            if self.is_over {
                return None;
            }
            if std::mem::take(&mut self.had_finished) {
                return Some(TaskEvent::Finished);
            }
            if self.stopped.len() == self.links.len() {
                self.is_over = true;
                return Some(TaskEvent::Stopped);
            }
            let event = match self.heard.recv().await {
                Some(heard) => self.take(heard),
                None => {
                    self.is_over = true;
                    return Some(failed("worker", 0, "the workers are not heard any more".into(), true));
                }
            };
            match event {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(error) => return Some(failed("worker", 0, error.to_string(), false)),
            }
        }
    }

    fn counters(&self) -> Arc<JobCounters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for RemoteTasks {
    fn drop(&mut self) {
        self.fleet.inner.attempts.remove(&self.attempt);
        if self.fleet.inner.ended.lock().is_some() {
            // They are the next coordinator's.
            return;
        }
        if let Err(error) = self.order_all(&v1::task_command::Command::Cancel(v1::CancelTasks {})) {
            tracing::debug!(job = self.job, "{error}");
        }
    }
}
