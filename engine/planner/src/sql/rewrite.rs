//! What Flink's SQL says otherwise than DataFusion's, put right in the parsed tree; and what cannot be answered on a
//! stream, refused while its place in the text is known.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CeilFloorKind, DateTimeField, Expr, Function, FunctionArguments, Ident, Query, Select, SelectItem, SetExpr,
    SetOperator, SetQuantifier, Spanned, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::dialect::{TABLE_ARGUMENT, call, text};
use super::group_windows::{self, Mistake};
use super::interval;
use super::windows::{PARTITION_ARGUMENT, is_window_function};
use crate::functions::Functions;

/// Rewrites a query in place and says everything that is wrong with it.
pub(super) fn query(query: &mut Query, functions: &Functions) -> Vec<Mistake> {
    run(query, functions)
}

/// Rewrites a single expression.
pub(super) fn expression(expression: &mut Expr, functions: &Functions) -> Vec<Mistake> {
    run(expression, functions)
}

fn run<T: VisitMut>(target: &mut T, functions: &Functions) -> Vec<Mistake> {
    let mut rewrite = Rewrite {
        functions,
        mistakes: Vec::new(),
    };
    match target.visit(&mut rewrite) {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => rewrite.mistakes,
    }
}

/// `SELECT bid.auction` from a ROW column `bid` makes a column `auction`; DataFusion would name it by the whole path.
fn name_fields(select: &mut Select) {
    let mut relations = Vec::new();
    for from in &select.from {
        let joined = from.joins.iter().map(|join| &join.relation);
        for factor in std::iter::once(&from.relation).chain(joined) {
            let alias = match factor {
                TableFactor::Table { alias, name, .. } => {
                    let last = name.0.last().map(ToString::to_string);
                    relations.extend(last.map(|name| name.trim_matches('`').to_owned()));
                    alias
                }
                TableFactor::Derived { alias, .. }
                | TableFactor::TableFunction { alias, .. }
                | TableFactor::Function { alias, .. } => alias,
                _ => continue,
            };
            relations.extend(alias.as_ref().map(|alias| alias.name.value.clone()));
        }
    }
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = item else {
            continue;
        };
        let of_relation = relations.contains(&parts[0].value);
        if let Some(last) = parts.last().cloned()
            && parts.len() > if of_relation { 2 } else { 1 }
        {
            let expr = Expr::CompoundIdentifier(parts.clone());
            *item = SelectItem::ExprWithAlias { expr, alias: last };
        }
    }
}

struct Rewrite<'a> {
    functions: &'a Functions,
    mistakes: Vec<Mistake>,
}

impl VisitorMut for Rewrite<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(order) = &query.order_by {
            self.mistakes.push((
                "ORDER BY needs the end of its input, which a stream does not have: leave it out, or keep the first \
                 rows of each window with ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY ...)"
                    .into(),
                order.span(),
            ));
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            let span = query.limit_clause.as_ref().map_or_else(|| query.body.span(), Spanned::span);
            self.mistakes.push((
                "LIMIT, OFFSET and FETCH are not supported on a stream: filter with WHERE, or keep the first rows of \
                 each window with ROW_NUMBER()"
                    .into(),
                span,
            ));
        }
        self.set_operations(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_fields(select);
        if let Err(mistake) = group_windows::rewrite(select) {
            self.mistakes.push(mistake);
        }
        if let Some(top) = &select.top {
            self.mistakes
                .push((format!("`{top}` is not supported: filter with WHERE"), select.select_token.0.span));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let span = factor.span();
        match factor {
            TableFactor::MatchRecognize { .. } => self.mistakes.push((
                "MATCH_RECOGNIZE is not supported yet: use a session window or a window join".into(),
                span,
            )),
            TableFactor::Table {
                version: Some(_), name, ..
            } => self.mistakes.push((
                format!(
                    "lookup and temporal joins (`{name} FOR SYSTEM_TIME AS OF ...`) are not supported yet: use a window \
                     join of two windowed tables"
                ),
                span,
            )),
            TableFactor::UNNEST { .. } => self
                .mistakes
                .push(("UNNEST is not supported yet: take elements with `array[1]`".into(), span)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            let name = function.name.to_string();
            // Its units are words, not columns: before anything looks at them as expressions.
            if name.eq_ignore_ascii_case("TIMESTAMPDIFF") || name.eq_ignore_ascii_case("TIMESTAMPADD") {
                self.unit_argument(function);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let span = expr.span();
        match expr {
            Expr::Interval(interval) => match interval::span(interval) {
                Ok(span) => *expr = interval::canonical(span),
                Err(message) => self.mistakes.push((message, span)),
            },
            Expr::Floor { expr: inner, field } | Expr::Ceil { expr: inner, field } => {
                let CeilFloorKind::DateTimeField(unit) = field else {
                    return ControlFlow::Continue(());
                };
                if !matches!(unit, DateTimeField::NoDateTime) {
                    let unit = text(unit.to_string());
                    let inner = std::mem::replace(inner.as_mut(), Expr::value(false_value()));
                    let name = if matches!(expr, Expr::Floor { .. }) { "$floor_time" } else { "$ceil_time" };
                    *expr = call(Ident::with_span(span, name), vec![inner, unit]);
                }
            }
            Expr::Function(_) => self.function(expr, span),
            Expr::InSubquery { .. } | Expr::Exists { .. } | Expr::Subquery(_) => {}
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn false_value() -> datafusion::sql::sqlparser::ast::Value {
    datafusion::sql::sqlparser::ast::Value::Boolean(false)
}

impl Rewrite<'_> {
    fn set_operations(&mut self, body: &SetExpr) {
        let SetExpr::SetOperation {
            op,
            set_quantifier,
            left,
            right,
        } = body
        else {
            return;
        };
        if *op != SetOperator::Union || *set_quantifier != SetQuantifier::All {
            let what = match (op, set_quantifier) {
                (SetOperator::Union, _) => "UNION without ALL".to_owned(),
                (other, _) => other.to_string(),
            };
            self.mistakes.push((
                format!("{what} must remember every row for ever, which is not supported: use UNION ALL"),
                right.span(),
            ));
        }
        self.set_operations(left);
        self.set_operations(right);
    }

    /// Makes the first argument of `TIMESTAMPDIFF(SECOND, a, b)` a text.
    fn unit_argument(&mut self, function: &mut Function) {
        use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr};
        let FunctionArguments::List(list) = &mut function.args else {
            return;
        };
        if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = list.args.first_mut()
            && let Expr::Identifier(unit) = first
        {
            *first = text(unit.value.to_ascii_uppercase());
        }
    }

    /// Checks a call's name, and gives Flink's functions the form or the name that DataFusion knows.
    fn function(&mut self, expr: &mut Expr, span: Span) {
        let Expr::Function(function) = expr else { return };
        let [part] = function.name.0.as_slice() else {
            let name = function.name.to_string();
            self.mistakes.push((format!("unknown function `{name}`: functions have plain names"), span));
            return;
        };
        let Some(ident) = part.as_ident().cloned() else { return };
        let lower = ident.value.to_ascii_lowercase();
        if lower == TABLE_ARGUMENT || lower == PARTITION_ARGUMENT || lower == "descriptor" {
            return;
        }
        if is_window_function(&lower) {
            // In FROM, where the relation planner takes it; anywhere else DataFusion would not know it.
            return;
        }
        if ident.value.starts_with('$') && self.functions.contains(&lower) {
            // One of our own, put there by another rewrite.
            return;
        }
        if let Some(instead) = Functions::refused(&lower) {
            self.mistakes.push((format!("{} {instead}", ident.value.to_ascii_uppercase()), ident.span));
            return;
        }
        if let Some(form) = crate::functions::rewrite(&lower, function, ident.span) {
            *expr = form;
            return;
        }
        if !self.functions.contains(&lower) {
            let hint = super::suggest(&lower, self.functions.public_names());
            let hint = hint.to_ascii_uppercase().replace("; DID YOU MEAN", "; did you mean");
            self.mistakes.push((format!("unknown function `{}`{hint}", ident.value), ident.span));
        }
    }
}
