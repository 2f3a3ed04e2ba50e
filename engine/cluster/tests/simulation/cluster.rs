//! The simulated cluster: real coordinators and workers, each in a tokio runtime of its own, all in this thread.
//!
//! A process is a runtime. Its turn lasts until it has no work; then the time of its next timer is known. The loop
//! gives turns to processes that were woken, runs due events, and when no work is left advances the time to the next
//! event or timer. A process is killed by dropping its runtime with every task in it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_cluster::coordinator::{Coordinator, Limits, Options, WorkerGateway};
use millstream_cluster::{network, serve, worker};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::checks;
use crate::commands;
use crate::faults::{Degradation, Fault};
use crate::job::{self, ClientPlan};
use crate::kernel::{self, Turn};
use crate::world::{
    CLIENT, COORDINATORS, MACHINES, Machine, ProcessId, WORKERS, World, address_of, current, name_of, set_current,
    url_of, world,
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const MEMORY_BYTES: usize = 64 << 20;
/// Limit of turns of one run.
const TURNS_MAX: u64 = 3_000_000;

pub struct Cluster {
    folder: PathBuf,
    workers: usize,
    slots: u32,
    clients: Vec<Client>,
    /// The processes by number; `None` after their end.
    processes: Vec<Option<Process>>,
    /// The process of each machine.
    running: [Option<ProcessId>; MACHINES],
    touched: BTreeSet<ProcessId>,
    wall_ahead_ns: [i64; MACHINES],
    turns: u64,
}

/// A client of the cluster.
#[derive(Debug, Clone)]
pub enum Client {
    /// Runs a job to its end.
    Job(ClientPlan),
    /// Sends commands about a job, drawn from a seed.
    Commands(ClientPlan, u64),
}

struct Process {
    runtime: Runtime,
    until_ns: Option<u64>,
    /// Time until which the process is paused.
    frozen_until_ns: u64,
}

impl Cluster {
    pub fn new(folder: PathBuf, workers: usize, slots: u32, clients: Vec<Client>) -> Self {
        Self {
            folder,
            workers,
            slots,
            clients,
            processes: Vec::new(),
            running: [None; MACHINES],
            touched: BTreeSet::new(),
            wall_ahead_ns: [0; MACHINES],
            turns: 0,
        }
    }

    pub fn start_all(&mut self) {
        let workers = WORKERS.into_iter().take(self.workers);
        for machine in COORDINATORS.into_iter().chain(workers).chain([CLIENT]) {
            self.start(machine);
        }
    }

    /// Runs until this time, or until the clients have seen the end of every job.
    pub fn run_until(&mut self, end_ns: u64) {
        while world().unfinished > 0 && kernel::now_ns() < end_ns {
            self.turns += 1;
            if self.turns > TURNS_MAX {
                let now_s = kernel::now_ns() / SECOND;
                world().violated(format!("{TURNS_MAX} turns were not enough for {now_s} s"));
                return;
            }
            self.apply_faults();
            let due: Vec<ProcessId> = self.due();
            if !due.is_empty() {
                let chosen = world().random.below(due.len() as u64) as usize;
                self.turn(due[chosen]);
                continue;
            }
            let next_ns = self.next_ns().unwrap_or(end_ns).min(end_ns);
            kernel::advance_to(next_ns);
            world().run_due_events();
            let late = std::mem::take(&mut world().late_changes);
            late.into_iter().for_each(|change| change());
        }
    }

    /// Returns the processes that were woken or whose timer is due.
    fn due(&mut self) -> Vec<ProcessId> {
        let wake = world().take_wake();
        for (process, waker) in wake {
            waker.wake();
            self.touched.insert(process);
        }
        let now_ns = kernel::now_ns();
        let is_due = |(number, process): (usize, &Option<Process>)| {
            let process = process.as_ref()?;
            let is_awake = process.frozen_until_ns <= now_ns;
            let has_work = self.touched.contains(&number) || process.until_ns.is_some_and(|until| until <= now_ns);
            (is_awake && has_work).then_some(number)
        };
        self.processes.iter().enumerate().filter_map(is_due).collect()
    }

    fn next_ns(&self) -> Option<u64> {
        let timers = self.processes.iter().enumerate().filter_map(|(number, process)| {
            let process = process.as_ref()?;
            let is_touched = self.touched.contains(&number);
            let until_ns = if is_touched { Some(0) } else { process.until_ns };
            until_ns.map(|until_ns| until_ns.max(process.frozen_until_ns))
        });
        timers.chain(world().next_event_ns()).min()
    }

    fn turn(&mut self, number: ProcessId) {
        self.touched.remove(&number);
        let machine = world().machine_of(number);
        let Some(process) = &mut self.processes[number] else {
            return;
        };
        set_current(number);
        kernel::set_wall_clock_ahead(self.wall_ahead_ns[machine]);
        process.until_ns = match kernel::turn(&process.runtime) {
            Turn::Idle { until_ns } => until_ns,
            Turn::Paused | Turn::Running => Some(kernel::now_ns()),
        };
        world().on_turn_end(machine);
        let pipe_bytes = world().fullest_pipe_bytes();
        if pipe_bytes > crate::network::PIPE_BYTES_MAX {
            world().violated(format!("a connection holds {pipe_bytes} bytes"));
        }
    }

    /// Applies due faults and restarts processes that have ended.
    fn apply_faults(&mut self) {
        let exited = std::mem::take(&mut world().exited);
        for (process, said) in exited {
            let machine = world().machine_of(process);
            if self.running[machine] == Some(process) {
                world().note(&format!("{} has ended: {said}", name_of(machine)));
                self.end(machine, false);
                self.start_later(machine, SECOND, 3 * SECOND);
            }
        }
        let faults = std::mem::take(&mut world().faults);
        for fault in faults {
            self.apply(fault);
        }
    }

    fn apply(&mut self, fault: Fault) {
        world().note(&fault.to_string());
        let now_ns = kernel::now_ns();
        match fault {
            Fault::Kill { machine } => {
                if let Some(process) = self.running[machine] {
                    if world().random.per_mille(500) {
                        world().reset_connections(MS / 10, 40 * MS, move |from, _| from == process);
                    }
                    self.end(machine, false);
                    self.start_later(machine, 50 * MS, 5 * SECOND);
                }
            }
            Fault::PowerOff { machine } => {
                if let Some(process) = self.running[machine] {
                    world().silent.insert(process);
                    world().reset_connections(SECOND, 20 * SECOND, move |from, _| from == process);
                    self.end(machine, true);
                    self.start_later(machine, 500 * MS, 8 * SECOND);
                }
            }
            Fault::Freeze { machine, for_ns } => {
                let process = self.running[machine].and_then(|process| self.processes[process].as_mut());
                if let Some(process) = process {
                    process.frozen_until_ns = now_ns + for_ns;
                }
            }
            Fault::Cut { from, to, both, for_ns } => {
                let mut world = world();
                world.cut(from, to, now_ns + for_ns);
                if both {
                    world.cut(to, from, now_ns + for_ns);
                }
            }
            Fault::Reset { machine } => {
                if let Some(process) = self.running[machine] {
                    world().reset_connections(MS / 10, 100 * MS, move |from, _| from == process);
                }
            }
            Fault::Degradation {
                degradation,
                machine,
                for_ns,
            } => {
                world().degradations.insert((degradation, machine), now_ns + for_ns);
            }
            Fault::KillAtPut { in_puts, after } => {
                let mut world = world();
                let number = world.objects.puts + in_puts;
                world.objects.kill_at_put = Some((number, after));
            }
            Fault::Leader { leader_fault, next } => world().schedule_leader_fault(leader_fault, next),
            Fault::Pause { machine } => {
                if let Some(number) = self.running[machine]
                    && let Some(process) = &mut self.processes[number]
                {
                    process.frozen_until_ns = u64::MAX;
                    world().paused(machine, number);
                }
            }
            Fault::Resume { process } => {
                if let Some(process) = &mut self.processes[process]
                    && process.frozen_until_ns == u64::MAX
                {
                    process.frozen_until_ns = now_ns;
                }
            }
            Fault::Clock { machine, by_ns } => self.wall_ahead_ns[machine] += by_ns,
            Fault::Start { machine, wipe } => {
                if wipe && let Err(error) = std::fs::remove_dir_all(self.disk(machine)) {
                    world().note(&format!("there was nothing to wipe: {error}"));
                }
                if self.running[machine].is_none() {
                    self.start(machine);
                }
            }
        }
    }

    fn disk(&self, machine: Machine) -> PathBuf {
        self.folder.join(name_of(machine))
    }

    fn end(&mut self, machine: Machine, is_silent: bool) {
        let Some(number) = self.running[machine].take() else {
            return;
        };
        {
            let mut world = world();
            world.close_ports(number);
            checks::before_loss(&mut world, number);
        }
        set_current(number);
        // All its tasks are dropped; their connections are closed unless the machine is off.
        self.processes[number] = None;
        if !is_silent {
            self.touched.remove(&number);
        }
    }

    fn start_later(&mut self, machine: Machine, least_ns: u64, most_ns: u64) {
        let mut world = world();
        let delay_ns = world.random.between(least_ns, most_ns);
        let wipe = world.random.per_mille(300);
        world.after(delay_ns, move |world: &mut World| {
            world.faults.push(Fault::Start { machine, wipe })
        });
    }

    fn start(&mut self, machine: Machine) {
        let number = self.processes.len();
        let event_interval = {
            let mut world = world();
            world.machines.push(machine);
            world.note(&format!("{} starts", name_of(machine)));
            world.random.between(1, 61) as u32
        };
        set_current(number);
        kernel::set_wall_clock_ahead(self.wall_ahead_ns[machine]);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(event_interval)
            .build()
            .expect("a runtime");
        match machine {
            CLIENT => {
                for client in self.clients.clone() {
                    match client {
                        Client::Job(plan) => drop(runtime.spawn(job::client(plan))),
                        Client::Commands(plan, seed) => drop(runtime.spawn(commands::client(plan, seed))),
                    }
                }
            }
            machine if COORDINATORS.contains(&machine) => drop(runtime.spawn(coordinator(machine, number))),
            machine => {
                let options = worker::Options {
                    name: name_of(machine),
                    coordinators: COORDINATORS.into_iter().map(url_of).collect(),
                    advertise: None,
                    slots: self.slots,
                    memory_bytes: MEMORY_BYTES,
                    data_dir: self.disk(machine),
                    log_buffer: worker::LogBuffer::default(),
                    token: millstream_cluster::access::OwnToken::None,
                    compression: Default::default(),
                };
                drop(runtime.spawn(work(options, address_of(machine), number)));
            }
        }
        self.processes.push(Some(Process {
            runtime,
            until_ns: Some(kernel::now_ns()),
            frozen_until_ns: 0,
        }));
        self.running[machine] = Some(number);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for machine in 0..MACHINES {
            self.end(machine, false);
        }
    }
}

/// Runs a worker as `engine worker` does.
async fn work(options: worker::Options, listen: SocketAddr, process: ProcessId) {
    let (leave, asked) = watch::channel(false);
    let end = match network::listen(listen).await {
        Ok(listener) => worker::run(options, listener, worker::Status::default(), asked)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    drop(leave);
    world().exited.push((process, format!("{end:?}")));
}

/// Runs a coordinator as `engine coordinator` does.
async fn coordinator(machine: Machine, process: ProcessId) {
    let end = lead(machine).await;
    world().exited.push((process, format!("{end:?}")));
}

async fn lead(machine: Machine) -> Result<(), String> {
    let listener = network::listen(address_of(machine))
        .await
        .map_err(|error| error.to_string())?;
    let gateway = WorkerGateway::default();
    let options = Options {
        data_dir: "sim://store/cluster".into(),
        advertise: url_of(machine),
        cluster: None,
        limits: Limits::default(),
        suspend_jobs_on_end: false,
    };
    let coordinator = Coordinator::open(options, gateway.executor_factory())
        .await
        .map_err(|error| error.to_string())?;
    let routes = serve::grpc_router(
        Arc::new(coordinator.clone()),
        &millstream_cluster::access::Access::unrestricted(),
    )
    .await;
    let server = serve::grpc_server().add_routes(routes.add_service(gateway.service()));
    let serving = tokio::spawn(server.serve_with_incoming(listener.incoming));
    let led = coordinator.run().await.map_err(|error| error.to_string());
    serving.abort();
    led
}

/// Returns the wait before a piece of work that has a thread outside a simulation.
pub fn schedule(work: millstream_state::threads::WorkKind) -> futures::future::BoxFuture<'static, ()> {
    use millstream_state::threads::WorkKind;
    kernel::advance_by_step();
    let wait = {
        let mut world = world();
        let machine = world.machine_of(current());
        let slow = world.is_degraded(Degradation::SlowDisk, machine);
        match work {
            WorkKind::Blocking | WorkKind::State => {
                let most_us = if slow { 900_000 } else { 4_000 };
                Some(Duration::from_micros(world.random.between(10, most_us)))
            }
            WorkKind::Slot if world.random.per_mille(100) => {
                Some(Duration::from_micros(world.random.between(100, 5_000)))
            }
            WorkKind::Slot => None,
        }
    };
    Box::pin(async move {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => tokio::task::yield_now().await,
        }
    })
}
