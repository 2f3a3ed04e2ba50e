//! `engine standalone`: a coordinator and one worker in this process, connected over loopback. Runs the code of a
//! cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use millstream_cluster::access::{Access, OwnToken};
use millstream_cluster::coordinator::Limits;
use millstream_cluster::exchange::Compression;
use millstream_cluster::network;
use millstream_cluster::worker::{self, LogBuffer, Options, Status};
use tokio::sync::watch;

use crate::Failure;
use crate::arguments::Standalone;
use crate::coordinator::{CoordinatorServer, signals};
use crate::process;
use crate::traces::Role;

/// Name of the worker.
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
    process::start_log(&arguments.common.observability, &role, Some(log_buffer.clone()))?;
    // Slots are plentiful, so that many jobs fit; the automatic parallelism of one job is limited to the cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limits = Limits {
        auto_parallelism_max: cores,
        ..Limits::default()
    };
    let (access, token) = match &arguments.common.tokens {
        None => (Access::unrestricted(), OwnToken::None),
        Some(path) => {
            let (access, secret) = Access::with_own_worker(path)
                .map_err(|error| Failure::Invalid(format!("error: --tokens {error}\n")))?;
            (access, OwnToken::Secret(secret))
        }
    };
    let server = CoordinatorServer::start(&arguments.common, None, true, limits, access).await?;
    let shutdown = signals(
        "shutting down; jobs take a last checkpoint and continue after the next start (repeat the signal to exit at once)",
    );
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let coordinator = match server.address.ip().is_unspecified() {
        true => SocketAddr::new(loopback, server.address.port()),
        false => server.address,
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
            .unwrap_or_else(|| work_dir(&arguments.common.data_dir)),
        log_buffer,
        // Rows are never sent to another worker.
        compression: Compression::None,
        token,
    };
    let listener = network::listen(SocketAddr::new(loopback, 0))
        .await
        .map_err(|error| Failure::Failed(format!("error: the worker found no free port: {error}\n")))?;
    // The worker is never asked to leave, as no other worker could take its tasks.
    let (_stay, leave) = watch::channel(false);
    let working = tokio::spawn(worker::run(options, listener, Status::default(), leave));
    tokio::select! {
        result = server.run(shutdown) => result,
        worked = working => Err(Failure::Failed(match worked {
            Ok(Ok(())) => "error: the worker ended unexpectedly\n".into(),
            Ok(Err(error)) => format!("error: the worker ended: {error}\n"),
            Err(error) => format!("error: the worker ended: {error}\n"),
        })),
    }
}

/// Returns the folder of local state: in the data folder if that is local, else in `.millstream`.
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
