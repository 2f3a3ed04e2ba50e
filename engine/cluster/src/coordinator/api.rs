//! The client API of a leading coordinator.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use millstream_planner::explain;
use millstream_proto::v1;

use crate::api::{self, Api, Code};
use crate::coordinator::errors::invalid;
use crate::coordinator::leader::Leader;
use crate::coordinator::ledger::{DesiredState, Status};
use crate::coordinator::pipeline_checks::{compare_with_checkpoint, resolve_pipeline};
use crate::coordinator::state::Request;
use crate::coordinator::{
    checkpoints, deletion, job_events, job_view, now_us, submit, transactions, update, worker_view,
};
use crate::planning;

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// The client API of a leader.
#[derive(Clone)]
pub(super) struct LeaderApi(pub Arc<Leader>);

#[async_trait]
impl Api for LeaderApi {
    async fn submit(&self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, api::Error> {
        submit::submit(&self.0, request).await
    }

    async fn validate(&self, request: v1::ValidateRequest) -> Result<v1::ValidateResponse, api::Error> {
        let mode = request.mode.map(|_| planning::mode(request.mode()));
        match resolve_pipeline(request.pipeline, request.name, mode).await {
            Ok(resolved) => Ok(v1::ValidateResponse {
                valid: true,
                mistakes: Vec::new(),
                plan: explain::explain(&resolved.graph),
                notes: resolved.notes,
            }),
            Err(error) if error.code == Code::InvalidPipeline => Ok(v1::ValidateResponse {
                valid: false,
                mistakes: error.mistakes,
                plan: String::new(),
                notes: Vec::new(),
            }),
            Err(error) => Err(error),
        }
    }

    async fn diff(&self, request: v1::DiffRequest) -> Result<v1::DiffResponse, api::Error> {
        let from = request
            .from
            .ok_or_else(|| invalid("say which job's checkpoint is meant (`from`)"))?;
        let resolved = resolve_pipeline(request.pipeline, None, None).await?;
        let found = checkpoints::load(&self.0, &from).await?;
        let findings = compare_with_checkpoint(&found, &resolved).await?;
        Ok(v1::DiffResponse {
            verdict: job_view::verdict(findings.verdict()) as i32,
            operators: findings.operators.iter().map(job_view::operator_diff).collect(),
            findings: findings.refusals(false).into_iter().chain(findings.notes).collect(),
            checkpoint: found.info.checkpoint,
        })
    }

    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, api::Error> {
        let response = self.0.with(|inner| {
            let jobs = inner.state.jobs().iter();
            let (wanted, left_out): (Vec<_>, Vec<_>) =
                jobs.partition(|(_, job)| request.all || !job.visible_transition().status.is_terminal());
            let described = wanted
                .into_iter()
                .map(|(name, job)| job_view::job(job, inner.runs.get(name), inner.state.slots(), false));
            let since_us = now_us() - DAY_US;
            let failed = left_out.iter().map(|(_, job)| job.visible_transition());
            let failed =
                failed.filter(|transition| transition.status == Status::Failed && transition.at_us >= since_us);
            v1::ListJobsResponse {
                jobs: described.collect(),
                failed_last_day: failed.count() as u32,
                ended: left_out.len() as u32,
            }
        });
        Ok(response)
    }

    async fn job(&self, request: v1::GetJobRequest) -> Result<v1::Job, api::Error> {
        job_view::describe(&self.0, &request.name)
    }

    async fn watch(&self, request: v1::WatchJobsRequest) -> Result<BoxStream<'static, v1::JobEvent>, api::Error> {
        job_events::watch(&self.0, request)
    }

    async fn stop(&self, request: v1::StopJobRequest) -> Result<v1::Job, api::Error> {
        if let Some(savepoint) = &request.savepoint {
            let record = self
                .0
                .with(|inner| Ok::<_, api::Error>(inner.state.job(&request.name)?.record.clone()))?;
            let promised = DesiredState::Stopped {
                savepoint: request.savepoint.clone(),
            };
            // A repeated request is accepted although its savepoint may exist by now.
            if record.wanted != promised {
                checkpoints::check_savepoint_free(&record, savepoint).await?;
            }
        }
        let stop = Request::Stop {
            job: request.name.clone(),
            savepoint: request.savepoint,
        };
        self.change(stop, &request.name).await
    }

    async fn cancel(&self, request: v1::CancelJobRequest) -> Result<v1::Job, api::Error> {
        let job = request.name.clone();
        self.change(Request::Cancel { job }, &request.name).await
    }

    async fn rescale(&self, request: v1::RescaleJobRequest) -> Result<v1::Job, api::Error> {
        let rescale = Request::Rescale {
            job: request.name.clone(),
            parallelism: request.parallelism,
        };
        self.change(rescale, &request.name).await
    }

    async fn update(&self, request: v1::UpdateJobRequest) -> Result<v1::UpdateJobResponse, api::Error> {
        update::update(&self.0, request).await
    }

    async fn restart(&self, request: v1::RestartJobRequest) -> Result<v1::Job, api::Error> {
        let restart = Request::Restart {
            job: request.name.clone(),
            allow_duplicates: request.allow_duplicates,
        };
        self.change(restart, &request.name).await
    }

    async fn delete(&self, request: v1::DeleteJobRequest) -> Result<v1::DeleteJobResponse, api::Error> {
        deletion::delete(&self.0, &request.name).await?;
        Ok(v1::DeleteJobResponse {})
    }

    async fn logs(&self, request: v1::JobLogsRequest) -> Result<BoxStream<'static, v1::LogLine>, api::Error> {
        self.0.with(|inner| inner.state.job(&request.name).map(|_| ()))?;
        Ok(self.0.log(&request.name).read(request.tail as usize, request.follow))
    }

    async fn list_checkpoints(
        &self,
        request: v1::ListCheckpointsRequest,
    ) -> Result<v1::ListCheckpointsResponse, api::Error> {
        Ok(v1::ListCheckpointsResponse {
            checkpoints: checkpoints::list(&self.0, &request.job, request.savepoints_only).await?,
        })
    }

    async fn inspect_checkpoint(
        &self,
        request: v1::InspectCheckpointRequest,
    ) -> Result<v1::CheckpointDetail, api::Error> {
        let wanted = request
            .checkpoint
            .ok_or_else(|| invalid("say which job's checkpoint is meant (`checkpoint`)"))?;
        Ok(checkpoints::describe(
            &wanted.job,
            &checkpoints::load(&self.0, &wanted).await?,
        ))
    }

    async fn verify_checkpoints(
        &self,
        request: v1::VerifyCheckpointsRequest,
    ) -> Result<BoxStream<'static, v1::VerifyEvent>, api::Error> {
        checkpoints::verify(&self.0, &request.job, request.checkpoint).await
    }

    async fn create_checkpoint(&self, request: v1::CreateCheckpointRequest) -> Result<v1::Checkpoint, api::Error> {
        checkpoints::create(&self.0, &request.job).await
    }

    async fn delete_checkpoint(
        &self,
        request: v1::DeleteCheckpointRequest,
    ) -> Result<v1::DeleteCheckpointResponse, api::Error> {
        checkpoints::delete(&self.0, &request.job, request.checkpoint).await?;
        Ok(v1::DeleteCheckpointResponse {})
    }

    async fn create_savepoint(&self, request: v1::CreateSavepointRequest) -> Result<v1::Checkpoint, api::Error> {
        let name = request
            .name
            .unwrap_or_else(|| format!("savepoint-{}", now_us() / 1_000_000));
        checkpoints::create_savepoint(&self.0, &request.job, &name).await
    }

    async fn delete_savepoint(
        &self,
        request: v1::DeleteSavepointRequest,
    ) -> Result<v1::DeleteSavepointResponse, api::Error> {
        checkpoints::delete_savepoint(&self.0, &request.job, &request.name).await?;
        Ok(v1::DeleteSavepointResponse {})
    }

    async fn list_workers(&self, _request: v1::ListWorkersRequest) -> Result<v1::ListWorkersResponse, api::Error> {
        Ok(v1::ListWorkersResponse {
            workers: worker_view::workers(&self.0),
        })
    }

    async fn drain_worker(&self, request: v1::DrainWorkerRequest) -> Result<v1::Worker, api::Error> {
        let drain = Request::Drain {
            worker: request.name.clone(),
            undo: request.undo,
        };
        self.0.change(drain).await?;
        let worker = worker_view::workers(&self.0)
            .into_iter()
            .find(|worker| worker.name == request.name);
        // Nothing else is known of a worker that is not attached.
        Ok(worker.unwrap_or_else(|| v1::Worker {
            name: request.name,
            state: "lost".into(),
            ..v1::Worker::default()
        }))
    }

    async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, api::Error> {
        transactions::list(&self.0, request).await
    }

    async fn abort_transactions(
        &self,
        request: v1::AbortTransactionsRequest,
    ) -> Result<v1::AbortTransactionsResponse, api::Error> {
        transactions::abort(&self.0, request).await
    }

    async fn info(&self, _request: v1::ClusterInfoRequest) -> Result<v1::ClusterInfo, api::Error> {
        let mut info = v1::ClusterInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            epoch: self.0.epoch,
            is_leader: true,
            clock_us: now_us(),
            leader_since_us: self.0.since_us,
            ..v1::ClusterInfo::default()
        };
        self.0.with(|inner| {
            let slots = inner.state.slots();
            let there = slots.workers().values().filter(|worker| !worker.state.is_gone());
            info.workers = there.count() as u32;
            info.slots = slots.offered() as u32;
            info.slots_used = slots.used_total() as u32;
            let jobs = inner.state.jobs().values();
            info.jobs_running = jobs
                .filter(|job| job.record.current().status == Status::Running)
                .count() as u32;
        });
        Ok(info)
    }
}

impl LeaderApi {
    async fn change(&self, request: Request, name: &str) -> Result<v1::Job, api::Error> {
        self.0.change(request).await?;
        job_view::describe(&self.0, name)
    }
}
