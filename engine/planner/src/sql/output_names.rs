//! Names of the outputs of queries.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Select, SelectItem, SetExpr, Spanned, TableFactor,
    TableWithJoins,
};

use super::dialect::TABLE_ARGUMENT;
use crate::ast::{call_parts, take};

/// Names the output of `SELECT nested.field` `field`, as Flink does; DataFusion would use the whole path.
pub(super) fn name_fields(select: &mut Select) {
    let mut relations = HashSet::new();
    for from in &select.from {
        relation_names(from, &mut relations);
    }
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = item else {
            continue;
        };
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            continue;
        };
        let is_field = !relations.contains(&first.value) || parts.len() > 2;
        if is_field {
            *item = SelectItem::ExprWithAlias {
                alias: last.clone(),
                expr: Expr::CompoundIdentifier(std::mem::take(parts)),
            };
        }
    }
}

/// Names all outputs of a query whose names do not matter, such as that of an `INSERT`.
pub(super) fn name_all_outputs(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            name_fields(select);
            name_outputs(select, true);
        }
        SetExpr::Query(query) => name_all_outputs(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            name_all_outputs(left);
            name_all_outputs(right);
        }
        _ => {}
    }
}

/// Gives outputs different names, as Flink does. DataFusion refuses equal names, and gives `x` and `CAST(x AS t)` the
/// same name.
pub(super) fn name_outputs(select: &mut Select, all: bool) {
    let mut seen = HashSet::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let unique = |name: String, seen: &mut HashSet<String>| {
            let mut unique = name.clone();
            let mut number = 0;
            while !seen.insert(unique.clone()) {
                unique = format!("{name}{number}");
                number += 1;
            }
            unique
        };
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let span = expr.span();
                let name = match &*expr {
                    // Columns of different tables may have the same name.
                    Expr::CompoundIdentifier(parts) => parts.last().filter(|_| all).map(|part| part.value.clone()),
                    Expr::Identifier(name) => (all || seen.contains(&name.value)).then(|| name.value.clone()),
                    other => {
                        let text = other.to_string();
                        (all || text.contains("CAST(") || seen.contains(&text)).then(|| format!("EXPR${index}"))
                    }
                };
                match name {
                    Some(name) => {
                        let alias = Ident::with_span(span, unique(name, &mut seen));
                        let expr = take(expr);
                        *item = SelectItem::ExprWithAlias { expr, alias };
                    }
                    None => {
                        seen.insert(expr.to_string());
                    }
                }
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                alias.value = unique(std::mem::take(&mut alias.value), &mut seen)
            }
            _ => {}
        }
    }
}

fn relation_names(from: &TableWithJoins, names: &mut HashSet<String>) {
    for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
        match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::TableFunction { alias: Some(alias), .. } => {
                names.insert(alias.name.value.clone());
            }
            TableFactor::Table { name, args: None, .. } => {
                names.extend(
                    name.0
                        .iter()
                        .filter_map(|part| part.as_ident())
                        .map(|part| part.value.clone()),
                );
            }
            // Without an alias, columns keep the name of the inner table.
            TableFactor::Table {
                args: Some(arguments), ..
            } => {
                names.extend(arguments.args.iter().filter_map(table_argument_name));
            }
            TableFactor::TableFunction {
                expr: Expr::Function(function),
                ..
            } => {
                if let FunctionArguments::List(list) = &function.args {
                    names.extend(list.args.iter().filter_map(table_argument_name));
                }
            }
            TableFactor::NestedJoin { table_with_joins, .. } => relation_names(table_with_joins, names),
            _ => {}
        }
    }
}

/// Returns the name in `TABLE name`.
fn table_argument_name(argument: &FunctionArg) -> Option<String> {
    let (FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(function)))
    | FunctionArg::Named {
        arg: FunctionArgExpr::Expr(Expr::Function(function)),
        ..
    }) = argument
    else {
        return None;
    };
    match call_parts(function)? {
        (name, arguments) if name == TABLE_ARGUMENT => match arguments.first()? {
            Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()),
            _ => None,
        },
        _ => None,
    }
}
