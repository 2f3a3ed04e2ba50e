//! The fields of the spec: name, kind of value and description. The reader refuses all other fields, and the JSON
//! Schema is generated from this list, so the two agree.

/// The kind of value of a field.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// A name: letters, digits, `_`, `-` and `.`.
    Name,
    /// A number from 1 to the given one.
    Count(u32),
    /// A number from 1 to the given one, or `auto`, which is equivalent to leaving the field out.
    CountOrAuto(u32),
    /// A number from 0 to the given one.
    CountOrZero(u32),
    /// A duration, such as `10s`.
    Duration,
    /// `true` or `false`.
    Boolean,
    /// One of the given words.
    OneOf(&'static [&'static str]),
    /// A list of texts. A single text is a list of one.
    Texts,
    /// A map of option names to texts.
    Options,
    /// A map of column names to types or to maps of [`COLUMN`].
    Columns,
    /// A map with the given fields.
    Map(&'static [Field]),
    /// A map of names to maps with the given fields.
    Named(&'static [Field]),
}

/// A field of the spec.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Name.
    pub name: &'static str,
    /// Kind of value.
    pub kind: Kind,
    /// True if the field must be given.
    pub required: bool,
    /// Description, for the JSON Schema and for messages.
    pub help: &'static str,
}

const fn required(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field {
        name,
        kind,
        required: true,
        help,
    }
}

const fn optional(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field {
        name,
        kind,
        required: false,
        help,
    }
}

/// Values of `mode`, in the order of the protocol's enum.
pub const MODES: &[&str] = &["stream", "batch", "serve"];
/// Values of `delivery`, in the order of the protocol's enum.
pub const DELIVERIES: &[&str] = &["exactly-once", "at-least-once"];
/// Values of `on_error`, in the order of the protocol's enum.
pub const ERROR_POLICIES: &[&str] = &["fail", "dead_letter", "skip", "null"];

/// Largest parallelism and number of key groups.
pub const MAX_PARALLELISM_MAX: u32 = 32_768;

/// Fields of a pipeline.
pub const JOB: &[Field] = &[
    required(
        "name",
        Kind::Name,
        "The job's name: its state and checkpoints are kept under it.",
    ),
    optional(
        "mode",
        Kind::OneOf(MODES),
        "`stream` follows the sources; `batch` reads them to their end; `serve` answers requests, each of which is a batch. \
         Default: stream.",
    ),
    optional(
        "parallelism",
        Kind::CountOrAuto(MAX_PARALLELISM_MAX),
        "Subtasks per operator. Default, and `auto`: one per slot, following the slots there are.",
    ),
    optional(
        "max_parallelism",
        Kind::Count(MAX_PARALLELISM_MAX),
        "Number of key groups; fixed for the life of the job's state. Default: 128.",
    ),
    optional(
        "state_ttl",
        Kind::Duration,
        "Time after which state of queries without windows that does not change is deleted. Default: never.",
    ),
    optional(
        "consistency",
        Kind::Map(CONSISTENCY),
        "Points at which queries without windows emit their changes together.",
    ),
    optional(
        "time_zone",
        Kind::Text,
        "Time zone in which queries read instants (TIMESTAMP_LTZ): a full name such as `Europe/Berlin`, or an offset such as \
         `GMT+05:30`. Default: UTC.",
    ),
    optional(
        "checkpoints",
        Kind::Map(CHECKPOINTS),
        "When and where checkpoints are taken.",
    ),
    required("sources", Kind::Named(SOURCE), "Tables that rows come from, by name."),
    optional(
        "steps",
        Kind::Named(STEP),
        "Queries, by name. Each may read sources and steps.",
    ),
    required("sinks", Kind::Named(SINK), "Tables that rows go to, by name."),
    optional(
        "parameters",
        Kind::Named(PARAMETER),
        "Values for `${param.NAME}` in steps and options, which may differ between modes.",
    ),
    optional(
        "modes",
        Kind::Map(MODE_SECTIONS),
        "Sources and sinks that differ between modes. Steps are the same in all modes.",
    ),
];

/// Fields of a parameter: a default, and a value of each mode.
pub const PARAMETER: &[Field] = &[
    optional(
        "default",
        Kind::Text,
        "The value in modes that have no value of their own.",
    ),
    optional("stream", Kind::Text, "The value in a stream."),
    optional("batch", Kind::Text, "The value in a batch."),
    optional("serve", Kind::Text, "The value in a service."),
];

/// Fields of `modes`, in the order of [`MODES`].
pub const MODE_SECTIONS: &[Field] = &[
    optional("stream", Kind::Map(MODE_SECTION), "Sources and sinks of a stream."),
    optional("batch", Kind::Map(MODE_SECTION), "Sources and sinks of a batch."),
    optional("serve", Kind::Map(MODE_SECTION), "Sources and sinks of a service."),
];

/// Fields of the section of one mode.
pub const MODE_SECTION: &[Field] = &[
    optional(
        "sources",
        Kind::Named(SOURCE),
        "Sources that replace those of their names. Columns, event time, keys and the error policy are kept unless they \
         are given.",
    ),
    optional(
        "sinks",
        Kind::Named(MODE_SINK),
        "All sinks of the mode. Input, columns, keys and the error policy of a sink of the same name are kept unless they \
         are given.",
    ),
];

/// Fields of `consistency`.
pub const CONSISTENCY: &[Field] = &[optional(
    "interval",
    Kind::Duration,
    "From one consistency point to the next, at least. Every checkpoint is a point, too. Default: changes are emitted at \
     once.",
)];

/// Fields of `checkpoints`.
pub const CHECKPOINTS: &[Field] = &[
    optional(
        "interval",
        Kind::Duration,
        "From the start of one checkpoint to the start of the next. Default: 10s.",
    ),
    optional(
        "delivery",
        Kind::OneOf(DELIVERIES),
        "What the sinks must promise. Default: exactly-once where they can.",
    ),
    optional(
        "retain",
        Kind::Count(1000),
        "Completed checkpoints to keep. Default: 3.",
    ),
    optional(
        "storage",
        Kind::Text,
        "URL of the folder that checkpoints are kept in: file://, s3://, gs:// or az://. Default: in the data folder.",
    ),
    optional(
        "min_pause",
        Kind::Duration,
        "At least this long from the end of one checkpoint to the next. Default: 0s.",
    ),
    optional(
        "timeout",
        Kind::Duration,
        "A checkpoint that takes longer is given up. Default: 10min.",
    ),
    optional(
        "tolerable_failures",
        Kind::CountOrZero(1_000_000),
        "Failed checkpoints in a row that the job survives. Default: 3.",
    ),
    optional(
        "aligned_timeout",
        Kind::Duration,
        "A task that waits longer for a checkpoint's barriers lets them overtake the rows before them, which become part \
         of the checkpoint. Default: 30s; as long as `timeout`, or longer: never.",
    ),
];

/// Fields of a source.
pub const SOURCE: &[Field] = &[
    CONNECTOR,
    OPTIONS,
    FORMAT,
    optional(
        "columns",
        Kind::Columns,
        "The table's columns, in order: name to SQL type, or to a map for computed and metadata columns.",
    ),
    optional(
        "event_time",
        Kind::Map(EVENT_TIME),
        "Which column says when a row happened.",
    ),
    optional(
        "on_error",
        Kind::OneOf(ERROR_POLICIES),
        "What becomes of records that do not decode. Default: fail.",
    ),
    optional("partitioned_by", Kind::Texts, "Columns taken from the folders' names."),
    optional(
        "primary_key",
        Kind::Texts,
        "Columns that identify a row, of sources whose records are changes.",
    ),
];

/// Fields of `event_time`.
pub const EVENT_TIME: &[Field] = &[
    required("column", Kind::Text, "A column of type TIMESTAMP or TIMESTAMP_LTZ."),
    optional(
        "out_of_orderness",
        Kind::Duration,
        "How far behind the newest row a row may be without being late. Default: 0s.",
    ),
    optional(
        "idle_timeout",
        Kind::Duration,
        "A split without rows for this long no longer holds event time back. Default: 5s.",
    ),
    optional(
        "max_future",
        Kind::Duration,
        "Rows further ahead of the clock do not advance event time. Default: 1h.",
    ),
    optional(
        "expression",
        Kind::Text,
        "The watermark a row justifies, in SQL, instead of `out_of_orderness`.",
    ),
];

/// Fields of a column that is written as a map.
pub const COLUMN: &[Field] = &[
    optional("type", Kind::Text, "SQL type. Not for computed columns."),
    optional(
        "as",
        Kind::Text,
        "SQL that computes the column from the table's other columns.",
    ),
    optional(
        "metadata",
        Kind::Text,
        "The connector's metadata that fills the column.",
    ),
    optional("virtual", Kind::Boolean, "A metadata column that sinks do not write."),
];

/// Fields of a step.
pub const STEP: &[Field] = &[
    required("sql", Kind::Text, "A SELECT over sources and other steps."),
    optional(
        "on_error",
        Kind::OneOf(ERROR_POLICIES),
        "What becomes of rows that the query fails on. Default: fail.",
    ),
];

/// Fields of a sink.
pub const SINK: &[Field] = &[
    required(
        "from",
        Kind::Text,
        "A step or source; `STEP.late` for its late rows, `NAME.dead_letters` for rows that failed.",
    ),
    CONNECTOR,
    OPTIONS,
    FORMAT,
    SINK_COLUMNS,
    SINK_PARTITIONS,
    SINK_KEY,
    SINK_ON_ERROR,
];

const CONNECTOR: Field = required(
    "connector",
    Kind::Text,
    "Kind of outside system; `engine connectors` lists them.",
);
const OPTIONS: Field = optional(
    "options",
    Kind::Options,
    "The connector's and format's options. `${NAME}` and `${NAME:-default}` stand for environment variables.",
);
const FORMAT: Field = optional("format", Kind::Text, "How records are encoded.");
const SINK_COLUMNS: Field = optional(
    "columns",
    Kind::Columns,
    "The table's columns, in order. Default: those of `from`.",
);
const SINK_PARTITIONS: Field = optional(
    "partitioned_by",
    Kind::Texts,
    "Columns that divide the output into folders.",
);
const SINK_KEY: Field = optional("primary_key", Kind::Texts, "Columns that identify a row.");
const SINK_ON_ERROR: Field = optional(
    "on_error",
    Kind::OneOf(ERROR_POLICIES),
    "What becomes of rows that cannot be encoded. Default: fail.",
);

/// Fields of a sink in the section of a mode.
pub const MODE_SINK: &[Field] = &[
    optional(
        "from",
        Kind::Text,
        "A step or source, as in `sinks`. Default: that of the sink of the same name.",
    ),
    CONNECTOR,
    OPTIONS,
    FORMAT,
    SINK_COLUMNS,
    SINK_PARTITIONS,
    SINK_KEY,
    SINK_ON_ERROR,
];
