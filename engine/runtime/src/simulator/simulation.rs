//! One run of a simulated job.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use millstream_graph::OperatorId;

use super::job::add_gates;
use super::random::Random;
use super::test_connectors::Gate;
use crate::chain::{Chains, parallelism_of};
use crate::command::{Command, TaskEvent};
use crate::deployment::{self, Deployment};
use crate::element::BarrierNumber;
use crate::subtask_state::SubtaskState;
use crate::task::{Step, Task};

/// Upper limit of the `aligned_timeout` of unaligned checkpoints. A step takes one microsecond.
pub(super) const ALIGNED_TIMEOUT_US_MAX: u64 = 60;
/// Checkpoints are requested in one of this many steps: seldom if there are consistency points, as they supersede them.
const CHECKPOINT_STEPS: u64 = 60;
const CHECKPOINT_STEPS_WITH_POINTS: u64 = 1_000;
/// The tasks of a delayed chain may run in one of this many steps.
const DELAY: u64 = 20;
/// Time that a state store may take for a read.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The states of a checkpoint, by operator.
pub(super) type Checkpoint = HashMap<OperatorId, Vec<SubtaskState>>;

/// One run of a job.
pub(super) struct Simulation {
    tasks: Vec<(Task, Arc<Flag>)>,
    pub gates: Vec<Arc<Gate>>,
    /// The newest checkpoint that was requested.
    requested: u64,
    /// The number of the newest barrier, and of the consistency point under way if it is one.
    newest: BarrierNumber,
    /// Number of terminal tasks that have passed the consistency point under way.
    passed: usize,
    /// Number of consistency points that all terminal tasks have passed.
    pub points: u64,
    /// True if consistency points are requested at random steps; then all checkpoints are aligned.
    pub has_points: bool,
    /// True if operators read state, on threads of the stores.
    has_state: bool,
    /// A chain whose tasks run rarely.
    pub delayed_chain: Option<usize>,
    /// The chain of each task.
    chains: Vec<usize>,
    random: Random,
    /// Time of the next timer of each task.
    timers: Vec<Option<i64>>,
    now: i64,
    /// The complete parts of each checkpoint.
    pub checkpoints: BTreeMap<u64, Checkpoint>,
    subtasks: usize,
    seed: u64,
}

impl Simulation {
    pub(super) fn new(deployment: &mut Deployment, seed: u64) -> Self {
        let gates = add_gates(deployment, seed);
        let chains = Chains::of(&deployment.graph, deployment.parallelism);
        let flags: Vec<Vec<Arc<Flag>>> = chains
            .chains
            .iter()
            .map(|_| {
                (0..deployment.parallelism)
                    .map(|_| Arc::new(Flag(AtomicBool::new(true))))
                    .collect()
            })
            .collect();
        let waker = |chain: usize, subtask: usize| Waker::from(Arc::clone(&flags[chain][subtask]));
        let local_slots = deployment.local_slots();
        let counters = deployment::counters(deployment, &local_slots);
        let restored = futures::executor::block_on(deployment::restore(deployment)).expect("its state is here");
        let built = deployment::build(deployment, restored, &local_slots, &chains, &waker, &counters);
        let built = futures::executor::block_on(built).expect("the job is built");
        Self {
            timers: vec![None; built.len()],
            chains: built.iter().map(|built| built.chain).collect(),
            tasks: built
                .into_iter()
                .map(|built| (built.task, Arc::clone(&flags[built.chain][built.subtask])))
                .collect(),
            random: Random(seed),
            gates,
            requested: 0,
            newest: BarrierNumber::default(),
            passed: 0,
            points: 0,
            has_points: false,
            has_state: deployment
                .graph
                .nodes
                .iter()
                .any(|node| node.operator.updates_state_by_row()),
            delayed_chain: None,
            now: 0,
            checkpoints: BTreeMap::new(),
            subtasks: (0..deployment.graph.nodes.len())
                .map(|node| parallelism_of(&deployment.graph, node, deployment.parallelism))
                .sum(),
            seed,
        }
    }

    /// Runs to the end, with checkpoints at random steps and a last one.
    pub(super) fn run(&mut self) {
        let mut steps = 0;
        while !self.has_ended() {
            let is_complete = self.is_complete(self.requested);
            // Sometimes an incomplete checkpoint is aborted by the next one.
            let pause = if self.has_points {
                CHECKPOINT_STEPS_WITH_POINTS
            } else {
                CHECKPOINT_STEPS
            };
            if self.random.below(pause) == 0 && (is_complete || self.random.below(8) == 0) {
                if is_complete && self.random.below(2) == 0 {
                    self.confirm(self.requested);
                }
                let timeout_us = self.random.below(ALIGNED_TIMEOUT_US_MAX);
                let aligned_timeout = (self.random.below(2) == 0).then(|| Duration::from_micros(timeout_us));
                self.request_checkpoint(false, aligned_timeout.filter(|_| !self.has_points));
            } else if self.has_points && is_complete && self.is_point_over() && self.random.below(10) == 0 {
                self.request_point();
            }
            match self.random.below(400) {
                0 => {
                    let gate = self.random.below(self.gates.len() as u64) as usize;
                    self.gates[gate].close();
                }
                1..4 => self.open(),
                _ => {}
            }
            self.step();
            steps += 1;
            assert!(steps < 1_000_000, "seed {}: the job does not end", self.seed);
        }
        // Ended tasks complete a checkpoint that was requested late.
        while !self.is_complete(self.requested) {
            self.step();
        }
        self.request_checkpoint(true, None);
        self.run_until_blocked();
        assert!(
            self.is_complete(self.requested),
            "seed {}: the last checkpoint is incomplete",
            self.seed
        );
        let complete: Vec<u64> = (1..=self.requested).filter(|id| self.is_complete(*id)).collect();
        self.checkpoints.retain(|id, _| complete.contains(id));
    }

    /// Runs until no task may run, now or at a timer.
    pub(super) fn run_until_blocked(&mut self) {
        let mut steps = 0;
        while self.timers.iter().any(Option::is_some)
            || self.tasks.iter().any(|(_, flag)| flag.0.load(Ordering::Relaxed))
        {
            self.step();
            steps += 1;
            assert!(steps < 100_000, "seed {}: tasks do not come to rest", self.seed);
        }
    }

    fn has_ended(&self) -> bool {
        self.tasks.iter().all(|(task, _)| task.has_ended())
    }

    pub(super) fn open(&self) {
        self.gates.iter().for_each(|gate| gate.open());
    }

    pub(super) fn is_complete(&self, checkpoint: u64) -> bool {
        checkpoint == 0
            || self
                .checkpoints
                .get(&checkpoint)
                .is_some_and(|parts| parts.values().map(Vec::len).sum::<usize>() == self.subtasks)
    }

    fn confirm(&mut self, checkpoint: u64) {
        for (task, _) in &mut self.tasks {
            task.on_command(&Command::Confirm { checkpoint })
                .expect("a command is taken");
        }
    }

    pub(super) fn request_checkpoint(&mut self, last: bool, aligned_timeout: Option<Duration>) {
        self.requested += 1;
        self.newest = BarrierNumber::of_checkpoint(self.requested);
        self.command(&Command::Checkpoint {
            id: self.requested,
            last,
            aligned_timeout,
        });
    }

    /// Returns the tasks that may run.
    fn ready(&self) -> Vec<usize> {
        (0..self.tasks.len())
            .filter(|index| self.tasks[*index].1.0.load(Ordering::Relaxed))
            .collect()
    }

    /// Returns true if no consistency point is under way.
    fn is_point_over(&self) -> bool {
        let terminal = self.tasks.iter().filter(|(task, _)| task.is_terminal()).count();
        self.newest.is_checkpoint() || self.passed == terminal
    }

    fn request_point(&mut self) {
        self.newest = self.newest.next();
        self.passed = 0;
        self.command(&Command::Point { number: self.newest });
    }

    fn command(&mut self, command: &Command) {
        for (task, flag) in &mut self.tasks {
            task.on_command(command).expect("a command is taken");
            flag.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn step(&mut self) {
        self.now += 1;
        for (index, (_, flag)) in self.tasks.iter().enumerate() {
            if self.timers[index].is_some_and(|at| at <= self.now) {
                flag.0.store(true, Ordering::Relaxed);
            }
        }
        if let Some(soonest) = self.timers.iter().flatten().min()
            && !self.tasks.iter().any(|(_, flag)| flag.0.load(Ordering::Relaxed))
        {
            // No task may run before the next timer.
            self.now = (*soonest).max(self.now);
            return;
        }
        let mut ready = self.ready();
        if self.delayed_chain.is_some() && self.random.below(DELAY) != 0 {
            let delayed = |index: &usize| Some(self.chains[*index]) == self.delayed_chain;
            if !ready.iter().all(delayed) {
                ready.retain(|index| !delayed(index));
            }
        }
        if ready.is_empty() && self.gates.iter().any(|gate| gate.is_closed()) {
            self.open();
            return;
        }
        // Threads of the state stores may work.
        let deadline = Instant::now() + STORE_TIMEOUT;
        while self.has_state && ready.is_empty() && Instant::now() < deadline {
            std::thread::yield_now();
            ready = self.ready();
        }
        assert!(
            !ready.is_empty(),
            "seed {}: no task may run, but the job has not ended",
            self.seed
        );
        let index = ready[self.random.below(ready.len() as u64) as usize];
        let (task, flag) = &mut self.tasks[index];
        flag.0.store(false, Ordering::Relaxed);
        self.timers[index] = None;
        match task.step(self.now) {
            Ok(Step::Worked) => flag.0.store(true, Ordering::Relaxed),
            // Later timers are ignored, because they could hide a lost wake-up.
            Ok(Step::Waiting { until }) => {
                self.timers[index] = until.filter(|at| *at <= self.now + ALIGNED_TIMEOUT_US_MAX as i64);
            }
            Err(failure) => panic!("seed {}: {}: {}", self.seed, failure.operator, failure.error),
        }
        let has_passed = task.take_passed_point() == Some(self.newest);
        let parts = task.take_parts();
        if has_passed {
            self.passed += 1;
            self.points += u64::from(self.is_point_over());
        }
        for local_slots in parts {
            let Some(event) = futures::executor::block_on(local_slots.complete()) else {
                continue;
            };
            match event {
                TaskEvent::Snapshot {
                    checkpoint,
                    operator,
                    state,
                } => {
                    let parts = self
                        .checkpoints
                        .entry(checkpoint)
                        .or_default()
                        .entry(operator)
                        .or_default();
                    assert!(
                        parts.iter().all(|local_slots| local_slots.subtask != state.subtask),
                        "seed {}: a subtask answered checkpoint {checkpoint} twice",
                        self.seed
                    );
                    parts.push(state);
                }
                event => panic!("seed {}: {event:?}", self.seed),
            }
        }
    }
}
