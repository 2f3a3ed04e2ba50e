//! Tests of users' pipelines: given rows for the sources, and expected rows of the sinks.
//!
//! A [`Case`] runs over the real plan of a pipeline, with the operators and tasks of production. Only the sources and
//! sinks are replaced, by [`memory`]; the clock is that of the case. In the modes `stream` and `batch` the job runs in
//! a [`SingleThreadJob`], in the mode `serve` all rows are one request. [`rows`] decodes what a case gives and expects,
//! and [`compare`] explains a difference.

mod compare;
mod memory;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_connectors::{JobIdentity, Sink, Source, Split, TableDefinition};
use millstream_graph::{JobGraph, NodeIndex, Operator};
use millstream_planner::Mode;
use millstream_proto::spec::did_you_mean;
use millstream_runtime::counters::JobCounters;
use millstream_runtime::deployment::{Deployment, Options};
use millstream_runtime::request::{RequestError, RequestExecutor, RequestLimits};
use millstream_runtime::single_thread::SingleThreadJob;
use millstream_state::store::Backend;

use self::memory::{Inbox, MemorySink, MemorySource};
pub use self::rows::Row;
use self::rows::{Given, Shape};
use crate::Error;
use crate::resolve::Resolved;

/// One test of a pipeline.
#[derive(Debug, Clone)]
pub struct Case {
    /// The clock at the beginning, in microseconds since the epoch.
    pub clock_us: i64,
    /// Input, in order.
    pub steps: Vec<Step>,
    /// True if all sources end after the steps. In the modes `batch` and `serve` they always do.
    pub end: bool,
    /// The expected rows of sinks. Other sinks are not compared.
    pub expected: Vec<Expected>,
    /// A text that the error contains with which the pipeline must fail.
    pub error: Option<String>,
    /// The expected number of late rows that no sink reads.
    pub late_rows: Option<u64>,
    /// The expected number of records and rows that failed.
    pub bad_rows: Option<u64>,
}

/// A step of a case.
#[derive(Debug, Clone)]
pub enum Step {
    /// Rows of a source, which arrive together.
    Rows {
        /// Name of the source.
        source: String,
        /// The rows.
        rows: Vec<Row>,
    },
    /// Records of a source in its own format, which arrive together.
    Payload {
        /// Name of the source.
        source: String,
        /// The records.
        records: Vec<String>,
    },
    /// Sets the clock forward, in microseconds since the epoch.
    Clock(i64),
}

/// The expected rows of a sink.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Name of the sink.
    pub sink: String,
    /// The rows.
    pub rows: Vec<Row>,
    /// True to compare all changes, with their kinds; false to compare the rows of the table that they make.
    pub is_changelog: bool,
    /// True if the order matters.
    pub is_ordered: bool,
}

/// Output of a run.
struct Output {
    /// Rows of each sink, by its name.
    sinks: Vec<(Arc<TableDefinition>, Vec<arrow_array::RecordBatch>)>,
    counters: Arc<JobCounters>,
    error: Option<String>,
}

/// Runs a case over a planned pipeline. Returns the differences from what it expects, one per line; none if it passes.
/// Fails if the case itself is invalid. `runtime` must not be that of the calling thread.
pub fn run(
    resolved: &Resolved,
    case: &Case,
    backend: Backend,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<String>, Error> {
    let graph = &resolved.graph;
    let given = given(graph, case)?;
    let output = match resolved.settings.mode {
        Mode::Serve => serve(graph, case, given, backend)?,
        mode => execute(graph, case, given, backend, runtime, mode == Mode::Batch)?,
    };
    let mut differences = Vec::new();
    match (&case.error, &output.error) {
        (None, None) => {}
        (Some(expected), Some(error)) if error.contains(expected.as_str()) => {}
        (Some(expected), Some(error)) => differences.push(format!("error: expected `{expected}`, but it is: {error}")),
        (None, Some(error)) => differences.push(format!("the pipeline failed: {error}")),
        (Some(expected), None) => {
            differences.push(format!("error: expected `{expected}`, but the pipeline did not fail"));
        }
    }
    for expected in &case.expected {
        let of_sink = output.sinks.iter().filter(|(table, _)| table.name == expected.sink);
        let mut of_sink = of_sink.peekable();
        let Some(table) = of_sink.peek().map(|(table, _)| Arc::clone(table)) else {
            let names = output.sinks.iter().map(|(table, _)| table.name.as_str());
            return Err(unknown("expect", &expected.sink, "sink", names));
        };
        let batches: Vec<_> = of_sink.flat_map(|(_, rows)| rows).collect();
        differences.extend(compare::differences(&table, &batches, expected)?);
    }
    let sum = |count: fn(&millstream_runtime::counters::OperatorCounters) -> u64| {
        output
            .counters
            .operators
            .iter()
            .map(|counters| count(counters))
            .sum::<u64>()
    };
    let counts = [
        (
            "late_rows",
            case.late_rows,
            sum(|counters| counters.late_rows.load(Ordering::Relaxed)),
        ),
        (
            "bad_rows",
            case.bad_rows,
            sum(|counters| counters.bad_rows.load(Ordering::Relaxed)),
        ),
    ];
    for (name, expected, found) in counts {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            differences.push(format!("{name}: expected {expected}, found {found}"));
        }
    }
    Ok(differences)
}

/// Returns the error of a name that the pipeline does not have.
fn unknown<'a>(place: &str, name: &str, what: &str, names: impl Iterator<Item = &'a str> + Clone) -> Error {
    let near = did_you_mean(name, names.clone());
    let known: Vec<&str> = names.collect();
    Error::Invalid(format!(
        "{place}: the pipeline has no {what} `{name}`{near}; it has {}",
        known.join(", ")
    ))
}

/// The input of one step, decoded.
enum Decoded {
    /// Rows of a source, for each of its nodes.
    Rows(Vec<(NodeIndex, Given)>),
    Clock(i64),
}

fn sources(graph: &JobGraph) -> impl Iterator<Item = (NodeIndex, &millstream_graph::Source)> + Clone {
    graph
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(index, node)| match &node.operator {
            Operator::Source(source) => Some((index, source)),
            _ => None,
        })
}

fn sinks(graph: &JobGraph) -> impl Iterator<Item = (NodeIndex, &millstream_graph::Sink)> {
    graph
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(index, node)| match &node.operator {
            Operator::Sink(sink) => Some((index, sink)),
            _ => None,
        })
}

/// Decodes the rows and records of all steps.
fn given(graph: &JobGraph, case: &Case) -> Result<Vec<Decoded>, Error> {
    let of_source = |name: &str, decode: &dyn Fn(&Shape) -> Result<Given, Error>| {
        let nodes: Vec<_> = sources(graph).filter(|(_, source)| source.table.name == name).collect();
        let Some((_, first)) = nodes.first() else {
            let names = sources(graph).map(|(_, source)| source.table.name.as_str());
            return Err(unknown("steps", name, "source", names));
        };
        let given = decode(&Shape::of_source(&first.table))?;
        let nodes = nodes.iter().map(|(index, _)| (*index, given.clone()));
        Ok(Decoded::Rows(nodes.collect()))
    };
    let decode = |step: &Step| match step {
        Step::Rows { source, rows } => of_source(source, &|shape| shape.decode(rows)),
        Step::Payload { source, records } => of_source(source, &|shape| shape.decode_payload(records)),
        Step::Clock(to) => Ok(Decoded::Clock(*to)),
    };
    let clocks = case.steps.iter().filter_map(|step| match step {
        Step::Clock(to) => Some(*to),
        Step::Rows { .. } | Step::Payload { .. } => None,
    });
    let clocks: Vec<i64> = std::iter::once(case.clock_us).chain(clocks).collect();
    if !clocks.is_sorted() {
        let message = "steps: a step sets the clock to an earlier time than it shows; the clock only goes forward";
        return Err(Error::Invalid(message.to_owned()));
    }
    case.steps.iter().map(decode).collect()
}

/// Runs a case as one request.
fn serve(graph: &Arc<JobGraph>, case: &Case, given: Vec<Decoded>, backend: Backend) -> Result<Output, Error> {
    let requested: Vec<NodeIndex> = sources(graph).map(|(index, _)| index).collect();
    let executor = RequestExecutor::new(Arc::clone(graph), Vec::new(), &requested, backend)?;
    let mut arrival = case.clock_us;
    let mut rows = Vec::new();
    for step in given {
        match step {
            Decoded::Rows(nodes) => rows.extend(nodes.into_iter().map(|(node, given)| given.into_request(node))),
            Decoded::Clock(to) => arrival = to,
        }
    }
    let limits = RequestLimits {
        deadline: None,
        node_bytes_max: usize::MAX,
    };
    let (result, error) = match executor.run(rows, arrival, &limits, false) {
        Ok(output) => (output.sinks, None),
        Err(RequestError::Failed(error)) => (Vec::new(), Some(error.to_string())),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let rows_of = |sink: NodeIndex| {
        let own = result.iter().filter(move |(index, _)| *index == sink);
        own.map(|(_, rows)| rows.clone()).collect()
    };
    Ok(Output {
        sinks: sinks(graph)
            .map(|(index, sink)| (Arc::clone(&sink.table), rows_of(index)))
            .collect(),
        counters: Arc::clone(executor.counters()),
        error,
    })
}

/// Runs a case as a stream or as a batch.
fn execute(
    graph: &Arc<JobGraph>,
    case: &Case,
    given: Vec<Decoded>,
    backend: Backend,
    runtime: &tokio::runtime::Handle,
    batch: bool,
) -> Result<Output, Error> {
    let inboxes: HashMap<NodeIndex, Arc<Inbox>> = sources(graph)
        .map(|(index, _)| (index, Arc::new(Inbox::default())))
        .collect();
    let memory_sinks: Vec<(NodeIndex, Arc<MemorySink>)> = sinks(graph)
        .map(|(index, _)| (index, Arc::new(MemorySink::default())))
        .collect();
    let source = |(index, source): (NodeIndex, &millstream_graph::Source)| {
        let inbox = Arc::clone(&inboxes[&index]);
        let schema = Arc::clone(&source.table.schema);
        let source: Arc<dyn Source> = Arc::new(MemorySource { schema, inbox, batch });
        (index, source)
    };
    let split = Split {
        id: memory::SPLIT.to_owned(),
        position: Vec::new(),
        weight: 0,
        finished: false,
    };
    let mut deployment = Deployment {
        graph: Arc::clone(graph),
        identity: JobIdentity {
            job: graph.name.clone(),
            attempt: "test".to_owned(),
        },
        parallelism: 1,
        slots: 1,
        local_slots: None,
        sources: sources(graph).map(source).collect(),
        sinks: memory_sinks
            .iter()
            .map(|(index, sink)| (*index, Arc::clone(sink) as Arc<dyn Sink>))
            .collect(),
        splits: inboxes
            .keys()
            .map(|index| (*index, vec![vec![split.clone()]]))
            .collect(),
        splits_are_final: true,
        restore: HashMap::new(),
        backend,
        runtime: runtime.clone(),
        options: Options {
            batch,
            ..Options::default()
        },
    };
    let _entered = runtime.enter();
    let mut job = runtime.block_on(SingleThreadJob::start(&mut deployment, case.clock_us))?;
    let perform = || -> Result<(), millstream_runtime::Error> {
        job.settle()?;
        for step in given {
            match step {
                Decoded::Rows(nodes) => {
                    for (node, given) in nodes {
                        inboxes[&node].push(given);
                    }
                    job.settle()?;
                }
                Decoded::Clock(to) => job.advance_clock(to)?,
            }
        }
        if case.end || batch {
            inboxes.values().for_each(|inbox| inbox.end());
            job.finish()?;
        }
        Ok(())
    };
    let error = perform().err().map(|error| error.to_string());
    Ok(Output {
        sinks: sinks(graph)
            .zip(&memory_sinks)
            .map(|((_, sink), (_, memory))| (Arc::clone(&sink.table), memory.take()))
            .collect(),
        counters: Arc::clone(job.counters()),
        error,
    })
}

#[cfg(test)]
mod tests;
