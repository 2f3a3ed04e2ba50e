//! The topic of markers: its creation, and the check that it is fit for markers.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::Error;
use crate::kafka::client::{self, REQUEST_TIMEOUT};
use crate::kafka::client_config::creation_error;
use crate::kafka::error_code;

/// Number of partitions with markers. A topic may have more, which stay empty; fewer are refused. Never changes.
pub const PARTITIONS: i32 = 16;
/// Settings of a topic that this connector creates, with small segments, because only closed segments are compacted.
const TOPIC_CONFIG: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "86400000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

/// Creates the topic if it does not exist, and checks that it is compacted.
pub async fn ensure(connection: &ClientConfig, topic: &str) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = connection
        .create()
        .map_err(|error| creation_error(connection, &error))?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    if partitions_of(&admin, topic)? == 0 {
        let new = TOPIC_CONFIG.iter().fold(
            NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1)),
            |new, (name, value)| new.set(name, value),
        );
        let created = admin.create_topics([&new], &options).await;
        let created = created.map_err(|error| {
            let message = format!("Kafka topic `{topic}` cannot be created: {error}");
            error_code::error(error.rdkafka_error_code(), message)
        })?;
        for result in created {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => {
                    let message = format!(
                        "Kafka topic `{topic}` cannot be created: {code}. Exactly-once delivery needs it for the markers \
                         of published epochs: create it by hand, with {PARTITIONS} partitions and cleanup.policy=compact"
                    );
                    return Err(error_code::error(Some(code), message));
                }
            }
        }
        wait_for_leaders(&admin, topic).await?;
    }
    let partitions = partitions_of(&admin, topic)?;
    if partitions < PARTITIONS {
        return Err(Error::Invalid(format!(
            "Kafka topic `{topic}` has {partitions} partitions; exactly-once delivery needs {PARTITIONS} for its \
             markers: create it with that many, or name another with 'sink.markers-topic'"
        )));
    }
    match client::setting(
        connection,
        ResourceSpecifier::Topic(topic),
        "cleanup.policy",
        REQUEST_TIMEOUT,
    )
    .await
    {
        Some(policy) if policy != "compact" => Err(Error::Invalid(format!(
            "Kafka topic `{topic}` has cleanup.policy={policy}: the markers of published epochs would be deleted, and \
             rows written twice; set it to compact, or name another topic with 'sink.markers-topic'"
        ))),
        _ => Ok(()),
    }
}

/// Returns true if the topic of markers exists. Blocks.
pub fn exists(connection: &ClientConfig, topic: &str) -> Result<bool, Error> {
    let admin: AdminClient<DefaultClientContext> = connection
        .create()
        .map_err(|error| creation_error(connection, &error))?;
    Ok(partitions_of(&admin, topic)? > 0)
}

/// Returns the number of partitions that have a leader; 0 if the topic does not exist.
fn partitions_of(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<i32, Error> {
    // All topics are requested, because a request for one would make the brokers create it with other settings.
    let metadata = admin.inner().fetch_metadata(None, REQUEST_TIMEOUT).map_err(|error| {
        error_code::error(
            error.rdkafka_error_code(),
            format!("Kafka: the topics cannot be listed: {error}"),
        )
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let ready = found.map_or(0, |topic| {
        topic
            .partitions()
            .iter()
            .filter(|partition| partition.leader() >= 0)
            .count()
    });
    Ok(i32::try_from(ready).unwrap_or(i32::MAX))
}

/// Waits until all partitions of a new topic have leaders.
async fn wait_for_leaders(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<(), Error> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    while partitions_of(admin, topic)? < PARTITIONS {
        if Instant::now() >= deadline {
            return Err(Error::Unavailable(format!(
                "Kafka topic `{topic}` was created, but its partitions have no leaders after {} s",
                REQUEST_TIMEOUT.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
