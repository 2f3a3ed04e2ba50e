//! DataFusion's analyser and logical optimiser, with all settings fixed that could differ between two machines.
//!
//! The rules are listed explicitly. Omitted are rules that are wrong for streams or destroy patterns that the
//! translation recognises: those that replace a sub-plan by an empty relation (a stream without rows still has
//! watermarks), that rewrite `DISTINCT` aggregates into two unwindowed ones, that push limits down, and that move field
//! accesses.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan, when};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerContext, OptimizerRule};
use datafusion::physical_expr::create_physical_expr;

use super::filter_push_down::FilterPushDown;

/// The optimiser with its settings.
pub(super) struct Planning {
    config: Arc<ConfigOptions>,
    now: DateTime<Utc>,
    pub props: ExecutionProps,
}

impl Planning {
    /// Returns the optimiser for a job that starts at `now_us`, in microseconds since the epoch.
    pub(super) fn new(now_us: i64) -> Self {
        let mut config = ConfigOptions::default();
        config.execution.target_partitions = 1;
        config.execution.time_zone = Some("+00:00".to_owned());
        config.optimizer.skip_failed_rules = false;
        config.optimizer.expand_views_at_output = false;
        config.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        let config = Arc::new(config);
        let now = DateTime::from_timestamp_micros(now_us).unwrap_or(DateTime::UNIX_EPOCH);
        let mut props = ExecutionProps::new().with_query_execution_start_time(now);
        props.config_options = Some(config.clone());
        Self { config, now, props }
    }

    pub(super) fn optimize(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = match super::session_join::is_in(&plan)? {
            true => {
                let context = OptimizerContext::new_with_config_options(self.config.clone());
                let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![Arc::new(OptimizeProjections::new())];
                super::session_join::replace(Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})?)?
            }
            false => plan,
        };
        let plan = super::lateral::rank_limited(plan)?;
        let plan = super::subqueries::prepare(plan)?;
        let plan = Analyzer::new().execute_and_check(plan, &self.config, |_, _| {})?;
        let context =
            OptimizerContext::new_with_config_options(self.config.clone()).with_query_execution_start_time(self.now);
        let plan = Optimizer::with_rules(rules()).optimize(plan, &context, |_, _| {})?;
        let plan = super::unnest_columns::drop_unread(plan)?;
        crate::sql::semantics::after_optimization(plan)
    }

    pub(super) fn config(&self) -> &Arc<ConfigOptions> {
        &self.config
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.now
    }
}

/// Moves conditions of a filter that can fail after those that cannot.
///
/// In `v > 0 AND 10 / v > 2`, [`super::short_circuit`] makes the division safe. But filter push-down collects
/// conditions from several places and sorts them by estimated cost.
#[derive(Debug)]
struct InfallibleFirst;

impl OptimizerRule for InfallibleFirst {
    fn name(&self) -> &str {
        "infallible_first"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let schema = filter.input.schema();
        let conditions = split_conjunction(&filter.predicate);
        let (failing, harmless): (Vec<&Expr>, Vec<&Expr>) = conditions
            .iter()
            .copied()
            .partition(|condition| can_fail(condition, schema));
        let ordered = [harmless, failing].concat();
        if ordered == conditions || conditions.iter().any(|condition| condition.is_volatile()) {
            return Ok(Transformed::no(plan));
        }
        let Some(predicate) = conjunction(ordered.into_iter().cloned()) else {
            return Ok(Transformed::no(plan));
        };
        let filter = Filter::new(predicate, filter.input.clone());
        Ok(Transformed::yes(LogicalPlan::Filter(filter)))
    }
}

/// Makes equalities of a join's condition its keys.
///
/// DataFusion makes keys of `IS NOT DISTINCT FROM`, too, and later loses that NULL equals NULL in them (if inner joins
/// are reordered) or adds keys for which it does not. The translation finds them in the condition.
#[derive(Debug, Default)]
struct EqualityKeys(ExtractEquijoinPredicate);

impl OptimizerRule for EqualityKeys {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNothing => {}
            _ => return Ok(Transformed::no(plan)),
        }
        let extracted = self.0.rewrite(plan.clone(), config)?;
        Ok(match &extracted.data {
            LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNothing => extracted,
            _ => Transformed::no(plan),
        })
    }
}

/// Guards fallible arguments of an aggregate with FILTER by that condition, so that they are evaluated only for rows
/// that pass it, even if several aggregates share an argument.
#[derive(Debug)]
struct GuardFilteredArguments;

impl OptimizerRule for GuardFilteredArguments {
    fn name(&self) -> &str {
        "guard_filtered_arguments"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(plan));
        }
        let preserver = NamePreserver::new(&plan);
        let LogicalPlan::Aggregate(aggregate) = plan else {
            return Ok(Transformed::no(plan));
        };
        let schema = aggregate.input.schema();
        let calls = aggregate.aggr_expr.iter().map(|expr| {
            let name = preserver.save(expr);
            let counted = expr.clone().transform(|expr| guard_filtered_arguments(expr, schema))?;
            Ok(counted.update_data(|expr| name.restore(expr)))
        });
        let calls = calls.collect::<Result<Vec<_>>>()?;
        if !calls.iter().any(|call| call.transformed) {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let calls = calls.into_iter().map(|call| call.data).collect();
        let Aggregate {
            input,
            group_expr,
            schema,
            ..
        } = aggregate;
        Aggregate::try_new_with_schema(input, group_expr, calls, schema)
            .map(|aggregate| Transformed::yes(LogicalPlan::Aggregate(aggregate)))
    }
}

fn guard_filtered_arguments(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::AggregateFunction(mut call) = expr else {
        return Ok(Transformed::no(expr));
    };
    let Some(filter) = call.params.filter.clone() else {
        return Ok(Transformed::no(Expr::AggregateFunction(call)));
    };
    let is_counted = |expr: &Expr| match expr {
        Expr::Case(case) => matches!(case.when_then_expr.as_slice(), [(condition, _)] if *condition == filter),
        _ => false,
    };
    let mut changed = false;
    let order = call.params.order_by.iter_mut().map(|sort| &mut sort.expr);
    for expr in call.params.args.iter_mut().chain(order) {
        if can_fail(expr, schema) && !is_counted(expr) {
            *expr = when(filter.as_ref().clone(), expr.clone()).end()?;
            changed = true;
        }
    }
    let call = Expr::AggregateFunction(call);
    Ok(if changed {
        Transformed::yes(call)
    } else {
        Transformed::no(call)
    })
}

/// Returns true if an expression can fail for some row.
fn can_fail(expr: &Expr, schema: &DFSchema) -> bool {
    // An expression with a subquery has no physical form; it is refused later.
    let physical = create_physical_expr(expr, schema, &Default::default(), &Default::default());
    physical.map_or(true, |physical| {
        super::fallibility::can_fail(&physical, schema.as_arrow())
    })
}

fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(GuardFilteredArguments),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(EqualityKeys::default()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(FilterPushDown::default()),
        Arc::new(InfallibleFirst),
        Arc::new(EqualityKeys::default()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}
