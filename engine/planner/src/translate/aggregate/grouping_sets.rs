//! `GROUPING SETS`: the union of one aggregate per set.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr, GroupingSet};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{Column, Literal};

use super::{calls, grouped, keys};
use crate::translate::calc::null;
use crate::translate::context::{Context, Result};
use crate::translate::dynamic_filter::DynamicFilters;
use crate::translate::pending::resolve;
use crate::translate::projection::project_physical;
use crate::translate::relation::{Attribute, ColumnInfo, Pending, Relation, common_columns};

/// Most columns of a `CUBE`, which has a set for each subset of them.
const CUBE_COLUMNS_MAX: usize = 8;

/// Returns the sets of keys, from the longest to the shortest for `ROLLUP`.
fn written_out(cx: &Context<'_>, sets: &GroupingSet) -> Result<Vec<Vec<Expr>>> {
    match sets {
        GroupingSet::GroupingSets(sets) => Ok(sets.clone()),
        GroupingSet::Rollup(keys) => Ok((0..=keys.len()).rev().map(|length| keys[..length].to_vec()).collect()),
        GroupingSet::Cube(keys) if keys.len() > CUBE_COLUMNS_MAX => Err(cx.error(format!(
            "CUBE of {} columns has {} sets of keys; write the needed ones out as GROUPING SETS ((...), ...), or use at \
             most {CUBE_COLUMNS_MAX} columns (CUBE_COLUMNS_MAX)",
            keys.len(),
            1_u128 << keys.len().min(127)
        ))),
        GroupingSet::Cube(keys) => {
            let subset = |bits: usize| {
                let chosen = keys.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
                chosen.map(|(_, key)| key.clone()).collect()
            };
            Ok((0..1 << keys.len()).rev().map(subset).collect())
        }
    }
}

/// Returns the union of one aggregate per set, with NULL for the keys that a set leaves out.
pub(super) fn grouping_sets(
    cx: &mut Context<'_>,
    filters: &mut DynamicFilters,
    input: Relation,
    aggregate: &LogicalAggregate,
    sets: &GroupingSet,
) -> Result<Relation> {
    let schema = aggregate.input.schema();
    let sets = &written_out(cx, sets)?;
    let input = resolve(cx, input)?;
    let all = cx.located(grouping_set_to_exprlist(&aggregate.group_expr))?;
    let fields = aggregate.schema.fields();
    let mut branches = Vec::new();
    let mut columns: Option<Vec<ColumnInfo>> = None;
    for set in sets {
        let present: Vec<bool> = all.iter().map(|expr| set.contains(*expr)).collect();
        let group: Vec<Expr> = set.to_vec();
        let calls = calls(cx, &aggregate.aggr_expr, schema)?;
        let keys = keys(cx, &group, schema, &input)?;
        let names: Vec<String> = group
            .iter()
            .map(|expr| expr.schema_name().to_string())
            .chain(aggregate.aggr_expr.iter().map(|expr| expr.schema_name().to_string()))
            .collect();
        let part = grouped(cx, filters, input.clone(), keys, calls, &names)?;
        let mut exprs = Vec::with_capacity(fields.len());
        let mut infos = Vec::with_capacity(fields.len());
        let mut grouping_id: u64 = 0;
        for (index, field) in fields.iter().enumerate() {
            let position = match index.cmp(&all.len()) {
                std::cmp::Ordering::Less => {
                    grouping_id = grouping_id << 1 | u64::from(!present[index]);
                    group.iter().position(|expr| expr == all[index])
                }
                std::cmp::Ordering::Equal => None,
                std::cmp::Ordering::Greater => Some(group.len() + index - all.len() - 1),
            };
            let mut info = ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                attribute: Attribute::None,
                origin: None,
            };
            let expr: PhysicalExprRef = match position {
                Some(position) => {
                    info.attribute = part.columns[position].attribute;
                    Arc::new(Column::new(field.name(), position))
                }
                None if index == all.len() => {
                    let id = ScalarValue::UInt64(Some(grouping_id)).cast_to(field.data_type());
                    Arc::new(Literal::new(cx.located(id)?))
                }
                None => cx.located(null(field.data_type()))?,
            };
            exprs.push(expr);
            infos.push(info);
        }
        let part = project_physical(cx, part, &exprs, infos)?;
        columns = Some(match columns {
            None => part.columns,
            Some(columns) => common_columns(&cx.windows, columns, &part.columns),
        });
        branches.extend(part.branches);
    }
    Ok(Relation {
        branches,
        columns: columns.unwrap_or_default(),
        pending: Pending::Nothing,
    })
}
