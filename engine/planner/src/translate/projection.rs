//! Projections and filters, which stay pending in the relation.

use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use millstream_graph::Window;

use super::context::{Context, Result, error_at};
use super::pending::{materialize_if_repeated, materialize_if_volatile, resolve};
use super::relation::{Attribute, Branch, ColumnInfo, Pending, Relation, VIRTUAL, bare_column, columns_of};
use super::row_number::rank_bound;
use crate::functions::is_proctime;

pub(super) fn project(
    cx: &mut Context<'_>,
    input: Relation,
    exprs: &[Expr],
    input_schema: &DFSchema,
    output_schema: &DFSchema,
) -> Result<Relation> {
    let mut physical = Vec::with_capacity(exprs.len());
    let mut columns = Vec::with_capacity(exprs.len());
    for (expr, field) in exprs.iter().zip(output_schema.fields()) {
        let made = cx.physical(expr, input_schema)?;
        let source = bare_column(&made).map(|index| &input.columns[index]);
        let attribute = match source {
            Some(column) => column.attribute,
            None if is_proctime(expr) => Attribute::ProcessingTime,
            None => Attribute::None,
        };
        columns.push(ColumnInfo {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            attribute,
            origin: source.and_then(|column| column.origin.clone()),
        });
        physical.push(made);
    }
    project_physical(cx, input, &physical, columns)
}

/// Returns the relation with new columns, computed from its columns.
pub(super) fn project_physical(
    cx: &mut Context<'_>,
    input: Relation,
    exprs: &[PhysicalExprRef],
    columns: Vec<ColumnInfo>,
) -> Result<Relation> {
    let mut input = materialize_if_repeated(cx, input, exprs)?;
    if is_session(&input) && mixes_window_and_row(cx, &input, exprs)? {
        input = resolve(cx, input)?;
    }
    let mut branches = Vec::with_capacity(input.branches.len());
    for branch in &input.branches {
        let composed: Result<Vec<_>, _> = exprs.iter().map(|expr| branch.compose(expr)).collect();
        branches.push(Branch {
            exprs: cx.located(composed)?,
            ..branch.clone()
        });
    }
    Ok(Relation {
        branches,
        columns,
        pending: input.pending,
    })
}

fn is_session(relation: &Relation) -> bool {
    match &relation.pending {
        Pending::Window(pending) => matches!(pending.window, Window::Session { .. }),
        Pending::Rank(_) | Pending::Nothing => false,
    }
}

/// Returns true if an expression reads both a bound of the pending window and a value of the row, so that it can be
/// computed neither below an aggregate nor above it.
fn mixes_window_and_row(cx: &Context<'_>, input: &Relation, exprs: &[PhysicalExprRef]) -> Result<bool> {
    for branch in &input.branches {
        for expr in exprs {
            let columns = columns_of(&cx.located(branch.compose(expr))?);
            if columns.iter().any(|column| *column >= VIRTUAL) && columns.iter().any(|column| *column < VIRTUAL) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

pub(super) fn filter(cx: &mut Context<'_>, input: Relation, predicate: &Expr, schema: &DFSchema) -> Result<Relation> {
    let mut rest = Vec::new();
    let mut input = input;
    for condition in split_conjunction(predicate) {
        if !rank_bound(&mut input, condition, schema) {
            rest.push(cx.physical(condition, schema)?);
        }
    }
    for condition in rest {
        input = filter_physical(cx, input, &condition)?;
    }
    Ok(input)
}

fn filter_physical(cx: &mut Context<'_>, input: Relation, predicate: &PhysicalExprRef) -> Result<Relation> {
    if let Some(literal) = predicate.downcast_ref::<Literal>()
        && literal.value() == &ScalarValue::Boolean(Some(true))
    {
        return Ok(input);
    }
    let input = materialize_if_repeated(cx, input, std::slice::from_ref(predicate))?;
    let mut input = materialize_if_volatile(cx, input, std::slice::from_ref(predicate))?;
    // Other conditions would change which rows form a session.
    if is_session(&input) && !is_on_session_keys(cx, &input, predicate)? {
        input = resolve(cx, input)?;
    }
    for branch in &mut input.branches {
        let condition = branch.compose(predicate);
        let condition = condition.map_err(|error| error_at(error, &cx.scope.location))?;
        branch.filter = Some(match branch.filter.take() {
            Some(filter) => Arc::new(BinaryExpr::new(filter, Operator::And, condition)),
            None => condition,
        });
    }
    Ok(input)
}

/// Returns true if a condition reads the keys of the pending sessions only.
fn is_on_session_keys(cx: &Context<'_>, input: &Relation, predicate: &PhysicalExprRef) -> Result<bool> {
    let Pending::Window(pending) = &input.pending else {
        return Ok(false);
    };
    for branch in &input.branches {
        let condition = cx.located(branch.compose(predicate))?;
        let keys = pending.keys(branch);
        let is_key = |column: &usize| keys.iter().any(|key| bare_column(key) == Some(*column));
        if !columns_of(&condition).iter().all(is_key) {
            return Ok(false);
        }
    }
    Ok(true)
}
