//! Option values: the text after `=` in `WITH (...)` or under `options:` in YAML.
//!
//! [`Options`] finds an option in a table definition and parses it; every error names the table, the option, the value
//! and an example of a correct value. The spellings are Flink's: `10 s`, `500ms`, `1 min` for durations (a bare number
//! is milliseconds), `64mb`, `1 gb` for sizes (powers of 1024; a bare number is bytes), `a;b;c` for lists.
//! [`check_value`] validates a value against an [`OptionDescription`].

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_proto::spec::{did_you_mean, parse_flink_duration};

use crate::{Connector, Error, OptionDescription, OptionEffect, OptionKind, Role, TableDefinition};

/// The text shown in place of a secret.
pub const MASK: &str = "******";

/// Typed access to the options of one table.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    table: &'a str,
    options: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// Returns the options of a table.
    pub fn of(table: &'a TableDefinition) -> Self {
        Self {
            table: &table.name,
            options: &table.options,
        }
    }

    /// Returns `options` with the name of their table.
    pub fn new(table: &'a str, options: &'a BTreeMap<String, String>) -> Self {
        Self { table, options }
    }

    /// Returns the name of the table, for error messages.
    pub fn table(&self) -> &'a str {
        self.table
    }

    /// Returns the value of an option as text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.options.get(name).map(String::as_str)
    }

    /// Returns the value of an option as text, or an error if it is missing.
    pub fn required(&self, name: &str) -> Result<&'a str, Error> {
        self.text(name)
            .ok_or_else(|| Error::Invalid(format!("table `{}`: the option '{name}' is missing", self.table)))
    }

    /// Parses `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        self.parsed(name, parse_boolean)
    }

    /// Parses a whole number; `1_000` is allowed.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        self.parsed(name, parse_integer)
    }

    /// Parses a whole number that is not negative, such as a count or a limit.
    pub fn count(&self, name: &str) -> Result<Option<u64>, Error> {
        self.parsed(name, |text| {
            u64::try_from(parse_integer(text)?).map_err(|_| format!("`{text}` must not be negative; write e.g. 100"))
        })
    }

    /// Parses a finite number.
    pub fn float(&self, name: &str) -> Result<Option<f64>, Error> {
        self.parsed(name, parse_float)
    }

    /// Parses a duration: `10 s`, `500ms`; a bare number is milliseconds.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Error> {
        self.parsed(name, parse_flink_duration)
    }

    /// Parses a size in bytes: `64mb`, `1 gb`.
    pub fn bytes(&self, name: &str) -> Result<Option<u64>, Error> {
        self.parsed(name, parse_bytes)
    }

    /// Parses exactly one ASCII character, such as a delimiter. `\t`, `\n`, `\r`, `\0` and `\\` are escapes.
    pub fn byte(&self, name: &str) -> Result<Option<u8>, Error> {
        self.parsed(name, parse_byte)
    }

    /// Returns the items of a list separated by `;`, without empty items.
    pub fn list(&self, name: &str) -> Option<Vec<&'a str>> {
        self.text(name)
            .map(|text| text.split(';').map(str::trim).filter(|item| !item.is_empty()).collect())
    }

    /// Returns all options whose names start with `prefix`, by the rest of their names.
    pub fn with_prefix(&self, prefix: &str) -> BTreeMap<&'a str, &'a str> {
        self.options
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
            .filter(|(name, _)| !name.is_empty())
            .collect()
    }

    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(text)
            .map(Some)
            .map_err(|problem| Error::Invalid(format!("table `{}`: option '{name}': {problem}", self.table)))
    }
}

/// Describes an optional, non-secret option. Its effect is the strictest, so that a changed value is refused at a
/// restore unless the description states another effect.
pub(crate) const fn option(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    help: &'static str,
) -> OptionDescription {
    OptionDescription {
        name,
        kind,
        required: false,
        default,
        secret: false,
        effect: OptionEffect::Records,
        help,
    }
}

/// Checks a value against its description. The error describes the mistake and the remedy, without the value of a
/// secret.
pub fn check_value(description: &OptionDescription, value: &str) -> Result<(), String> {
    let result = match description.kind {
        OptionKind::Text => Ok(()),
        OptionKind::Integer => parse_integer(value).map(drop),
        OptionKind::Float => parse_float(value).map(drop),
        OptionKind::Boolean => parse_boolean(value).map(drop),
        OptionKind::Duration => parse_flink_duration(value).map(drop),
        OptionKind::Bytes => parse_bytes(value).map(drop),
        OptionKind::OneOf(words) => {
            if words.iter().any(|word| word.eq_ignore_ascii_case(value.trim())) {
                Ok(())
            } else {
                let near = did_you_mean(value, words.iter().copied());
                Err(format!(
                    "`{value}` is not one of {}{near}",
                    quoted(words.iter().copied())
                ))
            }
        }
    };
    result.map_err(|problem| {
        if description.secret {
            "the value does not have the right form".to_string()
        } else {
            problem
        }
    })
}

/// Returns the options of a table with secrets masked, for people and logs.
pub fn masked(table: &TableDefinition, connector: Option<&dyn Connector>) -> BTreeMap<String, String> {
    let masked = |name: &str, value: &str| match is_secret(connector, name) {
        true => MASK.to_string(),
        false => value.to_string(),
    };
    let options = table.options.iter();
    options
        .map(|(name, value)| (name.clone(), masked(name, value)))
        .collect()
}

/// Returns true if the value of this option must not be shown or stored, by the connector's description or by its name.
pub fn is_secret(connector: Option<&dyn Connector>, name: &str) -> bool {
    let described = connector.is_some_and(|connector| {
        [Role::Source, Role::Sink]
            .into_iter()
            .flat_map(|role| connector.options(role))
            .any(|description| description.secret && describes(description, name))
    });
    described || has_secret_name(name)
}

/// Returns true if the value of an option may be a secret: an option for credentials, whose value is not stored in
/// checkpoints.
pub(crate) fn accepts_secret(connector: &dyn Connector, description: &OptionDescription, option: &str) -> bool {
    let is_credential = is_secret(Some(connector), option)
        || ["properties.sasl.", "properties.ssl."]
            .iter()
            .any(|prefix| option.starts_with(prefix));
    is_credential && description.kind == OptionKind::Text && description.effect == OptionEffect::Nothing
}

/// Returns the normal form of a value, which is the same for all spellings of equal meaning: `10 s` and `10000` are one
/// duration. A value that cannot be parsed is returned unchanged.
pub fn normalized(kind: OptionKind, value: &str) -> String {
    let value = value.trim();
    let parsed = match kind {
        OptionKind::Text => return value.to_string(),
        OptionKind::OneOf(_) => return value.to_ascii_lowercase(),
        OptionKind::Integer => parse_integer(value).map(|number| number.to_string()),
        OptionKind::Float => parse_float(value).map(|number| number.to_string()),
        OptionKind::Boolean => parse_boolean(value).map(|truth| truth.to_string()),
        OptionKind::Duration => parse_flink_duration(value).map(|duration| format!("{} ns", duration.as_nanos())),
        OptionKind::Bytes => parse_bytes(value).map(|bytes| bytes.to_string()),
    };
    parsed.unwrap_or_else(|_| value.to_string())
}

/// Returns true if a description describes this option.
pub fn describes(description: &OptionDescription, option: &str) -> bool {
    match description.name.strip_suffix('*') {
        Some(prefix) => option.len() > prefix.len() && option.starts_with(prefix),
        None => description.name == option,
    }
}

fn has_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "password",
        "secret",
        "token",
        "sasl.jaas.config",
        "oauthbearer.config",
        "access_key",
        "access-key",
        "credential",
        "ssl.key.pem",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// Parses `true` or `false`, ignoring case.
pub fn parse_boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is not a boolean; write 'true' or 'false'")),
    }
}

/// Parses a whole number; `_` may separate digits.
pub fn parse_integer(text: &str) -> Result<i64, String> {
    text.trim()
        .replace('_', "")
        .parse()
        .map_err(|_| format!("`{text}` is not a whole number; write e.g. '1000'"))
}

/// Parses a finite number.
pub fn parse_float(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("`{text}` is not a number; write e.g. '0.5'")),
    }
}

/// Parses a size: `64mb`, `1 gb`, `512 kb`, in powers of 1024; a bare number is bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write e.g. '64mb', '1 gb' or '4096'");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: u64 = lower[..digits].parse().map_err(|_| wrong())?;
    let shift = match lower[digits..].trim() {
        "" | "b" | "byte" | "bytes" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn parse_byte(text: &str) -> Result<u8, String> {
    let unescaped = match text {
        "\\t" => "\t",
        "\\n" => "\n",
        "\\r" => "\r",
        "\\0" => "\0",
        "\\\\" => "\\",
        other => other,
    };
    match unescaped.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(format!(
            "`{text}` must be exactly one ASCII character, such as ';' or '\\t'"
        )),
    }
}

fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words
        .into_iter()
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_without_a_unit_is_milliseconds() {
        let given = BTreeMap::from([("max-past".to_string(), "250".to_string())]);
        let duration = Options::new("t", &given).duration("max-past").unwrap();
        assert_eq!(duration, Some(Duration::from_millis(250)));
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [
            ("64mb", 64 << 20),
            ("1 gb", 1 << 30),
            ("4096", 4096),
            ("2 KiB", 2048),
            ("0", 0),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "mb", "1 zb", "-5", "1.5mb", "99999999999999999999gb"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
