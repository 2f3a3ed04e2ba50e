//! Joins of two windowed relations.
//!
//! A join over streams ends only where rows of both sides stop mattering: when their common window is complete. So the
//! condition must say that the bounds of both sides' windows are equal; further equalities become the hash keys, and
//! whatever else it says is a filter over the pairs.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::common::{JoinType, NullEquality};
use datafusion::logical_expr::{Expr, Join};
use datafusion::physical_expr::PhysicalExprRef;

use super::dynamic_filter::{JoinInput, drops_unmatched};
use super::plan::Columns;
use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, Relation, WindowId, bare_column, column, stream, substitute,
};
use super::sinks::SideOutput;
use super::{InputEdge, Result, Translator, keyed_exchange};
use millstream_graph::{NodeIndex, Operator, Port, WindowColumns, WindowJoin};

/// One side, as nodes whose first columns are the plan's, with the keys' expressions behind them.
struct Side {
    nodes: Vec<NodeIndex>,
    columns: Vec<ColumnInfo>,
    schema: Arc<Schema>,
    /// Position of each plan column.
    at: Vec<usize>,
    /// Position of each equality's expression.
    keys: Vec<usize>,
    attributes: Vec<Attribute>,
    /// Columns that are joined; those behind them are for late rows only.
    joined: usize,
    /// The columns of late rows, where they are wanted, with their positions.
    late: Vec<(ColumnInfo, usize)>,
    /// The window that the rows were marked with for this join.
    window: Option<WindowId>,
}

impl Side {
    /// The joined columns, any of which an outer join may fill with NULL.
    fn nullable(&self) -> Vec<Field> {
        let fields = self.schema.fields().iter().take(self.joined);
        fields.map(|field| field.as_ref().clone().with_nullable(true)).collect()
    }
}

impl Translator<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<Relation> {
        self.check_join(join)?;
        let (left_on, right_on): (Vec<&Expr>, Vec<&Expr>) = join.on.iter().map(|(left, right)| (left, right)).unzip();
        let mut left = self.plan(&join.left)?;
        // A window waits for the other side, which may say what rows are wanted. Nodes with state are made, and named,
        // in the order of the query.
        if !matches!(left.pending, Pending::Window(_)) {
            left = self.resolve(left)?;
        }
        let right = self.plan(&join.right)?;
        let left_on = self.join_keys(&left_on, join.left.schema())?;
        let right_on = self.join_keys(&right_on, join.right.schema())?;
        let mut left = JoinInput {
            relation: left,
            on: left_on,
        };
        let mut right = JoinInput {
            relation: right,
            on: right_on,
        };
        if drops_unmatched(join.join_type, true) {
            left.relation = self.filtered_by_extremes(&left, &right)?;
        }
        if drops_unmatched(join.join_type, false) {
            right.relation = self.filtered_by_extremes(&right, &left)?;
        }
        let left = self.join_side(left)?;
        let right = self.join_side(right)?;

        let (left_id, right_id) = self.common_window(&left, &right)?;
        let left_window = self.window_columns(&left, left_id)?;
        let right_window = self.window_columns(&right, right_id)?;
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

        let width = left.joined;
        let filter = match &join.filter {
            None => None,
            Some(filter) => {
                let both = self.located(join.left.schema().join(join.right.schema()))?;
                let filter = self.physical(filter, &both)?;
                let left_count = left.at.len();
                let moved = substitute(&filter, &|index| {
                    Some(if index < left_count {
                        column(&left.schema, left.at[index])
                    } else {
                        let position = right.at[index - left_count];
                        Arc::new(datafusion::physical_expr::expressions::Column::new(
                            right.schema.field(position).name(),
                            width + position,
                        ))
                    })
                });
                let pairs = Schema::new([left.nullable(), right.nullable()].concat());
                Some(self.located(moved.and_then(|filter| super::short_circuit::rewrite(filter, &pairs)))?)
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
        let mut infos = left.columns[..left.joined].to_vec();
        if !one_sided {
            fields.extend(right.nullable());
            infos.extend_from_slice(&right.columns[..right.joined]);
        }
        joined_attributes(&mut infos, width, join.join_type, left_id, right_id);
        let schema = Arc::new(Schema::new(fields));
        let output = stream(schema.clone(), &infos);
        let operator = Operator::WindowJoin(WindowJoin {
            join_type: join.join_type,
            joined_columns: [left.joined, right.joined],
            left: left_window,
            right: right_window,
            on,
            filter,
        });
        let owner = self.scope.owner.clone();
        let node = self.builder.add(&owner, "join", operator, edges, output, parallelism);
        if self.steps_with_late_output.contains(&owner) {
            let ports = [self.late_ports_of(node, 0, &left), self.late_ports_of(node, 1, &right)];
            self.late_of_joins.entry(owner).or_default().push(ports);
        }

        // The plan's columns: left, then right, without the keys' expressions.
        let mut positions: Vec<usize> = left.at.clone();
        if !one_sided {
            positions.extend(right.at.iter().map(|position| width + position));
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

    fn check_join(&self, join: &Join) -> Result<()> {
        if join.null_aware {
            return Err(self.error(
                "NOT IN (SELECT ...) is not supported where NULL may occur: write NOT EXISTS (SELECT ... WHERE the \
                 columns are equal AND window_start and window_end are)",
            ));
        }
        if join.null_equality != NullEquality::NullEqualsNothing && !join.on.is_empty() {
            return Err(self.error("IS NOT DISTINCT FROM in a join condition is not supported; use ="));
        }
        match join.join_type {
            JoinType::Inner
            | JoinType::Left
            | JoinType::Right
            | JoinType::Full
            | JoinType::LeftSemi
            | JoinType::LeftAnti => Ok(()),
            other => Err(self.error(format!("{other} joins are not supported; write a window join"))),
        }
    }

    fn join_keys(&self, on: &[&Expr], schema: &datafusion::common::DFSchema) -> Result<Vec<PhysicalExprRef>> {
        on.iter().map(|expr| self.physical(expr, schema)).collect()
    }

    /// The ports where late rows of a join's input leave: the join, and the nodes that mark rows with their windows,
    /// which find rows without a time.
    fn late_ports_of(&self, node: NodeIndex, input: usize, side: &Side) -> Vec<SideOutput> {
        let (columns, exprs): (Vec<ColumnInfo>, Vec<PhysicalExprRef>) = side
            .late
            .iter()
            .map(|(info, position)| (info.clone(), column(&side.schema, *position)))
            .unzip();
        let mut ports = vec![SideOutput::late(node, input, &columns, &exprs)];
        let without_time = side.window.and_then(|window| self.late_of_windows.get(&window));
        ports.extend(without_time.into_iter().flatten().cloned());
        ports
    }

    fn join_side(&mut self, side: JoinInput) -> Result<Side> {
        let (window, late) = match &side.relation.pending {
            Pending::Window(pending) => (Some(pending.id), pending.late.clone()),
            Pending::Rank(_) | Pending::Nothing => (None, Vec::new()),
        };
        let late_is_wanted = self.steps_with_late_output.contains(&self.scope.owner);
        let relation = self.resolve(side.relation)?;
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
        let relation = self.materialize_if_volatile(relation, &computed)?;
        let mut nodes = Vec::new();
        let mut made: Option<(Columns, Vec<usize>, Vec<usize>)> = None;
        for branch in &relation.branches {
            let mut columns = Columns::default();
            // Columns are kept apart by position, even where two are the same expression: branches must agree.
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
                let expr = self.located(branch.compose(key))?;
                let data_type = self.located(expr.data_type(&self.schema(branch.node)))?;
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
            nodes.push(self.calc(branch, &columns.exprs, &columns.infos, false)?);
            made = Some((columns, at, key_positions));
        }
        let (columns, at, key_positions) = made.ok_or_else(|| self.error("a join with nothing"))?;
        let joined = columns.infos.len() - late.len();
        let late = match late.is_empty() {
            false => late.into_iter().zip(joined..).collect(),
            // Rows that another operator has given their windows are late as they are.
            true if late_is_wanted => relation.columns.iter().cloned().zip(at.iter().copied()).collect(),
            true => Vec::new(),
        };
        Ok(Side {
            joined,
            late,
            window,
            schema: self.schema(nodes[0]),
            nodes,
            columns: columns.infos,
            at,
            keys: key_positions,
            attributes: keys.into_iter().map(|(_, attribute)| attribute).collect(),
        })
    }

    /// The windows of both sides that the condition says are equal.
    fn common_window(&self, left: &Side, right: &Side) -> Result<(WindowId, WindowId)> {
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
            let end = equal(Bound::End) || equal(Bound::Time);
            let alike = self.windows[a].window == self.windows[b].window;
            // For windows of one kind, one bound follows from the other.
            let complete = (equal(Bound::Start) && end)
                || (alike && end && !self.is_session(a))
                || (alike && equal(Bound::Start) && self.windows[a].start_determines_end() && !self.is_session(a));
            if !complete {
                continue;
            }
            if !alike {
                let words = |id: WindowId| crate::explain::window(&self.windows[id].window);
                return Err(self.error(format!(
                    "the windows of the two sides of the join are different, {} and {}, so that no window of one is \
                     a window of the other: window both sides alike",
                    words(a),
                    words(b)
                )));
            }
            if self.windows[a].processing_time || self.windows[b].processing_time {
                return Err(self.error(
                    "a join of windows on the clock (PROCTIME) is not supported: use event time, with WATERMARK FOR",
                ));
            }
            return Ok((a, b));
        }
        Err(self.error(
            "a join of streams needs windows: both sides windowed alike (TABLE(TUMBLE(...)) or grouped by a window), and \
             ON l.window_start = r.window_start AND l.window_end = r.window_end AND ...",
        ))
    }

    fn is_session(&self, id: WindowId) -> bool {
        matches!(self.windows[id].window, millstream_graph::Window::Session { .. })
    }

    fn window_columns(&self, side: &Side, id: WindowId) -> Result<WindowColumns> {
        let position = |bound| {
            side.columns
                .iter()
                .position(|column| column.attribute == Attribute::Window(id, bound))
        };
        let end = position(Bound::End);
        let end = end.ok_or_else(|| self.error("select window_end (and window_start) on both sides of the join"))?;
        // Where the start was not passed on, the ends alone tell windows apart: alike on both sides.
        let start = position(Bound::Start);
        let start =
            start.ok_or_else(|| self.error("select window_start (and window_end) on both sides of the join"))?;
        Ok(WindowColumns { start, end })
    }
}

/// Rows wait for their window's end, so event times before it mean nothing any more; and the side that an outer join
/// fills with NULL has no windows.
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
