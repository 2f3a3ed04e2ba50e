//! Planning of parsed queries and expressions: rewriting, planning, linking to steps, type coercion.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::logical_plan::{EmptyRelation, Projection};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, Query, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::group_windows::SpannedError;
use super::tokens::line_column;
use super::{
    aggregate_arguments, casts, diagnose, error_places, local_time, over, rewrite, semantics, set_operations, unnest,
    values,
};
use crate::catalog::Catalog;
use crate::error::{Error, Location};

/// Plans a query against the current state of the catalog.
pub(crate) fn plan(catalog: &Catalog, query: Box<Query>, location: &Location) -> Result<LogicalPlan, Vec<Error>> {
    let parsed = query.clone();
    plan_once(catalog, query, location).map_err(|errors| {
        let errors_of = |changed| plan_once(catalog, changed, location).err().unwrap_or_default();
        error_places::locate(&parsed, errors, location, &errors_of)
    })
}

fn plan_once(catalog: &Catalog, mut query: Box<Query>, location: &Location) -> Result<LogicalPlan, Vec<Error>> {
    let refused = rewrite::query(&mut query, catalog);
    if !refused.is_empty() {
        return Err(located(refused, location));
    }
    let found = |error| diagnose::errors(error, location);
    let plan = SqlToRel::new(catalog)
        .sql_statement_to_plan(ast::Statement::Query(query))
        .map_err(found)?;
    over::check(&plan).map_err(found)?;
    unnest::check(&plan).map_err(found)?;
    let plan = set_operations::replace(plan).map_err(found)?;
    let plan = catalog.link_steps(plan).map_err(found)?;
    let plan = analyze(catalog, plan).map_err(found)?;
    let plan = values::replace(plan).map_err(found)?;
    simplify(plan.clone()).map_err(|error| constant_errors(error, location))?;
    Ok(plan)
}

/// Returns the errors of constants that cannot be computed.
fn constant_errors(error: DataFusionError, location: &Location) -> Vec<Error> {
    let mut errors = diagnose::errors(error, location);
    for error in &mut errors {
        error.message = format!("this constant cannot be computed: {}", error.message);
    }
    errors
}

/// Plans expressions over columns. Returns each with its type.
pub(crate) fn typed_expressions(
    catalog: &Catalog,
    expressions: Vec<ast::Expr>,
    schema: &DFSchema,
    location: &Location,
) -> Result<Vec<(Expr, DataType)>, Vec<Error>> {
    let mut typed = Vec::new();
    let mut errors = Vec::new();
    for expression in expressions {
        match typed_expression(catalog, expression.clone(), schema, location) {
            Ok(found) => typed.push(found),
            Err(found) => {
                let errors_of = |changed| {
                    let planned = typed_expression(catalog, changed, schema, location);
                    planned.err().unwrap_or_default()
                };
                errors.extend(error_places::locate(&expression, found, location, &errors_of));
            }
        }
    }
    if errors.is_empty() { Ok(typed) } else { Err(errors) }
}

fn typed_expression(
    catalog: &Catalog,
    mut expression: ast::Expr,
    schema: &DFSchema,
    location: &Location,
) -> Result<(Expr, DataType), Vec<Error>> {
    let refused = rewrite::expression(&mut expression, catalog);
    if !refused.is_empty() {
        return Err(located(refused, location));
    }
    SqlToRel::new(catalog)
        .sql_to_expr(expression, schema, &mut PlannerContext::new())
        .and_then(|planned| coerce(catalog, planned, schema))
        .map_err(|error| diagnose::errors(error, location))
}

fn coerce(catalog: &Catalog, expression: Expr, schema: &DFSchema) -> Result<(Expr, DataType), DataFusionError> {
    if !datafusion::logical_expr::utils::find_aggregate_exprs([&expression]).is_empty() {
        return datafusion::common::plan_err!("an aggregate cannot be computed from one row");
    }
    let schema = Arc::new(schema.clone());
    let input = LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: false,
        schema: schema.clone(),
    });
    let plan = LogicalPlan::Projection(Projection::try_new(vec![expression.alias("$0")], Arc::new(input))?);
    // Some functions, such as COALESCE, have no implementation and must be simplified into others.
    let plan = semantics::after_optimization(simplify(analyze(catalog, plan)?)?)?;
    let LogicalPlan::Projection(projection) = plan else {
        return datafusion::common::plan_err!("an expression of a table must be a plain one, without subqueries");
    };
    let Some(expression) = projection.expr.into_iter().next() else {
        return datafusion::common::plan_err!("an expression of a table must have a value");
    };
    let expression = expression.unalias();
    let data_type = expression.get_type(&schema)?;
    Ok((expression, data_type))
}

/// Simplifies the expressions of a plan, and computes constants.
fn simplify(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]).optimize(
        plan,
        &OptimizerContext::new().with_max_passes(1),
        |_, _| {},
    )
}

/// Checks and coerces types with Flink's semantics.
pub(crate) fn analyze(catalog: &Catalog, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let plan = semantics::before_coercion(plan)?;
    let plan = plan.transform_up_with_subqueries(casts::mark)?.data;
    let plan = Analyzer::new().execute_and_check(plan, catalog.config(), |_, _| {})?;
    let mut plan = plan.transform_up_with_subqueries(casts::refuse_implicit)?.data;
    if let Some(zone) = catalog.local_time_zone() {
        plan = plan
            .transform_up_with_subqueries(|plan| local_time::rewrite(plan, zone))?
            .data;
    }
    let plan = plan.transform_up_with_subqueries(casts::lower)?.data;
    plan.transform_up_with_subqueries(aggregate_arguments::check)
        .map(|transformed| transformed.data)
}

/// Replaces names of columns by the columns' expressions.
pub(crate) fn inline(mut expression: ast::Expr, columns: &[(String, ast::Expr)]) -> ast::Expr {
    struct Inline<'a>(&'a [(String, ast::Expr)]);
    impl VisitorMut for Inline<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> std::ops::ControlFlow<()> {
            if let ast::Expr::Identifier(name) = expr
                && let Some((_, computed)) = self.0.iter().find(|(column, _)| *column == name.value)
            {
                *expr = ast::Expr::Nested(Box::new(computed.clone()));
            }
            std::ops::ControlFlow::Continue(())
        }
    }
    match expression.visit(&mut Inline(columns)) {
        std::ops::ControlFlow::Continue(()) | std::ops::ControlFlow::Break(()) => expression,
    }
}

pub(super) fn located(errors: Vec<SpannedError>, fallback: &Location) -> Vec<Error> {
    errors
        .into_iter()
        .map(|(message, span)| Error {
            location: location(span, fallback),
            message,
        })
        .collect()
}

fn location(span: Span, fallback: &Location) -> Location {
    match line_column(span.start.line, span.start.column) {
        Location::Unknown => fallback.clone(),
        location => location,
    }
}
