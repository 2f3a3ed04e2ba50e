//! The environment of the simulated processes: timed events, machines, and observations of the run.
//!
//! The world is one value behind one lock, as everything runs in one thread: parts of it are called during a turn of
//! a process (a socket, the object store), others between turns (a due event). It never calls the engine: it notes
//! the processes to wake in [`World::wake`], and the loop wakes them when the lock is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::faults::{Degradation, Fault, FaultKind, LeaderFault, Trigger};
use crate::kernel;
use crate::mutants::Mutant;
use crate::network::Pipes;
use crate::objects::Objects;
use crate::published::Published;
use crate::random::Random;
use crate::shapes::Workload;

/// A process. One that is restarted on the same machine is another.
pub type ProcessId = usize;
/// A machine, which runs one process at a time, with an address and a disk.
pub type Machine = usize;

/// An event with a time.
pub type Event = Box<dyn FnOnce(&mut World) + Send>;

/// Longest pause of a coordinator.
const PAUSE_NS_MAX: u64 = 20_000_000_000;
/// Longest time that another coordinator has led before a paused one continues.
const OVERLAP_NS_MAX: u64 = 8_000_000_000;

/// The object store, as a machine of the network.
pub const STORE: Machine = 0;
pub const CLIENT: Machine = 1;
pub const COORDINATORS: [Machine; 2] = [2, 3];
pub const WORKERS: [Machine; 3] = [4, 5, 6];
pub const MACHINES: usize = 7;

static WORLD: Mutex<Option<World>> = Mutex::new(None);
static CURRENT: AtomicUsize = AtomicUsize::new(usize::MAX);

pub struct World {
    pub random: Random,
    events: BTreeMap<(u64, u64), Event>,
    events_made: u64,
    wake: Vec<(ProcessId, Waker)>,
    /// The machine of every process there ever was.
    pub machines: Vec<Machine>,
    /// Processes whose machine is off: their actions have no effect.
    pub silent: BTreeSet<ProcessId>,
    /// Faults that the loop is to apply.
    pub faults: Vec<Fault>,
    /// Processes that have ended by themselves, with their results.
    pub exited: Vec<(ProcessId, String)>,
    /// Times until which the network from one machine to another is cut.
    cuts: BTreeMap<(Machine, Machine), u64>,
    /// Times until which machines are degraded.
    pub degradations: BTreeMap<(Degradation, Machine), u64>,
    pub pipes: Pipes,
    pub objects: Objects,
    pub published: Published,
    pub mutant: Option<Mutant>,
    /// Changes of the store whose callers are gone and that are due.
    pub late_changes: Vec<Box<dyn FnOnce() + Send>>,
    /// The query of each job.
    pub workloads: Vec<Workload>,
    /// Every reader of a source that was created: the table, the subtask, and the process.
    pub readers: Vec<(String, usize, ProcessId)>,
    /// True if the only fault of the run is the loss of a worker, and no row changes its subtask.
    pub expects_one_loss: bool,
    /// The process of the lost worker, and the number of readers created by then.
    pub only_loss: Option<(ProcessId, usize)>,
    /// The coordinator that last claimed the journal of the cluster.
    pub leader: Option<Machine>,
    /// The pending fault of the leader, at one of its next puts or turns.
    leader_fault: Option<(Machine, LeaderFault)>,
    /// The fault of the coordinator that claims next.
    next_leader_fault: Option<LeaderFault>,
    /// Paused coordinators.
    paused: Vec<(Machine, ProcessId)>,
    /// True while sources hold back their last rows.
    pub is_endless: bool,
    /// Number of starts without a checkpoint: after more than one, rows occur more than once.
    pub submissions: u32,
    /// True if sinks halt for a while now and then.
    pub halting_sink: bool,
    /// True if the workers that wrote output publish it.
    pub published_by_workers: bool,
    /// Number of consistency points between checkpoints whose rows were written.
    pub consistency_points: u64,
    /// Number of jobs whose end their client has not seen yet.
    pub unfinished: usize,
    pub violations: Vec<String>,
    pub trace: Trace,
}

/// A hash of all events: two runs are the same if their hashes are.
pub struct Trace {
    pub hash: u64,
    pub events: u64,
    pub print: bool,
}

impl World {
    pub fn begin(seed: u64, mutant: Option<Mutant>, print: bool) {
        *WORLD.lock() = Some(Self {
            random: Random(seed),
            events: BTreeMap::new(),
            events_made: 0,
            wake: Vec::new(),
            machines: Vec::new(),
            silent: BTreeSet::new(),
            faults: Vec::new(),
            exited: Vec::new(),
            cuts: BTreeMap::new(),
            degradations: BTreeMap::new(),
            pipes: Pipes::default(),
            objects: Objects::default(),
            published: Published::default(),
            mutant,
            late_changes: Vec::new(),
            workloads: Vec::new(),
            readers: Vec::new(),
            expects_one_loss: false,
            only_loss: None,
            leader: None,
            leader_fault: None,
            next_leader_fault: None,
            paused: Vec::new(),
            is_endless: false,
            submissions: 0,
            halting_sink: false,
            published_by_workers: false,
            consistency_points: 0,
            unfinished: 0,
            violations: Vec::new(),
            trace: Trace {
                hash: 0,
                events: 0,
                print,
            },
        });
    }

    pub fn after(&mut self, delay_ns: u64, event: impl FnOnce(&mut World) + Send + 'static) -> u64 {
        let at_ns = kernel::now_ns() + delay_ns;
        self.at(at_ns, event);
        at_ns
    }

    /// Schedules an event. Events with the same time run in the order of their creation.
    pub fn at(&mut self, at_ns: u64, event: impl FnOnce(&mut World) + Send + 'static) {
        self.events_made += 1;
        self.events.insert((at_ns, self.events_made), Box::new(event));
    }

    pub fn next_event_ns(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at_ns, _), _)| *at_ns)
    }

    /// Runs all due events.
    pub fn run_due_events(&mut self) {
        while let Some(((at_ns, number), event)) = self.events.pop_first() {
            if at_ns > kernel::now_ns() {
                self.events.insert((at_ns, number), event);
                return;
            }
            event(self);
        }
    }

    pub fn wake(&mut self, process: ProcessId, waker: Option<Waker>) {
        self.wake.extend(waker.map(|waker| (process, waker)));
    }

    pub fn take_wake(&mut self) -> Vec<(ProcessId, Waker)> {
        std::mem::take(&mut self.wake)
    }

    pub fn machine_of(&self, process: ProcessId) -> Machine {
        self.machines.get(process).copied().unwrap_or(CLIENT)
    }

    pub fn cut(&mut self, from: Machine, to: Machine, until_ns: u64) {
        let cut = self.cuts.entry((from, to)).or_default();
        *cut = until_ns.max(*cut);
    }

    /// Returns the time until which the network is cut, if it is.
    pub fn is_cut(&self, from: Machine, to: Machine) -> Option<u64> {
        let until_ns = self.cuts.get(&(from, to)).copied()?;
        (until_ns > kernel::now_ns()).then_some(until_ns)
    }

    pub fn is_degraded(&self, degradation: Degradation, machine: Machine) -> bool {
        let until_ns = self.degradations.get(&(degradation, machine));
        until_ns.is_some_and(|until_ns| *until_ns > kernel::now_ns())
    }

    /// Schedules a fault of the present leader, if there is one, and of the next.
    pub fn schedule_leader_fault(&mut self, leader_fault: LeaderFault, next: Option<LeaderFault>) {
        self.next_leader_fault = next;
        self.leader_fault = self.leader.map(|machine| (machine, leader_fault));
        if let Some((machine, leader_fault)) = self.leader_fault
            && let Trigger::Later { ms } = leader_fault.trigger
        {
            self.leader_fault = None;
            self.after(ms * 1_000_000, move |world| world.fault_now(machine, leader_fault.kind));
        }
    }

    /// Clears the fault of the present leader.
    pub fn clear_leader_fault(&mut self) {
        self.leader_fault = None;
    }

    /// Clears the faults of the present and the next leader.
    pub fn clear_faults(&mut self) {
        self.leader_fault = None;
        self.next_leader_fault = None;
    }

    /// Counts a put of a coordinator. Returns the fault that is due at it, and whether it comes after the put takes
    /// effect.
    pub fn fault_at_put(&mut self, machine: Machine) -> Option<(bool, FaultKind)> {
        let (_, leader_fault) = self.leader_fault.as_mut().filter(|(leader, _)| *leader == machine)?;
        let Trigger::Put { puts, after } = &mut leader_fault.trigger else {
            return None;
        };
        *puts -= 1;
        let (is_due, after, kind) = (*puts == 0, *after, leader_fault.kind);
        self.leader_fault.take_if(|_| is_due).map(|_| (after, kind))
    }

    /// Counts a turn of a process.
    pub fn on_turn_end(&mut self, machine: Machine) {
        if let Some((leader, leader_fault)) = &mut self.leader_fault
            && *leader == machine
            && let Trigger::Turn { turns } = &mut leader_fault.trigger
        {
            *turns -= 1;
            if *turns == 0 {
                let kind = leader_fault.kind;
                self.leader_fault = None;
                self.fault_now(machine, kind);
            }
        }
    }

    pub fn fault_now(&mut self, machine: Machine, kind: FaultKind) {
        self.faults.push(match kind {
            FaultKind::Kill => Fault::Kill { machine },
            FaultKind::Pause => Fault::Pause { machine },
        });
    }

    pub fn paused(&mut self, machine: Machine, process: ProcessId) {
        self.paused.push((machine, process));
        self.after(PAUSE_NS_MAX, move |world| world.faults.push(Fault::Resume { process }));
    }

    /// Takes note that a coordinator has claimed the journal of the cluster.
    pub fn has_claimed(&mut self, machine: Machine) {
        self.leader = Some(machine);
        if let Some(next) = self.next_leader_fault.take() {
            self.leader_fault = Some((machine, next));
        }
        for (_, process) in self
            .paused
            .extract_if(.., |(paused, _)| *paused != machine)
            .collect::<Vec<_>>()
        {
            let delay_ns = self.random.below(OVERLAP_NS_MAX);
            self.after(delay_ns, move |world| world.faults.push(Fault::Resume { process }));
        }
    }

    pub fn violated(&mut self, what: String) {
        self.note(&format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    /// Adds an event to the trace.
    pub fn note(&mut self, text: &str) {
        let now_ns = kernel::now_ns();
        self.trace.events += 1;
        let line = format!("{now_ns} {text}");
        self.trace.hash = self.trace.hash.rotate_left(5) ^ u64::from(crc32fast::hash(line.as_bytes()));
        if self.trace.print {
            eprintln!("{:>12.6} {text}", now_ns as f64 / 1e9);
        }
    }
}

/// Locks the world. Not held while the engine runs.
pub fn world() -> MappedMutexGuard<'static, World> {
    MutexGuard::map(WORLD.lock(), |world| world.as_mut().expect("it has begun"))
}

/// Returns the process that has its turn.
pub fn current() -> ProcessId {
    CURRENT.load(Ordering::Relaxed)
}

pub fn set_current(process: ProcessId) {
    CURRENT.store(process, Ordering::Relaxed);
}

pub fn name_of(machine: Machine) -> String {
    match machine {
        STORE => "store".into(),
        CLIENT => "client".into(),
        machine if COORDINATORS.contains(&machine) => format!("coordinator-{}", machine - COORDINATORS[0] + 1),
        machine => format!("worker-{}", machine - WORKERS[0] + 1),
    }
}

pub fn address_of(machine: Machine) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([10, 0, 0, machine as u8], 7070))
}

pub fn url_of(machine: Machine) -> String {
    format!("http://{}", address_of(machine))
}
