//! `engine coordinator`: accepts jobs and runs them over the workers that attach to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_cluster::Error;
use millstream_cluster::api::Api;
use millstream_cluster::coordinator::{Coordinator, Limits, Options, WorkerGateway};
use millstream_cluster::{network, serve};
use millstream_proto::v1::ClusterInfoRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::arguments::{self, Lead, Service};
use crate::process::{self, Ask};
use crate::traces::Role;
use crate::worker::host_name;

/// The usual port for REST and metrics.
const HTTP_PORT: u16 = 8080;
/// Interval at which a leader tries to write its data folder: one that is full can still be read.
const STORAGE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub fn run(arguments: &arguments::Coordinator) -> Result<(), Failure> {
    process::block_on(async {
        let role = Role {
            service: "millstream-coordinator",
            instance: arguments.advertise.as_deref().unwrap_or_default(),
        };
        process::start_log(&arguments.lead.telling, &role, None)?;
        let served = Served::start(&arguments.lead, arguments.advertise.clone(), false, Limits::default()).await?;
        let asked = signals("ending: tasks go on until a coordinator takes them over (again: end at once)");
        served.lead(asked).await
    })
}

/// A coordinator whose ports are open.
pub struct Served {
    pub coordinator: Coordinator,
    /// What it really listens at.
    pub address: SocketAddr,
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    /// Opens the data folder and the ports. It leads, or stands by, from [`Served::lead`] on.
    pub async fn start(
        lead: &Lead,
        advertise: Option<String>,
        suspend_jobs_on_end: bool,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let taken = |error| {
            Failure::Failed(format!(
                "error: --listen {}: {error}; choose another address\n",
                lead.listen
            ))
        };
        let listener = network::listen(lead.listen).await.map_err(taken)?;
        let address = listener.address;
        let advertise = advertise.unwrap_or_else(|| match address.ip().is_unspecified() {
            true => format!("http://{}:{}", host_name(), address.port()),
            false => format!("http://{address}"),
        });
        let gateway = WorkerGateway::default();
        let options = Options {
            data_dir: lead.data_dir.clone(),
            advertise: advertise.clone(),
            cluster: lead.cluster.clone(),
            suspend_jobs_on_end,
            limits: Limits {
                jobs_max: lead.jobs_max,
                ..limits
            },
        };
        let coordinator = Coordinator::open(options, gateway.executor_factory())
            .await
            .map_err(failure)?;
        let api: Arc<dyn Api> = Arc::new(coordinator.clone());
        let routes = serve::grpc_router(api.clone()).await.add_service(gateway.service());
        let grpc = serve::grpc_server().add_routes(routes);
        let grpc = tokio::spawn(grpc.serve_with_incoming(listener.incoming));
        let service = Service {
            http: Some(lead.http.unwrap_or(SocketAddr::new(lead.listen.ip(), HTTP_PORT))),
            telling: lead.telling.clone(),
        };
        let checked = coordinator.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(STORAGE_CHECK_INTERVAL).await;
                // The result is kept by the coordinator, and shows in `standing`.
                if let Err(error) = checked.info(ClusterInfoRequest { check_storage: true }).await {
                    tracing::debug!("whether the data folder can be written is not known: {error}");
                }
            }
        });
        let stands = coordinator.clone();
        // A standby does its work, too: it stands by.
        let ready = move || stands.readiness();
        process::start_service(&service, Box::new(ready), serve::rest_router(api)).await?;
        tracing::info!("gRPC on http://{address}, advertised as {advertise}");
        Ok(Self {
            coordinator,
            address,
            grpc,
        })
    }

    /// Leads or stands by until asked to end, at once or in good order.
    pub async fn lead(self, mut asked: watch::Receiver<Ask>) -> Result<(), Failure> {
        let ending = self.coordinator.clone();
        let signals = tokio::spawn(async move {
            if asked.wait_for(|ask| *ask >= Ask::Leave).await.is_ok() {
                ending.end();
            }
            if asked.wait_for(|ask| *ask >= Ask::EndAtOnce).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        tokio::select! {
            result = self.coordinator.run() => result.map_err(failure),
            _ = signals => Ok(()),
            served = self.grpc => Err(Failure::Failed(match served {
                Ok(Ok(())) => "error: the gRPC server ended by itself\n".into(),
                Ok(Err(error)) => format!("error: the gRPC server ended: {error}\n"),
                Err(error) => format!("error: the gRPC server ended: {error}\n"),
            })),
        }
    }
}

/// The first signal asks to end in good order, the second at once.
pub fn signals(in_good_order: &'static str) -> watch::Receiver<Ask> {
    let (ask, asked) = watch::channel(Ask::GoOn);
    tokio::spawn(process::signals(
        ask,
        [(Ask::Leave, in_good_order), (Ask::EndAtOnce, "ending at once")],
    ));
    asked
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Invalid(_) => Failure::Wrong(format!("error: {error}\n")),
        error => Failure::Failed(format!("error: {error}\n")),
    }
}
