//! The sources and sinks of an attempt.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_connectors::{Boundedness, Delivery, Sink, Source, registry};
use millstream_graph::{NodeIndex, Operator};

use crate::Error;
use crate::job::Job;

/// The sources and sinks of a job, by their nodes.
pub(super) struct Connectors {
    /// The sources.
    pub sources: HashMap<NodeIndex, Arc<dyn Source>>,
    /// The sinks.
    pub sinks: HashMap<NodeIndex, Arc<dyn Sink>>,
}

/// Checks that the sources and sinks of a job can be created with its options.
pub(crate) fn check_connectors(job: &Job) -> Result<(), Error> {
    create_connectors(job).map(|_| ())
}

/// Returns the ids of the sinks that deliver exactly once.
pub(crate) fn exactly_once_sinks(job: &Job) -> Result<Vec<String>, Error> {
    let connectors = create_connectors(job)?;
    let mut sinks: Vec<String> = connectors
        .sinks
        .iter()
        .filter(|(_, sink)| sink.delivery() == Delivery::ExactlyOnce)
        .map(|(node, _)| job.graph.nodes[*node].id.to_string())
        .collect();
    sinks.sort();
    Ok(sinks)
}

/// Creates the sources and sinks of a job.
pub(super) fn create_connectors(job: &Job) -> Result<Connectors, Error> {
    let mut connectors = Connectors {
        sources: HashMap::new(),
        sinks: HashMap::new(),
    };
    for (index, node) in job.graph.nodes.iter().enumerate() {
        match &node.operator {
            Operator::Source(source) => {
                let source = registry::source(&source.table)?;
                if job.options.batch && source.boundedness() == Boundedness::Unbounded {
                    return Err(Error::Invalid(format!(
                        "{}: the source never ends, so it cannot be read as a batch; bound it (for Kafka: 'scan.bounded.mode') or run in stream mode",
                        node.id
                    )));
                }
                connectors.sources.insert(index, source);
            }
            Operator::Sink(sink) => {
                let sink = registry::sink(&sink.table)?;
                if job.exactly_once_required && sink.delivery() == Delivery::AtLeastOnce {
                    return Err(Error::Invalid(format!(
                        "{}: the sink delivers at least once, but the job demands exactly-once delivery; choose a sink that offers it ('sink.delivery-guarantee'), or write `checkpoints: {{ delivery: at-least-once }}` to accept rows that occur twice after a failure",
                        node.id
                    )));
                }
                connectors.sinks.insert(index, sink);
            }
            _ => {}
        }
    }
    Ok(connectors)
}
