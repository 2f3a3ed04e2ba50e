//! The options of a Kafka table, checked, in typed form.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_schema::DataType;
use rdkafka::ClientConfig;
use regex::Regex;

use super::client;
use super::transaction::publisher::TRANSACTION_TIMEOUT_DEFAULT;
use crate::format::FormatSpec;
use crate::options::Options;
use crate::{Error, OptionDescription, OptionEffect, OptionError, OptionKind, Role, TableDefinition};

const fn option(name: &'static str, kind: OptionKind, help: &'static str) -> OptionDescription {
    OptionDescription {
        name,
        kind,
        required: false,
        default: None,
        secret: false,
        effect: OptionEffect::Nothing,
        help,
    }
}

/// An option that decides which records are read.
const fn selecting(name: &'static str, kind: OptionKind, help: &'static str) -> OptionDescription {
    option(name, kind, help).with_effect(OptionEffect::Records)
}

/// An option that decides how records become rows.
const fn decoding(name: &'static str, kind: OptionKind, help: &'static str) -> OptionDescription {
    option(name, kind, help).with_effect(OptionEffect::Rows)
}

const fn with_default(description: OptionDescription, default: &'static str) -> OptionDescription {
    OptionDescription {
        default: Some(default),
        ..description
    }
}

const STARTUP_MODES: &[&str] = &[
    "earliest-offset",
    "latest-offset",
    "group-offsets",
    "timestamp",
    "specific-offsets",
];
const BOUNDED_MODES: &[&str] = &[
    "unbounded",
    "latest-offset",
    "group-offsets",
    "timestamp",
    "specific-offsets",
];
const FIELDS_INCLUDE: &[&str] = &["ALL", "EXCEPT_KEY"];

/// Less might not be enough for the rows of one transaction, which would then be begun again and again.
const TRANSACTION_TIMEOUT_MIN: Duration = Duration::from_secs(10);
/// The brokers' own limit, unless they are told another.
const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(900);

const BROKERS: OptionDescription = option("brokers", OptionKind::Text, "Short for properties.bootstrap.servers.");
const PROPERTIES: OptionDescription = option(
    "properties.*",
    OptionKind::Text,
    "A property of the Kafka client, e.g. properties.bootstrap.servers (required), properties.group.id.",
);
const TOPIC: OptionDescription = selecting("topic", OptionKind::Text, "The topic; several to read from: 'a;b'.");
const KEY_FORMAT: OptionDescription = decoding(
    "key.format",
    OptionKind::Text,
    "Format of record keys; needs key.fields.",
);
const VALUE_FORMAT: OptionDescription = decoding("value.format", OptionKind::Text, "The same as format.");
const KEY_FIELDS: OptionDescription = decoding("key.fields", OptionKind::Text, "Columns in the record's key: 'a;b'.");
const KEY_PREFIX: OptionDescription = decoding(
    "key.fields-prefix",
    OptionKind::Text,
    "What the names of key columns start with in the table, but not in the key itself.",
);
const VALUE_INCLUDE: OptionDescription = with_default(
    decoding(
        "value.fields-include",
        OptionKind::OneOf(FIELDS_INCLUDE),
        "Whether the key's columns are in the value as well.",
    ),
    "ALL",
);

pub const OPTIONS_SOURCE: &[OptionDescription] = &[
    PROPERTIES,
    BROKERS,
    TOPIC,
    KEY_FORMAT,
    VALUE_FORMAT,
    KEY_FIELDS,
    KEY_PREFIX,
    VALUE_INCLUDE,
    selecting(
        "topic-pattern",
        OptionKind::Text,
        "Read all topics whose whole name matches this regular expression.",
    ),
    option(
        "scan.startup.mode",
        OptionKind::OneOf(STARTUP_MODES),
        "Where a job without a checkpoint starts to read. Default: group-offsets if properties.group.id is set, else \
         earliest-offset.",
    ),
    option(
        "scan.startup.timestamp-millis",
        OptionKind::Integer,
        "For the mode timestamp: milliseconds since 1970.",
    ),
    option(
        "scan.startup.specific-offsets",
        OptionKind::Text,
        "For the mode specific-offsets: 'partition:0,offset:42;partition:1,offset:300'.",
    ),
    with_default(
        option(
            "scan.bounded.mode",
            OptionKind::OneOf(BOUNDED_MODES),
            "Where reading ends, fixed when the job starts.",
        ),
        "unbounded",
    ),
    option(
        "scan.bounded.timestamp-millis",
        OptionKind::Integer,
        "For the mode timestamp: milliseconds since 1970.",
    ),
    option(
        "scan.bounded.specific-offsets",
        OptionKind::Text,
        "For the mode specific-offsets; each offset is not read.",
    ),
    with_default(
        option(
            "scan.topic-partition-discovery.interval",
            OptionKind::Duration,
            "How often to look for new partitions and topics; 0 never does.",
        ),
        "5 min",
    ),
    // Sink options of a table that is also written: harmless here.
    SINK_PARTITIONER,
    SINK_GUARANTEE,
    SINK_ID_PREFIX,
    SINK_MARKERS,
];

const SINK_PARTITIONER: OptionDescription = with_default(
    option(
        "sink.partitioner",
        OptionKind::OneOf(&["default", "fixed", "round-robin"]),
        "Which partition a row goes to. default: by the key's hash, as the Java client does (any, without a key); \
         fixed: each subtask writes to one; round-robin: one after the other.",
    ),
    "default",
);
const SINK_GUARANTEE: OptionDescription = with_default(
    option(
        "sink.delivery-guarantee",
        OptionKind::OneOf(&["at-least-once", "exactly-once", "none"]),
        "exactly-once: rows appear once, when a checkpoint is complete; at-least-once (none is the same): at once, and \
         again after a failure. Default: exactly-once where the job says `delivery: exactly-once`.",
    ),
    "at-least-once",
);
const SINK_ID_PREFIX: OptionDescription = with_default(
    option(
        "sink.transactional-id-prefix",
        OptionKind::Text,
        "For exactly-once: what transactional ids start with. Jobs of one name that share a cluster need different ones.",
    ),
    "millstream",
);
const SINK_MARKERS: OptionDescription = with_default(
    option(
        "sink.markers-topic",
        OptionKind::Text,
        "For exactly-once: the compacted topic that remembers what was published; made if it does not exist.",
    ),
    "__millstream_markers",
);

pub const OPTIONS_SINK: &[OptionDescription] = &[
    PROPERTIES,
    BROKERS,
    TOPIC,
    KEY_FORMAT,
    VALUE_FORMAT,
    KEY_FIELDS,
    KEY_PREFIX,
    VALUE_INCLUDE,
    SINK_PARTITIONER,
    SINK_GUARANTEE,
    SINK_ID_PREFIX,
    SINK_MARKERS,
];

#[derive(Debug, Clone)]
pub enum Topics {
    Names(Vec<String>),
    Pattern(Regex),
}

/// A place in every partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Earliest,
    Latest,
    /// What the consumer group committed; the earliest or latest record where it committed nothing.
    Group {
        else_latest: bool,
    },
    TimestampMs(i64),
    /// By partition; partitions not named begin at the earliest and have no end.
    Offsets(BTreeMap<i32, i64>),
}

#[derive(Debug, Clone)]
pub struct SourceOptions {
    pub client: ClientConfig,
    pub brokers: String,
    pub group: Option<String>,
    pub topics: Topics,
    pub startup: Place,
    pub bounded: Option<Place>,
    pub discovery_interval: Option<Duration>,
    pub layout: Layout,
}

#[derive(Debug, Clone)]
pub struct SinkOptions {
    pub client: ClientConfig,
    pub brokers: String,
    pub topic: String,
    pub partitioner: Partitioner,
    pub layout: Layout,
    /// Only under exactly-once delivery.
    pub transactions: Option<TransactionOptions>,
}

#[derive(Debug, Clone)]
pub struct TransactionOptions {
    pub prefix: String,
    pub markers_topic: String,
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    ByKey,
    Fixed,
    RoundRobin,
}

/// Which of the table's columns are in a record's key and value. Indices into the table's schema.
#[derive(Debug, Clone)]
pub struct Layout {
    pub value_format: FormatSpec,
    pub value: Vec<usize>,
    pub key: Option<KeyLayout>,
}

#[derive(Debug, Clone)]
pub struct KeyLayout {
    pub format: FormatSpec,
    pub columns: Vec<usize>,
    pub prefix: String,
}

impl SourceOptions {
    pub fn of(table: &TableDefinition) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(table);
        let group = reader.options.text("properties.group.id").map(String::from);
        let topics = reader.topics();
        let startup = reader.startup(group.is_some());
        let bounded = reader.bounded(group.is_some());
        let interval = reader.options.duration("scan.topic-partition-discovery.interval");
        let interval = reader.note(interval).flatten().unwrap_or(Duration::from_secs(300));
        let (client, brokers) = reader.client(Role::Source);
        let layout = reader.layout();
        reader.finish(|| {
            Some(Self {
                client: client?,
                brokers: brokers?,
                group,
                topics: topics?,
                startup: startup?,
                discovery_interval: (!interval.is_zero() && bounded.as_ref().is_some_and(Option::is_none))
                    .then_some(interval),
                bounded: bounded?,
                layout: layout?,
            })
        })
    }

    pub fn is_bounded(&self) -> bool {
        self.bounded.is_some()
    }
}

impl SinkOptions {
    pub fn of(table: &TableDefinition) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(table);
        let topic = reader
            .options
            .text("topic")
            .map(str::trim)
            .unwrap_or_default()
            .to_string();
        if topic.is_empty() || topic.contains(';') {
            reader.wrong("topic", "a Kafka sink needs exactly one topic: 'topic' = 'NAME'".into());
        }
        let exactly_once = reader.word("sink.delivery-guarantee") == "exactly-once";
        let transactions = if exactly_once {
            Some(reader.transactions())
        } else {
            None
        };
        let partitioner = match reader.word("sink.partitioner").as_str() {
            "fixed" => Partitioner::Fixed,
            "round-robin" => Partitioner::RoundRobin,
            _ => Partitioner::ByKey,
        };
        let (mut client, brokers) = reader.client(Role::Sink);
        if let (Some(client), true, None) = (
            &mut client,
            exactly_once,
            reader.options.text("properties.queue.buffering.max.kbytes"),
        ) {
            // Parts wait in the checkpoint storage, not in librdkafka.
            client.set("queue.buffering.max.kbytes", "65536");
        }
        let layout = reader.layout();
        reader.finish(|| {
            Some(Self {
                client: client?,
                brokers: brokers?,
                topic,
                partitioner,
                layout: layout?,
                transactions,
            })
        })
    }
}

/// Collects every mistake instead of stopping at the first.
struct Reader<'a> {
    table: &'a TableDefinition,
    options: Options<'a>,
    errors: Vec<OptionError>,
}

impl<'a> Reader<'a> {
    fn new(table: &'a TableDefinition) -> Self {
        Self {
            table,
            options: Options::of(table),
            errors: Vec::new(),
        }
    }

    fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Vec<OptionError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        build().ok_or_else(|| {
            vec![OptionError {
                subject: None,
                message: "the options do not fit together".into(),
            }]
        })
    }

    fn wrong(&mut self, option: &str, message: String) {
        self.errors.push(OptionError {
            subject: Some(option.to_string()),
            message,
        });
    }

    fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| {
                self.errors.push(OptionError {
                    subject: None,
                    message: error.to_string(),
                })
            })
            .ok()
    }

    fn word(&self, option: &str) -> String {
        self.options
            .text(option)
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }

    fn client(&mut self, role: Role) -> (Option<ClientConfig>, Option<String>) {
        let brokers = self
            .options
            .text("properties.bootstrap.servers")
            .or(self.options.text("brokers"));
        let Some(brokers) = brokers.map(str::trim).filter(|brokers| !brokers.is_empty()) else {
            let message = "where is the cluster? write e.g. 'properties.bootstrap.servers' = 'localhost:9092'";
            self.wrong("properties.bootstrap.servers", message.into());
            return (None, None);
        };
        let config = match client::config(brokers, &self.options.with_prefix("properties."), role) {
            Ok(config) => Some(config),
            Err((property, message)) => {
                self.wrong(&format!("properties.{property}"), message);
                None
            }
        };
        (config, Some(brokers.to_string()))
    }

    /// What exactly-once delivery needs, and what would break it.
    fn transactions(&mut self) -> TransactionOptions {
        let word = |name: &str, default: &str| {
            let value = self.options.text(name).map(str::trim).unwrap_or_default();
            if value.is_empty() { default } else { value }.to_string()
        };
        let (prefix, markers_topic) = (
            word("sink.transactional-id-prefix", "millstream"),
            word("sink.markers-topic", "__millstream_markers"),
        );
        let timeout_ms = self.options.integer("properties.transaction.timeout.ms");
        let timeout = self
            .note(timeout_ms)
            .flatten()
            .map_or(TRANSACTION_TIMEOUT_DEFAULT, |ms| {
                Duration::from_millis(u64::try_from(ms).unwrap_or(0))
            });
        if !(TRANSACTION_TIMEOUT_MIN..=TRANSACTION_TIMEOUT_MAX).contains(&timeout) {
            self.wrong(
                "properties.transaction.timeout.ms",
                format!(
                    "a transaction's timeout is {} s to {} s; it is open only while one epoch's rows are produced, so the \
                     default of {} s suits most",
                    TRANSACTION_TIMEOUT_MIN.as_secs(),
                    TRANSACTION_TIMEOUT_MAX.as_secs(),
                    TRANSACTION_TIMEOUT_DEFAULT.as_secs()
                ),
            );
        }
        for (property, safe) in [
            ("enable.idempotence", &["true"][..]),
            ("acks", &["all", "-1"]),
            ("request.required.acks", &["all", "-1"]),
        ] {
            let option = format!("properties.{property}");
            let value = self.word(&option);
            if !value.is_empty() && !safe.contains(&value.as_str()) {
                let message = format!("exactly-once delivery would lose or double rows with `{value}`; leave it out");
                self.wrong(&option, message);
            }
        }
        TransactionOptions {
            prefix,
            markers_topic,
            timeout,
        }
    }

    fn topics(&mut self) -> Option<Topics> {
        match (self.options.list("topic"), self.options.text("topic-pattern")) {
            (Some(names), None) if !names.is_empty() => {
                Some(Topics::Names(names.into_iter().map(String::from).collect()))
            }
            (None, Some(pattern)) => match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(pattern) => Some(Topics::Pattern(pattern)),
                Err(error) => {
                    self.wrong(
                        "topic-pattern",
                        format!("`{pattern}` is not a regular expression: {error}"),
                    );
                    None
                }
            },
            (Some(_), Some(_)) => {
                self.wrong(
                    "topic-pattern",
                    "give either 'topic' or 'topic-pattern', not both".into(),
                );
                None
            }
            _ => {
                self.wrong(
                    "topic",
                    "which topic? write 'topic' = 'NAME', or 'topic-pattern' = 'REGEX'".into(),
                );
                None
            }
        }
    }

    fn startup(&mut self, has_group: bool) -> Option<Place> {
        let default = if has_group { "group-offsets" } else { "earliest-offset" };
        let mode = self.word("scan.startup.mode");
        self.place("scan.startup", if mode.is_empty() { default } else { &mode }, has_group)
    }

    /// The outer `None`: something is wrong; the inner one: unbounded.
    fn bounded(&mut self, has_group: bool) -> Option<Option<Place>> {
        match self.word("scan.bounded.mode").as_str() {
            "" | "unbounded" => Some(None),
            mode => self.place("scan.bounded", mode, has_group).map(Some),
        }
    }

    fn place(&mut self, prefix: &str, mode: &str, has_group: bool) -> Option<Place> {
        match mode {
            "earliest-offset" => Some(Place::Earliest),
            "latest-offset" => Some(Place::Latest),
            "group-offsets" if has_group => {
                let reset = self.word("properties.auto.offset.reset");
                Some(Place::Group {
                    else_latest: reset == "latest" || reset == "largest",
                })
            }
            "group-offsets" => {
                let message = format!("'{prefix}.mode' = 'group-offsets' needs 'properties.group.id'");
                self.wrong(&format!("{prefix}.mode"), message);
                None
            }
            "timestamp" => {
                let option = format!("{prefix}.timestamp-millis");
                let value = self.options.integer(&option);
                let value = self.note(value)?;
                if value.is_none() {
                    let message = format!("'{prefix}.mode' = 'timestamp' needs '{option}', in milliseconds since 1970");
                    self.wrong(&option, message);
                }
                value.map(Place::TimestampMs)
            }
            "specific-offsets" => {
                let option = format!("{prefix}.specific-offsets");
                let offsets = self.options.text(&option).and_then(parse_offsets);
                if offsets.is_none() {
                    let form = "'partition:0,offset:42;partition:1,offset:300'";
                    self.wrong(
                        &option,
                        format!("'{prefix}.mode' = 'specific-offsets' needs '{option}' = {form}"),
                    );
                }
                offsets.map(Place::Offsets)
            }
            other => {
                self.wrong(&format!("{prefix}.mode"), format!("unknown mode `{other}`"));
                None
            }
        }
    }

    fn layout(&mut self) -> Option<Layout> {
        let value_format = FormatSpec::of_value(self.table);
        let value_format = self.note(value_format);
        let key_format = FormatSpec::of(self.table, "key.");
        let key_format = self.note(key_format)?;
        let fields = self.options.list("key.fields").unwrap_or_default();
        let prefix = self.options.text("key.fields-prefix").unwrap_or_default().to_string();
        let mut columns = Vec::new();
        for name in &fields {
            match self.physical().position(|column| column == *name) {
                Some(_) if !name.starts_with(&prefix) => {
                    let message = format!("the key column `{name}` does not start with the prefix '{prefix}'");
                    self.wrong("key.fields-prefix", message);
                }
                Some(index) => columns.push(index),
                None => {
                    let near = millstream_proto::spec::did_you_mean(name, self.physical());
                    self.wrong("key.fields", format!("the table has no column `{name}`{near}"));
                }
            }
        }
        let key = match (key_format, fields.is_empty()) {
            (Some(format), false) => Some(KeyLayout {
                format,
                columns,
                prefix,
            }),
            (None, true) => None,
            (Some(_), true) => {
                self.wrong(
                    "key.fields",
                    "'key.format' needs 'key.fields': which columns are the key?".into(),
                );
                None
            }
            (None, false) => {
                self.wrong(
                    "key.format",
                    "'key.fields' needs 'key.format', e.g. 'raw' or 'json'".into(),
                );
                None
            }
        };
        let except_key = self.word("value.fields-include") == "except_key";
        let in_key = |index: &usize| key.as_ref().is_some_and(|key| key.columns.contains(index));
        let value: Vec<usize> = (0..self.table.physical_columns())
            .filter(|index| !(except_key && in_key(index)))
            .collect();
        let value_format = value_format?;
        self.check_formats(&value_format, &value, key.as_ref());
        Some(Layout {
            value_format,
            value,
            key,
        })
    }

    /// Making a decoder shows whether the format can hold the columns.
    fn check_formats(&mut self, value_format: &FormatSpec, value: &[usize], key: Option<&KeyLayout>) {
        let schema = super::records::value_schema(self.table, value);
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        self.note(value_format.decoder(&schema, &all).map(drop));
        for format in [Some(value_format), key.map(|key| &key.format)].into_iter().flatten() {
            if matches!(format.header(), Ok(Some(_))) {
                let message = "records of Kafka have no header line: the header belongs to files (connector `filesystem`), \
                               and columns of records are matched by position; take the option away, and declare the \
                               columns in the order of the fields";
                self.wrong("csv.header", message.into());
            }
        }
        if let Some(key) = key {
            let schema = super::records::key_schema(self.table, key);
            let all: Vec<usize> = (0..schema.fields().len()).collect();
            self.note(key.format.decoder(&schema, &all).map(drop));
        }
        let time = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
        for column in &self.table.metadata {
            let Some(field) = self.table.field(&column.column) else {
                continue;
            };
            let fits = match column.key.as_str() {
                "topic" | "timestamp-type" => *field.data_type() == DataType::Utf8,
                "timestamp" => field.data_type().is_temporal() || *field.data_type() == DataType::Int64,
                "partition" | "offset" => field.data_type().is_integer(),
                "headers" => matches!(field.data_type(), DataType::Map(_, _)),
                "key" => matches!(field.data_type(), DataType::Binary | DataType::Utf8),
                _ => true,
            };
            if !fits {
                let wanted = match column.key.as_str() {
                    "timestamp" => format!("{time} WITH LOCAL TIME ZONE (TIMESTAMP_LTZ(3))"),
                    "partition" => "INT".into(),
                    "offset" => "BIGINT".into(),
                    "headers" => "MAP<STRING, BYTES>".into(),
                    "key" => "BYTES".into(),
                    _ => "STRING".into(),
                };
                let message = format!(
                    "the metadata '{}' of the column `{}` is {wanted}",
                    column.key, column.column
                );
                self.errors.push(OptionError {
                    subject: Some(column.column.clone()),
                    message,
                });
            }
        }
    }

    fn physical(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let table = self.table;
        table
            .schema
            .fields()
            .iter()
            .take(table.physical_columns())
            .map(|field| field.name().as_str())
    }
}

fn parse_offsets(text: &str) -> Option<BTreeMap<i32, i64>> {
    text.split(';')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (partition, offset) = item.split_once(',')?;
            let partition = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
            let offset: i64 = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
            (offset >= 0).then_some((partition, offset))
        })
        .collect::<Option<BTreeMap<_, _>>>()
        .filter(|offsets| !offsets.is_empty())
}
