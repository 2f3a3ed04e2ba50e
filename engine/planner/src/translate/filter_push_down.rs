//! Push-down of filters, except of conditions that are not conditions on groups.
//!
//! DataFusion evaluates a condition below an aggregate if it reads group keys only. But `HAVING RAND() < 0.5` then
//! filters rows instead of groups, and `HAVING 1 = 2` the rows of a global aggregate, which has one row even without
//! input.

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

#[derive(Debug, Default)]
pub(super) struct FilterPushDown(PushDownFilter);

impl OptimizerRule for FilterPushDown {
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
        let LogicalPlan::Filter(filter) = &plan else {
            return self.0.rewrite(plan, config);
        };
        let is_kept: fn(&Expr) -> bool = match filter.input.as_ref() {
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
                |condition| condition.is_volatile() || condition.column_refs().is_empty()
            }
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Expr::is_volatile,
            _ => return self.0.rewrite(plan, config),
        };
        let conditions = split_conjunction_owned(filter.predicate.clone());
        let (kept, pushed): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(is_kept);
        let Some(kept) = conjunction(kept) else {
            return self.0.rewrite(plan, config);
        };
        let Some(pushed) = conjunction(pushed) else {
            return Ok(Transformed::no(plan));
        };
        let below = Filter::try_new(pushed, filter.input.clone())?;
        let below = self.0.rewrite(LogicalPlan::Filter(below), config)?;
        if !below.transformed {
            return Ok(Transformed::no(plan));
        }
        below.map_data(|below| Filter::try_new(kept, below.into()).map(LogicalPlan::Filter))
    }
}
