//! The first rows of each window: `ROW_NUMBER() OVER (PARTITION BY window_start, window_end, ... ORDER BY ...) AS rn`
//! with a condition on `rn` above it.
//!
//! The rank stays pending until the condition is known; conditions on it become the operator's bounds.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator as BinaryOperator, Window, WindowFunctionDefinition};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr, create_physical_sort_exprs};

use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, PendingRank, Relation, VIRTUAL_RANK, bare_column, column,
    columns_of, stream, substitute,
};
use super::{InputEdge, Result, Translator, keyed_exchange};
use millstream_graph::{Operator, Port, WindowColumns, WindowTopN};

pub(super) const RANK_UNBOUNDED: &str = "ROW_NUMBER() needs a bound: SELECT ... FROM (SELECT ..., ROW_NUMBER() OVER \
    (PARTITION BY window_start, window_end ORDER BY ...) AS rn FROM ...) WHERE rn <= N";

const OVER_UNSUPPORTED: &str = "the only OVER supported is ROW_NUMBER() OVER (PARTITION BY window_start, window_end[, keys] ORDER BY \
    ...) AS rn with WHERE rn <= N; aggregate with GROUP BY window_start, window_end and join windows for the rest";

impl Translator<'_> {
    pub(super) fn row_number(&mut self, window: &Window) -> Result<Relation> {
        let [expr] = window.window_expr.as_slice() else {
            return Err(self.error(OVER_UNSUPPORTED));
        };
        let Expr::WindowFunction(function) = expr.clone().unalias() else {
            return Err(self.error(OVER_UNSUPPORTED));
        };
        match &function.fun {
            WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number" => {}
            WindowFunctionDefinition::WindowUDF(udf) if matches!(udf.name(), "rank" | "dense_rank") => {
                return Err(self.error(format!(
                    "{}() is not supported: use ROW_NUMBER(), which gives ties different numbers",
                    udf.name()
                )));
            }
            _ => return Err(self.error(OVER_UNSUPPORTED)),
        }
        let params = &function.params;
        let schema = window.input.schema();
        let input = self.plan(&window.input)?;
        let input = self.resolve(input)?;

        // The operator works on one node's columns: the plan's, then what partition and order compute.
        let mut columns = input.columns.clone();
        let mut extra: Vec<PhysicalExprRef> = Vec::new();
        let mut place = |translator: &Self, expr: PhysicalExprRef| -> Result<usize> {
            if let Some(index) = bare_column(&expr) {
                return Ok(index);
            }
            let data_type = translator.located(expr.data_type(schema.as_arrow()))?;
            columns.push(ColumnInfo {
                name: format!("$order{}", columns.len()),
                data_type,
                attribute: Attribute::None,
                origin: None,
            });
            extra.push(expr);
            Ok(columns.len() - 1)
        };
        let mut partition = Vec::new();
        for expr in &params.partition_by {
            let physical = self.physical(expr, schema)?;
            partition.push(place(self, physical)?);
        }
        let context = Default::default();
        let sorts = create_physical_sort_exprs(&params.order_by, schema, &self.planning.props, &context);
        let mut order = Vec::new();
        for sort in self.located(sorts)? {
            order.push((place(self, sort.expr)?, sort.options));
        }
        if order.is_empty() {
            return Err(self.error("ROW_NUMBER() needs an ORDER BY in its OVER, to say which rows are first"));
        }
        let bounds = self.partition_window(&partition, &columns)?;
        let (window_columns, id) = bounds;
        partition.retain(|&index| !matches!(columns[index].attribute, Attribute::Window(of, _) if of == id));

        let input = self.materialize_if_volatile(input, &extra)?;
        let mut nodes = Vec::with_capacity(input.branches.len());
        for branch in &input.branches {
            let mut exprs = branch.exprs.clone();
            for expr in &extra {
                exprs.push(self.located(branch.compose(expr))?);
            }
            nodes.push((branch.clone(), exprs));
        }
        let made: Result<Vec<usize>> = nodes
            .iter()
            .map(|(branch, exprs)| self.calc(branch, exprs, &columns, false))
            .collect();
        let made = made?;
        let node_schema = self.schema(made[0]);
        let rank = window.schema.field(window.schema.fields().len() - 1);
        let rank_expr: PhysicalExprRef = Arc::new(Column::new(rank.name(), VIRTUAL_RANK));
        let visible = input.columns.len();
        let mut columns: Vec<ColumnInfo> = columns.into_iter().take(visible).collect();
        columns.push(ColumnInfo {
            name: rank.name().clone(),
            data_type: rank.data_type().clone(),
            attribute: Attribute::None,
            origin: None,
        });
        let mut exprs: Vec<PhysicalExprRef> = (0..visible).map(|index| column(&node_schema, index)).collect();
        exprs.push(rank_expr);
        Ok(Relation {
            branches: made
                .iter()
                .map(|&node| Branch {
                    node,
                    filter: None,
                    exprs: exprs.clone(),
                    carried: Vec::new(),
                })
                .collect(),
            columns,
            pending: Pending::Rank(PendingRank {
                window: window_columns,
                partition,
                order: order
                    .into_iter()
                    .map(|(index, options)| PhysicalSortExpr::new(column(&node_schema, index), options))
                    .collect(),
                rank_type: rank.data_type().clone(),
                rank_name: "rank".to_owned(),
                from: 1,
                to: None,
            }),
        })
    }

    fn partition_window(&self, partition: &[usize], columns: &[ColumnInfo]) -> Result<(WindowColumns, usize)> {
        for &index in partition {
            let Attribute::Window(id, _) = columns[index].attribute else {
                continue;
            };
            let find = |bound| {
                let mut found = partition.iter().copied();
                found.find(|&index| columns[index].attribute == Attribute::Window(id, bound))
            };
            let anywhere = |bound| {
                columns
                    .iter()
                    .position(|column| column.attribute == Attribute::Window(id, bound))
            };
            let start_enough = find(Bound::Start).is_some() && self.windows[id].start_determines_end();
            let end = find(Bound::End).or_else(|| anywhere(Bound::End).filter(|_| start_enough));
            let Some(end) = end else { continue };
            let start = find(Bound::Start).unwrap_or(end);
            if self.windows[id].processing_time {
                return Err(self.error(
                    "the first rows of windows on the clock (PROCTIME) are not supported: use event time, with \
                     WATERMARK FOR",
                ));
            }
            return Ok((WindowColumns { start, end }, id));
        }
        Err(self.error(
            "ROW_NUMBER() over a stream must be numbered per window: PARTITION BY window_start, window_end[, keys], over \
             rows of a window table function or a window aggregate",
        ))
    }

    /// Takes a condition on a pending rank; false if it is about something else.
    pub(super) fn rank_bound(&mut self, input: &mut Relation, condition: &Expr, schema: &DFSchema) -> Result<bool> {
        let Pending::Rank(rank) = &mut input.pending else {
            return Ok(false);
        };
        let is_rank = |expr: &Expr| {
            let Expr::Column(column) = strip_casts(expr) else {
                return false;
            };
            let index = schema.maybe_index_of_column(column);
            let first = index.and_then(|index| input.branches[0].exprs.get(index));
            first.is_some_and(|expr| bare_column(expr) == Some(VIRTUAL_RANK))
        };
        let (mut from, mut to) = (rank.from, rank.to);
        let mut narrow = |operator: BinaryOperator, value: i64| {
            let (low, high) = match operator {
                BinaryOperator::Eq => (value, Some(value)),
                BinaryOperator::Lt => (1, Some(value.saturating_sub(1))),
                BinaryOperator::LtEq => (1, Some(value)),
                BinaryOperator::Gt => (value.saturating_add(1), None),
                BinaryOperator::GtEq => (value, None),
                _ => return false,
            };
            from = from.max(u64::try_from(low).unwrap_or(1)).max(1);
            if let Some(high) = high {
                let high = u64::try_from(high).unwrap_or(0);
                to = Some(to.map_or(high, |to| to.min(high)));
            }
            true
        };
        let taken = match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                if is_rank(left) {
                    integer(right).is_some_and(|value| narrow(*op, value))
                } else if is_rank(right) {
                    match (integer(left), op.swap()) {
                        (Some(value), Some(op)) => narrow(op, value),
                        _ => false,
                    }
                } else {
                    false
                }
            }
            Expr::Between(between) if !between.negated && is_rank(&between.expr) => {
                match (integer(&between.low), integer(&between.high)) {
                    (Some(low), Some(high)) => narrow(BinaryOperator::GtEq, low) && narrow(BinaryOperator::LtEq, high),
                    _ => false,
                }
            }
            _ => false,
        };
        (rank.from, rank.to) = (from, to);
        Ok(taken)
    }

    /// Makes the node of a pending rank.
    pub(super) fn top_n(&mut self, relation: Relation) -> Result<Relation> {
        let Pending::Rank(rank) = &relation.pending else {
            return Ok(relation);
        };
        let rank = rank.clone();
        let Some(to) = rank.to else {
            return Err(self.error(RANK_UNBOUNDED));
        };
        let first = &relation.branches[0];
        let emit_rank = first
            .exprs
            .iter()
            .chain(&first.filter)
            .any(|expr| columns_of(expr).contains(&VIRTUAL_RANK));
        let input = self.schema(first.node);
        let width = input.fields().len();
        let mut fields: Vec<Field> = input.fields().iter().map(|field| field.as_ref().clone()).collect();
        if emit_rank {
            fields.push(Field::new(&rank.rank_name, rank.rank_type.clone(), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let mut output = stream(schema.clone(), &[]);
        output.window = Some(rank.window);
        let (exchange, parallelism) = keyed_exchange(rank.partition.clone());
        let edges = relation
            .branches
            .iter()
            .map(|branch| InputEdge {
                from: branch.node,
                port: Port::Main,
                input: 0,
                exchange: exchange.clone(),
            })
            .collect();
        let operator = Operator::WindowTopN(WindowTopN {
            window: rank.window,
            partition: rank.partition,
            order: rank.order,
            from: rank.from,
            to,
            emit_rank,
        });
        let owner = self.scope.owner.clone();
        let node = self.builder.add(&owner, "top-n", operator, edges, output, parallelism);
        let real =
            |expr: &PhysicalExprRef| substitute(expr, &|index| (index == VIRTUAL_RANK).then(|| column(&schema, width)));
        // All branches have the same shape over their nodes: after the exchange they are one.
        let exprs: Result<Vec<_>, _> = first.exprs.iter().map(real).collect();
        let filter = first.filter.as_ref().map(real).transpose();
        let mut columns = relation.columns.clone();
        for column in &mut columns {
            if column.attribute == Attribute::EventTime {
                column.attribute = Attribute::None;
            }
        }
        Ok(Relation {
            branches: vec![Branch {
                node,
                filter: self.located(filter)?,
                exprs: self.located(exprs)?,
                carried: Vec::new(),
            }],
            columns,
            pending: Pending::Nothing,
        })
    }
}

fn strip_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => strip_casts(&cast.expr),
        Expr::Alias(alias) => strip_casts(&alias.expr),
        other => other,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = strip_casts(expr) else {
        return None;
    };
    match value.cast_to(&arrow_schema::DataType::Int64) {
        Ok(ScalarValue::Int64(value)) if value_is_integer(expr) => value,
        _ => None,
    }
}

fn value_is_integer(expr: &Expr) -> bool {
    matches!(strip_casts(expr), Expr::Literal(value, _) if value.data_type().is_integer())
}
