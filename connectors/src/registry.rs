//! The registry of all compiled-in connectors, and the validation of table definitions against their descriptions.
//!
//! Each connector is one cargo feature and one line in [`connectors`]. [`validate`] is pure: it reads descriptions and
//! the definition, has no access to external systems, and reports all mistakes at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use millstream_proto::spec::{did_you_mean, secret_reference};
use parking_lot::RwLock;

use crate::flink_options::{self, Treatment};
use crate::format::{self, Format};
use crate::options::{self, Options};
use crate::rate_limit::{self, RateLimited};
use crate::secrets;
use crate::{
    Connector, Error, OptionDescription, OptionEffect, OptionError, Role, Sink, Source, Split, TableDefinition,
};

/// Returns every connector of this build, in the order of their names.
pub fn connectors() -> &'static [&'static dyn Connector] {
    &[
        #[cfg(feature = "blackhole")]
        &crate::blackhole::Blackhole,
        #[cfg(feature = "datagen")]
        &crate::datagen::Datagen,
        #[cfg(feature = "filesystem")]
        &crate::filesystem::Filesystem,
        #[cfg(all(feature = "filesystem", feature = "kafka"))]
        &crate::hybrid::Hybrid,
        #[cfg(feature = "kafka")]
        &crate::kafka::Kafka,
        #[cfg(feature = "nexmark")]
        &crate::nexmark::Nexmark,
        #[cfg(feature = "print")]
        &crate::print::Print,
        &crate::request::Request,
        &crate::request::Response,
        #[cfg(feature = "kafka")]
        &crate::kafka::UpsertKafka,
    ]
}

static REGISTERED: RwLock<Vec<&'static dyn Connector>> = RwLock::new(Vec::new());

/// Registers a connector of a test or a simulator for this process.
pub fn register(connector: &'static dyn Connector) {
    REGISTERED.write().push(connector);
}

/// Returns the connector with this name.
pub fn find(name: &str) -> Option<&'static dyn Connector> {
    let named = |connector: &&'static dyn Connector| connector.name() == name;
    let known = connectors().iter().copied().find(named);
    known.or_else(|| REGISTERED.read().iter().copied().find(named))
}

/// Creates the source of a checked table, rate-limited if the table has the option. Reads the secrets of the table.
pub fn source(table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
    let source = connector_of(table)?.source(&*secrets::resolve(table)?)?;
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

/// Creates the sink of a checked table. Reads the secrets of the table.
pub fn sink(table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
    connector_of(table)?.sink(&*secrets::resolve(table)?)
}

/// Checks that the external objects of checked tables exist, see [`Connector::check_external_objects`]. Returns one
/// result per table, in their order.
pub async fn check_external_objects(tables: &[(Role, Arc<TableDefinition>)]) -> Vec<Result<(), Error>> {
    let mut results: Vec<Result<(), Error>> = tables.iter().map(|_| Ok(())).collect();
    let mut by_connector: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut with_secrets = tables.to_vec();
    for (index, (_, table)) in tables.iter().enumerate() {
        match secrets::resolve(table) {
            Ok(Cow::Borrowed(_)) => {}
            Ok(Cow::Owned(resolved)) => with_secrets[index].1 = Arc::new(resolved),
            Err(error) => {
                results[index] = Err(error);
                continue;
            }
        }
        by_connector.entry(table.connector()).or_default().push(index);
    }
    let with_secrets = &with_secrets;
    let checks = by_connector.into_values().map(|indices| async move {
        let of_connector: Vec<_> = indices.iter().map(|index| with_secrets[*index].clone()).collect();
        let found = match connector_of(&tables[indices[0]].1) {
            Ok(connector) => connector.check_external_objects(of_connector).await,
            Err(error) => return vec![(indices[0], Err(error))],
        };
        indices.into_iter().zip(found).collect::<Vec<_>>()
    });
    for (index, result) in join_all(checks).await.into_iter().flatten() {
        results[index] = result;
    }
    results
}

/// Describes the position of a checkpoint's split for a person; `None` if no connector of this build recognises it.
pub fn describe_position(split: &Split) -> Option<String> {
    connectors()
        .iter()
        .find_map(|connector| connector.describe_position(split))
}

fn connector_of(table: &TableDefinition) -> Result<&'static dyn Connector, Error> {
    let name = table.connector();
    find(name).ok_or_else(|| {
        Error::Invalid(format!(
            "table `{}`: unknown connector `{name}`; known are {}",
            table.name,
            connector_names()
        ))
    })
}

/// The option with the idle timeout of a source, which the planner applies.
pub const IDLE_TIMEOUT: &str = "scan.watermark.idle-timeout";

/// The options of tables of every connector.
pub const COMMON_OPTIONS: &[OptionDescription] = &[
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
    OptionDescription {
        name: IDLE_TIMEOUT,
        kind: crate::OptionKind::Duration,
        required: false,
        default: None,
        secret: false,
        effect: OptionEffect::Nothing,
        help: "Time without rows after which a source that has caught up no longer holds the watermark back; \
               `table.exec.source.idle-timeout` if it is not given.",
    },
];

/// An option of a source table that determines its rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowOption {
    /// Name without the prefix `value.`, which has no effect.
    pub name: String,
    /// Normal form of the value, equal for values of equal meaning.
    pub value: String,
    /// Effect of another value; never [`OptionEffect::Nothing`].
    pub effect: OptionEffect,
}

/// Returns the options of a checked source table that determine its rows, sorted, without those that have their default
/// value. An option without a description counts as one that selects records.
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
            options::describes(description, rest).then_some(*description)
        })
    };
    let mut found = Vec::new();
    for (option, value) in &table.options {
        let name = match option.strip_prefix("value.") {
            Some(rest) if rest != "fields-include" => rest,
            _ => option,
        };
        let Some(description) = described(option) else {
            if flink_treatment(connector, &formats, option).is_some() {
                continue;
            }
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

/// Returns true if the value of an option of this name must not be stored, whatever its connector is. An option that
/// determines rows is not a secret, whatever its name is: the column `password` of a generator.
pub fn is_secret(option: &str) -> bool {
    let determines_rows = |connector: &&'static dyn Connector| {
        connector.options(Role::Source).iter().any(|description| {
            !description.secret
                && description.effect != OptionEffect::Nothing
                && options::describes(description, option)
        })
    };
    let secret = |connector: &&'static dyn Connector| options::is_secret(Some(*connector), option);
    connectors().iter().any(secret) && !connectors().iter().any(determines_rows)
}

/// Prefixes of the options that name a format: of the whole record, of its key, of its value.
const FORMAT_PREFIXES: [&str; 3] = ["", "key.", "value."];

/// Validates a table in a role. Returns all mistakes; empty if the table can be created.
pub fn validate(table: &TableDefinition, role: Role) -> Vec<OptionError> {
    let Some(name) = table.option("connector") else {
        let known = connector_names();
        return vec![OptionError::new(
            "connector",
            format!("the option 'connector' is missing; it is one of {known}"),
        )];
    };
    let Some(connector) = find(name) else {
        if let Some(instead) = flink_options::instead_of_connector(name) {
            return vec![OptionError::new(
                "connector",
                format!("the connector `{name}` of Flink is not available: {instead}"),
            )];
        }
        let near = did_you_mean(name, connectors().iter().map(|connector| connector.name()));
        return vec![OptionError::new(
            "connector",
            format!("unknown connector `{name}`{near} (known: {})", connector_names()),
        )];
    };
    let mut errors = Vec::new();
    if !connector.roles().contains(&role) {
        let (can, cannot) = match role {
            Role::Source => ("written to", "read from"),
            Role::Sink => ("read from", "written to"),
        };
        errors.push(OptionError::new(
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
                .is_some_and(|rest| options::describes(description, rest))
        }) {
            Some((_, description)) if secret_reference::is_in(value) => {
                if !options::accepts_secret(connector, description, option) {
                    let message = format!(
                        "the option '{option}' cannot refer to a secret, because its value is shown or stored in \
                         checkpoints; only options for credentials can, such as 'properties.sasl.password' and 'store.*'"
                    );
                    errors.push(OptionError::new(option, message));
                }
            }
            Some((_, description)) => {
                if let Err(problem) = options::check_value(description, value) {
                    errors.push(OptionError::new(option, problem));
                }
            }
            None => {
                match flink_treatment(connector, &formats, option) {
                    Some(Treatment::NoEffect(_)) => continue,
                    Some(Treatment::Refused(instead)) => {
                        let message = format!("the option '{option}' is not supported: {instead}");
                        errors.push(OptionError::new(option, message));
                        continue;
                    }
                    None => {}
                }
                let candidates: Vec<String> = known
                    .iter()
                    .filter(|(_, description)| !description.name.ends_with('*'))
                    .map(|(prefix, description)| format!("{prefix}{}", description.name))
                    .collect();
                let near = did_you_mean(option, candidates.iter().map(String::as_str));
                errors.push(OptionError::new(
                    option,
                    format!("unknown option '{option}' for the connector `{name}`{near}"),
                ));
            }
        }
    }
    for description in connector.options(role) {
        if description.required
            && !table
                .options
                .keys()
                .any(|option| options::describes(description, option))
        {
            errors.push(OptionError::new(
                description.name,
                format!("the option '{}' is missing: {}", description.name, description.help),
            ));
        }
    }
    validate_metadata(table, connector, role, &mut errors);
    if errors.is_empty() {
        errors.extend(connector.validate(table, role));
        for (prefix, part) in connector.parts(table) {
            errors.extend(
                validate(&part, role)
                    .into_iter()
                    .map(|error| of_part(error, prefix, &part)),
            );
        }
    }
    errors
}

/// Returns the mistake of a part of a table as one of the table.
fn of_part(error: OptionError, prefix: &str, part: &TableDefinition) -> OptionError {
    let is_option = |name: &String| part.options.contains_key(name);
    OptionError {
        subject: match error.subject {
            Some(name) if is_option(&name) => Some(format!("{prefix}{name}")),
            subject => subject,
        },
        message: match prefix.strip_suffix('.') {
            Some(part) => format!("the {part}: {}", error.message),
            None => error.message,
        },
    }
}

/// Returns the formats of a table, each with the prefix of its options.
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
                    // `format` and `value.format` are synonyms, and so are the prefixes of the format's options.
                    formats.push(("value.", format));
                }
            }
            None => {
                let near = did_you_mean(name, format::formats().iter().map(|format| format.name));
                errors.push(OptionError::new(
                    &option,
                    format!("unknown format `{name}`{near} (known: {})", format_names()),
                ));
            }
        }
    }
    let has_value = table.option("format").is_some() || table.option("value.format").is_some();
    if connector.uses_format(role) && !has_value {
        errors.push(OptionError::new(
            "format",
            format!("the option 'format' is missing; it is one of {}", format_names()),
        ));
    }
    formats
}

fn known_options(
    connector: &dyn Connector,
    formats: &[(&'static str, &'static Format)],
) -> Vec<(String, &'static OptionDescription)> {
    let mut known: Vec<(String, &'static OptionDescription)> = Vec::new();
    known.extend(COMMON_OPTIONS.iter().map(|description| (String::new(), description)));
    // Options of the other role are allowed, because one table may be both read and written.
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

/// Returns the treatment of an option without a description, if it is one of Flink's.
fn flink_treatment(
    connector: &dyn Connector,
    formats: &[(&'static str, &'static Format)],
    option: &str,
) -> Option<Treatment> {
    let of_formats = formats.iter().filter_map(|(prefix, format)| {
        let name = option.strip_prefix(prefix)?;
        let mut known = format.flink_options.iter();
        known.find(|known| flink_options::describes(known, name))
    });
    let of_connector = flink_options::COMMON.iter().chain(connector.flink_options());
    of_connector
        .filter(|known| flink_options::describes(known, option))
        .chain(of_formats)
        .map(|known| known.treatment)
        .next()
}

/// Returns notes about the options of a table that have no effect.
pub fn notes(table: &TableDefinition) -> Vec<OptionError> {
    let Some(connector) = find(table.connector()) else {
        return Vec::new();
    };
    let formats = formats(table, connector, Role::Source, &mut Vec::new());
    let known = known_options(connector, &formats);
    let is_described = |option: &str| {
        known.iter().any(|(prefix, description)| {
            let name = option.strip_prefix(prefix.as_str());
            name.is_some_and(|name| options::describes(description, name))
        })
    };
    let options = table.options.keys().filter(|option| !is_described(option));
    options
        .filter_map(|option| match flink_treatment(connector, &formats, option)? {
            Treatment::NoEffect(reason) => Some(OptionError::new(
                option,
                format!("the option '{option}' has no effect: {reason}"),
            )),
            Treatment::Refused(_) => None,
        })
        .collect()
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
                let near = did_you_mean(&column.key, keys.iter().copied());
                format!(
                    "unknown metadata key '{}'{near} (known: {})",
                    column.key,
                    keys.join(", ")
                )
            };
            errors.push(OptionError::new(&column.column, message));
            continue;
        };
        if role == Role::Sink && !column.is_virtual {
            if !description.writable {
                errors.push(OptionError::new(
                    &column.column,
                    format!(
                        "the metadata '{}' cannot be written; declare the column VIRTUAL",
                        column.key
                    ),
                ));
            } else if !written.insert(&column.key) {
                errors.push(OptionError::new(
                    &column.column,
                    format!("the metadata '{}' is written by two columns", column.key),
                ));
            }
        }
    }
}

/// Returns the names of all compiled-in connectors, for error messages.
fn connector_names() -> String {
    connectors()
        .iter()
        .map(|connector| connector.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns the names of all formats, for error messages.
fn format_names() -> String {
    format::formats()
        .iter()
        .map(|format| format.name)
        .collect::<Vec<_>>()
        .join(", ")
}
