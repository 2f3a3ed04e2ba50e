//! Open transactions of a job's exactly-once sinks in the systems that they write to, for operators of the cluster.
//!
//! The coordinator queries those systems with the options of the job's tables. The pipeline identifies a job that has
//! been deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_connectors::{Sink, TransactionReport, registry};
use millstream_graph::{JobGraph, Operator, OperatorId};
use millstream_proto::v1;
use millstream_state::threads;

use crate::api::{self, Code};
use crate::coordinator::errors::{internal, invalid};
use crate::coordinator::leader::Leader;
use crate::coordinator::pipeline_checks::resolve_pipeline;
use crate::planning;

/// Lists the open transactions of a job's sinks.
pub(super) async fn list(
    leader: &Arc<Leader>,
    request: v1::ListTransactionsRequest,
) -> Result<v1::ListTransactionsResponse, api::Error> {
    let (job, sinks) = sinks(leader, request.owner).await?;
    let mut answer = v1::ListTransactionsResponse::default();
    for (operator, sink) in sinks {
        let report = sink.transactions(&job).await;
        if let Some(report) = report.map_err(|error| connector_error(&operator, &error))? {
            answer.sinks.push(describe(&operator, report));
        }
    }
    Ok(answer)
}

/// Aborts the open transactions of these transactional ids.
pub(super) async fn abort(
    leader: &Arc<Leader>,
    request: v1::AbortTransactionsRequest,
) -> Result<v1::AbortTransactionsResponse, api::Error> {
    let (job, sinks) = sinks(leader, request.owner).await?;
    let mut answer = v1::AbortTransactionsResponse::default();
    for (operator, sink) in sinks {
        let ended = sink.abort_transactions(&job, &request.ids).await;
        answer
            .ids
            .extend(ended.map_err(|error| connector_error(&operator, &error))?);
    }
    let ended: BTreeSet<&String> = answer.ids.iter().collect();
    let foreign: Vec<&str> = request
        .ids
        .iter()
        .filter(|id| !ended.contains(id))
        .map(String::as_str)
        .collect();
    if !foreign.is_empty() {
        let also = match answer.ids.is_empty() {
            true => String::new(),
            false => format!("; ended were: {}", answer.ids.join(", ")),
        };
        return Err(invalid(&format!(
            "no sink of `{job}` has the transactional id {}{also}",
            foreign.join(", ")
        )));
    }
    Ok(answer)
}

type Sinks = Vec<(OperatorId, Arc<dyn Sink>)>;

/// Returns the job's name, which is part of its transactional ids, and its sinks.
async fn sinks(leader: &Arc<Leader>, owner: Option<v1::TransactionOwner>) -> Result<(String, Sinks), api::Error> {
    let owner = owner.ok_or_else(|| invalid("say which job is meant (`owner`)"))?;
    let graph = match (owner.job.is_empty(), owner.pipeline) {
        (false, None) => {
            let job = leader.with(|inner| Ok::<_, api::Error>(inner.state.job(&owner.job)?.record.resolved.clone()))?;
            let planned = threads::run_blocking(move || planning::plan(&job)).await;
            let planned = planned.map_err(|error| internal(&error))?;
            Arc::new(planned.map_err(|error| internal(&error))?)
        }
        (true, pipeline @ Some(_)) => resolve_pipeline(pipeline, owner.name, None).await?.graph,
        _ => {
            return Err(invalid(
                "say which job is meant by its name or by its pipeline, not both",
            ));
        }
    };
    let name = graph.name.clone();
    // Creating sinks may read files.
    let made = threads::run_blocking(move || create_sinks(&graph)).await;
    Ok((name, made.map_err(|error| internal(&error))??))
}

fn create_sinks(graph: &JobGraph) -> Result<Sinks, api::Error> {
    let mut sinks = Vec::new();
    for node in &graph.nodes {
        if let Operator::Sink(sink) = &node.operator {
            let made = registry::sink(&sink.table).map_err(|error| connector_error(&node.id, &error))?;
            sinks.push((node.id.clone(), made));
        }
    }
    Ok(sinks)
}

fn connector_error(operator: &OperatorId, error: &millstream_connectors::Error) -> api::Error {
    let code = match error {
        millstream_connectors::Error::Unavailable(_) => Code::Unavailable,
        _ => Code::InvalidRequest,
    };
    api::Error::new(code, format!("{operator}: {error}"))
}

fn describe(operator: &OperatorId, report: TransactionReport) -> v1::SinkTransactions {
    let ids = report.ids.into_iter().map(|known| v1::TransactionalId {
        id: known.id,
        attempts: u32::try_from(known.attempts).unwrap_or(u32::MAX),
        checkpoint: known.checkpoint,
        prepared_us: known.prepared_ms.saturating_mul(1000),
    });
    let blocked = report.blocked.into_iter().map(|blocked| v1::BlockedPartition {
        topic: blocked.topic,
        partition: blocked.partition,
        stable_offset: blocked.stable_offset,
        end_offset: blocked.end_offset,
    });
    v1::SinkTransactions {
        sink: operator.0.clone(),
        ids: ids.collect(),
        blocked: blocked.collect(),
    }
}
