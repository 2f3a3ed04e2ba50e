//! The client API of a cluster, independent of the transport: one method per call.
//!
//! gRPC and REST are two transports of [`Api`]; the coordinator implements it. Requests and answers are the messages
//! of the protocol.

use async_trait::async_trait;
use futures::stream::BoxStream;
use millstream_proto::v1;

/// The calls of the client API.
#[async_trait]
pub trait Api: Send + Sync {
    async fn submit(&self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, Error>;
    async fn validate(&self, request: v1::ValidateRequest) -> Result<v1::ValidateResponse, Error>;
    async fn diff(&self, request: v1::DiffRequest) -> Result<v1::DiffResponse, Error>;
    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Error>;
    async fn job(&self, request: v1::GetJobRequest) -> Result<v1::Job, Error>;
    async fn watch(&self, request: v1::WatchJobsRequest) -> Result<BoxStream<'static, v1::JobEvent>, Error>;
    async fn stop(&self, request: v1::StopJobRequest) -> Result<v1::Job, Error>;
    async fn cancel(&self, request: v1::CancelJobRequest) -> Result<v1::Job, Error>;
    async fn rescale(&self, request: v1::RescaleJobRequest) -> Result<v1::Job, Error>;
    async fn update(&self, request: v1::UpdateJobRequest) -> Result<v1::UpdateJobResponse, Error>;
    async fn restart(&self, request: v1::RestartJobRequest) -> Result<v1::Job, Error>;
    async fn delete(&self, request: v1::DeleteJobRequest) -> Result<v1::DeleteJobResponse, Error>;
    async fn logs(&self, request: v1::JobLogsRequest) -> Result<BoxStream<'static, v1::LogLine>, Error>;
    async fn list_checkpoints(&self, request: v1::ListCheckpointsRequest)
    -> Result<v1::ListCheckpointsResponse, Error>;
    async fn inspect_checkpoint(&self, request: v1::InspectCheckpointRequest) -> Result<v1::CheckpointDetail, Error>;
    async fn verify_checkpoints(
        &self,
        request: v1::VerifyCheckpointsRequest,
    ) -> Result<BoxStream<'static, v1::VerifyEvent>, Error>;
    async fn create_checkpoint(&self, request: v1::CreateCheckpointRequest) -> Result<v1::Checkpoint, Error>;
    async fn delete_checkpoint(
        &self,
        request: v1::DeleteCheckpointRequest,
    ) -> Result<v1::DeleteCheckpointResponse, Error>;
    async fn create_savepoint(&self, request: v1::CreateSavepointRequest) -> Result<v1::Checkpoint, Error>;
    async fn delete_savepoint(&self, request: v1::DeleteSavepointRequest)
    -> Result<v1::DeleteSavepointResponse, Error>;
    async fn list_workers(&self, request: v1::ListWorkersRequest) -> Result<v1::ListWorkersResponse, Error>;
    async fn drain_worker(&self, request: v1::DrainWorkerRequest) -> Result<v1::Worker, Error>;
    async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, Error>;
    async fn abort_transactions(
        &self,
        request: v1::AbortTransactionsRequest,
    ) -> Result<v1::AbortTransactionsResponse, Error>;
    async fn info(&self, request: v1::ClusterInfoRequest) -> Result<v1::ClusterInfo, Error>;
}

/// The reason why a call was refused. The code is stable, the message is for people.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The code.
    pub code: Code,
    /// The message.
    pub message: String,
    /// Mistakes of a pipeline that does not plan.
    pub mistakes: Vec<v1::Mistake>,
    /// Address of the leader, for [`Code::NotLeader`].
    pub leader: Option<String>,
}

/// The stable code of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request is invalid.
    InvalidRequest,
    /// The pipeline does not plan; see [`Error::mistakes`].
    InvalidPipeline,
    JobNotFound,
    CheckpointNotFound,
    WorkerNotFound,
    NameInUse,
    /// The checkpoint's state does not fit the pipeline.
    CheckpointDoesNotFit,
    /// Not possible in the job's present state.
    WrongState,
    /// A named limit is reached.
    LimitReached,
    /// Another coordinator leads.
    NotLeader,
    /// The caller sent no valid token.
    Unauthenticated,
    /// The caller's token lacks the right.
    PermissionDenied,
    /// The storage or another external system cannot be reached; trying again may help.
    Unavailable,
    Internal,
}

impl Code {
    /// Returns the code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid-request",
            Self::InvalidPipeline => "invalid-pipeline",
            Self::JobNotFound => "job-not-found",
            Self::CheckpointNotFound => "checkpoint-not-found",
            Self::WorkerNotFound => "worker-not-found",
            Self::NameInUse => "name-in-use",
            Self::CheckpointDoesNotFit => "checkpoint-does-not-fit",
            Self::WrongState => "wrong-state",
            Self::LimitReached => "limit-reached",
            Self::NotLeader => "not-leader",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission-denied",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

impl Error {
    /// Creates an error without mistakes.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            mistakes: Vec::new(),
            leader: None,
        }
    }
}
