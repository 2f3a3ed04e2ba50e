//! `(start, end) OVERLAPS (start, end)`, where an end may be an interval after its start.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident};

use super::temporal::is_interval;
use crate::ast::call;

/// Returns the comparison that `OVERLAPS` stands for; `None` for other expressions. The two points of a period may be
/// in any order, and both belong to it.
pub(super) fn expanded(expr: &Expr) -> Option<Expr> {
    let Expr::BinaryOp {
        left,
        op: BinaryOperator::Overlaps,
        right,
    } = expr
    else {
        return None;
    };
    let (left, right) = (period(left)?, period(right)?);
    let not_before = |last: &[Expr], first: &[Expr]| Expr::BinaryOp {
        left: Box::new(call(Ident::new("greatest"), last.to_vec())),
        op: BinaryOperator::GtEq,
        right: Box::new(call(Ident::new("least"), first.to_vec())),
    };
    let both = Expr::BinaryOp {
        left: Box::new(not_before(&left, &right)),
        op: BinaryOperator::And,
        right: Box::new(not_before(&right, &left)),
    };
    Some(Expr::Nested(Box::new(both)))
}

/// Returns the two points of a period.
fn period(expr: &Expr) -> Option<[Expr; 2]> {
    let Expr::Tuple(points) = expr else { return None };
    let [start, end] = points.as_slice() else { return None };
    let nested = |expr: &Expr| Box::new(Expr::Nested(Box::new(expr.clone())));
    let end = match is_interval(end) {
        true => Expr::Nested(Box::new(Expr::BinaryOp {
            left: nested(start),
            op: BinaryOperator::Plus,
            right: nested(end),
        })),
        false => end.clone(),
    };
    Some([start.clone(), end])
}
