//! Versioned tables: the right side of a temporal join by event time.
//!
//! A version of a row begins at the event time of the change that makes it, and ends at that of the next change of its
//! key. Versioned are tables with a primary key and an event time, and views that keep the last row of each key by
//! event time (`ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) = 1`).
//!
//! The join needs every change, while a node that normalises changes or keeps the last rows emits the net change of a
//! batch, or the final rows. So the join reads the input of such a node instead: it keeps the versions itself. A
//! condition must not drop changes, or the former version would not end: it becomes a column of the right side, and a
//! part of the condition of the join.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::conjunction_opt;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use millstream_graph::{Calc, ErrorPolicy, NodeIndex, Operator, Port, RankFunction, TimeAttribute};

use super::side::Side;
use crate::translate::changelog::injective_column;
use crate::translate::context::{Context, Result};
use crate::translate::relation::{
    Attribute, Branch, ColumnInfo, Pending, PendingRank, Relation, VIRTUAL_RANK, bare_column, column, columns_of,
    substitute,
};

/// The changes of a versioned table.
struct Versions {
    /// The rows of the relation, over the node with all changes.
    branch: Branch,
    /// Columns of that node that identify a row of the table.
    key: Vec<usize>,
    /// Column of that node with the event time of a change.
    time: usize,
}

/// Makes the right side one of versions: with their time, and all of their changes. Returns the index of the time.
/// `left_time` is the index of that of the left side.
pub(super) fn prepare(
    cx: &Context<'_>,
    left_time: usize,
    left: &mut Side,
    right: &mut Side,
    condition: &mut Option<PhysicalExprRef>,
) -> Result<usize> {
    let Versions { mut branch, key, time } = versions(cx, &right.relation)?;
    let schema = cx.schema(branch.node);
    let left_info = &left.relation.columns[left_time];
    let time_type = schema.field(time).data_type();
    if left_info.data_type != *time_type {
        return Err(cx.error(format!(
            "FOR SYSTEM_TIME AS OF compares `{}` with `{}`, of which one is a TIMESTAMP and the other a TIMESTAMP_LTZ: \
             declare both event times with the same type",
            left_info.name,
            schema.field(time).name()
        )));
    }
    let left_width = left.relation.columns.len();
    let mut columns = right.relation.columns.clone();
    let mut conjuncts: Vec<PhysicalExprRef> = condition.take().into_iter().collect();
    take_keys(cx, &branch, &key, left, right, &mut conjuncts)?;

    let known = branch.exprs.iter().position(|expr| bare_column(expr) == Some(time));
    let time = known.unwrap_or_else(|| {
        branch.exprs.push(column(&schema, time));
        columns.push(computed("$version", time_type.clone()));
        columns.len() - 1
    });
    // All changes of a key pass a condition on the key, or none.
    let drops_changes =
        |filter: &PhysicalExprRef| is_volatile(filter) || columns_of(filter).iter().any(|column| !key.contains(column));
    if let Some(filter) = branch.filter.take_if(|filter| drops_changes(filter)) {
        let data_type = cx.located(filter.data_type(&schema))?;
        branch.exprs.push(filter);
        conjuncts.push(Arc::new(Column::new("$is_valid", left_width + columns.len())));
        columns.push(computed("$is_valid", data_type));
    }
    *condition = conjunction_opt(conjuncts);
    right.relation = Relation {
        branches: vec![branch],
        columns,
        pending: Pending::Nothing,
    };
    Ok(time)
}

/// Leaves the equalities with the columns of `key` as keys of both sides; all others become conditions.
fn take_keys(
    cx: &Context<'_>,
    branch: &Branch,
    key: &[usize],
    left: &mut Side,
    right: &mut Side,
    conjuncts: &mut Vec<PhysicalExprRef>,
) -> Result<()> {
    let schema = cx.schema(branch.node);
    let left_width = left.relation.columns.len();
    let mut pairs: Vec<_> = left.keys.drain(..).zip(right.keys.drain(..)).collect();
    for &wanted in key {
        let mut found = None;
        for (index, (_, (expr, _))) in pairs.iter().enumerate() {
            let expr = cx.located(branch.compose(expr))?;
            if injective_column(&expr, &schema) == Some(wanted) {
                found = Some(index);
                break;
            }
        }
        let Some(found) = found else {
            let names: Vec<&str> = key.iter().map(|&column| schema.field(column).name().as_str()).collect();
            return Err(cx.error(format!(
                "FOR SYSTEM_TIME AS OF an event time finds versions by the key of the table or view, ({}): join it by an \
                 equality with each of these columns",
                names.join(", ")
            )));
        };
        let (of_left, of_right) = pairs.remove(found);
        left.keys.push(of_left);
        right.keys.push(of_right);
    }
    for ((of_left, _), (of_right, _)) in pairs {
        let moved = substitute(&of_right, &|index| Some(Arc::new(Column::new("", left_width + index))));
        let equality = BinaryExpr::new(of_left, BinaryOperator::Eq, cx.located(moved)?);
        conjuncts.push(Arc::new(equality));
    }
    Ok(())
}

/// Returns the changes of the rows of a relation.
fn versions(cx: &Context<'_>, relation: &Relation) -> Result<Versions> {
    let [branch] = relation.branches.as_slice() else {
        return Err(not_versioned(cx, "a UNION ALL has no key"));
    };
    let mut branch = branch.clone();
    match &relation.pending {
        Pending::Nothing => {}
        Pending::Window(_) => return Err(not_versioned(cx, "its rows are assigned to windows")),
        Pending::Rank(rank) => return ranked(cx, branch, VIRTUAL_RANK, &Rank::pending(rank)),
    }
    loop {
        let node = branch.node;
        match &cx.builder.nodes[node].operator {
            Operator::Source(source) => {
                let table = &source.table;
                let schema = cx.schema(node);
                let key = table.primary_key.iter().map(|name| schema.index_of(name).ok());
                let key: Option<Vec<usize>> = key.collect();
                let declared = |what: &str| {
                    cx.error(format!(
                        "FOR SYSTEM_TIME AS OF an event time needs versions of rows: declare {what} in table `{}`",
                        table.name
                    ))
                };
                let is_declared = !table.primary_key.is_empty();
                let key = match key {
                    // A column that nobody reads is not compared, either.
                    None => {
                        return Err(cx.error(format!(
                            "FOR SYSTEM_TIME AS OF an event time finds versions by the primary key of table `{}`, ({}): \
                             join it by an equality with each of these columns",
                            table.name,
                            table.primary_key.join(", ")
                        )));
                    }
                    Some(_) if !is_declared => {
                        return Err(declared(
                            "PRIMARY KEY (...) NOT ENFORCED, with the columns that identify a row",
                        ));
                    }
                    Some(key) => key,
                };
                let Some(watermark) = &source.watermark else {
                    return Err(declared("WATERMARK FOR the column with the time of each change"));
                };
                return Ok(Versions {
                    branch,
                    key,
                    time: watermark.column,
                });
            }
            Operator::ChangelogNormalize(_) => branch.node = only_input(cx, node)?,
            Operator::Calc(calc) => branch = below(cx, &branch, calc)?,
            Operator::TopN(top) => {
                branch.node = only_input(cx, node)?;
                let rank_column = cx.schema(branch.node).fields().len();
                let columns = cx.schema(node);
                let rank_type = columns.fields().get(rank_column).map(|field| field.data_type().clone());
                let rank = Rank {
                    function: top.function,
                    is_by_arrival: top.is_by_arrival,
                    partition: &top.partition,
                    order: &top.order,
                    bounds: (top.from, Some(top.to)),
                    data_type: rank_type.unwrap_or(DataType::Int64),
                };
                return ranked(cx, branch, rank_column, &rank);
            }
            Operator::GroupAggregate(_) | Operator::Join(_) | Operator::MultiJoin(_) => {
                return Err(not_versioned(cx, "its rows are updated without an event time"));
            }
            Operator::WindowAssign(_)
            | Operator::WindowAggregate(_)
            | Operator::WindowJoin(_)
            | Operator::TemporalJoin(_)
            | Operator::WindowTopN(_)
            | Operator::DynamicFilter(_)
            | Operator::Unnest(_)
            | Operator::Sort(_)
            | Operator::SinkMaterialize(_)
            | Operator::Sink(_) => return Err(not_versioned(cx, "its rows are not updated by a key")),
        }
    }
}

/// A rank of rows, of which one is kept.
struct Rank<'r> {
    function: RankFunction,
    is_by_arrival: bool,
    partition: &'r [usize],
    order: &'r [PhysicalSortExpr],
    bounds: (u64, Option<u64>),
    data_type: DataType,
}

impl<'r> Rank<'r> {
    fn pending(rank: &'r PendingRank) -> Self {
        Self {
            function: rank.function,
            is_by_arrival: rank.arrival.is_some() || rank.window.is_some(),
            partition: &rank.partition,
            order: &rank.order,
            bounds: (rank.from, rank.to),
            data_type: rank.rank_type.clone(),
        }
    }
}

/// Returns the changes of a view that keeps the last row of each partition by event time. The branch reads the rows
/// that are ranked, and their rank in a column that they do not have.
fn ranked(cx: &Context<'_>, mut branch: Branch, rank_column: usize, rank: &Rank<'_>) -> Result<Versions> {
    let time = match rank.order {
        [sort] if sort.options.descending => bare_column(&sort.expr),
        _ => None,
    };
    let node = branch.node;
    let is_by_event_time = time.is_some() && cx.builder.nodes[node].output.event_time == time;
    let keeps_last = rank.function == RankFunction::RowNumber && rank.bounds == (1, Some(1)) && !rank.is_by_arrival;
    let Some(time) = time.filter(|_| keeps_last && is_by_event_time && !has_processing_windows(cx, node)) else {
        return Err(not_versioned(cx, "its rows are not the last ones by event time"));
    };
    if cx.builder.has_updates(node) {
        return Err(not_versioned(
            cx,
            "it ranks rows that are updated or deleted, instead of those of an append-only table",
        ));
    }
    if rank.partition.is_empty() {
        return Err(not_versioned(cx, "it has no PARTITION BY, the key of the versions"));
    }
    // The only rank is the first.
    let first = cx.located(ScalarValue::Int64(Some(1)).cast_to(&rank.data_type))?;
    let first: PhysicalExprRef = Arc::new(Literal::new(first));
    let real = |expr: &PhysicalExprRef| substitute(expr, &|index| (index == rank_column).then(|| first.clone()));
    let exprs: Result<Vec<_>, _> = branch.exprs.iter().map(real).collect();
    let filter = branch.filter.as_ref().map(real).transpose();
    branch.exprs = cx.located(exprs)?;
    branch.filter = cx.located(filter)?;
    Ok(Versions {
        branch,
        key: rank.partition.to_vec(),
        time,
    })
}

/// Returns a branch over the input of its node, a calculation.
fn below(cx: &Context<'_>, branch: &Branch, calc: &Calc) -> Result<Branch> {
    let is_volatile = calc.projection.iter().any(|column| is_volatile(&column.expr));
    if is_volatile || calc.on_error != ErrorPolicy::Fail {
        return Err(not_versioned(
            cx,
            "it is used several times, and has an error policy of its own or functions with another value at each call",
        ));
    }
    let composed = |expr: &PhysicalExprRef| {
        cx.located(substitute(expr, &|index| {
            Some(calc.projection.get(index)?.expr.clone())
        }))
    };
    let above = branch.filter.as_ref().map(composed).transpose()?;
    Ok(Branch {
        node: only_input(cx, branch.node)?,
        filter: conjunction_opt(calc.filter.iter().cloned().chain(above)),
        exprs: branch.exprs.iter().map(composed).collect::<Result<_>>()?,
        carried: Vec::new(),
    })
}

fn only_input(cx: &Context<'_>, node: NodeIndex) -> Result<NodeIndex> {
    let mut inputs = cx.builder.inputs_of(node);
    match (inputs.next(), inputs.next()) {
        (Some((from, Port::Main)), None) => Ok(from),
        _ => Err(not_versioned(cx, "it has the rows of several inputs")),
    }
}

/// Returns true if the rows of a node are those of windows of processing time.
fn has_processing_windows(cx: &Context<'_>, node: NodeIndex) -> bool {
    let is_window = match &cx.builder.nodes[node].operator {
        Operator::WindowAssign(assign) => assign.time == TimeAttribute::Processing,
        Operator::WindowAggregate(aggregate) => aggregate.time == TimeAttribute::Processing,
        _ => false,
    };
    let mut inputs = cx.builder.inputs_of(node);
    is_window || inputs.any(|(from, _)| has_processing_windows(cx, from))
}

fn computed(name: &str, data_type: DataType) -> ColumnInfo {
    ColumnInfo {
        name: name.to_owned(),
        data_type,
        attribute: Attribute::None,
        origin: None,
    }
}

fn not_versioned(cx: &Context<'_>, reason: &str) -> crate::Error {
    cx.error(format!(
        "FOR SYSTEM_TIME AS OF an event time needs a versioned table or view, but {reason}. Versioned are tables with \
         PRIMARY KEY and WATERMARK, and views of the last rows by event time (ROW_NUMBER() OVER (PARTITION BY k ORDER BY \
         ts DESC) with the condition = 1 on it)"
    ))
}
