//! The descriptions of all options of Kafka tables.

use crate::flink_options::{FlinkOption, no_effect, refused};
use crate::{OptionDescription, OptionEffect, OptionKind};

/// Describes an option that does not affect rows.
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

/// Describes an option that determines which records are read.
const fn selecting(name: &'static str, kind: OptionKind, help: &'static str) -> OptionDescription {
    option(name, kind, help).with_effect(OptionEffect::Records)
}

/// Describes an option that determines how records are decoded.
const fn decoding(name: &'static str, kind: OptionKind, help: &'static str) -> OptionDescription {
    option(name, kind, help).with_effect(OptionEffect::Rows)
}

/// Returns the option with a default.
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

const TOPIC_PATTERN: OptionDescription = selecting(
    "topic-pattern",
    OptionKind::Text,
    "Read all topics whose whole name matches this regular expression.",
);
const BOUNDED_MODE: OptionDescription = with_default(
    option(
        "scan.bounded.mode",
        OptionKind::OneOf(BOUNDED_MODES),
        "Where reading ends, fixed when the job starts.",
    ),
    "unbounded",
);
const BOUNDED_TIMESTAMP: OptionDescription = option(
    "scan.bounded.timestamp-millis",
    OptionKind::Integer,
    "For the mode timestamp: milliseconds since 1970.",
);
const BOUNDED_OFFSETS: OptionDescription = option(
    "scan.bounded.specific-offsets",
    OptionKind::Text,
    "For the mode specific-offsets; each offset is not read.",
);
const DISCOVERY_INTERVAL: OptionDescription = with_default(
    option(
        "scan.topic-partition-discovery.interval",
        OptionKind::Duration,
        "How often to look for new partitions and topics; 0 never does.",
    ),
    "5 min",
);

/// The options of a source.
pub(super) const OPTIONS_SOURCE: &[OptionDescription] = &[
    PROPERTIES,
    BROKERS,
    TOPIC,
    KEY_FORMAT,
    VALUE_FORMAT,
    KEY_FIELDS,
    KEY_PREFIX,
    VALUE_INCLUDE,
    TOPIC_PATTERN,
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
    BOUNDED_MODE,
    BOUNDED_TIMESTAMP,
    BOUNDED_OFFSETS,
    DISCOVERY_INTERVAL,
    // Options of the sink are allowed, because one table may be both read and written.
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

/// The options of a sink.
pub(super) const OPTIONS_SINK: &[OptionDescription] = &[
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

const UPSERT_KEY_FORMAT: OptionDescription = OptionDescription {
    required: true,
    ..decoding(
        "key.format",
        OptionKind::Text,
        "Format of record keys, which are the columns of the primary key.",
    )
};

const BUFFER_ROWS: OptionDescription = with_default(
    option(
        "sink.buffer-flush.max-rows",
        OptionKind::Integer,
        "Keep changes back, and write the last one of each key when there are this many keys; needs \
         sink.buffer-flush.interval. 0 keeps none back.",
    ),
    "0",
);
const BUFFER_INTERVAL: OptionDescription = with_default(
    option(
        "sink.buffer-flush.interval",
        OptionKind::Duration,
        "Longest time to keep changes back; needs sink.buffer-flush.max-rows. 0 keeps none back.",
    ),
    "0 s",
);

/// The options of a source of the connector `upsert-kafka`.
pub(super) const OPTIONS_UPSERT_SOURCE: &[OptionDescription] = &[
    PROPERTIES,
    BROKERS,
    TOPIC,
    UPSERT_KEY_FORMAT,
    VALUE_FORMAT,
    KEY_PREFIX,
    VALUE_INCLUDE,
    TOPIC_PATTERN,
    BOUNDED_MODE,
    BOUNDED_TIMESTAMP,
    BOUNDED_OFFSETS,
    DISCOVERY_INTERVAL,
    BUFFER_ROWS,
    BUFFER_INTERVAL,
    SINK_GUARANTEE,
    SINK_ID_PREFIX,
    SINK_MARKERS,
];

/// The options of a sink of the connector `upsert-kafka`.
pub(super) const OPTIONS_UPSERT_SINK: &[OptionDescription] = &[
    PROPERTIES,
    BROKERS,
    TOPIC,
    UPSERT_KEY_FORMAT,
    VALUE_FORMAT,
    KEY_PREFIX,
    VALUE_INCLUDE,
    BUFFER_ROWS,
    BUFFER_INTERVAL,
    SINK_GUARANTEE,
    SINK_ID_PREFIX,
    SINK_MARKERS,
];

/// The options of Flink's connector that have no counterpart here.
pub(super) const OPTIONS_OF_FLINK: &[FlinkOption] = &[
    no_effect(
        "sink.transaction-naming-strategy",
        "transactions are named so that each is recognised after a restart",
    ),
    refused(
        "sink.semantic",
        "write 'sink.delivery-guarantee' = 'exactly-once' or 'at-least-once'",
    ),
    refused("key.fields.prefix", "write 'key.fields-prefix'"),
    refused(
        "value.fields-prefix",
        "only names of key columns may have a prefix, 'key.fields-prefix'",
    ),
    refused(
        "sink.buffer-flush.*",
        "it belongs to `upsert-kafka`; set 'properties.linger.ms'",
    ),
];
