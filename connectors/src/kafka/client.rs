//! Requests to a cluster, and their errors.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;

use super::client_config::creation_error;
use super::client_context::Context;
use super::error_causes;
use super::error_code;
use crate::Error;

/// Timeout of a request when a job starts.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Most topics that an error names.
const TOPICS_NAMED_MAX: usize = 20;

/// Runs a blocking request on a blocking thread of the runtime.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Unavailable(format!(
            "a request to Kafka was interrupted: {error}"
        ))),
    }
}

/// Returns all topics of the cluster. Blocks for `timeout` at most.
pub(super) fn metadata(consumer: &BaseConsumer<Context>, brokers: &str, timeout: Duration) -> Result<Metadata, Error> {
    consumer
        .fetch_metadata(None, timeout)
        .map_err(|error| connection_error(consumer, brokers, &error, timeout))
}

/// Returns the error of a request, with librdkafka's latest problem of the connection.
pub(super) fn request_error(consumer: &BaseConsumer<Context>, brokers: &str, error: &KafkaError) -> Error {
    connection_error(consumer, brokers, error, REQUEST_TIMEOUT)
}

fn connection_error(consumer: &BaseConsumer<Context>, brokers: &str, error: &KafkaError, timeout: Duration) -> Error {
    let problem = problem_of(consumer, error);
    unreachable_error(consumer.context(), brokers, &problem, timeout)
}

/// Returns the reason why a request failed: librdkafka's latest problem, or else the error itself.
pub(super) fn problem_of(consumer: &BaseConsumer<Context>, error: &KafkaError) -> String {
    Context::drain_events(consumer);
    let problem = consumer.context().last_problem();
    problem.unwrap_or_else(|| error.to_string())
}

/// Returns the error of brokers that do not answer a request. It is permanent if the client has failed for a permanent
/// cause, such as missing rights.
pub(super) fn unreachable_error(context: &Context, brokers: &str, problem: &str, timeout: Duration) -> Error {
    let within = format!(
        "the Kafka brokers `{brokers}` do not answer within {} s",
        timeout.as_secs()
    );
    let message = match error_causes::explain_connection(brokers, problem) {
        Some(cause) => format!("{within}: {cause}"),
        None => format!("{within} ({problem}): check 'properties.bootstrap.servers', and that the cluster is up"),
    };
    error_code::error(context.failure_code(), message)
}

/// Returns the names of existing topics. A topic that is being created has no partitions yet and is left out.
pub(super) fn topic_names(metadata: &Metadata) -> Vec<&str> {
    let topics = metadata.topics().iter();
    topics
        .filter(|topic| !topic.partitions().is_empty())
        .map(rdkafka::metadata::MetadataTopic::name)
        .collect()
}

/// Returns the error of a topic that does not exist, with the names of topics that do.
pub(super) fn missing_topic_error(topic: &str, brokers: &str, names: &[&str]) -> Error {
    let names: Vec<&str> = names.iter().copied().filter(|name| !name.starts_with("__")).collect();
    let near = millstream_proto::spec::did_you_mean(topic, names.iter().copied());
    let existing = match names.as_slice() {
        [] => "the cluster has no topics yet".to_string(),
        names if names.len() <= TOPICS_NAMED_MAX => format!("there are: {}", names.join(", ")),
        names => format!(
            "there are {} topics, among them: {}",
            names.len(),
            names[..TOPICS_NAMED_MAX].join(", ")
        ),
    };
    Error::Invalid(format!(
        "the topic `{topic}` does not exist at the Kafka brokers `{brokers}`{near} ({existing}); create it, or correct 'topic'"
    ))
}

/// Creates a consumer for requests, which reads no records. `connection` has properties of connections only.
pub(super) fn request_consumer(connection: &ClientConfig) -> Result<BaseConsumer<Context>, Error> {
    connection
        .clone()
        .set("group.id", "millstream")
        .create_with_context(Context::new())
        .map_err(|error| creation_error(connection, &error))
}

/// Returns a setting of a topic or a broker; `None` if it cannot be read. `connection` has properties of connections
/// only.
pub(super) async fn setting(
    connection: &ClientConfig,
    resource: ResourceSpecifier<'_>,
    name: &str,
    timeout: Duration,
) -> Option<String> {
    let admin: Result<AdminClient<DefaultClientContext>, KafkaError> = connection.create();
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let found = match admin {
        Ok(admin) => admin.describe_configs([&resource], &options).await,
        Err(error) => Err(error),
    };
    let log = |reason: &dyn std::fmt::Display| {
        tracing::debug!(target: "kafka", "the setting {name} of {resource:?} cannot be read: {reason}");
    };
    match found.map(|found| found.into_iter().next()) {
        Ok(Some(Ok(resource))) => resource.get(name)?.value.clone(),
        Ok(Some(Err(code))) => {
            log(&code);
            None
        }
        Ok(None) => None,
        Err(error) => {
            log(&error);
            None
        }
    }
}
