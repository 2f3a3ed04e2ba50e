//! `engine worker`: a process that runs the parts of jobs that the coordinator gives it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use axum::Router;
use axum::http::StatusCode;
use millstream_cluster::Error;
use millstream_cluster::exchange::Compression;
use millstream_cluster::worker::{self, LogBook, Options, Status};
use tokio::sync::watch;
use url::Url;

use crate::Failure;
use crate::arguments::{ExchangeCompression, Worker};
use crate::process::{self, Ask};

/// The port where workers connect to one another, if it is free.
const PORT_DEFAULT: u16 = 7071;

pub fn run(arguments: &Worker) -> Result<(), Failure> {
    let book = LogBook::default();
    process::start_log(arguments.service.log, Some(book.clone()));
    let options = options(arguments, book).map_err(Failure::Wrong)?;
    process::block_on(async move {
        let status = Status::default();
        let attached = status.clone();
        let ready = move || match attached.is_attached() {
            true => (StatusCode::OK, "attached\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "no coordinator\n"),
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
        end(options, status, asked).await.map_err(|error| match error {
            Error::Invalid(_) => Failure::Wrong(format!("error: {error}\n")),
            error => Failure::Failed(format!("error: {error}\n")),
        })
    })
}

async fn end(options: Options, status: Status, mut asked: watch::Receiver<Ask>) -> Result<(), Error> {
    let (leave, leaving) = watch::channel(false);
    let running = worker::run(options, status, leaving);
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

fn options(arguments: &Worker, book: LogBook) -> Result<Options, String> {
    let listen = match arguments.listen {
        Some(address) => address,
        None => default_listen(&arguments.coordinator),
    };
    let name = arguments
        .name
        .clone()
        .unwrap_or_else(|| default_name(arguments, listen));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    if listen.ip().is_unspecified() && arguments.advertise.is_none() {
        return Err(format!(
            "error: --listen {listen} is not an address that other workers can connect to; say which is with --advertise \
             http://HOST:{}\n",
            listen.port()
        ));
    }
    Ok(Options {
        data_dir: arguments
            .data_dir
            .clone()
            .unwrap_or_else(|| std::path::Path::new(".millstream/workers").join(&name)),
        name,
        coordinators: arguments.coordinator.clone(),
        listen,
        advertise: arguments.advertise.clone(),
        slots: arguments.slots.map_or(cores, u32::from),
        memory_bytes: arguments.memory.unwrap_or_else(crate::run::default_memory),
        book,
        compression: match arguments.exchange_compression {
            ExchangeCompression::None => Compression::None,
            ExchangeCompression::Lz4 => Compression::Lz4,
        },
    })
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
        (None, 0) => format!("{host}-{}", std::process::id()),
        (None, port) => format!("{host}-{port}"),
    }
}

/// The address of this machine from which the coordinator is reached, with the usual port if it is free.
fn default_listen(coordinators: &[String]) -> SocketAddr {
    let address = coordinators.iter().find_map(|address| local_address(address));
    let ip = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let usual = SocketAddr::new(ip, PORT_DEFAULT);
    match std::net::TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::new(ip, 0),
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
