//! Pipelines as HTTP services: each request is a batch of its own, run in memory over the plan of the pipeline.
//!
//! [`Service`] is one version of one pipeline: its plan, its tables and the formats of its requests. [`Services`] are
//! those of a process, by name; a version is replaced as a whole, and requests that have begun end with the version
//! that they began with. [`router`] serves them.
//!
//! The path of a request: [`body`] decodes it to rows, and lists all mistakes at once; [`RequestExecutor`] runs the
//! plan; [`answer`] encodes the rows of the sinks. [`admission`] limits how many run and wait, and for how long. Short
//! requests of pipelines without state share batches ([`shared`]).

mod admission;
mod answer;
mod body;
mod failure;
mod http;
mod openapi;
mod pool;
mod request_metrics;
mod shared;
mod tables;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;
use millstream_connectors::request::{REQUEST, RESPONSE};
use millstream_graph::{NodeIndex, Operator};
use millstream_planner::Mode;
use millstream_runtime::request::{RequestError, RequestExecutor, RequestLimits, RequestOutput, RequestRows};
use millstream_state::store::Backend;
use millstream_state::threads;
use parking_lot::RwLock;

use self::admission::Admission;
use self::answer::{AnswerFormat, Output};
use self::body::{BodyFormat, Input};
pub use self::failure::{Failure, RowError};
pub use self::http::router;
use self::request_metrics::RequestMetrics;
use self::shared::SharedQueue;
use crate::Error;
use crate::access::Access;
use crate::clock::now_us;
use crate::resolve::Resolved;

/// Interval at which the counters of services are published as metrics.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(500);

/// Limits of a service.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests of one pipeline that run at the same time.
    pub concurrency_max: usize,
    /// Requests of one pipeline that wait to run. Further ones are refused.
    pub queue_max: usize,
    /// Time for a request that names none.
    pub timeout: Duration,
    /// Largest body of a request.
    pub body_bytes_max: usize,
    /// Bytes that one operator may emit for one request.
    pub operator_bytes_max: usize,
}

/// Longest time that a request may ask for.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(600);

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency_max: 2 * std::thread::available_parallelism().map_or(1, usize::from),
            queue_max: 1_000,
            timeout: Duration::from_secs(30),
            body_bytes_max: 16 << 20,
            operator_bytes_max: 256 << 20,
        }
    }
}

/// One version of a pipeline that answers requests.
pub struct Service {
    name: String,
    executor: RequestExecutor,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    limits: Limits,
    admission: Admission,
    metrics: RequestMetrics,
    /// True if requests can share batches.
    can_share: bool,
    shared: SharedQueue,
}

impl Service {
    /// Prepares a pipeline: reads its tables, and makes everything that its requests share.
    pub async fn prepare(resolved: &Resolved, backend: Backend, limits: Limits) -> Result<Self, Error> {
        if resolved.settings.mode != Mode::Serve {
            return Err(Error::Invalid(
                "the pipeline is not planned for the mode `serve`; run it with `engine serve`".into(),
            ));
        }
        let graph = Arc::clone(&resolved.graph);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (index, node) in graph.nodes.iter().enumerate() {
            match &node.operator {
                Operator::Source(source) if source.table.connector() == REQUEST => {
                    inputs.push(Input::new(index, &source.table, source.on_error)?);
                }
                Operator::Sink(sink) if sink.table.connector() == RESPONSE => {
                    let schema = input_schema(&graph, index)?;
                    outputs.push(Output::new(index, sink.table.name.clone(), schema)?);
                }
                _ => {}
            }
        }
        let requested: Vec<NodeIndex> = inputs.iter().map(|input| input.source).collect();
        let rows = tables::read(&graph, &requested).await?;
        let executor = threads::run_blocking(move || RequestExecutor::new(graph, rows, &requested, backend))
            .await
            .map_err(|error| Error::Failed(format!("the service could not be prepared: {error}")))??;
        Ok(Self {
            name: resolved.resolved.name.clone(),
            metrics: RequestMetrics::new(&resolved.resolved.name),
            can_share: executor.can_share(),
            executor,
            inputs,
            outputs,
            admission: Admission::new(limits.concurrency_max, limits.queue_max),
            shared: SharedQueue::default(),
            limits,
        })
    }

    /// Returns the name of the pipeline.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes the metrics of requests, and the number of those that run or wait.
    fn publish(&self) {
        self.executor.counters().publish();
        self.metrics.publish();
        let requests = self.admission.in_progress() as f64;
        metrics::gauge!("millstream_requests_in_progress", "job" => self.name.clone()).set(requests);
    }

    /// Answers a request: returns the content type and the body of the response.
    fn invoke(
        &self,
        format: BodyFormat,
        body: &[u8],
        answer_format: AnswerFormat,
        wants_trace: bool,
        deadline: Instant,
    ) -> Result<(&'static str, Vec<u8>), Failure> {
        let rows = body::decode(&self.inputs, format, body)?;
        let result = self.run(rows, deadline, wants_trace)?;
        let graph = wants_trace.then(|| &**self.executor.graph());
        let body = answer::encode(&self.outputs, &result, answer_format, graph)?;
        Ok((answer_format.content_type(), body))
    }

    /// Checks the body of a request, and returns the number of rows of each table as a response.
    fn validate(&self, format: BodyFormat, body: &[u8]) -> Result<(&'static str, Vec<u8>), Failure> {
        let rows = body::decode(&self.inputs, format, body)?;
        let rows: serde_json::Map<_, _> = std::iter::zip(&self.inputs, rows)
            .map(|(input, rows)| (input.table.name.clone(), rows.rows.num_rows().into()))
            .collect();
        let answer = serde_json::json!({ "valid": true, "rows": rows });
        Ok((AnswerFormat::Json.content_type(), answer.to_string().into_bytes()))
    }

    /// Runs the plan over decoded rows. A panic fails the request, not the process.
    fn run(&self, rows: Vec<RequestRows>, deadline: Instant, wants_trace: bool) -> Result<RequestOutput, Failure> {
        let limits = RequestLimits {
            deadline: Some(deadline),
            node_bytes_max: self.limits.operator_bytes_max,
        };
        let run = || self.executor.run(rows, now_us(), &limits, wants_trace);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(RequestError::Failed(error))) => Err(Failure::of_rows(&error)),
            Ok(Err(RequestError::DeadlineExceeded { operator })) => Err(Failure::deadline(&operator)),
            Ok(Err(error @ RequestError::TooLarge { .. })) => Err(Failure::too_large(error.to_string())),
            Err(_) => Err(Failure::internal(
                "the request failed by an internal error; see the log",
            )),
        }
    }
}

/// Returns the columns of the rows that a sink gets.
fn input_schema(graph: &millstream_graph::JobGraph, index: NodeIndex) -> Result<SchemaRef, Error> {
    let schema = graph.input_schema(index, 0);
    schema.ok_or_else(|| Error::Failed(format!("{} has no input", graph.nodes[index].id)))
}

/// The services of a process.
#[derive(Default)]
pub struct Services {
    by_name: RwLock<BTreeMap<String, Arc<Service>>>,
    access: Access,
    is_draining: AtomicBool,
}

impl Services {
    /// Returns an empty set of services, which answer the callers that `access` accepts.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            ..Self::default()
        }
    }

    /// Adds services, each instead of the one of its name. Requests that have begun end with the version that they
    /// began with. Services that are not among the new ones are removed.
    pub fn replace(&self, services: Vec<Service>) {
        let services = services
            .into_iter()
            .map(|service| (service.name.clone(), Arc::new(service)));
        *self.by_name.write() = services.collect();
    }

    /// Refuses all requests from now on, and returns once those that have begun are answered, or at the deadline.
    /// Returns the number of requests that were not.
    pub async fn drain(&self, timeout: Duration) -> usize {
        self.is_draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + timeout;
        loop {
            let busy = self.all().iter().map(|service| service.admission.in_progress()).sum();
            if busy == 0 || Instant::now() >= deadline {
                return busy;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns true if requests are refused because the process ends.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Publishes the counters of all services at intervals. Runs until it is dropped.
    pub async fn publish(&self) {
        loop {
            for service in self.all() {
                service.publish();
            }
            tokio::time::sleep(PUBLISH_INTERVAL).await;
        }
    }

    /// Returns the names of all services.
    pub fn names(&self) -> Vec<String> {
        self.by_name.read().keys().cloned().collect()
    }

    fn find(&self, name: &str) -> Option<Arc<Service>> {
        self.by_name.read().get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<Service>> {
        self.by_name.read().values().cloned().collect()
    }
}
