//! A check of `GROUPING SETS`: each set is written once.
//!
//! `GROUP_ID()` numbers the repetitions of a set, so it is 0 where none is repeated.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Select, Spanned};

use super::group_windows::SpannedError;

/// Refuses a set that is repeated.
pub(super) fn check(select: &Select) -> Result<(), SpannedError> {
    let GroupByExpr::Expressions(expressions, _) = &select.group_by else {
        return Ok(());
    };
    for expression in expressions {
        let Expr::GroupingSets(sets) = expression else { continue };
        let mut seen = HashSet::new();
        for set in sets {
            let columns: Vec<String> = set.iter().map(ToString::to_string).collect();
            if !seen.insert(columns.join(", ")) {
                let message = format!("the grouping set ({}) is repeated: write it once", columns.join(", "));
                return Err((message, expression.span()));
            }
        }
    }
    Ok(())
}
