//! DataFusion's errors as errors of the pipeline, with plain messages and positions.

use datafusion::common::{SchemaError, Span};
use datafusion::error::DataFusionError;
use itertools::Itertools;

use super::tokens::line_column;
use crate::catalog::Broken;
use crate::error::{Error, Location};

/// Returns the errors that an error of DataFusion consists of, each with the best known position; `fallback` is the
/// start of the statement.
pub(crate) fn errors(error: DataFusionError, fallback: &Location) -> Vec<Error> {
    let mut found = Vec::new();
    collect(error, None, fallback, &mut found);
    found.dedup();
    found
}

fn collect(error: DataFusionError, span: Option<Span>, fallback: &Location, found: &mut Vec<Error>) {
    let message = match error {
        DataFusionError::Diagnostic(diagnostic, inner) => {
            return collect(*inner, diagnostic.span.or(span), fallback, found);
        }
        DataFusionError::Collection(errors) => {
            for error in errors {
                collect(error, span, fallback, found);
            }
            return;
        }
        DataFusionError::Context(_, inner) => return collect(*inner, span, fallback, found),
        DataFusionError::External(inner) if inner.downcast_ref::<Broken>().is_some() => return,
        DataFusionError::SchemaError(inner, _) => {
            return found.push(Error {
                location: place(span.or_else(|| column_span(&inner)), fallback),
                message: schema_message(&inner),
            });
        }
        DataFusionError::Plan(message) | DataFusionError::Execution(message) => plain(&message),
        DataFusionError::NotImplemented(message) => format!("not supported: {}", plain(&message)),
        other => plain(&other.strip_backtrace()),
    };
    found.push(Error {
        location: place(span, fallback),
        message,
    });
}

fn place(span: Option<Span>, fallback: &Location) -> Location {
    match span.map(|span| line_column(span.start.line, span.start.column)) {
        Some(location @ Location::LineColumn { .. }) => location,
        _ => fallback.clone(),
    }
}

fn column_span(error: &SchemaError) -> Option<Span> {
    match error {
        SchemaError::AmbiguousReference { field } => field.spans.first(),
        SchemaError::FieldNotFound { field, .. } => field.spans.first(),
        _ => None,
    }
}

fn schema_message(error: &SchemaError) -> String {
    match error {
        SchemaError::AmbiguousReference { field } => format!(
            "column `{}` is in more than one of the tables: write it with its table, such as `t.{}`",
            field.name, field.name
        ),
        SchemaError::DuplicateQualifiedField { qualifier, .. } => {
            format!("`{qualifier}` is used twice here: give it another name with AS")
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            format!("two columns are named `{name}`: give one another name with AS")
        }
        SchemaError::FieldNotFound { field, valid_fields } => {
            let wanted = field.flat_name();
            let valid: Vec<&str> = valid_fields
                .iter()
                .filter(|valid| field.relation.is_none() || field.relation == valid.relation)
                .map(|valid| valid.name.as_str())
                .unique()
                .collect();
            if valid.is_empty() && field.relation.is_some() {
                let relations = valid_fields.iter().filter_map(|valid| valid.relation.as_ref()).unique();
                let relations = relations.map(ToString::to_string).collect::<Vec<_>>();
                let qualifier = field.relation.as_ref().map(ToString::to_string).unwrap_or_default();
                let hint = millstream_proto::spec::did_you_mean(&qualifier, relations.iter().map(String::as_str));
                return format!("unknown column `{wanted}`: there is no table `{qualifier}` here{hint}");
            }
            let hint = millstream_proto::spec::did_you_mean(&field.name, valid.iter().copied());
            if hint.is_empty() && !valid.is_empty() {
                let shown = valid.iter().take(12).map(|name| format!("`{name}`")).join(", ");
                let more = if valid.len() > 12 { ", ..." } else { "" };
                return format!("unknown column `{wanted}`; there are {shown}{more}");
            }
            format!("unknown column `{wanted}`{hint}")
        }
    }
}

/// Replaces Arrow's names of types by SQL's.
pub(crate) fn sql_types(text: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("Utf8View", "STRING"),
        ("LargeUtf8", "STRING"),
        ("Utf8", "STRING"),
        ("UInt64", "BIGINT"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "FLOAT"),
        ("Date32", "DATE"),
        ("Decimal128", "DECIMAL"),
        ("Timestamp(µs)", "TIMESTAMP"),
        ("Timestamp(µs, \"UTC\")", "TIMESTAMP_LTZ"),
        ("Boolean", "BOOLEAN"),
    ];
    NAMES
        .iter()
        .fold(text.to_owned(), |text, (arrow, sql)| text.replace(arrow, sql))
}

/// Cuts a message before the first dump of a syntax tree.
fn without_syntax_tree(message: &str) -> &str {
    let dumps = ["Ident {", "Span(", "WithSpan {", "Span {"];
    let Some(dump) = dumps.iter().filter_map(|dump| message.find(dump)).min() else {
        return message;
    };
    let before = &message[..dump];
    let end = before.rfind(": ").or_else(|| before.rfind(' ')).unwrap_or(0);
    match before[..end].trim_end_matches([':', ' ']) {
        "" => "this expression is not supported here: write it in another way",
        message => message,
    }
}

/// Removes parts of DataFusion's messages that are for its developers.
fn plain(message: &str) -> String {
    let mut text = message.split("\n\nbacktrace").next().unwrap_or(message).trim();
    for prefix in [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Internal error: ",
        "Execution error: ",
        "type_coercion\ncaused by\n",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let text = without_syntax_tree(text);
    if let Some(field) = text
        .strip_prefix("Field ")
        .and_then(|rest| rest.split_once(" not found in struct"))
    {
        return format!("unknown field `{}` of a ROW", field.0);
    }
    if let Some((function, rest)) = text.split_once(" failed to match any signature")
        && let Some((_, rest)) = rest.split_once("(DataType: ")
        && let Some((data_type, _)) = rest.split_once(')')
    {
        let name = function.trim_matches(|other: char| !other.is_alphanumeric() && other != '_');
        let name = name.rsplit('\'').next().unwrap_or(name).to_ascii_uppercase();
        return format!("{name} takes other types, not {}", sql_types(data_type));
    }
    if let Some((_, rest)) = text.split_once("filter with non-boolean predicate '")
        && let Some((predicate, data_type)) = rest.split_once("' returning ")
    {
        let data_type = sql_types(data_type);
        return format!("a condition is true or false, but `{predicate}` is {data_type}");
    }
    // One of our own functions refused its arguments, with a reason.
    if let Some((function, reason)) = text.split_once("user-defined coercion failed with: ") {
        let reason = reason.strip_prefix("Error during planning: ").unwrap_or(reason);
        let reason = reason
            .split(" No function matches")
            .next()
            .unwrap_or(reason)
            .trim_end_matches('.');
        let name = function
            .split('\'')
            .nth(1)
            .filter(|name| !name.starts_with('$'))
            .unwrap_or("the function");
        return format!(
            "{} {reason}",
            if name == "the function" {
                name.to_owned()
            } else {
                name.to_ascii_uppercase()
            }
        );
    }
    let end = text
        .find("\nThis issue was likely caused by a bug in DataFusion")
        .unwrap_or(text.len());
    if let Some((_, rest)) = text.split_once("While expanding wildcard, column ")
        && let Some((column, _)) = rest.split_once(" must")
    {
        let column = column.trim_matches('"');
        return format!("column `{column}` must be in GROUP BY, or inside an aggregate such as MAX({column})");
    }
    let text = text[..end]
        .trim_end_matches('.')
        .replace("\n\tCandidate functions:", "; it takes")
        .replace(['\n', '\t'], " ");
    let text = sql_types(&text);
    let mut characters = text.chars();
    match (characters.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text,
    }
}
