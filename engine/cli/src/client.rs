//! Calls on the leading coordinator.
//!
//! The client uses the first address that answers. A coordinator that answers `not-leader` names the leader, to which
//! the client goes; while there is no leader, it polls for one until [`LEADER_TIMEOUT`]. A call whose connection breaks
//! is repeated only if repeating is safe ([`Retry`]); if the call may have changed something and no answer came, the
//! failure states that its outcome is unknown ([`unknown_outcome`]). A call whose connection could not be opened was
//! never sent, so its outcome is known.

use std::time::Duration;

use millstream_proto::v1::ErrorDetail;
use millstream_proto::v1::checkpoint_service_client::CheckpointServiceClient;
use millstream_proto::v1::cluster_service_client::ClusterServiceClient;
use millstream_proto::v1::job_service_client::JobServiceClient;
use millstream_proto::v1::transaction_service_client::TransactionServiceClient;
use millstream_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::time::{Instant, sleep};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Request, Response, Status};

use crate::address::{SERVERS_MAX, address};
use crate::failure::{Exit, Failure, status_text};
use crate::port_probe;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval and timeout of HTTP/2 pings: a connection without an answer for twice this is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Largest response that is accepted.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest failover for which a call waits.
const LEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Interval between two attempts to find a leader.
const LEADER_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A connection whose calls carry the token and the trace context of this command.
pub type CallChannel = InterceptedService<Channel, CallContext>;
/// Client of the job service.
pub type Jobs = JobServiceClient<CallChannel>;
/// Client of the checkpoint service.
pub type Checkpoints = CheckpointServiceClient<CallChannel>;
/// Client of the worker service.
pub type Workers = WorkerServiceClient<CallChannel>;
/// Client of the transaction service.
pub type Transactions = TransactionServiceClient<CallChannel>;
/// Client of the cluster service.
pub type Cluster = ClusterServiceClient<CallChannel>;

/// Sends with each call the token of the environment (MILLSTREAM_TOKEN, or the content of the file
/// MILLSTREAM_TOKEN_FILE), and its TRACEPARENT (W3C Trace Context), so that spans of the coordinator are children of
/// the span in which this command runs.
#[derive(Clone)]
pub struct CallContext;

impl Interceptor for CallContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let parent = std::env::var("TRACEPARENT").ok().and_then(|parent| parent.parse().ok());
        if let Some(parent) = parent {
            request.metadata_mut().insert("traceparent", parent);
        }
        if let Some(token) = token().map_err(Status::unauthenticated)? {
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}

/// Returns the header with the token of the environment, if it has one.
fn token() -> Result<Option<AsciiMetadataValue>, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (name, token) = match (variable("MILLSTREAM_TOKEN"), variable("MILLSTREAM_TOKEN_FILE")) {
        (Some(token), _) => ("MILLSTREAM_TOKEN", token),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(&path);
            let token = read.map_err(|error| format!("MILLSTREAM_TOKEN_FILE={path}: cannot be read: {error}"))?;
            ("MILLSTREAM_TOKEN_FILE", token)
        }
        (None, None) => return Ok(None),
    };
    let mut header: AsciiMetadataValue = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| format!("{name} has something else than one token"))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// Returns a client of the job service.
pub fn jobs(channel: Channel) -> Jobs {
    JobServiceClient::with_interceptor(channel, CallContext).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Returns a client of the checkpoint service.
pub fn checkpoints(channel: Channel) -> Checkpoints {
    CheckpointServiceClient::with_interceptor(channel, CallContext).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Returns a client of the worker service.
pub fn workers(channel: Channel) -> Workers {
    WorkerServiceClient::with_interceptor(channel, CallContext).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Returns a client of the transaction service.
pub fn transactions(channel: Channel) -> Transactions {
    TransactionServiceClient::with_interceptor(channel, CallContext).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Returns a client of the cluster service.
pub fn cluster(channel: Channel) -> Cluster {
    ClusterServiceClient::with_interceptor(channel, CallContext).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Safety of repeating a call when it is unknown whether the first one arrived. Calls that change something name the
/// command that shows whether they took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry<'a> {
    /// The call changes nothing.
    ReadOnly,
    /// Two calls have the effect of one.
    Idempotent { inspect: &'a str },
    /// The call must not be repeated.
    Never { inspect: &'a str },
}

impl<'a> Retry<'a> {
    /// Returns the command that shows whether a call took effect, if it changes anything.
    fn inspect(self) -> Option<&'a str> {
        match self {
            Self::ReadOnly => None,
            Self::Idempotent { inspect } | Self::Never { inspect } => Some(inspect),
        }
    }
}

/// Client of one cluster.
pub struct Client {
    /// Addresses of coordinators.
    servers: Vec<String>,
    /// Index of the coordinator that is called first.
    current: usize,
    channel: Option<Channel>,
}

impl Client {
    /// Creates a client for the coordinators at these addresses, without connecting.
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            current: 0,
            channel: None,
        }
    }

    /// Returns the address that the next call uses.
    pub fn server(&self) -> &str {
        &self.servers[self.current]
    }

    /// Makes a call on the leading coordinator.
    pub async fn call<T>(
        &mut self,
        retry: Retry<'_>,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut broken = None;
        let result = self.call_until_answered(retry, call, &mut broken).await;
        match (result, broken, retry.inspect()) {
            (Err(failure), Some(broken), Some(inspect)) => Err(unknown_outcome(&broken, &failure, inspect)),
            (result, ..) => result,
        }
    }

    /// `broken` is set to the reason once a connection broke after the request may have been sent.
    async fn call_until_answered<T>(
        &mut self,
        retry: Retry<'_>,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
        broken: &mut Option<String>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + LEADER_TIMEOUT;
        let mut breaks = 0;
        let mut unreachable: Vec<String> = Vec::new();
        loop {
            let answered = match self.channel().await {
                Ok(channel) => match call(channel.clone()).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) if was_never_sent(&status) => Err(format!(
                        "{}: cannot be reached: {}",
                        self.server(),
                        status_text(&status)
                    )),
                    Err(status) => Ok((channel, Failure::from(status))),
                },
                Err(why) => Err(why),
            };
            let (channel, refused) = match answered {
                Ok(refused) => refused,
                Err(why) => {
                    unreachable.push(why);
                    self.next();
                    if unreachable.len() < self.servers.len() {
                        continue;
                    }
                    // A single address is down. With several addresses, another coordinator may be about to lead.
                    if self.servers.len() == 1 || Instant::now() >= deadline {
                        return Err(Failure::new(Exit::Unreachable, unreachable.join("; ")));
                    }
                    unreachable.clear();
                    sleep(LEADER_POLL_INTERVAL).await;
                    continue;
                }
            };
            // Errors of a coordinator have a code. One without may come from another server.
            if refused.detail.is_none()
                && let Some(message) = port_probe::identify(self.server(), channel).await
            {
                return Err(Failure::new(Exit::Unreachable, message));
            }
            match &refused.detail {
                Some(detail) if detail.code == "not-leader" => {
                    if Instant::now() >= deadline {
                        return Err(refused);
                    }
                    let led = self.follow(&detail.leader);
                    if !led {
                        sleep(LEADER_POLL_INTERVAL).await;
                    }
                }
                None if refused.exit == Exit::Unreachable => {
                    let why = format!("{}: the connection broke ({})", self.server(), refused.message);
                    broken.get_or_insert(why.clone());
                    breaks += 1;
                    self.next();
                    if matches!(retry, Retry::Never { .. }) || breaks > self.servers.len() {
                        return Err(Failure::new(Exit::Unreachable, why));
                    }
                }
                Some(_) | None => return Err(refused),
            }
        }
    }

    async fn channel(&mut self) -> Result<Channel, String> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = connect(self.server()).await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    fn next(&mut self) {
        self.channel = None;
        self.current = (self.current + 1) % self.servers.len();
    }

    /// Selects the leader that a coordinator named; false if it named none, or the coordinator itself.
    fn follow(&mut self, leader: &str) -> bool {
        let Ok(leader) = address(leader) else {
            self.next();
            return false;
        };
        if leader == self.server() {
            self.channel = None;
            return false;
        }
        self.channel = None;
        match self.servers.iter().position(|server| *server == leader) {
            Some(known) => self.current = known,
            None if self.servers.len() < SERVERS_MAX => {
                self.servers.push(leader);
                self.current = self.servers.len() - 1;
            }
            None => self.next(),
        }
        true
    }
}

/// Returns true if a call failed because no connection could be opened, so that the server cannot have received it.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns the failure of a call that may have changed something: the connection broke, and no later attempt succeeded.
fn unknown_outcome(broken: &str, last: &Failure, inspect: &str) -> Failure {
    let last = match last.message.as_str() {
        message if message == broken => String::new(),
        message => format!("; another try failed ({message})"),
    };
    let message = format!(
        "{broken} when the request may have been sent already{last}: it is unknown whether it took effect; see \
         `{inspect}` before trying again"
    );
    Failure {
        detail: Some(ErrorDetail {
            code: "outcome-unknown".to_string(),
            ..ErrorDetail::default()
        }),
        ..Failure::new(Exit::Unreachable, message)
    }
}

/// Opens a connection to a coordinator.
pub async fn connect(server: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(server.to_string())
        .and_then(|endpoint| endpoint.user_agent(concat!("engine-cli/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| format!("{server}: not an address: {error}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        format!("{server}: cannot be reached: {cause}; check that a coordinator runs there, or select another address with --server, \
             MILLSTREAM_SERVER or a context")
    })
}

#[cfg(test)]
mod tests;
