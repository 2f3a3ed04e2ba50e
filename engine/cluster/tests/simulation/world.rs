//! What lies between and beneath the simulated processes: events in time, machines, and what is watched about them.
//!
//! The world is one value behind one lock, as everything happens in one thread: parts of it are called from inside a
//! process's turn (a socket, the object store), others between turns (an event that is due). It never calls back into
//! the engine: whom it wants to wake it notes in [`World::wake`], and the loop does it when the lock is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::faults::{Blow, Fault, Moment, Strike, Trouble};
use crate::kernel;
use crate::mutants::Mutant;
use crate::network::Pipes;
use crate::objects::Objects;
use crate::published::Published;
use crate::random::Random;
use crate::shapes::Workload;

/// A process, from its start to its end: one that is started anew on the same machine is another.
pub type ProcessId = usize;
/// A place for one process at a time, with an address and a disk.
pub type Machine = usize;

/// Something that happens at its time.
pub type Event = Box<dyn FnOnce(&mut World) + Send>;

/// A coordinator that stands still goes on at the latest after so long.
const PAUSE_NS_MAX: u64 = 20_000_000_000;
/// Longest time that another coordinator has led by then.
const OVERLAP_NS_MAX: u64 = 8_000_000_000;

/// The object store, as far as the network is concerned.
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
    /// Processes whose machine is off: nothing they still do is seen by anybody.
    pub silent: BTreeSet<ProcessId>,
    /// What the loop is to do to machines.
    pub faults: Vec<Fault>,
    /// Processes that have ended by themselves, and what they said.
    pub exited: Vec<(ProcessId, String)>,
    /// From one machine to another nothing comes through until then.
    cuts: BTreeMap<(Machine, Machine), u64>,
    /// What goes wrong for how long, by machine.
    pub troubles: BTreeMap<(Trouble, Machine), u64>,
    pub pipes: Pipes,
    pub objects: Objects,
    pub published: Published,
    pub mutant: Option<Mutant>,
    /// Changes of the store whose callers are gone, due now.
    pub late_changes: Vec<Box<dyn FnOnce() + Send>>,
    /// What each job does.
    pub workloads: Vec<Workload>,
    /// Every reader of a source that was made: the table, the subtask, and the process.
    pub readers: Vec<(String, usize, ProcessId)>,
    /// Nothing happens in this run but that a worker is lost, and no row changes its subtask.
    pub expects_one_loss: bool,
    /// That worker, once the job was running, and how many readers had been made by then.
    pub only_loss: Option<(ProcessId, usize)>,
    /// The coordinator that has claimed the cluster's journal last.
    pub leads: Option<Machine>,
    /// The fault of a leader at one of its next puts or turns.
    strike: Option<(Machine, Strike)>,
    /// The fault of the coordinator that claims next.
    next_strike: Option<Strike>,
    /// Coordinators that stand still until another leads.
    paused: Vec<(Machine, ProcessId)>,
    /// Sources keep back their last rows.
    pub is_endless: bool,
    /// Number of starts without a checkpoint: with more than one, rows occur more than once.
    pub submissions: u32,
    /// Sinks take no rows for a while after some.
    pub halting_sink: bool,
    /// Whether output is published by the workers that wrote it.
    pub published_by_workers: bool,
    /// Jobs whose end their client has not seen yet.
    pub unfinished: usize,
    pub violations: Vec<String>,
    pub trace: Trace,
}

/// Everything that happened, as one number: two runs are the same if theirs are.
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
            troubles: BTreeMap::new(),
            pipes: Pipes::default(),
            objects: Objects::default(),
            published: Published::default(),
            mutant,
            late_changes: Vec::new(),
            workloads: Vec::new(),
            readers: Vec::new(),
            expects_one_loss: false,
            only_loss: None,
            leads: None,
            strike: None,
            next_strike: None,
            paused: Vec::new(),
            is_endless: false,
            submissions: 0,
            halting_sink: false,
            published_by_workers: false,
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

    /// Events of one time happen in the order in which they were made.
    pub fn at(&mut self, at_ns: u64, event: impl FnOnce(&mut World) + Send + 'static) {
        self.events_made += 1;
        self.events.insert((at_ns, self.events_made), Box::new(event));
    }

    pub fn next_event_ns(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at_ns, _), _)| *at_ns)
    }

    /// Lets everything happen that is due.
    pub fn happen(&mut self) {
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

    /// Until when nothing comes through; `None`: it does.
    pub fn is_cut(&self, from: Machine, to: Machine) -> Option<u64> {
        let until_ns = self.cuts.get(&(from, to)).copied()?;
        (until_ns > kernel::now_ns()).then_some(until_ns)
    }

    pub fn has_trouble(&self, trouble: Trouble, machine: Machine) -> bool {
        let until_ns = self.troubles.get(&(trouble, machine));
        until_ns.is_some_and(|until_ns| *until_ns > kernel::now_ns())
    }

    /// Something is to happen to whoever leads now, if anybody does, and to whoever leads next.
    pub fn arm(&mut self, strike: Strike, next: Option<Strike>) {
        self.next_strike = next;
        self.strike = self.leads.map(|machine| (machine, strike));
        if let Some((machine, strike)) = self.strike
            && let Moment::Later { ms } = strike.moment
        {
            self.strike = None;
            self.after(ms * 1_000_000, move |world| world.strike_now(machine, strike.blow));
        }
    }

    /// Nothing is to happen any more to whoever leads now.
    pub fn disarm(&mut self) {
        self.strike = None;
    }

    /// Nor to whoever leads next.
    pub fn calm(&mut self) {
        self.strike = None;
        self.next_strike = None;
    }

    /// A coordinator puts something: what is to happen to it, and whether after that.
    pub fn struck_at_put(&mut self, machine: Machine) -> Option<(bool, Blow)> {
        let (_, strike) = self.strike.as_mut().filter(|(leader, _)| *leader == machine)?;
        let Moment::Put { puts, after } = &mut strike.moment else {
            return None;
        };
        *puts -= 1;
        let (is_due, after, blow) = (*puts == 0, *after, strike.blow);
        self.strike.take_if(|_| is_due).map(|_| (after, blow))
    }

    /// A process has had its turn.
    pub fn has_had_turn(&mut self, machine: Machine) {
        if let Some((leader, strike)) = &mut self.strike
            && *leader == machine
            && let Moment::Turn { turns } = &mut strike.moment
        {
            *turns -= 1;
            if *turns == 0 {
                let blow = strike.blow;
                self.strike = None;
                self.strike_now(machine, blow);
            }
        }
    }

    pub fn strike_now(&mut self, machine: Machine, blow: Blow) {
        self.faults.push(match blow {
            Blow::Dies => Fault::Kill { machine },
            Blow::StandsStill => Fault::Pause { machine },
        });
    }

    pub fn paused(&mut self, machine: Machine, process: ProcessId) {
        self.paused.push((machine, process));
        self.after(PAUSE_NS_MAX, move |world| world.faults.push(Fault::Resume { process }));
    }

    /// A coordinator has claimed the cluster's journal.
    pub fn has_claimed(&mut self, machine: Machine) {
        self.leads = Some(machine);
        if let Some(next) = self.next_strike.take() {
            self.strike = Some((machine, next));
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

    /// For the trace.
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

/// The world. Never held while anything of the engine runs.
pub fn world() -> MappedMutexGuard<'static, World> {
    MutexGuard::map(WORLD.lock(), |world| world.as_mut().expect("it has begun"))
}

/// The process that has its turn.
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
