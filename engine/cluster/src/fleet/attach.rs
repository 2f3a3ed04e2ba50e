//! Attaching of workers: the gRPC service, and the checks that a worker must pass.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use millstream_proto::v1;
use millstream_proto::v1::worker_control_server::{WorkerControl, WorkerControlServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::link::{Link, ORDERS_MAX};
use super::{Fleet, FleetEvent, Inner, reachability, reports};
use crate::clock::now_us as clock_us;
use crate::worker_protocol::MESSAGE_BYTES_MAX;

/// Longest name of a worker.
const NAME_BYTES_MAX: usize = 200;
/// Slots of one worker, at most.
const SLOTS_MAX: u32 = 1_024;

impl Fleet {
    /// Returns the gRPC service that workers attach to.
    pub fn service(&self) -> WorkerControlServer<Fleet> {
        WorkerControlServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl WorkerControl for Fleet {
    type AttachStream = BoxStream<'static, Result<v1::Order, Status>>;

    async fn attach(&self, request: Request<Streaming<v1::Report>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut reports = request.into_inner();
        let first = reports.message().await?.and_then(|report| report.report);
        let Some(v1::report::Report::Register(register)) = first else {
            return Err(Status::invalid_argument("a worker registers first"));
        };
        if let Some(reason) = self.inner.shutdown_reason.lock().clone() {
            return Err(Status::unavailable(reason));
        }
        let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
        if let Some(reason) = self.inner.rejection_reason(&register) {
            return Ok(Response::new(rejection(self.inner.options.epoch, reason).boxed()));
        }
        let link = self.inner.attach(&register, orders)?;
        let (running, unwanted) = self.inner.partition_running(&register.running);
        let welcome = v1::Welcome {
            heartbeat_ms: self.inner.options.heartbeat.as_millis() as u64,
            orphan_timeout_ms: self.inner.options.orphan_timeout.as_millis() as u64,
            cancel_attempts: unwanted,
            clock_us: clock_us(),
            cluster: self.inner.options.cluster.clone(),
        };
        link.order(v1::order::Order::Welcome(welcome))
            .map_err(|error| Status::unavailable(error.to_string()))?;
        tracing::info!(
            worker = link.name,
            address = link.address,
            slots = link.slots,
            "worker attached"
        );
        self.inner
            .send_event(FleetEvent::Attached {
                worker: link.name.clone(),
                incarnation: link.incarnation.clone(),
                slots: link.slots,
                running,
            })
            .await;
        tokio::spawn(reachability::probe(Arc::clone(&self.inner), Arc::downgrade(&link)));
        let closed = link.closed.clone();
        tokio::spawn(reports::listen(
            Arc::clone(&self.inner),
            Arc::downgrade(&link),
            link.name.clone(),
            link.incarnation.clone(),
            reports,
            closed.clone(),
        ));
        // The stream ends with the link, although attempts still hold a sender.
        let orders = ReceiverStream::new(orders_in).take_until(closed.cancelled_owned());
        Ok(Response::new(orders.boxed()))
    }
}

fn rejection(epoch: u64, reason: String) -> impl Stream<Item = Result<v1::Order, Status>> {
    tracing::warn!("worker rejected: {reason}");
    let order = v1::Order {
        epoch,
        order: Some(v1::order::Order::Refused(v1::Refused { reason })),
    };
    futures::stream::once(async { Ok(order) })
}

impl Inner {
    /// Returns the reason why a worker must not be admitted, which no retry can change.
    fn rejection_reason(&self, register: &v1::Register) -> Option<String> {
        if register.version != self.options.version {
            return Some(format!(
                "worker {} has version {}, this coordinator {}; start the same version",
                register.name, register.version, self.options.version
            ));
        }
        if register.name.is_empty() || register.slots == 0 {
            return Some("a worker needs a name and at least one slot".into());
        }
        if register.name.len() > NAME_BYTES_MAX || register.name.chars().any(char::is_control) {
            return Some(format!(
                "a worker's name has at most {NAME_BYTES_MAX} bytes (NAME_BYTES_MAX) and no control characters; this one has \
                 {} (--name)",
                register.name.len()
            ));
        }
        if register.slots > SLOTS_MAX {
            return Some(format!(
                "worker {} offers {} slots, more than the {SLOTS_MAX} that one may have (SLOTS_MAX): a slot is a thread, so \
                 as many as there are cores suit it (--slots)",
                register.name, register.slots
            ));
        }
        let folder = (register.data_dir.as_str(), register.cluster.as_str());
        check_cluster(&register.name, folder, &self.options.cluster)
    }

    /// Divides the attempts that a worker runs when it attaches into those that can be adopted and those that must
    /// end. Attempts that it ran for this coordinator before it was lost have failed, so they must end.
    fn partition_running(&self, running: &[v1::RunningAttempt]) -> (Vec<String>, Vec<String>) {
        let adoptable = self.adoptable.lock();
        let may_go_on = |running: &&v1::RunningAttempt| {
            running.is_deployed && !running.is_stopping && adoptable.contains(&running.attempt)
        };
        let (adoptable, unwanted): (Vec<_>, Vec<_>) = running.iter().partition(may_go_on);
        let attempts =
            |running: Vec<&v1::RunningAttempt>| running.iter().map(|running| running.attempt.clone()).collect();
        (attempts(adoptable), attempts(unwanted))
    }

    fn attach(
        &self,
        register: &v1::Register,
        orders: mpsc::Sender<Result<v1::Order, Status>>,
    ) -> Result<Arc<Link>, Status> {
        let link = Arc::new(Link::new(register, self.options.epoch, orders));
        let mut links = self.links.lock();
        // Checked again while the list is locked. A shutdown sets the reason before it empties the list; without this
        // check, a worker that attaches in between would be told to end tasks that the next coordinator is to adopt.
        if let Some(reason) = self.shutdown_reason.lock().clone() {
            return Err(Status::unavailable(reason));
        }
        if let Some(known) = links.get(&register.name) {
            return Err(Status::already_exists(format!(
                "a worker called `{}` is attached already, at {}; if that is another one, give this one another name \
                 (--name)",
                register.name, known.address
            )));
        }
        links.insert(register.name.clone(), Arc::clone(&link));
        Ok(link)
    }
}

/// Returns the reason why a worker with this data folder must not be admitted to this cluster, if there is one.
fn check_cluster(worker: &str, (folder, owner): (&str, &str), cluster: &str) -> Option<String> {
    if owner.is_empty() || cluster.is_empty() || owner == cluster {
        return None;
    }
    Some(format!(
        "the data folder {folder} of worker {worker} belongs to cluster {owner}, and this is cluster {cluster}; nothing in \
         it was changed. Give the worker another folder (--data-dir) or the addresses of its own cluster (--coordinator); \
         if that cluster is no more, remove the folder: it holds nothing but copies"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_cluster_is_refused_by_name() {
        assert_eq!(check_cluster("w", ("/d", ""), "b"), None);
        assert_eq!(check_cluster("w", ("/d", "b"), "b"), None);
        let refusal = check_cluster("w", ("/d", "a"), "b").unwrap();
        assert!(
            refusal.starts_with(
                "the data folder /d of worker w belongs to cluster a, and this is cluster b; nothing in it"
            ),
            "{refusal}"
        );
    }
}
