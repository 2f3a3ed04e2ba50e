//! Deploys a job graph: restores its state, makes its tasks and channels, and starts its slots.
//!
//! [`restore`] brings the state of every subtask that runs here; [`deploy`] builds the tasks on it, spreads them over
//! slot threads and starts them.

mod channel_state;
mod channels;
mod operators;
mod restore;
mod tasks;

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use crossbeam::channel::bounded;
use millstream_connectors::{JobIdentity, Sink, Source, Split};
use millstream_graph::{JobGraph, NodeIndex, OperatorId};
use millstream_state::store::Backend;
use tokio::sync::mpsc;

pub use self::restore::{Restored, restore};
pub(crate) use self::tasks::build;
use crate::Error;
use crate::chain::{Chains, parallelism_of};
use crate::counters::JobCounters;
use crate::job::RunningJob;
use crate::remote_channel::LocalSlots;
use crate::slot::{self, COMMANDS_MAX, JobShared, SlotHandle, SlotParker, SlotTask, TaskWaker};
use crate::subtask_state::SubtaskState;

/// Number of events that may wait for the caller.
const EVENTS_MAX: usize = 1_024;
/// Interval at which counters are published as metrics.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the waker of the task of a chain (its number) and a subtask.
pub(crate) type TaskWakers<'a> = dyn Fn(usize, usize) -> Waker + Sync + 'a;

/// A job to be run: its graph, its connectors, and the state to start from.
pub struct Deployment {
    /// The job graph.
    pub graph: Arc<JobGraph>,
    /// Name and attempt of the job.
    pub identity: JobIdentity,
    /// Number of subtasks of every node that does not have exactly one.
    pub parallelism: usize,
    /// Number of slot threads. Subtask `i` of every node runs in slot `i % slots`.
    pub slots: usize,
    /// The slots that run in this process; `None` if all do.
    pub local_slots: Option<LocalSlots>,
    /// The source of each source node.
    pub sources: HashMap<NodeIndex, Arc<dyn Source>>,
    /// The sink of each sink node.
    pub sinks: HashMap<NodeIndex, Arc<dyn Sink>>,
    /// Splits of each source node, per subtask.
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    /// True if no further splits will ever be assigned.
    pub splits_are_final: bool,
    /// State of the checkpoint to resume from: of every operator, the parts of all its subtasks.
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    /// The backend of keyed state.
    pub backend: Backend,
    /// The runtime for I/O and uploads.
    pub runtime: tokio::runtime::Handle,
    /// Limits and modes.
    pub options: Options,
}

impl Deployment {
    /// Returns true if the operator of a node holds changes back until consistency points. In a batch, the end of input
    /// is the only one.
    pub(crate) fn holds_back(&self, node: NodeIndex) -> bool {
        !self.options.batch && self.graph.holds_back(node)
    }

    /// Returns the job's slots that run in this process.
    pub(crate) fn local_slots(&self) -> LocalSlots {
        self.local_slots.clone().unwrap_or_else(|| {
            let slots_total = self.slots.max(1);
            LocalSlots {
                slots: (0..slots_total).collect(),
                slots_total,
                transport: None,
            }
        })
    }
}

/// Limits and modes of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// True in batch mode: no watermark before the end of input, and no clock-driven features.
    pub batch: bool,
    /// Capacity of one channel between two subtasks, in bytes.
    pub channel_bytes_max: usize,
    /// Number of rows of a batch that a source reads, at most.
    pub batch_rows_max: usize,
    /// Bytes of a batch that a source reads, at most.
    pub batch_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: false,
            channel_bytes_max: 4 << 20,
            batch_rows_max: 8192,
            batch_bytes_max: 2 << 20,
        }
    }
}

/// Builds the tasks of every subtask that runs here on their state, and starts the slot threads.
pub async fn deploy(deployment: Deployment, restored: Restored) -> Result<RunningJob, Error> {
    let local_slots = deployment.local_slots();
    let parkers: Vec<SlotParker> = local_slots.slots.iter().map(|_| SlotParker::new()).collect();
    let chains = Chains::of(&deployment.graph, deployment.parallelism);
    let wakers = wakers(&deployment, &chains, |subtask| {
        let slot = local_slots.position(subtask)?;
        Some(TaskWaker::new(parkers[slot].waker()))
    });
    let counters = counters(&deployment, &local_slots);
    let as_wakers = |chain: usize, subtask: usize| match &wakers[chain][subtask] {
        Some(waker) => waker.waker(),
        None => Waker::noop().clone(),
    };
    let tasks = build(&deployment, restored, &local_slots, &chains, &as_wakers, &counters).await?;
    let mut by_slot: Vec<Vec<SlotTask>> = local_slots.slots.iter().map(|_| Vec::new()).collect();
    let task_count = tasks.len();
    let terminal_tasks = tasks.iter().filter(|built| built.task.is_terminal()).count();
    for built in tasks {
        if let (Some(waker), Some(slot)) = (&wakers[built.chain][built.subtask], local_slots.position(built.subtask)) {
            by_slot[slot].push(SlotTask::new(built.task, Arc::clone(waker)));
        }
    }
    let (events_sender, events) = mpsc::channel(EVENTS_MAX);
    let slot_wakers = parkers.iter().map(SlotParker::waker).collect();
    let shared = Arc::new(JobShared::new(
        slot_wakers,
        task_count,
        terminal_tasks,
        events_sender,
        Arc::clone(&counters),
        deployment.runtime.clone(),
    ));
    let mut handles = Vec::with_capacity(by_slot.len());
    for (index, (tasks, parker)) in by_slot.into_iter().zip(parkers).enumerate() {
        let (commands, receiver) = bounded(COMMANDS_MAX);
        handles.push(SlotHandle {
            index,
            commands,
            shared: Arc::clone(&shared),
        });
        slot::start(index, tasks, receiver, parker, Arc::clone(&shared)).map_err(|error| {
            cancel_slots(&handles);
            Error::Operator {
                operator: format!("slot {index}"),
                message: format!("its thread cannot be started: {error}"),
            }
        })?;
    }
    deployment
        .runtime
        .spawn(publish(Arc::clone(&shared), Arc::clone(&counters)));
    Ok(RunningJob {
        slots: handles,
        events,
        counters,
        stopped: false,
    })
}

fn cancel_slots(handles: &[SlotHandle]) {
    if let Some(handle) = handles.first() {
        handle.cancel();
    }
}

/// Publishes the counters at intervals until the job has stopped.
async fn publish(shared: Arc<JobShared>, counters: Arc<JobCounters>) {
    while !shared.has_stopped() {
        counters.publish();
        tokio::time::sleep(PUBLISH_INTERVAL).await;
    }
}

/// Calls `make` for each subtask of each chain.
fn wakers<T>(deployment: &Deployment, chains: &Chains, make: impl Fn(usize) -> T) -> Vec<Vec<T>> {
    chains
        .chains
        .iter()
        .map(|chain| {
            let subtasks = parallelism_of(&deployment.graph, chain[0], deployment.parallelism);
            (0..subtasks).map(&make).collect()
        })
        .collect()
}

/// Returns counters for every subtask that runs here.
pub(crate) fn counters(deployment: &Deployment, local_slots: &LocalSlots) -> Arc<JobCounters> {
    let job = deployment.identity.job.clone();
    let is_here = |subtask| local_slots.position(subtask).is_some();
    let counters = JobCounters::of_subtasks(job, &deployment.graph, deployment.parallelism, is_here);
    Arc::new(counters)
}

fn invalid(operator: String, message: &str) -> Error {
    Error::Operator {
        operator,
        message: message.to_owned(),
    }
}

/// Schemas of a node's inputs, by input.
fn input_schemas(graph: &JobGraph, node: NodeIndex) -> Vec<SchemaRef> {
    (0..).map_while(|input| graph.input_schema(node, input)).collect()
}
