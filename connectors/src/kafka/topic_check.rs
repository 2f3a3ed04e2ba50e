//! The check that a job's topics exist, when it is submitted.
//!
//! Each cluster is requested once for the topics of all its tables, all clusters at the same time. The topic of a
//! source must exist. The topic of a sink may be missing if the brokers create topics automatically, which is requested
//! only then. Topics are never requested by name, because that would create them. A pattern may match no topic yet. A
//! setting that the credentials do not give access to counts as allowing creation; the start of the job decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::ResourceSpecifier;

use super::client::{self, run_blocking};
use super::client_config::connection_config;
use super::first_mistake;
use super::options::{SinkOptions, SourceOptions, Topics};
use crate::{Error, Role, TableDefinition};

/// Timeout of each request.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// The brokers' setting for automatic creation of topics.
const AUTO_CREATE: &str = "auto.create.topics.enable";

/// The topics of one table.
struct TableTopics {
    table: Arc<TableDefinition>,
    role: Role,
    brokers: String,
    connection: ClientConfig,
    /// Names of the topics; empty for a pattern.
    names: Vec<String>,
}

/// Settings of a connection; equal for tables that can share one.
type ConnectionKey = Vec<(String, String)>;

/// The metadata of a cluster.
struct Cluster {
    topics: Vec<String>,
    /// Id of some broker, for requests about settings.
    broker: Option<i32>,
}

/// Checks that the topics of tables exist. Returns one result per table, in their order.
pub(super) async fn check_topics(tables: Vec<(Role, Arc<TableDefinition>)>) -> Vec<Result<(), Error>> {
    let mut answers: Vec<Result<(), Error>> = tables.iter().map(|_| Ok(())).collect();
    let mut clusters: BTreeMap<ConnectionKey, Vec<(usize, TableTopics)>> = BTreeMap::new();
    for (index, (role, table)) in tables.into_iter().enumerate() {
        match topics_of(role, table) {
            Ok(topics) => clusters
                .entry(connection_key(&topics.connection))
                .or_default()
                .push((index, topics)),
            Err(error) => answers[index] = Err(error),
        }
    }
    let found = join_all(clusters.into_values().map(check_cluster)).await;
    for (index, answer) in found.into_iter().flatten() {
        answers[index] = answer;
    }
    answers
}

fn topics_of(role: Role, table: Arc<TableDefinition>) -> Result<TableTopics, Error> {
    let (client, brokers, names) = match role {
        Role::Source => {
            let options = SourceOptions::of(&table).map_err(|errors| first_mistake(&table, errors))?;
            let names = match options.topics {
                Topics::Names(names) => names,
                Topics::Pattern(_) => Vec::new(),
            };
            (options.client, options.brokers, names)
        }
        Role::Sink => {
            let options = SinkOptions::of(&table).map_err(|errors| first_mistake(&table, errors))?;
            (options.client, options.brokers, vec![options.topic])
        }
    };
    Ok(TableTopics {
        table,
        role,
        brokers,
        connection: connection_config(&client),
        names,
    })
}

fn connection_key(connection: &ClientConfig) -> ConnectionKey {
    let known = connection.config_map();
    let mut settings: ConnectionKey = known
        .keys()
        .map(|name| {
            (
                (*name).to_string(),
                connection.get(name).unwrap_or_default().to_string(),
            )
        })
        .collect();
    settings.sort();
    settings
}

/// Checks the topics of the tables of one cluster.
async fn check_cluster(tables: Vec<(usize, TableTopics)>) -> Vec<(usize, Result<(), Error>)> {
    let Some((_, any)) = tables.first() else {
        return Vec::new();
    };
    let (connection, brokers) = (any.connection.clone(), any.brokers.clone());
    let requested = {
        let connection = connection.clone();
        run_blocking(move || request_metadata(&connection, &brokers)).await
    };
    let cluster = match requested {
        Ok(cluster) => cluster,
        Err(error) => {
            // One message for all tables, so that it is reported once.
            let mut names: Vec<String> = tables
                .iter()
                .map(|(_, topics)| format!("`{}`", topics.table.name))
                .collect();
            names.dedup();
            let reason = match names.as_slice() {
                [name] => format!("table {name}: {error}"),
                names => format!("tables {}: {error}", names.join(", ")),
            };
            let repeated = || match error {
                Error::Invalid(_) => Error::Invalid(reason.clone()),
                _ => Error::Unavailable(reason.clone()),
            };
            return tables.iter().map(|(index, _)| (*index, Err(repeated()))).collect();
        }
    };
    let is_missing = |name: &str| !cluster.topics.iter().any(|topic| topic == name);
    let writes_missing =
        |topics: &TableTopics| topics.role == Role::Sink && topics.names.iter().any(|name| is_missing(name));
    let may_be_created = match tables.iter().any(|(_, topics)| writes_missing(topics)) {
        true => may_create_topics(&connection, cluster.broker).await,
        false => false,
    };
    let answer = |topics: &TableTopics| {
        let missing = topics.names.iter().find(|name| is_missing(name));
        match missing {
            Some(name) if topics.role == Role::Source || !may_be_created => {
                let existing: Vec<&str> = cluster.topics.iter().map(String::as_str).collect();
                let error = client::missing_topic_error(name, &topics.brokers, &existing);
                Err(Error::Invalid(format!("table `{}`: {error}", topics.table.name)))
            }
            _ => Ok(()),
        }
    };
    tables.iter().map(|(index, topics)| (*index, answer(topics))).collect()
}

/// Requests the metadata of a cluster. Blocks.
fn request_metadata(connection: &ClientConfig, brokers: &str) -> Result<Cluster, Error> {
    let consumer = client::request_consumer(connection)?;
    let metadata = client::metadata(&consumer, brokers, CHECK_TIMEOUT)?;
    Ok(Cluster {
        topics: client::topic_names(&metadata).into_iter().map(String::from).collect(),
        broker: metadata.brokers().first().map(rdkafka::metadata::MetadataBroker::id),
    })
}

/// Returns true unless the brokers are known not to create topics automatically.
async fn may_create_topics(connection: &ClientConfig, broker: Option<i32>) -> bool {
    let Some(broker) = broker else { return true };
    let broker = ResourceSpecifier::Broker(broker);
    let setting = client::setting(connection, broker, AUTO_CREATE, CHECK_TIMEOUT).await;
    setting.is_none_or(|setting| setting != "false")
}
