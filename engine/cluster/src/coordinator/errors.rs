//! Errors of the client API, made from errors of the engine.

use millstream_proto::v1;

use crate::api::{self, Code};
use crate::{Error, resolve};

/// Returns the error for an invalid request.
pub(super) fn invalid(message: &str) -> api::Error {
    api::Error::new(Code::InvalidRequest, message)
}

/// Returns the error for a pipeline with one mistake that has no position in its text.
pub(super) fn invalid_pipeline(message: &str) -> api::Error {
    api::Error {
        mistakes: vec![v1::Mistake {
            message: message.to_string(),
            ..v1::Mistake::default()
        }],
        ..api::Error::new(Code::InvalidPipeline, message)
    }
}

/// Returns the error for a pipeline with mistakes.
pub(super) fn mistakes_error(mistakes: Vec<v1::Mistake>) -> api::Error {
    let count = mistakes.len();
    let first = mistakes
        .first()
        .map(|mistake| mistake.message.clone())
        .unwrap_or_default();
    let message = match count {
        1 => first,
        _ => format!("{first} (and {} more mistakes)", count - 1),
    };
    api::Error {
        mistakes,
        ..api::Error::new(Code::InvalidPipeline, message)
    }
}

/// Returns the error for sources or sinks whose tables do not exist or cannot be reached.
pub(super) fn not_found(found: resolve::NotFound) -> api::Error {
    match found {
        resolve::NotFound::Mistakes(mistakes) => mistakes_error(mistakes),
        resolve::NotFound::Unavailable(reason) => api::Error::new(
            Code::Unavailable,
            format!("{reason}; nothing was submitted: try again once they answer"),
        ),
    }
}

/// Returns the error for a failure of the coordinator itself.
pub(super) fn internal(error: &dyn std::fmt::Display) -> api::Error {
    api::Error::new(
        Code::Internal,
        format!("the request failed inside the coordinator: {error}"),
    )
}

/// Returns the error for a failed access to the storage.
pub(super) fn state_error(error: millstream_state::Error) -> api::Error {
    storage_error(Error::State(error))
}

/// Returns the error for a change of a job's checkpoints that may have taken effect.
pub(super) fn uncertain_error(error: Error) -> api::Error {
    match error {
        Error::Invalid(_)
        | Error::State(millstream_state::Error::Invalid(_) | millstream_state::Error::NotFound(_)) => {
            storage_error(error)
        }
        error => api::Error::new(
            Code::Unavailable,
            format!(
                "it is not known whether the request took effect: {error}; check the present state before trying again"
            ),
        ),
    }
}

/// Returns the error for a failed access to the storage.
pub(super) fn storage_error(error: Error) -> api::Error {
    use millstream_state::Error as State;
    let code = match &error {
        Error::Invalid(_) | Error::State(State::Invalid(_)) => Code::InvalidRequest,
        Error::State(State::NotFound(_)) => Code::CheckpointNotFound,
        Error::State(State::Superseded(_)) => Code::NotLeader,
        Error::State(_) | Error::Connector(_) => Code::Unavailable,
        Error::Failed(_) | Error::Runtime(_) => Code::Internal,
    };
    api::Error::new(code, error.to_string())
}
