//! The gRPC service that workers attach to, and the leader's access to them.
//!
//! A process has one gRPC port with one [`WorkerGateway`]. While this coordinator leads, the gateway passes workers
//! on to the fleet of the leader's epoch. While it stands by, it tells workers to try another address.

use std::sync::Arc;

use async_trait::async_trait;
use millstream_proto::v1;
use millstream_proto::v1::worker_control_server::{WorkerControl, WorkerControlServer};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::coordinator::ExecutorFactory;
use crate::coordinator::executors::TaskExecutors;
use crate::coordinator::state::Event;
use crate::deployer::{self, AdoptedTasks, Allocation, Tasks};
use crate::fleet::{Fleet, FleetEvent, FleetOptions};
use crate::worker_protocol::{MESSAGE_BYTES_MAX, STANDBY_MESSAGE};
use crate::{Error, Job};

/// Events of workers that may be queued for the leader.
const EVENTS_MAX: usize = 1024;

/// The gRPC service that workers attach to. Cheap to clone.
#[derive(Clone, Default)]
pub struct WorkerGateway {
    fleet: Arc<RwLock<Option<Fleet>>>,
}

impl WorkerGateway {
    /// Returns the gRPC service.
    pub fn service(&self) -> WorkerControlServer<WorkerGateway> {
        WorkerControlServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Returns the function that creates the fleet of each epoch that this process leads.
    pub fn executor_factory(&self) -> ExecutorFactory {
        let gateway = self.clone();
        Box::new(move |cluster, epoch, awaited| {
            let (fleet, mut news) = Fleet::new(FleetOptions::new(cluster, epoch));
            // Set before any worker attaches: all other attempts of a worker are cancelled.
            fleet.expect_attempts(awaited);
            let (events, events_in) = mpsc::channel(EVENTS_MAX);
            *gateway.fleet.write() = Some(fleet.clone());
            tokio::spawn(async move {
                while let Some(event) = news.recv().await {
                    if events.send(leader_event(event)).await.is_err() {
                        return;
                    }
                }
            });
            let executors = FleetExecutors {
                fleet,
                gateway: gateway.clone(),
            };
            (Arc::new(executors), events_in)
        })
    }
}

fn leader_event(event: FleetEvent) -> Event {
    match event {
        FleetEvent::Attached {
            worker,
            incarnation,
            slots,
            running,
        } => Event::Attached {
            worker,
            incarnation,
            slots,
            running,
        },
        FleetEvent::Reached {
            worker,
            incarnation,
            found,
        } => Event::Reached {
            worker,
            incarnation,
            found,
        },
        FleetEvent::Lost {
            worker,
            incarnation,
            reason,
        } => Event::Lost {
            worker,
            incarnation,
            reason,
        },
        FleetEvent::Stalled { reason } => Event::Stalled { reason },
        FleetEvent::Logged { worker, lines } => Event::Logged { worker, lines },
        FleetEvent::Leaving { worker } => Event::Leaving { worker },
    }
}

#[tonic::async_trait]
impl WorkerControl for WorkerGateway {
    type AttachStream = <Fleet as WorkerControl>::AttachStream;

    async fn attach(&self, request: Request<Streaming<v1::Report>>) -> Result<Response<Self::AttachStream>, Status> {
        let fleet = self.fleet.read().clone();
        match fleet {
            Some(fleet) => fleet.attach(request).await,
            None => Err(Status::unavailable(STANDBY_MESSAGE)),
        }
    }
}

/// The fleet of one epoch, as the leader uses it.
struct FleetExecutors {
    fleet: Fleet,
    gateway: WorkerGateway,
}

#[async_trait]
impl TaskExecutors for FleetExecutors {
    async fn deploy(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        allocation: &Allocation,
        request: deployer::DeployRequest,
    ) -> Result<Box<dyn Tasks>, Error> {
        self.fleet.deploy(job, resolved, allocation, request).await
    }

    async fn adopt(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        attempts: &[String],
        slots: &[String],
    ) -> Result<AdoptedTasks, Error> {
        self.fleet.adopt(job, resolved, attempts, slots).await
    }

    fn abandon(&self, attempt: &str) {
        self.fleet.abandon(attempt);
    }

    fn workers(&self) -> Vec<v1::Worker> {
        let workers = self.fleet.workers().into_iter().map(|worker| v1::Worker {
            name: worker.name,
            address: worker.address,
            version: worker.version,
            memory_bytes: worker.memory_bytes,
            clock_offset_us: worker.clock_offset_us,
            state_bytes: worker.state_bytes,
            ..v1::Worker::default()
        });
        workers.collect()
    }

    fn release(&self, worker: &str) {
        self.fleet.release(worker);
    }

    fn shut_down(&self, reason: &str) {
        *self.gateway.fleet.write() = None;
        self.fleet.shut_down(reason);
    }
}
