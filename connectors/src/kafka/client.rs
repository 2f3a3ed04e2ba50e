//! From `properties.*` to a librdkafka client, and from its failures to sentences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientConfig, Message};

use super::explain;
use super::reach::Reach;
use crate::{Error, Role};

/// How long to wait for an answer of the cluster when a job starts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What librdkafka calls its words about a connection that broke or was not made.
const CONNECTION_FAILED: &str = "FAIL";

/// Topics that an error names, at most.
const TOPICS_NAMED_MAX: usize = 20;

/// Properties of the Java client that have no meaning here, or are set by other options.
const IGNORED: [&str; 13] = [
    "key.deserializer",
    "value.deserializer",
    "key.serializer",
    "value.serializer",
    "auto.offset.reset",
    "enable.auto.commit",
    "auto.commit.interval.ms",
    "partition.discovery.interval.ms",
    "client.id.prefix",
    "max.poll.records",
    "partitioner.class",
    "buffer.memory",
    "transaction.timeout.ms",
];

/// Settings that the connector relies on; what users say wins over the second kind.
const SOURCE_FIXED: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    // A lost offset is an error to decide about, never a silent jump.
    ("auto.offset.reset", "error"),
];
const SOURCE_DEFAULTS: [(&str, &str); 5] = [
    // The Java client's default.
    ("isolation.level", "read_uncommitted"),
    ("queued.min.messages", "100000"),
    ("queued.max.messages.kbytes", "32768"),
    // After the prefetch queue was full, ask again soon: the default of a second starves a fast reader.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "100"),
];
const SINK_DEFAULTS: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    // The Java client's hash of keys, so that both write a key to the same partition.
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    ("queue.buffering.max.messages", "2000000"),
    ("queue.buffering.max.kbytes", "1048576"),
    ("message.max.bytes", "10485760"),
];

/// The client's configuration; an error names the property.
pub fn config(brokers: &str, properties: &BTreeMap<&str, &str>, role: Role) -> Result<ClientConfig, (String, String)> {
    let mut config = ClientConfig::new();
    config.set("client.id", "millstream");
    let defaults: &[_] = match role {
        Role::Source => &SOURCE_DEFAULTS,
        Role::Sink => &SINK_DEFAULTS,
    };
    for (name, value) in defaults {
        config.set(*name, *value);
    }
    for (name, value) in properties {
        match *name {
            "sasl.jaas.config" => {
                let (user, password) = jaas(value).ok_or_else(|| {
                    let message = "cannot read a user name and password from it; write properties.sasl.username and \
                                   properties.sasl.password instead";
                    ((*name).to_string(), message.to_string())
                })?;
                config.set("sasl.username", user).set("sasl.password", password);
            }
            "sasl.mechanism" | "sasl.mechanisms" => {
                if let Some(message) = explain::wrong_mechanism(value) {
                    return Err(((*name).to_string(), message));
                }
                config.set(*name, value.trim().to_ascii_uppercase());
            }
            "security.protocol" => {
                config.set(*name, value.to_ascii_lowercase());
            }
            "group.id" if role == Role::Sink => {}
            "transactional.id" => {
                let message = "transactional ids are made by the sink; their beginning is 'sink.transactional-id-prefix', \
                               together with 'sink.delivery-guarantee' = 'exactly-once'";
                return Err(((*name).to_string(), message.to_string()));
            }
            name if IGNORED.contains(&name) => {}
            name if name.starts_with("ssl.truststore") || name.starts_with("ssl.keystore.type") => {
                let message = "Java key stores cannot be read; convert to PEM and write properties.ssl.ca.location, \
                               properties.ssl.certificate.location and properties.ssl.key.location";
                return Err((name.to_string(), message.to_string()));
            }
            name => {
                config.set(name, *value);
                // Each on its own, so that the error names the right one.
                check_property(name, value)?;
            }
        }
    }
    config.set("bootstrap.servers", brokers);
    if role == Role::Source {
        for (name, value) in SOURCE_FIXED {
            config.set(name, value);
        }
        if config.get("group.id").is_none() {
            // librdkafka wants a name even where no group is used.
            config.set("group.id", "millstream");
        }
    }
    config
        .create_native_config()
        .map_err(|error| ("bootstrap.servers".to_string(), error.to_string()))?;
    Ok(config)
}

/// The part of a configuration that every kind of client understands: how to reach the cluster.
pub fn connection(config: &ClientConfig) -> ClientConfig {
    const OF_CONNECTIONS: [&str; 11] = [
        "bootstrap.servers",
        "metadata.broker.list",
        "broker.",
        "client.",
        "security.",
        "sasl.",
        "ssl.",
        "enable.ssl.",
        "enable.sasl.",
        "socket.",
        "reconnect.",
    ];
    let mut connection = ClientConfig::new();
    // Brokers that close a connection are spoken of at this level, and in the log only.
    connection.set_log_level(RDKafkaLogLevel::Info);
    // The map hides secrets; `get` does not.
    for name in config.config_map().keys() {
        if OF_CONNECTIONS.iter().any(|prefix| name.starts_with(prefix))
            && let Some(value) = config.get(name)
        {
            connection.set(*name, value);
        }
    }
    connection
}

fn check_property(name: &str, value: &str) -> Result<(), (String, String)> {
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    alone.create_native_config().map(drop).map_err(|error| {
        let message = match error {
            KafkaError::ClientConfig(rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
                let near = millstream_proto::spec::did_you_mean(
                    name,
                    [
                        "bootstrap.servers",
                        "group.id",
                        "security.protocol",
                        "sasl.mechanism",
                        "sasl.username",
                        "sasl.password",
                        "ssl.ca.location",
                        "client.id",
                        "compression.type",
                        "linger.ms",
                        "acks",
                    ],
                );
                format!("the Kafka client (librdkafka) has no property `{name}`{near}")
            }
            // The value may be a secret: it is not repeated.
            _ => format!("the Kafka client (librdkafka) refuses this value for `{name}`"),
        };
        (name.to_string(), message)
    })
}

/// `...LoginModule required username="u" password="p";`
fn jaas(text: &str) -> Option<(String, String)> {
    let value = |key: &str| {
        let rest = &text[text.find(&format!("{key}="))? + key.len() + 1..];
        let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
        rest[1..].split(quote).next().map(String::from)
    };
    Some((value("username")?, value("password")?))
}

/// Epoch and size of a record that left, and why it failed if it did.
type OnDelivery = dyn Fn(usize, usize, Option<String>) + Send + Sync;

/// What librdkafka says outside of any call.
pub struct Context {
    /// The last problem it spoke of: usually the reason why nothing arrives.
    last_problem: Mutex<Option<String>>,
    /// A problem that does not go away by waiting.
    failure: Mutex<Option<String>>,
    deliveries: Option<Box<OnDelivery>>,
    /// Is told when no broker can be reached.
    reach: Option<Arc<Reach>>,
}

impl Context {
    pub fn new() -> Self {
        Self {
            last_problem: Mutex::new(None),
            failure: Mutex::new(None),
            deliveries: None,
            reach: None,
        }
    }

    /// Of a client that reads or writes for as long as a job runs.
    pub fn reaching(reach: Arc<Reach>) -> Self {
        Self {
            reach: Some(reach),
            ..Self::new()
        }
    }

    /// `on_delivery` is told of each record that left.
    pub fn with_deliveries(self, on_delivery: impl Fn(usize, usize, Option<String>) + Send + Sync + 'static) -> Self {
        Self {
            deliveries: Some(Box::new(on_delivery)),
            ..self
        }
    }

    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().clone().map(Error::Unavailable)
    }

    pub fn last_problem(&self) -> Option<String> {
        self.last_problem.lock().clone()
    }

    fn note(&self, error: &KafkaError, reason: &str) {
        let text = if reason.is_empty() {
            error.to_string()
        } else {
            reason.to_string()
        };
        if error.rdkafka_error_code().is_some_and(is_final) {
            let cause = explain::connection("", &text).unwrap_or_else(|| text.clone());
            self.failure.lock().get_or_insert(format!("Kafka: {cause}"));
        }
        // That all brokers are down says less than why each of them is.
        let says_why = !reason.is_empty() && error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown);
        let mut last_problem = self.last_problem.lock();
        if says_why || last_problem.is_none() {
            *last_problem = Some(text);
        }
    }
}

fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
    )
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", "{facility}: {message}"),
            _ => tracing::debug!(target: "kafka", "{facility}: {message}"),
        }
        if facility != CONNECTION_FAILED {
            return;
        }
        // `[thrd:NAME]: BROKER: PROBLEM`
        let problem = message.split_once("]: ").map_or(message, |(_, problem)| problem);
        *self.last_problem.lock() = Some(problem.to_string());
        if let Some(reach) = &self.reach {
            reach.suspect();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", "{error}: {reason}");
        self.note(&error, reason);
        let is_cut_off = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve
            )
        );
        if let (Some(reach), true) = (&self.reach, is_cut_off) {
            reach.suspect();
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    /// The epoch that the record belongs to.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, epoch: usize) {
        let Some(on_delivery) = &self.deliveries else { return };
        match result {
            Ok(message) => on_delivery(epoch, message.payload_len(), None),
            Err((error, message)) => on_delivery(epoch, message.payload_len(), Some(error.to_string())),
        }
    }
}

/// A request that blocks, where that does not matter.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Unavailable(format!("a request to Kafka was given up: {error}"))),
    }
}

/// All topics of the cluster. Blocks, so long at most.
pub fn metadata(consumer: &BaseConsumer<Context>, brokers: &str, timeout: Duration) -> Result<Metadata, Error> {
    consumer
        .fetch_metadata(None, timeout)
        .map_err(|error| cannot_reach(brokers, &problem_of(consumer, &error), timeout))
}

/// The error of a request, with what librdkafka said about the connection.
pub fn unreachable(consumer: &BaseConsumer<Context>, brokers: &str, error: &KafkaError) -> Error {
    cannot_reach(brokers, &problem_of(consumer, error), REQUEST_TIMEOUT)
}

/// Why a request failed, as far as librdkafka has said it.
pub fn problem_of(consumer: &BaseConsumer<Context>, error: &KafkaError) -> String {
    drain_events(consumer);
    let said = consumer.context().last_problem();
    said.unwrap_or_else(|| error.to_string())
}

/// The error of a client that librdkafka refuses to make.
pub fn refused(config: &ClientConfig, error: &KafkaError) -> Error {
    let said = match error {
        KafkaError::ClientCreation(said) => said.clone(),
        error => error.to_string(),
    };
    Error::Invalid(explain::refused(config, &said))
}

pub fn cannot_reach(brokers: &str, problem: &str, within: Duration) -> Error {
    if let Some(cause) = explain::connection(brokers, problem) {
        return Error::Unavailable(format!(
            "the Kafka brokers `{brokers}` do not answer within {} s: {cause}",
            within.as_secs()
        ));
    }
    Error::Unavailable(format!(
        "the Kafka brokers `{brokers}` do not answer within {} s ({problem}): check 'properties.bootstrap.servers', and \
         that the cluster is up",
        within.as_secs()
    ))
}

/// Lets the client hand over what it has to say. No messages are expected from it.
fn drain_events(consumer: &BaseConsumer<Context>) {
    for _ in 0..32 {
        if let Some(Err(error)) = consumer.poll(Duration::from_millis(1)) {
            consumer.context().note(&error, "");
        }
    }
}

impl Context {
    /// Like `drain_events`, once and without waiting; for a consumer that is reading.
    pub fn serve(consumer: &BaseConsumer<Context>) -> Result<(), Error> {
        while let Some(event) = consumer.poll(Duration::ZERO) {
            match event {
                Err(error) => consumer.context().note(&error, ""),
                Ok(message) => {
                    return Err(Error::Unavailable(format!(
                        "Kafka: a record of `{}-{}` arrived outside its queue; restart the job",
                        message.topic(),
                        message.partition()
                    )));
                }
            }
        }
        match consumer.context().failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The names of topics that exist: one that is about to has no partitions yet.
pub fn topic_names(metadata: &Metadata) -> Vec<&str> {
    let topics = metadata.topics().iter();
    topics
        .filter(|topic| !topic.partitions().is_empty())
        .map(rdkafka::metadata::MetadataTopic::name)
        .collect()
}

/// An error that says which topics there are.
pub fn missing_topic(topic: &str, brokers: &str, names: &[&str]) -> Error {
    let names: Vec<&str> = names.iter().copied().filter(|name| !name.starts_with("__")).collect();
    let near = millstream_proto::spec::did_you_mean(topic, names.iter().copied());
    let there_are = match names.as_slice() {
        [] => "the cluster has no topics yet".to_string(),
        names if names.len() <= TOPICS_NAMED_MAX => format!("there are: {}", names.join(", ")),
        names => format!(
            "there are {} topics, among them: {}",
            names.len(),
            names[..TOPICS_NAMED_MAX].join(", ")
        ),
    };
    Error::Invalid(format!(
        "the topic `{topic}` does not exist at the Kafka brokers `{brokers}`{near} ({there_are}); create it, or correct 'topic'"
    ))
}
