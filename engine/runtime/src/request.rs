//! Runs a job graph over the rows of one request, in memory and on the calling thread.
//!
//! A request is a batch of its own: every node gets all of its input, then the end of it, in the topological order of
//! the graph. So a request has the result that batch mode gives for the same rows. Nodes that process row by row are
//! made once and shared by all requests; an operator with state is made for each request, and its state ends with it.
//!
//! Tables that are not part of the request are read once, by the caller, and are the same for all requests
//! ([`RequestExecutor::new`]). Nodes whose input is such tables only are computed once, too.
//!
//! There is no checkpoint, no exchange and no concurrency within a request.
//!
//! Requests of a graph whose nodes all process row by row can share one batch ([`RequestExecutor::run_shared`]), which
//! costs little more than one of them.

mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use millstream_connectors::RejectedRecord;
use millstream_graph::{self as graph, ErrorPolicy, JobGraph, NodeIndex, Port, clock};
use millstream_state::key_group::KeyGroupRange;
use millstream_state::store::Backend;

pub use self::shared::SharedRows;
use crate::Error;
use crate::counters::{JobCounters, OperatorCounters};
use crate::dead_letters;
use crate::element::batch_bytes;
use crate::operator::{Collector, Operator, Progress, Timestamp, WATERMARK_MAX};
use crate::operators::{self, Calc, OperatorContext};

/// Longest wait for background work of an operator before its call is resumed anyway.
const PARK_MAX: Duration = Duration::from_millis(10);

/// A reason why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A row failed, or a node did.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The deadline has passed.
    #[error("the deadline passed while {operator} was running")]
    DeadlineExceeded {
        /// Id of the operator.
        operator: String,
    },
    /// A node has emitted more than the limit.
    #[error("{operator} emits more than {bytes_max} bytes for this request; send fewer rows, or raise the limit")]
    TooLarge {
        /// Id of the operator.
        operator: String,
        /// The limit.
        bytes_max: usize,
    },
}

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Time at which the request is abandoned.
    pub deadline: Option<Instant>,
    /// Bytes that one node may emit.
    pub node_bytes_max: usize,
}

/// Rows of one table of a request, decoded.
#[derive(Debug, Clone)]
pub struct RequestRows {
    /// The source of the table.
    pub source: NodeIndex,
    /// All columns of the table's definition.
    pub rows: RecordBatch,
    /// Records that did not decode. The source's error policy applies to them.
    pub rejected: Vec<RejectedRecord>,
}

/// The output of one node, for a trace.
#[derive(Debug, Clone)]
pub struct NodeTrace {
    /// The node.
    pub node: NodeIndex,
    /// Number of rows of all inputs.
    pub rows_in: u64,
    /// Rows by output.
    pub output: Vec<(Port, RecordBatch)>,
    /// Number of rows that failed, whatever the error policy.
    pub bad_rows: u64,
}

/// The result of a request.
#[derive(Debug, Default)]
pub struct RequestOutput {
    /// Rows of each sink that got any.
    pub sinks: Vec<(NodeIndex, RecordBatch)>,
    /// The output of each node, if a trace was requested.
    pub trace: Vec<NodeTrace>,
}

/// A job graph that answers requests. Shared by all threads that do.
pub struct RequestExecutor {
    graph: Arc<JobGraph>,
    nodes: Vec<Prepared>,
    /// Output of each node that no request changes.
    constants: Vec<Option<Vec<(Port, RecordBatch)>>>,
    backend: Backend,
    counters: Arc<JobCounters>,
}

/// A node as far as it is the same for all requests.
struct Prepared {
    kind: Kind,
    inputs: Vec<SchemaRef>,
    counters: Arc<OperatorCounters>,
}

enum Kind {
    Source {
        projection: Vec<usize>,
        calc: Option<Calc>,
        on_error: ErrorPolicy,
    },
    Calc(Calc),
    Operator,
    Sink,
}

/// Rows for each input of each node.
type Inputs = Vec<Vec<Vec<RecordBatch>>>;

impl RequestExecutor {
    /// Prepares a graph that was planned for requests. `tables` are the rows of all sources that are not part of
    /// requests, with the columns of their definitions. State that outgrows memory is spilled to `backend`.
    pub fn new(
        graph: Arc<JobGraph>,
        tables: Vec<RequestRows>,
        requested: &[NodeIndex],
        backend: Backend,
    ) -> Result<Self, Error> {
        clock::provide(crate::slot::clock);
        let counters = Arc::new(JobCounters::of_subtasks(graph.name.clone(), &graph, 1, |_| true));
        let nodes = (0..graph.nodes.len())
            .map(|index| prepare(&graph, index, &counters))
            .collect::<Result<Vec<_>, Error>>()?;
        let constants = vec![None; graph.nodes.len()];
        let mut executor = Self {
            graph,
            nodes,
            constants,
            backend,
            counters,
        };
        executor.compute_constants(tables, requested)?;
        Ok(executor)
    }

    /// Returns the counters of all requests so far.
    pub fn counters(&self) -> &Arc<JobCounters> {
        &self.counters
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Arc<JobGraph> {
        &self.graph
    }

    /// Returns true if no node keeps state, so that requests of few rows take microseconds.
    pub fn is_stateless(&self) -> bool {
        !self.nodes.iter().any(|node| matches!(node.kind, Kind::Operator))
    }

    /// Runs one request that arrived at `arrival`, which is its processing time. A trace lists the output of every
    /// node.
    pub fn run(
        &self,
        rows: Vec<RequestRows>,
        arrival: Timestamp,
        limits: &RequestLimits,
        wants_trace: bool,
    ) -> Result<RequestOutput, RequestError> {
        clock::with_now(arrival, || {
            let mut inputs = self.no_inputs();
            let mut output = RequestOutput::default();
            let mut of_request: Vec<Vec<RequestRows>> = vec![Vec::new(); self.nodes.len()];
            for table in rows {
                of_request[table.source].push(table);
            }
            for index in 0..self.nodes.len() {
                let node_inputs = std::mem::take(&mut inputs[index]);
                if let Kind::Sink = self.nodes[index].kind {
                    let rows = node_inputs.into_iter().flatten();
                    output.sinks.extend(rows.map(|rows| (index, rows)));
                    continue;
                }
                let emitted = match &self.constants[index] {
                    Some(constant) => constant.clone(),
                    None => {
                        let own = std::mem::take(&mut of_request[index]);
                        let run = self.run_node(index, node_inputs, own, arrival, limits)?;
                        if wants_trace {
                            output.trace.push(run.trace(index));
                        }
                        run.emitted
                    }
                };
                self.deliver(index, &emitted, &mut inputs);
            }
            for (index, rows) in &output.sinks {
                let counters = &self.nodes[*index].counters;
                count(&counters.rows_in, rows.num_rows() as u64);
                count(&counters.rows_out, rows.num_rows() as u64);
            }
            Ok(output)
        })
    }

    fn no_inputs(&self) -> Inputs {
        let of_node = |node: &Prepared| vec![Vec::new(); node.inputs.len()];
        self.nodes.iter().map(of_node).collect()
    }

    /// Computes the nodes whose input is the given tables only.
    fn compute_constants(&mut self, mut tables: Vec<RequestRows>, requested: &[NodeIndex]) -> Result<(), Error> {
        let limits = RequestLimits {
            deadline: None,
            node_bytes_max: usize::MAX,
        };
        let mut inputs = self.no_inputs();
        for index in 0..self.nodes.len() {
            let is_constant = match self.nodes[index].kind {
                Kind::Sink => false,
                Kind::Source { .. } => !requested.contains(&index),
                Kind::Calc(_) | Kind::Operator => {
                    self.graph.inputs(index).all(|edge| self.constants[edge.from].is_some())
                }
            };
            if !is_constant {
                continue;
            }
            let (own, others): (Vec<_>, Vec<_>) = tables.into_iter().partition(|table| table.source == index);
            tables = others;
            let node_inputs = std::mem::take(&mut inputs[index]);
            let now = clock::now_us()?;
            let run = self
                .run_node(index, node_inputs, own, now, &limits)
                .map_err(|error| match error {
                    RequestError::Failed(error) => error,
                    error => self.error(index, &error.to_string()),
                })?;
            self.deliver(index, &run.emitted, &mut inputs);
            self.constants[index] = Some(run.emitted);
        }
        Ok(())
    }

    /// Passes the output of a node to the nodes after it.
    fn deliver(&self, index: NodeIndex, emitted: &[(Port, RecordBatch)], inputs: &mut Inputs) {
        for edge in self.graph.outputs(index) {
            let of_edge = emitted.iter().filter(|(port, _)| *port == edge.port);
            inputs[edge.to][edge.input].extend(of_edge.map(|(_, rows)| rows.clone()));
        }
    }

    fn error(&self, index: NodeIndex, message: &str) -> Error {
        Error::Operator {
            operator: self.graph.nodes[index].id.to_string(),
            message: message.to_owned(),
        }
    }

    /// Runs one node over all of its input. `own` are the rows of a source.
    fn run_node(
        &self,
        index: NodeIndex,
        inputs: Vec<Vec<RecordBatch>>,
        own: Vec<RequestRows>,
        now: Timestamp,
        limits: &RequestLimits,
    ) -> Result<NodeRun<'_>, RequestError> {
        let node = &self.nodes[index];
        let mut run = NodeRun {
            limits: *limits,
            operator: &self.graph.nodes[index].id.0,
            rows_in: 0,
            bytes: 0,
            bad_rows: 0,
            emitted: Vec::new(),
        };
        let begun = Instant::now();
        match &node.kind {
            Kind::Source {
                projection,
                calc,
                on_error,
            } => {
                for table in own {
                    run.accept(&table.rows, &node.counters);
                    run.reject(&table.rejected, *on_error, now)?;
                    let rows = table.rows.project(projection).map_err(Error::from)?;
                    run.calculate(calc.as_ref(), rows, now)?;
                }
            }
            Kind::Calc(calc) => {
                for rows in inputs.into_iter().flatten() {
                    run.accept(&rows, &node.counters);
                    run.calculate(Some(calc), rows, now)?;
                }
            }
            Kind::Operator => self.run_operator(index, inputs, now, &mut run)?,
            Kind::Sink => {}
        }
        run.check()?;
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        count(&node.counters.busy_ns, nanos);
        run.count_output(&node.counters);
        Ok(run)
    }

    fn run_operator(
        &self,
        index: NodeIndex,
        inputs: Vec<Vec<RecordBatch>>,
        now: Timestamp,
        run: &mut NodeRun<'_>,
    ) -> Result<(), RequestError> {
        let node = &self.nodes[index];
        let mut operator = self.make(index)?;
        let mut step = |run: &mut NodeRun<'_>, call: &mut Call<'_>| -> Result<(), RequestError> {
            let mut progress = call(operator.as_mut(), run)?;
            loop {
                run.check()?;
                match progress {
                    Progress::Done => return Ok(()),
                    Progress::More => {}
                    Progress::Pending => std::thread::park_timeout(PARK_MAX),
                }
                progress = operator.resume(run)?;
            }
        };
        step(run, &mut |operator, run| operator.on_time(now, run))?;
        let last = inputs.len().saturating_sub(1);
        for (input, batches) in inputs.into_iter().enumerate() {
            for rows in batches.into_iter().filter(|rows| rows.num_rows() > 0) {
                run.accept(&rows, &node.counters);
                step(run, &mut |operator, run| operator.process(input, rows.clone(), run))?;
            }
            if input == last {
                step(run, &mut |operator, run| operator.on_watermark(WATERMARK_MAX, run))?;
            }
            step(run, &mut |operator, run| operator.on_input_end(input, run))?;
        }
        step(run, &mut |operator, run| operator.flush(run))?;
        step(run, &mut |operator, run| operator.finish(run))
    }

    /// Makes the operator of a node, with empty state.
    fn make(&self, index: NodeIndex) -> Result<Box<dyn Operator>, Error> {
        let node = &self.graph.nodes[index];
        let key_groups = KeyGroupRange::of_subtask(self.graph.max_parallelism, 1, 0);
        let context = OperatorContext {
            max_parallelism: self.graph.max_parallelism,
            key_groups,
            store: self.backend.store(&node.id.0, key_groups),
            restored_inline: Vec::new(),
            memory: self.backend.memory().clone(),
            waker: Waker::from(Arc::new(Unpark(std::thread::current()))),
            holds_back: false,
        };
        operators::build(node, &self.nodes[index].inputs, context)
    }
}

type Call<'a> = dyn FnMut(&mut dyn Operator, &mut NodeRun<'_>) -> Result<Progress, Error> + 'a;

fn prepare(graph: &JobGraph, index: NodeIndex, counters: &JobCounters) -> Result<Prepared, Error> {
    let node = &graph.nodes[index];
    let name = node.id.0.as_str();
    let inputs: Vec<SchemaRef> = (0..).map_while(|input| graph.input_schema(index, input)).collect();
    let output = &node.output.schema;
    let kind = match &node.operator {
        graph::Operator::Source(source) => {
            let input = SchemaRef::new(source.table.schema.project(&source.projection)?);
            let calc = source.calc.as_ref();
            Kind::Source {
                projection: source.projection.clone(),
                on_error: source.on_error,
                calc: calc
                    .map(|calc| Calc::new(name, calc, &input, output.clone()))
                    .transpose()?,
            }
        }
        graph::Operator::Calc(calc) => match inputs.first() {
            Some(input) => Kind::Calc(Calc::new(name, calc, input, output.clone())?),
            None => Kind::Operator,
        },
        graph::Operator::Sink(_) => Kind::Sink,
        _ => Kind::Operator,
    };
    let own = counters.operators.iter().find(|counters| counters.operator == node.id);
    let counters = own.map(Arc::clone).ok_or_else(|| Error::Operator {
        operator: name.to_owned(),
        message: "has no counters".to_owned(),
    })?;
    Ok(Prepared { kind, inputs, counters })
}

/// One node at work on one request.
struct NodeRun<'a> {
    limits: RequestLimits,
    operator: &'a str,
    rows_in: u64,
    /// Bytes emitted.
    bytes: usize,
    bad_rows: u64,
    emitted: Vec<(Port, RecordBatch)>,
}

impl NodeRun<'_> {
    fn accept(&mut self, rows: &RecordBatch, counters: &OperatorCounters) {
        self.rows_in += rows.num_rows() as u64;
        count(&counters.rows_in, rows.num_rows() as u64);
        count(&counters.bytes_in, batch_bytes(rows) as u64);
    }

    /// Applies the error policy of a source to records that did not decode.
    fn reject(&mut self, rejected: &[RejectedRecord], on_error: ErrorPolicy, now: Timestamp) -> Result<(), Error> {
        self.bad_rows += rejected.len() as u64;
        match (on_error, rejected) {
            (_, []) | (ErrorPolicy::Skip | ErrorPolicy::Null, _) => Ok(()),
            (ErrorPolicy::Fail, [record, ..]) => Err(Error::Operator {
                operator: self.operator.to_owned(),
                message: format!("{}: {}", record.position, record.error),
            }),
            (ErrorPolicy::DeadLetter, _) => {
                let letters = dead_letters::of_records(self.operator, now, rejected)?;
                self.emit(Port::DeadLetters, letters);
                Ok(())
            }
        }
    }

    fn calculate(&mut self, calc: Option<&Calc>, rows: RecordBatch, now: Timestamp) -> Result<(), Error> {
        let Some(calc) = calc else {
            self.emit(Port::Main, rows);
            return Ok(());
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let calculated = calc.evaluate(&rows, None, now)?;
        self.bad_rows += calculated.bad_rows;
        if let Some(letters) = calculated.dead_letters {
            self.emit(Port::DeadLetters, letters);
        }
        if let Some(rows) = calculated.rows {
            self.emit(Port::Main, rows);
        }
        Ok(())
    }

    /// Compares the output and the time with their limits.
    fn check(&self) -> Result<(), RequestError> {
        if self.bytes > self.limits.node_bytes_max {
            return Err(RequestError::TooLarge {
                operator: self.operator.to_owned(),
                bytes_max: self.limits.node_bytes_max,
            });
        }
        if self.limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(RequestError::DeadlineExceeded {
                operator: self.operator.to_owned(),
            });
        }
        Ok(())
    }

    fn count_output(&self, counters: &OperatorCounters) {
        count(&counters.bad_rows, self.bad_rows);
        for (port, rows) in &self.emitted {
            let number = rows.num_rows() as u64;
            match port {
                Port::Main => {
                    count(&counters.rows_out, number);
                    count(&counters.bytes_out, batch_bytes(rows) as u64);
                }
                Port::Late(_) => count(&counters.late_rows, number),
                Port::DeadLetters => count(&counters.dead_letters, number),
            }
        }
    }

    fn trace(&self, node: NodeIndex) -> NodeTrace {
        NodeTrace {
            node,
            rows_in: self.rows_in,
            output: self.emitted.clone(),
            bad_rows: self.bad_rows,
        }
    }
}

impl Collector for NodeRun<'_> {
    fn emit(&mut self, port: Port, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.bytes += batch_bytes(&batch);
            self.emitted.push((port, batch));
        }
    }

    fn count_bad(&mut self, rows: u64) {
        self.bad_rows += rows;
    }
}

/// Adds to a counter that requests on several threads write.
fn count(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

/// Wakes a thread that waits for background work.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
