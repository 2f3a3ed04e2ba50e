//! Reaching the coordinator that leads.
//!
//! Of several addresses the first that answers is taken; one that answers `not-leader` says where to go, and while
//! nobody leads the client waits a little. A call whose connection breaks half-way is tried again only where that can
//! do no harm; where it may have changed something and no answer came, the failure says that the outcome is unknown
//! ([`unknown_outcome`]). A call whose connection could not be opened was never sent and is no such case.

use std::time::Duration;

use millstream_proto::v1::ErrorDetail;
use millstream_proto::v1::checkpoint_service_client::CheckpointServiceClient;
use millstream_proto::v1::cluster_service_client::ClusterServiceClient;
use millstream_proto::v1::job_service_client::JobServiceClient;
use millstream_proto::v1::transaction_service_client::TransactionServiceClient;
use millstream_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::time::{Instant, sleep};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Request, Response, Status};

use crate::failure::{Exit, Failure, said};
use crate::wrong_port;

/// Where a coordinator listens if nobody says otherwise.
pub const SERVER_DEFAULT: &str = "http://127.0.0.1:7070";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection whose other end is silent for twice this is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long a fail-over may take before the client gives up.
const LEADER_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks for a leader.
const LEADER_PAUSE: Duration = Duration::from_millis(200);
/// Other addresses that a `not-leader` may name, at most.
const SERVERS_MAX: usize = 16;

/// A connection whose calls say which span causes them.
pub type Caused = InterceptedService<Channel, Cause>;
pub type Jobs = JobServiceClient<Caused>;
pub type Checkpoints = CheckpointServiceClient<Caused>;
pub type Workers = WorkerServiceClient<Caused>;
pub type Transactions = TransactionServiceClient<Caused>;
pub type Cluster = ClusterServiceClient<Caused>;

/// The span that this command belongs to, as the shell or the pipeline that runs it says in TRACEPARENT: the
/// coordinator's traces hang on it.
#[derive(Clone)]
pub struct Cause;

impl Interceptor for Cause {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let cause = std::env::var("TRACEPARENT").ok().and_then(|cause| cause.parse().ok());
        if let Some(cause) = cause {
            request.metadata_mut().insert("traceparent", cause);
        }
        Ok(request)
    }
}

pub fn jobs(channel: Channel) -> Jobs {
    JobServiceClient::with_interceptor(channel, Cause).max_decoding_message_size(ANSWER_BYTES_MAX)
}

pub fn checkpoints(channel: Channel) -> Checkpoints {
    CheckpointServiceClient::with_interceptor(channel, Cause).max_decoding_message_size(ANSWER_BYTES_MAX)
}

pub fn workers(channel: Channel) -> Workers {
    WorkerServiceClient::with_interceptor(channel, Cause).max_decoding_message_size(ANSWER_BYTES_MAX)
}

pub fn transactions(channel: Channel) -> Transactions {
    TransactionServiceClient::with_interceptor(channel, Cause).max_decoding_message_size(ANSWER_BYTES_MAX)
}

pub fn cluster(channel: Channel) -> Cluster {
    ClusterServiceClient::with_interceptor(channel, Cause).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Says whether a call may be repeated when it is unknown if the first one arrived. Calls that change something name
/// the command that shows whether they took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat<'a> {
    /// It only reads.
    ReadOnly,
    /// It changes something, but a second time changes nothing more.
    Harmless {
        look: &'a str,
    },
    Never {
        look: &'a str,
    },
}

impl<'a> Repeat<'a> {
    /// The command that shows whether a call took effect, if it changes anything.
    fn look(self) -> Option<&'a str> {
        match self {
            Self::ReadOnly => None,
            Self::Harmless { look } | Self::Never { look } => Some(look),
        }
    }
}

/// One cluster, by the addresses of its coordinators.
pub struct Client {
    servers: Vec<String>,
    /// The one to ask first.
    current: usize,
    channel: Option<Channel>,
}

impl Client {
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            current: 0,
            channel: None,
        }
    }

    pub fn server(&self) -> &str {
        &self.servers[self.current]
    }

    /// Makes a call on the coordinator that leads.
    pub async fn call<T>(
        &mut self,
        repeat: Repeat<'_>,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut broken = None;
        let result = self.call_until_answered(repeat, call, &mut broken).await;
        match (result, broken, repeat.look()) {
            (Err(failure), Some(broken), Some(look)) => Err(unknown_outcome(&broken, &failure, look)),
            (result, ..) => result,
        }
    }

    /// `broken` is set to the reason once a connection broke after the request may have been sent.
    async fn call_until_answered<T>(
        &mut self,
        repeat: Repeat<'_>,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
        broken: &mut Option<String>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + LEADER_PATIENCE;
        let mut breaks = 0;
        let mut unreachable: Vec<String> = Vec::new();
        loop {
            let answered = match self.channel().await {
                Ok(channel) => match call(channel.clone()).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) if was_never_sent(&status) => {
                        Err(format!("{}: cannot be reached: {}", self.server(), said(&status)))
                    }
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
                    // One address alone is down; of several, another may be about to lead.
                    if self.servers.len() == 1 || Instant::now() >= deadline {
                        return Err(Failure::new(Exit::Unreachable, unreachable.join("; ")));
                    }
                    unreachable.clear();
                    sleep(LEADER_PAUSE).await;
                    continue;
                }
            };
            // Every refusal of a coordinator has a code; what has none may be no coordinator's.
            if refused.detail.is_none()
                && let Some(wrong) = wrong_port::what_listens(self.server(), channel).await
            {
                return Err(Failure::new(Exit::Unreachable, wrong));
            }
            match &refused.detail {
                Some(detail) if detail.code == "not-leader" => {
                    if Instant::now() >= deadline {
                        return Err(refused);
                    }
                    let led = self.follow(&detail.leader);
                    if !led {
                        sleep(LEADER_PAUSE).await;
                    }
                }
                None if refused.exit == Exit::Unreachable => {
                    let why = format!("{}: the connection broke ({})", self.server(), refused.message);
                    broken.get_or_insert(why.clone());
                    breaks += 1;
                    self.next();
                    if matches!(repeat, Repeat::Never { .. }) || breaks > self.servers.len() {
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

    /// Goes where a coordinator pointed; false if it knows of no leader or there is nowhere new to go.
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

/// Returns true if a call failed because no connection could be opened for it, so that the server cannot know of it.
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

/// The failure of a call that may have changed something: the connection broke, and no later try was answered with
/// success.
fn unknown_outcome(broken: &str, last: &Failure, look: &str) -> Failure {
    let last = match last.message.as_str() {
        message if message == broken => String::new(),
        message => format!("; another try failed ({message})"),
    };
    let message = format!(
        "{broken} when the request may have been sent already{last}: it is unknown whether it took effect; see \
         `{look}` before trying again"
    );
    Failure {
        detail: Some(ErrorDetail {
            code: "outcome-unknown".to_string(),
            ..ErrorDetail::default()
        }),
        ..Failure::new(Exit::Unreachable, message)
    }
}

/// Opens a connection: the one place where it is decided how.
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
        format!("{server}: cannot be reached: {cause}; is a coordinator running there? (--server, MILLSTREAM_SERVER or a context says where to look)")
    })
}

/// An address as people write it, in full.
pub fn address(text: &str) -> Result<String, String> {
    let text = text.trim();
    // Of `bogus://` nothing is cut: what is left would read like a host.
    let text = match text.strip_suffix('/') {
        Some(host) if !host.ends_with('/') => host,
        _ => text,
    };
    if text.is_empty() {
        return Err("an address is empty; write http://HOST:7070".to_string());
    }
    if text.starts_with("https://") {
        return Err(format!("{text}: TLS is not spoken yet; write http://HOST:PORT"));
    }
    let full = if text.contains("://") {
        text.to_string()
    } else {
        format!("http://{text}")
    };
    let uri: tonic::codegen::http::Uri = full
        .parse()
        .map_err(|error| format!("{text}: not an address: {error}; write http://HOST:PORT"))?;
    let is_cut_short = uri
        .authority()
        .is_some_and(|authority| authority.as_str().ends_with(':'));
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) || uri.path().len() > 1 || is_cut_short
    {
        return Err(format!("{text}: not an address; write http://HOST:PORT"));
    }
    Ok(match uri.port() {
        Some(_) => full,
        None => format!("{full}:7070"),
    })
}

/// Addresses separated by commas.
pub fn addresses(text: &str) -> Result<Vec<String>, String> {
    let addresses: Vec<String> = text.split(',').map(address).collect::<Result<_, _>>()?;
    if addresses.len() > SERVERS_MAX {
        return Err(format!("more than {SERVERS_MAX} addresses (SERVERS_MAX)"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests;
