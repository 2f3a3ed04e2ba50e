//! `engine worker`: a process that runs the parts of jobs that the coordinator gives it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::ops::Range;

use axum::Router;
use millstream_cluster::Error;
use millstream_cluster::exchange::Compression;
use millstream_cluster::network::{self, Listener};
use millstream_cluster::worker::{self, LogBuffer, Options, Status};
use tokio::sync::watch;
use url::Url;

use crate::Failure;
use crate::arguments::{ExchangeCompression, Worker};
use crate::process::{self, Ask};
use crate::traces::Role;

/// The ports where workers connect to one another: the first that is free, so that those of one machine keep theirs.
const PORTS_DEFAULT: Range<u16> = 7071..7087;

pub fn run(arguments: &Worker) -> Result<(), Failure> {
    let log_buffer = LogBuffer::default();
    process::block_on(async move {
        let listener = listen(arguments).await.map_err(Failure::Wrong)?;
        let options = options(arguments, listener.address, log_buffer.clone());
        let role = Role {
            service: "millstream-worker",
            instance: &options.name,
        };
        process::start_log(&arguments.service.telling, &role, Some(log_buffer))?;
        let status = Status::default();
        let seen = status.clone();
        let ready = move || match (seen.is_reached(), seen.is_attached()) {
            (true, _) => Ok("attached"),
            (false, true) => Err("the coordinator has not reached this worker at its --advertise yet".into()),
            (false, false) => Err("no coordinator".into()),
        };
        process::start_service(&arguments.service, Box::new(ready), Router::new()).await?;
        let (ask, asked) = watch::channel(Ask::GoOn);
        tokio::spawn(process::signals(
            ask,
            [
                (Ask::Leave, "leaving once the tasks have moved (again: end at once)"),
                (Ask::EndAtOnce, "ending at once"),
            ],
        ));
        end(options, listener, status, asked)
            .await
            .map_err(|error| match error {
                Error::Invalid(_) => Failure::Wrong(format!("error: {error}\n")),
                error => Failure::Failed(format!("error: {error}\n")),
            })
    })
}

async fn end(
    options: Options,
    listener: Listener,
    status: Status,
    mut asked: watch::Receiver<Ask>,
) -> Result<(), Error> {
    let (leave, leaving) = watch::channel(false);
    let running = worker::run(options, listener, status, leaving);
    tokio::pin!(running);
    loop {
        tokio::select! {
            result = &mut running => return result,
            changed = asked.changed() => match (changed, *asked.borrow_and_update()) {
                (Ok(()), Ask::EndAtOnce) => return Ok(()),
                (Ok(()), Ask::Leave) => { leave.send_replace(true); }
                (Ok(()), Ask::GoOn) => {}
                // Signals are not heard any more.
                (Err(_), _) => return running.await,
            }
        }
    }
}

/// The port that was asked for; else the first of the usual ones that is free, else any, at the address of this machine
/// from which the coordinator is reached.
async fn listen(arguments: &Worker) -> Result<Listener, String> {
    if let Some(asked) = arguments.listen {
        if asked.ip().is_unspecified() && arguments.advertise.is_none() {
            return Err(format!(
                "error: --listen {asked} is not an address that other workers can connect to; say which is with --advertise \
                 http://HOST:{}\n",
                asked.port()
            ));
        }
        let taken = |error| format!("error: --listen {asked}: {error}; choose another address\n");
        return network::listen(asked).await.map_err(taken);
    }
    let address = arguments.coordinator.iter().find_map(|address| local_address(address));
    let ip = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    for port in PORTS_DEFAULT {
        match network::listen(SocketAddr::new(ip, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            opened => {
                return opened.map_err(|error| format!("error: port {port} of {ip}: {error}; choose with --listen\n"));
            }
        }
    }
    let any = SocketAddr::new(ip, 0);
    let none = |error| format!("error: no port of {ip} is free: {error}; choose with --listen\n");
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
    }
}

/// The same after a restart: a coordinator then knows at once what has become of the tasks. Two workers on one machine
/// differ in their port or in their folder.
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
    // Nothing is sent: it only asks for the route.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

pub fn host_name() -> String {
    let name = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".into())
}
