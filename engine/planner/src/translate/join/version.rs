//! Temporal joins: the time of `FOR SYSTEM_TIME AS OF`, and what it means for both sides.

use datafusion::common::JoinType;
use datafusion::physical_expr::utils::{conjunction_opt, split_conjunction};
use datafusion::physical_expr::{PhysicalExprRef, ScalarFunctionExpr};
use millstream_graph::{Emission, VersionTime};

use super::interval::is_append_only;
use super::side::Side;
use super::versioned;
use crate::functions::AS_OF;
use crate::translate::context::{Context, Result};
use crate::translate::relation::{Attribute, Bound, Relation, bare_column};

/// Takes the time of `FOR SYSTEM_TIME AS OF` out of a condition.
pub(super) fn take(condition: Option<PhysicalExprRef>) -> (Option<PhysicalExprRef>, Option<PhysicalExprRef>) {
    let mut time = None;
    let mut rest = Vec::new();
    for conjunct in condition.iter().flat_map(split_conjunction) {
        let marker = conjunct.downcast_ref::<ScalarFunctionExpr>();
        match marker
            .filter(|call| call.name() == AS_OF)
            .and_then(|call| call.args().first())
        {
            Some(argument) => time = Some(argument.clone()),
            None => rest.push(conjunct.clone()),
        }
    }
    match time {
        None => (None, condition),
        Some(_) => (time, conjunction_opt(rest)),
    }
}

/// Returns the rows that a join `FOR SYSTEM_TIME AS OF` this time combines, over the columns of both sides. By event
/// time, the right side gets the columns that tell its versions, and equalities besides those of its key become part of
/// the condition.
pub(super) fn version_time(
    cx: &Context<'_>,
    join_type: JoinType,
    time: &PhysicalExprRef,
    left: &mut Side,
    right: &mut Side,
    condition: &mut Option<PhysicalExprRef>,
) -> Result<VersionTime> {
    if !matches!(join_type, JoinType::Inner | JoinType::Left) || left.keys.is_empty() {
        return Err(
            cx.error("FOR SYSTEM_TIME AS OF is supported in JOIN and LEFT JOIN with an equality: ... ON l.k = r.k")
        );
    }
    if !is_append_only(cx, &left.relation) {
        return Err(cx.error(
            "the rows that are joined FOR SYSTEM_TIME AS OF are updated or deleted: join an append-only table, or write \
             the join without FOR SYSTEM_TIME",
        ));
    }
    match bare_column(time).filter(|index| *index < left.relation.columns.len()) {
        Some(index) if is_event_time(cx, &left.relation, index) => {
            let right = versioned::prepare(cx, index, left, right, condition)?;
            Ok(VersionTime::Event { left: index, right })
        }
        Some(index) if left.relation.columns[index].attribute == Attribute::ProcessingTime => {
            let nodes = right.relation.branches.iter().map(|branch| branch.node);
            let mut is_bounded = nodes.map(|node| cx.builder.is_bounded(node));
            Ok(VersionTime::Processing {
                waits_for_end: cx.emission() == Emission::Final || is_bounded.all(|is_bounded| is_bounded),
            })
        }
        _ => Err(cx.error(
            "FOR SYSTEM_TIME AS OF needs a time attribute of the rows that are joined: their event time (the column of \
             WATERMARK FOR, as it is), or a column PROCTIME()",
        )),
    }
}

/// Returns true if watermarks refer to a column of a relation.
fn is_event_time(cx: &Context<'_>, relation: &Relation, index: usize) -> bool {
    match relation.columns[index].attribute {
        Attribute::EventTime => true,
        Attribute::Window(id, Bound::Time | Bound::Instant) => {
            let window = &cx.windows[id];
            let is_instant = relation.columns[index].attribute == Attribute::Window(id, Bound::Instant);
            !window.processing_time && (is_instant || window.zone.is_none())
        }
        Attribute::Window(..) | Attribute::ProcessingTime | Attribute::None => false,
    }
}
