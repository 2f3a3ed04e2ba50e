//! Rewrite of legacy group windows, `GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), key`, as window table functions:
//!
//! ```sql
//! SELECT key, TUMBLE_START(ts, INTERVAL '1' MINUTE), COUNT(*)
//! FROM t WHERE c GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), key
//! -- becomes
//! SELECT key, window_start AS ..., COUNT(*)
//! FROM TABLE(TUMBLE((SELECT * FROM t WHERE c), DESCRIPTOR(ts), INTERVAL '1' MINUTE)) AS t
//! GROUP BY window_start, window_end, key
//! ```
//!
//! Auxiliary functions (`TUMBLE_START`, `..._END`, `..._ROWTIME`, `..._PROCTIME`) become the window's columns.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectFlavor, SelectItem, SetExpr, Spanned, TableAlias, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::windows::is_window_function;
use crate::ast::{call, call_parts};

/// The message of an error and its position.
pub(super) type SpannedError = (String, Span);

/// Rewrites a `SELECT` that groups by a window function; leaves others unchanged.
pub(super) fn rewrite(select: &mut Select) -> Result<(), SpannedError> {
    let GroupByExpr::Expressions(expressions, _) = &mut select.group_by else {
        return Ok(());
    };
    let calls: Vec<usize> = (0..expressions.len())
        .filter(|index| group_call(&expressions[*index]).is_some())
        .collect();
    let [at] = calls.as_slice() else {
        return match calls.as_slice() {
            [] => check_auxiliaries(select),
            [_, second, ..] => Err(("a query groups by one window".into(), expressions[*second].span())),
            [_] => Ok(()),
        };
    };
    let Expr::Function(window) = expressions.remove(*at) else {
        return Ok(());
    };
    let span = window.span();
    let (name, arguments) = call_parts(&window).ok_or_else(|| ("malformed window".to_owned(), span))?;
    let name = name.to_ascii_uppercase();
    let wanted = if name == "HOP" || name == "CUMULATE" { 3 } else { 2 };
    if arguments.len() < wanted || arguments.len() > wanted + 1 || name == "CUMULATE" {
        return Err((
            format!(
                "{name} in GROUP BY takes a time column and {} (and an optional offset)",
                match wanted {
                    3 => "a slide and a size",
                    _ => "an interval",
                }
            ),
            span,
        ));
    }
    if !matches!(arguments[0], Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
        return Err((
            format!(
                "{name} groups by a time column, not by `{}`: compute it in a view or subquery first",
                arguments[0]
            ),
            span,
        ));
    }
    let keys: Vec<Expr> = expressions.clone();
    let mut auxiliaries = Auxiliaries {
        name: &name,
        arguments: &arguments,
        uses_time: false,
        error: None,
    };
    visit_outputs(select, &mut auxiliaries);
    if let Some(error) = auxiliaries.error {
        return Err(error);
    }
    let uses_time = auxiliaries.uses_time;
    let GroupByExpr::Expressions(expressions, _) = &mut select.group_by else {
        return Ok(());
    };
    let mut bounds = vec![identifier("window_start", span), identifier("window_end", span)];
    if uses_time {
        bounds.push(identifier("window_time", span));
    }
    expressions.splice(0..0, bounds);
    // Keys that are plain columns of the input are the keys of sessions; computed keys cannot be.
    let partition = if name == "SESSION" {
        let computed = keys
            .iter()
            .find(|key| !matches!(key, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
        if let Some(key) = computed {
            return Err((
                format!("SESSION groups by plain columns, not by `{key}`: compute it in a view or subquery first"),
                key.span(),
            ));
        }
        keys
    } else {
        Vec::new()
    };
    let from = windowed(select, &name, arguments, partition, span);
    select.from = vec![from];
    Ok(())
}

/// Returns `TABLE(name((SELECT * FROM ... WHERE ...), DESCRIPTOR(time), ...)) AS alias`.
fn windowed(select: &mut Select, name: &str, arguments: Vec<Expr>, partition: Vec<Expr>, span: Span) -> TableWithJoins {
    let from = std::mem::take(&mut select.from);
    let selection = select.selection.take();
    let alias = match from.as_slice() {
        [TableWithJoins { relation, joins }] if joins.is_empty() => match relation {
            TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
                Some(alias.name.clone())
            }
            TableFactor::Table { name, .. } => name.0.last().and_then(|part| part.as_ident().cloned()),
            _ => None,
        },
        _ => None,
    };
    let inner = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
        exclude: None,
        into: None,
        from,
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    let query = Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(inner))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    let time = arguments.next();
    let mut call_arguments = vec![Expr::Subquery(Box::new(query))];
    call_arguments.extend(time.map(|time| call(Ident::with_span(span, "DESCRIPTOR"), vec![time])));
    call_arguments.extend(arguments);
    if !partition.is_empty() {
        // The keys follow the gap, as an argument that `windows` recognises.
        call_arguments.push(call(
            Ident::with_span(span, super::windows::PARTITION_ARGUMENT),
            partition,
        ));
    }
    TableWithJoins {
        relation: TableFactor::TableFunction {
            expr: call(Ident::with_span(span, name), call_arguments),
            alias: alias.map(|name| TableAlias {
                explicit: true,
                name,
                columns: Vec::new(),
                at: None,
            }),
        },
        joins: Vec::new(),
    }
}

/// Refuses `TUMBLE_START` and the like without a window in GROUP BY.
fn check_auxiliaries(select: &mut Select) -> Result<(), SpannedError> {
    struct AuxiliaryFinder(Option<SpannedError>);
    impl VisitorMut for AuxiliaryFinder {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Function(function) = expr
                && let Some((name, _)) = call_parts(function)
                && let Some((window, _)) = auxiliary(&name)
                && self.0.is_none()
            {
                self.0 = Some((
                    format!("{name} needs `GROUP BY {window}(...)` in the same SELECT"),
                    function.span(),
                ));
            }
            ControlFlow::Continue(())
        }
    }
    let mut visitor = AuxiliaryFinder(None);
    visit_outputs(select, &mut visitor);
    visitor.0.map_or(Ok(()), Err)
}

/// Visits the parts of a SELECT that are evaluated after grouping.
fn visit_outputs<V: VisitorMut<Break = ()>>(select: &mut Select, visitor: &mut V) {
    let mut flow = ControlFlow::Continue(());
    for item in &mut select.projection {
        if flow.is_continue() {
            flow = item.visit(visitor);
        }
    }
    for part in [&mut select.having, &mut select.qualify].into_iter().flatten() {
        if flow.is_continue() {
            flow = part.visit(visitor);
        }
    }
}

/// Replaces the auxiliary functions of one window by its columns.
struct Auxiliaries<'a> {
    name: &'a str,
    arguments: &'a [Expr],
    uses_time: bool,
    error: Option<SpannedError>,
}

impl VisitorMut for Auxiliaries<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let Some((name, arguments)) = call_parts(function) else {
            return ControlFlow::Continue(());
        };
        let Some((window, column)) = auxiliary(&name) else {
            return ControlFlow::Continue(());
        };
        let span = function.span();
        let alike = arguments.len() == self.arguments.len()
            && arguments
                .iter()
                .zip(self.arguments)
                .all(|(left, right)| left.to_string() == right.to_string());
        if window != self.name || !alike {
            let grouped: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
            self.error.get_or_insert((
                format!(
                    "`{expr}` does not belong to the window in GROUP BY, {}({})",
                    self.name,
                    grouped.join(", ")
                ),
                span,
            ));
            return ControlFlow::Break(());
        }
        self.uses_time |= column == "window_time";
        *expr = identifier(column, span);
        ControlFlow::Continue(())
    }
}

/// Returns the window and the column that an auxiliary function refers to.
pub(super) fn auxiliary(name: &str) -> Option<(&'static str, &'static str)> {
    let upper = name.to_ascii_uppercase();
    let (window, kind) = upper.split_once('_')?;
    let window = ["TUMBLE", "HOP", "SESSION"]
        .into_iter()
        .find(|known| *known == window)?;
    let column = match kind {
        "START" => "window_start",
        "END" => "window_end",
        "ROWTIME" | "PROCTIME" => "window_time",
        _ => return None,
    };
    Some((window, column))
}

fn group_call(expr: &Expr) -> Option<()> {
    let Expr::Function(function) = expr else { return None };
    let (name, _) = call_parts(function)?;
    is_window_function(&name).then_some(())
}

fn identifier(name: &str, span: Span) -> Expr {
    Expr::Identifier(Ident::with_span(span, name))
}
