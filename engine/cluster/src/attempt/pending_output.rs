//! Output of a complete checkpoint that may not be published yet.
//!
//! The rows of a checkpoint count as written from the moment it is complete, so its output must become visible
//! whatever restores it: the next attempt, another parallelism, an edited pipeline, or another job that starts from a
//! copy. Publishing is idempotent (markers in Kafka, names of files), so it is repeated without knowing whether it
//! happened before. The output is published by the sinks of the pipeline that the checkpoint was taken of, with the
//! credentials of the present pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_connectors::{Committable, OutputStorage, Sink, TableDefinition, options, registry};
use millstream_graph::{JobGraph, Operator, OperatorId};
use millstream_runtime::sink_files::SinkFiles;
use millstream_state::threads;

use super::committables_of;
use super::connectors::{Connectors, create_connectors};
use crate::history::History;
use crate::job::Job;
use crate::snapshot::Snapshot;
use crate::{Error, publish, stored_pipeline};

/// The output of one checkpoint by the sink that publishes it.
#[derive(Default)]
pub(super) struct PendingOutput {
    outputs: Vec<(Arc<dyn Sink>, Vec<Committable>)>,
}

impl PendingOutput {
    /// Collects the output of `base`. `connectors` are those of the job; other sinks get `storage`.
    pub(super) async fn of(
        job: &Job,
        connectors: &Connectors,
        storage: &Arc<dyn OutputStorage>,
        base: &Snapshot,
    ) -> Result<Self, Error> {
        let pending: BTreeMap<&OperatorId, Vec<Committable>> = base
            .operators
            .iter()
            .map(|(operator, states)| (operator, committables_of(Some(states))))
            .filter(|(_, committables)| !committables.is_empty())
            .collect();
        if pending.is_empty() {
            return Ok(Self::default());
        }
        let own = |operator: &OperatorId| {
            connectors
                .sinks
                .iter()
                .find(|(node, _)| job.graph.nodes[**node].id == *operator)
        };
        // Most often the pipeline has not changed.
        let pipeline = base.output_pipeline.as_ref().or(base.pipeline.as_ref());
        let is_same = pipeline.map(String::as_str) == job.stored_pipeline.as_deref();
        let written_by = match pipeline {
            Some(pipeline) if !is_same => tables_of(pipeline.clone()).await?,
            _ => BTreeMap::new(),
        };
        let mut outputs = Vec::new();
        for (operator, committables) in pending {
            let present = own(operator).map(|(node, sink)| (table_of(&job.graph, *node), sink));
            let sink = match (written_by.get(operator), present) {
                (Some(table), present) => {
                    let sink = written_for(operator, table, present.and_then(|(table, _)| table), base.checkpoint)?;
                    sink.use_storage(storage.clone());
                    sink
                }
                (None, Some((_, sink))) => sink.clone(),
                (None, None) => {
                    return Err(Error::Invalid(format!(
                        "checkpoint {} holds output of the sink `{operator}` that may not be published yet, and neither the \
                         pipeline nor the checkpoint says where it goes; start with a pipeline that has this sink",
                        base.checkpoint
                    )));
                }
            };
            outputs.push((sink, committables));
        }
        Ok(Self { outputs })
    }

    /// Publishes the output.
    pub(super) async fn publish(self) -> Result<(), Error> {
        for (sink, committables) in self.outputs {
            publish::recover_with_retries(&sink, committables).await?;
        }
        Ok(())
    }
}

fn table_of(graph: &JobGraph, node: usize) -> Option<&TableDefinition> {
    match &graph.nodes[node].operator {
        Operator::Sink(sink) => Some(&*sink.table),
        _ => None,
    }
}

/// Returns the tables of a stored pipeline's sinks, with masked secrets. Returns none if this engine cannot plan the
/// pipeline.
async fn tables_of(pipeline: String) -> Result<BTreeMap<OperatorId, TableDefinition>, Error> {
    let planned = threads::run_blocking(move || stored_pipeline::plan(&pipeline)).await;
    let planned = planned.map_err(|error| Error::Failed(format!("planning was aborted: {error}")))?;
    let Ok(graph) = planned else { return Ok(BTreeMap::new()) };
    let tables = (0..graph.nodes.len()).filter_map(|node| {
        let table = table_of(&graph, node)?;
        Some((graph.nodes[node].id.clone(), table.clone()))
    });
    Ok(tables.collect())
}

/// Creates the sink that output was written for: `before` with the secrets of `present`.
fn written_for(
    operator: &OperatorId,
    before: &TableDefinition,
    present: Option<&TableDefinition>,
    checkpoint: u64,
) -> Result<Arc<dyn Sink>, Error> {
    let mut table = before.clone();
    for (name, value) in &mut table.options {
        if value != options::MASK {
            continue;
        }
        let secret = present.and_then(|present| present.options.get(name));
        *value = secret.cloned().ok_or_else(|| {
            Error::Invalid(format!(
                "checkpoint {checkpoint} holds output of the sink `{operator}` that may not be published yet, and the \
                 pipeline no longer has the sink's `{name}`; start with a pipeline that has it, stop that, then remove it"
            ))
        })?;
    }
    Ok(registry::sink(&table)?)
}

/// Publishes what the latest checkpoint holds, while no task of the job runs.
pub(crate) async fn publish_latest(job: &Job, history: &History) -> Result<(), Error> {
    let latest = history.latest_for_running_tasks().await?.map_err(Error::Failed)?;
    let Some(latest) = latest else { return Ok(()) };
    let connectors = create_connectors(job)?;
    let storage: Arc<dyn OutputStorage> = Arc::new(SinkFiles::new(history.files()));
    for sink in connectors.sinks.values() {
        sink.use_storage(storage.clone());
    }
    PendingOutput::of(job, &connectors, &storage, &latest)
        .await?
        .publish()
        .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn table(options: &[(&str, &str)]) -> TableDefinition {
        TableDefinition {
            name: "out".into(),
            schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
            metadata: Vec::new(),
            options: options
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
        }
    }

    /// `before` and `present` are options of a Kafka table; `problem` is part of the expected error, empty if there
    /// is none.
    #[track_caller]
    fn check(before: &[(&str, &str)], present: Option<&[(&str, &str)]>, problem: &str) {
        let usual = [
            ("connector", "kafka"),
            ("format", "json"),
            ("topic", "t"),
            ("brokers", "127.0.0.1:1"),
        ];
        let with_usual = |options: &[(&str, &str)]| table(&[&usual[..], options].concat());
        let present = present.map(with_usual);
        let sink = written_for(&OperatorId("out".into()), &with_usual(before), present.as_ref(), 7);
        match sink {
            Ok(_) => assert_eq!(problem, ""),
            Err(error) => {
                let error = error.to_string();
                assert!(!problem.is_empty() && error.contains(problem), "{error}");
            }
        }
    }

    #[test]
    fn secrets_of_a_stored_sink_come_from_the_present_one() {
        let masked = [("properties.sasl.password", options::MASK)];
        check(&[], None, "");
        check(&masked, Some(&[("properties.sasl.password", "x")]), "");
        check(
            &masked,
            Some(&[]),
            "no longer has the sink's `properties.sasl.password`",
        );
        check(&masked, None, "checkpoint 7 holds output of the sink `out`");
    }
}
