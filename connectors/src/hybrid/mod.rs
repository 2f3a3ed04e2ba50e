//! A table that is read from files first, its history, and then from a Kafka topic.
//!
//! All splits are listed when the job starts, partitions of the topic at the offsets after the history. A reader reads
//! its splits of the history, then its partitions ([`reader`]). So no offset depends on the progress of a run, and a
//! checkpoint at any time has the positions of both parts.

mod reader;
mod source;
mod split_id;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use futures::future::{BoxFuture, FutureExt};

use self::split_id::{HISTORY_SPLIT, TOPIC_SPLIT};
use crate::filesystem::Filesystem;
use crate::format;
use crate::kafka::Kafka;
use crate::options::option;
use crate::{
    Connector, Error, FlinkOption, OptionDescription, OptionEffect, OptionError, OptionKind, Role, Source, Split,
    TableDefinition,
};

/// Prefix of the options of the files.
const HISTORY: &str = "history.";
/// The option that says where the topic is read from, and its values that name the end of the history.
const STARTUP_MODE: &str = "scan.startup.mode";
const STARTUP_MODES: [&str; 2] = ["timestamp", "specific-offsets"];

/// Options of files that a history has not: it is complete, and read before the topic in any order.
const WITHOUT: [&str; 2] = ["source.monitor-interval", "source.ordered"];

static OPTIONS: LazyLock<Vec<OptionDescription>> = LazyLock::new(|| {
    let prefixed = |description: &OptionDescription| OptionDescription {
        name: format!("{HISTORY}{}", description.name).leak(),
        ..*description
    };
    let of_files = Filesystem.options(Role::Source).iter();
    let of_files = of_files.filter(|description| !WITHOUT.contains(&description.name));
    let format = option(
        "history.format",
        OptionKind::Text,
        None,
        "The format of the files; `format` if it is not given.",
    )
    .with_effect(OptionEffect::Rows);
    let of_formats = format::formats().iter().map(|format| {
        let name = format!("{HISTORY}{}.*", format.name).leak();
        let help = "An option of the format of the files; that of `format` if both have one format.";
        option(name, OptionKind::Text, None, help).with_effect(OptionEffect::Rows)
    });
    let of_topic = Kafka.options(Role::Source).iter().copied();
    let of_topic = of_topic.filter(|description| !description.name.starts_with("sink."));
    let of_history = of_files.map(prefixed).chain([format]).chain(of_formats);
    of_history.chain(of_topic).collect()
});

/// The connector `hybrid`.
pub struct Hybrid;

/// The tables of both parts.
struct Parts {
    history: TableDefinition,
    topic: TableDefinition,
}

impl Parts {
    fn of(table: &TableDefinition) -> Self {
        let mut topic = table.options.clone();
        topic.insert("connector".into(), "kafka".into());
        topic.retain(|name, _| !name.starts_with(HISTORY));
        let mut history: BTreeMap<String, String> = table
            .options
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(HISTORY)?.to_owned(), value.clone())))
            .collect();
        history.insert("connector".into(), "filesystem".into());
        let format = table.option("format").or_else(|| table.option("value.format"));
        if let Some(format) = format {
            let is_same = history.get("format").is_none_or(|of_history| of_history == format);
            history.entry("format".into()).or_insert_with(|| format.to_owned());
            // The options of the format are those of both parts.
            let prefix = format!("{format}.");
            for (name, value) in &table.options {
                let name = name.strip_prefix("value.").unwrap_or(name);
                if is_same && name.starts_with(&prefix) {
                    history.entry(name.to_owned()).or_insert_with(|| value.clone());
                }
            }
        }
        let with = |options| TableDefinition {
            options,
            ..table.clone()
        };
        Self {
            history: with(history),
            topic: with(topic),
        }
    }
}

impl Connector for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn help(&self) -> &'static str {
        "Reads files, then a topic of an Apache Kafka cluster from the offsets after them."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source]
    }

    fn options(&self, role: Role) -> &'static [OptionDescription] {
        match role {
            Role::Source => &OPTIONS,
            Role::Sink => &[],
        }
    }

    fn flink_options(&self) -> &'static [FlinkOption] {
        Kafka.flink_options()
    }

    fn uses_format(&self, role: Role) -> bool {
        role == Role::Source
    }

    fn validate(&self, table: &TableDefinition, role: Role) -> Vec<OptionError> {
        let parts = Parts::of(table);
        let mut errors = Vec::new();
        if !table
            .option(STARTUP_MODE)
            .is_some_and(|mode| STARTUP_MODES.contains(&mode))
        {
            errors.push(OptionError::new(
                STARTUP_MODE,
                "the topic is read from the end of the history: set 'scan.startup.mode' = 'timestamp' with \
                 'scan.startup.timestamp-millis', the time of the first record that is not in the files; or \
                 'specific-offsets' with the offset of that record in each partition",
            ));
        }
        for (part, connector) in [(&parts.history, &Filesystem as &dyn Connector), (&parts.topic, &Kafka)] {
            if connector.changelog(part, role) != crate::ChangelogSupport::Append {
                errors.push(OptionError::new(
                    "format",
                    "the records of a hybrid table are rows, not changes: choose another format",
                ));
                break;
            }
        }
        errors
    }

    fn parts(&self, table: &TableDefinition) -> Vec<(&'static str, TableDefinition)> {
        let parts = Parts::of(table);
        vec![(HISTORY, parts.history), ("", parts.topic)]
    }

    fn is_bounded(&self, table: &TableDefinition) -> bool {
        Kafka.is_bounded(&Parts::of(table).topic)
    }

    fn check_external_objects(
        &self,
        tables: Vec<(Role, Arc<TableDefinition>)>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        let topics = tables
            .iter()
            .map(|(role, table)| (*role, Arc::new(Parts::of(table).topic)));
        Kafka.check_external_objects(topics.collect()).boxed()
    }

    fn describe_position(&self, split: &Split) -> Option<String> {
        let of_part = |prefix: &str| {
            let id = split.id.strip_prefix(prefix)?.to_owned();
            Some(Split { id, ..split.clone() })
        };
        match of_part(HISTORY_SPLIT) {
            Some(split) => Filesystem.describe_position(&split),
            None => Kafka.describe_position(&of_part(TOPIC_SPLIT)?),
        }
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        let parts = Parts::of(table);
        let topic = Kafka::source_after_history(&parts.topic)?;
        Ok(Arc::new(source::HybridSource::new(
            Filesystem.source(&parts.history)?,
            topic,
        )))
    }
}

#[cfg(test)]
mod tests;
