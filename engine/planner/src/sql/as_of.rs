//! `JOIN versions FOR SYSTEM_TIME AS OF l.rowtime`: temporal and lookup joins.
//!
//! The clause becomes a condition of the join, a call of [`FUNCTION`] with the time. The condition of the join is its
//! second argument, so that it reads both sides and stays with the join. The translation of the join takes it out
//! again.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Select, Spanned, TableFactor, TableVersion,
    TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::ast::call;
use crate::functions::AS_OF;

/// Rewrites the joins of a query. Returns the first clause that is not part of a join with a condition.
pub(super) fn rewrite(select: &mut Select) -> Result<(), (String, Span)> {
    select.from.iter_mut().try_for_each(rewrite_joins)
}

fn rewrite_joins(from: &mut TableWithJoins) -> Result<(), (String, Span)> {
    if let TableFactor::NestedJoin { table_with_joins, .. } = &mut from.relation {
        rewrite_joins(table_with_joins)?;
    }
    from.joins.iter_mut().try_for_each(rewrite_join)
}

fn rewrite_join(join: &mut Join) -> Result<(), (String, Span)> {
    let span = join.relation.span();
    let TableFactor::Table { name, version, .. } = &mut join.relation else {
        return Ok(());
    };
    let name = name.to_string();
    let Some(TableVersion::ForSystemTimeAsOf(time)) = version else {
        return Ok(());
    };
    let constraint = match &mut join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint) => constraint,
        _ => return Err((unsupported(&name), span)),
    };
    let JoinConstraint::On(condition) = constraint else {
        return Err((unsupported(&name), span));
    };
    let marker = call(Ident::with_span(span, AS_OF), vec![time.clone(), condition.clone()]);
    *condition = Expr::BinaryOp {
        left: Box::new(Expr::Nested(Box::new(condition.clone()))),
        op: BinaryOperator::And,
        right: Box::new(marker),
    };
    *version = None;
    Ok(())
}

/// Returns the message for a clause at a place where it has no meaning.
pub(super) fn unsupported(name: &str) -> String {
    format!(
        "`{name} FOR SYSTEM_TIME AS OF ...` needs rows to be joined with: write `FROM l [LEFT] JOIN {name} FOR SYSTEM_TIME \
         AS OF l.ts AS r ON l.k = r.k`"
    )
}
