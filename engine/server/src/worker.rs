//! `engine worker`: runs the tasks that the coordinator deploys.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::ops::Range;

use axum::Router;
use millstream_cluster::Error;
use millstream_cluster::access::OwnToken;
use millstream_cluster::exchange::Compression;
use millstream_cluster::network::{self, Listener};
use millstream_cluster::worker::{self, LogBuffer, Options, Status};
use tokio::sync::watch;
use url::Url;

use crate::Failure;
use crate::arguments::{ExchangeCompression, Worker};
use crate::process::{self, ShutdownRequest};
use crate::traces::Role;

/// Default ports of workers. Each takes the first free one, so that workers of one machine keep their ports after a
/// restart.
const PORTS_DEFAULT: Range<u16> = 7071..7087;

pub fn run(arguments: &Worker) -> Result<(), Failure> {
    let log_buffer = LogBuffer::default();
    process::block_on(async move {
        let listener = listen(arguments).await.map_err(Failure::Invalid)?;
        let options = options(arguments, listener.address, log_buffer.clone());
        let role = Role {
            service: "millstream-worker",
            instance: &options.name,
        };
        process::start_log(&arguments.service.observability, &role, Some(log_buffer))?;
        let status = Status::default();
        let seen = status.clone();
        let ready = move || match (seen.is_reached(), seen.is_attached()) {
            (true, _) => Ok("attached"),
            (false, true) => Err("the coordinator has not reached this worker at its --advertise address yet".into()),
            (false, false) => Err("not registered with a coordinator".into()),
        };
        process::start_service(&arguments.service, Box::new(ready), Router::new()).await?;
        let (sender, shutdown) = watch::channel(ShutdownRequest::None);
        tokio::spawn(process::signals(
            sender,
            [
                (
                    ShutdownRequest::Graceful,
                    "shutting down once the tasks have moved (repeat the signal to exit at once)",
                ),
                (ShutdownRequest::Immediate, "exiting at once"),
            ],
        ));
        run_until_shutdown(options, listener, status, shutdown)
            .await
            .map_err(|error| match error {
                Error::Invalid(_) => Failure::Invalid(format!("error: {error}\n")),
                error => Failure::Failed(format!("error: {error}\n")),
            })
    })
}

/// Runs the worker until it has handed over its tasks after a shutdown request, or an immediate one.
async fn run_until_shutdown(
    options: Options,
    listener: Listener,
    status: Status,
    mut shutdown: watch::Receiver<ShutdownRequest>,
) -> Result<(), Error> {
    let (leave, leaving) = watch::channel(false);
    let running = worker::run(options, listener, status, leaving);
    tokio::pin!(running);
    loop {
        tokio::select! {
            result = &mut running => return result,
            changed = shutdown.changed() => match (changed, *shutdown.borrow_and_update()) {
                (Ok(()), ShutdownRequest::Immediate) => return Ok(()),
                (Ok(()), ShutdownRequest::Graceful) => { leave.send_replace(true); }
                (Ok(()), ShutdownRequest::None) => {}
                // Signal handlers could not be installed.
                (Err(_), _) => return running.await,
            }
        }
    }
}

/// Opens the address of `--listen`. By default opens the first free port of [`PORTS_DEFAULT`], else any port, at the
/// address of this machine from which the coordinator is reached.
async fn listen(arguments: &Worker) -> Result<Listener, String> {
    if let Some(requested) = arguments.listen {
        if requested.ip().is_unspecified() && arguments.advertise.is_none() {
            return Err(format!(
                "error: --listen {requested} is not an address that other workers can connect to; name one with --advertise \
                 http://HOST:{}\n",
                requested.port()
            ));
        }
        let taken = |error| format!("error: --listen {requested}: {error}; choose another address\n");
        return network::listen(requested).await.map_err(taken);
    }
    let address = arguments.coordinator.iter().find_map(|address| local_address(address));
    let ip = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    for port in PORTS_DEFAULT {
        match network::listen(SocketAddr::new(ip, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            opened => {
                return opened.map_err(|error| {
                    format!("error: port {port} of {ip}: {error}; choose another one with --listen\n")
                });
            }
        }
    }
    let any = SocketAddr::new(ip, 0);
    let none = |error| format!("error: no port of {ip} is free: {error}; choose an address with --listen\n");
    network::listen(any).await.map_err(none)
}

fn options(arguments: &Worker, listen: SocketAddr, log_buffer: LogBuffer) -> Options {
    let name = arguments
        .name
        .clone()
        .unwrap_or_else(|| default_name(arguments, listen));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    Options {
        data_dir: arguments
            .data_dir
            .clone()
            .unwrap_or_else(|| std::path::Path::new(".millstream/workers").join(&name)),
        name,
        coordinators: arguments.coordinator.clone(),
        advertise: arguments.advertise.clone(),
        slots: arguments.slots.map_or(cores, u32::from),
        memory_bytes: arguments.memory.unwrap_or_else(crate::run::default_memory),
        log_buffer,
        compression: match arguments.exchange_compression {
            ExchangeCompression::None => Compression::None,
            ExchangeCompression::Lz4 => Compression::Lz4,
        },
        token: arguments.token_file.clone().map_or(OwnToken::None, OwnToken::File),
    }
}

/// Returns a name that is the same after a restart, so that a coordinator recognises the worker. Two workers of one
/// machine differ in their port or in their data folder.
fn default_name(arguments: &Worker, listen: SocketAddr) -> String {
    let host = host_name();
    match (&arguments.data_dir, listen.port()) {
        (Some(folder), _) => {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            let hash = crc32fast::hash(folder.as_os_str().as_encoded_bytes());
            format!("{host}-{hash:08x}")
        }
        (None, port) => format!("{host}-{port}"),
    }
}

/// Returns the address of this machine from which a coordinator is reached.
fn local_address(coordinator: &str) -> Option<IpAddr> {
    let url = Url::parse(coordinator).ok()?;
    let target = (url.host_str()?, url.port_or_known_default()?)
        .to_socket_addrs()
        .ok()?
        .next()?;
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket sends nothing; it only selects the route.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns the host's name; `worker` if it is unknown.
pub fn host_name() -> String {
    let name = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".into())
}
