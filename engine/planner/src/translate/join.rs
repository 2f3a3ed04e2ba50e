//! Joins of two windowed relations.
//!
//! A join of streams can forget rows once their common window is complete. So the condition must contain the equality
//! of the bounds of both sides' windows. Further equalities become the hash keys; all other conditions are a filter
//! over the pairs.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::common::{JoinType, NullEquality};
use datafusion::logical_expr::{Expr, Join};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{NodeIndex, Operator, Port, WindowColumns, WindowJoin};

use super::builder::{InputEdge, keyed_exchange};
use super::calc::{Columns, calc};
use super::context::{Context, Result};
use super::dynamic_filter::{DynamicFilters, JoinInput, drops_unmatched};
use super::pending::{materialize_if_volatile, resolve};
use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, Relation, WindowId, bare_column, column, stream, substitute,
};
use super::short_circuit;
use super::side_output::SideOutput;

/// One side of a join: nodes whose first columns are the plan's, followed by the keys' expressions.
struct PreparedSide {
    nodes: Vec<NodeIndex>,
    columns: Vec<ColumnInfo>,
    schema: Arc<Schema>,
    /// Position of each plan column.
    plan_positions: Vec<usize>,
    /// Position of each equality's expression.
    keys: Vec<usize>,
    attributes: Vec<Attribute>,
    /// Number of leading columns that are joined; the columns after them are for late rows only.
    joined_width: usize,
    /// Columns of late rows with their positions, if late rows are written.
    late: Vec<(ColumnInfo, usize)>,
    /// Window that the rows were assigned to for this join.
    window: Option<WindowId>,
}

impl PreparedSide {
    /// Returns the joined columns. All are nullable, as an outer join fills them with NULL.
    fn nullable(&self) -> Vec<Field> {
        let fields = self.schema.fields().iter().take(self.joined_width);
        fields.map(|field| field.as_ref().clone().with_nullable(true)).collect()
    }
}

/// Returns the joined relation; the left input may be pending.
pub(super) fn join(
    cx: &mut Context<'_>,
    filters: &DynamicFilters,
    join: &Join,
    left: Relation,
    right: Relation,
) -> Result<Relation> {
    let (left_on, right_on): (Vec<&Expr>, Vec<&Expr>) = join.on.iter().map(|(left, right)| (left, right)).unzip();
    let left_on = join_keys(cx, &left_on, join.left.schema())?;
    let right_on = join_keys(cx, &right_on, join.right.schema())?;
    let mut left = JoinInput {
        relation: left,
        on: left_on,
    };
    let mut right = JoinInput {
        relation: right,
        on: right_on,
    };
    if drops_unmatched(join.join_type, true) {
        left.relation = filters.apply(cx, &left, &right)?;
    }
    if drops_unmatched(join.join_type, false) {
        right.relation = filters.apply(cx, &right, &left)?;
    }
    let left = join_side(cx, left)?;
    let right = join_side(cx, right)?;

    let (left_id, right_id) = common_window(cx, &left, &right)?;
    let left_window = window_columns(cx, &left, left_id)?;
    let right_window = window_columns(cx, &right, right_id)?;
    let mut on: Vec<(usize, usize)> = Vec::new();
    for index in 0..left.keys.len() {
        let bounds = matches!(
            (left.attributes[index], right.attributes[index]),
            (Attribute::Window(a, x), Attribute::Window(b, y)) if a == left_id && b == right_id && x == y
        );
        let pair = (left.keys[index], right.keys[index]);
        if !bounds && !on.contains(&pair) {
            on.push(pair);
        }
    }

    let width = left.joined_width;
    let filter = match &join.filter {
        None => None,
        Some(filter) => {
            let both = cx.located(join.left.schema().join(join.right.schema()))?;
            let filter = cx.physical(filter, &both)?;
            let left_count = left.plan_positions.len();
            let moved = substitute(&filter, &|index| {
                Some(if index < left_count {
                    column(&left.schema, left.plan_positions[index])
                } else {
                    let position = right.plan_positions[index - left_count];
                    Arc::new(datafusion::physical_expr::expressions::Column::new(
                        right.schema.field(position).name(),
                        width + position,
                    ))
                })
            });
            let pairs = Schema::new([left.nullable(), right.nullable()].concat());
            Some(cx.located(moved.and_then(|filter| short_circuit::rewrite(filter, &pairs)))?)
        }
    };

    let one_sided = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
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
    let mut fields: Vec<Field> = left.nullable();
    let mut infos = left.columns[..left.joined_width].to_vec();
    if !one_sided {
        fields.extend(right.nullable());
        infos.extend_from_slice(&right.columns[..right.joined_width]);
    }
    joined_attributes(&mut infos, width, join.join_type, left_id, right_id);
    let schema = Arc::new(Schema::new(fields));
    let output = stream(schema.clone(), &infos);
    let operator = Operator::WindowJoin(WindowJoin {
        join_type: join.join_type,
        joined_columns: [left.joined_width, right.joined_width],
        left: left_window,
        right: right_window,
        on,
        filter,
    });
    let node = cx.add("join", operator, edges, output, parallelism);
    if cx.is_late_output_used() {
        let ports = [late_ports_of(cx, node, 0, &left), late_ports_of(cx, node, 1, &right)];
        cx.late.joins.entry(cx.scope.owner.clone()).or_default().push(ports);
    }

    // The plan's columns: left, then right, without the keys' expressions.
    let mut positions: Vec<usize> = left.plan_positions.clone();
    if !one_sided {
        positions.extend(right.plan_positions.iter().map(|position| width + position));
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

/// Refuses joins that are not supported on a stream.
pub(super) fn check(cx: &Context<'_>, join: &Join) -> Result<()> {
    if join.null_aware {
        return Err(cx.error(
            "NOT IN (SELECT ...) is not supported where NULL may occur: write NOT EXISTS (SELECT ... WHERE the \
             columns are equal AND window_start and window_end are)",
        ));
    }
    if join.null_equality != NullEquality::NullEqualsNothing && !join.on.is_empty() {
        return Err(cx.error("IS NOT DISTINCT FROM in a join condition is not supported; use ="));
    }
    match join.join_type {
        JoinType::Inner
        | JoinType::Left
        | JoinType::Right
        | JoinType::Full
        | JoinType::LeftSemi
        | JoinType::LeftAnti => Ok(()),
        other => Err(cx.error(format!("{other} joins are not supported; write a window join"))),
    }
}

fn join_keys(cx: &Context<'_>, on: &[&Expr], schema: &datafusion::common::DFSchema) -> Result<Vec<PhysicalExprRef>> {
    on.iter().map(|expr| cx.physical(expr, schema)).collect()
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

fn join_side(cx: &mut Context<'_>, side: JoinInput) -> Result<PreparedSide> {
    let (window, late) = match &side.relation.pending {
        Pending::Window(pending) => (Some(pending.id), pending.late.clone()),
        Pending::Rank(_) | Pending::Nothing => (None, Vec::new()),
    };
    let late_is_wanted = cx.is_late_output_used();
    let relation = resolve(cx, side.relation)?;
    let keys: Vec<(PhysicalExprRef, Attribute)> = side
        .on
        .into_iter()
        .map(|key| {
            let index = bare_column(&key);
            let attribute = index.map_or(Attribute::None, |index| relation.columns[index].attribute);
            (key, attribute)
        })
        .collect();
    let computed = keys.iter().map(|(key, _)| key).filter(|key| bare_column(key).is_none());
    let computed: Vec<PhysicalExprRef> = computed.cloned().collect();
    let relation = materialize_if_volatile(cx, relation, &computed)?;
    let mut nodes = Vec::new();
    let mut made: Option<(Columns, Vec<usize>, Vec<usize>)> = None;
    for branch in &relation.branches {
        let mut columns = Columns::default();
        // Equal expressions are not merged: the columns of all branches must have the same positions.
        for (expr, info) in branch.exprs.iter().zip(&relation.columns) {
            columns.exprs.push(expr.clone());
            columns.infos.push(info.clone());
        }
        let at: Vec<usize> = (0..columns.exprs.len()).collect();
        let mut key_positions = Vec::with_capacity(keys.len());
        for (key, attribute) in &keys {
            if let Some(index) = bare_column(key) {
                key_positions.push(index);
                continue;
            }
            let expr = cx.located(branch.compose(key))?;
            let data_type = cx.located(expr.data_type(&cx.schema(branch.node)))?;
            columns.exprs.push(expr);
            columns.infos.push(ColumnInfo {
                name: format!("$key{}", columns.infos.len()),
                data_type,
                attribute: *attribute,
                origin: None,
            });
            key_positions.push(columns.exprs.len() - 1);
        }
        for (place, (expr, info)) in branch.carried.iter().zip(&late).enumerate() {
            columns.exprs.push(expr.clone());
            columns.infos.push(ColumnInfo {
                name: format!("$late{place}"),
                attribute: Attribute::None,
                ..info.clone()
            });
        }
        nodes.push(calc(cx, branch, &columns.exprs, &columns.infos, false)?);
        made = Some((columns, at, key_positions));
    }
    let (columns, at, key_positions) = made.ok_or_else(|| cx.error("a join with nothing"))?;
    let joined = columns.infos.len() - late.len();
    let late = match late.is_empty() {
        false => late.into_iter().zip(joined..).collect(),
        // Rows that carry their window already are written as they are.
        true if late_is_wanted => relation.columns.iter().cloned().zip(at.iter().copied()).collect(),
        true => Vec::new(),
    };
    Ok(PreparedSide {
        joined_width: joined,
        late,
        window,
        schema: cx.schema(nodes[0]),
        nodes,
        columns: columns.infos,
        plan_positions: at,
        keys: key_positions,
        attributes: keys.into_iter().map(|(_, attribute)| attribute).collect(),
    })
}

/// Returns the windows of both sides that the condition requires to be equal.
fn common_window(cx: &Context<'_>, left: &PreparedSide, right: &PreparedSide) -> Result<(WindowId, WindowId)> {
    let pairs: Vec<(WindowId, WindowId, Bound)> = left
        .attributes
        .iter()
        .zip(&right.attributes)
        .filter_map(|pair| match pair {
            (&Attribute::Window(a, x), &Attribute::Window(b, y)) if x == y => Some((a, b, x)),
            _ => None,
        })
        .collect();
    for &(a, b, _) in &pairs {
        let equal = |bound| pairs.contains(&(a, b, bound));
        let end = equal(Bound::End) || equal(Bound::Time) || equal(Bound::Instant);
        let alike = cx.windows[a].window == cx.windows[b].window;
        // For equal window definitions, one bound determines the other.
        let complete = (equal(Bound::Start) && end)
            || (alike && end && !is_session(cx, a))
            || (alike && equal(Bound::Start) && cx.windows[a].start_determines_end() && !is_session(cx, a));
        if !complete {
            continue;
        }
        if !alike {
            let words = |id: WindowId| crate::explain::window(&cx.windows[id].window);
            return Err(cx.error(format!(
                "the windows of the two sides of the join are different, {} and {}, so that no window of one is \
                 a window of the other: window both sides alike",
                words(a),
                words(b)
            )));
        }
        if cx.windows[a].processing_time || cx.windows[b].processing_time {
            return Err(cx.error(
                "a join of windows on the clock (PROCTIME) is not supported: use event time, with WATERMARK FOR",
            ));
        }
        return Ok((a, b));
    }
    Err(cx.error(
        "a join of streams needs windows: both sides windowed alike (TABLE(TUMBLE(...)) or grouped by a window), and \
         ON l.window_start = r.window_start AND l.window_end = r.window_end AND ...",
    ))
}

fn is_session(cx: &Context<'_>, id: WindowId) -> bool {
    matches!(cx.windows[id].window, millstream_graph::Window::Session { .. })
}

fn window_columns(cx: &Context<'_>, side: &PreparedSide, id: WindowId) -> Result<WindowColumns> {
    let position = |bound| {
        side.columns
            .iter()
            .position(|column| column.attribute == Attribute::Window(id, bound))
    };
    let end = position(Bound::End);
    let end = end.ok_or_else(|| cx.error("select window_end (and window_start) on both sides of the join"))?;
    let start = position(Bound::Start);
    let start = start.ok_or_else(|| cx.error("select window_start (and window_end) on both sides of the join"))?;
    Ok(WindowColumns { start, end })
}

/// Removes the time attributes that a join's output loses: event times before the windows' ends, and the windows of a
/// side that an outer join fills with NULL.
fn joined_attributes(infos: &mut [ColumnInfo], width: usize, join_type: JoinType, left: WindowId, right: WindowId) {
    for (index, info) in infos.iter_mut().enumerate() {
        let is_left = index < width;
        let filled = match join_type {
            JoinType::Left => !is_left,
            JoinType::Right => is_left,
            JoinType::Full => true,
            _ => false,
        };
        info.attribute = match info.attribute {
            Attribute::Window(_, _) if filled => Attribute::None,
            Attribute::Window(id, bound) if !is_left && id == right && join_type == JoinType::Inner => {
                Attribute::Window(left, bound)
            }
            Attribute::Window(id, bound) if id == left || id == right => Attribute::Window(id, bound),
            _ => Attribute::None,
        };
    }
}
