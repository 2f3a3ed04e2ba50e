//! Failures of requests: a status, a stable code, a message, and the rows that are to blame.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use millstream_runtime::Error;
use serde_json::{Map, Value, json};

use crate::api;

/// Most mistakes of a request that its response lists.
const ROW_ERRORS_MAX: usize = 100;
/// Seconds after which a refused request may be sent again.
const RETRY_AFTER_SECONDS: &str = "1";

/// A mistake in one row of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Table of the row.
    pub table: String,
    /// Number of the row in its table, from 0.
    pub row: usize,
    /// Description of the mistake.
    pub message: String,
}

/// A request without a result.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Status of the response.
    pub status: StatusCode,
    /// Stable name of the kind of failure.
    pub code: &'static str,
    /// Description of the failure and the remedy.
    pub message: String,
    /// The mistakes of rows.
    pub rows: Vec<RowError>,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            rows: Vec::new(),
        }
    }

    /// The body cannot be read as its content type.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_body", message)
    }

    /// A header or query parameter is invalid.
    pub(super) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", message)
    }

    /// Rows do not fit the columns of their tables.
    pub(super) fn invalid_rows(rows: Vec<RowError>) -> Self {
        let message = match rows.as_slice() {
            [one] => format!("row {} of `{}`: {}", one.row, one.table, one.message),
            _ => format!("{} rows are invalid", rows.len()),
        };
        Self {
            rows,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_rows", message)
        }
    }

    /// A row failed in the pipeline, or the pipeline did.
    pub(super) fn of_rows(error: &Error) -> Self {
        match error {
            Error::Operator { .. } | Error::DataFusion(_) | Error::Arrow(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "failed_row", error.to_string())
            }
            _ => Self::internal(error.to_string()),
        }
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// `place` is where the request was when its time was over.
    pub(super) fn deadline(place: &str) -> Self {
        let message = format!("the deadline passed in {place}; send fewer rows, or a longer X-Timeout-Ms");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message)
    }

    pub(super) fn queue_full(queue_max: usize) -> Self {
        let message = format!("{queue_max} requests wait already (the limit of the queue); try again later");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
    }

    pub(super) fn bodies_full(bytes_max: usize) -> Self {
        let message = format!(
            "the bodies of the requests in progress have {bytes_max} bytes already (BODIES_BYTES_MAX); try again later"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
    }

    pub(super) fn draining() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "the process is shutting down; send the request to another one",
        )
    }

    pub(super) fn content_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message)
    }

    pub(super) fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
    }

    pub(super) fn unknown_pipeline(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "pipeline_not_found", message)
    }

    pub(super) fn unknown_path(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "path_not_found", message)
    }

    pub(super) fn method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// The caller has no valid token, or one without the right.
    pub(super) fn of_access(error: api::Error) -> Self {
        match error.code {
            api::Code::PermissionDenied => Self::new(StatusCode::FORBIDDEN, "permission_denied", error.message),
            _ => Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", error.message),
        }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("code".into(), self.code.into());
        body.insert("message".into(), self.message.clone().into());
        if !self.rows.is_empty() {
            let rows = self.rows.iter().take(ROW_ERRORS_MAX);
            let rows = rows.map(|error| json!({ "table": error.table, "row": error.row, "message": error.message }));
            body.insert("errors".into(), rows.collect());
            body.insert("errors_total".into(), self.rows.len().into());
        }
        Value::Object(body)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}
