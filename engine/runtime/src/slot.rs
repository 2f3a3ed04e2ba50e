//! A slot: one OS thread that runs its tasks in turn, and parks when none of them can run.
//!
//! Each task has a waker with a flag. A task runs if its flag is set, if its last turn ended because its time was used
//! up, or if its timer is due. The flag is cleared before the task runs, so no wake-up during the run is lost. A turn
//! lasts until the task has nothing to do or its time is used up.
//!
//! In a simulated process ([`threads::simulate`]) an asynchronous task runs the slot instead of a thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, TrySendError};
use crossbeam::sync::{Parker, Unparker};
use millstream_graph::clock;
use millstream_state::threads::{self, Scheduler};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tracing::Instrument;

use crate::Error;
use crate::command::{Command, TaskEvent};
use crate::counters::JobCounters;
use crate::element::BarrierNumber;
use crate::operator::Timestamp;
use crate::task::{Failure, Step, Task};

/// Duration of one turn of a task, in microseconds, while other tasks of the slot wait.
const TURN_US: i64 = 1_000;
/// Number of commands that may wait for one slot.
pub(crate) const COMMANDS_MAX: usize = 1_024;
/// Stack of a slot thread: operators recurse over nested types and expressions.
const STACK_BYTES: usize = 8 << 20;

/// The state that all slots of a job share.
pub(crate) struct JobShared {
    stopped: AtomicBool,
    slots: Vec<Waker>,
    running_slots: AtomicUsize,
    running_tasks: AtomicUsize,
    failed: AtomicBool,
    /// Number of tasks that report the consistency points that they have passed.
    terminal_tasks: usize,
    /// The newest consistency point that any of them has passed, and the number of those that have.
    passed: Mutex<(BarrierNumber, usize)>,
    events: mpsc::Sender<TaskEvent>,
    counters: Arc<JobCounters>,
    runtime: tokio::runtime::Handle,
}

impl JobShared {
    /// Makes the shared state of slots with these wakers. They run `tasks` tasks together, of which `terminal_tasks`
    /// are terminal.
    pub(crate) fn new(
        slots: Vec<Waker>,
        tasks: usize,
        terminal_tasks: usize,
        events: mpsc::Sender<TaskEvent>,
        counters: Arc<JobCounters>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            stopped: AtomicBool::new(false),
            running_slots: AtomicUsize::new(slots.len()),
            running_tasks: AtomicUsize::new(tasks),
            failed: AtomicBool::new(false),
            terminal_tasks,
            passed: Mutex::default(),
            slots,
            events,
            counters,
            runtime,
        }
    }

    /// Returns true once the slots are to stop.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        for slot in &self.slots {
            slot.wake_by_ref();
        }
    }

    /// Sends an event. Blocks while the queue of events is full, so only threads that have nothing left to do may call
    /// it.
    fn send_event(&self, event: TaskEvent) {
        if threads::scheduler().is_some() {
            self.spawn_event(event);
        } else {
            log_undelivered(self.events.blocking_send(event));
        }
    }

    /// Stops all slots. Only the first failure of the job is sent.
    fn fail(&self, failure: Failure) {
        self.stop();
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.send_event(TaskEvent::Failed {
                operator: failure.operator,
                subtask: failure.subtask,
                error: failure.error,
            });
        }
    }

    /// Takes note of a terminal task that has passed a consistency point.
    fn point_passed(&self, number: BarrierNumber) {
        let mut passed = self.passed.lock();
        match number.cmp(&passed.0) {
            // It was superseded.
            std::cmp::Ordering::Less => return,
            std::cmp::Ordering::Equal => passed.1 += 1,
            std::cmp::Ordering::Greater => *passed = (number, 1),
        }
        if passed.1 == self.terminal_tasks {
            self.spawn_event(TaskEvent::PointPassed { number });
        }
    }

    /// Takes note of a consistency point that all slots were told of: without terminal tasks nothing else answers it.
    pub(crate) fn point_triggered(&self, number: BarrierNumber) {
        if self.terminal_tasks == 0 {
            self.spawn_event(TaskEvent::PointPassed { number });
        }
    }

    /// Sends an event without blocking.
    fn spawn_event(&self, event: TaskEvent) {
        let events = self.events.clone();
        self.runtime
            .spawn(async move { log_undelivered(events.send(event).await) });
    }

    fn task_ended(&self) {
        if self.running_tasks.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.send_event(TaskEvent::Finished);
        }
    }

    fn slot_ended(&self) {
        if self.running_slots.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.stopped.store(true, Ordering::Release);
            self.counters.publish_end();
            self.send_event(TaskEvent::Stopped);
        }
    }
}

fn log_undelivered(sent: Result<(), mpsc::error::SendError<TaskEvent>>) {
    if let Err(event) = sent {
        tracing::debug!("an event of the job has no receiver: {:?}", event.0);
    }
}

/// Parks a slot while none of its tasks can run.
pub(crate) enum SlotParker {
    Thread(Parker),
    Task(Arc<TaskNotify>),
}

/// Unparks a slot that is an asynchronous task.
#[derive(Default)]
pub(crate) struct TaskNotify(Notify);

struct ThreadUnparker(Unparker);

impl SlotParker {
    pub(crate) fn new() -> Self {
        match threads::scheduler() {
            None => Self::Thread(Parker::new()),
            Some(_) => Self::Task(Arc::default()),
        }
    }

    /// Returns a waker that unparks the slot; if the slot is not parked, its next parking ends at once.
    pub(crate) fn waker(&self) -> Waker {
        match self {
            Self::Thread(parker) => Waker::from(Arc::new(ThreadUnparker(parker.unparker().clone()))),
            Self::Task(notify) => Waker::from(Arc::clone(notify)),
        }
    }
}

impl Wake for TaskNotify {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Wake for ThreadUnparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A handle to a running slot.
pub(crate) struct SlotHandle {
    /// Number of the slot in this process.
    pub index: usize,
    pub commands: Sender<Command>,
    pub shared: Arc<JobShared>,
}

impl SlotHandle {
    /// Sends a command to the slot, without waiting.
    pub(crate) fn send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        if matches!(command, Command::Cancel) {
            self.shared.stop();
            return Ok(());
        }
        self.commands.try_send(command)?;
        self.shared.slots[self.index].wake_by_ref();
        Ok(())
    }

    /// Stops all slots of the job.
    pub(crate) fn cancel(&self) {
        self.shared.stop();
    }
}

/// Wakes one task: sets its flag and wakes its slot.
pub(crate) struct TaskWaker {
    ready: AtomicBool,
    slot: Waker,
}

impl TaskWaker {
    pub(crate) fn new(slot: Waker) -> Arc<Self> {
        Arc::new(Self {
            ready: AtomicBool::new(true),
            slot,
        })
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Clears the flag. Returns true if it was set.
    fn take(&self) -> bool {
        self.ready.swap(false, Ordering::AcqRel)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.ready.swap(true, Ordering::AcqRel) {
            self.slot.wake_by_ref();
        }
    }
}

/// A task, and its state in the slot.
pub(crate) struct SlotTask {
    task: Task,
    waker: Arc<TaskWaker>,
    /// True if the last turn ended because its time was used up.
    has_more: bool,
    /// Time at which the task runs even if it is not woken.
    until: Option<Timestamp>,
    ended: bool,
}

impl SlotTask {
    pub(crate) fn new(task: Task, waker: Arc<TaskWaker>) -> Self {
        Self {
            task,
            waker,
            has_more: false,
            until: None,
            ended: false,
        }
    }
}

/// Starts one slot.
pub(crate) fn start(
    index: usize,
    tasks: Vec<SlotTask>,
    commands: Receiver<Command>,
    parker: SlotParker,
    shared: Arc<JobShared>,
) -> std::io::Result<()> {
    clock::provide(clock);
    // Log lines of the slot belong to the span of its caller.
    let span = tracing::Span::current();
    let mut slot = Slot {
        index,
        tasks,
        commands,
        ended: Ended(Arc::clone(&shared)),
        shared,
        started: (Instant::now(), clock()),
        now: clock(),
        wall_ahead_us: 0,
    };
    match (parker, threads::scheduler()) {
        (SlotParker::Task(notify), Some(scheduler)) => {
            let runtime = slot.shared.runtime.clone();
            let run = async move {
                let result = slot.run_as_task(&notify, scheduler).await;
                slot.end(result);
            };
            runtime.spawn(run.instrument(span));
            Ok(())
        }
        (SlotParker::Thread(parker), _) => threads::spawn(
            format!("{}{index}", threads::SLOT_THREAD_PREFIX),
            Some(STACK_BYTES),
            move || {
                let _logged = span.entered();
                let result = slot.run(&parker);
                slot.end(result);
            },
        ),
        (SlotParker::Task(_), None) => Err(std::io::Error::other("a slot without a thread needs a scheduler")),
    }
}

/// Reports the end of the slot when it is dropped, even if the thread unwinds.
struct Ended(Arc<JobShared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.slot_ended();
    }
}

struct Slot {
    index: usize,
    /// Dropped before the end of the slot is reported.
    tasks: Vec<SlotTask>,
    commands: Receiver<Command>,
    ended: Ended,
    shared: Arc<JobShared>,
    /// The start of the slot, by the monotonic clock and by the wall clock.
    started: (Instant, Timestamp),
    /// Steady time: microseconds since 1970 by the wall clock at the start of the slot, advanced by the monotonic
    /// clock. Turns, timers and idle timeouts do not depend on later changes of the wall clock.
    now: Timestamp,
    wall_ahead_us: i64,
}

impl Slot {
    fn run(&mut self, parker: &Parker) -> Result<(), Box<Failure>> {
        while !self.shared.has_stopped() {
            if self.run_round()? {
                continue;
            }
            match self.park_timeout() {
                None => parker.park(),
                Some(wait) => parker.park_timeout(wait),
            }
        }
        Ok(())
    }

    async fn run_as_task(&mut self, notify: &TaskNotify, scheduler: Scheduler) -> Result<(), Box<Failure>> {
        while !self.shared.has_stopped() {
            scheduler(threads::WorkKind::Slot).await;
            if self.run_round()? {
                continue;
            }
            match self.park_timeout() {
                None => notify.0.notified().await,
                Some(wait) => tokio::select! {
                    () = notify.0.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                },
            }
        }
        Ok(())
    }

    /// Runs one turn of every task that can run. Returns true if there was any.
    fn run_round(&mut self) -> Result<bool, Box<Failure>> {
        self.take_commands()?;
        self.tick();
        let mut worked = false;
        for index in 0..self.tasks.len() {
            let slot_task = &mut self.tasks[index];
            let is_due = slot_task.until.is_some_and(|until| until <= self.now);
            if slot_task.waker.take() || slot_task.has_more || is_due {
                self.turn(index)?;
                worked = true;
            }
        }
        Ok(worked)
    }

    fn end(mut self, result: Result<(), Box<Failure>>) {
        if let Err(failure) = result {
            self.shared.fail(*failure);
        }
        let tasks = std::mem::take(&mut self.tasks);
        if catch_unwind(AssertUnwindSafe(|| drop(tasks))).is_err() {
            tracing::warn!(slot = self.index, "a task panicked while it was dropped");
        }
        drop(self.ended);
    }

    fn tick(&mut self) {
        let (started, start) = self.started;
        let elapsed_us = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.now = start.saturating_add(elapsed_us);
        self.wall_ahead_us = clock().saturating_sub(self.now);
    }

    fn take_commands(&mut self) -> Result<(), Box<Failure>> {
        while let Ok(command) = self.commands.try_recv() {
            for slot_task in &mut self.tasks {
                let task = &mut slot_task.task;
                guarded(task, |task| task.on_command(&command))?;
                slot_task.has_more = true;
            }
        }
        Ok(())
    }

    /// Returns the duration until the next timer of a task is due, or `None` if no task has a timer.
    fn park_timeout(&self) -> Option<Duration> {
        let until = self.tasks.iter().filter_map(|task| task.until).min()?;
        let wait_us = until.saturating_sub(self.now).max(0) as u64;
        Some(Duration::from_micros(wait_us))
    }

    fn turn(&mut self, index: usize) -> Result<(), Box<Failure>> {
        let until = self.now + TURN_US;
        loop {
            let now = self.now;
            let slot_task = &mut self.tasks[index];
            let since = Instant::now();
            slot_task.task.set_wall_clock_ahead(self.wall_ahead_us);
            let step = guarded(&mut slot_task.task, |task| task.step(now))?;
            slot_task.task.record_elapsed(since.elapsed());
            match step {
                Step::Worked => {
                    slot_task.has_more = true;
                    slot_task.until = None;
                }
                Step::Waiting { until } => {
                    slot_task.has_more = false;
                    slot_task.until = until;
                }
            }
            if !slot_task.has_more || self.now >= until {
                break;
            }
            self.tick();
        }
        let slot_task = &mut self.tasks[index];
        for part in slot_task.task.take_parts() {
            let events = self.shared.events.clone();
            self.shared.runtime.spawn(async move {
                let Some(event) = part.complete().await else { return };
                if events.send(event).await.is_err() {
                    tracing::debug!("a part of a checkpoint was completed after the job had ended");
                }
            });
        }
        if let Some(number) = slot_task.task.take_passed_point() {
            self.shared.point_passed(number);
        }
        if slot_task.task.take_point_request() {
            self.shared.spawn_event(TaskEvent::PointRequested);
        }
        if slot_task.task.has_ended() && !slot_task.ended {
            slot_task.ended = true;
            self.shared.task_ended();
        }
        Ok(())
    }
}

/// Calls a task; a panic becomes a failure of the task.
fn guarded<T>(task: &mut Task, run: impl FnOnce(&mut Task) -> Result<T, Box<Failure>>) -> Result<T, Box<Failure>> {
    match catch_unwind(AssertUnwindSafe(|| run(task))) {
        Ok(result) => result,
        Err(panic) => {
            let mut message = format!("panicked: {}", panic_message(panic.as_ref()));
            if let Some(position) = task.position() {
                message = format!("{message} ({position})");
            }
            let mut failure = task.failure(Error::Operator {
                operator: String::new(),
                message,
            });
            if let Error::Operator { operator, .. } = &mut failure.error {
                *operator = failure.operator.0.clone();
            }
            Err(failure)
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// The clock of the engine, also for time functions in queries.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the crate")]
pub(crate) fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(Timestamp::MAX)
}
