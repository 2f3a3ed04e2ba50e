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

use super::error_spans::ErrorSpans;
use super::group_windows::SpannedError;
use super::tokens::line_column;
use super::{casts, diagnose, rewrite, semantics};
use crate::catalog::Catalog;
use crate::error::{Error, Location};

/// Plans a query against the current state of the catalog.
pub(crate) fn plan(catalog: &Catalog, mut query: Box<Query>, location: &Location) -> Result<LogicalPlan, Vec<Error>> {
    let refused = rewrite::query(&mut query, catalog);
    if !refused.is_empty() {
        return Err(located(refused, location));
    }
    let spans = ErrorSpans::new(&query);
    let found = |error| spans.locate(diagnose::errors(error, location), location);
    let plan = SqlToRel::new(catalog)
        .sql_statement_to_plan(ast::Statement::Query(query))
        .map_err(found)?;
    let plan = catalog.link_steps(plan).map_err(found)?;
    analyze(catalog, plan).map_err(found)
}

/// Plans expressions over columns. Returns each with its type.
pub(crate) fn typed_expressions(
    catalog: &Catalog,
    expressions: Vec<ast::Expr>,
    schema: &DFSchema,
    location: &Location,
) -> Result<Vec<(Expr, DataType)>, Vec<Error>> {
    let mut errors = Vec::new();
    let mut planned = Vec::new();
    for mut expression in expressions {
        let refused = rewrite::expression(&mut expression, catalog);
        if !refused.is_empty() {
            errors.extend(located(refused, location));
            continue;
        }
        let planner = SqlToRel::new(catalog);
        match planner.sql_to_expr(expression, schema, &mut PlannerContext::new()) {
            Ok(expression) => planned.push(expression),
            Err(error) => errors.extend(diagnose::errors(error, location)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    coerce(catalog, planned, schema).map_err(|error| diagnose::errors(error, location))
}

fn coerce(
    catalog: &Catalog,
    expressions: Vec<Expr>,
    schema: &DFSchema,
) -> Result<Vec<(Expr, DataType)>, DataFusionError> {
    if !datafusion::logical_expr::utils::find_aggregate_exprs(&expressions).is_empty() {
        return datafusion::common::plan_err!("an aggregate cannot be computed from one row");
    }
    let schema = Arc::new(schema.clone());
    let input = LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: false,
        schema: schema.clone(),
    });
    let aliased = expressions
        .into_iter()
        .enumerate()
        .map(|(index, expression)| expression.alias(format!("${index}")))
        .collect();
    let plan = LogicalPlan::Projection(Projection::try_new(aliased, Arc::new(input))?);
    // Some functions, such as COALESCE, have no implementation and must be simplified into others.
    let plan = Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]).optimize(
        analyze(catalog, plan)?,
        &OptimizerContext::new().with_max_passes(1),
        |_, _| {},
    )?;
    let plan = semantics::after_optimization(plan)?;
    let LogicalPlan::Projection(projection) = plan else {
        return datafusion::common::plan_err!("an expression of a table must be a plain one, without subqueries");
    };
    projection
        .expr
        .into_iter()
        .map(|expression| {
            let expression = expression.unalias();
            let data_type = expression.get_type(&schema)?;
            Ok((expression, data_type))
        })
        .collect()
}

/// Checks and coerces types with Flink's semantics.
pub(crate) fn analyze(catalog: &Catalog, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let plan = semantics::before_coercion(plan)?;
    let plan = plan.transform_up_with_subqueries(casts::mark)?.data;
    let plan = Analyzer::new().execute_and_check(plan, catalog.config(), |_, _| {})?;
    let plan = plan.transform_up_with_subqueries(casts::refuse_implicit)?.data;
    let plan = plan.transform_up_with_subqueries(casts::lower)?.data;
    Ok(plan)
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
