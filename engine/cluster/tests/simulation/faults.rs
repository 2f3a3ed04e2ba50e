//! The faults of a run, drawn from the seed before it begins.

use crate::random::Random;
use crate::world::{COORDINATORS, Machine, ProcessId, STORE, WORKERS, name_of};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Time before which no fault begins.
pub const BEGIN_NS: u64 = SECOND;
/// Time after which no fault lasts: from then on the job has to complete.
pub const END_NS: u64 = 30 * SECOND;
/// Share of runs in which clocks are set beside all other faults.
const CLOCKS_PER_MILLE: u64 = 250;
const HOUR_S: u64 = 3_600;
const FAR_S: u64 = 400 * 24 * HOUR_S;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Degradation {
    SlowNetwork,
    SlowStore,
    FailingStore,
    SlowSink,
    FailingSink,
    SlowDisk,
}

#[derive(Debug, Clone)]
pub enum Fault {
    /// The process is killed; its connections are closed or reset. It is started again soon.
    Kill { machine: Machine },
    /// The machine loses power without notice to others. It is started again later, with its disk or an empty one.
    PowerOff { machine: Machine },
    /// The process is paused for a while.
    Freeze { machine: Machine, for_ns: u64 },
    /// The network from one machine to another is cut, or both ways.
    Cut {
        from: Machine,
        to: Machine,
        both: bool,
        for_ns: u64,
    },
    /// The connections of the machine are reset.
    Reset { machine: Machine },
    Degradation {
        degradation: Degradation,
        machine: Machine,
        for_ns: u64,
    },
    /// The process of one of the next puts is killed before or after the put takes effect.
    KillAtPut { in_puts: u64, after: bool },
    /// The wall clock is set.
    Clock { machine: Machine, by_ns: i64 },
    /// The leader gets a fault, and perhaps the next leader, too.
    Leader {
        leader_fault: LeaderFault,
        next: Option<LeaderFault>,
    },
    /// The process is paused until another coordinator has led for a while.
    Pause { machine: Machine },
    /// No fault: a paused process continues.
    Resume { process: ProcessId },
    /// No fault: a machine starts, with its disk or an empty one.
    Start { machine: Machine, wipe: bool },
}

/// A fault of the leader, and its time.
#[derive(Debug, Clone, Copy)]
pub struct LeaderFault {
    pub kind: FaultKind,
    pub trigger: Trigger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    Kill,
    /// It continues when another coordinator has led for a while.
    Pause,
}

#[derive(Debug, Clone, Copy)]
pub enum Trigger {
    /// At one of its next puts, before or after that takes effect.
    Put {
        puts: u64,
        after: bool,
    },
    Later {
        ms: u64,
    },
    /// After some turns.
    Turn {
        turns: u64,
    },
}

impl LeaderFault {
    pub fn draw(random: &mut Random) -> Self {
        let kind = match random.per_mille(500) {
            true => FaultKind::Kill,
            false => FaultKind::Pause,
        };
        let trigger = match random.below(8) {
            0..=3 => Trigger::Put {
                puts: random.between(1, 6),
                after: random.per_mille(500),
            },
            4..=5 => Trigger::Later {
                ms: random.between(0, 400),
            },
            _ => Trigger::Turn {
                turns: random.between(1, 120),
            },
        };
        Self { kind, trigger }
    }

    /// Draws a fault of the next leader while it takes over, if there is one.
    pub fn draw_next(random: &mut Random) -> Option<Self> {
        random.per_mille(400).then(|| Self {
            kind: FaultKind::Pause,
            trigger: Trigger::Put {
                puts: random.between(1, 12),
                after: random.per_mille(500),
            },
        })
    }
}

/// Draws faults with their times, in order.
pub fn draw(random: &mut Random) -> Vec<(u64, Fault)> {
    let count = random.between(1, 7);
    let mut faults: Vec<(u64, Fault)> = (0..count)
        .map(|_| {
            let at_ns = random.between(BEGIN_NS, END_NS - 8 * SECOND);
            let longest_ns = END_NS - at_ns;
            (at_ns, one(random, longest_ns))
        })
        .collect();
    // Clocks are set beside all other faults.
    let steps = if random.per_mille(CLOCKS_PER_MILLE) {
        random.between(1, 4)
    } else {
        0
    };
    for _ in 0..steps {
        faults.push((random.between(BEGIN_NS, END_NS), clock(random)));
    }
    faults.sort_by_key(|(at_ns, _)| *at_ns);
    faults
}

/// Draws the faults of a run in which the clock of every machine is set back, and nothing else happens.
pub fn draw_clocks(random: &mut Random, workers: usize) -> Vec<(u64, Fault)> {
    let machines = COORDINATORS.into_iter().chain(WORKERS.into_iter().take(workers));
    let by_s = if random.per_mille(500) { HOUR_S } else { FAR_S };
    let set = |machine| Fault::Clock {
        machine,
        by_ns: -((by_s * SECOND) as i64),
    };
    let mut faults: Vec<_> = machines
        .map(|machine| (random.between(2 * SECOND, 5 * SECOND), set(machine)))
        .collect();
    faults.sort_by_key(|(at_ns, _)| *at_ns);
    faults
}

/// Draws a step of a clock: up to an hour or 400 days, forward or back.
fn clock(random: &mut Random) -> Fault {
    let machine = any(random);
    let by_s = match random.below(3) {
        0 => FAR_S,
        1 => random.between(0, HOUR_S),
        _ => HOUR_S,
    } as i64;
    let by_s = if random.per_mille(500) { by_s } else { -by_s };
    Fault::Clock {
        machine,
        by_ns: by_s * SECOND as i64,
    }
}

/// Draws the fault of a run in which one worker is lost, and nothing else happens.
pub fn draw_loss(random: &mut Random, workers: usize) -> Vec<(u64, Fault)> {
    let machine = WORKERS[random.below(workers as u64) as usize];
    let fault = match random.per_mille(500) {
        true => Fault::Kill { machine },
        false => Fault::PowerOff { machine },
    };
    vec![(random.between(4 * SECOND, 8 * SECOND), fault)]
}

fn one(random: &mut Random, longest_ns: u64) -> Fault {
    let machine = any(random);
    let mut lasting = |most_ns: u64| random.between(200 * MS, most_ns.min(longest_ns));
    let (short_ns, long_ns) = (lasting(4 * SECOND), lasting(16 * SECOND));
    match random.below(22) {
        0..=4 => Fault::Kill { machine },
        5..=6 => Fault::PowerOff { machine },
        7..=8 => Fault::Freeze {
            machine,
            for_ns: if random.per_mille(500) { short_ns } else { long_ns },
        },
        9..=11 => {
            let to = match random.below(3) {
                0 => STORE,
                _ => any(random),
            };
            Fault::Cut {
                from: machine,
                to,
                both: random.per_mille(700),
                for_ns: if random.per_mille(500) { short_ns } else { long_ns },
            }
        }
        12 => Fault::Reset { machine },
        13..=15 => {
            let degradations = [
                Degradation::SlowNetwork,
                Degradation::SlowStore,
                Degradation::FailingStore,
                Degradation::SlowSink,
                Degradation::FailingSink,
                Degradation::SlowDisk,
            ];
            Fault::Degradation {
                degradation: degradations[random.below(degradations.len() as u64) as usize],
                machine,
                for_ns: long_ns,
            }
        }
        16..=18 => Fault::KillAtPut {
            in_puts: random.between(1, 40),
            after: random.per_mille(500),
        },
        19..=20 => Fault::Leader {
            leader_fault: LeaderFault::draw(random),
            next: LeaderFault::draw_next(random),
        },
        _ => clock(random),
    }
}

fn any(random: &mut Random) -> Machine {
    let all: Vec<Machine> = COORDINATORS.into_iter().chain(WORKERS).collect();
    all[random.below(all.len() as u64) as usize]
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |ns: &u64| *ns as f64 / SECOND as f64;
        match self {
            Self::Kill { machine } => write!(out, "{} is killed", name_of(*machine)),
            Self::PowerOff { machine } => write!(out, "{} loses its power", name_of(*machine)),
            Self::Freeze { machine, for_ns } => {
                write!(out, "{} stands still for {:.1} s", name_of(*machine), seconds(for_ns))
            }
            Self::Cut { from, to, both, for_ns } => {
                let way = if *both { "and" } else { "to" };
                let (from, to) = (name_of(*from), name_of(*to));
                write!(
                    out,
                    "nothing comes through from {from} {way} {to} for {:.1} s",
                    seconds(for_ns)
                )
            }
            Self::Reset { machine } => write!(out, "the connections of {} are reset", name_of(*machine)),
            Self::Degradation {
                degradation,
                machine,
                for_ns,
            } => {
                write!(
                    out,
                    "{degradation:?} at {} for {:.1} s",
                    name_of(*machine),
                    seconds(for_ns)
                )
            }
            Self::KillAtPut { in_puts, after } => {
                let when = if *after { "after" } else { "before" };
                write!(out, "a process will die {when} put {in_puts} from now takes effect")
            }
            Self::Clock { machine, by_ns } => {
                write!(
                    out,
                    "the clock of {} jumps by {} s",
                    name_of(*machine),
                    by_ns / SECOND as i64
                )
            }
            Self::Leader { leader_fault, next } => {
                write!(out, "whoever leads: {leader_fault:?}; whoever leads next: {next:?}")
            }
            Self::Pause { machine } => write!(out, "{} stands still until another leads", name_of(*machine)),
            Self::Resume { process } => write!(out, "process {process} goes on, if it stands still"),
            Self::Start { machine, wipe } => {
                let disk = if *wipe { ", with an empty disk" } else { "" };
                write!(out, "{} is back{disk}", name_of(*machine))
            }
        }
    }
}
