//! Rewrite of parsed queries from Flink's SQL to DataFusion's. Constructs that a stream cannot evaluate are refused
//! here, while their position is known.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryLength, CastKind, CeilFloorKind, CharacterLength, DataType, DateTimeField, ExactNumberInfo, Expr,
    Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem, SetExpr,
    SetOperator, SetQuantifier, Spanned, TableFactor, TypedString, UnaryOperator, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::as_of;
use super::dialect::TABLE_ARGUMENT;
use super::first_rows::first_rows;
use super::group_windows::{self, SpannedError};
use super::interval;
use super::output_names::{name_fields, name_outputs};
use super::reserved::{is_reserved, reserved};
use super::windows::{PARTITION_ARGUMENT, is_window_function};
use super::{group_casts, grouping_sets, local_time, nested_joins, overlaps, state_ttl, temporal};
use crate::ast::{call, call_parts, take, text};
use crate::catalog::Catalog;
use crate::functions::{self, Functions};

/// Rewrites a query in place and returns its errors.
pub(super) fn query(query: &mut Query, catalog: &Catalog) -> Vec<SpannedError> {
    run(query, catalog)
}

/// Rewrites an expression in place and returns its errors.
pub(super) fn expression(expression: &mut Expr, catalog: &Catalog) -> Vec<SpannedError> {
    run(expression, catalog)
}

fn run<T: VisitMut>(target: &mut T, catalog: &Catalog) -> Vec<SpannedError> {
    let mut rewrite = Rewrite {
        functions: catalog.functions(),
        batch_now_us: catalog.batch_now_us,
        local_time_zone: catalog.local_time_zone(),
        current_database: catalog.namespaces.current_database(),
        errors: Vec::new(),
    };
    match target.visit(&mut rewrite) {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => rewrite.errors,
    }
}

struct Rewrite<'a> {
    functions: &'a Functions,
    /// Value of `NOW()` and the like if it is the same for all rows, in microseconds since the epoch.
    batch_now_us: Option<i64>,
    /// Time zone of the session, unless it is UTC.
    local_time_zone: Option<&'a str>,
    current_database: &'a str,
    errors: Vec<SpannedError>,
}

impl VisitorMut for Rewrite<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Err(error) = first_rows(query, self.batch_now_us.is_some()) {
            self.errors.push(error);
        }
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        for column in tables.flat_map(|table| &table.alias.columns) {
            self.alias(&column.name, column.name.span);
        }
        self.set_operations(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, expr } = item {
                self.alias(alias, expr.span());
            }
        }
        nested_joins::nest(select);
        name_fields(select);
        name_outputs(select, false);
        name_fields(select);
        name_outputs(select, false);
        if let Err(error) = as_of::rewrite(select) {
            self.errors.push(error);
        }
        if let Err(error) = group_windows::rewrite(select) {
            self.errors.push(error);
        }
        if let Err(error) = grouping_sets::check(select) {
            self.errors.push(error);
        }
        group_casts::rewrite(select);
        if let Some(top) = &select.top {
            self.errors.push((
                format!("`{top}` is not supported: filter with WHERE"),
                select.select_token.0.span,
            ));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let span = factor.span();
        if let TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } = &*factor
        {
            for column in &alias.columns {
                self.alias(&column.name, span);
            }
        }
        match factor {
            TableFactor::MatchRecognize { .. } => self.errors.push((
                "MATCH_RECOGNIZE is not supported yet: use a session window or a window join".into(),
                span,
            )),
            TableFactor::Table {
                version: Some(_), name, ..
            } => self.errors.push((as_of::unsupported(&name.to_string()), span)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            let name = function.name.to_string();
            // The unit is a word, not a column, so it is replaced before its expression is visited.
            if name.eq_ignore_ascii_case("TIMESTAMPDIFF") || name.eq_ignore_ascii_case("TIMESTAMPADD") {
                self.unit_argument(function);
            }
        }
        if let Some(overlaps) = overlaps::expanded(expr) {
            *expr = overlaps;
        }
        temporal::mark(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let span = expr.span();
        match expr {
            Expr::Interval(interval) => match interval::span(interval) {
                Ok(span) => *expr = temporal::typed(span),
                Err(message) => self.errors.push((message, span)),
            },
            Expr::Floor { expr: inner, field } | Expr::Ceil { expr: inner, field } => {
                let CeilFloorKind::DateTimeField(unit) = field else {
                    return ControlFlow::Continue(());
                };
                if !matches!(unit, DateTimeField::NoDateTime) {
                    let unit = text(unit.to_string());
                    let inner = take(inner.as_mut());
                    let name = if matches!(expr, Expr::Floor { .. }) {
                        "$floor_time"
                    } else {
                        "$ceil_time"
                    };
                    *expr = call(Ident::with_span(span, name), vec![inner, unit]);
                }
            }
            Expr::Value(ValueWithSpan {
                value: Value::Number(digits, _),
                ..
            }) if digits.contains(['e', 'E']) => self.approximate(expr, span),
            Expr::Cast { data_type, .. } => {
                if let Some((function, arguments)) = cut_to(data_type) {
                    let cast = take(expr);
                    let arguments = std::iter::once(cast).chain(arguments).collect();
                    *expr = call(Ident::with_span(span, function), arguments);
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                let is_named = matches!(root.as_ref(), Expr::Identifier(_));
                quote_fields(access_chain, is_named);
            }
            Expr::Function(_) => self.function(expr, span),
            Expr::Extract { field, expr: inner, .. } => {
                let unit = text(field.to_string().trim_matches('\'').to_ascii_uppercase());
                let inner = take(inner.as_mut());
                *expr = call(Ident::with_span(span, "$part"), vec![unit, inner]);
            }
            Expr::Substring {
                expr: inner,
                substring_from: Some(from),
                substring_for,
                ..
            } => {
                let mut arguments = vec![inner.as_ref().clone(), from.as_ref().clone()];
                arguments.extend(substring_for.take().map(|length| *length));
                *expr = call(Ident::with_span(span, "$substring"), arguments);
            }
            Expr::Overlay {
                expr: inner,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let arguments = [inner, overlay_what, overlay_from].map(|argument| argument.as_ref().clone());
                let length = overlay_for.take().map(|length| *length);
                let arguments = arguments.into_iter().chain(length).collect();
                *expr = call(Ident::with_span(span, "overlay"), arguments);
            }
            Expr::Like {
                pattern, escape_char, ..
            }
            | Expr::ILike {
                pattern, escape_char, ..
            } => {
                if escape_char.is_none() {
                    plain_backslash(pattern);
                } else if let Err(message) = backslash_escaped(pattern, escape_char) {
                    self.errors.push((message, span));
                }
            }
            Expr::TypedString(literal) => {
                if let Some(digits) = lost_digits(literal) {
                    self.errors.push((
                        format!("times have microseconds, but `{digits}` has more digits: write six of them at most"),
                        span,
                    ));
                }
            }
            Expr::SimilarTo {
                negated,
                expr: inner,
                pattern,
                escape_char,
            } => {
                let mut arguments = vec![take(inner.as_mut()), take(pattern.as_mut())];
                arguments.extend(escape_char.take().map(Expr::Value));
                let is_negated = *negated;
                let similar = call(Ident::with_span(span, "$similar"), arguments);
                *expr = match is_negated {
                    false => similar,
                    true => Expr::UnaryOp {
                        op: UnaryOperator::Not,
                        expr: Box::new(similar),
                    },
                };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Makes the name of a field, such as `x` of `a[1].x`, a text, which the stock planner takes as a field. Names that
/// follow that of a column or table directly stay.
fn quote_fields(chain: &mut [AccessExpr], is_root_named: bool) {
    let is_path = |access: &&mut AccessExpr| is_root_named && matches!(access, AccessExpr::Dot(_));
    for access in chain.iter_mut().skip_while(is_path) {
        if let AccessExpr::Dot(field) = access
            && let Expr::Identifier(name) = field
        {
            *field = text(name.value.clone());
        }
    }
}

/// Returns the function that truncates a cast value to the precision or length of the type, which the Arrow type does
/// not have, and its arguments after the value.
fn cut_to(data_type: &DataType) -> Option<(&'static str, Vec<Expr>)> {
    let number = |number: u64| Expr::value(Value::Number(number.to_string(), false));
    let digits = match data_type {
        DataType::Timestamp(digits, _) | DataType::TimestampNtz(digits) => *digits,
        DataType::Custom(name, arguments) if name.to_string().eq_ignore_ascii_case("TIMESTAMP_LTZ") => {
            arguments.first().and_then(|digits| digits.parse().ok())
        }
        // The default of TIME is whole seconds.
        DataType::Time(digits, _) => Some(digits.unwrap_or(0)),
        _ => None,
    };
    if let Some(digits) = digits {
        return (digits < 6).then(|| ("$cut_time", vec![number(digits)]));
    }
    match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::CharacterVarying(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::CharVarying(Some(CharacterLength::IntegerLength { length, .. })) => {
            // The greatest length means STRING in Flink.
            (*length < 2_147_483_647).then(|| ("left", vec![number(*length)]))
        }
        DataType::Char(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::Character(Some(CharacterLength::IntegerLength { length, .. })) => {
            Some(("rpad", vec![number(*length)]))
        }
        // Without a length, one character or byte.
        DataType::Char(None) | DataType::Character(None) => Some(("rpad", vec![number(1)])),
        DataType::Binary(length) => Some(("$binary", vec![number(length.unwrap_or(1))])),
        DataType::Varbinary(Some(BinaryLength::IntegerLength { length })) => {
            (*length < 2_147_483_647).then(|| ("$varbinary", vec![number(*length)]))
        }
        _ => None,
    }
}

impl Rewrite<'_> {
    /// Refuses a reserved name of a column. A name that is written as a string has no place: `near` is that of its
    /// expression or table.
    fn alias(&mut self, name: &Ident, near: Span) {
        if is_reserved(&name.value) {
            let span = if name.span == Span::empty() { near } else { name.span };
            self.errors.push((reserved(&name.value), span));
        }
    }

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
        let is_plain = matches!(set_quantifier, SetQuantifier::Distinct | SetQuantifier::None);
        let remedy = match (op, set_quantifier) {
            (SetOperator::Union | SetOperator::Intersect | SetOperator::Except, SetQuantifier::All) => None,
            (SetOperator::Union | SetOperator::Intersect | SetOperator::Except, _) if is_plain => None,
            (SetOperator::Union, _) => Some("combine the rows with UNION or UNION ALL"),
            (SetOperator::Intersect, _) => Some("combine the rows with INTERSECT or INTERSECT ALL"),
            (SetOperator::Except, _) => Some("combine the rows with EXCEPT or EXCEPT ALL"),
            (SetOperator::Minus, _) => Some("write EXCEPT"),
        };
        if let Some(remedy) = remedy {
            let what = match set_quantifier {
                SetQuantifier::None => op.to_string(),
                quantifier => format!("{op} {quantifier}"),
            };
            self.errors
                .push((format!("{what} is not supported: {remedy}"), right.span()));
        }
        self.set_operations(left);
        self.set_operations(right);
    }

    /// Makes `1e3` a DOUBLE, which is a DECIMAL to DataFusion.
    fn approximate(&mut self, expr: &mut Expr, span: Span) {
        let digits = expr.to_string();
        if digits.parse().is_ok_and(f64::is_finite) {
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(text(digits)),
                data_type: DataType::Double(ExactNumberInfo::None),
                array: false,
                format: None,
            };
        } else {
            let message = format!("`{digits}` is too large for a DOUBLE, which ends at 1.7976931348623157e308");
            self.errors.push((message, span));
        }
    }

    /// Makes the first argument of `TIMESTAMPDIFF(SECOND, a, b)` a string.
    fn unit_argument(&mut self, function: &mut Function) {
        let FunctionArguments::List(list) = &mut function.args else {
            return;
        };
        if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = list.args.first_mut()
            && let Expr::Identifier(unit) = first
        {
            *first = text(unit.value.to_ascii_uppercase());
        }
    }

    /// Returns the value of a function without arguments that is known while planning.
    fn known_value(&self, name: &str) -> Option<Expr> {
        match name {
            "current_database" => Some(text(self.current_database)),
            // The sets of a GROUP BY are different ([`grouping_sets`]), so no row needs another number.
            "group_id" => Some(Expr::value(Value::Number("0".into(), false))),
            _ => None,
        }
    }

    /// Checks the name of a call, and rewrites calls of Flink's functions to DataFusion's.
    fn function(&mut self, expr: &mut Expr, span: Span) {
        let Expr::Function(function) = expr else { return };
        let [part] = function.name.0.as_slice() else {
            let name = function.name.to_string();
            self.errors
                .push((format!("unknown function `{name}`: functions have plain names"), span));
            return;
        };
        let Some(ident) = part.as_ident().cloned() else { return };
        let lower = ident.value.to_ascii_lowercase();
        if lower == TABLE_ARGUMENT || lower == PARTITION_ARGUMENT || lower == "descriptor" {
            return;
        }
        if group_windows::auxiliary(&lower).is_some() && !self.errors.is_empty() {
            // The error was reported when the SELECT was rewritten.
            return;
        }
        if is_window_function(&lower) || lower == state_ttl::FUNCTION {
            // The relation planner takes table functions in FROM; elsewhere DataFusion refuses them.
            return;
        }
        if ident.value.starts_with('$') && self.functions.contains(&lower) {
            // An internal function, inserted by another rewrite.
            return;
        }
        let arguments = call_parts(function).map_or(0, |(_, arguments)| arguments.len());
        if let Some(value) = self.known_value(&lower).filter(|_| arguments == 0) {
            *expr = value;
            return;
        }
        if let Some(instead) = functions::refusal(&lower) {
            self.errors
                .push((format!("{} {instead}", ident.value.to_ascii_uppercase()), ident.span));
            return;
        }
        if self.functions.is_internal(&lower) {
            let message = format!(
                "{} is not supported: docs/sql.md lists the functions",
                ident.value.to_ascii_uppercase()
            );
            self.errors.push((message, ident.span));
            return;
        }
        if let Some(now_us) = self.batch_now_us
            && let Some(value) = functions::batch_value(&lower, function, now_us)
        {
            *expr = value;
            return;
        }
        if let Some(reason) = functions::invalid_constant(&lower, function) {
            self.errors
                .push((format!("{} {reason}", ident.value.to_ascii_uppercase()), ident.span));
            return;
        }
        if let Some(zone) = self.local_time_zone
            && let Some(call) = local_time::call(&lower, function, zone, ident.span)
        {
            *expr = call;
            return;
        }
        functions::complete(&lower, function);
        if lower == "collect" {
            let aggregate = Ident::with_span(ident.span, "array_agg");
            function.name = ObjectName::from(vec![aggregate]);
            let collected = take(expr);
            *expr = call(Ident::with_span(span, functions::MULTISET), vec![collected]);
            return;
        }
        if let Some(rewritten) = functions::rewrite(&lower, function, ident.span) {
            *expr = rewritten;
            return;
        }
        let name = ident.value.to_ascii_uppercase();
        if self.functions.contains(&lower) && !self.functions.is_callable(&lower) {
            let message = format!("{name} takes other arguments: docs/sql.md describes them");
            self.errors.push((message, ident.span));
        } else if self.functions.is_window_only(&lower) && function.over.is_none() {
            let message = format!("{name} needs a window: {name}(...) OVER (PARTITION BY ... ORDER BY ...)");
            self.errors.push((message, ident.span));
        } else if !self.functions.contains(&lower) {
            let windows = ["tumble", "hop", "cumulate", "session"];
            let hint = millstream_proto::spec::did_you_mean(&lower, self.functions.public_names().chain(windows));
            let hint = hint.to_ascii_uppercase().replace("; DID YOU MEAN", "; did you mean");
            self.errors
                .push((format!("unknown function `{}`{hint}", ident.value), ident.span));
        }
    }
}

/// Escapes backslashes of a `LIKE` pattern without ESCAPE, where a backslash is an ordinary character.
fn plain_backslash(pattern: &mut Expr) {
    let is_text = |value: &Value| matches!(value, Value::SingleQuotedString(_));
    match pattern {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => *text = text.replace('\\', "\\\\"),
        Expr::Value(ValueWithSpan { value, .. }) if !is_text(value) => {}
        _ => {
            let written = take(pattern);
            let arguments = vec![written, text("\\"), text("\\\\")];
            *pattern = call(Ident::new("replace"), arguments);
        }
    }
}

/// Returns the text of a `TIMESTAMP '...'` or `TIME '...'` literal that has more than six digits in the fraction.
fn lost_digits(literal: &TypedString) -> Option<&str> {
    if !matches!(literal.data_type, DataType::Timestamp(..) | DataType::Time(..)) {
        return None;
    }
    let Value::SingleQuotedString(text) = &literal.value.value else {
        return None;
    };
    let (_, fraction) = text.split_once('.')?;
    let beyond = fraction.bytes().take_while(u8::is_ascii_digit).skip(6);
    beyond.into_iter().any(|digit| digit != b'0').then_some(text)
}

/// Rewrites `LIKE pattern ESCAPE '!'` with the backslash as the escape character, the only one DataFusion supports.
fn backslash_escaped(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) -> Result<(), String> {
    let character = match escape.as_ref().map(|escape| &escape.value) {
        Some(Value::SingleQuotedString(text)) => text.clone(),
        _ => String::new(),
    };
    let mut characters = character.chars();
    let (Some(character), None) = (characters.next(), characters.next()) else {
        return Err("ESCAPE takes one character, such as ESCAPE '!'".into());
    };
    let Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(text),
        ..
    }) = pattern
    else {
        return Err("ESCAPE needs a pattern that is written out".into());
    };
    let mut result = String::with_capacity(text.len() + 4);
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next == character {
            result.push('\\');
            result.extend(rest.next());
        } else {
            if next == '\\' {
                result.push('\\');
            }
            result.push(next);
        }
    }
    *text = result;
    *escape = None;
    Ok(())
}
