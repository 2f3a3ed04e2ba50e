//! One session with a coordinator, from attaching until the stream ends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millstream_connectors::Split;
use millstream_proto::v1;
use millstream_proto::v1::worker_control_client::WorkerControlClient;
use millstream_runtime::command::Command as TaskCommand;
use millstream_state::store::Backend;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;

use super::attempt::{self, WorkerContext};
use super::{COMMANDS_MAX, RunningAttempt, SessionEnd, Worker, clock_us};
use crate::worker_protocol::{MESSAGE_BYTES_MAX, STANDBY_MESSAGE};
use crate::{clock, connect, encoding};

/// Messages to the coordinator that may be queued.
const OUTBOX_MAX: usize = 64;
/// Interval of the checks whether another coordinator leads.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_millis(500);
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(1);
impl Worker {
    /// Attaches to the coordinator at this address and executes its orders until the stream ends.
    pub(super) async fn session(&mut self, address: &str) -> SessionEnd {
        let channel = match connect::coordinator(address).await {
            Ok(channel) => channel,
            Err(error) => return SessionEnd::Broken(error.to_string()),
        };
        let mut client = WorkerControlClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (outbox, outbox_in) = mpsc::channel(OUTBOX_MAX);
        self.pinged = None;
        let registered_at = Instant::now();
        if outbox
            .send(report(v1::report::Report::Register(self.register())))
            .await
            .is_err()
        {
            return SessionEnd::Broken("the stream could not be opened".into());
        }
        let mut request = tonic::Request::new(ReceiverStream::new(outbox_in));
        if let Err(error) = self.options.token.add_to(&mut request).await {
            return SessionEnd::Broken(error);
        }
        let mut orders = match client.attach(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.message() == STANDBY_MESSAGE => return SessionEnd::StandsBy,
            Err(status) => return SessionEnd::Broken(status.message().to_string()),
        };
        let mut heartbeat = tokio::time::interval(HEARTBEAT_DEFAULT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_leaving = false;
        let others = self.options.coordinators.iter().filter(|other| *other != address);
        let mut leader_monitor = LeaderMonitor::start(others.cloned().collect());
        loop {
            let message = tokio::select! {
                Some((leader, epoch)) = leader_monitor.leaders.recv() => match epoch > self.epoch {
                    true => return SessionEnd::Broken(format!("{leader} leads now, and this coordinator has not ended its session")),
                    false => continue,
                },
                order = orders.message() => match order {
                    Ok(Some(order)) => match self.order(order, &mut heartbeat, registered_at) {
                        Ok(None) => continue,
                        Ok(Some(answer)) => answer,
                        Err(end) => return end,
                    },
                    Ok(None) => return SessionEnd::Broken("the coordinator closed the stream".into()),
                    Err(status) => return SessionEnd::Broken(status.message().to_string()),
                },
                Some(reported) = self.reports_in.recv() => {
                    // The progress since the last heartbeat would be lost with the attempt.
                    if let Some(v1::attempt_report::Event::Stopped(_)) = &reported.event
                        && outbox.send(report(self.heartbeat())).await.is_err()
                    {
                        return SessionEnd::Broken("the coordinator takes no more reports".into());
                    }
                    if !self.on_report(&reported) {
                        continue;
                    }
                    v1::report::Report::Attempt(reported)
                }
                _ = heartbeat.tick() => self.heartbeat(),
                () = leave_requested(&mut self.leave), if !is_leaving => {
                    is_leaving = true;
                    self.leaving_since.get_or_insert_with(Instant::now);
                    tracing::info!("leaving: the coordinator is asked to move the tasks elsewhere");
                    v1::report::Report::Leaving(v1::Leaving {})
                }
            };
            if outbox.send(report(message)).await.is_err() {
                return SessionEnd::Broken("the coordinator takes no more reports".into());
            }
            if is_leaving && self.leave_timed_out() {
                tracing::warn!("the tasks were not moved in time: leaving nevertheless, which ends them");
                return SessionEnd::Left;
            }
        }
    }

    fn heartbeat(&mut self) -> v1::report::Report {
        v1::report::Report::Heartbeat(v1::Heartbeat {
            clock_us: clock_us(),
            progress: self.progress(),
            state_bytes: self.backend.as_ref().map_or(0, Backend::state_bytes),
            lines: self.options.log_buffer.take(),
            ping: self.pinged.map_or(0, |(number, _)| number),
            ping_age_us: self.pinged.map_or(0, |(_, at)| at.elapsed().as_micros() as u64),
        })
    }

    fn register(&self) -> v1::Register {
        let running = self.attempts.iter().map(|(attempt, running)| v1::RunningAttempt {
            job: running.job.clone(),
            attempt: attempt.clone(),
            newest_checkpoint: running.newest_checkpoint,
            is_deployed: running.status.get().is_some(),
            is_finished: running.is_finished,
            // An attempt whose sources have ended is not stopped half-way.
            is_stopping: running.is_stopping && !running.is_finished,
        });
        let (data_dir, cluster) = self.data_dir.path_and_cluster();
        v1::Register {
            data_dir,
            cluster,
            name: self.options.name.clone(),
            incarnation: self.incarnation.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            address: self.address.clone(),
            slots: self.options.slots,
            memory_bytes: self.options.memory_bytes as u64,
            clock_us: clock_us(),
            running: running.collect(),
        }
    }

    /// Executes an order. Returns the report that answers it, if there is one. `registered_at` is the start of this
    /// session.
    fn order(
        &mut self,
        order: v1::Order,
        heartbeat: &mut tokio::time::Interval,
        registered_at: Instant,
    ) -> Result<Option<v1::report::Report>, SessionEnd> {
        use v1::order::Order;
        if order.epoch < self.epoch {
            return Err(SessionEnd::Broken(format!(
                "the coordinator is superseded: its epoch is {}, another's {}",
                order.epoch, self.epoch
            )));
        }
        self.epoch = order.epoch;
        self.last_contact = Instant::now();
        match order.order {
            Some(Order::Welcome(welcome)) => {
                self.cluster = Some(welcome.cluster.clone());
                match self.open_backend() {
                    // Opening is tried again at the next deployment, whose job then waits with this error as its
                    // reason.
                    Err(error) if error.retry().is_disk_full() => tracing::warn!("{error}"),
                    settled => drop(settled.map_err(SessionEnd::Failed)?),
                }
                *heartbeat = tokio::time::interval(Duration::from_millis(welcome.heartbeat_ms.max(10)));
                heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                self.orphan_timeout = Duration::from_millis(welcome.orphan_timeout_ms);
                for attempt in welcome.cancel_attempts {
                    self.command(&attempt, TaskCommand::Cancel);
                }
                self.status.attached.store(true, Ordering::Relaxed);
                // The welcome answers the registration, so the time since then bounds the round trip.
                let ahead_us = clock::min_offset_us(welcome.clock_us, clock_us(), registered_at.elapsed());
                if let Some(warning) = clock::skew_warning("the coordinator", ahead_us) {
                    tracing::warn!("{warning}");
                }
                tracing::info!(epoch = order.epoch, "attached");
            }
            Some(Order::Deploy(deploy)) => self.deploy(deploy),
            Some(Order::Adopt(adopt)) => return Ok(Some(self.adopt(adopt))),
            Some(Order::Command(v1::TaskCommand {
                attempt,
                command: Some(v1::task_command::Command::Start(_)),
                ..
            })) => self.start(&attempt),
            Some(Order::Command(v1::TaskCommand {
                attempt,
                command: Some(v1::task_command::Command::Publish(publish)),
                ..
            })) => return Ok(self.publish(&attempt, publish).map(v1::report::Report::Attempt)),
            Some(Order::Command(command)) => match task_command(&command) {
                Ok(Some(order)) => self.command(&command.attempt, order),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    job = command.job,
                    "an order of the coordinator could not be decoded: {error}"
                ),
            },
            Some(Order::Reached(_)) => self.status.reached.store(true, Ordering::Relaxed),
            Some(Order::Leave(_)) => return Err(SessionEnd::Left),
            Some(Order::Refused(refused)) => return Err(SessionEnd::Refused(refused.reason)),
            Some(Order::Ping(ping)) => self.pinged = Some((ping.number, Instant::now())),
            None => {}
        }
        Ok(None)
    }

    /// Returns the status of an attempt that the coordinator adopts. Reports of its tasks are sent from now on.
    fn adopt(&mut self, adopt: v1::Adopt) -> v1::report::Report {
        use v1::attempt_report::Event;
        let event = match self.attempts.get_mut(&adopt.attempt) {
            Some(running) => {
                running.last_progress = None;
                tracing::info!(job = adopt.job, "the tasks continue under another coordinator");
                Event::Adopted(v1::Adopted {
                    newest_checkpoint: running.newest_checkpoint,
                    is_finished: running.is_finished,
                })
            }
            None => Event::Stopped(v1::Stopped {}),
        };
        v1::report::Report::Attempt(v1::AttemptReport {
            job: adopt.job,
            attempt: adopt.attempt,
            event: Some(event),
        })
    }

    fn deploy(&mut self, deploy: v1::Deploy) {
        let backend = self.open_backend();
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let (start, started) = oneshot::channel();
        let status = Arc::new(OnceLock::new());
        let running = RunningAttempt {
            job: deploy.job.clone(),
            commands,
            start: Some(start),
            status: Arc::clone(&status),
            last_progress: None,
            newest_checkpoint: 0,
            is_finished: false,
            is_stopping: false,
        };
        self.attempts.insert(deploy.attempt.clone(), running);
        // Log lines inside of the span are attributed to this job.
        let span = tracing::error_span!("tasks", job = deploy.job, attempt = deploy.attempt);
        let backend = match backend {
            Ok(backend) => backend,
            Err(error) => {
                tokio::spawn(attempt::refuse(self.reports.clone(), deploy, error).instrument(span));
                return;
            }
        };
        let context = WorkerContext {
            exchange: self.exchange.clone(),
            backend,
            reports: self.reports.clone(),
        };
        tokio::spawn(attempt::run(context, deploy, status, started, commands_in).instrument(span));
    }
}

/// Monitors whether another coordinator leads. A stalled leader does not report that it has been superseded, and its
/// connection looks healthy for longer than the tasks should wait.
struct LeaderMonitor {
    leaders: mpsc::Receiver<(String, u64)>,
    task: JoinHandle<()>,
}

impl LeaderMonitor {
    fn start(others: Vec<String>) -> Self {
        let (found, leaders) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            for other in others.iter().cycle() {
                tokio::time::sleep(LEADER_CHECK_INTERVAL).await;
                match connect::coordinator_info(other, connect::PING_TIMEOUT).await {
                    Ok(info) if info.is_leader => {
                        if found.send((other.clone(), info.epoch)).await.is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(reason) => tracing::debug!(coordinator = other, "its role is not known: {reason}"),
                }
            }
        });
        Self { leaders, task }
    }
}

impl Drop for LeaderMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn report(report: v1::report::Report) -> v1::Report {
    v1::Report { report: Some(report) }
}

/// Waits until the process is asked to leave.
async fn leave_requested(leave: &mut tokio::sync::watch::Receiver<bool>) {
    if leave.wait_for(|leave| *leave).await.is_err() {
        // The sender is gone, so no request can come.
        std::future::pending::<()>().await;
    }
}

fn task_command(command: &v1::TaskCommand) -> Result<Option<TaskCommand>, crate::Error> {
    use v1::task_command::Command;
    Ok(match &command.command {
        Some(Command::Checkpoint(trigger)) => Some(TaskCommand::Checkpoint {
            id: trigger.checkpoint,
            last: trigger.last,
            aligned_timeout: trigger.aligned_timeout_ms.map(Duration::from_millis),
        }),
        Some(Command::AssignSplits(assign)) => Some(TaskCommand::AssignSplits {
            node: assign.node as usize,
            subtask: assign.subtask as usize,
            splits: encoding::decode::<Vec<Split>>(&assign.splits, "the list of splits")?,
        }),
        Some(Command::NoMoreSplits(node)) => Some(TaskCommand::NoMoreSplits {
            node: node.node as usize,
        }),
        Some(Command::Confirm(confirm)) => Some(TaskCommand::Confirm {
            checkpoint: confirm.checkpoint,
        }),
        Some(Command::Point(point)) => Some(TaskCommand::Point {
            number: encoding::barrier_number(point.number),
        }),
        Some(Command::Cancel(_)) => Some(TaskCommand::Cancel),
        Some(Command::Start(_) | Command::Publish(_)) | None => None,
    })
}
