//! Interval joins: the bounds of event times that a condition implies.
//!
//! A comparison such as `l.ts <= r.ts + INTERVAL '1' HOUR` bounds the event time `l.ts` of the rows that a right row
//! can be joined with: after that time, the right row *expires*. The other side of the comparison may be any time of
//! the row, as in `bid.ts <= auction.expires`. If the condition has such bounds for the rows of both sides, and both
//! are append-only, rows need to be kept until they expire only. The comparisons stay a part of the condition.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::common::{JoinType, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Literal};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr_common::physical_expr::is_volatile;

use super::side::Side;
use super::{fills_with_null, is_one_sided, of_right, side_of};
use crate::translate::context::{Context, Result};
use crate::translate::fallibility::can_fail;
use crate::translate::relation::{Attribute, Bound as WindowBound, ColumnInfo, Pending, Relation, bare_column};

/// Bounds of the event times of the rows that a join combines, for each side.
pub(super) struct Bounds {
    /// Index of the event-time column.
    pub time: [usize; 2],
    /// Latest event time of the other side's rows that a row can be joined with, over the side's columns. NULL if there
    /// are none.
    pub expiry: [PhysicalExprRef; 2],
    /// Greatest difference between the expiry and the event time of a row, in microseconds, if it is known.
    pub retention: [Option<i64>; 2],
}

/// An upper bound of the other side's event time, for a row.
struct UpperBound {
    /// Side of the row.
    side: usize,
    /// Index of the bounded column of the other side.
    time: usize,
    /// Time of the row, over its columns.
    base: PhysicalExprRef,
    /// Microseconds from that time to the bound.
    offset: i64,
}

/// Returns the bounds that the keys and the condition imply; `None` if the rows of a side are not bounded, or may be
/// updated.
pub(super) fn bounds(
    cx: &Context<'_>,
    left: &Side,
    right: &Side,
    condition: Option<&PhysicalExprRef>,
) -> Result<Option<Bounds>> {
    let sides = [left, right];
    let schemas = sides.map(|side| schema(&side.relation.columns));
    let mut found: Vec<UpperBound> = Vec::new();
    let mut add = |[lesser, greater]: [(usize, PhysicalExprRef); 2]| {
        found.extend(upper_bound(cx, lesser, greater, &sides, &schemas));
    };
    for ((left, _), (right, _)) in left.keys.iter().zip(&right.keys) {
        let (left, right) = ((0, left.clone()), (1, right.clone()));
        add([left.clone(), right.clone()]);
        add([right, left]);
    }
    let left_width = left.relation.columns.len();
    for conjunct in condition.into_iter().flat_map(split_conjunction) {
        let Some(binary) = conjunct.downcast_ref::<BinaryExpr>() else {
            continue;
        };
        let (first, second) = (binary.left(), binary.right());
        let sided = |expr: &PhysicalExprRef| match side_of(expr, left_width)? {
            0 => Some((0, expr.clone())),
            // An expression that cannot be rewritten bounds nothing.
            _ => Some((1, of_right(expr, left_width).ok()?)),
        };
        let (Some(first), Some(second)) = (sided(first), sided(second)) else {
            continue;
        };
        match binary.op() {
            Operator::Lt | Operator::LtEq => add([first, second]),
            Operator::Gt | Operator::GtEq => add([second, first]),
            Operator::Eq => {
                add([first.clone(), second.clone()]);
                add([second, first]);
            }
            _ => {}
        }
    }
    // The first bound of a side's rows determines the other side's event time.
    let time = |side: usize| {
        found
            .iter()
            .find(|bound| bound.side == 1 - side)
            .map(|bound| bound.time)
    };
    let (Some(left_time), Some(right_time)) = (time(0), time(1)) else {
        return Ok(None);
    };
    if !sides.into_iter().all(|side| is_append_only(cx, &side.relation)) {
        return Ok(None);
    }
    let time = [left_time, right_time];
    let of_side = |side: usize| {
        let bounds = found
            .iter()
            .filter(move |bound| bound.side == side && bound.time == time[1 - side]);
        bounds.collect::<Vec<_>>()
    };
    let bounds = [of_side(0), of_side(1)];
    let retention = [0, 1].map(|side| {
        let own = bounds[side]
            .iter()
            .filter(|bound| bare_column(&bound.base) == Some(time[side]));
        own.map(|bound| bound.offset).min()
    });
    let [left_bounds, right_bounds] = bounds;
    Ok(Some(Bounds {
        time,
        expiry: [cx.located(least(&left_bounds))?, cx.located(least(&right_bounds))?],
        retention,
    }))
}

/// Returns the bound that `lesser <= greater` is for the rows of the greater expression's side.
fn upper_bound(
    cx: &Context<'_>,
    lesser: (usize, PhysicalExprRef),
    greater: (usize, PhysicalExprRef),
    sides: &[&Side; 2],
    schemas: &[Schema; 2],
) -> Option<UpperBound> {
    let (bounded, side) = (lesser.0, greater.0);
    if bounded == side {
        return None;
    }
    let (lesser, lesser_offset) = shifted(&lesser.1);
    let (base, greater_offset) = shifted(&greater.1);
    let time = bare_column(&lesser)?;
    let column = &sides[bounded].relation.columns[time];
    if !is_event_time(cx, column.attribute) {
        return None;
    }
    let schema = &schemas[side];
    let is_same_type = base.data_type(schema).is_ok_and(|found| found == column.data_type);
    if !is_same_type || is_volatile(&base) || can_fail(&base, schema) {
        return None;
    }
    let offset = greater_offset.checked_sub(lesser_offset)?;
    let is_interval = offset.checked_abs()?.checked_mul(1_000).is_some();
    is_interval.then_some(UpperBound {
        side,
        time,
        base,
        offset,
    })
}

/// Returns true if the rows of a relation are never updated. The first rows of a partition lose their event time in any
/// case.
pub(super) fn is_append_only(cx: &Context<'_>, relation: &Relation) -> bool {
    let is_ranked = matches!(relation.pending, Pending::Rank(_));
    !is_ranked
        && relation
            .branches
            .iter()
            .all(|branch| !cx.builder.has_updates(branch.node))
}

/// Returns true if no later row has a time at or before the watermark in a column of this attribute.
fn is_event_time(cx: &Context<'_>, attribute: Attribute) -> bool {
    match attribute {
        Attribute::EventTime => true,
        Attribute::Window(id, WindowBound::Time | WindowBound::Instant) => !cx.windows[id].processing_time,
        // It is later than the time of the row's window, unless it is a local time.
        Attribute::Window(id, WindowBound::End) => !cx.windows[id].processing_time && cx.windows[id].zone.is_none(),
        Attribute::Window(_, WindowBound::Start) | Attribute::ProcessingTime | Attribute::None => false,
    }
}

/// Splits a time into another time and the constant microseconds that are added to it.
fn shifted(expr: &PhysicalExprRef) -> (PhysicalExprRef, i64) {
    let parts = expr.downcast_ref::<BinaryExpr>().and_then(|binary| {
        let (left, right) = (binary.left(), binary.right());
        match binary.op() {
            Operator::Plus => match (interval(left), interval(right)) {
                (None, Some(offset)) => Some((left, offset)),
                (Some(offset), None) => Some((right, offset)),
                _ => None,
            },
            Operator::Minus => Some((left, interval(right)?.checked_neg()?)),
            _ => None,
        }
    });
    let Some((inner, offset)) = parts else {
        return (expr.clone(), 0);
    };
    let (base, inner_offset) = shifted(inner);
    match inner_offset.checked_add(offset) {
        Some(offset) => (base, offset),
        None => (expr.clone(), 0),
    }
}

/// Returns the microseconds of a constant interval that is always as long.
fn interval(expr: &PhysicalExprRef) -> Option<i64> {
    const DAY: i64 = 86_400_000_000;
    let literal = expr.downcast_ref::<Literal>()?;
    match literal.value() {
        ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 && value.nanoseconds % 1_000 == 0 => {
            i64::from(value.days)
                .checked_mul(DAY)?
                .checked_add(value.nanoseconds / 1_000)
        }
        ScalarValue::DurationMicrosecond(Some(value)) => Some(*value),
        ScalarValue::IntervalDayTime(Some(value)) => {
            let milliseconds = i64::from(value.milliseconds) * 1_000;
            i64::from(value.days).checked_mul(DAY)?.checked_add(milliseconds)
        }
        _ => None,
    }
}

/// Returns the least of several bounds; NULL if one of them is, since the row can be joined with nothing then.
fn least(bounds: &[&UpperBound]) -> datafusion::error::Result<PhysicalExprRef> {
    let mut exprs: Vec<PhysicalExprRef> = Vec::new();
    for bound in bounds {
        let expr = bound.expr();
        if !exprs.contains(&expr) {
            exprs.push(expr);
        }
    }
    let mut exprs = exprs.into_iter();
    let first = exprs.next();
    let first = first.ok_or_else(|| datafusion::common::plan_datafusion_err!("an interval join without bounds"))?;
    exprs.try_fold(first, |least, next| {
        let is_least = binary(&least, Operator::LtEq, &next);
        let is_greater = binary(&least, Operator::Gt, &next);
        let case = CaseExpr::try_new(None, vec![(is_least, least), (is_greater, next)], None)?;
        Ok(Arc::new(case) as PhysicalExprRef)
    })
}

fn binary(left: &PhysicalExprRef, operator: Operator, right: &PhysicalExprRef) -> PhysicalExprRef {
    Arc::new(BinaryExpr::new(left.clone(), operator, right.clone()))
}

impl UpperBound {
    fn expr(&self) -> PhysicalExprRef {
        let operator = match self.offset.signum() {
            0 => return self.base.clone(),
            1 => Operator::Plus,
            _ => Operator::Minus,
        };
        let interval = ScalarValue::new_interval_mdn(0, 0, self.offset.abs() * 1_000);
        let interval: PhysicalExprRef = Arc::new(Literal::new(interval));
        binary(&self.base, operator, &interval)
    }
}

/// Sets the time attributes of the output: those of the sides' event times whose rows are emitted with a bounded delay.
/// Returns that delay in microseconds.
///
/// A row is emitted when its match arrives, at the latest when it expires. So its event time is behind the watermark by
/// the retention of its side at most.
pub(super) fn set_attributes(infos: &mut [ColumnInfo], width: usize, join_type: JoinType, bounds: &Bounds) -> i64 {
    let is_kept = |info: &ColumnInfo| !matches!(info.attribute, Attribute::Window(_, WindowBound::End));
    let is_kept = [bounds.time[0], width + bounds.time[1]].map(|column| infos.get(column).is_some_and(is_kept));
    infos.iter_mut().for_each(|info| info.attribute = Attribute::None);
    let mut delay = 0;
    for side in [0, 1] {
        let is_left = side == 0;
        let is_output = is_left || !is_one_sided(join_type);
        if let Some(retention) = bounds.retention[side]
            && is_output
            && is_kept[side]
            && !fills_with_null(join_type, is_left)
        {
            let position = if is_left {
                bounds.time[0]
            } else {
                width + bounds.time[1]
            };
            infos[position].attribute = Attribute::EventTime;
            delay = retention.max(delay);
        }
    }
    delay
}

fn schema(columns: &[ColumnInfo]) -> Schema {
    let fields = columns.iter();
    Schema::new(
        fields
            .map(|column| Field::new(&column.name, column.data_type.clone(), true))
            .collect::<Vec<_>>(),
    )
}
