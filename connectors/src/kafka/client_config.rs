//! The configuration of librdkafka clients from the options `properties.*` of a table.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::error_causes;
use crate::{Error, Role};

/// Properties of the Java client that librdkafka does not have or that other options set.
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

/// Properties that the connector depends on. They take precedence over those of the user.
const SOURCE_FIXED: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    // A lost offset is an error, never a silent reset.
    ("auto.offset.reset", "error"),
];
/// Defaults of sources, which properties of the user override.
const SOURCE_DEFAULTS: [(&str, &str); 5] = [
    // The Java client's default.
    ("isolation.level", "read_uncommitted"),
    ("queued.min.messages", "100000"),
    ("queued.max.messages.kbytes", "32768"),
    // Fetch again soon after the prefetch queue was full: the default of one second starves a fast reader.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "100"),
];
/// Defaults of sinks, which properties of the user override.
const SINK_DEFAULTS: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    // The Java client's hash of keys, so that both clients write a key to the same partition.
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    ("queue.buffering.max.messages", "2000000"),
    ("queue.buffering.max.kbytes", "1048576"),
    ("message.max.bytes", "10485760"),
];

/// Returns the configuration of a client.
///
/// # Errors
///
/// The name of a property and the problem with it.
pub(super) fn from_properties(
    brokers: &str,
    properties: &BTreeMap<&str, &str>,
    role: Role,
) -> Result<ClientConfig, (String, String)> {
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
                let (user, password) = parse_jaas(value).ok_or_else(|| {
                    let message = "it has no user name and password; write properties.sasl.username and \
                                   properties.sasl.password instead";
                    ((*name).to_string(), message.to_string())
                })?;
                config.set("sasl.username", user).set("sasl.password", password);
            }
            "sasl.mechanism" | "sasl.mechanisms" => {
                if let Some(message) = error_causes::explain_unknown_mechanism(value) {
                    return Err(((*name).to_string(), message));
                }
                config.set(*name, value.trim().to_ascii_uppercase());
            }
            "security.protocol" => {
                config.set(*name, value.to_ascii_lowercase());
            }
            "group.id" | "isolation.level" if role == Role::Sink => {}
            "transactional.id" => {
                let message = "the sink creates the transactional ids; set 'sink.transactional-id-prefix' and \
                               'sink.delivery-guarantee' = 'exactly-once' instead";
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
                // Checked one by one, so that the error names the property.
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
            // librdkafka requires a group id even if no group is used.
            config.set("group.id", "millstream");
        }
    }
    config
        .create_native_config()
        .map_err(|error| ("bootstrap.servers".to_string(), error.to_string()))?;
    Ok(config)
}

/// Returns the properties of a configuration that concern connections, which are valid for every kind of client.
pub(super) fn connection_config(config: &ClientConfig) -> ClientConfig {
    const PREFIXES: [&str; 11] = [
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
    // librdkafka reports connections that brokers close at this level, and only in the log.
    connection.set_log_level(RDKafkaLogLevel::Info);
    // The map masks secrets; `get` does not.
    for name in config.config_map().keys() {
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix))
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
            // The message leaves out the value, which may be a secret.
            _ => format!("the Kafka client (librdkafka) refuses this value for `{name}`"),
        };
        (name.to_string(), message)
    })
}

/// Parses the user name and password of `...LoginModule required username="u" password="p";`.
fn parse_jaas(text: &str) -> Option<(String, String)> {
    let value = |key: &str| {
        let rest = &text[text.find(&format!("{key}="))? + key.len() + 1..];
        let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
        rest[1..].split(quote).next().map(String::from)
    };
    Some((value("username")?, value("password")?))
}

/// Returns the error of a client that librdkafka refuses to create.
pub(super) fn creation_error(config: &ClientConfig, error: &KafkaError) -> Error {
    let text = match error {
        KafkaError::ClientCreation(text) => text.clone(),
        error => error.to_string(),
    };
    Error::Invalid(error_causes::explain_refused_config(config, &text))
}
