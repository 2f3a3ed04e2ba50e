//! All connectors that were compiled in, and the check of a table definition against what they say of themselves.
//!
//! Each connector is one cargo feature and one line in [`registry`]. [`validate`] is pure: it reads descriptions and
//! the definition, never the outside world, and reports everything that is wrong at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::RwLock;

use crate::format::{self, Format};
use crate::options::{self, Options};
use crate::rate_limit::{self, RateLimited};
use crate::{
    Connector, Error, OptionDescription, OptionEffect, OptionError, Role, Sink, Source, Split, TableDefinition,
};

/// Every connector of this build, by name.
pub fn registry() -> &'static [&'static dyn Connector] {
    &[
        #[cfg(feature = "blackhole")]
        &crate::blackhole::Blackhole,
        #[cfg(feature = "datagen")]
        &crate::datagen::Datagen,
        #[cfg(feature = "filesystem")]
        &crate::filesystem::Filesystem,
        #[cfg(feature = "kafka")]
        &crate::kafka::Kafka,
        #[cfg(feature = "nexmark")]
        &crate::nexmark::Nexmark,
        #[cfg(feature = "print")]
        &crate::print::Print,
    ]
}

static ADDED: RwLock<Vec<&'static dyn Connector>> = RwLock::new(Vec::new());

/// Adds a connector that was not compiled in, for this process: a test's or a simulator's.
pub fn add(connector: &'static dyn Connector) {
    ADDED.write().push(connector);
}

/// The connector with this name.
pub fn find(name: &str) -> Option<&'static dyn Connector> {
    let named = |connector: &&'static dyn Connector| connector.name() == name;
    let known = registry().iter().copied().find(named);
    known.or_else(|| ADDED.read().iter().copied().find(named))
}

/// The source of a checked table, held back if the table says so.
pub fn source(table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
    let source = connector_of(table)?.source(table)?;
    match Options::of(table).float(rate_limit::OPTION)? {
        None => Ok(source),
        Some(rate) if rate.is_finite() && rate > 0.0 => Ok(Arc::new(RateLimited::new(source, rate))),
        Some(rate) => Err(Error::Invalid(format!(
            "table `{}`: '{}' is {rate}; it is a positive number of rows per second",
            table.name,
            rate_limit::OPTION
        ))),
    }
}

/// The sink of a checked table.
pub fn sink(table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
    connector_of(table)?.sink(table)
}

/// Whether what checked tables name exists outside, see [`Connector::look_up`]: an answer for each, in their order.
pub async fn look_up(tables: &[(Role, Arc<TableDefinition>)]) -> Vec<Result<(), Error>> {
    let mut answers: Vec<Result<(), Error>> = tables.iter().map(|_| Ok(())).collect();
    let mut by_connector: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, (_, table)) in tables.iter().enumerate() {
        by_connector.entry(table.connector()).or_default().push(index);
    }
    let looks = by_connector.into_values().map(|indices| async move {
        let of_connector: Vec<_> = indices.iter().map(|index| tables[*index].clone()).collect();
        let found = match connector_of(&tables[indices[0]].1) {
            Ok(connector) => connector.look_up(of_connector).await,
            Err(error) => return vec![(indices[0], Err(error))],
        };
        indices.into_iter().zip(found).collect::<Vec<_>>()
    });
    for (index, answer) in join_all(looks).await.into_iter().flatten() {
        answers[index] = answer;
    }
    answers
}

/// How far a split of a checkpoint was read, for a person; `None`: no connector of this build knows its form.
pub fn position(split: &Split) -> Option<String> {
    registry().iter().find_map(|connector| connector.position(split))
}

fn connector_of(table: &TableDefinition) -> Result<&'static dyn Connector, Error> {
    let name = table.connector();
    find(name).ok_or_else(|| {
        Error::Invalid(format!(
            "table `{}`: unknown connector `{name}`; known are {}",
            table.name,
            names()
        ))
    })
}

/// Options every table may have, whatever its connector.
pub const COMMON: &[OptionDescription] = &[
    OptionDescription {
        name: "connector",
        kind: crate::OptionKind::Text,
        required: true,
        default: None,
        secret: false,
        effect: OptionEffect::Records,
        help: "Which connector serves the table.",
    },
    OptionDescription {
        name: rate_limit::OPTION,
        kind: crate::OptionKind::Float,
        required: false,
        default: None,
        secret: false,
        effect: OptionEffect::Nothing,
        help: "Reads no faster than this many rows per second, over all subtasks.",
    },
];

/// An option of a source table that decides what its rows are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowOption {
    /// Without the prefix `value.`, which changes nothing.
    pub name: String,
    /// Normalised: equal for values of equal meaning.
    pub value: String,
    /// Not [`OptionEffect::Nothing`].
    pub effect: OptionEffect,
}

/// The options of a checked source table that decide what its rows are, sorted. Defaults are left out, whether
/// written or not. An option that nobody describes counts as one that selects records.
pub fn row_options(table: &TableDefinition) -> Vec<RowOption> {
    let Some(connector) = find(table.connector()) else {
        return Vec::new();
    };
    let formats = formats(table, connector, Role::Source, &mut Vec::new());
    let known = known_options(connector, &formats);
    let of_source: Vec<&str> = connector
        .options(Role::Source)
        .iter()
        .map(|option| option.name)
        .collect();
    let described = |option: &str| {
        known.iter().find_map(|(prefix, description)| {
            let rest = option.strip_prefix(prefix.as_str())?;
            options::names(description, rest).then_some(*description)
        })
    };
    let mut found = Vec::new();
    for (option, value) in &table.options {
        let name = match option.strip_prefix("value.") {
            Some(rest) if rest != "fields-include" => rest,
            _ => option,
        };
        let Some(description) = described(option) else {
            found.push(RowOption {
                name: name.to_string(),
                value: value.clone(),
                effect: OptionEffect::Records,
            });
            continue;
        };
        let written_only = connector
            .options(Role::Sink)
            .iter()
            .any(|sink| sink.name == description.name && !of_source.contains(&sink.name));
        if description.effect == OptionEffect::Nothing || written_only {
            continue;
        }
        let value = options::normalized(description.kind, value);
        let default = description
            .default
            .map(|default| options::normalized(description.kind, default));
        if default.as_deref() != Some(value.as_str()) {
            found.push(RowOption {
                name: name.to_string(),
                value,
                effect: description.effect,
            });
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Returns true if the value of an option of this name must not be stored, whatever connector it is for. An option that
/// decides what rows are is none, whatever it is called: the column `password` of a generator is no secret.
pub fn is_secret(option: &str) -> bool {
    let decides = |connector: &&'static dyn Connector| {
        connector.options(Role::Source).iter().any(|description| {
            !description.secret && description.effect != OptionEffect::Nothing && options::names(description, option)
        })
    };
    let secret = |connector: &&'static dyn Connector| options::is_secret(Some(*connector), option);
    registry().iter().any(secret) && !registry().iter().any(decides)
}

/// The options that name a format: the plain one, and one for each part of a record with two parts.
const FORMAT_PREFIXES: [&str; 3] = ["", "key.", "value."];

/// Everything that is wrong with a table in this role; empty if it can be built.
pub fn validate(table: &TableDefinition, role: Role) -> Vec<OptionError> {
    let Some(name) = table.option("connector") else {
        let known = names();
        return vec![wrong(
            "connector",
            format!("the option 'connector' is missing; it is one of {known}"),
        )];
    };
    let Some(connector) = find(name) else {
        let near = millstream_proto::spec::did_you_mean(name, registry().iter().map(|connector| connector.name()));
        return vec![wrong(
            "connector",
            format!("unknown connector `{name}`{near} (known: {})", names()),
        )];
    };
    let mut errors = Vec::new();
    if !connector.roles().contains(&role) {
        let (can, cannot) = match role {
            Role::Source => ("written to", "read from"),
            Role::Sink => ("read from", "written to"),
        };
        errors.push(wrong(
            "connector",
            format!("a table of the connector `{name}` can be {can}, not {cannot}"),
        ));
        return errors;
    }

    let formats = formats(table, connector, role, &mut errors);
    let known = known_options(connector, &formats);
    for (option, value) in &table.options {
        match known.iter().find(|(prefix, description)| {
            option
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| options::names(description, rest))
        }) {
            Some((_, description)) => {
                if let Err(problem) = options::check(description, value) {
                    errors.push(wrong(option, problem));
                }
            }
            None => {
                let candidates: Vec<String> = known
                    .iter()
                    .filter(|(_, description)| !description.name.ends_with('*'))
                    .map(|(prefix, description)| format!("{prefix}{}", description.name))
                    .collect();
                let near = millstream_proto::spec::did_you_mean(option, candidates.iter().map(String::as_str));
                errors.push(wrong(
                    option,
                    format!("unknown option '{option}' for the connector `{name}`{near}"),
                ));
            }
        }
    }
    for description in connector.options(role) {
        if description.required && !table.options.keys().any(|option| options::names(description, option)) {
            errors.push(wrong(
                description.name,
                format!("the option '{}' is missing: {}", description.name, description.help),
            ));
        }
    }
    validate_metadata(table, connector, role, &mut errors);
    if errors.is_empty() {
        errors.extend(connector.validate(table, role));
    }
    errors
}

/// The formats the table names, with the prefix of the option that named each.
fn formats(
    table: &TableDefinition,
    connector: &dyn Connector,
    role: Role,
    errors: &mut Vec<OptionError>,
) -> Vec<(&'static str, &'static Format)> {
    let mut formats = Vec::new();
    for prefix in FORMAT_PREFIXES {
        let option = format!("{prefix}format");
        let Some(name) = table.option(&option) else { continue };
        match format::find(name) {
            Some(format) => {
                formats.push((prefix, format));
                if prefix != "value." && prefix != "key." {
                    // `format` and `value.format` say the same: options may be written either way.
                    formats.push(("value.", format));
                }
            }
            None => {
                let all = format::formats().iter().map(|format| format.name).collect::<Vec<_>>();
                let near = millstream_proto::spec::did_you_mean(name, all.iter().copied());
                errors.push(wrong(
                    &option,
                    format!("unknown format `{name}`{near} (known: {})", all.join(", ")),
                ));
            }
        }
    }
    let has_value = table.option("format").is_some() || table.option("value.format").is_some();
    if connector.uses_format(role) && !has_value {
        let all = format::formats()
            .iter()
            .map(|format| format.name)
            .collect::<Vec<_>>()
            .join(", ");
        errors.push(wrong(
            "format",
            format!("the option 'format' is missing; it is one of {all}"),
        ));
    }
    formats
}

fn known_options(
    connector: &dyn Connector,
    formats: &[(&'static str, &'static Format)],
) -> Vec<(String, &'static OptionDescription)> {
    let mut known: Vec<(String, &'static OptionDescription)> = Vec::new();
    known.extend(COMMON.iter().map(|description| (String::new(), description)));
    // A table may be read and written: options of the other role are no mistake.
    for role in connector.roles() {
        known.extend(
            connector
                .options(*role)
                .iter()
                .map(|description| (String::new(), description)),
        );
    }
    if connector.roles().iter().any(|role| connector.uses_format(*role)) {
        known.push((String::new(), &format::FORMAT_OPTION));
    }
    for (prefix, format) in formats {
        known.extend(
            format
                .options
                .iter()
                .map(|description| ((*prefix).to_string(), description)),
        );
    }
    known
}

fn validate_metadata(table: &TableDefinition, connector: &dyn Connector, role: Role, errors: &mut Vec<OptionError>) {
    let offered = connector.metadata();
    let mut written = BTreeSet::new();
    for column in &table.metadata {
        let Some(description) = offered.iter().find(|description| description.key == column.key) else {
            let keys: Vec<&str> = offered.iter().map(|description| description.key).collect();
            let message = if keys.is_empty() {
                format!(
                    "the connector `{}` has no metadata, so no key '{}'",
                    connector.name(),
                    column.key
                )
            } else {
                let near = millstream_proto::spec::did_you_mean(&column.key, keys.iter().copied());
                format!(
                    "unknown metadata key '{}'{near} (known: {})",
                    column.key,
                    keys.join(", ")
                )
            };
            errors.push(wrong(&column.column, message));
            continue;
        };
        if role == Role::Sink && !column.is_virtual {
            if !description.writable {
                errors.push(wrong(
                    &column.column,
                    format!(
                        "the metadata '{}' cannot be written; declare the column VIRTUAL",
                        column.key
                    ),
                ));
            } else if !written.insert(&column.key) {
                errors.push(wrong(
                    &column.column,
                    format!("the metadata '{}' is written by two columns", column.key),
                ));
            }
        }
    }
}

fn names() -> String {
    registry()
        .iter()
        .map(|connector| connector.name())
        .collect::<Vec<_>>()
        .join(", ")
}

fn wrong(subject: &str, message: String) -> OptionError {
    OptionError {
        subject: Some(subject.to_string()),
        message,
    }
}
