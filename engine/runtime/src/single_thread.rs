//! Runs a job on the calling thread and on a clock that the caller sets, for tests of pipelines.
//!
//! The tasks, channels and operators are those of a deployment in slots. Only the slots are missing: this thread steps
//! each task that may run, in the order of the graph, until none has anything to do. There are no checkpoints.
//!
//! [`SingleThreadJob::settle`] ends with a consistency point, whose barrier follows all rows that the sources have
//! emitted. So once it returns, every operator has processed them, also those that read state on other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use millstream_graph::clock;

use crate::Error;
use crate::chain::{Chains, parallelism_of};
use crate::command::Command;
use crate::counters::JobCounters;
use crate::deployment::{self, Deployment};
use crate::element::BarrierNumber;
use crate::operator::Timestamp;
use crate::task::{Step, Task};

/// Longest wait for a wake-up from another thread before the tasks are looked at again.
const PARK_MAX: Duration = Duration::from_millis(10);
/// Real time after which tasks that wait for one another are given up.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A job whose tasks run on the calling thread.
pub struct SingleThreadJob {
    tasks: Vec<OwnedTask>,
    now: Timestamp,
    newest: BarrierNumber,
    counters: Arc<JobCounters>,
}

struct OwnedTask {
    task: Task,
    ready: Arc<Ready>,
    /// Time at which the task is to be stepped although its waker was not called.
    timer: Option<Timestamp>,
    /// The newest consistency point that the task has passed.
    passed: BarrierNumber,
}

impl SingleThreadJob {
    /// Builds the tasks of a deployment without state. The clock is at `now`, in microseconds since the epoch.
    pub async fn start(deployment: &mut Deployment, now: Timestamp) -> Result<Self, Error> {
        clock::provide(crate::slot::clock);
        let chains = Chains::of(&deployment.graph, deployment.parallelism);
        let ready: Vec<Vec<Arc<Ready>>> = chains
            .chains
            .iter()
            .map(|chain| {
                let subtasks = parallelism_of(&deployment.graph, chain[0], deployment.parallelism);
                (0..subtasks).map(|_| Arc::new(Ready::of_this_thread())).collect()
            })
            .collect();
        let waker = |chain: usize, subtask: usize| Waker::from(Arc::clone(&ready[chain][subtask]));
        let local_slots = deployment.local_slots();
        let counters = deployment::counters(deployment, &local_slots);
        let restored = deployment::restore(deployment).await?;
        let built = deployment::build(deployment, restored, &local_slots, &chains, &waker, &counters).await?;
        let tasks = built.into_iter().map(|built| OwnedTask {
            ready: Arc::clone(&ready[built.chain][built.subtask]),
            task: built.task,
            timer: None,
            passed: BarrierNumber::default(),
        });
        Ok(Self {
            tasks: tasks.collect(),
            now,
            newest: BarrierNumber::default(),
            counters,
        })
    }

    /// Returns the counters of the job.
    pub fn counters(&self) -> &Arc<JobCounters> {
        &self.counters
    }

    /// Processes everything that the sources have, and emits the changes that operators hold back.
    pub fn settle(&mut self) -> Result<(), Error> {
        self.run_until_blocked()?;
        self.newest = self.newest.next();
        for owned in &mut self.tasks {
            let command = Command::Point { number: self.newest };
            owned.task.on_command(&command).map_err(|failure| failure.error)?;
            owned.ready.set();
        }
        let newest = self.newest;
        self.run_until(|owned| owned.task.has_ended() || !owned.task.is_terminal() || owned.passed == newest)?;
        self.run_until_blocked()
    }

    /// Sets the clock forward, and lets all timers until then expire in their order.
    pub fn advance_clock(&mut self, to: Timestamp) -> Result<(), Error> {
        self.settle()?;
        while let Some(soonest) = self.tasks.iter().filter_map(|owned| owned.timer).min() {
            if soonest > to {
                break;
            }
            self.now = self.now.max(soonest);
            self.settle()?;
        }
        self.now = self.now.max(to);
        // Operators that follow processing time learn it at their next step.
        self.tasks.iter().for_each(|owned| owned.ready.set());
        self.settle()
    }

    /// Runs to the end of the input, which the sources must have reached.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.run_until(|owned| owned.task.has_ended())
    }

    /// Steps tasks until none may run. Timers are not awaited, as the clock stands still.
    fn run_until_blocked(&mut self) -> Result<(), Error> {
        while self.step_all()? {}
        Ok(())
    }

    /// Steps tasks until all fulfil a condition.
    fn run_until(&mut self, is_done: impl Fn(&OwnedTask) -> bool) -> Result<(), Error> {
        let mut deadline = None;
        while !self.tasks.iter().all(&is_done) {
            if self.step_all()? {
                deadline = None;
                continue;
            }
            if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + WAIT_MAX) {
                return Err(Error::Operator {
                    operator: "the job".to_owned(),
                    message: format!("no task has done anything for {} s (WAIT_MAX)", WAIT_MAX.as_secs()),
                });
            }
            std::thread::park_timeout(PARK_MAX);
        }
        Ok(())
    }

    /// Steps each task that may run once. Returns false if there was none.
    fn step_all(&mut self) -> Result<bool, Error> {
        let now = self.now;
        let mut any = false;
        for owned in &mut self.tasks {
            let is_due = owned.timer.is_some_and(|timer| timer <= now);
            if !owned.ready.take() && !is_due {
                continue;
            }
            any = true;
            owned.timer = None;
            match clock::with_now(now, || owned.task.step(now)) {
                Ok(Step::Worked) => owned.ready.set(),
                Ok(Step::Waiting { until }) => owned.timer = until.filter(|until| *until > now),
                Err(failure) => return Err(failure.error),
            }
            if let Some(passed) = owned.task.take_passed_point() {
                owned.passed = passed;
            }
        }
        Ok(any)
    }
}

/// The waker of a task: remembers that the task may run, and wakes the thread that runs it.
struct Ready {
    is_ready: AtomicBool,
    thread: Thread,
}

impl Ready {
    fn of_this_thread() -> Self {
        Self {
            is_ready: AtomicBool::new(true),
            thread: std::thread::current(),
        }
    }

    fn set(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.is_ready.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.set();
        self.thread.unpark();
    }
}
