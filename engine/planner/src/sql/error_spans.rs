//! Positions for errors that DataFusion reports without one.
//!
//! The message of such an error names a function or a field. Its position is the first use of that name in the query.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::tokens::line_column;
use crate::error::{Error, Location};

/// Spans of the first uses of names in a query.
pub(super) struct ErrorSpans {
    /// Functions, by lower-case name.
    functions: HashMap<String, Span>,
    /// Fields, by name: the parts of `row.field`.
    fields: HashMap<String, Span>,
}

impl ErrorSpans {
    pub(super) fn new(query: &Query) -> Self {
        let mut spans = Self {
            functions: HashMap::new(),
            fields: HashMap::new(),
        };
        match query.visit(&mut spans) {
            ControlFlow::Continue(()) | ControlFlow::Break(()) => spans,
        }
    }

    /// Replaces the position of errors at the start of the statement by that of the name in their message.
    pub(super) fn locate(&self, errors: Vec<Error>, statement: &Location) -> Vec<Error> {
        errors
            .into_iter()
            .map(|error| {
                if error.location != *statement {
                    return error;
                }
                match self.find(&error.message) {
                    Some(span) => Error {
                        location: line_column(span.start.line, span.start.column),
                        message: error.message,
                    },
                    None => error,
                }
            })
            .collect()
    }

    fn find(&self, message: &str) -> Option<Span> {
        let quoted = |before: &str, after: &str| {
            let (_, rest) = message.split_once(before)?;
            rest.split_once(after).map(|(name, _)| name.to_owned())
        };
        let found = if let Some(field) = quoted("unknown field `", "`") {
            self.fields.get(&field)
        } else {
            let function = quoted("call to '", "'")
                .or_else(|| quoted("function '", "'"))
                .or_else(|| message.split_once(" takes ").map(|(name, _)| name.to_owned()));
            self.functions.get(&function?.to_lowercase())
        };
        found.copied().filter(|span| *span != Span::empty())
    }
}

impl Visitor for ErrorSpans {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                if let Some(name) = function.name.0.last().and_then(|part| part.as_ident()) {
                    self.functions.entry(name.value.to_lowercase()).or_insert(name.span);
                }
            }
            Expr::CompoundIdentifier(parts) => {
                for part in parts.iter().skip(1) {
                    self.fields.entry(part.value.clone()).or_insert(part.span);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
