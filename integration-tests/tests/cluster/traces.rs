//! Traces that a cluster exports to an OpenTelemetry collector, a gRPC service in this process.

use std::sync::Arc;
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use parking_lot::Mutex;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::process_failures::KEPT;
use crate::test_cluster::{TestCluster, expected, until};

/// A received span with the service that sent it.
#[derive(Debug, Clone)]
struct ReceivedSpan {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    job: String,
}

#[derive(Clone, Default)]
struct Collector {
    received: Arc<Mutex<Vec<ReceivedSpan>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let of = resource.resource.unwrap_or_default();
            let service = text(&of.attributes, "service.name");
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.received.lock().push(ReceivedSpan {
                    service: service.clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    job: text(&span.attributes, "job"),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves until the test's process ends; returns the address.
    fn start(&self) -> String {
        let service = TraceServiceServer::new(self.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let incoming = {
            let _entered = runtime.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port")
        };
        let address = incoming.local_addr().expect("it listens");
        thread::spawn(move || runtime.block_on(Server::builder().add_service(service).serve_with_incoming(incoming)));
        format!("http://{address}")
    }

    fn find(&self, service: &str, name: &str) -> Option<ReceivedSpan> {
        let received = self.received.lock();
        let found = received
            .iter()
            .find(|span| span.service == service && span.name == name);
        found.cloned()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(any_value::Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_submission_is_one_trace_from_the_client_to_the_worker_and_checkpoints_have_theirs() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let cluster = TestCluster::new();
    let _coordinator = cluster.start_role("coordinator", cluster.port, &["--traces", &endpoint]);
    let _worker = cluster.worker_with("traced", &cluster.url(), &["--traces", &endpoint]);
    cluster.until_workers(1);

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let cause = format!("00-{trace}-00f067aa0ba902b7-01");
    cluster.cli_with(
        &[("TRACEPARENT", &cause)],
        "out",
        &["jobs", "submit", "cars.yaml", "--wait"],
        0,
    );
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());

    let (lead, work) = ("millstream-coordinator", "millstream-worker");
    let wanted = [
        (lead, "submit"),
        (lead, "deploy"),
        (lead, "restore state"),
        (work, "restore tasks"),
        (lead, "checkpoint"),
        (lead, "write manifest"),
        (lead, "publish"),
    ];
    until("all kinds of spans have arrived", || {
        wanted
            .iter()
            .all(|(service, name)| collector.find(service, name).is_some())
    });
    let [submit, deploy, restore, tasks, checkpoint, manifest, publish] =
        wanted.map(|(service, name)| collector.find(service, name).expect("just seen"));
    for span in [&submit, &deploy, &restore, &tasks] {
        assert_eq!(span.trace, trace, "{span:?}");
    }
    assert_eq!(submit.parent, "00f067aa0ba902b7");
    assert_eq!(deploy.parent, submit.id);
    assert_eq!(restore.parent, deploy.id);
    assert_eq!(tasks.parent, deploy.id, "the worker's part hangs on the coordinator's");
    assert_eq!((deploy.job.as_str(), checkpoint.job.as_str()), ("cars", "cars"));
    assert_ne!(checkpoint.trace, trace);
    assert_eq!((&manifest.trace, &manifest.parent), (&checkpoint.trace, &checkpoint.id));
    let received = collector.received.lock();
    let of_publish = received
        .iter()
        .find(|span| span.id == publish.parent)
        .expect("its checkpoint");
    assert_eq!(of_publish.name, "checkpoint");
}

#[test]
fn a_collector_that_is_not_there_is_reported_and_disturbs_nothing() {
    let cluster = TestCluster::new();
    let nowhere = format!("http://127.0.0.1:{}", crate::test_cluster::free_port());
    let standalone = cluster.standalone_with(&["--traces", &nowhere]);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    until("the log says that traces are lost", || {
        standalone.has_logged("traces cannot be sent to")
    });
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
}

#[test]
fn the_restart_of_a_region_is_a_trace_of_its_own() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let cluster = TestCluster::new();
    std::fs::write(cluster.path("kept.yaml"), KEPT).expect("a writable folder");
    let _coordinator = cluster.start_role("coordinator", cluster.port, &["--traces", &endpoint]);
    let mut dies = cluster.worker("dies");
    let _stays = cluster.worker("stays");
    cluster.until_workers(2);
    cluster.cli(&["jobs", "submit", "kept.yaml", "--wait"], 0);
    cluster.until_checkpoints("kept", 1);
    dies.kill();
    until("the restart has been told", || {
        collector.find("millstream-coordinator", "restart region").is_some()
    });
    let restart = collector
        .find("millstream-coordinator", "restart region")
        .expect("just seen");
    assert_eq!((restart.job.as_str(), restart.parent.as_str()), ("kept", ""));
    let received = collector.received.lock();
    let of_restart: Vec<&str> = received
        .iter()
        .filter(|span| span.parent == restart.id)
        .map(|span| span.name.as_str())
        .collect();
    assert_eq!(of_restart, ["wait for slots"], "{received:?}");
}
