//! The HTTP surface of services, below `/v1/pipelines`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::StreamExt;
use millstream_proto::spec::did_you_mean;
use millstream_state::threads;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::admission::Entry;
use super::answer::AnswerFormat;
use super::body::BodyFormat;
use super::shared::{BATCH_BYTES_MAX, SharedRequest};
use super::{Failure, Service, Services, TIMEOUT_MAX, openapi, shared};
use crate::access::{Caller, Right, Surface};
use crate::spans;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-ms");
/// Longest request id that is taken from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Returns the routes of all services of a process.
pub fn router(services: Arc<Services>) -> Router {
    Router::new()
        .route("/v1/pipelines", any(list))
        .route("/v1/pipelines/{name}", any(describe))
        .route("/v1/pipelines/{name}/openapi.json", any(description))
        .route("/v1/pipelines/{name}/invoke", any(invoke))
        .route("/v1/pipelines/{name}/validate", any(validate))
        .route("/v1/{*rest}", any(unknown_path))
        .with_state(services)
}

/// Query parameters of `invoke`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    trace: Option<String>,
}

type Shared = State<Arc<Services>>;

async fn invoke(services: Shared, name: Path<String>, request: Request) -> Response {
    respond(&services, &name, request, Call::Invoke).await
}

async fn validate(services: Shared, name: Path<String>, request: Request) -> Response {
    respond(&services, &name, request, Call::Validate).await
}

async fn list(State(services): Shared, method: Method, headers: HeaderMap) -> Result<Response, Failure> {
    only(&method, &Method::GET)?;
    let caller = authorize(&services, &headers, Right::Read, None)?;
    let all = services.all();
    let seen = all.iter().filter(|service| caller.sees(service.name()));
    let all: Vec<_> = seen.map(openapi::summary).collect();
    Ok(axum::Json(serde_json::json!({ "pipelines": all })).into_response())
}

async fn describe(
    State(services): Shared,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    read(&services, &name, &method, &headers, openapi::summary)
}

async fn description(
    State(services): Shared,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    read(&services, &name, &method, &headers, openapi::document)
}

/// Answers with a description of a pipeline.
fn read<T: Serialize>(
    services: &Services,
    name: &str,
    method: &Method,
    headers: &HeaderMap,
    describe: impl Fn(&Arc<Service>) -> T,
) -> Result<Response, Failure> {
    only(method, &Method::GET)?;
    authorize(services, headers, Right::Read, Some(name))?;
    Ok(axum::Json(describe(&find(services, name)?)).into_response())
}

async fn unknown_path(request: Request) -> Failure {
    Failure::unknown_path(format!(
        "there is no `{}`; pipelines are at /v1/pipelines, and answer POST /v1/pipelines/NAME/invoke",
        request.uri().path()
    ))
}

/// Returns the caller, if it has a right on the pipeline that the request names.
fn authorize(
    services: &Services,
    headers: &HeaderMap,
    right: Right,
    pipeline: Option<&str>,
) -> Result<Caller, Failure> {
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let caller = services.access.caller(Surface::Service, authorization);
    let caller = caller.map_err(Failure::of_access)?;
    caller.check(right, pipeline).map_err(Failure::of_access)?;
    Ok(caller)
}

fn only(method: &Method, expected: &Method) -> Result<(), Failure> {
    match method == expected {
        true => Ok(()),
        false => Err(Failure::method(format!(
            "{method} is not possible here; use {expected}"
        ))),
    }
}

fn find(services: &Services, name: &str) -> Result<Arc<Service>, Failure> {
    services.find(name).ok_or_else(|| {
        let all = services.all();
        let names: Vec<&str> = all.iter().map(|service| service.name()).collect();
        let near = match did_you_mean(name, names.iter().copied()) {
            near if near.is_empty() => format!("; there are {}", names.join(", ")),
            near => near,
        };
        Failure::unknown_pipeline(format!("there is no pipeline `{name}`{near}"))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Invoke,
    Validate,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Validate => "validate",
        }
    }
}

/// Answers a request, and counts it.
async fn respond(services: &Services, name: &str, request: Request, call: Call) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        target: spans::TARGET,
        parent: None,
        "request",
        otel.name = call.name(),
        otel.kind = "server",
        pipeline = name,
        request_id = id.to_str().unwrap_or_default(),
    );
    let parent = request.headers().get(spans::TRACE_PARENT_HEADER);
    spans::set_parent(
        &span,
        parent.and_then(|parent| parent.to_str().ok()).unwrap_or_default(),
    );
    // A caller without rights does not learn which pipelines there are.
    let authorized = authorize(services, request.headers(), Right::Operate, Some(name));
    let (service, result) = match authorized.and_then(|_| find(services, name)) {
        Ok(service) => {
            let answered = answer(services, &service, request, call, began);
            let answered = answered.instrument(span.clone()).await;
            (Some(service), answered)
        }
        Err(failure) => (None, Err(failure)),
    };
    let mut response = match result {
        Ok(response) => response,
        Err(failure) => {
            spans::set_error(&span, &failure.message);
            failure.into_response()
        }
    };
    match service {
        Some(service) => service.metrics.count(response.status(), began.elapsed()),
        // A name that is not known does not become a label.
        None => {
            let status = response.status().as_str().to_string();
            metrics::counter!("millstream_requests_total", "job" => "", "status" => status).increment(1);
        }
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Returns the id of the client, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let of_client = headers.get(REQUEST_ID).filter(|id| {
        let is_plain = id.as_bytes().iter().all(u8::is_ascii_graphic);
        is_plain && (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
    });
    of_client.cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().simple().to_string();
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none"))
    })
}

async fn answer(
    services: &Services,
    service: &Arc<Service>,
    request: Request,
    call: Call,
    began: Instant,
) -> Result<Response, Failure> {
    only(request.method(), &Method::POST)?;
    if services.is_draining() {
        return Err(Failure::draining());
    }
    let deadline = began + timeout(request.headers(), service.limits.timeout)?;
    let format = BodyFormat::of(header(request.headers(), CONTENT_TYPE))?;
    let answer_format = AnswerFormat::of(header(request.headers(), ACCEPT))?;
    let wants_trace = wants_trace(&request)?;
    let mut entry = service.admission.enter()?;
    let body = read_body(service, &mut entry, request, deadline).await?;
    // Without state a request takes microseconds, less than passing it to another thread would.
    let is_short = service.executor.is_stateless() && body.len() <= BATCH_BYTES_MAX;
    let is_json = format != BodyFormat::Csv && answer_format == AnswerFormat::Json && !wants_trace;
    if call == Call::Invoke && is_short && is_json && service.can_share {
        let request = SharedRequest { format, body, deadline };
        let body = shared::invoke(service, request).await?;
        return Ok(success(answer_format.content_type(), body));
    }
    let permit = entry.run(deadline).await?;
    let work = {
        let service = Arc::clone(service);
        move || {
            // Held until the work has ended, also if the client disconnects before.
            let _permit = permit;
            match call {
                Call::Invoke => service.invoke(format, &body, answer_format, wants_trace, deadline),
                Call::Validate => service.validate(format, &body),
            }
        }
    };
    let (content_type, body) = match is_short {
        true => work()?,
        false => threads::run_blocking(work)
            .await
            .map_err(|_| Failure::internal("the request failed by an internal error; see the log"))??,
    };
    Ok(success(content_type, body))
}

fn success(content_type: &'static str, body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response()
}

/// Returns the value of a header; `None` if the request lacks it or it is not text.
fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the time that the client gives the request, or the default.
fn timeout(headers: &HeaderMap, default: Duration) -> Result<Duration, Failure> {
    let Some(given) = headers.get(TIMEOUT) else {
        return Ok(default);
    };
    let max_ms = TIMEOUT_MAX.as_millis() as u64;
    let ms = given.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    match ms.filter(|ms| (1..=max_ms).contains(ms)) {
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(Failure::invalid_parameter(format!(
            "X-Timeout-Ms is `{}`; it is a number of milliseconds from 1 to {max_ms}",
            String::from_utf8_lossy(given.as_bytes())
        ))),
    }
}

/// Returns true if the request asks for the output of each step.
fn wants_trace(request: &Request) -> Result<bool, Failure> {
    let parameters = Query::<Parameters>::try_from_uri(request.uri());
    let Query(parameters) = parameters.map_err(|error| Failure::invalid_parameter(error.body_text()))?;
    match parameters.trace.as_deref() {
        None => Ok(false),
        Some("steps") => Ok(true),
        Some(other) => Err(Failure::invalid_parameter(format!(
            "trace is `{other}`; the only value is `steps`"
        ))),
    }
}

/// Reads the body, up to the limit and the deadline.
async fn read_body(
    service: &Service,
    entry: &mut Entry<'_>,
    request: Request,
    deadline: Instant,
) -> Result<Vec<u8>, Failure> {
    let bytes_max = service.limits.body_bytes_max;
    let too_large = || {
        Failure::too_large(format!(
            "the body has more than {bytes_max} bytes (--body-max); send fewer rows at a time"
        ))
    };
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let mut chunks = request.into_body().into_data_stream();
    let mut body = Vec::new();
    let read = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Failure::malformed(format!("the body could not be read: {error}")))?;
            if body.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            entry.add_body(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout_at(deadline.into(), read).await {
        Ok(read) => read.map(|()| body),
        Err(_) => Err(Failure::deadline("the body of the request")),
    }
}
