//! DataFusion's errors as errors of the pipeline, with plain messages and positions.

use datafusion::common::{SchemaError, Span};
use datafusion::error::DataFusionError;
use itertools::Itertools;

use super::messages::{conversion_message, in_sql, plain};
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
        DataFusionError::NotImplemented(message) => {
            let message = plain(&message);
            match message.contains("not supported") || message.starts_with("only ") {
                true => message,
                false => format!("not supported: {message}"),
            }
        }
        DataFusionError::ArrowError(error, _) => conversion_message(&error.to_string()),
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
                // An expression without a name that has an interval in it has no text in SQL.
                let shown = valid
                    .iter()
                    .filter(|name| !name.contains('{'))
                    .take(12)
                    .map(|name| format!("`{}`", in_sql(name)))
                    .join(", ");
                let more = if valid.len() > 12 { ", ..." } else { "" };
                return format!("unknown column `{wanted}`; there are {shown}{more}");
            }
            format!("unknown column `{wanted}`{hint}")
        }
    }
}
