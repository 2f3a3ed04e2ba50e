//! Descriptions of all formats and of their options, which are pure data for validation and documentation.

use super::debezium;
use super::metadata::FormatMetadata;
use crate::flink_options::{FlinkOption, no_effect};
use crate::{ChangelogSupport, OptionDescription, OptionEffect, OptionKind, options};

/// One format.
#[derive(Debug)]
pub struct Format {
    /// Value of the option `format`.
    pub name: &'static str,
    /// Description in one sentence.
    pub help: &'static str,
    /// Options of the format.
    pub options: &'static [OptionDescription],
    /// Changes that records can represent.
    pub changelog: ChangelogSupport,
    /// Metadata of records that columns can be read from.
    pub metadata: &'static [FormatMetadata],
    /// Options of Flink's format that have no counterpart here.
    pub flink_options: &'static [FlinkOption],
}

/// Describes an option that determines how bytes are decoded.
const fn option(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    help: &'static str,
) -> OptionDescription {
    options::option(name, kind, default, help).with_effect(OptionEffect::Rows)
}

/// Describes an option that only affects how rows are written.
const fn writing(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    help: &'static str,
) -> OptionDescription {
    options::option(name, kind, default, help).with_effect(OptionEffect::Nothing)
}

/// The option that names a format.
pub const FORMAT_OPTION: OptionDescription = option(
    "format",
    OptionKind::Text,
    None,
    "How rows are written as bytes: json, csv, raw, debezium-json or (files only) parquet.",
);

/// Returns every format of this build.
pub fn formats() -> &'static [Format] {
    &[
        Format {
            name: "json",
            help: "One JSON object per record.",
            options: JSON,
            changelog: ChangelogSupport::Append,
            metadata: &[],
            flink_options: JSON_OF_FLINK,
        },
        Format {
            name: "csv",
            help: "One line of separated fields per record (RFC 4180).",
            options: CSV,
            changelog: ChangelogSupport::Append,
            metadata: &[],
            flink_options: CSV_OF_FLINK,
        },
        Format {
            name: "raw",
            help: "The record's bytes are the value of the only column.",
            options: RAW,
            changelog: ChangelogSupport::Append,
            metadata: &[],
            flink_options: &[],
        },
        Format {
            name: "debezium-json",
            help: "One JSON object per change, as Debezium writes it: the row before and after it, and its kind.",
            options: DEBEZIUM_JSON,
            changelog: ChangelogSupport::Retract,
            metadata: debezium::metadata::METADATA,
            flink_options: &[],
        },
        Format {
            name: "parquet",
            help: "Apache Parquet files (connector `filesystem` only).",
            options: PARQUET,
            changelog: ChangelogSupport::Append,
            metadata: &[],
            flink_options: PARQUET_OF_FLINK,
        },
    ]
}

const JSON: &[OptionDescription] = &[
    option(
        "json.fail-on-missing-field",
        OptionKind::Boolean,
        Some("false"),
        "Reject a record that lacks a declared column; otherwise the column is NULL.",
    ),
    option(
        "json.fail-on-unknown-field",
        OptionKind::Boolean,
        Some("false"),
        "Reject a record with a field that is not a declared column; otherwise the field is ignored.",
    ),
    option(
        "json.ignore-parse-errors",
        OptionKind::Boolean,
        Some("false"),
        "A field that does not parse becomes NULL, a record that is not JSON is skipped.",
    )
    .with_effect(OptionEffect::Failures),
    writing(
        "json.timestamp-format.standard",
        OptionKind::OneOf(&["SQL", "ISO-8601"]),
        Some("SQL"),
        "How timestamps are written: `2024-01-01 00:00:00.123` or `2024-01-01T00:00:00.123`; both are read.",
    ),
    option(
        "json.timestamp-format.number",
        OptionKind::OneOf(&["s", "ms", "us", "ns"]),
        Some("ms"),
        "The unit of a timestamp that is read as a number: since 1970-01-01 UTC.",
    ),
    writing(
        "json.map-null-key.mode",
        OptionKind::OneOf(&["FAIL", "DROP", "LITERAL"]),
        Some("FAIL"),
        "What a NULL key of a map becomes when written.",
    ),
    writing(
        "json.map-null-key.literal",
        OptionKind::Text,
        Some("null"),
        "The key to write for NULL where the mode is LITERAL.",
    ),
    writing(
        "json.encode.decimal-as-plain-number",
        OptionKind::Boolean,
        Some("true"),
        "Decimals are always written with all their digits; accepted for Flink's sake.",
    ),
    writing(
        "json.encode.ignore-null-fields",
        OptionKind::Boolean,
        Some("false"),
        "Leave NULL fields out of written objects.",
    ),
];

const CSV: &[OptionDescription] = &[
    option(
        "csv.field-delimiter",
        OptionKind::Text,
        Some(","),
        "The character between fields; `\\t` for a tab.",
    ),
    option(
        "csv.quote-character",
        OptionKind::Text,
        Some("\""),
        "The character around fields that need it.",
    ),
    option(
        "csv.disable-quote-character",
        OptionKind::Boolean,
        Some("false"),
        "Quotes mean nothing: every character is content.",
    ),
    option(
        "csv.escape-character",
        OptionKind::Text,
        None,
        "The character that makes the next one content.",
    ),
    option(
        "csv.null-literal",
        OptionKind::Text,
        None,
        "The unquoted text that stands for NULL.",
    ),
    option(
        "csv.allow-comments",
        OptionKind::Boolean,
        Some("false"),
        "Lines that start with `#` are skipped.",
    ),
    option(
        "csv.ignore-parse-errors",
        OptionKind::Boolean,
        Some("false"),
        "A field that does not parse becomes NULL, a line with the wrong number of fields is skipped.",
    )
    .with_effect(OptionEffect::Failures),
    option(
        "csv.array-element-delimiter",
        OptionKind::Text,
        Some(";"),
        "The character between an array's elements.",
    ),
    option(
        "csv.header",
        OptionKind::Boolean,
        Some("false"),
        "Files start with a line of column names: columns are matched by it when read, and it is written when written.",
    ),
    // It decides whether a file is one split.
    option(
        "csv.quoted-newlines",
        OptionKind::Boolean,
        Some("true"),
        "Quoted fields may contain line breaks; set 'false' to let several tasks share one large file.",
    )
    .with_effect(OptionEffect::Records),
];

const RAW: &[OptionDescription] = &[
    option(
        "raw.charset",
        OptionKind::OneOf(&["UTF-8"]),
        Some("UTF-8"),
        "The encoding of text.",
    ),
    option(
        "raw.endianness",
        OptionKind::OneOf(&["big-endian", "little-endian"]),
        Some("big-endian"),
        "The byte order of numbers.",
    ),
];

const DEBEZIUM_JSON: &[OptionDescription] = &[
    option(
        "debezium-json.schema-include",
        OptionKind::Boolean,
        Some("false"),
        "Records contain their schema, with the change below `payload`, as Kafka Connect writes them by default.",
    ),
    option(
        "debezium-json.ignore-parse-errors",
        OptionKind::Boolean,
        Some("false"),
        "A field that does not parse becomes NULL, a record that is not a change is skipped.",
    )
    .with_effect(OptionEffect::Failures),
    writing(
        "debezium-json.timestamp-format.standard",
        OptionKind::OneOf(&["SQL", "ISO-8601"]),
        Some("SQL"),
        "How timestamps are written: `2024-01-01 00:00:00.123` or `2024-01-01T00:00:00.123`; both are read.",
    ),
    option(
        "debezium-json.timestamp-format.number",
        OptionKind::OneOf(&["s", "ms", "us", "ns"]),
        Some("ms"),
        "The unit of a timestamp that is read as a number: since 1970-01-01 UTC.",
    ),
    writing(
        "debezium-json.map-null-key.mode",
        OptionKind::OneOf(&["FAIL", "DROP", "LITERAL"]),
        Some("FAIL"),
        "What a NULL key of a map becomes when written.",
    ),
    writing(
        "debezium-json.map-null-key.literal",
        OptionKind::Text,
        Some("null"),
        "The key to write for NULL where the mode is LITERAL.",
    ),
    writing(
        "debezium-json.encode.decimal-as-plain-number",
        OptionKind::Boolean,
        Some("true"),
        "Decimals are always written with all their digits; accepted for Flink's sake.",
    ),
    writing(
        "debezium-json.encode.ignore-null-fields",
        OptionKind::Boolean,
        Some("false"),
        "Leave NULL fields out of written objects.",
    ),
];

const PARQUET: &[OptionDescription] = &[
    writing(
        "parquet.compression",
        OptionKind::OneOf(&["NONE", "UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD", "LZ4"]),
        Some("SNAPPY"),
        "How written files are compressed.",
    ),
    writing(
        "parquet.row-group-rows",
        OptionKind::Integer,
        Some("1048576"),
        "Most rows of a row group in written files.",
    ),
];

const JSON_OF_FLINK: &[FlinkOption] = &[no_effect("json.decode.json-parser.enabled", "there is one parser")];

const CSV_OF_FLINK: &[FlinkOption] = &[no_effect(
    "csv.write-bigdecimal-in-scientific-notation",
    "decimals are written with all their digits",
)];

const PARQUET_OF_FLINK: &[FlinkOption] = &[
    no_effect("parquet.utc-timezone", "times are always UTC"),
    no_effect("parquet.write.int64.timestamp", "times are always 64-bit integers"),
    no_effect("parquet.timestamp.time.unit", "times are always microseconds"),
    no_effect("parquet.block.size", "'parquet.row-group-rows' limits row groups"),
    no_effect("parquet.page.size", "pages have the writer's default size"),
    no_effect("parquet.dictionary.page.size", "pages have the writer's default size"),
    no_effect("parquet.enable.dictionary", "the writer chooses the encoding"),
    no_effect("parquet.writer.version", "files have the writer's default version"),
    no_effect("parquet.batch-size", "batches have the size that the job uses"),
];
