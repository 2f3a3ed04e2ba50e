//! Whether the topics of a job exist, asked when it is submitted.
//!
//! Each cluster that the job's tables name is asked once for all its topics, however many tables are there; all
//! clusters at a time. A topic that is read must exist. One that is written may be missing where the brokers make
//! topics by themselves: they are asked for that setting, and only then. Asking for one topic by name would make it, so
//! it is not done. A pattern may match nothing yet. What these credentials may not see counts as existing: the start of
//! the job tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;

use super::client::{self, Context, blocking};
use super::first;
use super::options::{SinkOptions, SourceOptions, Topics};
use crate::{Error, Role, TableDefinition};

/// How long somebody who submits a job waits for brokers that may be down.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// The brokers' setting.
const MAKES_TOPICS: &str = "auto.create.topics.enable";

/// What a table needs of its cluster.
struct Wanted {
    table: Arc<TableDefinition>,
    role: Role,
    brokers: String,
    connection: ClientConfig,
    /// None where a pattern says which.
    names: Vec<String>,
}

/// Equal for tables that one connection serves.
type Identity = Vec<(String, String)>;

/// What is known of a cluster.
struct Known {
    topics: Vec<String>,
    /// Any broker, for questions about their settings.
    broker: Option<i32>,
}

/// An answer for each table, in their order.
pub async fn topics(tables: Vec<(Role, Arc<TableDefinition>)>) -> Vec<Result<(), Error>> {
    let mut answers: Vec<Result<(), Error>> = tables.iter().map(|_| Ok(())).collect();
    let mut clusters: BTreeMap<Identity, Vec<(usize, Wanted)>> = BTreeMap::new();
    for (index, (role, table)) in tables.into_iter().enumerate() {
        match wanted(role, table) {
            Ok(wanted) => clusters
                .entry(identity(&wanted.connection))
                .or_default()
                .push((index, wanted)),
            Err(error) => answers[index] = Err(error),
        }
    }
    let found = join_all(clusters.into_values().map(in_cluster)).await;
    for (index, answer) in found.into_iter().flatten() {
        answers[index] = answer;
    }
    answers
}

fn wanted(role: Role, table: Arc<TableDefinition>) -> Result<Wanted, Error> {
    let (client, brokers, names) = match role {
        Role::Source => {
            let options = SourceOptions::of(&table).map_err(|errors| first(&table, errors))?;
            let names = match options.topics {
                Topics::Names(names) => names,
                Topics::Pattern(_) => Vec::new(),
            };
            (options.client, options.brokers, names)
        }
        Role::Sink => {
            let options = SinkOptions::of(&table).map_err(|errors| first(&table, errors))?;
            (options.client, options.brokers, vec![options.topic])
        }
    };
    Ok(Wanted {
        table,
        role,
        brokers,
        connection: client::connection(&client),
        names,
    })
}

fn identity(connection: &ClientConfig) -> Identity {
    let known = connection.config_map();
    let mut settings: Identity = known
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

async fn in_cluster(tables: Vec<(usize, Wanted)>) -> Vec<(usize, Result<(), Error>)> {
    let Some((_, any)) = tables.first() else {
        return Vec::new();
    };
    let (connection, brokers) = (any.connection.clone(), any.brokers.clone());
    let asked = {
        let connection = connection.clone();
        blocking(move || ask(&connection, &brokers)).await
    };
    let known = match asked {
        Ok(known) => known,
        Err(error) => {
            // The same for all of them, so that it is told once.
            let mut names: Vec<String> = tables
                .iter()
                .map(|(_, wanted)| format!("`{}`", wanted.table.name))
                .collect();
            names.dedup();
            let reason = match names.as_slice() {
                [name] => format!("table {name}: {error}"),
                names => format!("tables {}: {error}", names.join(", ")),
            };
            let told = || match error {
                Error::Invalid(_) => Error::Invalid(reason.clone()),
                _ => Error::Unavailable(reason.clone()),
            };
            return tables.iter().map(|(index, _)| (*index, Err(told()))).collect();
        }
    };
    let is_missing = |name: &str| !known.topics.iter().any(|topic| topic == name);
    let writes_missing =
        |wanted: &Wanted| wanted.role == Role::Sink && wanted.names.iter().any(|name| is_missing(name));
    let may_be_made = match tables.iter().any(|(_, wanted)| writes_missing(wanted)) {
        true => make_topics(&connection, known.broker).await,
        false => false,
    };
    let answer = |wanted: &Wanted| {
        let missing = wanted.names.iter().find(|name| is_missing(name));
        match missing {
            Some(name) if wanted.role == Role::Source || !may_be_made => {
                let topics: Vec<&str> = known.topics.iter().map(String::as_str).collect();
                let error = client::missing_topic(name, &wanted.brokers, &topics);
                Err(Error::Invalid(format!("table `{}`: {error}", wanted.table.name)))
            }
            _ => Ok(()),
        }
    };
    tables.iter().map(|(index, wanted)| (*index, answer(wanted))).collect()
}

/// Blocks.
fn ask(connection: &ClientConfig, brokers: &str) -> Result<Known, Error> {
    let consumer: BaseConsumer<Context> = connection
        .clone()
        .set("group.id", "millstream")
        .create_with_context(Context::new())
        .map_err(|error| client::refused(connection, &error))?;
    let metadata = client::metadata(&consumer, brokers, LOOK_UP_TIMEOUT)?;
    Ok(Known {
        topics: client::topic_names(&metadata).into_iter().map(String::from).collect(),
        broker: metadata.brokers().first().map(rdkafka::metadata::MetadataBroker::id),
    })
}

/// Whether the brokers make a topic when somebody writes to it; where they do not say, they may.
async fn make_topics(connection: &ClientConfig, broker: Option<i32>) -> bool {
    let Some(broker) = broker else { return true };
    let admin: Result<AdminClient<DefaultClientContext>, _> = connection.create();
    let options = AdminOptions::new().request_timeout(Some(LOOK_UP_TIMEOUT));
    let found = match admin {
        Ok(admin) => {
            let broker = ResourceSpecifier::Broker(broker);
            admin.describe_configs([&broker], &options).await
        }
        Err(error) => Err(error),
    };
    let setting = match found.map(|found| found.into_iter().next()) {
        Ok(Some(Ok(resource))) => resource.get(MAKES_TOPICS).and_then(|setting| setting.value.clone()),
        Ok(Some(Err(code))) => {
            tracing::debug!(target: "kafka", "settings of the brokers cannot be seen: {code}");
            None
        }
        Ok(None) => None,
        Err(error) => {
            tracing::debug!(target: "kafka", "settings of the brokers cannot be seen: {error}");
            None
        }
    };
    setting.is_none_or(|setting| setting != "false")
}
