//! `engine serve`: answers HTTP requests with pipelines, each request as a batch of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_cluster::access::Access;
use millstream_cluster::resolve::Overrides;
use millstream_cluster::service::{self, Limits, Service, Services};
use millstream_planner::Mode;
use millstream_state::memory;
use millstream_state::store::{Backend, BackendOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::arguments::Serve;
use crate::process::{self, ShutdownRequest};
use crate::traces::Role;
use crate::{Failure, http, pipeline, recorder, run};

pub fn run(arguments: &Serve) -> Result<(), Failure> {
    check_address(arguments)?;
    process::block_on(async {
        let role = Role {
            service: "millstream-serve",
            instance: "",
        };
        process::start_log(&arguments.observability, &role, None)?;
        let metrics = recorder::install().map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
        let backend = backend(arguments)?;
        let access = access(arguments.tokens.as_deref())?;
        let services = Arc::new(Services::new(access));
        services.replace(prepare(arguments, &backend).await?);
        let listener = http::bind(arguments.http).await.map_err(Failure::Failed)?;
        // Before anyone can know the address: without a handler the signal ends the process.
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| Failure::Failed(format!("error: SIGHUP cannot be handled: {error}\n")))?;
        let bound = listener.local_addr().unwrap_or(arguments.http);
        for name in services.names() {
            tracing::info!("POST http://{bound}/v1/pipelines/{name}/invoke");
        }
        let seen = Arc::clone(&services);
        let ready: http::Ready = Box::new(move || match seen.is_draining() {
            false => Ok("ready"),
            true => Err("shutting down".into()),
        });
        let routes = service::router(Arc::clone(&services));
        tokio::spawn(http::serve(listener, metrics, ready, routes));
        let published = Arc::clone(&services);
        tokio::spawn(async move { published.publish().await });
        follow_signals(arguments, &backend, &services, hangup).await
    })
}

/// Returns the access to a server with this file of tokens. Without one, everyone who reaches the server is answered.
pub fn access(tokens: Option<&Path>) -> Result<Access, Failure> {
    match tokens {
        None => Ok(Access::unrestricted()),
        Some(path) => Access::from_file(path).map_err(|error| Failure::Invalid(format!("error: --tokens {error}\n"))),
    }
}

/// Refuses an address that others can reach, as requests are not encrypted.
fn check_address(arguments: &Serve) -> Result<(), Failure> {
    let address: SocketAddr = arguments.http;
    if address.ip().is_loopback() || arguments.insecure {
        return Ok(());
    }
    Err(Failure::Invalid(format!(
        "error: --http {address} can be reached from other machines, and requests are not encrypted; serve at 127.0.0.1 \
         behind a proxy with TLS, or give --insecure\n"
    )))
}

fn backend(arguments: &Serve) -> Result<Backend, Failure> {
    let options = BackendOptions {
        dir: arguments.data_dir.join("serve"),
        memory_bytes: arguments.memory.unwrap_or_else(run::default_memory),
        process_gauge: Some(memory::process_bytes),
        background_threads: 2,
    };
    Backend::new(options).map_err(|error| Failure::Failed(format!("error: {error}\n")))
}

/// Reads and prepares all pipelines.
async fn prepare(arguments: &Serve, backend: &Backend) -> Result<Vec<Service>, Failure> {
    let limits = Limits {
        queue_max: arguments.queue_max,
        timeout: Duration::from_millis(arguments.timeout),
        body_bytes_max: arguments.body_max,
        ..Limits::default()
    };
    let limits = match arguments.concurrency_max {
        Some(concurrency_max) => Limits {
            concurrency_max: usize::from(concurrency_max),
            ..limits
        },
        None => limits,
    };
    let mut services: Vec<Service> = Vec::new();
    for file in &arguments.files {
        let failed = |error: String| format!("error: {}: {error}\n", file.display());
        let overrides = Overrides {
            name: None,
            mode: Some(Mode::Serve),
        };
        let resolved = pipeline::load(file, &overrides).map_err(Failure::Invalid)?;
        if resolved.settings.explain {
            let message = "it has nothing to serve: the script consists of EXPLAIN";
            return Err(Failure::Invalid(failed(message.to_string())));
        }
        let service = Service::prepare(&resolved, backend.clone(), limits.clone()).await;
        let service = service.map_err(|error| Failure::Invalid(failed(error.to_string())))?;
        if let Some(other) = services.iter().find(|other| other.name() == service.name()) {
            let message = format!(
                "another file has the name `{}`, too; give it another `name`",
                other.name()
            );
            return Err(Failure::Invalid(failed(message)));
        }
        services.push(service);
    }
    Ok(services)
}

/// Runs until a signal ends the process: SIGHUP reads the pipelines again; SIGTERM and Ctrl-C let the requests in
/// progress end.
async fn follow_signals(
    arguments: &Serve,
    backend: &Backend,
    services: &Services,
    mut hangup: Signal,
) -> Result<(), Failure> {
    let (sender, mut shutdown) = watch::channel(ShutdownRequest::None);
    tokio::spawn(process::signals(
        sender,
        [
            (
                ShutdownRequest::Graceful,
                "shutting down once the requests in progress are answered (repeat the signal to exit at once)",
            ),
            (ShutdownRequest::Immediate, "exiting at once"),
        ],
    ));
    loop {
        tokio::select! {
            _ = hangup.recv() => match prepare(arguments, backend).await {
                Ok(new) => {
                    services.replace(new);
                    tracing::info!("the pipelines were read again; new requests use them");
                }
                Err(Failure::Invalid(message) | Failure::Failed(message)) => {
                    tracing::error!("the pipelines stay as they are: {}", message.trim_end());
                }
                Err(Failure::Damaged) => {}
            },
            _ = shutdown.changed() => break,
        }
    }
    if *shutdown.borrow() == ShutdownRequest::Graceful {
        let timeout = Duration::from_millis(arguments.drain_timeout);
        tokio::select! {
            busy = services.drain(timeout) => if busy > 0 {
                tracing::warn!("{busy} requests were not answered within {} s (--drain-timeout)", timeout.as_secs());
            },
            _ = shutdown.changed() => {}
        }
    }
    Ok(())
}
