//! Requests that several commands make.

use millstream_proto::v1;

use crate::client::{Client, Retry, checkpoints, cluster, jobs, workers};
use crate::failure::{Exit, Failure};

/// Returns a job by its name.
pub async fn get_job(client: &mut Client, name: &str) -> Result<v1::Job, Failure> {
    let request = v1::GetJobRequest { name: name.to_string() };
    client
        .call(Retry::ReadOnly, async |channel| {
            jobs(channel).get(request.clone()).await
        })
        .await
}

/// Returns the checkpoints of a job, newest first.
pub async fn list_checkpoints(
    client: &mut Client,
    job: &str,
    savepoints_only: bool,
) -> Result<v1::ListCheckpointsResponse, Failure> {
    let request = v1::ListCheckpointsRequest {
        job: job.to_string(),
        savepoints_only,
    };
    client
        .call(Retry::ReadOnly, async |channel| {
            checkpoints(channel).list(request.clone()).await
        })
        .await
}

/// Parses `JOB`, `JOB/NUMBER` or `JOB/SAVEPOINT`; the name of a savepoint is resolved by the coordinator's list.
pub async fn checkpoint_reference(client: &mut Client, text: &str) -> Result<v1::CheckpointRef, Failure> {
    let (job, which) = match text.split_once('/') {
        None => (text, None),
        Some((job, which)) => (job, Some(which)),
    };
    if job.is_empty() || which.is_some_and(str::is_empty) {
        return Err(Failure::invalid(format!(
            "`{text}` does not name a checkpoint; write JOB, JOB/NUMBER or JOB/SAVEPOINT"
        )));
    }
    let checkpoint = match which.map(|which| (which, which.parse::<u64>())) {
        None => None,
        Some((_, Ok(number))) => Some(number),
        Some((name, Err(_))) => return savepoint_reference(client, job, name).await,
    };
    Ok(v1::CheckpointRef {
        job: job.to_string(),
        checkpoint,
    })
}

/// Returns a savepoint by its name, or by the number of its checkpoint.
pub async fn savepoint_reference(client: &mut Client, job: &str, name: &str) -> Result<v1::CheckpointRef, Failure> {
    let savepoints = list_checkpoints(client, job, true).await?.checkpoints;
    let named = savepoints
        .iter()
        .find(|savepoint| savepoint.savepoint.as_deref() == Some(name));
    let numbered = || {
        savepoints
            .iter()
            .find(|savepoint| savepoint.checkpoint.to_string() == name)
    };
    match named.or_else(numbered) {
        Some(found) => Ok(v1::CheckpointRef {
            job: job.to_string(),
            checkpoint: Some(found.checkpoint),
        }),
        None => {
            let names: Vec<&str> = savepoints
                .iter()
                .filter_map(|savepoint| savepoint.savepoint.as_deref())
                .collect();
            let there = match names.is_empty() {
                true => "it has none".to_string(),
                false => format!("there are {}", names.join(", ")),
            };
            let message = format!("`{job}` has no savepoint `{name}`; {there}");
            Err(Failure::new(Exit::NotFound, message))
        }
    }
}

/// Returns all workers that the leader knows.
pub async fn list_workers(client: &mut Client) -> Result<v1::ListWorkersResponse, Failure> {
    client
        .call(Retry::ReadOnly, async |channel| {
            workers(channel).list(v1::ListWorkersRequest {}).await
        })
        .await
}

/// Returns the leader's information about the cluster. A standby answers too, but knows neither workers nor jobs.
pub async fn cluster_info(client: &mut Client) -> Result<v1::ClusterInfo, Failure> {
    let info = info_of(client).await?;
    if info.is_leader || info.leader.is_empty() {
        return Ok(info);
    }
    match info_of(&mut Client::new(vec![info.leader.clone()])).await {
        Ok(of_leader) => Ok(of_leader),
        Err(failure) => {
            eprintln!(
                "note: {} is a standby, and the leader cannot be reached: {}",
                client.server(),
                failure.message
            );
            Ok(info)
        }
    }
}

async fn info_of(client: &mut Client) -> Result<v1::ClusterInfo, Failure> {
    client
        .call(Retry::ReadOnly, async |channel| {
            cluster(channel).info(v1::ClusterInfoRequest::default()).await
        })
        .await
}
