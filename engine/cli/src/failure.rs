//! How a command can end badly, and the exit codes that scripts rely on.

use millstream_proto::v1::ErrorDetail;
use millstream_proto::{json, status};
use serde_json::{Value, json};

/// Exit codes; 0 is success. They never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was tried and failed.
    Failed = 1,
    /// What was asked for is wrong: the command line, the pipeline, the request.
    Wrong = 2,
    /// There is no such job, checkpoint or worker.
    NotFound = 3,
    /// Not possible as things stand: a name in use, a job in another state, a checkpoint that does not fit.
    Conflict = 4,
    /// No coordinator could be reached, or it could not reach its storage or what a pipeline reads and writes; or the
    /// connection broke before the answer, and it is unknown whether the request took effect.
    Unreachable = 5,
    /// What was waited for did not happen in time.
    TimedOut = 6,
    /// Something of a checkpoint, or of its job's journal, is damaged.
    Damaged = 7,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    /// What the server said, with its stable code.
    pub detail: Option<ErrorDetail>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            detail: None,
        }
    }

    pub fn wrong(message: impl Into<String>) -> Self {
        Self::new(Exit::Wrong, message)
    }

    /// The stable code of a server's refusal.
    pub fn code(&self) -> Option<&str> {
        self.detail.as_ref().map(|detail| detail.code.as_str())
    }

    pub fn text(&self, red: &str, plain: &str) -> String {
        let mut out = String::new();
        // What `report::render` made is ready as it is.
        if self.message.starts_with("error: ") || self.message.starts_with("\x1b[") {
            out.push_str(self.message.trim_end());
        } else {
            out.push_str(&format!("{red}error{plain}: {}", self.message));
        }
        out.push('\n');
        out
    }

    pub fn json(&self) -> Value {
        match &self.detail {
            Some(detail) => {
                let mut value = json::to_value(detail);
                value["message"] = self.message.clone().into();
                value
            }
            None => json!({ "code": self.word(), "message": self.message }),
        }
    }

    fn word(&self) -> &'static str {
        match self.exit {
            Exit::Failed => "failed",
            Exit::Wrong => "invalid-request",
            Exit::NotFound => "not-found",
            Exit::Conflict => "conflict",
            Exit::Unreachable => "unavailable",
            Exit::TimedOut => "timed-out",
            Exit::Damaged => "damaged",
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(refused: tonic::Status) -> Self {
        let detail = status::detail(&refused);
        let exit = match detail.as_ref().map(|detail| detail.code.as_str()) {
            Some("invalid-request" | "invalid-pipeline") => Exit::Wrong,
            Some("job-not-found" | "checkpoint-not-found" | "worker-not-found") => Exit::NotFound,
            Some("name-in-use" | "checkpoint-does-not-fit" | "wrong-state") => Exit::Conflict,
            Some("not-leader" | "unavailable") => Exit::Unreachable,
            Some(_) => Exit::Failed,
            // Every refusal of a coordinator has a detail. Without one it is the gRPC library that speaks, of either
            // end.
            None => match refused.code() {
                tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Exit::Wrong,
                tonic::Code::Unimplemented | tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
                    Exit::Failed
                }
                // A broken connection has any of the other codes: it depends on where it broke.
                _ => Exit::Unreachable,
            },
        };
        Self {
            exit,
            message: too_long(&refused).unwrap_or_else(|| said(&refused)),
            detail,
        }
    }
}

/// A message that one end refuses for its length: tonic's words, which name neither end.
fn too_long(refused: &tonic::Status) -> Option<String> {
    let lengths = refused.message().split_once("message length too large: ")?.1;
    let direction = match refused.message().contains("decoded") {
        // The server could not take in the request, or this client the answer.
        true => "a message of this call is longer than the other end takes in",
        false => "a message of this call is longer than its sender may send",
    };
    Some(format!(
        "{direction} ({lengths}): a pipeline has at most 4 MB; ask for less, such as one job or savepoints only"
    ))
}

/// A status in words; a broken connection says so in its causes only.
pub fn said(refused: &tonic::Status) -> String {
    let mut message = match refused.message() {
        "" => format!("the server refused without words ({:?})", refused.code()),
        message => message.to_string(),
    };
    let mut cause = std::error::Error::source(refused);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(&format!(": {text}"));
        }
        cause = error.source();
    }
    message
}
