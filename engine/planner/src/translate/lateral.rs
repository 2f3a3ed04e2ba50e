//! `LATERAL (SELECT ... ORDER BY ... LIMIT n)`, a Top-N of each row's rows.
//!
//! The optimiser makes joins of lateral subqueries without a limit. A limit would then apply to the rows of all keys;
//! so it becomes the rank of a row within the rows of its key, which are the inner sides of the equalities with columns
//! of the query around. What is not of this form stays a subquery, and is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::Result;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, FetchType, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator,
    Projection, SkipType, Subquery, SubqueryAlias, col, ident, lit,
};
use datafusion::optimizer::decorrelate::PullUpCorrelatedExpr;

/// Column of the rank of a row. Users cannot write it.
const RANK: &str = "$rank";

/// Replaces the joins with lateral subqueries that have a limit.
pub(super) fn rank_limited(plan: LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Join(join) = &plan else {
            return Ok(Transformed::no(plan));
        };
        Ok(match ranked(join)? {
            Some(ranked) => Transformed::yes(ranked),
            None => Transformed::no(plan),
        })
    })?;
    Ok(replaced.data)
}

/// The parts of a lateral subquery with a limit.
struct Limited<'p> {
    /// Projections of the ranked rows, from the outermost on.
    projections: Vec<&'p Projection>,
    order: &'p [SortExpr],
    /// First and last rank.
    ranks: (u64, u64),
    /// The rows that are ranked.
    input: &'p LogicalPlan,
}

impl<'p> Limited<'p> {
    fn of(query: &'p LogicalPlan) -> Result<Option<Self>> {
        let mut projections = Vec::new();
        let mut plan = inside_projections(query, &mut projections);
        let LogicalPlan::Limit(limit) = plan else {
            return Ok(None);
        };
        let (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Ok(None);
        };
        plan = inside_projections(&limit.input, &mut projections);
        let (order, input) = match plan {
            LogicalPlan::Sort(sort) => (sort.expr.as_slice(), sort.input.as_ref()),
            other => (&[][..], other),
        };
        let (skip, fetch) = (skip as u64, fetch as u64);
        Ok(Some(Self {
            projections,
            order,
            ranks: (skip.saturating_add(1), skip.saturating_add(fetch)),
            input,
        }))
    }
}

fn inside_projections<'p>(mut plan: &'p LogicalPlan, projections: &mut Vec<&'p Projection>) -> &'p LogicalPlan {
    while let LogicalPlan::Projection(projection) = plan {
        projections.push(projection);
        plan = &projection.input;
    }
    plan
}

/// Returns the lateral subquery of a join's right side, and its alias.
fn lateral(plan: &LogicalPlan) -> Option<(&Subquery, Option<&TableReference>)> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some((subquery, None)),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((subquery, Some(&alias.alias))),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the join of a join's left side with the first rows of each key; `None` if its right side is of another form.
fn ranked(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some((subquery, alias)) = lateral(&join.right).filter(|_| join.on.is_empty()) else {
        return Ok(None);
    };
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Ok(None);
    }
    let Some(limited) = Limited::of(&subquery.subquery)? else {
        return Ok(None);
    };
    let mut pull_up = PullUpCorrelatedExpr::new();
    let rows = limited.input.clone().rewrite(&mut pull_up)?.data;
    if !pull_up.can_pull_up || pull_up.pull_up_having_expr.is_some() || pull_up.pulled_up_scalar_agg {
        return Ok(None);
    }
    let conditions = pull_up.join_filters;
    let keys = conditions
        .iter()
        .map(|condition| inner_key(condition, rows.schema(), join.left.schema()));
    let Some(keys) = keys.collect::<Option<Vec<Expr>>>().filter(|keys| !keys.is_empty()) else {
        return Ok(None);
    };
    let needed: BTreeSet<Column> = keys
        .iter()
        .flat_map(|key| key.column_refs().into_iter().cloned())
        .collect();

    let rank = row_number()
        .partition_by(keys)
        .order_by(limited.order.to_vec())
        .build()?;
    let (first, last) = limited.ranks;
    let in_limit = ident(RANK).lt_eq(lit(last));
    let in_limit = match first {
        1 => in_limit,
        _ => ident(RANK).gt_eq(lit(first)).and(in_limit),
    };
    let visible = rows.schema().columns().into_iter().map(col);
    let mut plan = LogicalPlanBuilder::from(rows.clone())
        .window([rank.alias(RANK)])?
        .filter(in_limit)?
        .project(visible)?;
    for projection in limited.projections.iter().rev() {
        let selected = projection.expr.iter().cloned();
        let missing = needed.iter().filter(|column| !projection.schema.has_column(column));
        plan = plan.project(selected.chain(missing.cloned().map(col)))?;
    }
    let plan = plan.build()?;
    let inner = Arc::clone(plan.schema());
    let plan = match alias {
        Some(alias) => LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), alias.clone())?),
        None => plan,
    };
    let all = conditions
        .into_iter()
        .map(|condition| of_alias(condition, &inner, &rows, alias));
    let all = all
        .collect::<Result<Vec<Expr>>>()?
        .into_iter()
        .chain(join.filter.clone());
    let joined = LogicalPlanBuilder::from(join.left.as_ref().clone())
        .join_on(plan, join.join_type, conjunction(all))?
        .project(join.schema.columns().into_iter().map(col))?
        .build()?;
    Ok(Some(joined))
}

/// Returns the side of an equality that reads columns of the subquery, if the other one reads the query around.
fn inner_key(condition: &Expr, inner: &DFSchema, outer: &DFSchema) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return None;
    };
    let reads = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
    };
    match (reads(left, inner), reads(right, inner)) {
        (true, false) if reads(right, outer) => Some(left.as_ref().clone()),
        (false, true) if reads(left, outer) => Some(right.as_ref().clone()),
        _ => None,
    }
}

/// Returns a condition with the columns of the subquery under its alias.
fn of_alias(condition: Expr, inner: &DFSchema, rows: &LogicalPlan, alias: Option<&TableReference>) -> Result<Expr> {
    let Some(alias) = alias else { return Ok(condition) };
    let renamed = condition.transform(|expr| match &expr {
        Expr::Column(column) if inner.has_column(column) && rows.schema().has_column(column) => {
            let renamed = Column::new(Some(alias.clone()), &column.name);
            Ok(Transformed::yes(Expr::Column(renamed)))
        }
        _ => Ok(Transformed::no(expr)),
    })?;
    Ok(renamed.data)
}
