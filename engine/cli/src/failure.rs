//! Failures of commands, and the exit codes that scripts rely on.

use millstream_proto::v1::ErrorDetail;
use millstream_proto::{json, status};
use serde_json::{Value, json};

/// Exit codes other than 0. Their meaning never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command failed.
    Failed = 1,
    /// The command line, the pipeline or the request is invalid.
    Invalid = 2,
    /// No such job, checkpoint, worker or context exists.
    NotFound = 3,
    /// The present state does not allow it: a name in use, a job in another state, an incompatible checkpoint.
    Conflict = 4,
    /// No coordinator could be reached, or the coordinator could not reach its storage or a system that the pipeline
    /// reads or writes; or the connection broke before the answer, so that the outcome of the request is unknown.
    Unreachable = 5,
    /// The timeout of a wait has expired.
    TimedOut = 6,
    /// A file of a checkpoint, or a record of its job's journal, is damaged.
    Damaged = 7,
}

/// Failure of a command.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Exit code of the process.
    pub exit: Exit,
    /// Message for the user; empty if the output has it already.
    pub message: String,
    /// Error of the server, with its stable code.
    pub detail: Option<ErrorDetail>,
}

impl Failure {
    /// Creates a failure of the client itself.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            detail: None,
        }
    }

    /// Creates a failure with [`Exit::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, message)
    }

    /// Returns the stable code of the server's error.
    pub fn code(&self) -> Option<&str> {
        self.detail.as_ref().map(|detail| detail.code.as_str())
    }

    /// Returns the text for people; `red` and `plain` are escape sequences or empty.
    pub fn text(&self, red: &str, plain: &str) -> String {
        let mut out = String::new();
        // Mistakes from `report::render` begin with their own `error:`.
        if self.message.starts_with("error: ") || self.message.starts_with("\x1b[") {
            out.push_str(self.message.trim_end());
        } else {
            out.push_str(&format!("{red}error{plain}: {}", self.message));
        }
        out.push('\n');
        out
    }

    /// Returns the JSON document for programs.
    pub fn json(&self) -> Value {
        match &self.detail {
            Some(detail) => {
                let mut value = json::to_value(detail);
                value["message"] = self.message.clone().into();
                value
            }
            None => json!({ "code": self.code_of_exit(), "message": self.message }),
        }
    }

    /// Returns the code of a failure that is not the server's.
    fn code_of_exit(&self) -> &'static str {
        match self.exit {
            Exit::Failed => "failed",
            Exit::Invalid => "invalid-request",
            Exit::NotFound => "not-found",
            Exit::Conflict => "conflict",
            Exit::Unreachable => "unavailable",
            Exit::TimedOut => "timed-out",
            Exit::Damaged => "damaged",
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let detail = status::detail(&status);
        let exit = match detail.as_ref().map(|detail| detail.code.as_str()) {
            Some("invalid-request" | "invalid-pipeline") => Exit::Invalid,
            Some("job-not-found" | "checkpoint-not-found" | "worker-not-found") => Exit::NotFound,
            Some("name-in-use" | "checkpoint-does-not-fit" | "wrong-state") => Exit::Conflict,
            Some("not-leader" | "unavailable") => Exit::Unreachable,
            Some(_) => Exit::Failed,
            // Every error of a coordinator has a detail. One without comes from the gRPC library of either end.
            None => match status.code() {
                tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Exit::Invalid,
                tonic::Code::Unimplemented | tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
                    Exit::Failed
                }
                // A broken connection has any of the other codes, depending on where it broke.
                _ => Exit::Unreachable,
            },
        };
        Self {
            exit,
            message: too_long(&status).unwrap_or_else(|| status_text(&status)),
            detail,
        }
    }
}

/// Returns the text for a message that tonic refuses for its length; tonic's own text names neither end.
fn too_long(status: &tonic::Status) -> Option<String> {
    let lengths = status.message().split_once("message length too large: ")?.1;
    let direction = match status.message().contains("decoded") {
        // Too long for the server (the request) or for this client (the response).
        true => "a message of this call is longer than the receiver accepts",
        false => "a message of this call is longer than its sender may send",
    };
    Some(format!(
        "{direction} ({lengths}): a pipeline has at most 4 MB; request less, such as one job or savepoints only"
    ))
}

/// Returns the text of a status with its causes: only they describe a broken connection.
pub fn status_text(status: &tonic::Status) -> String {
    let mut message = match status.message() {
        "" => format!("the server returned an error without a message ({:?})", status.code()),
        message => message.to_string(),
    };
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(&format!(": {text}"));
        }
        cause = error.source();
    }
    message
}
