//! REST/JSON below `/api/v1`, by the table of [`super::routes`].
//!
//! Responses are the messages as JSON. An error is `{code, message, mistakes}` with a matching status. Streams are
//! server-sent events whose data are messages. A body must have the content type of JSON, which a web page of another
//! origin cannot send without a preflight request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use futures::StreamExt;
use millstream_proto::json;
use serde_json::{Map, Value};

use super::admission::Admission;
use super::openapi;
use super::routes::{Method, PREFIX, Route, Run, table};
use super::{BODY_TIMEOUT, REQUEST_BYTES_MAX, detail};
use crate::access::{Access, Guard, Surface};
use crate::api::{Api, Code, Error};
use crate::spans;

/// Interval of comments on a silent event stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Returns the client API as REST/JSON, with its description at `/api/v1/openapi.json`, which needs no token.
pub fn router(api: Arc<dyn Api>, access: &Access) -> Router {
    let admission = Admission::new("rest");
    let mut router = Router::new();
    for route in table() {
        let (path, method) = (format!("{PREFIX}{}", route.path), filter(route.method));
        let handler = Arc::new(RouteHandler::new(api.clone(), access.clone(), admission.clone(), route));
        router = router.route(
            &path,
            on(method, move |path, query, headers, request| {
                answer(handler.clone(), path, query, headers, request)
            }),
        );
    }
    router
        .route(&format!("{PREFIX}/openapi.json"), get(description))
        .route("/api/{*rest}", axum::routing::any(unknown_path))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// Handler of one route's requests.
struct RouteHandler {
    api: Arc<dyn Api>,
    access: Access,
    admission: Admission,
    route: Route,
    /// List fields of the message. In a query their values are separated by commas.
    lists: Vec<String>,
}

impl RouteHandler {
    fn new(api: Arc<dyn Api>, access: Access, admission: Admission, route: Route) -> Self {
        let schemas: BTreeMap<String, Value> = json::schema::schemas([route.request], "schemas");
        let properties = schemas[route.request]["properties"].as_object();
        let lists = properties
            .into_iter()
            .flatten()
            .filter(|(_, schema)| schema["type"] == "array")
            .map(|(name, _)| name.clone())
            .collect();
        Self {
            api,
            access,
            admission,
            route,
            lists,
        }
    }

    /// Returns the API as the caller of a request may use it.
    fn api_for(&self, headers: &HeaderMap) -> Result<Arc<dyn Api>, Error> {
        let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let caller = self.access.caller(Surface::Rest, authorization)?.identified()?;
        Ok(Arc::new(Guard::new(self.api.clone(), caller)))
    }

    fn request(
        &self,
        path: &RawPathParams,
        query: Vec<(String, String)>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Value, Error> {
        let invalid = |message: String| Error::new(Code::InvalidRequest, message);
        let mut request = match body.is_empty() {
            true => Map::new(),
            false if self.route.method != Method::Post => {
                return Err(invalid("this call takes no body; use the query".to_string()));
            }
            false => parse_body(headers, body)?,
        };
        for (name, value) in query {
            let value = if self.lists.contains(&name) {
                value.split(',').filter(|part| !part.is_empty()).collect()
            } else {
                Value::String(value)
            };
            if request.insert(name.clone(), value).is_some() {
                return Err(invalid(format!("{name}: given twice")));
            }
        }
        for (name, value) in path {
            set_field(&mut request, self.route.field(name), value).map_err(invalid)?;
        }
        Ok(Value::Object(request))
    }
}

fn parse_body(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Error> {
    let invalid = |message: String| Error::new(Code::InvalidRequest, message);
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
        return Err(invalid(
            "the body must be JSON and say so: `content-type: application/json`".to_string(),
        ));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(invalid("the body must be a JSON object".to_string())),
        Err(error) => Err(invalid(format!("the body is not JSON: {error}"))),
    }
}

/// Sets a field, given by its path in the message.
fn set_field(request: &mut Map<String, Value>, field: &str, value: &str) -> Result<(), String> {
    match field.split_once('.') {
        None => match request.insert(field.to_string(), value.into()) {
            Some(other) if other != value => Err(format!("{field}: differs from the one in the path")),
            _ => Ok(()),
        },
        Some((outer, inner)) => match request.entry(outer).or_insert_with(|| Map::new().into()) {
            Value::Object(nested) => set_field(nested, inner, value),
            _ => Err(format!("{outer}: expected an object")),
        },
    }
}

/// Body of a request; `None` if it did not arrive in time.
struct Body(Option<Result<Bytes, BytesRejection>>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        let arriving = Bytes::from_request(request, state);
        Ok(Self(tokio::time::timeout(BODY_TIMEOUT, arriving).await.ok()))
    }
}

async fn answer(
    handler: Arc<RouteHandler>,
    path: RawPathParams,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    // Before the body is read.
    let api = match handler.api_for(&headers) {
        Ok(api) => api,
        Err(error) => return error_response(&error),
    };
    let Ok(Body(body)) = Body::from_request(request, &()).await;
    let body = match body {
        Some(Ok(body)) => Ok(body),
        Some(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => return body_too_large(),
        Some(Err(error)) => Err(Error::new(Code::InvalidRequest, error.body_text())),
        None => return body_timed_out(),
    };
    let request = query
        .map_err(|error| Error::new(Code::InvalidRequest, error.body_text()))
        .and_then(|Query(query)| {
            let body = body?;
            handler.request(&path, query, &headers, &body)
        });
    let request = match request {
        Ok(request) => request,
        Err(error) => return error_response(&error),
    };
    let trace_parent = headers
        .get(spans::TRACE_PARENT_HEADER)
        .and_then(|value| value.to_str().ok());
    let admission = handler.admission.with_trace_parent(trace_parent);
    let name = handler.route.name;
    match &handler.route.run {
        Run::Once(run) => match run(api, admission, name, request).await {
            Ok(value) => axum::Json(value).into_response(),
            Err(error) => error_response(&error),
        },
        Run::Stream(run) => match run(api, admission, name, request).await {
            Ok(stream) => {
                let events = stream.map(|value| Ok::<_, Infallible>(Event::default().data(value.to_string())));
                Sse::new(events)
                    .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
                    .into_response()
            }
            Err(error) => error_response(&error),
        },
    }
}

/// The status is not 429: a retry cannot succeed, since the limit is for a single request.
fn body_too_large() -> Response {
    let message = format!("the request has more than {REQUEST_BYTES_MAX} bytes (REQUEST_BYTES_MAX)");
    error_response_with_status(StatusCode::PAYLOAD_TOO_LARGE, &Error::new(Code::LimitReached, message))
}

fn body_timed_out() -> Response {
    let message = format!(
        "the body of the request did not arrive within {} s (BODY_TIMEOUT)",
        BODY_TIMEOUT.as_secs()
    );
    error_response_with_status(StatusCode::REQUEST_TIMEOUT, &Error::new(Code::InvalidRequest, message))
}

fn error_response(error: &Error) -> Response {
    let status = match error.code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::InvalidPipeline => StatusCode::UNPROCESSABLE_ENTITY,
        Code::JobNotFound | Code::CheckpointNotFound | Code::WorkerNotFound => StatusCode::NOT_FOUND,
        Code::NameInUse | Code::CheckpointDoesNotFit | Code::WrongState => StatusCode::CONFLICT,
        Code::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Code::NotLeader => StatusCode::MISDIRECTED_REQUEST,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    error_response_with_status(status, error)
}

fn error_response_with_status(status: StatusCode, error: &Error) -> Response {
    let mut body = json::to_value(&detail(error));
    body["message"] = error.message.clone().into();
    let mut response = (status, axum::Json(body)).into_response();
    if error.code == Code::Unauthenticated {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

async fn description() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| openapi::description(&table()).to_string());
    ([(header::CONTENT_TYPE, "application/json")], text.as_str())
}

async fn unknown_path(request: Request) -> Response {
    let error = Error::new(
        Code::InvalidRequest,
        format!(
            "there is no call `{} {}`; {PREFIX}/openapi.json lists them",
            request.method(),
            request.uri().path()
        ),
    );
    error_response_with_status(StatusCode::NOT_FOUND, &error)
}

async fn method_not_allowed(request: Request) -> Response {
    let error = Error::new(
        Code::InvalidRequest,
        format!(
            "`{}` does not take {}; {PREFIX}/openapi.json lists the calls",
            request.uri().path(),
            request.method()
        ),
    );
    error_response_with_status(StatusCode::METHOD_NOT_ALLOWED, &error)
}
