//! A check of `OVER`: functions that rank rows are the only ones it is there for. The others are refused before types
//! are compared with those of a table, whose message would be about something else.

use datafusion::common::plan_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::functions::shown_name;

const RANKS: [&str; 3] = ["row_number", "rank", "dense_rank"];

/// Refuses a function with `OVER` that does not rank rows.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|plan| {
        let LogicalPlan::Window(window) = plan else {
            return Ok(TreeNodeRecursion::Continue);
        };
        for expr in &window.window_expr {
            if let Expr::WindowFunction(function) = expr.clone().unalias()
                && !RANKS.contains(&function.fun.name())
            {
                let name = shown_name(function.fun.name());
                return plan_err!(
                    "{name}(...) OVER (...) is not supported yet: aggregate with GROUP BY, and join the result with the \
                     rows. OVER is there for ROW_NUMBER(), RANK() and DENSE_RANK(), whose first rows are kept: SELECT ... \
                     FROM (SELECT ..., ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) AS rn FROM ...) WHERE rn <= N"
                );
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}
