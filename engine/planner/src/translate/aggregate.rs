//! `GROUP BY` over windows.
//!
//! Group keys, arguments and conditions are computed by a `Calc` below, so that the aggregate itself only refers to
//! columns. A window function right below is taken in (rows are never marked with their windows; slices are shared);
//! rows that carry window bounds already are grouped by those. Where all functions can merge partial results, a
//! `Local` aggregate runs before the exchange, so that a key however hot costs its subtask one row per slice and flush.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{
    Aggregate as LogicalAggregate, Expr, GroupingSet, LogicalPlan, Operator as BinaryOperator,
};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, cast};
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};

use super::plan::{Columns, null};
use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, Relation, WindowId, bare_column, column, columns_of, is_virtual,
    stream, substitute,
};
use super::{Fallible, Translator, keyed};
use crate::graph::{Aggregate, NodeIndex, Operator, Phase, TimeAttribute, Window, WindowAggregate, WindowColumns};

/// An aggregate call over the relation's columns.
struct Call {
    function: AggregateFunction,
    args: Vec<PhysicalExprRef>,
    filter: Option<PhysicalExprRef>,
    order: Vec<PhysicalSortExpr>,
}

/// A group key over the relation's columns.
struct Key {
    expr: PhysicalExprRef,
    info: ColumnInfo,
}

/// Where an output column comes from.
enum Output {
    Key(usize),
    /// Made from the window's bounds after the aggregate.
    FromWindow(PhysicalExprRef),
}

impl Translator<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &LogicalAggregate) -> Fallible<Relation> {
        let input = self.plan(&aggregate.input)?;
        let schema = aggregate.input.schema();
        if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            return self.grouping_sets(input, aggregate, sets, schema);
        }
        let calls = self.calls(&aggregate.aggr_expr, schema)?;
        let keys = self.keys(&aggregate.group_expr, schema, &input)?;
        let names: Vec<String> = aggregate
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        self.grouped(input, keys, calls, &names)
    }

    pub(super) fn distinct(&mut self, plan: &LogicalPlan) -> Fallible<Relation> {
        let input = self.plan(plan)?;
        let has_window = input
            .columns
            .iter()
            .any(|column| matches!(column.attribute, Attribute::Window(..)));
        if !has_window {
            return Err(self.error(
                "SELECT DISTINCT over a stream would have to remember every row for ever: make it distinct per window, \
                 with window_start and window_end among the columns of a window table function",
            ));
        }
        let exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let keys = self.keys(&exprs, plan.schema(), &input)?;
        let names: Vec<String> = input.columns.iter().map(|column| column.name.clone()).collect();
        self.grouped(input, keys, Vec::new(), &names)
    }

    /// One aggregate per set, with NULL for the keys a set leaves out, put together.
    fn grouping_sets(
        &mut self,
        input: Relation,
        aggregate: &LogicalAggregate,
        sets: &GroupingSet,
        schema: &DFSchema,
    ) -> Fallible<Relation> {
        let GroupingSet::GroupingSets(sets) = sets else {
            return Err(self.error("write CUBE and ROLLUP out as GROUPING SETS ((window_start, window_end, ...), ...)"));
        };
        let input = self.resolve(input)?;
        let all = self.df(datafusion::logical_expr::utils::grouping_set_to_exprlist(
            &aggregate.group_expr,
        ))?;
        let fields = aggregate.schema.fields();
        let mut branches = Vec::new();
        let mut columns: Option<Vec<ColumnInfo>> = None;
        for set in sets {
            let present: Vec<bool> = all.iter().map(|expr| set.contains(*expr)).collect();
            let group: Vec<Expr> = set.to_vec();
            let calls = self.calls(&aggregate.aggr_expr, schema)?;
            let keys = self.keys(&group, schema, &input)?;
            let names: Vec<String> = group
                .iter()
                .map(|expr| expr.schema_name().to_string())
                .chain(aggregate.aggr_expr.iter().map(|expr| expr.schema_name().to_string()))
                .collect();
            let part = self.grouped(input.clone(), keys, calls, &names)?;
            let mut exprs = Vec::with_capacity(fields.len());
            let mut infos = Vec::with_capacity(fields.len());
            let mut grouping_id: u64 = 0;
            for (index, field) in fields.iter().enumerate() {
                let position = match index.cmp(&all.len()) {
                    std::cmp::Ordering::Less => {
                        grouping_id = grouping_id << 1 | u64::from(!present[index]);
                        group.iter().position(|expr| expr == all[index])
                    }
                    std::cmp::Ordering::Equal => None,
                    std::cmp::Ordering::Greater => Some(group.len() + index - all.len() - 1),
                };
                let mut info = ColumnInfo {
                    name: field.name().clone(),
                    data_type: field.data_type().clone(),
                    attribute: Attribute::None,
                    origin: None,
                };
                let expr: PhysicalExprRef = match position {
                    Some(position) => {
                        info.attribute = part.columns[position].attribute;
                        Arc::new(datafusion::physical_expr::expressions::Column::new(
                            field.name(),
                            position,
                        ))
                    }
                    None if index == all.len() => {
                        let id = ScalarValue::UInt64(Some(grouping_id)).cast_to(field.data_type());
                        Arc::new(Literal::new(self.df(id)?))
                    }
                    None => self.df(null(field.data_type()))?,
                };
                exprs.push(expr);
                infos.push(info);
            }
            let part = self.project_physical(part, &exprs, infos)?;
            columns = Some(match columns {
                None => part.columns,
                Some(columns) => self.common_columns(columns, &part.columns),
            });
            branches.extend(part.branches);
        }
        Ok(Relation {
            branches,
            columns: columns.unwrap_or_default(),
            pending: Pending::Nothing,
        })
    }

    fn calls(&self, exprs: &[Expr], schema: &DFSchema) -> Fallible<Vec<Call>> {
        let context = Default::default();
        let mut calls = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let Expr::AggregateFunction(function) = expr.clone().unalias() else {
                return Err(self.error(format!("`{expr}` is not an aggregate function")));
            };
            let params = &function.params;
            let args: Fallible<Vec<_>> = params.args.iter().map(|arg| self.physical(arg, schema)).collect();
            let filter = params
                .filter
                .as_ref()
                .map(|filter| self.physical(filter, schema))
                .transpose()?;
            let order = datafusion::physical_expr::create_physical_sort_exprs(
                &params.order_by,
                schema,
                &self.planning.props,
                &context,
            );
            calls.push(Call {
                args: args?,
                filter,
                order: self.df(order)?,
                function,
            });
        }
        Ok(calls)
    }

    fn keys(&self, exprs: &[Expr], schema: &DFSchema, input: &Relation) -> Fallible<Vec<Key>> {
        exprs
            .iter()
            .map(|expr| {
                let physical = self.physical(expr, schema)?;
                let source = bare_column(&physical).map(|index| &input.columns[index]);
                let data_type = self.df(physical.data_type(schema.as_arrow()))?;
                let info = ColumnInfo {
                    name: match expr {
                        Expr::Column(column) => column.name.clone(),
                        other => other.schema_name().to_string(),
                    },
                    data_type,
                    attribute: source.map_or(Attribute::None, |column| column.attribute),
                    origin: source.and_then(|column| column.origin.clone()),
                };
                Ok(Key { expr: physical, info })
            })
            .collect()
    }

    /// The grouped relation: its columns are the keys, then the calls.
    fn grouped(&mut self, input: Relation, keys: Vec<Key>, calls: Vec<Call>, names: &[String]) -> Fallible<Relation> {
        let mut input = input;
        if let Pending::Rank(_) = input.pending {
            input = self.resolve(input)?;
        }
        let id = self.group_window(&keys, &input)?;
        let fused = matches!(&input.pending, Pending::Window(pending) if pending.id == id);
        let window_columns: Vec<usize> = input
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| matches!(column.attribute, Attribute::Window(of, _) if of == id))
            .map(|(index, _)| index)
            .collect();

        // Keys that only depend on the window are made from its bounds afterwards.
        let mut outputs = Vec::with_capacity(keys.len());
        let mut real_keys: Vec<&Key> = Vec::new();
        for key in &keys {
            let used = columns_of(&key.expr);
            let only_window = used.iter().all(|column| window_columns.contains(column));
            if only_window && !datafusion::physical_expr_common::physical_expr::is_volatile(&key.expr) {
                outputs.push(Output::FromWindow(key.expr.clone()));
            } else {
                outputs.push(Output::Key(real_keys.len()));
                real_keys.push(key);
            }
        }
        let uses_window =
            |expr: &PhysicalExprRef| columns_of(expr).iter().any(|column| window_columns.contains(column));
        let call_exprs = calls.iter().flat_map(|call| {
            let order = call.order.iter().map(|sort| &sort.expr);
            call.args.iter().chain(&call.filter).chain(order)
        });
        let below = real_keys.iter().map(|key| &key.expr).chain(call_exprs);
        let mixed = below.clone().any(uses_window)
            || input
                .branches
                .iter()
                .any(|branch| branch.filter.as_ref().is_some_and(is_virtual));
        let fused = fused && !mixed;
        let below: Vec<PhysicalExprRef> = below.cloned().collect();
        if !fused {
            input = self.resolve(input)?;
        }
        if input.branches.iter().any(|branch| branch.would_repeat(&below)) {
            input = self.settle(input)?;
        }
        self.check_session(&input, &real_keys)?;
        if self.windows[id].processing_time && !fused {
            return Err(self.error(
                "rows that already belong to a window on the clock (PROCTIME) cannot be grouped by it: aggregate the \
                 window table function directly",
            ));
        }

        let two_phase = self.two_phase(id, &calls, fused);
        let mut sides = Vec::with_capacity(input.branches.len());
        for index in 0..input.branches.len() {
            let branch = input.branches[index].clone();
            sides.push(self.below(&branch, &input, &real_keys, &calls, id, fused, two_phase)?);
        }
        let node = self.aggregate_nodes(sides, &real_keys, two_phase)?;
        self.aggregate_output(node, &keys, outputs, real_keys.len(), &input, &window_columns, names)
    }

    /// The window that rows are grouped by.
    fn group_window(&self, keys: &[Key], input: &Relation) -> Fallible<WindowId> {
        let mut incomplete = None;
        for key in keys {
            let Attribute::Window(id, _) = key.info.attribute else {
                continue;
            };
            let has = |bound| {
                keys.iter()
                    .any(|key| key.info.attribute == Attribute::Window(id, bound))
            };
            let complete =
                has(Bound::End) || has(Bound::Time) || (has(Bound::Start) && self.windows[id].start_determines_end());
            // The end must be among the input's columns for rows that carry their window.
            let pending = matches!(&input.pending, Pending::Window(pending) if pending.id == id);
            let end_known = pending || input.column_with(Attribute::Window(id, Bound::End)).is_some();
            if complete && end_known {
                return Ok(id);
            }
            incomplete = Some(key.info.name.clone());
        }
        Err(self.error(match incomplete {
            Some(name) => format!(
                "grouping by `{name}` alone does not tell when a window is complete: GROUP BY window_start, window_end \
                 (both bounds, passed on by every query between)"
            ),
            None => "a GROUP BY over a stream needs a window: SELECT ... FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), \
                     INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, ... (or HOP, CUMULATE, SESSION)"
                .to_owned(),
        }))
    }

    /// A session exists per key: the keys of `SESSION` and of `GROUP BY` must be the same.
    fn check_session(&self, input: &Relation, keys: &[&Key]) -> Fallible<()> {
        let Pending::Window(pending) = &input.pending else {
            return Ok(());
        };
        if !matches!(pending.window, Window::Session { .. }) {
            return Ok(());
        }
        if pending.filtered {
            return Err(self.error(
                "a condition on the rows of a SESSION window must stand inside it: SESSION over a view (or a query's \
                 alias) that has the WHERE, so that it is clear which rows form sessions",
            ));
        }
        for branch in &input.branches {
            let partition = pending.keys(branch);
            let composed: Result<Vec<_>, _> = keys.iter().map(|key| branch.compose(&key.expr)).collect();
            let composed = self.df(composed)?;
            let same = composed.iter().all(|key| partition.contains(key))
                && partition.iter().all(|key| composed.contains(key));
            if !same {
                return Err(self.error(
                    "the keys of SESSION(... PARTITION BY keys ...) and of GROUP BY must be the same columns (besides \
                     window_start and window_end)",
                ));
            }
        }
        Ok(())
    }

    /// Whether a local aggregate before the exchange pays.
    fn two_phase(&self, id: WindowId, calls: &[Call], fused: bool) -> bool {
        let window = self.windows[id];
        if window.processing_time || self.late_wanted.contains(&self.scope.owner) {
            return false;
        }
        if fused && matches!(window.window, Window::Session { .. }) {
            return false;
        }
        calls.iter().all(|call| {
            let params = &call.function.params;
            !params.distinct && params.order_by.is_empty() && is_small_partial(call.function.func.name())
        })
    }

    /// The columns an aggregate reads, and the aggregate calls over them.
    #[allow(clippy::too_many_arguments)]
    fn below(
        &mut self,
        branch: &Branch,
        input: &Relation,
        keys: &[&Key],
        calls: &[Call],
        id: WindowId,
        fused: bool,
        two_phase: bool,
    ) -> Fallible<Side> {
        let schema = self.schema(branch.node);
        let mut columns = Columns::default();
        let plain = |name: &str, data_type: DataType| ColumnInfo {
            name: name.to_owned(),
            data_type,
            attribute: Attribute::None,
            origin: None,
        };
        // Late rows are wanted whole: as the window function got them, or as they are.
        if self.late_wanted.contains(&self.scope.owner) {
            match &input.pending {
                Pending::Window(pending) => {
                    for (expr, info) in pending.late_row(branch).iter().zip(&pending.late) {
                        columns.exprs.push(expr.clone());
                        columns.infos.push(info.clone());
                    }
                }
                _ => {
                    for (expr, info) in branch.exprs.iter().zip(&input.columns) {
                        columns.exprs.push(expr.clone());
                        columns.infos.push(info.clone());
                    }
                }
            }
        }
        let mut key_columns = Vec::with_capacity(keys.len());
        for key in keys {
            let expr = self.df(branch.compose(&key.expr))?;
            key_columns.push(columns.index_of(&expr, key.info.clone()));
        }
        let mut places = Vec::with_capacity(calls.len());
        let place =
            |expr: &PhysicalExprRef, columns: &mut Columns| -> Result<Place, datafusion::error::DataFusionError> {
                let expr = branch.compose(expr)?;
                if expr.downcast_ref::<Literal>().is_some() {
                    return Ok(Place::Literal(expr));
                }
                let name = match bare_column(&expr) {
                    Some(index) => schema.field(index).name().clone(),
                    None => format!("$arg{}", columns.exprs.len()),
                };
                let data_type = expr.data_type(&schema)?;
                Ok(Place::Column(columns.index_of(&expr, plain(&name, data_type))))
            };
        for call in calls {
            let args: Result<Vec<_>, _> = call.args.iter().map(|arg| place(arg, &mut columns)).collect();
            let filter = call
                .filter
                .as_ref()
                .map(|filter| place(filter, &mut columns))
                .transpose();
            let order: Result<Vec<_>, _> = call.order.iter().map(|sort| place(&sort.expr, &mut columns)).collect();
            places.push((self.df(args)?, self.df(filter)?, self.df(order)?));
        }
        let (mut window, mut time) = (self.windows[id].window, TimeAttribute::Processing);
        if fused {
            if let Some(expr) = branch.carried.first().filter(|_| !self.windows[id].processing_time) {
                let name = bare_column(expr).map_or("$time", |index| schema.field(index).name());
                let mut info = plain(name, self.df(expr.data_type(&schema))?);
                info.attribute = Attribute::EventTime;
                time = TimeAttribute::Event(columns.index_of(expr, info));
            }
        } else {
            let mut bound = |bound: Bound| {
                let index = input.column_with(Attribute::Window(id, bound))?;
                Some(columns.index_of(&branch.exprs[index], input.columns[index].clone()))
            };
            let end = bound(Bound::End);
            let end = end.ok_or_else(|| self.error("a window's end was lost before the GROUP BY"))?;
            let mut bound = |bound: Bound| {
                let index = input.column_with(Attribute::Window(id, bound))?;
                Some(columns.index_of(&branch.exprs[index], input.columns[index].clone()))
            };
            // Where the start was not passed on, the end alone tells windows apart.
            let start = bound(Bound::Start).unwrap_or(end);
            window = Window::Attached(WindowColumns { start, end });
            time = TimeAttribute::Event(end);
        }

        // Where all are columns that exist, no calculation is needed; but before an exchange rows should be narrow.
        let direct: Option<Vec<usize>> = columns.exprs.iter().map(bare_column).collect();
        let direct = direct
            .filter(|_| branch.filter.is_none() && input.branches.len() == 1)
            .filter(|direct| two_phase || direct.len() == schema.fields().len());
        let (node, at): (NodeIndex, Vec<usize>) = match direct {
            Some(direct) => (branch.node, direct),
            None => {
                let node = self.calc(branch, &columns.exprs, &columns.infos, false)?;
                (node, (0..columns.exprs.len()).collect())
            }
        };
        let schema = self.schema(node);
        let mut aggregates = Vec::with_capacity(calls.len());
        for (call, (args, filter, order)) in calls.iter().zip(places) {
            let real = |place: &Place| match place {
                Place::Literal(expr) => expr.clone(),
                Place::Column(index) => column(&schema, at[*index]),
            };
            let args = args.iter().map(real).collect();
            let order: Vec<PhysicalSortExpr> = order
                .iter()
                .zip(&call.order)
                .map(|(place, sort)| PhysicalSortExpr::new(real(place), sort.options))
                .collect();
            let filter = filter.as_ref().map(real);
            let function = self.df(function(call, args, order, &schema))?;
            aggregates.push(Aggregate {
                function: Arc::new(function),
                filter,
            });
        }
        let renumbered = |index: usize| at[index];
        Ok(Side {
            node,
            keys: key_columns.into_iter().map(renumbered).collect(),
            aggregates,
            window: match window {
                Window::Attached(columns) => Window::Attached(WindowColumns {
                    start: at[columns.start],
                    end: at[columns.end],
                }),
                other => other,
            },
            time: match time {
                TimeAttribute::Event(index) => TimeAttribute::Event(at[index]),
                TimeAttribute::Processing => TimeAttribute::Processing,
            },
        })
    }

    /// Adds the aggregate's nodes; the last one's index.
    fn aggregate_nodes(&mut self, sides: Vec<Side>, keys: &[&Key], two_phase: bool) -> Fallible<NodeIndex> {
        let owner = self.scope.owner.clone();
        let key_count = keys.len();
        let bound_type = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
        let bounds = [
            Field::new("window_start", bound_type.clone(), true),
            Field::new("window_end", bound_type, true),
        ];
        let first = sides.first().ok_or_else(|| self.error("an aggregate over nothing"))?;
        let functions: Vec<Arc<AggregateFunctionExpr>> = first
            .aggregates
            .iter()
            .map(|aggregate| aggregate.function.clone())
            .collect();
        let key_fields = |schema: &Schema, keys: &[usize]| -> Vec<Field> {
            keys.iter()
                .map(|&key| schema.field(key).clone().with_nullable(true))
                .collect()
        };
        let final_fields = |schema: &Schema, keys: &[usize]| {
            let mut fields = key_fields(schema, keys);
            for function in &functions {
                fields.push(Field::new(function.name(), function.field().data_type().clone(), true));
            }
            fields.extend(bounds.clone());
            Arc::new(Schema::new(fields))
        };
        let output = |schema: Arc<Schema>| {
            let end = schema.fields().len() - 1;
            let mut stream = stream(schema, &[]);
            stream.window = Some(WindowColumns { start: end - 1, end });
            stream
        };
        if !two_phase {
            let (exchange, parallelism) = keyed(first.keys.clone());
            let schema = final_fields(&self.schema(first.node), &first.keys);
            let operator = Operator::WindowAggregate(WindowAggregate {
                window: first.window,
                time: first.time,
                keys: first.keys.clone(),
                aggregates: first.aggregates.clone(),
                phase: Phase::Single,
                allowed_lateness: 0,
            });
            let edges = sides
                .iter()
                .map(|side| super::InputEdge {
                    from: side.node,
                    port: crate::graph::Port::Main,
                    input: 0,
                    exchange: exchange.clone(),
                })
                .collect();
            let node = self
                .builder
                .add(&owner, "aggregate", operator, edges, output(schema), parallelism);
            if matches!(first.time, TimeAttribute::Event(_)) {
                let ports = self.late_ports.entry(owner).or_default();
                if !ports.contains(&node) {
                    ports.push(node);
                }
            }
            return Ok(node);
        }

        let mut edges = Vec::with_capacity(sides.len());
        let (exchange, parallelism) = keyed((0..key_count).collect());
        let mut partial_width = 0;
        for side in &sides {
            let schema = self.schema(side.node);
            let mut fields = key_fields(&schema, &side.keys);
            for aggregate in &side.aggregates {
                let states = self.df(aggregate.function.state_fields())?;
                fields.extend(states.iter().map(|field| field.as_ref().clone().with_nullable(true)));
            }
            fields.extend(bounds.clone());
            partial_width = fields.len();
            let operator = Operator::WindowAggregate(WindowAggregate {
                window: side.window,
                time: side.time,
                keys: side.keys.clone(),
                aggregates: side.aggregates.clone(),
                phase: Phase::Local,
                allowed_lateness: 0,
            });
            let own = self.builder.nodes[side.node].parallelism;
            let edge = self.builder.plain_edge(side.node, 0, own);
            let local = self.builder.add(
                &owner,
                "local-aggregate",
                operator,
                vec![edge],
                output(Arc::new(Schema::new(fields))),
                own,
            );
            edges.push(super::InputEdge {
                from: local,
                port: crate::graph::Port::Main,
                input: 0,
                exchange: exchange.clone(),
            });
        }
        let ends = WindowColumns {
            start: partial_width - 2,
            end: partial_width - 1,
        };
        let window = match first.window {
            Window::Attached(_) => Window::Attached(ends),
            other => other,
        };
        let aggregates = functions
            .iter()
            .map(|function| Aggregate {
                function: function.clone(),
                filter: None,
            })
            .collect();
        let schema = final_fields(&self.schema(first.node), &first.keys);
        let operator = Operator::WindowAggregate(WindowAggregate {
            window,
            time: TimeAttribute::Event(ends.end),
            keys: (0..key_count).collect(),
            aggregates,
            phase: Phase::Final,
            allowed_lateness: 0,
        });
        Ok(self
            .builder
            .add(&owner, "aggregate", operator, edges, output(schema), parallelism))
    }

    /// Puts the node's columns (keys, results, bounds) into the plan's order (keys and bounds as written, results).
    #[allow(clippy::too_many_arguments)]
    fn aggregate_output(
        &mut self,
        node: NodeIndex,
        keys: &[Key],
        outputs: Vec<Output>,
        key_count: usize,
        input: &Relation,
        window_columns: &[usize],
        names: &[String],
    ) -> Fallible<Relation> {
        let schema = self.schema(node);
        let width = schema.fields().len();
        let (start, end) = (column(&schema, width - 2), column(&schema, width - 1));
        let mut exprs = Vec::with_capacity(names.len());
        let mut columns = Vec::with_capacity(names.len());
        for (key, output) in keys.iter().zip(outputs) {
            let mut info = key.info.clone();
            exprs.push(match output {
                Output::Key(index) => {
                    // Rows now wait for the window's end: no other time attribute outlives that.
                    info.attribute = Attribute::None;
                    column(&schema, index)
                }
                Output::FromWindow(expr) => {
                    let bounds: Vec<(usize, PhysicalExprRef)> = window_columns
                        .iter()
                        .map(|&index| {
                            let wanted = &input.columns[index];
                            let made = match wanted.attribute {
                                Attribute::Window(_, Bound::Start) => start.clone(),
                                Attribute::Window(_, Bound::End) => end.clone(),
                                _ => window_time(&end),
                            };
                            Ok((index, self.cast_if_needed(made, &schema, &wanted.data_type)?))
                        })
                        .collect::<Fallible<_>>()?;
                    let made = substitute(&expr, &|index| {
                        bounds.iter().find(|(of, _)| *of == index).map(|(_, expr)| expr.clone())
                    });
                    self.df(made)?
                }
            });
            columns.push(info);
        }
        let mut index = key_count;
        while index + 2 < width {
            exprs.push(column(&schema, index));
            columns.push(ColumnInfo {
                name: String::new(),
                data_type: schema.field(index).data_type().clone(),
                attribute: Attribute::None,
                origin: None,
            });
            index += 1;
        }
        for (column, name) in columns.iter_mut().zip(names) {
            column.name = name.clone();
        }
        Ok(Relation {
            branches: vec![Branch {
                node,
                filter: None,
                exprs,
                carried: Vec::new(),
            }],
            columns,
            pending: Pending::Nothing,
        })
    }

    fn cast_if_needed(&self, expr: PhysicalExprRef, schema: &Schema, wanted: &DataType) -> Fallible<PhysicalExprRef> {
        if self.df(expr.data_type(schema))? == *wanted {
            return Ok(expr);
        }
        self.df(cast(expr, schema, wanted.clone()))
    }
}

/// One branch's node with what the aggregate does to its columns.
struct Side {
    node: NodeIndex,
    keys: Vec<usize>,
    aggregates: Vec<Aggregate>,
    window: Window,
    time: TimeAttribute,
}

enum Place {
    Literal(PhysicalExprRef),
    Column(usize),
}

/// `window_time`: the last millisecond of the window.
fn window_time(end: &PhysicalExprRef) -> PhysicalExprRef {
    let millisecond = ScalarValue::new_interval_mdn(0, 0, 1_000_000);
    Arc::new(BinaryExpr::new(
        end.clone(),
        BinaryOperator::Minus,
        Arc::new(Literal::new(millisecond)),
    ))
}

/// Aggregates whose partial state is a few numbers, whatever they have seen.
fn is_small_partial(name: &str) -> bool {
    matches!(
        name,
        "count"
            | "sum"
            | "min"
            | "max"
            | "avg"
            | "mean"
            | "stddev"
            | "stddev_pop"
            | "var"
            | "var_pop"
            | "bool_and"
            | "bool_or"
            | "bit_and"
            | "bit_or"
            | "bit_xor"
            | "corr"
            | "covar_samp"
            | "covar_pop"
    ) || name.starts_with("regr_")
}

fn function(
    call: &Call,
    args: Vec<PhysicalExprRef>,
    order: Vec<PhysicalSortExpr>,
    schema: &Arc<Schema>,
) -> Result<AggregateFunctionExpr, datafusion::error::DataFusionError> {
    let func = &call.function.func;
    let params = &call.function.params;
    let rendered: Vec<String> = args.iter().map(ToString::to_string).collect();
    let mut name = format!(
        "{}({}{})",
        func.name(),
        if params.distinct { "DISTINCT " } else { "" },
        rendered.join(", ")
    );
    if !order.is_empty() {
        let order: Vec<String> = order.iter().map(ToString::to_string).collect();
        name.push_str(&format!(" ORDER BY {}", order.join(", ")));
    }
    AggregateExprBuilder::new(func.clone(), args)
        .schema(schema.clone())
        .order_by(order)
        .alias(name)
        .with_distinct(params.distinct)
        .with_ignore_nulls(params.null_treatment == Some(NullTreatment::IgnoreNulls))
        .build()
}
