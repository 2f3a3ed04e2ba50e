//! Table of the REST calls. The router and the OpenAPI description are both generated from it.
//!
//! The message of a request is assembled from the names in the path, the query and the JSON body. The fields are
//! those of the message type.

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use millstream_proto::{json, v1};
use prost::{Message, Name};
use serde_json::Value;

use super::admission::Admission;
use crate::api::{Api, Code, Error};

/// Path below which all calls are served.
pub(super) const PREFIX: &str = "/api/v1";

/// HTTP method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Delete,
}

/// A REST call.
pub(super) struct Route {
    pub method: Method,
    /// Path below `/api/v1`. A name in braces is a field of the request's message.
    pub path: &'static str,
    /// Names in the path that are nested in the message, with their paths there.
    pub nested: &'static [(&'static str, &'static str)],
    /// Unique name; OpenAPI's `operationId`, and a label of metrics.
    pub name: &'static str,
    pub summary: &'static str,
    /// Message type of the request.
    pub request: &'static str,
    /// Message type of the response, or of each event of a stream.
    pub answer: &'static str,
    pub run: Run,
}

type Once =
    dyn Fn(Arc<dyn Api>, Admission, &'static str, Value) -> BoxFuture<'static, Result<Value, Error>> + Send + Sync;
type Events = dyn Fn(Arc<dyn Api>, Admission, &'static str, Value) -> BoxFuture<'static, Result<BoxStream<'static, Value>, Error>>
    + Send
    + Sync;

/// The function that serves a call.
#[derive(Clone)]
pub(super) enum Run {
    Once(Arc<Once>),
    /// Server-sent events.
    Stream(Arc<Events>),
}

impl Route {
    /// Returns the field that a name in the path stands for.
    pub(super) fn field<'a>(&self, name: &'a str) -> &'a str
    where
        'static: 'a,
    {
        self.nested
            .iter()
            .find(|(of_path, _)| *of_path == name)
            .map_or(name, |(_, field)| field)
    }

    /// Returns the names in the path.
    pub(super) fn path_names(&self) -> impl Iterator<Item = &'static str> {
        self.path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    fn nested(mut self, nested: &'static [(&'static str, &'static str)]) -> Self {
        self.nested = nested;
        self
    }
}

fn parse<Q: Message + Name + Default>(value: &Value) -> Result<Q, Error> {
    json::from_value(value).map_err(|error| Error::new(Code::InvalidRequest, error.to_string()))
}

fn call<Q, A, C, F>(method: Method, path: &'static str, name: &'static str, summary: &'static str, call: C) -> Route
where
    Q: Message + Name + Default,
    A: Message + Name + 'static,
    C: Fn(Arc<dyn Api>, Q) -> F + Send + Sync + 'static,
    F: Future<Output = Result<A, Error>> + Send + 'static,
{
    let call = Arc::new(call);
    let run = move |api: Arc<dyn Api>, admission: Admission, name: &'static str, value: Value| {
        let call = call.clone();
        async move {
            let answer = call(api, parse::<Q>(&value)?);
            Ok(json::to_value(&admission.call(name, answer).await?))
        }
        .boxed()
    };
    Route {
        method,
        path,
        nested: &[],
        name,
        summary,
        request: Q::NAME,
        answer: A::NAME,
        run: Run::Once(Arc::new(run)),
    }
}

fn stream<Q, A, C, F>(path: &'static str, name: &'static str, summary: &'static str, open: C) -> Route
where
    Q: Message + Name + Default,
    A: Message + Name + 'static,
    C: Fn(Arc<dyn Api>, Q) -> F + Send + Sync + 'static,
    F: Future<Output = Result<BoxStream<'static, A>, Error>> + Send + 'static,
{
    let open = Arc::new(open);
    let run = move |api: Arc<dyn Api>, admission: Admission, name: &'static str, value: Value| {
        let open = open.clone();
        async move {
            let opened = open(api, parse::<Q>(&value)?);
            let stream = admission.stream(name, opened).await?;
            Ok(stream.map(|event| json::to_value(&event)).boxed())
        }
        .boxed()
    };
    Route {
        method: Method::Get,
        path,
        nested: &[],
        name,
        summary,
        request: Q::NAME,
        answer: A::NAME,
        run: Run::Stream(Arc::new(run)),
    }
}

/// `api_method!(method, Request)` is a closure that calls a method of the API.
macro_rules! api_method {
    ($method:ident, $request:ident) => {
        |api: Arc<dyn Api>, request: v1::$request| async move { api.$method(request).await }
    };
}

/// Returns every call.
#[rustfmt::skip]
pub(super) fn table() -> Vec<Route> {
    use Method::{Delete, Get, Post};
    vec![
        call(Get, "/cluster", "info", "Identity of the cluster and its leader", api_method!(info, ClusterInfoRequest)),
        call(Get, "/jobs", "list_jobs", "Jobs; ended ones too with all=true", api_method!(list_jobs, ListJobsRequest)),
        call(Post, "/jobs", "submit", "Plan, check, store and start a job", api_method!(submit, SubmitRequest)),
        call(Post, "/validate", "validate", "Plan without submitting; all mistakes at once", api_method!(validate, ValidateRequest)),
        call(Post, "/diff", "diff", "Compare the state in a checkpoint with a pipeline", api_method!(diff, DiffRequest)),
        stream("/watch", "watch", "The present state of jobs, then each change", api_method!(watch, WatchJobsRequest)),
        call(Get, "/jobs/{name}", "job", "One job", api_method!(job, GetJobRequest)),
        call(Delete, "/jobs/{name}", "delete", "Delete an ended job and its checkpoints; savepoints are kept", api_method!(delete, DeleteJobRequest)),
        call(Post, "/jobs/{name}/stop", "stop", "End a job with a last checkpoint", api_method!(stop, StopJobRequest)),
        call(Post, "/jobs/{name}/cancel", "cancel", "End a job at once", api_method!(cancel, CancelJobRequest)),
        call(Post, "/jobs/{name}/rescale", "rescale", "Change a job's parallelism", api_method!(rescale, RescaleJobRequest)),
        call(Post, "/jobs/{name}/update", "update", "Replace a job's pipeline", api_method!(update, UpdateJobRequest)),
        call(Post, "/jobs/{name}/restart", "restart", "Restart a job from its latest checkpoint", api_method!(restart, RestartJobRequest)),
        stream("/jobs/{name}/logs", "logs", "Log of a job", api_method!(logs, JobLogsRequest)),
        call(Get, "/jobs/{job}/checkpoints", "list_checkpoints", "Checkpoints of a job, newest first", api_method!(list_checkpoints, ListCheckpointsRequest)),
        call(Get, "/jobs/{job}/checkpoints/{checkpoint}", "inspect_checkpoint", "Contents of a checkpoint", api_method!(inspect_checkpoint, InspectCheckpointRequest))
            .nested(&[("job", "checkpoint.job"), ("checkpoint", "checkpoint.checkpoint")]),
        stream("/jobs/{job}/verify", "verify_checkpoints", "Verify all files of checkpoints; the last event is the result", api_method!(verify_checkpoints, VerifyCheckpointsRequest)),
        call(Post, "/jobs/{job}/checkpoints", "create_checkpoint", "Take a checkpoint now", api_method!(create_checkpoint, CreateCheckpointRequest)),
        call(Delete, "/jobs/{job}/checkpoints/{checkpoint}", "delete_checkpoint", "Delete a checkpoint that is not needed", api_method!(delete_checkpoint, DeleteCheckpointRequest)),
        call(Post, "/jobs/{job}/savepoints", "create_savepoint", "Take a checkpoint that is kept until it is deleted", api_method!(create_savepoint, CreateSavepointRequest)),
        call(Delete, "/jobs/{job}/savepoints/{name}", "delete_savepoint", "Delete a savepoint", api_method!(delete_savepoint, DeleteSavepointRequest)),
        call(Get, "/jobs/{job}/transactions", "list_transactions", "Open transactions of a job's exactly-once sinks", api_method!(list_transactions, ListTransactionsRequest))
            .nested(&[("job", "owner.job")]),
        call(Post, "/jobs/{job}/transactions/abort", "abort_transactions", "Abort open transactions of a job", api_method!(abort_transactions, AbortTransactionsRequest))
            .nested(&[("job", "owner.job")]),
        call(Post, "/transactions/list", "list_transactions_of_pipeline", "The same of a pipeline whose job is gone", api_method!(list_transactions, ListTransactionsRequest)),
        call(Post, "/transactions/abort", "abort_transactions_of_pipeline", "The same of a pipeline whose job is gone", api_method!(abort_transactions, AbortTransactionsRequest)),
        call(Get, "/workers", "list_workers", "Workers", api_method!(list_workers, ListWorkersRequest)),
        call(Post, "/workers/{name}/drain", "drain_worker", "Move a worker's tasks to other workers", api_method!(drain_worker, DrainWorkerRequest)),
    ]
}
