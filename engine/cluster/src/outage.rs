//! Outages: external systems that the sources and sinks of a job cannot reach.
//!
//! Connectors retry by themselves, so an outage is no failure: it is the reason why nothing is read, or why a
//! checkpoint does not complete. Each process that has sources or sinks of a job monitors its own; a worker's
//! heartbeats carry the outages to the driver, which reports when one begins and when it ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millstream_connectors::redaction::redact;
use millstream_connectors::{Sink, Source};
use millstream_graph::{JobGraph, NodeIndex};
use millstream_proto::report::time;
use millstream_proto::v1::{InputFields, Outage};

/// Kind of an outage of a source.
pub const SOURCE: &str = "source";
/// Kind of an outage of a sink.
pub const SINK: &str = "sink";

/// The sources and sinks of a job in this process.
#[derive(Clone, Default)]
pub struct ConnectorMonitor {
    sources: Vec<(String, Arc<dyn Source>)>,
    sinks: Vec<(String, Arc<dyn Sink>)>,
}

impl ConnectorMonitor {
    /// Monitors these sources and sinks.
    pub fn new(
        graph: &JobGraph,
        sources: &HashMap<NodeIndex, Arc<dyn Source>>,
        sinks: &HashMap<NodeIndex, Arc<dyn Sink>>,
    ) -> Self {
        let id = |node: &NodeIndex| graph.nodes[*node].id.0.clone();
        Self {
            sources: sources
                .iter()
                .map(|(node, source)| (id(node), source.clone()))
                .collect(),
            sinks: sinks.iter().map(|(node, sink)| (id(node), sink.clone())).collect(),
        }
    }

    /// Returns the present outages.
    pub fn outages(&self) -> Vec<Outage> {
        let of = |operator: &String, kind: &str, found: millstream_connectors::Outage| Outage {
            operator: operator.clone(),
            kind: kind.to_string(),
            system: redact(&found.system).into_owned(),
            since_us: found.since_us,
            problem: redact(&found.problem).into_owned(),
        };
        let sources = self.sources.iter();
        let sources = sources.filter_map(|(id, source)| Some(of(id, SOURCE, source.outage()?)));
        let sinks = self.sinks.iter();
        let sinks = sinks.filter_map(|(id, sink)| Some(of(id, SINK, sink.outage()?)));
        merge(sources.chain(sinks))
    }

    /// Returns the fields of the records that the sources have read.
    pub fn input_fields(&self) -> Vec<InputFields> {
        let sources = self.sources.iter();
        let found = sources.filter_map(|(id, source)| {
            let fields = source.input_fields()?;
            Some(InputFields {
                operator: id.clone(),
                records: fields.records,
                absent_columns: fields.absent_columns,
                unknown_fields: fields.unknown_fields,
            })
        });
        found.collect()
    }
}

/// Merges the outages that several processes report: one for each operator, from the earliest start, in the order of
/// their ids.
pub fn merge(found: impl IntoIterator<Item = Outage>) -> Vec<Outage> {
    let mut by_operator: BTreeMap<String, Outage> = BTreeMap::new();
    for outage in found {
        match by_operator.get_mut(&outage.operator) {
            Some(known) => known.since_us = known.since_us.min(outage.since_us),
            None => {
                by_operator.insert(outage.operator.clone(), outage);
            }
        }
    }
    by_operator.into_values().collect()
}

/// Describes an outage, as part of a job's reason.
pub fn describe(outage: &Outage) -> String {
    format!(
        "the {} `{}` cannot reach {} since {} ({})",
        outage.kind,
        outage.operator,
        outage.system,
        time(outage.since_us),
        outage.problem
    )
}

/// Returns a job's reason with the outages added.
pub fn describe_reason(reason: &str, outages: &[Outage]) -> String {
    let words = outages.iter().map(describe);
    let parts: Vec<String> = std::iter::once(reason.to_string())
        .filter(|reason| !reason.is_empty())
        .chain(words)
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(operator: &str, since_us: i64, problem: &str) -> Outage {
        Outage {
            operator: operator.into(),
            kind: SINK.into(),
            system: "the Kafka brokers `a:1`".into(),
            since_us,
            problem: problem.into(),
        }
    }

    #[test]
    fn outages_of_several_workers_are_merged_from_the_first_start() {
        let found = merge([
            outage("stats", 9_000_000, "refused"),
            outage("alerts", 5_000_000, "refused"),
            outage("stats", 2_000_000, "no route"),
        ]);
        let expected = [
            outage("alerts", 5_000_000, "refused"),
            outage("stats", 2_000_000, "refused"),
        ];
        assert_eq!(found, expected);
        assert_eq!(
            describe_reason("asked to stop", &found[1..]),
            "asked to stop; the sink `stats` cannot reach the Kafka brokers `a:1` since 1970-01-01 00:00:02 (refused)"
        );
        assert_eq!(describe_reason("", &[]), "");
        assert_eq!(describe_reason("waits", &[]), "waits");
    }
}
