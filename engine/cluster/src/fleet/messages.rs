//! Messages of workers to the driver of an attempt.

use millstream_proto::v1;

/// A message about an attempt from one of its workers.
pub(super) struct WorkerMessage {
    pub worker: String,
    pub body: MessageBody,
}

/// Contents of a message.
pub(super) enum MessageBody {
    Report(v1::AttemptReport),
    Progress(v1::AttemptProgress),
    Lost(String),
}
