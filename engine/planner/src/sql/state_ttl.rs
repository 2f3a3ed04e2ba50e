//! `STATE_TTL` hints: `SELECT /*+ STATE_TTL('o' = '1 d', 'c' = '2 h') */ ... FROM orders AS o JOIN customers AS c ...`.
//!
//! A hint names relations of `FROM`, by alias or name. Each becomes the argument of a table function that users cannot
//! write, and then the input of a [`StateTtl`](crate::logical::StateTtl) node, which the join or aggregate above it
//! reads.

use std::time::Duration;

use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, Ident, ObjectNamePart, Select, Spanned, TableAlias, TableFactor,
    TableWithJoins, Value,
};
use millstream_proto::spec::parse_flink_duration;

use super::dialect::TABLE_ARGUMENT;
use crate::ast::{call, text};
use crate::catalog::OptionDeclaration;
use crate::error::Error;

/// Name of the table function. Users cannot write it.
pub(super) const FUNCTION: &str = "$state_ttl";

/// Applies the pairs of a hint (relation, time to live) to the relations of a parsed query.
pub(super) fn attach(select: &mut Select, pairs: &[OptionDeclaration]) -> Vec<Error> {
    let mut errors = Vec::new();
    for pair in pairs {
        let result = parse_flink_duration(&pair.value).and_then(|ttl| {
            let mut names = Vec::new();
            let mut found = select.from.iter_mut();
            match found.any(|from| attach_to(from, &pair.name, ttl, &mut names)) {
                true => Ok(()),
                false => Err(format!(
                    "FROM has no table, view or subquery `{}`{}",
                    pair.name,
                    millstream_proto::spec::did_you_mean(&pair.name, names.iter().map(String::as_str))
                )),
            }
        });
        if let Err(message) = result {
            errors.push(Error {
                location: pair.location.clone(),
                message: format!("STATE_TTL('{}' = '{}'): {message}", pair.name, pair.value),
            });
        }
    }
    errors
}

/// Gives the relation of this name a time to live, and returns true if there is one. Adds the names of others.
fn attach_to(from: &mut TableWithJoins, wanted: &str, ttl: Duration, names: &mut Vec<String>) -> bool {
    let factors = std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation));
    for factor in factors {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            if attach_to(table_with_joins, wanted, ttl, names) {
                return true;
            }
            continue;
        }
        let Some((name, argument)) = argument(factor) else {
            continue;
        };
        if name.value != wanted {
            names.push(name.value);
            continue;
        }
        let span = factor.span();
        let alias = match factor {
            TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } => alias.take(),
            _ => None,
        };
        let alias = alias.unwrap_or_else(|| TableAlias {
            explicit: true,
            name,
            columns: Vec::new(),
            at: None,
        });
        *factor = TableFactor::TableFunction {
            expr: call(
                Ident::with_span(span, FUNCTION),
                vec![argument, text(ttl.as_millis().to_string())],
            ),
            alias: Some(alias),
        };
        return true;
    }
    false
}

/// Returns the name of a relation, and the relation as an argument of a table function.
fn argument(factor: &TableFactor) -> Option<(Ident, ast::Expr)> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            version: None,
            ..
        } => {
            let parts: Option<Vec<Ident>> = name
                .0
                .iter()
                .map(|part| ObjectNamePart::as_ident(part).cloned())
                .collect();
            let parts = parts?;
            let own = parts.last()?.clone();
            let name = alias.as_ref().map_or(own, |alias| alias.name.clone());
            let argument = vec![ast::Expr::CompoundIdentifier(parts)];
            Some((name, call(Ident::new(TABLE_ARGUMENT), argument)))
        }
        TableFactor::Derived {
            lateral: false,
            subquery,
            alias: Some(alias),
            ..
        } => Some((alias.name.clone(), ast::Expr::Subquery(subquery.clone()))),
        _ => None,
    }
}

/// Returns the relation and the time to live in milliseconds that are the arguments of the table function.
pub(super) fn arguments(arguments: Vec<FunctionArg>) -> Result<(ast::Expr, u64)> {
    let mut arguments = arguments.into_iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    let (Some(relation), Some(ast::Expr::Value(ttl))) = (arguments.next(), arguments.next()) else {
        return Err(plan_datafusion_err!("STATE_TTL takes a relation and a time"));
    };
    let ttl_ms = match ttl.value {
        Value::SingleQuotedString(text) => text.parse().ok(),
        _ => None,
    };
    let ttl_ms = ttl_ms.ok_or_else(|| plan_datafusion_err!("STATE_TTL takes a time"))?;
    Ok((relation, ttl_ms))
}
