//! Options of Flink's connectors and formats that have no counterpart here: accepted without an effect, which a note
//! reports, or refused with a remedy.

/// An option of Flink without a counterpart.
#[derive(Debug, Clone, Copy)]
pub struct FlinkOption {
    /// Name; a trailing `*` stands for any suffix.
    pub name: &'static str,
    /// Treatment of a table that has the option.
    pub treatment: Treatment,
}

/// Treatment of an option of Flink.
#[derive(Debug, Clone, Copy)]
pub enum Treatment {
    /// Accepted without an effect, for the given reason.
    NoEffect(&'static str),
    /// Refused; the text says what to write instead.
    Refused(&'static str),
}

/// Returns an option that is accepted without an effect.
pub(crate) const fn no_effect(name: &'static str, reason: &'static str) -> FlinkOption {
    FlinkOption {
        name,
        treatment: Treatment::NoEffect(reason),
    }
}

/// Returns an option that is refused.
pub(crate) const fn refused(name: &'static str, instead: &'static str) -> FlinkOption {
    FlinkOption {
        name,
        treatment: Treatment::Refused(instead),
    }
}

/// The options of the tables of every connector.
pub const COMMON: &[FlinkOption] = &[
    no_effect("scan.parallelism", PARALLELISM),
    no_effect("sink.parallelism", PARALLELISM),
    no_effect("scan.watermark.emit.*", "watermarks advance with every batch of rows"),
    no_effect(
        "scan.watermark.alignment.*",
        "sources read ahead only as far as their queues have capacity",
    ),
];

const PARALLELISM: &str = "all operators have the parallelism of the job";

/// Connectors of Flink that do not exist here, each with a remedy.
const CONNECTORS: &[(&str, &str)] = &[
    ("values", "write FROM (VALUES ...) AS t(a, b)"),
    ("faker", "use `datagen`"),
    ("hive", "read its files with `filesystem`"),
    ("iceberg", "read its files with `filesystem`"),
    ("paimon", "read its files with `filesystem`"),
    ("hudi", "read its files with `filesystem`"),
    ("delta", "read its files with `filesystem`"),
    ("jdbc", "write to `kafka` or `filesystem`, and load from there"),
    (
        "elasticsearch-6",
        "write to `kafka` or `filesystem`, and load from there",
    ),
    (
        "elasticsearch-7",
        "write to `kafka` or `filesystem`, and load from there",
    ),
    (
        "elasticsearch-8",
        "write to `kafka` or `filesystem`, and load from there",
    ),
    ("opensearch", "write to `kafka` or `filesystem`, and load from there"),
    ("mongodb", "write to `kafka` or `filesystem`, and load from there"),
    ("hbase-2.2", "write to `kafka` or `filesystem`, and load from there"),
    ("redis", "write to `kafka` or `filesystem`, and load from there"),
    ("starrocks", "write to `kafka` or `filesystem`, and load from there"),
    ("doris", "write to `kafka` or `filesystem`, and load from there"),
    (
        "mysql-cdc",
        "capture changes with Debezium into `kafka`, and read them with the format `debezium-json`",
    ),
    (
        "postgres-cdc",
        "capture changes with Debezium into `kafka`, and read them with the format `debezium-json`",
    ),
    (
        "oracle-cdc",
        "capture changes with Debezium into `kafka`, and read them with the format `debezium-json`",
    ),
    (
        "mongodb-cdc",
        "capture changes with Debezium into `kafka`, and read them with the format `debezium-json`",
    ),
    ("kinesis", "move the stream to `kafka` or `filesystem`"),
    ("firehose", "write to `kafka` or `filesystem`"),
    ("pulsar", "move the stream to `kafka` or `filesystem`"),
    ("rabbitmq", "move the stream to `kafka` or `filesystem`"),
    ("socket", "write the lines to a file, and read it with `filesystem`"),
];

/// Returns what to use instead of a connector of Flink that does not exist here.
pub(crate) fn instead_of_connector(name: &str) -> Option<&'static str> {
    let found = CONNECTORS.iter().find(|(known, _)| *known == name);
    found.map(|(_, instead)| *instead)
}

/// Returns true if the name of an option of Flink describes an option.
pub(crate) fn describes(known: &FlinkOption, option: &str) -> bool {
    match known.name.strip_suffix('*') {
        Some(prefix) => option.starts_with(prefix),
        None => option == known.name,
    }
}
