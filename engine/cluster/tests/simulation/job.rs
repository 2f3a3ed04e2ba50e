//! The clients that run the simulated jobs. The queries are in [`crate::shapes`].

use std::time::Duration;

use millstream_cluster::connect;
use millstream_proto::v1;
use millstream_proto::v1::job_service_client::JobServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::shapes::{Variant, Workload};
use crate::world::{COORDINATORS, url_of, world};

/// Timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);

fn pipeline(plan: &ClientPlan) -> String {
    let parallelism = plan.parallelism;
    let unaligned = plan.aligned_timeout_ms.map(|timeout_ms| {
        format!(
            "SET 'execution.checkpointing.unaligned.enabled' = 'true';
             SET 'execution.checkpointing.aligned-checkpoint-timeout' = '{timeout_ms}ms';"
        )
    });
    let unaligned = unaligned.unwrap_or_default();
    let (name, script) = (plan.workload.job(), plan.workload.script(plan.variant));
    format!(
        "SET 'pipeline.name' = '{name}';
         SET 'parallelism.default' = '{parallelism}';
         SET 'execution.checkpointing.interval' = '700ms';
         {unaligned}
         {script}"
    )
}

/// Submits the job to the leader and polls it until it has ended. Requests without an answer are repeated.
pub async fn client(plan: ClientPlan) {
    let mut turn = 0;
    let mut submitted = false;
    let mut plan = plan;
    loop {
        turn += 1;
        tokio::time::sleep(PAUSE).await;
        let address = url_of(COORDINATORS[turn % COORDINATORS.len()]);
        let asked = tokio::time::timeout(CALL_TIMEOUT, ask(&address, &mut submitted, &mut plan));
        match asked.await {
            Ok(Ok(state)) => {
                turn -= 1;
                match state {
                    v1::JobState::Finished => {
                        world().unfinished -= 1;
                        return;
                    }
                    v1::JobState::Failed | v1::JobState::Cancelled => {
                        let mut world = world();
                        world.violated(format!("{} is {}", plan.workload.job(), state.as_str_name()));
                        world.unfinished = 0;
                        return;
                    }
                    _ => {}
                }
            }
            Ok(Err(reason)) => world().note(&format!("client: {address}: {reason}")),
            Err(_) => world().note(&format!("client: {address}: no answer")),
        }
    }
}

/// The plan of a client.
#[derive(Debug, Clone)]
pub struct ClientPlan {
    pub workload: Workload,
    pub variant: Variant,
    pub parallelism: u64,
    /// Number of polls after which the running job is rescaled, and the new parallelism.
    pub rescale: Option<(u32, u32)>,
    /// Time after which barriers overtake rows.
    pub aligned_timeout_ms: Option<u64>,
}

async fn ask(address: &str, submitted: &mut bool, plan: &mut ClientPlan) -> Result<v1::JobState, String> {
    let channel = connect::coordinator(address).await.map_err(|error| error.to_string())?;
    let mut jobs = JobServiceClient::new(channel);
    if !*submitted {
        submit(&mut jobs, plan).await?;
        *submitted = true;
    }
    loop {
        let name = plan.workload.job();
        let request = v1::GetJobRequest { name: name.clone() };
        let job = jobs.get(request).await.map_err(status_text)?.into_inner();
        if job.state() == v1::JobState::Failed {
            world().note(&format!("{name} failed: {}", job.reason));
        }
        if matches!(
            job.state(),
            v1::JobState::Finished | v1::JobState::Failed | v1::JobState::Cancelled
        ) {
            return Ok(job.state());
        }
        if let Some((looks, parallelism)) = &mut plan.rescale
            && job.state() == v1::JobState::Running
        {
            *looks = looks.saturating_sub(1);
            if *looks == 0 {
                let request = v1::RescaleJobRequest {
                    name: name.clone(),
                    parallelism: Some(*parallelism),
                };
                jobs.rescale(request).await.map_err(status_text)?;
                world().note(&format!("client: {name} is rescaled"));
                plan.rescale = None;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the job's pipeline as a client sends it.
pub fn sent_pipeline(plan: &ClientPlan) -> v1::Pipeline {
    let text = v1::SpecText {
        text: pipeline(plan),
        file: "simulated.sql".into(),
    };
    v1::Pipeline {
        pipeline: Some(v1::pipeline::Pipeline::Sql(text)),
        environment: Default::default(),
    }
}

pub fn submission(plan: &ClientPlan) -> v1::SubmitRequest {
    v1::SubmitRequest {
        pipeline: Some(sent_pipeline(plan)),
        ..v1::SubmitRequest::default()
    }
}

async fn submit(jobs: &mut JobServiceClient<Channel>, plan: &ClientPlan) -> Result<(), String> {
    match jobs.submit(submission(plan)).await {
        Ok(_) => world().note(&format!("client: {} is submitted", plan.workload.job())),
        // An earlier request whose answer was lost.
        Err(status) if status.code() == Code::AlreadyExists => {}
        Err(status) => return Err(status_text(status)),
    }
    Ok(())
}

fn status_text(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
