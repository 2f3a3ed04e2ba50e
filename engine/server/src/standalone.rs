//! `engine standalone`: a coordinator and one worker in this process, over loopback. The same code as in a cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use millstream_cluster::coordinator::Limits;
use millstream_cluster::exchange::Compression;
use millstream_cluster::network;
use millstream_cluster::worker::{self, LogBuffer, Options, Status};
use tokio::sync::watch;

use crate::Failure;
use crate::arguments::Standalone;
use crate::coordinator::{Served, signals};
use crate::process;
use crate::traces::Role;

/// The only worker's name.
const WORKER: &str = "standalone";

pub fn run(arguments: &Standalone) -> Result<(), Failure> {
    let log_buffer = LogBuffer::default();
    process::block_on(run_both(arguments, log_buffer))
}

async fn run_both(arguments: &Standalone, log_buffer: LogBuffer) -> Result<(), Failure> {
    let role = Role {
        service: "millstream-standalone",
        instance: "",
    };
    process::start_log(&arguments.lead.telling, &role, Some(log_buffer.clone()))?;
    // There are many slots, so that many jobs fit; one job is not to have more busy threads than there are cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limits = Limits {
        auto_parallelism_max: cores,
        ..Limits::default()
    };
    let served = Served::start(&arguments.lead, None, true, limits).await?;
    let asked = signals("ending: jobs take a last checkpoint and go on later (again: end at once)");
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let coordinator = match served.address.ip().is_unspecified() {
        true => SocketAddr::new(loopback, served.address.port()),
        false => served.address,
    };
    let options = Options {
        name: WORKER.into(),
        coordinators: vec![format!("http://{coordinator}")],
        advertise: None,
        slots: u32::from(arguments.slots),
        memory_bytes: arguments.memory.unwrap_or_else(crate::run::default_memory),
        data_dir: arguments
            .work_dir
            .clone()
            .unwrap_or_else(|| work_dir(&arguments.lead.data_dir)),
        log_buffer,
        // There is no other worker.
        compression: Compression::None,
    };
    let listener = network::listen(SocketAddr::new(loopback, 0))
        .await
        .map_err(|error| Failure::Failed(format!("error: no port for the worker: {error}\n")))?;
    // Never asked to leave: there is nowhere else for its tasks to go.
    let (_stay, leave) = watch::channel(false);
    let working = tokio::spawn(worker::run(options, listener, Status::default(), leave));
    tokio::select! {
        result = served.lead(asked) => result,
        worked = working => Err(Failure::Failed(match worked {
            Ok(Ok(())) => "error: the worker ended by itself\n".into(),
            Ok(Err(error)) => format!("error: the worker ended: {error}\n"),
            Err(error) => format!("error: the worker ended: {error}\n"),
        })),
    }
}

/// Local state is in the data folder where that is local.
fn work_dir(data_dir: &str) -> PathBuf {
    let local = match data_dir.split_once("://") {
        None => Some(PathBuf::from(data_dir)),
        Some(("file", path)) => Some(PathBuf::from(path)),
        Some(_) => None,
    };
    local
        .unwrap_or_else(|| Path::new(".millstream").to_path_buf())
        .join("work")
}
