//! The rights of the client API's calls.
//!
//! [`Guard`] implements every method of [`Api`], so a call without a right does not compile.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use millstream_proto::v1;

use super::Right::{Administer, Operate, Read};
use super::{Caller, Right};
use crate::api::{Api, Error};

/// The client API as one caller may use it.
pub(crate) struct Guard {
    api: Arc<dyn Api>,
    caller: Caller,
}

impl Guard {
    /// Returns the API for one caller.
    pub(crate) fn new(api: Arc<dyn Api>, caller: Caller) -> Self {
        Self { api, caller }
    }

    fn check(&self, right: Right, job: &str) -> Result<(), Error> {
        self.caller.check(right, Some(job))
    }

    fn check_whole_cluster(&self, right: Right) -> Result<(), Error> {
        self.caller.check(right, None)
    }

    /// A caller that starts a job from a checkpoint reads the state of the checkpoint's job.
    fn check_origin(&self, from: Option<&v1::CheckpointRef>) -> Result<(), Error> {
        from.map_or(Ok(()), |from| self.check(Read, &from.job))
    }

    /// The owner of transactions is a job, or a pipeline whose job is gone; then its external systems are accessed.
    fn check_owner(&self, right: Right, owner: Option<&v1::TransactionOwner>) -> Result<(), Error> {
        let Some(owner) = owner else {
            return self.check_whole_cluster(right);
        };
        if owner.pipeline.is_none() {
            return self.check(right, &owner.job);
        }
        self.check_whole_cluster(if right == Read { Operate } else { right })
    }
}

#[async_trait]
impl Api for Guard {
    async fn submit(&self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, Error> {
        self.caller.check(Operate, request.name.as_deref())?;
        self.check_origin(request.from.as_ref())?;
        self.api.submit(request).await
    }

    /// Validation lists files and topics with the credentials of the pipeline or of the server.
    async fn validate(&self, request: v1::ValidateRequest) -> Result<v1::ValidateResponse, Error> {
        self.caller.check(Operate, request.name.as_deref())?;
        self.api.validate(request).await
    }

    async fn diff(&self, request: v1::DiffRequest) -> Result<v1::DiffResponse, Error> {
        self.caller
            .check(Operate, request.from.as_ref().map(|from| from.job.as_str()))?;
        self.api.diff(request).await
    }

    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Error> {
        self.check_whole_cluster(Read)?;
        let mut listed = self.api.list_jobs(request).await?;
        listed.jobs.retain(|job| self.caller.sees(&job.name));
        Ok(listed)
    }

    async fn job(&self, request: v1::GetJobRequest) -> Result<v1::Job, Error> {
        self.check(Read, &request.name)?;
        self.api.job(request).await
    }

    async fn watch(&self, request: v1::WatchJobsRequest) -> Result<BoxStream<'static, v1::JobEvent>, Error> {
        self.check_whole_cluster(Read)?;
        for name in &request.names {
            self.check(Read, name)?;
        }
        let caller = self.caller.clone();
        let events = self.api.watch(request).await?;
        let seen = events.filter(move |event| {
            let is_seen = event.job.as_ref().is_some_and(|job| caller.sees(&job.name));
            std::future::ready(is_seen)
        });
        Ok(seen.boxed())
    }

    async fn stop(&self, request: v1::StopJobRequest) -> Result<v1::Job, Error> {
        self.check(Operate, &request.name)?;
        self.api.stop(request).await
    }

    async fn cancel(&self, request: v1::CancelJobRequest) -> Result<v1::Job, Error> {
        self.check(Operate, &request.name)?;
        self.api.cancel(request).await
    }

    async fn rescale(&self, request: v1::RescaleJobRequest) -> Result<v1::Job, Error> {
        self.check(Operate, &request.name)?;
        self.api.rescale(request).await
    }

    async fn update(&self, request: v1::UpdateJobRequest) -> Result<v1::UpdateJobResponse, Error> {
        self.caller.check(Operate, request.name.as_deref())?;
        self.api.update(request).await
    }

    async fn restart(&self, request: v1::RestartJobRequest) -> Result<v1::Job, Error> {
        self.check(Operate, &request.name)?;
        self.api.restart(request).await
    }

    async fn delete(&self, request: v1::DeleteJobRequest) -> Result<v1::DeleteJobResponse, Error> {
        self.check(Administer, &request.name)?;
        self.api.delete(request).await
    }

    async fn logs(&self, request: v1::JobLogsRequest) -> Result<BoxStream<'static, v1::LogLine>, Error> {
        self.check(Read, &request.name)?;
        self.api.logs(request).await
    }

    async fn list_checkpoints(
        &self,
        request: v1::ListCheckpointsRequest,
    ) -> Result<v1::ListCheckpointsResponse, Error> {
        self.check(Read, &request.job)?;
        self.api.list_checkpoints(request).await
    }

    async fn inspect_checkpoint(&self, request: v1::InspectCheckpointRequest) -> Result<v1::CheckpointDetail, Error> {
        let job = request.checkpoint.as_ref().map_or("", |checkpoint| &checkpoint.job);
        self.check(Read, job)?;
        self.api.inspect_checkpoint(request).await
    }

    /// Verification reads all files of the checkpoints.
    async fn verify_checkpoints(
        &self,
        request: v1::VerifyCheckpointsRequest,
    ) -> Result<BoxStream<'static, v1::VerifyEvent>, Error> {
        self.check(Operate, &request.job)?;
        self.api.verify_checkpoints(request).await
    }

    async fn create_checkpoint(&self, request: v1::CreateCheckpointRequest) -> Result<v1::Checkpoint, Error> {
        self.check(Operate, &request.job)?;
        self.api.create_checkpoint(request).await
    }

    async fn delete_checkpoint(
        &self,
        request: v1::DeleteCheckpointRequest,
    ) -> Result<v1::DeleteCheckpointResponse, Error> {
        self.check(Administer, &request.job)?;
        self.api.delete_checkpoint(request).await
    }

    async fn create_savepoint(&self, request: v1::CreateSavepointRequest) -> Result<v1::Checkpoint, Error> {
        self.check(Operate, &request.job)?;
        self.api.create_savepoint(request).await
    }

    async fn delete_savepoint(
        &self,
        request: v1::DeleteSavepointRequest,
    ) -> Result<v1::DeleteSavepointResponse, Error> {
        self.check(Administer, &request.job)?;
        self.api.delete_savepoint(request).await
    }

    async fn list_workers(&self, request: v1::ListWorkersRequest) -> Result<v1::ListWorkersResponse, Error> {
        self.check_whole_cluster(Read)?;
        self.api.list_workers(request).await
    }

    async fn drain_worker(&self, request: v1::DrainWorkerRequest) -> Result<v1::Worker, Error> {
        self.check_whole_cluster(Administer)?;
        self.api.drain_worker(request).await
    }

    async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, Error> {
        self.check_owner(Read, request.owner.as_ref())?;
        self.api.list_transactions(request).await
    }

    async fn abort_transactions(
        &self,
        request: v1::AbortTransactionsRequest,
    ) -> Result<v1::AbortTransactionsResponse, Error> {
        self.check_owner(Administer, request.owner.as_ref())?;
        self.api.abort_transactions(request).await
    }

    /// Standbys and workers look for the leader without a token: an anonymous caller learns the role and the version
    /// of this coordinator and the leader's address, and causes no access to the storage.
    async fn info(&self, request: v1::ClusterInfoRequest) -> Result<v1::ClusterInfo, Error> {
        if self.caller.is_anonymous() {
            let info = self.api.info(v1::ClusterInfoRequest::default()).await?;
            return Ok(v1::ClusterInfo {
                version: info.version,
                cluster_id: info.cluster_id,
                epoch: info.epoch,
                is_leader: info.is_leader,
                leader: info.leader,
                clock_us: info.clock_us,
                ..v1::ClusterInfo::default()
            });
        }
        self.check_whole_cluster(Read)?;
        self.api.info(request).await
    }
}
