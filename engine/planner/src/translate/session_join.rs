//! Joins of session windows: the rows of both sides form the sessions.
//!
//! A join of `SESSION(TABLE l ...)` and `SESSION(TABLE r ...)` by key and window becomes an aggregate of the union of
//! both inputs, with the rows of each side in an array, whose elements are then paired ([`Unnest`]). An empty array
//! is a side without a match. So sessions are as those of any aggregate: bounded by memory, restored at any
//! parallelism, and final.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, TableReference, plan_err};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::functions_aggregate::expr_fn::array_agg;
use datafusion::logical_expr::utils::{conjunction, disjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, ExprSchemable, Extension, Join, JoinType, LogicalPlan, LogicalPlanBuilder,
    Operator, col, ident, lit, when,
};

use crate::logical::{Unnest, WINDOW_COLUMNS, WindowFunction, WindowTableFunction};

/// Names of columns that the rewrite adds. Users cannot write them.
const TIME: &str = "$time";
const SIDE: &str = "$side";
const NULL_SIDE: &str = "$null_side";
const ROWS: [&str; 2] = ["$left", "$right"];
const EXISTS: &str = "$exists";

/// Returns true if a plan has a join of session windows.
pub(super) fn is_in(plan: &LogicalPlan) -> Result<bool> {
    let mut is_found = false;
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::Join(join) = plan {
            is_found |= Side::of(&join.left).is_some() && Side::of(&join.right).is_some();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_found)
}

/// Replaces the joins of session windows. Columns that are not read must have been dropped, as they would be stored.
pub(super) fn replace(plan: LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Join(join) = &plan else {
            return Ok(Transformed::no(plan));
        };
        Ok(match joined(join)? {
            Some(joined) => Transformed::yes(joined),
            None => Transformed::no(plan),
        })
    })?;
    Ok(replaced.data)
}

/// A side of a join: columns of a session window.
struct Side<'p> {
    function: &'p WindowTableFunction,
    /// The columns of the side, over those of the function.
    columns: Vec<Expr>,
}

/// The value of a side's column.
enum Value {
    /// A bound of the window, by number.
    Bound(usize),
    /// A value of the row.
    OfRow(Expr),
}

impl<'p> Side<'p> {
    fn of(plan: &'p LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Projection(projection) => {
                let input = Self::of(&projection.input)?;
                let schema = projection.input.schema();
                let columns = projection.expr.iter().map(|expr| {
                    let composed = expr.clone().unalias().transform(|expr| match &expr {
                        Expr::Column(column) => {
                            let index = schema.index_of_column(column)?;
                            Ok(Transformed::yes(input.columns[index].clone()))
                        }
                        _ => Ok(Transformed::no(expr)),
                    });
                    composed.ok().map(|composed| composed.data)
                });
                Some(Self {
                    columns: columns.collect::<Option<_>>()?,
                    ..input
                })
            }
            LogicalPlan::Extension(extension) => {
                let function = extension.node.as_any().downcast_ref::<WindowTableFunction>()?;
                matches!(function.window, WindowFunction::Session { .. }).then(|| Self {
                    function,
                    columns: function.schema.columns().into_iter().map(col).collect(),
                })
            }
            _ => None,
        }
    }

    fn value(&self, index: usize) -> Value {
        let width = self.function.input.schema().fields().len();
        let expr = &self.columns[index];
        let place = match expr {
            Expr::Column(column) => self.function.schema.maybe_index_of_column(column),
            _ => None,
        };
        match place.and_then(|place| place.checked_sub(width)) {
            Some(bound) => Value::Bound(bound),
            None => Value::OfRow(expr.clone()),
        }
    }

    /// Returns the number of the partition column that a column is.
    fn partition(&self, index: usize) -> Option<usize> {
        let Expr::Column(column) = &self.columns[index] else {
            return None;
        };
        let place = self.function.schema.maybe_index_of_column(column)?;
        let mut keys = self.function.partition_by.iter();
        keys.position(|key| self.function.schema.maybe_index_of_column(key) == Some(place))
    }

    /// Returns a row as one value: its columns besides the bounds of windows, and a mark that it exists.
    fn row(&self) -> Expr {
        let mut parts = vec![lit(EXISTS), lit(true)];
        for index in 0..self.columns.len() {
            if let Value::OfRow(expr) = self.value(index) {
                parts.extend([lit(field(index)), expr]);
            }
        }
        named_struct(parts)
    }
}

fn field(index: usize) -> String {
    format!("${index}")
}

/// The condition of a join of windows.
struct Condition {
    /// Pairs of partition columns, by number.
    keys: Vec<(usize, usize)>,
    equal_bounds: Vec<usize>,
    rest: Vec<Expr>,
}

impl Condition {
    fn of(join: &Join, sides: &[Side<'_>; 2]) -> Self {
        let mut condition = Self {
            keys: Vec::new(),
            equal_bounds: Vec::new(),
            rest: Vec::new(),
        };
        let on = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
        let filter = join.filter.iter().flat_map(split_conjunction).cloned();
        for conjunct in on.chain(filter) {
            condition.add(conjunct, join, sides);
        }
        condition
    }

    fn add(&mut self, conjunct: Expr, join: &Join, [left, right]: &[Side<'_>; 2]) {
        let places = match &conjunct {
            Expr::BinaryExpr(BinaryExpr {
                left: a,
                op: Operator::Eq,
                right: b,
            }) => {
                let (of_left, of_right) = (join.left.schema(), join.right.schema());
                let pair = |a: &Expr, b: &Expr| Some((place(a, of_left)?, place(b, of_right)?));
                pair(a, b).or_else(|| pair(b, a))
            }
            _ => None,
        };
        if let Some((a, b)) = places {
            if let (Some(a), Some(b)) = (left.partition(a), right.partition(b)) {
                return self.keys.push((a, b));
            }
            if let (Value::Bound(a), Value::Bound(b)) = (left.value(a), right.value(b))
                && a == b
            {
                return self.equal_bounds.push(a);
            }
        }
        self.rest.push(conjunct);
    }
}

fn place(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    }
}

/// Returns the pairs of a join of session windows; `None` for other joins.
fn joined(join: &Join) -> Result<Option<LogicalPlan>> {
    let (Some(left), Some(right)) = (Side::of(&join.left), Side::of(&join.right)) else {
        return Ok(None);
    };
    let sides = [left, right];
    let mut condition = Condition::of(join, &sides);
    if !condition.equal_bounds.contains(&0) {
        return Ok(None);
    }
    let [is_left_kept, is_right_kept] = match join.join_type {
        JoinType::Inner => [false, false],
        JoinType::Left => [true, false],
        JoinType::Right => [false, true],
        JoinType::Full => [true, true],
        other => return plan_err!("session windows cannot be joined by a {other} join: write a LEFT JOIN"),
    };
    check(join, &sides, &condition)?;
    condition.keys.sort_unstable();
    condition.keys.dedup();

    let union = union(&sides, &condition, join.join_type)?;
    let keys = condition.keys.len() + 1;
    let session = WindowTableFunction {
        zone: sides[0].function.zone.clone(),
        ..WindowTableFunction::try_new(
            union,
            sides[0].function.window,
            Column::new_unqualified(TIME),
            (0..keys)
                .map(|key| Column::new_unqualified(key_name(key, keys)))
                .collect(),
        )?
    };
    let mut plan = aggregated(session, keys)?;
    for (side, (rows, is_outer)) in sides.iter().zip(ROWS.into_iter().zip([is_right_kept, is_left_kept])) {
        let names = std::iter::once(EXISTS.to_owned());
        let values = (0..side.columns.len()).filter(|index| matches!(side.value(*index), Value::OfRow(_)));
        let names = names.chain(values.map(field)).collect();
        let kept = plan.schema().columns().into_iter().filter(|column| column.name != rows);
        let kept = kept.collect();
        let list_type = ident(rows).get_type(plan.schema())?;
        let flags = [is_outer, false];
        let node = Unnest::try_new(
            plan,
            ident(rows),
            &list_type,
            flags,
            kept,
            Some(TableReference::bare(rows)),
            names,
        )?;
        let node = Arc::new(node);
        plan = LogicalPlan::Extension(Extension { node });
    }
    let outputs = outputs(join, &sides, [is_right_kept, is_left_kept])?;
    let builder = LogicalPlanBuilder::from(plan).project(outputs)?;
    Ok(Some(match conjunction(condition.rest) {
        Some(rest) => builder.filter(rest)?.build()?,
        None => builder.build()?,
    }))
}

/// Refuses joins whose sides have no common sessions.
fn check(join: &Join, [left, right]: &[Side<'_>; 2], condition: &Condition) -> Result<()> {
    let (of_left, of_right) = (left.function, right.function);
    if of_left.window != of_right.window || of_left.zone != of_right.zone {
        return plan_err!("session windows that are joined need the same gap");
    }
    let is_paired = |keys: usize, key_of: fn(&(usize, usize)) -> usize| {
        (0..keys).all(|key| condition.keys.iter().any(|pair| key_of(pair) == key))
    };
    let are_paired = is_paired(of_left.partition_by.len(), |pair| pair.0)
        && is_paired(of_right.partition_by.len(), |pair| pair.1)
        && condition.keys.len() == of_left.partition_by.len().max(of_right.partition_by.len());
    if !are_paired {
        return plan_err!(
            "session windows that are joined need equal keys: PARTITION BY the columns of each side that the condition \
             compares, such as l.k = r.k"
        );
    }
    for (a, b) in &condition.keys {
        let of = |function: &WindowTableFunction, key: usize| {
            Expr::Column(function.partition_by[key].clone()).get_type(function.input.schema())
        };
        if of(of_left, *a)? != of(of_right, *b)? {
            return plan_err!("the keys of session windows that are joined need the same type: write a CAST");
        }
    }
    if join.join_type != JoinType::Inner && !condition.rest.is_empty() {
        return plan_err!(
            "an outer join of session windows compares keys and window bounds only: write other conditions on one side in \
             a subquery inside of SESSION((SELECT ... WHERE ...), ...)"
        );
    }
    Ok(())
}

fn key_name(key: usize, keys: usize) -> String {
    match key + 1 == keys {
        true => NULL_SIDE.to_owned(),
        false => format!("$key{key}"),
    }
}

/// Returns the rows of both sides: keys, time, side, and the row of each side or NULL. Rows with a NULL in their keys,
/// which match nothing, have sessions of their own.
fn union(sides: &[Side<'_>; 2], condition: &Condition, join_type: JoinType) -> Result<LogicalPlan> {
    let rows = [sides[0].row(), sides[1].row()];
    let types = [
        rows[0].get_type(sides[0].function.input.schema())?,
        rows[1].get_type(sides[1].function.input.schema())?,
    ];
    let mut inputs = Vec::with_capacity(2);
    for (number, side) in sides.iter().enumerate() {
        let function = side.function;
        let key_of = |pair: &(usize, usize)| [pair.0, pair.1][number];
        let keys: Vec<Expr> = condition
            .keys
            .iter()
            .map(|pair| Expr::Column(function.partition_by[key_of(pair)].clone()))
            .collect();
        let is_null = disjunction(keys.iter().map(|key| key.clone().is_null()));
        let is_null = is_null.unwrap_or_else(|| lit(false));
        let side_number = number as i64;
        let null_side = when(is_null.clone(), lit(side_number)).end()?.alias(NULL_SIDE);
        let count = keys.len() + 1;
        let named = keys
            .into_iter()
            .enumerate()
            .map(|(key, expr)| expr.alias(key_name(key, count)));
        let null = |data_type: &DataType| ScalarValue::try_from(data_type).map(lit);
        let values = match number {
            0 => [rows[0].clone(), null(&types[1])?],
            _ => [null(&types[0])?, rows[1].clone()],
        };
        let [left, right] = values;
        let outputs = named.chain([
            null_side,
            Expr::Column(function.time_column.clone()).alias(TIME),
            lit(side_number).alias(SIDE),
            left.alias(ROWS[0]),
            right.alias(ROWS[1]),
        ]);
        let mut builder = LogicalPlanBuilder::from(function.input.clone());
        if join_type == JoinType::Inner {
            builder = builder.filter(Expr::Not(Box::new(is_null)))?;
        }
        inputs.push(builder.project(outputs)?);
    }
    let (Some(right), Some(left)) = (inputs.pop(), inputs.pop()) else {
        return plan_err!("a join has two sides");
    };
    left.union(right.build()?)?.build()
}

/// Returns the sessions with the rows of each side.
fn aggregated(session: WindowTableFunction, keys: usize) -> Result<LogicalPlan> {
    let node = Arc::new(session);
    let groups = (0..keys).map(|key| key_name(key, keys));
    let groups = groups.chain(WINDOW_COLUMNS.map(str::to_owned)).map(ident);
    let calls = ROWS.into_iter().enumerate().map(|(number, rows)| {
        let call = array_agg(ident(rows))
            .filter(ident(SIDE).eq(lit(number as i64)))
            .build()?;
        Ok(call.alias(rows))
    });
    let calls: Vec<Expr> = calls.collect::<Result<_>>()?;
    LogicalPlanBuilder::from(LogicalPlan::Extension(Extension { node }))
        .aggregate(groups, calls)?
        .build()
}

/// Returns the columns of the join. The window of a side that may have no row is NULL with it.
fn outputs(join: &Join, sides: &[Side<'_>; 2], may_be_null: [bool; 2]) -> Result<Vec<Expr>> {
    let fields = join.schema.iter();
    let places = sides
        .iter()
        .enumerate()
        .flat_map(|(number, side)| (0..side.columns.len()).map(move |index| (number, index)));
    let outputs = places.zip(fields).map(|((number, index), (qualifier, output))| {
        let of_row = |name: String| Expr::Column(Column::new(Some(TableReference::bare(ROWS[number])), name));
        let value = match sides[number].value(index) {
            Value::OfRow(_) => of_row(field(index)),
            Value::Bound(bound) if may_be_null[number] => {
                when(of_row(EXISTS.to_owned()), ident(WINDOW_COLUMNS[bound])).end()?
            }
            Value::Bound(bound) => ident(WINDOW_COLUMNS[bound]),
        };
        Ok(value.alias_qualified(qualifier.cloned(), output.name()))
    });
    outputs.collect()
}
