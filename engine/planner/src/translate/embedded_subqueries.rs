//! `EXISTS` and `IN (SELECT ...)` within other expressions: under `OR`, in `CASE`, in the `SELECT` list.
//!
//! As conditions of their own they become semi and anti joins. Elsewhere their value is needed for every row. It is
//! computed from scalar subqueries, of which the optimiser makes left joins: `BOOL_OR(TRUE)` over the rows of the
//! query is NULL if there are none, and never changes while there are some.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, Spans, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::bool_or;
use datafusion::logical_expr::expr::{Case, Cast, Exists, InSubquery};
use datafusion::logical_expr::{
    BinaryExpr, Expr, FetchType, Filter, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Subquery, ident, lit,
    when,
};

use super::subquery_operands::{as_outer, is_never_null};

/// Prefix of the names of the columns of rewritten queries. Users cannot write it.
const IN: &str = "$in";

/// The plan node whose expressions are rewritten.
pub(super) struct Embedded<'p> {
    plan: &'p LogicalPlan,
    /// Columns of its inputs.
    schema: &'p DFSchema,
    /// Number of rewritten subqueries.
    count: &'p mut usize,
}

impl<'p> Embedded<'p> {
    pub(super) fn new(plan: &'p LogicalPlan, schema: &'p DFSchema, count: &'p mut usize) -> Self {
        Self { plan, schema, count }
    }

    /// Replaces the subqueries of an expression. If `is_condition` is set, it only matters where the expression is
    /// true: it may be false instead of NULL.
    pub(super) fn replace(&mut self, expr: Expr, is_condition: bool) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Exists(exists) => self.exists(exists),
            Expr::InSubquery(call) => self.is_in(call, is_condition),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if matches!(op, Operator::And | Operator::Or) => {
                let left = self.replace(*left, is_condition)?;
                let right = self.replace(*right, is_condition)?;
                let is_changed = left.transformed || right.transformed;
                let both = BinaryExpr::new(Box::new(left.data), op, Box::new(right.data));
                Ok(Transformed::new(
                    Expr::BinaryExpr(both),
                    is_changed,
                    TreeNodeRecursion::Continue,
                ))
            }
            Expr::IsTrue(inner) => {
                let inner = self.replace(*inner, true)?;
                Ok(inner.update_data(|inner| Expr::IsTrue(Box::new(inner))))
            }
            Expr::Case(case) if case.expr.is_none() => self.case(case, is_condition),
            Expr::Alias(_) => expr.map_children(|child| self.replace(child, is_condition)),
            other => other.map_children(|child| self.replace(child, false)),
        }
    }

    fn case(&mut self, case: Case, is_condition: bool) -> Result<Transformed<Expr>> {
        let mut is_changed = false;
        let mut take = |expr: Expr, is_condition: bool| -> Result<Box<Expr>> {
            let replaced = self.replace(expr, is_condition)?;
            is_changed |= replaced.transformed;
            Ok(Box::new(replaced.data))
        };
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (condition, value) in case.when_then_expr {
            branches.push((take(*condition, true)?, take(*value, is_condition)?));
        }
        let otherwise = case.else_expr.map(|value| take(*value, is_condition)).transpose()?;
        let case = Expr::Case(Case::new(None, branches, otherwise));
        Ok(Transformed::new(case, is_changed, TreeNodeRecursion::Continue))
    }

    fn exists(&mut self, exists: Exists) -> Result<Transformed<Expr>> {
        if let Some(value) = decided(&exists)? {
            return Ok(Transformed::yes(value));
        }
        let query = without_limit(exists.subquery.subquery.as_ref());
        let rows = self.any(query.clone(), lit(true), exists.subquery.outer_ref_columns)?;
        Ok(Transformed::yes(match exists.negated {
            false => rows.is_not_null(),
            true => rows.is_null(),
        }))
    }

    /// Returns the value of `x IN (SELECT y ...)`: true if some `y` equals `x`; otherwise NULL if there are rows, and
    /// `x` or some `y` is NULL.
    fn is_in(&mut self, call: InSubquery, is_condition: bool) -> Result<Transformed<Expr>> {
        let mut outer_columns = call.subquery.outer_ref_columns.clone();
        let query = call.subquery.subquery.as_ref().clone();
        let operand = as_outer(&call.expr, self.schema, &mut outer_columns)?;
        let output = query.schema().columns().into_iter().next();
        let (Some(operand), Some(output)) = (operand, output) else {
            return Ok(Transformed::no(Expr::InSubquery(call)));
        };
        check_aggregates(&query)?;
        let is_known = (is_condition && !call.negated)
            || (is_never_null(self.plan, &call.expr) && is_never_null(&query, &Expr::Column(output.clone())));
        *self.count += 1;
        let name = format!("{IN}{}", self.count);
        let output = Expr::Column(output).alias(&name);
        let values = LogicalPlanBuilder::from(query).project([output])?.build()?;
        let value = || Expr::Column(Column::new_unqualified(&name));
        let equal = Filter::try_new(operand.eq(value()), Arc::new(values.clone()))?;
        let is_equal = self
            .any(LogicalPlan::Filter(equal), lit(true), outer_columns)?
            .is_not_null();
        let is_in = match is_known {
            true => is_equal,
            false => {
                let nulls = self.any(values, value().is_null(), call.subquery.outer_ref_columns)?;
                // 1 if a value is NULL, 0 if none is, NULL without rows. A number, since the optimiser would evaluate
                // the subqueries of boolean alternatives several times.
                let nulls = Expr::Cast(Cast::new(Box::new(nulls), DataType::Int64));
                let least = when(call.expr.as_ref().clone().is_null(), lit(0_i64)).otherwise(lit(1_i64))?;
                let is_in = when(is_equal, lit(1_i64))
                    .when(nulls.gt_eq(least), Expr::Literal(ScalarValue::Int64(None), None))
                    .otherwise(lit(0_i64))?;
                Expr::Cast(Cast::new(Box::new(is_in), DataType::Boolean))
            }
        };
        Ok(Transformed::yes(match call.negated {
            false => is_in,
            true => Expr::Not(Box::new(is_in)),
        }))
    }

    /// Returns the disjunction of a condition over the rows of a query; NULL if there are none.
    fn any(&mut self, query: LogicalPlan, condition: Expr, outer_ref_columns: Vec<Expr>) -> Result<Expr> {
        *self.count += 1;
        let name = format!("{IN}{}", self.count);
        let rows = LogicalPlanBuilder::from(query)
            .aggregate(Vec::<Expr>::new(), [bool_or(condition).alias(&name)])?
            .project([ident(name)])?
            .build()?;
        Ok(Expr::ScalarSubquery(Subquery {
            subquery: Arc::new(rows),
            outer_ref_columns,
            spans: Spans::new(),
        }))
    }
}

/// Returns the query below a limit and an order, which do not matter if its rows exist.
fn without_limit(query: &LogicalPlan) -> &LogicalPlan {
    match query {
        LogicalPlan::Limit(limit) => {
            let skips_none = matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)));
            match limit.get_fetch_type() {
                Ok(FetchType::Literal(Some(1..))) if skips_none => without_limit(&limit.input),
                _ => query,
            }
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => without_limit(&sort.input),
        _ => query,
    }
}

/// Returns the value of `EXISTS` if the query always has a row: an aggregate without `GROUP BY`.
///
/// # Errors
///
/// If the query has such an aggregate of rows that the query around chooses, and a condition on it.
pub(super) fn decided(exists: &Exists) -> Result<Option<Expr>> {
    let mut query = exists.subquery.subquery.as_ref();
    loop {
        query = match without_limit(query) {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
                return Ok(Some(lit(!exists.negated)));
            }
            _ => break,
        };
    }
    check_aggregates(&exists.subquery.subquery)?;
    Ok(None)
}

/// Refuses queries that aggregate, without `GROUP BY`, rows that the query around chooses. Such an aggregate has a row
/// even if no rows are chosen, which a join does not have.
pub(super) fn check_aggregates(query: &LogicalPlan) -> Result<()> {
    if aggregates_correlated_rows(query) {
        return plan_err!(
            "this subquery aggregates rows that the query around it chooses: compare with the aggregate instead of writing \
             EXISTS or IN, as in x = (SELECT MAX(y) ...), or add a GROUP BY"
        );
    }
    Ok(())
}

fn aggregates_correlated_rows(query: &LogicalPlan) -> bool {
    let is_such = |plan: &LogicalPlan| match plan {
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.is_empty() && !aggregate.input.all_out_ref_exprs().is_empty()
        }
        _ => false,
    };
    query.exists(|plan| Ok(is_such(plan))).unwrap_or(true)
}
