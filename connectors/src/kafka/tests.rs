//! Without a broker: what options and positions mean. Everything else is tested against a real one, in
//! `integration-tests`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, Field, Schema};

use super::options::{OffsetsInitializer, SinkOptions, SourceOptions};
use super::split::{self, Position};
use super::{Kafka, UpsertKafka, headers_type};
use crate::{ChangelogSupport, Connector, MetadataColumn, Role, Split, TableDefinition, registry};

pub(super) fn table(options: &[(&str, &str)]) -> TableDefinition {
    let mut all = BTreeMap::from([
        ("connector".to_string(), "kafka".to_string()),
        ("format".into(), "json".into()),
    ]);
    all.extend(
        options
            .iter()
            .map(|(name, value)| ((*name).to_string(), (*value).to_string())),
    );
    TableDefinition {
        name: "t".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("word", DataType::Utf8, true),
            Field::new("headers", headers_type(), true),
        ])),
        metadata: vec![MetadataColumn {
            column: "headers".into(),
            key: "headers".into(),
            is_virtual: false,
        }],
        options: all,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

const BROKER: (&str, &str) = ("properties.bootstrap.servers", "localhost:9092");

#[track_caller]
fn check_error(role: Role, options: &[(&str, &str)], expected: &str) {
    let errors = Kafka.validate(&table(options), role);
    assert!(
        errors.iter().any(|error| error.message.contains(expected)),
        "{errors:?}"
    );
}

#[test]
fn wrong_options_name_the_remedy() {
    check_error(
        Role::Source,
        &[("topic", "a")],
        "'properties.bootstrap.servers' = 'localhost:9092'",
    );
    check_error(Role::Source, &[BROKER], "'topic' = 'NAME'");
    for role in [Role::Source, Role::Sink] {
        check_error(
            role,
            &[BROKER, ("topic", "a"), ("format", "csv"), ("csv.header", "true")],
            "no header line",
        );
    }
    check_error(
        Role::Source,
        &[BROKER, ("topic", "a"), ("topic-pattern", "b")],
        "not both",
    );
    check_error(
        Role::Source,
        &[BROKER, ("topic-pattern", "(")],
        "not a regular expression",
    );
    check_error(
        Role::Source,
        &[BROKER, ("topic", "a"), ("properties.group.idd", "g")],
        "did you mean `group.id`?",
    );
    check_error(
        Role::Source,
        &[BROKER, ("topic", "a"), ("scan.startup.mode", "timestamp")],
        "timestamp-millis",
    );
    check_error(
        Role::Source,
        &[BROKER, ("topic", "a"), ("scan.startup.mode", "group-offsets")],
        "properties.group.id",
    );
    check_error(
        Role::Source,
        &[
            BROKER,
            ("topic", "a"),
            ("scan.startup.mode", "specific-offsets"),
            ("scan.startup.specific-offsets", "0:1"),
        ],
        "partition:0,offset:42",
    );
    check_error(
        Role::Source,
        &[BROKER, ("topic", "a"), ("key.format", "raw")],
        "needs 'key.fields'",
    );
    check_error(
        Role::Source,
        &[BROKER, ("topic", "a"), ("key.format", "raw"), ("key.fields", "wordd")],
        "did you mean `word`?",
    );
    check_error(Role::Sink, &[BROKER, ("topic", "a;b")], "exactly one topic");
    let own_id = [BROKER, ("topic", "a"), ("properties.transactional.id", "x")];
    check_error(Role::Sink, &own_id, "'sink.transactional-id-prefix'");
}

#[test]
fn properties_that_break_exactly_once_are_refused() {
    let with = |option: (&'static str, &'static str)| {
        [
            BROKER,
            ("topic", "a"),
            ("sink.delivery-guarantee", "exactly-once"),
            option,
        ]
    };
    for (option, expected) in [
        (("properties.enable.idempotence", "false"), "lose or duplicate"),
        (("properties.acks", "1"), "lose or duplicate"),
        (("properties.transaction.timeout.ms", "500"), "10 s to 900 s"),
        (("properties.transaction.timeout.ms", "3600000"), "10 s to 900 s"),
    ] {
        check_error(Role::Sink, &with(option), expected);
    }
    let options = SinkOptions::of(&table(&with(("properties.acks", "all")))).expect("safe");
    let transactions = options.transactions.expect("exactly-once");
    assert_eq!(transactions.prefix, "millstream");
    assert_eq!(transactions.markers_topic, "__millstream_markers");
}

#[test]
fn secrets_are_not_in_errors() {
    let options = [
        BROKER,
        ("topic", "a"),
        ("properties.sasl.jaas.config", "Login required username=u"),
    ];
    let errors = Kafka.validate(&table(&options), Role::Source);
    assert!(
        errors.iter().all(|error| !error.message.contains("Login")),
        "{errors:?}"
    );
    assert!(errors[0].message.contains("properties.sasl.username"));
}

#[test]
fn properties_of_the_java_client_are_understood() {
    let options = [
        BROKER,
        ("topic", "a"),
        ("properties.group.id", "g"),
        ("properties.auto.offset.reset", "latest"),
        (
            "properties.key.deserializer",
            "org.apache.kafka.common.serialization.StringDeserializer",
        ),
        ("properties.security.protocol", "SASL_SSL"),
        ("properties.sasl.mechanism", "PLAIN"),
        (
            "properties.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"me\" password=\"x y\";",
        ),
    ];
    let options = SourceOptions::of(&table(&options)).expect("all are known");
    assert_eq!(options.client.get("sasl.username"), Some("me"));
    assert_eq!(options.client.get("sasl.password"), Some("x y"));
    assert_eq!(options.startup, OffsetsInitializer::Group { else_latest: true });
    assert!(options.discovery_interval.is_some());
}

#[test]
fn key_columns_are_optional_in_the_value() {
    let key = [BROKER, ("topic", "a"), ("key.format", "raw"), ("key.fields", "word")];
    let both = SourceOptions::of(&table(&key)).expect("right");
    assert_eq!(both.layout.value, [0, 1]);
    let options: Vec<_> = key
        .into_iter()
        .chain([("value.fields-include", "EXCEPT_KEY")])
        .collect();
    let apart = SourceOptions::of(&table(&options)).expect("right");
    assert_eq!(apart.layout.value, [0]);
}

/// Validates a table of `upsert-kafka` with the columns `id` and `word`, and this primary key.
#[track_caller]
fn check_upsert(primary_key: &[&str], options: &[(&str, &str)], expected: &[&str]) {
    let mut table = table(&[BROKER, ("topic", "a"), ("connector", "upsert-kafka")]);
    table.options.remove("format");
    let options = options.iter();
    table
        .options
        .extend(options.map(|(name, value)| ((*name).to_string(), (*value).to_string())));
    table.primary_key = primary_key.iter().map(|name| (*name).to_string()).collect();
    for role in [Role::Source, Role::Sink] {
        let errors = registry::validate(&table, role);
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.message.contains(expected), "{errors:?}");
        }
    }
}

#[test]
fn upsert_tables_need_a_primary_key_and_two_formats_of_rows() {
    let formats = [("key.format", "raw"), ("value.format", "json")];
    check_upsert(&["word"], &formats, &[]);
    check_upsert(&["id", "word"], &[("key.format", "json"), ("value.format", "csv")], &[]);
    check_upsert(&[], &formats, &["PRIMARY KEY (column) NOT ENFORCED"]);
    check_upsert(&["id", "word"], &formats, &["exactly one column"]);
    let json = [("key.format", "json"), ("value.format", "json")];
    check_upsert(&["headers"], &json, &["not stored in records"]);
    check_upsert(
        &["id"],
        &[("value.format", "json")],
        &["the option 'key.format' is missing"],
    );
    check_upsert(&["id"], &[("key.format", "json")], &["the option 'format' is missing"]);
    let changes = [("key.format", "debezium-json"), ("value.format", "debezium-json")];
    check_upsert(
        &["id"],
        &changes,
        &["is a row and not a change", "a key is not a change"],
    );
    let with = |option| [formats[0], formats[1], option];
    check_upsert(
        &["id"],
        &with(("key.fields", "id")),
        &["the primary key of the table determines"],
    );
    check_upsert(
        &["id"],
        &with(("scan.startup.mode", "latest-offset")),
        &["read from the beginning"],
    );
}

#[test]
fn the_buffer_of_an_upsert_table_has_both_limits_or_none() {
    let options = |rows: &'static str, interval: &'static str| {
        let mut table = table(&[
            BROKER,
            ("topic", "a"),
            ("connector", "upsert-kafka"),
            ("key.format", "json"),
            ("sink.buffer-flush.max-rows", rows),
            ("sink.buffer-flush.interval", interval),
        ]);
        table.primary_key = vec!["id".into()];
        SinkOptions::of(&table)
    };
    #[track_caller]
    fn refused(options: Result<SinkOptions, Vec<crate::OptionError>>, expected: &str) {
        let errors = options.expect_err("refused");
        assert!(errors[0].message.contains(expected), "{errors:?}");
    }
    assert_eq!(options("0", "0").expect("no buffer").buffer, None);
    let buffer = options("100", "2 s").expect("a buffer").buffer.expect("both are set");
    assert_eq!((buffer.rows_max, buffer.interval), (100, Duration::from_secs(2)));
    refused(options("100", "0 s"), "needs 'sink.buffer-flush.interval'");
    refused(options("0", "1 s"), "needs 'sink.buffer-flush.max-rows'");
    refused(options("2000000", "1 s"), "at most 1000000 rows");
    refused(options("-1", "1 s"), "must not be negative");
}

#[test]
fn upsert_tables_are_read_from_their_beginning_and_keyed_by_their_primary_key() {
    let mut table = table(&[
        BROKER,
        ("topic", "a"),
        ("connector", "upsert-kafka"),
        ("key.format", "json"),
        ("properties.group.id", "g"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    table.primary_key = vec!["word".into(), "id".into()];
    let options = SourceOptions::of(&table).expect("right");
    assert_eq!(options.startup, OffsetsInitializer::Earliest);
    assert_eq!(options.layout.key.expect("a key").columns, [1, 0]);
    assert!(options.layout.value.is_empty() && options.layout.is_upsert);
    assert_eq!(UpsertKafka.changelog(&table, Role::Source), ChangelogSupport::Upsert);
}

#[test]
fn metadata_of_a_format_is_that_of_the_value() {
    let with = |format: &'static str, key: &str, data_type: DataType| {
        let mut table = table(&[BROKER, ("topic", "a"), ("format", format)]);
        let mut fields = table.schema.fields().to_vec();
        fields.push(Arc::new(Field::new("m", data_type, true)));
        table.schema = Arc::new(Schema::new(fields));
        table.metadata.push(MetadataColumn {
            column: "m".into(),
            key: key.into(),
            is_virtual: true,
        });
        let errors = registry::validate(&table, Role::Source);
        errors.into_iter().map(|error| error.message).collect::<Vec<_>>()
    };
    let utc = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()));
    let none: [&str; 0] = [];
    assert_eq!(with("debezium-json", "value.source.table", DataType::Utf8), none);
    assert_eq!(with("debezium-json", "value.source.timestamp", utc.clone()), none);
    assert_eq!(
        with("debezium-json", "value.source.table", utc),
        ["the metadata 'value.source.table' is STRING"]
    );
    assert_eq!(
        with("json", "value.source.table", DataType::Utf8),
        ["the format `json` has no metadata, so no key 'value.source.table'"]
    );
}

#[test]
fn every_metadata_key_of_a_format_is_one_of_the_connector() {
    let known = Kafka.metadata();
    for format in crate::format::formats() {
        for metadata in format.metadata {
            let key = format!("value.{}", metadata.key);
            let described = known.iter().find(|description| description.key == key);
            let described = described.unwrap_or_else(|| panic!("the connector does not offer {key}"));
            assert_eq!(described.data_type, (metadata.data_type)(), "{key}");
        }
    }
}

#[test]
fn positions_survive_the_round_trip() {
    for position in [Position { next: 42, end: None }, Position { next: 0, end: Some(7) }] {
        let split = Split {
            id: "a-b-3".into(),
            position: position.encode(),
            weight: 0,
            finished: false,
        };
        assert_eq!(Position::decode(&split).expect("own encoding"), position);
        assert_eq!(split::parse_id(&split.id).expect("a partition"), ("a-b", 3));
    }
    let foreign = Split {
        id: "x".into(),
        position: vec![1, 2],
        weight: 0,
        finished: false,
    };
    assert!(Position::decode(&foreign).is_err() && split::parse_id("x").is_err());
}

#[test]
fn a_partition_that_was_read_to_its_end_has_changed_once_there_is_more() {
    let options = [
        ("topic", "a"),
        ("properties.bootstrap.servers", "127.0.0.1:1"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    let source = Kafka
        .source(&table(&options))
        .expect("nothing is asked of the broker yet");
    let split = |next, end| Split {
        id: "a-0".into(),
        position: Position { next, end }.encode(),
        weight: 0,
        finished: false,
    };
    let read = split(7, Some(7));
    assert!(!source.has_changed(&read, &split(0, Some(7))));
    assert!(source.has_changed(&read, &split(0, Some(8))));
    // What never ends is never read to its end.
    assert!(!source.has_changed(&read, &split(0, None)));
}

#[test]
fn a_position_is_described_by_topic_partition_and_offset() {
    #[track_caller]
    fn check(id: &str, position: Vec<u8>, expected: Option<&str>) {
        let split = Split {
            id: id.into(),
            position,
            weight: 0,
            finished: false,
        };
        assert_eq!(Kafka.describe_position(&split).as_deref(), expected);
    }
    let at = |next, end| Position { next, end }.encode();
    check("toll-entries-3", at(42, None), Some("toll-entries[3] = 42"));
    check("a-0", at(0, Some(7)), Some("a[0] = 0, to be read to 7"));
    check("entries.json", at(42, None), None);
    check("a-0", vec![1, 2, 3], None);
}
