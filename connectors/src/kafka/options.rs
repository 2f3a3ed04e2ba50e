//! The options of a Kafka table, validated and typed.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use regex::Regex;

use super::client_config;
use super::record_layout::RecordLayout;
use super::upsert;
use super::upsert_buffer::BufferOptions;
use crate::format::Framing;
use crate::options::Options;
use crate::{Error, OptionError, Role, TableDefinition};

/// Default timeout of a transaction.
pub(super) const TRANSACTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Shortest timeout. The rows of one transaction may take longer than a shorter one, and would be retried for ever.
const TRANSACTION_TIMEOUT_MIN: Duration = Duration::from_secs(10);
/// Longest timeout: the brokers' default limit.
const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// Options of the buffer of an upsert sink.
const BUFFER_ROWS: &str = "sink.buffer-flush.max-rows";
const BUFFER_INTERVAL: &str = "sink.buffer-flush.interval";
/// Most rows in a buffer. Written at once, they fit the producer's queue.
const BUFFER_ROWS_MAX: usize = 1_000_000;

/// The topics of a source.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    /// Topics by name.
    Names(Vec<String>),
    /// All topics whose whole name matches.
    Pattern(Regex),
}

/// The rule for the offset in each partition at which reading starts or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OffsetsInitializer {
    /// The first record.
    Earliest,
    /// The end of the partition.
    Latest,
    /// The offset that the consumer group committed.
    Group {
        /// Without a committed offset: true for the end of the partition, false for its first record.
        else_latest: bool,
    },
    /// The first record with this timestamp or a later one, in milliseconds since 1970.
    TimestampMs(i64),
    /// Offsets by partition. Other partitions start at their earliest record and have no end.
    Offsets(BTreeMap<i32, i64>),
}

/// The options of a source.
#[derive(Debug, Clone)]
pub(super) struct SourceOptions {
    /// Configuration of clients.
    pub client: ClientConfig,
    /// Addresses of the brokers.
    pub brokers: String,
    /// Consumer group, to which offsets are committed.
    pub group: Option<String>,
    /// Topics to read.
    pub topics: Topics,
    /// Start of a job without a checkpoint.
    pub startup: OffsetsInitializer,
    /// End of a bounded source.
    pub bounded: Option<OffsetsInitializer>,
    /// Interval of the discovery of new partitions; `None` for no discovery.
    pub discovery_interval: Option<Duration>,
    /// Layout of records.
    pub layout: RecordLayout,
}

/// The options of a sink.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// Configuration of clients.
    pub client: ClientConfig,
    /// Addresses of the brokers.
    pub brokers: String,
    /// Topic to write to.
    pub topic: String,
    /// Assignment of records to partitions.
    pub partitioner: Partitioner,
    /// Layout of records.
    pub layout: RecordLayout,
    /// Options of exactly-once delivery; `None` under at-least-once delivery.
    pub transactions: Option<TransactionOptions>,
    /// Options of the buffer that keeps the newest record of each key; `None` for no buffer.
    pub buffer: Option<BufferOptions>,
}

/// The options of exactly-once delivery.
#[derive(Debug, Clone)]
pub struct TransactionOptions {
    /// Prefix of transactional ids.
    pub prefix: String,
    /// Topic of markers.
    pub markers_topic: String,
    /// Timeout of transactions.
    pub timeout: Duration,
}

/// The assignment of records to partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of the key; any partition without a key.
    ByKey,
    /// One partition per subtask.
    Fixed,
    /// One partition after the other.
    RoundRobin,
}

impl SourceOptions {
    /// Reads the options of a table. Returns all mistakes.
    pub(super) fn of(table: &TableDefinition) -> Result<Self, Vec<OptionError>> {
        let mut reader = OptionsReader::new(table);
        let group = reader.options.text("properties.group.id").map(String::from);
        let topics = reader.topics();
        let startup = reader.startup(group.is_some());
        let bounded = reader.bounded(group.is_some());
        let interval = reader.options.duration("scan.topic-partition-discovery.interval");
        let interval = reader.collect(interval).flatten().unwrap_or(Duration::from_secs(300));
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

    /// Returns true if the source ends by itself.
    pub(super) fn is_bounded(&self) -> bool {
        self.bounded.is_some()
    }
}

impl SinkOptions {
    /// Reads the options of a table. Returns all mistakes.
    pub fn of(table: &TableDefinition) -> Result<Self, Vec<OptionError>> {
        let mut reader = OptionsReader::new(table);
        let topic = reader
            .options
            .text("topic")
            .map(str::trim)
            .unwrap_or_default()
            .to_string();
        if topic.is_empty() || topic.contains(';') {
            reader.add_error("topic", "a Kafka sink needs exactly one topic: 'topic' = 'NAME'".into());
        }
        let exactly_once = reader.word("sink.delivery-guarantee") == "exactly-once";
        let transactions = if exactly_once {
            Some(reader.transactions())
        } else {
            None
        };
        let buffer = reader.buffer();
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
            // Records are buffered in the checkpoint storage rather than in librdkafka.
            client.set("queue.buffering.max.kbytes", "65536");
        }
        let layout = reader.layout();
        if let Some(layout) = &layout {
            let encoder = layout.value_format.encoder(&layout.value_schema(table), Framing::Bare);
            reader.collect(encoder.map(drop));
        }
        reader.finish(|| {
            Some(Self {
                client: client?,
                brokers: brokers?,
                topic,
                partitioner,
                layout: layout?,
                transactions,
                buffer,
            })
        })
    }
}

/// Reads options and collects all mistakes.
struct OptionsReader<'a> {
    table: &'a TableDefinition,
    options: Options<'a>,
    errors: Vec<OptionError>,
}

impl<'a> OptionsReader<'a> {
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
        build().ok_or_else(|| vec![OptionError::of_table("the options do not fit together")])
    }

    fn add_error(&mut self, option: &str, message: String) {
        self.errors.push(OptionError::new(option, message));
    }

    fn collect<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| self.errors.push(OptionError::of_table(error.to_string())))
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
            let message =
                "the address of the cluster is missing; write e.g. 'properties.bootstrap.servers' = 'localhost:9092'";
            self.add_error("properties.bootstrap.servers", message.into());
            return (None, None);
        };
        let config = match client_config::from_properties(brokers, &self.options.with_prefix("properties."), role) {
            Ok(config) => Some(config),
            Err((property, message)) => {
                self.add_error(&format!("properties.{property}"), message);
                None
            }
        };
        (config, Some(brokers.to_string()))
    }

    /// Reads the options of exactly-once delivery, and refuses properties that would break it.
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
            .collect(timeout_ms)
            .flatten()
            .map_or(TRANSACTION_TIMEOUT_DEFAULT, |ms| {
                Duration::from_millis(u64::try_from(ms).unwrap_or(0))
            });
        if !(TRANSACTION_TIMEOUT_MIN..=TRANSACTION_TIMEOUT_MAX).contains(&timeout) {
            self.add_error(
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
                let message =
                    format!("exactly-once delivery would lose or duplicate rows with `{value}`; remove the option");
                self.add_error(&option, message);
            }
        }
        TransactionOptions {
            prefix,
            markers_topic,
            timeout,
        }
    }

    /// Reads the options of the buffer. As in Flink, both are set or none.
    fn buffer(&mut self) -> Option<BufferOptions> {
        let rows_max = self.options.count(BUFFER_ROWS);
        let rows_max = self.collect(rows_max)?.unwrap_or(0);
        let interval = self.options.duration(BUFFER_INTERVAL);
        let interval = self.collect(interval)?.unwrap_or_default();
        match (rows_max, interval.is_zero()) {
            (0, true) => None,
            (0, false) | (_, true) => {
                let (given, missing) = if rows_max == 0 {
                    (BUFFER_INTERVAL, BUFFER_ROWS)
                } else {
                    (BUFFER_ROWS, BUFFER_INTERVAL)
                };
                let message = format!("'{given}' needs '{missing}', also above 0: the buffer is written by both");
                self.add_error(missing, message);
                None
            }
            (rows_max, false) => match usize::try_from(rows_max).ok().filter(|rows| *rows <= BUFFER_ROWS_MAX) {
                Some(rows_max) => Some(BufferOptions { rows_max, interval }),
                None => {
                    self.add_error(
                        BUFFER_ROWS,
                        format!("at most {BUFFER_ROWS_MAX} rows are buffered per task"),
                    );
                    None
                }
            },
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
                    self.add_error(
                        "topic-pattern",
                        format!("`{pattern}` is not a regular expression: {error}"),
                    );
                    None
                }
            },
            (Some(_), Some(_)) => {
                self.add_error(
                    "topic-pattern",
                    "give either 'topic' or 'topic-pattern', not both".into(),
                );
                None
            }
            _ => {
                self.add_error(
                    "topic",
                    "the topic is missing; write 'topic' = 'NAME', or 'topic-pattern' = 'REGEX'".into(),
                );
                None
            }
        }
    }

    fn startup(&mut self, has_group: bool) -> Option<OffsetsInitializer> {
        if upsert::is_upsert(self.table) {
            // The rows of a table are those of all its records.
            return Some(OffsetsInitializer::Earliest);
        }
        let default = if has_group { "group-offsets" } else { "earliest-offset" };
        let mode = self.word("scan.startup.mode");
        self.initializer("scan.startup", if mode.is_empty() { default } else { &mode }, has_group)
    }

    /// Returns the end of the source: the outer `None` for a mistake, the inner one for an unbounded source.
    fn bounded(&mut self, has_group: bool) -> Option<Option<OffsetsInitializer>> {
        match self.word("scan.bounded.mode").as_str() {
            "" | "unbounded" => Some(None),
            mode => self.initializer("scan.bounded", mode, has_group).map(Some),
        }
    }

    fn initializer(&mut self, prefix: &str, mode: &str, has_group: bool) -> Option<OffsetsInitializer> {
        match mode {
            "earliest-offset" => Some(OffsetsInitializer::Earliest),
            "latest-offset" => Some(OffsetsInitializer::Latest),
            "group-offsets" if has_group => {
                let reset = self.word("properties.auto.offset.reset");
                Some(OffsetsInitializer::Group {
                    else_latest: reset == "latest" || reset == "largest",
                })
            }
            "group-offsets" => {
                let message = format!("'{prefix}.mode' = 'group-offsets' needs 'properties.group.id'");
                self.add_error(&format!("{prefix}.mode"), message);
                None
            }
            "timestamp" => {
                let option = format!("{prefix}.timestamp-millis");
                let value = self.options.integer(&option);
                let value = self.collect(value)?;
                if value.is_none() {
                    let message = format!("'{prefix}.mode' = 'timestamp' needs '{option}', in milliseconds since 1970");
                    self.add_error(&option, message);
                }
                value.map(OffsetsInitializer::TimestampMs)
            }
            "specific-offsets" => {
                let option = format!("{prefix}.specific-offsets");
                let offsets = self.options.text(&option).and_then(parse_offsets);
                if offsets.is_none() {
                    let form = "'partition:0,offset:42;partition:1,offset:300'";
                    self.add_error(
                        &option,
                        format!("'{prefix}.mode' = 'specific-offsets' needs '{option}' = {form}"),
                    );
                }
                offsets.map(OffsetsInitializer::Offsets)
            }
            other => {
                self.add_error(&format!("{prefix}.mode"), format!("unknown mode `{other}`"));
                None
            }
        }
    }

    fn layout(&mut self) -> Option<RecordLayout> {
        RecordLayout::of(self.table)
            .map_err(|errors| self.errors.extend(errors))
            .ok()
    }
}

/// Parses `partition:0,offset:42;partition:1,offset:300`.
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
