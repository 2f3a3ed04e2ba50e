//! A seeded source of generated rows, with the options of Flink's `datagen`: each column is a sequence or random.
//!
//! Row `n` is a pure function of the seed and `n` at any parallelism, except for random timestamps, which follow the
//! clock. Rows are assigned in blocks to a fixed number of splits, which readers read round-robin.

mod column;
mod source;

use std::sync::Arc;

use crate::options::{Options, option};
use crate::rate_limit::RateLimited;
use crate::{
    Connector, Error, OptionDescription, OptionEffect, OptionError, OptionKind, Role, Source, Split, TableDefinition,
};

use self::column::Column;
use self::source::DatagenSource;

/// The connector `datagen`.
pub struct Datagen;

const OPTIONS: &[OptionDescription] = &[
    option(
        "rows-per-second",
        OptionKind::Integer,
        Some("10000"),
        "How many rows to make per second, over all subtasks.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "number-of-rows",
        OptionKind::Integer,
        None,
        "How many rows in all; without it (and without a sequence) the source never ends.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "seed",
        OptionKind::Integer,
        Some("0"),
        "The same seed gives the same rows.",
    ),
    option(
        "fields.*",
        OptionKind::Text,
        None,
        "Of the column `c`: `fields.c.kind` (random or sequence), `.start` and `.end` of a sequence, `.min`, `.max`, `.length`, `.var-len` (texts of 1 to `length` characters), `.null-rate`, `.max-past` of random values.",
    ),
];

/// Suffixes of `fields.COLUMN.`.
const FIELD_OPTIONS: [&str; 9] = [
    "kind",
    "start",
    "end",
    "min",
    "max",
    "length",
    "var-len",
    "null-rate",
    "max-past",
];

impl Connector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn help(&self) -> &'static str {
        "Makes rows up: sequences and seeded random values."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        OPTIONS
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    fn validate(&self, table: &TableDefinition, _role: Role) -> Vec<OptionError> {
        let mut errors = field_names(table);
        for field in table.schema.fields() {
            if let Err(error) = Column::new(table, field) {
                errors.push(OptionError::new(field.name().clone(), error.to_string()));
            }
        }
        if errors.is_empty()
            && let Err(error) = settings(table)
        {
            errors.push(OptionError::of_table(error.to_string()));
        }
        errors
    }

    fn is_bounded(&self, table: &TableDefinition) -> bool {
        settings(table).is_ok_and(|settings| settings.rows.is_some())
    }

    fn describe_position(&self, split: &Split) -> Option<String> {
        source::describe_position(split)
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        let Settings {
            columns,
            rows,
            rows_per_second,
            seed,
        } = settings(table)?;
        let source = DatagenSource::new(table.schema.clone(), columns, rows, rows_per_second as u64, seed);
        Ok(Arc::new(RateLimited::new(Arc::new(source), rows_per_second)))
    }
}

/// Returns the mistakes in options of unknown columns and with unknown suffixes.
fn field_names(table: &TableDefinition) -> Vec<OptionError> {
    let mut errors = Vec::new();
    for option in table.options.keys().filter(|option| option.starts_with("fields.")) {
        let Some((column, part)) = option["fields.".len()..].rsplit_once('.') else {
            errors.push(OptionError::new(
                option.clone(),
                format!("'{option}' names no column; write 'fields.COLUMN.kind' or the like"),
            ));
            continue;
        };
        if table.field(column).is_none() {
            let near = millstream_proto::spec::did_you_mean(
                column,
                table.schema.fields().iter().map(|field| field.name().as_str()),
            );
            errors.push(OptionError::new(
                option.clone(),
                format!("'{option}': there is no column `{column}`{near}"),
            ));
        } else if !FIELD_OPTIONS.contains(&part) {
            let near = millstream_proto::spec::did_you_mean(part, FIELD_OPTIONS);
            errors.push(OptionError::new(
                option.clone(),
                format!("'{option}': there is no option `{part}` of a column{near}"),
            ));
        }
    }
    errors
}

struct Settings {
    columns: Vec<Column>,
    /// `None` for a source that never ends.
    rows: Option<u64>,
    rows_per_second: f64,
    seed: u64,
}

fn settings(table: &TableDefinition) -> Result<Settings, Error> {
    let options = Options::of(table);
    let columns = table
        .schema
        .fields()
        .iter()
        .map(|field| Column::new(table, field))
        .collect::<Result<Vec<_>, _>>()?;
    let longest = columns.iter().filter_map(Column::length).min();
    let rows = match (options.count("number-of-rows")?, longest) {
        (Some(rows), Some(longest)) => Some(rows.min(longest)),
        (rows, longest) => rows.or(longest),
    };
    let rows_per_second = options.count("rows-per-second")?.unwrap_or(10_000);
    if rows_per_second == 0 {
        return Err(Error::Invalid(format!(
            "table `{}`: 'rows-per-second' is 0; it is at least 1",
            table.name
        )));
    }
    let seed = options.integer("seed")?.unwrap_or(0) as u64;
    Ok(Settings {
        columns,
        rows,
        rows_per_second: rows_per_second as f64,
        seed,
    })
}

#[cfg(test)]
mod tests;
