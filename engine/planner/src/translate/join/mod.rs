//! Joins.
//!
//! The condition determines the operator. If it contains the equality of the bounds of both sides' windows, rows are
//! forgotten once their common window is complete ([`window`]). If it bounds the event times of both sides
//! ([`interval`]), rows are forgotten once the watermark has passed the last row that they can be joined with.
//! With `FOR SYSTEM_TIME AS OF`, rows are joined with those that the other side has when they arrive, or with the
//! version that was valid at their time ([`version`], [`versioned`]).
//! Otherwise the join is a regular one, which keeps all rows of both sides, and whose result is updated.
//!
//! Further equalities become the hash keys; all other conditions are a filter over the pairs.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::common::{DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::{Expr, Join as LogicalJoin, Operator as BinaryOperator};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::{conjunction_opt, split_conjunction};
use millstream_graph::{Join, NodeIndex, Operator, Port, TemporalJoin, TimeBounds, VersionTime, WindowJoin};

use self::interval::Bounds;
use self::side::{PreparedSide, Side};
use super::builder::{InputEdge, keyed_exchange};
use super::context::{Context, Result};
use super::dynamic_filter::{DynamicFilters, JoinInput, drops_unmatched};
use super::late_columns;
use super::relation::{
    Attribute, Branch, ColumnInfo, Pending, Relation, WindowId, column, columns_of, stream, substitute,
};
use super::short_circuit;
use super::side_output::SideOutput;

mod interval;
mod side;
mod version;
mod versioned;
mod window;

/// The rows that a join combines, besides those that meet the condition.
enum Kind {
    /// Rows of equal windows.
    Window(WindowId, WindowId),
    /// Rows whose event times are within these bounds.
    Interval(Bounds),
    /// Rows with the version that is valid at their time.
    Version(VersionTime),
    /// All rows.
    Regular,
}

/// Returns the joined relation; the left input may be pending.
pub(super) fn join(
    cx: &mut Context<'_>,
    filters: &DynamicFilters,
    join: &LogicalJoin,
    left: Relation,
    right: Relation,
) -> Result<Relation> {
    let (as_of, mut condition) = version::take(condition(cx, join)?);
    let nulls_are_equal = join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty();
    let (left_on, right_on): (Vec<&Expr>, Vec<&Expr>) = join.on.iter().map(|(left, right)| (left, right)).unzip();
    let mut left = JoinInput {
        relation: left,
        on: join_keys(cx, &left_on, join.left.schema())?,
    };
    let mut right = JoinInput {
        relation: right,
        on: join_keys(cx, &right_on, join.right.schema())?,
    };
    if !nulls_are_equal {
        if drops_unmatched(join.join_type, true) {
            left.relation = filters.apply(cx, &left, &right)?;
        }
        if drops_unmatched(join.join_type, false) {
            right.relation = filters.apply(cx, &right, &left)?;
        }
    }
    let mut left = Side::new(left, late_columns::of_input(&join.left));
    let mut right = Side::new(right, late_columns::of_input(&join.right));

    let windows = match nulls_are_equal {
        // The operator's NULL equals nothing.
        true => None,
        false => window::common(cx, &left, &right),
    };
    let kind = match windows {
        _ if as_of.is_some() => Kind::Regular,
        Some((left, right)) => Kind::Window(left, right),
        None => match interval::bounds(cx, &left, &right, condition.as_ref())? {
            Some(bounds) => Kind::Interval(bounds),
            None => Kind::Regular,
        },
    };
    let kind = match &as_of {
        Some(time) => {
            let version = version::version_time(cx, join.join_type, time, &mut left, &mut right, &mut condition)?;
            Kind::Version(version)
        }
        None => kind,
    };
    if let (true, Kind::Interval(_) | Kind::Regular) = (join.on.is_empty(), &kind) {
        let distinct = take_not_distinct(condition.take(), left.relation.columns.len());
        condition = distinct.rest;
        for (left_key, right_key) in distinct.keys {
            left.push_key(left_key);
            right.push_key(cx.located(right_key)?);
        }
    }
    let nulls_are_equal = nulls_are_equal || (join.on.is_empty() && !left.keys.is_empty());
    joined(cx, join, kind, [left, right], condition, nulls_are_equal)
}

/// Adds the node of a join and returns its relation.
fn joined(
    cx: &mut Context<'_>,
    join: &LogicalJoin,
    kind: Kind,
    [left, right]: [Side; 2],
    condition: Option<PhysicalExprRef>,
    nulls_are_equal: bool,
) -> Result<Relation> {
    let (left, right) = match &kind {
        Kind::Window(..) => (left.prepare_windowed(cx)?, right.prepare_windowed(cx)?),
        Kind::Interval(bounds) => {
            let [left_expiry, right_expiry] = bounds.expiry.clone();
            (
                left.prepare_timed(cx, left_expiry)?,
                right.prepare_timed(cx, right_expiry)?,
            )
        }
        Kind::Version(_) | Kind::Regular => (left.prepare(cx)?, right.prepare(cx)?),
    };
    let mut on: Vec<(usize, usize)> = Vec::new();
    for index in 0..left.keys.len() {
        let is_bound = match kind {
            Kind::Window(of_left, of_right) => {
                window::are_bounds((left.attributes[index], of_left), (right.attributes[index], of_right))
            }
            Kind::Interval(_) | Kind::Version(_) | Kind::Regular => false,
        };
        let pair = (left.keys[index], right.keys[index]);
        if !is_bound && !on.contains(&pair) {
            on.push(pair);
        }
    }
    let filter = condition.map(|condition| pair_filter(cx, &condition, &left, &right));
    let filter = filter.transpose()?;

    let width = left.joined_width;
    let is_one_sided = is_one_sided(join.join_type);
    let mut fields: Vec<Field> = left.nullable();
    let mut infos = left.columns[..width].to_vec();
    if !is_one_sided {
        fields.extend(right.nullable());
        infos.extend_from_slice(&right.columns[..right.joined_width]);
    }
    let (left_exchange, parallelism) = keyed_exchange(on.iter().map(|pair| pair.0).collect());
    let (right_exchange, _) = keyed_exchange(on.iter().map(|pair| pair.1).collect());
    let mut edges = Vec::new();
    for (input, side, exchange) in [(0, &left, left_exchange), (1, &right, right_exchange)] {
        edges.extend(side.nodes.iter().map(|&from| InputEdge {
            from,
            port: Port::Main,
            input,
            exchange: exchange.clone(),
        }));
    }
    let (has_late_rows, operator) = match kind {
        Kind::Window(left_id, right_id) => {
            let operator = WindowJoin {
                join_type: join.join_type,
                joined_columns: [left.joined_width, right.joined_width],
                left: window::columns(cx, &left, left_id)?,
                right: window::columns(cx, &right, right_id)?,
                on,
                filter,
            };
            window::set_attributes(&mut infos, width, join.join_type, left_id, right_id);
            (true, Operator::WindowJoin(operator))
        }
        Kind::Interval(bounds) => {
            let time = bounds.time;
            let expiry = [&left, &right].map(|side| side.expiry.unwrap_or_default());
            let watermark_delay = interval::set_attributes(&mut infos, width, join.join_type, &bounds);
            let bounds = TimeBounds {
                time,
                expiry,
                retention: bounds.retention,
                watermark_delay,
            };
            let operator = Join {
                join_type: join.join_type,
                on,
                nulls_are_equal,
                filter,
                bounds: Some(bounds),
                emission: cx.emission(),
                state_ttl: [None, None],
            };
            (true, Operator::Join(operator))
        }
        Kind::Version(time) => {
            // The operator emits left rows before the watermark passes their time.
            infos[width..]
                .iter_mut()
                .for_each(|info| info.attribute = Attribute::None);
            let operator = TemporalJoin {
                is_outer: join.join_type == JoinType::Left,
                on,
                filter,
                time,
                emission: cx.emission(),
            };
            (false, Operator::TemporalJoin(operator))
        }
        Kind::Regular => {
            // The operator emits rows of any age.
            infos.iter_mut().for_each(|info| info.attribute = Attribute::None);
            let operator = Join {
                join_type: join.join_type,
                on,
                nulls_are_equal,
                filter,
                bounds: None,
                emission: cx.emission(),
                state_ttl: [cx.state_ttl_of(&join.left), cx.state_ttl_of(&join.right)],
            };
            (false, Operator::Join(operator))
        }
    };
    let schema = Arc::new(Schema::new(fields));
    let output = stream(schema.clone(), &infos);
    let node = cx.add("join", operator, edges, output, parallelism);
    if has_late_rows && cx.is_late_output_used() {
        let ports = [late_ports_of(cx, node, 0, &left), late_ports_of(cx, node, 1, &right)];
        cx.late.joins.entry(cx.scope.owner.clone()).or_default().push(ports);
    }

    // The plan's columns: left, then right, without the keys' expressions.
    let mut positions: Vec<usize> = (0..left.plan_width).collect();
    if !is_one_sided {
        positions.extend((0..right.plan_width).map(|position| width + position));
    }
    let mut columns = Vec::with_capacity(positions.len());
    for (&position, field) in positions.iter().zip(join.schema.fields()) {
        let mut info = infos[position].clone();
        info.name = field.name().clone();
        columns.push(info);
    }
    Ok(Relation {
        branches: vec![Branch {
            node,
            filter: None,
            exprs: positions.iter().map(|&position| column(&schema, position)).collect(),
            carried: Vec::new(),
        }],
        columns,
        pending: Pending::Nothing,
    })
}

/// Refuses joins that are not supported.
pub(super) fn check(cx: &Context<'_>, join: &LogicalJoin) -> Result<()> {
    if join.null_aware {
        return Err(cx.error(
            "NOT IN (SELECT ...) is not supported with this operand, where NULL may occur: write NOT EXISTS (SELECT \
             ... WHERE the columns are equal)",
        ));
    }
    match join.join_type {
        JoinType::Inner
        | JoinType::Left
        | JoinType::Right
        | JoinType::Full
        | JoinType::LeftSemi
        | JoinType::LeftAnti => Ok(()),
        JoinType::LeftMark | JoinType::RightMark => Err(cx.error(
            "this EXISTS or IN (SELECT ...) is supported as a condition of its own only, combined by AND: write one query \
             for each alternative of an OR and combine them by UNION",
        )),
        JoinType::RightSemi | JoinType::RightAnti => Err(cx.error(format!(
            "{} joins are not supported: write EXISTS or NOT EXISTS",
            join.join_type
        ))),
    }
}

/// Returns true for joins whose output has the columns of the left input only.
fn is_one_sided(join_type: JoinType) -> bool {
    matches!(join_type, JoinType::LeftSemi | JoinType::LeftAnti)
}

/// Returns true if an outer join fills the columns of its left (or else right) side with NULL.
fn fills_with_null(join_type: JoinType, left: bool) -> bool {
    match join_type {
        JoinType::Left => !left,
        JoinType::Right => left,
        JoinType::Full => true,
        _ => false,
    }
}

fn join_keys(cx: &Context<'_>, on: &[&Expr], schema: &DFSchema) -> Result<Vec<PhysicalExprRef>> {
    on.iter().map(|expr| cx.physical(expr, schema)).collect()
}

/// Returns the condition besides the keys, over the plan's left columns, then its right columns.
fn condition(cx: &Context<'_>, join: &LogicalJoin) -> Result<Option<PhysicalExprRef>> {
    let Some(filter) = &join.filter else { return Ok(None) };
    let both = cx.located(join.left.schema().join(join.right.schema()))?;
    let condition = cx.physical(filter, &both)?;
    let literal = condition.downcast_ref::<Literal>().map(Literal::value);
    Ok(match literal {
        Some(ScalarValue::Boolean(Some(true))) => None,
        _ => Some(condition),
    })
}

/// Pairs of expressions of which one is not distinct from the other.
struct NotDistinct {
    /// Left and right expressions, each over the columns of its side.
    keys: Vec<(PhysicalExprRef, datafusion::error::Result<PhysicalExprRef>)>,
    /// The other conditions.
    rest: Option<PhysicalExprRef>,
}

/// Takes the pairs of `left IS NOT DISTINCT FROM right` out of a condition.
fn take_not_distinct(condition: Option<PhysicalExprRef>, left_width: usize) -> NotDistinct {
    let mut keys = Vec::new();
    let mut rest = Vec::new();
    for conjunct in condition.iter().flat_map(split_conjunction) {
        let pair = conjunct.downcast_ref::<BinaryExpr>().and_then(|binary| {
            if *binary.op() != BinaryOperator::IsNotDistinctFrom {
                return None;
            }
            let (first, second) = (binary.left(), binary.right());
            match (side_of(first, left_width)?, side_of(second, left_width)?) {
                (0, 1) => Some((first.clone(), second)),
                (1, 0) => Some((second.clone(), first)),
                _ => None,
            }
        });
        match pair {
            Some((left, right)) => keys.push((left, of_right(right, left_width))),
            None => rest.push(conjunct.clone()),
        }
    }
    NotDistinct {
        keys,
        rest: conjunction_opt(rest),
    }
}

/// Returns the side (0 or 1) whose columns an expression reads; `None` if it reads none or those of both.
fn side_of(expr: &PhysicalExprRef, left_width: usize) -> Option<usize> {
    let mut sides = columns_of(expr)
        .into_iter()
        .map(|index| usize::from(index >= left_width));
    let first = sides.next()?;
    sides.all(|side| side == first).then_some(first)
}

/// Rewrites an expression over the columns of both sides that reads right columns only into one over those.
fn of_right(expr: &PhysicalExprRef, left_width: usize) -> datafusion::error::Result<PhysicalExprRef> {
    let names = expr.clone();
    substitute(&names, &|index| {
        let moved = index.checked_sub(left_width)?;
        Some(Arc::new(Column::new("", moved)))
    })
}

/// Returns the condition over the joined columns of both inputs.
fn pair_filter(
    cx: &Context<'_>,
    condition: &PhysicalExprRef,
    left: &PreparedSide,
    right: &PreparedSide,
) -> Result<PhysicalExprRef> {
    let moved = substitute(condition, &|index| {
        Some(match index.checked_sub(left.plan_width) {
            None => column(&left.schema, index),
            Some(position) => Arc::new(Column::new(
                right.schema.field(position).name(),
                left.joined_width + position,
            )),
        })
    });
    let pairs = Schema::new([left.nullable(), right.nullable()].concat());
    cx.located(moved.and_then(|filter| short_circuit::rewrite(filter, &pairs)))
}

/// Returns the side outputs with late rows of a join's input: that of the join, and those of the nodes that assign rows
/// to windows, which find rows without a time.
fn late_ports_of(cx: &Context<'_>, node: NodeIndex, input: usize, side: &PreparedSide) -> Vec<SideOutput> {
    let (columns, exprs): (Vec<ColumnInfo>, Vec<PhysicalExprRef>) = side
        .late
        .iter()
        .map(|(info, position)| (info.clone(), column(&side.schema, *position)))
        .unzip();
    let mut ports = vec![SideOutput::late(node, input, &columns, &exprs)];
    let without_time = side.window.and_then(|window| cx.late.windows.get(&window));
    ports.extend(without_time.into_iter().flatten().cloned());
    ports
}
