//! Where a query says what: for mistakes that DataFusion reports without a place.
//!
//! Such a message names the function or the field it is about; the first time the query uses that name is the best
//! place there is.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::tokens::line_column;
use crate::error::{Error, Location};

/// First uses of names in a query.
pub(super) struct ErrorSpans {
    /// By lower-case name.
    functions: HashMap<String, Span>,
    /// Parts of `row.field`.
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

    /// Moves errors that are only known to be in the statement to what they name.
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
