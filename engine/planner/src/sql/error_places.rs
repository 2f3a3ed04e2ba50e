//! Positions for errors that DataFusion reports without one.
//!
//! The message of such an error may name a function or a field. If the query uses the name once, that use is the
//! position. Otherwise the query is planned again, with one of its expressions replaced by NULL each time: the error is
//! in the expression without which it disappears. Then the innermost part of it that has the error by itself is its
//! position.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Spanned, Value, Visit, VisitMut, Visitor, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::dialect::TABLE_ARGUMENT;
use super::tokens::line_column;
use crate::ast::call;
use crate::error::{Error, Location};

/// Maximum number of expressions of a query that are tried: planning again takes time.
const TRIED_MAX: usize = 300;

/// Replaces the position of errors at the start of the statement by that of the expression that has the error.
/// `errors_of` returns the errors of planning.
pub(super) fn locate<T: Visit + VisitMut + Clone>(
    parsed: &T,
    errors: Vec<Error>,
    statement: &Location,
    errors_of: &dyn Fn(T) -> Vec<Error>,
) -> Vec<Error> {
    if errors.iter().all(|error| error.location != *statement) {
        return errors;
    }
    let expressions = Expressions::of(parsed);
    let locate = |error: Error| {
        if error.location != *statement {
            return error;
        }
        let fails = |changed: T| errors_of(changed).iter().any(|found| found.message == error.message);
        let succeeds = |changed: T| errors_of(changed).is_empty();
        let span = expressions
            .by_name(&error.message)
            .or_else(|| expressions.by_replacement(parsed, &error.message, &fails, &succeeds));
        match span.filter(|span| *span != Span::empty()) {
            Some(span) => Error {
                location: line_column(span.start.line, span.start.column),
                message: error.message,
            },
            None => error,
        }
    };
    errors.into_iter().map(locate).collect()
}

/// An expression of a query, in the order of a walk.
struct Expression {
    /// Number of expressions around this one.
    depth: usize,
    span: Span,
    /// Number of the first expression after this one and its parts.
    end: usize,
    /// Parts of `row.field`.
    parts: Vec<(String, Span)>,
    /// True for arguments of window functions, which have no values.
    is_argument: bool,
}

/// The expressions of a query.
struct Expressions {
    list: Vec<Expression>,
    /// Positions of the functions, by lower-case name.
    functions: HashMap<String, Vec<Span>>,
    open: Vec<usize>,
}

impl Expressions {
    fn of<T: Visit>(parsed: &T) -> Self {
        let mut found = Self {
            list: Vec::new(),
            functions: HashMap::new(),
            open: Vec::new(),
        };
        match parsed.visit(&mut found) {
            ControlFlow::Continue(()) | ControlFlow::Break(()) => found,
        }
    }

    /// Returns the only use of the name in a message.
    fn by_name(&self, message: &str) -> Option<Span> {
        if let Some(field) = field_of(message) {
            let parts = self.list.iter().flat_map(|expression| expression.parts.iter().skip(1));
            return only(parts.filter(|(name, _)| name == field).map(|(_, span)| *span));
        }
        let quoted = |before: &str| {
            let (_, rest) = message.split_once(before)?;
            rest.split_once('\'').map(|(name, _)| name)
        };
        let function = quoted("call to '")
            .or_else(|| quoted("function '"))
            .or_else(|| message.split_once(" takes ").map(|(name, _)| name))?;
        only(self.functions.get(&function.to_lowercase())?.iter().copied())
    }

    /// Returns the position of the expression without which the error disappears.
    fn by_replacement<T: VisitMut + Clone>(
        &self,
        parsed: &T,
        message: &str,
        fails: &dyn Fn(T) -> bool,
        succeeds: &dyn Fn(T) -> bool,
    ) -> Option<Span> {
        if self.list.len() > TRIED_MAX {
            return None;
        }
        let null = || Expr::value(Value::Null);
        let outermost = || (0..self.list.len()).filter(|at| self.list[*at].depth == 0 && !self.list[*at].is_argument);
        let outer = outermost()
            .find(|at| succeeds(replaced(parsed, *at, null())))
            .or_else(|| outermost().find(|at| !fails(replaced(parsed, *at, null()))))?;
        let mut culprit = outer;
        // Forms in which a part may replace the whole expression: by itself, as a condition, below an aggregate.
        let forms: [fn(Expr) -> Expr; 3] = [
            |part| part,
            |part| Expr::IsNull(Box::new(part)),
            |part| call("COUNT".into(), vec![part]),
        ];
        while let Some(part) = self.parts(culprit).find(|part| {
            extracted(parsed, *part).is_some_and(|alone| {
                forms
                    .iter()
                    .any(|form| fails(replaced(parsed, outer, form(alone.clone()))))
            })
        }) {
            culprit = part;
        }
        let expression = &self.list[culprit];
        let named = field_of(message).and_then(|field| expression.parts.iter().find(|(name, _)| name == field));
        let span = named.map_or(expression.span, |(_, span)| *span);
        let within = || self.list[culprit..expression.end].iter().map(|part| part.span);
        Some(if span == Span::empty() {
            within().find(|span| *span != Span::empty()).unwrap_or(span)
        } else {
            span
        })
    }

    /// Returns the direct parts of an expression.
    fn parts(&self, whole: usize) -> impl Iterator<Item = usize> + '_ {
        let depth = self.list[whole].depth + 1;
        (whole + 1..self.list[whole].end).filter(move |at| self.list[*at].depth == depth)
    }
}

fn field_of(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

impl Visitor for Expressions {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_argument = match expr {
            Expr::Interval(_) => true,
            Expr::Function(function) => {
                let name = function.name.to_string();
                if let Some(ident) = function.name.0.last().and_then(|part| part.as_ident()) {
                    let uses = self.functions.entry(ident.value.to_lowercase()).or_default();
                    uses.push(ident.span);
                }
                name == TABLE_ARGUMENT || name.eq_ignore_ascii_case("DESCRIPTOR")
            }
            _ => false,
        };
        let parts = match expr {
            Expr::CompoundIdentifier(parts) => parts.iter().map(|part| (part.value.clone(), part.span)).collect(),
            _ => Vec::new(),
        };
        self.open.push(self.list.len());
        self.list.push(Expression {
            depth: self.open.len() - 1,
            span: expr.span(),
            end: self.list.len(),
            parts,
            is_argument,
        });
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        if let Some(at) = self.open.pop() {
            self.list[at].end = self.list.len();
        }
        ControlFlow::Continue(())
    }
}

/// Calls a function with the expression of a number.
struct At<F> {
    left: usize,
    then: F,
}

impl<F: FnMut(&mut Expr)> VisitorMut for At<F> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.left == 0 {
            (self.then)(expr);
            return ControlFlow::Break(());
        }
        self.left -= 1;
        ControlFlow::Continue(())
    }
}

fn replaced<T: VisitMut + Clone>(parsed: &T, at: usize, new: Expr) -> T {
    let mut changed = parsed.clone();
    let mut new = Some(new);
    let then = |expr: &mut Expr| {
        if let Some(new) = new.take() {
            *expr = new;
        }
    };
    match changed.visit(&mut At { left: at, then }) {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => changed,
    }
}

fn extracted<T: VisitMut + Clone>(parsed: &T, at: usize) -> Option<Expr> {
    let mut found = None;
    let then = |expr: &mut Expr| found = Some(expr.clone());
    match parsed.clone().visit(&mut At { left: at, then }) {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => found,
    }
}
