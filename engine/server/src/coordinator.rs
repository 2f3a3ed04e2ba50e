//! `engine coordinator`: accepts jobs and runs them on registered workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_cluster::Error;
use millstream_cluster::access::Access;
use millstream_cluster::api::Api;
use millstream_cluster::coordinator::{Coordinator, Limits, Options, WorkerGateway};
use millstream_cluster::{network, serve};
use millstream_proto::v1::ClusterInfoRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;

use crate::Failure;
use crate::arguments::{self, CoordinatorArguments, Service};
use crate::process::{self, ShutdownRequest};
use crate::traces::Role;
use crate::worker::host_name;

/// Default port of REST and metrics.
const HTTP_PORT: u16 = 8080;
/// Interval at which a leader writes a test object to its data folder: a full disk can still be read.
const STORAGE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub fn run(arguments: &arguments::Coordinator) -> Result<(), Failure> {
    process::block_on(async {
        let role = Role {
            service: "millstream-coordinator",
            instance: arguments.advertise.as_deref().unwrap_or_default(),
        };
        process::start_log(&arguments.common.observability, &role, None)?;
        let access = crate::serve::access(arguments.common.tokens.as_deref())?;
        let advertise = arguments.advertise.clone();
        let server = CoordinatorServer::start(&arguments.common, advertise, false, Limits::default(), access).await?;
        let shutdown = signals(
            "shutting down; tasks continue until a coordinator takes them over (repeat the signal to exit at once)",
        );
        server.run(shutdown).await
    })
}

/// A coordinator with open ports.
pub struct CoordinatorServer {
    pub coordinator: Coordinator,
    /// Address of the gRPC port.
    pub address: SocketAddr,
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl CoordinatorServer {
    /// Opens the data folder and the ports. The coordinator becomes leader or standby in [`CoordinatorServer::run`].
    pub async fn start(
        arguments: &CoordinatorArguments,
        advertise: Option<String>,
        suspend_jobs_on_end: bool,
        limits: Limits,
        access: Access,
    ) -> Result<Self, Failure> {
        let taken = |error| {
            Failure::Failed(format!(
                "error: --listen {}: {error}; choose another address\n",
                arguments.listen
            ))
        };
        let listener = network::listen(arguments.listen).await.map_err(taken)?;
        let address = listener.address;
        let advertise = advertise.unwrap_or_else(|| match address.ip().is_unspecified() {
            true => format!("http://{}:{}", host_name(), address.port()),
            false => format!("http://{address}"),
        });
        let gateway = WorkerGateway::default();
        let options = Options {
            data_dir: arguments.data_dir.clone(),
            advertise: advertise.clone(),
            cluster: arguments.cluster.clone(),
            suspend_jobs_on_end,
            limits: Limits {
                jobs_max: arguments.jobs_max,
                ..limits
            },
        };
        let coordinator = Coordinator::open(options, gateway.executor_factory())
            .await
            .map_err(failure)?;
        let api: Arc<dyn Api> = Arc::new(coordinator.clone());
        let workers = InterceptedService::new(gateway.service(), serve::worker_interceptor(&access));
        let routes = serve::grpc_router(api.clone(), &access).await.add_service(workers);
        let grpc = serve::grpc_server().add_routes(routes);
        let grpc = tokio::spawn(grpc.serve_with_incoming(listener.incoming));
        let service = Service {
            http: Some(
                arguments
                    .http
                    .unwrap_or(SocketAddr::new(arguments.listen.ip(), HTTP_PORT)),
            ),
            observability: arguments.observability.clone(),
        };
        let checked = coordinator.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(STORAGE_CHECK_INTERVAL).await;
                // The coordinator stores the result, and `readiness` reports it.
                if let Err(error) = checked.info(ClusterInfoRequest { check_storage: true }).await {
                    tracing::debug!("the check of the data folder failed: {error}");
                }
            }
        });
        let stands = coordinator.clone();
        // A standby is ready, too.
        let ready = move || stands.readiness();
        process::start_service(&service, Box::new(ready), serve::rest_router(api, &access)).await?;
        tracing::info!("gRPC on http://{address}, advertised as {advertise}");
        Ok(Self {
            coordinator,
            address,
            grpc,
        })
    }

    /// Runs as leader or standby until a shutdown is requested.
    pub async fn run(self, mut shutdown: watch::Receiver<ShutdownRequest>) -> Result<(), Failure> {
        let ending = self.coordinator.clone();
        let signals = tokio::spawn(async move {
            if shutdown
                .wait_for(|request| *request >= ShutdownRequest::Graceful)
                .await
                .is_ok()
            {
                ending.end();
            }
            if shutdown
                .wait_for(|request| *request >= ShutdownRequest::Immediate)
                .await
                .is_err()
            {
                std::future::pending::<()>().await;
            }
        });
        tokio::select! {
            result = self.coordinator.run() => result.map_err(failure),
            _ = signals => Ok(()),
            served = self.grpc => Err(Failure::Failed(match served {
                Ok(Ok(())) => "error: the gRPC server ended unexpectedly\n".into(),
                Ok(Err(error)) => format!("error: the gRPC server ended: {error}\n"),
                Err(error) => format!("error: the gRPC server ended: {error}\n"),
            })),
        }
    }
}

/// Returns the shutdown requests of signals: the first one is graceful, the second immediate.
pub fn signals(graceful_message: &'static str) -> watch::Receiver<ShutdownRequest> {
    let (sender, shutdown) = watch::channel(ShutdownRequest::None);
    tokio::spawn(process::signals(
        sender,
        [
            (ShutdownRequest::Graceful, graceful_message),
            (ShutdownRequest::Immediate, "exiting at once"),
        ],
    ));
    shutdown
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Invalid(_) => Failure::Invalid(format!("error: {error}\n")),
        error => Failure::Failed(format!("error: {error}\n")),
    }
}
