//! Rows of session windows that are not aggregated, or by other keys than those of the sessions.
//!
//! The bounds of a session are known when it ends, so its rows are kept until then: an aggregate of the session
//! collects its rows in an array, whose elements are unnested. So sessions are as those of any aggregate: bounded by
//! memory, restored at any parallelism, and final. A join of sessions keeps its rows in the same way
//! ([`session_join`](super::session_join)).

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields};
use datafusion::common::ScalarValue;
use datafusion::functions::core::named_struct;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExprRef, ScalarFunctionExpr};
use millstream_graph::NodeIndex;
use millstream_graph::sql_type::{timestamp, timestamp_ltz};

use super::calc::cast_if_needed;
use super::context::{Context, Result};
use super::elements::elements_of;
use super::group_nodes::{Call, Grouping, Key, aggregate_inputs, aggregate_nodes};
use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, PendingWindow, Relation, VIRTUAL, bare_column, column, is_virtual,
    substitute, window_time,
};

/// Name of the column with the rows of a session. Users cannot write it.
const ROWS: &str = "$rows";

/// Returns the rows of a relation with a pending session window, once their sessions have ended.
pub(super) fn session_rows(cx: &mut Context<'_>, relation: Relation, pending: &PendingWindow) -> Result<Relation> {
    let is_of_row = |index: usize| relation.branches.iter().all(|branch| !is_virtual(&branch.exprs[index]));
    let values: Vec<usize> = (0..relation.columns.len()).filter(|index| is_of_row(*index)).collect();
    let time_type = window_time_type(cx, &relation, pending)?;
    let fields: Vec<FieldRef> = values
        .iter()
        .enumerate()
        .map(|(place, value)| {
            let data_type = relation.columns[*value].data_type.clone();
            Arc::new(Field::new(format!("${place}"), data_type, true))
        })
        .collect();

    let node = collected(cx, &relation, pending, &values, &fields)?;
    let rows = unnested(cx, node, pending, &fields)?;
    let [made] = rows.branches.as_slice() else {
        return Err(cx.error("the rows of a session come from one node"));
    };
    let schema = cx.schema(made.node);
    let (start, end) = (made.exprs[0].clone(), made.exprs[1].clone());
    let time = cast_if_needed(cx, window_time(&end), &schema, &time_type)?;
    let bounds = [start, end, time];
    let of_window = |expr: &PhysicalExprRef| {
        substitute(expr, &|index| {
            index.checked_sub(VIRTUAL).and_then(|bound| bounds.get(bound).cloned())
        })
    };
    // The columns of the window are computed from its bounds alike in all branches.
    let branch = &relation.branches[0];
    let mut exprs = Vec::with_capacity(relation.columns.len());
    for (index, expr) in branch.exprs.iter().enumerate() {
        exprs.push(match values.binary_search(&index) {
            Ok(place) => made.exprs[2 + place].clone(),
            Err(_) => cx.located(of_window(expr))?,
        });
    }
    let mut columns = relation.columns;
    for column in &mut columns {
        // Rows are emitted at the end of the session, so all other time attributes are lost.
        if matches!(column.attribute, Attribute::EventTime | Attribute::ProcessingTime) {
            column.attribute = Attribute::None;
        }
    }
    Ok(Relation {
        branches: vec![Branch { exprs, ..made.clone() }],
        columns,
        pending: Pending::Nothing,
    })
}

/// Returns the type of the virtual column of `window_time`.
fn window_time_type(cx: &Context<'_>, relation: &Relation, pending: &PendingWindow) -> Result<DataType> {
    match relation.branches.first() {
        // In a zone, the carried time is a local one.
        Some(branch) if pending.event_time => cx.located(branch.carried[0].data_type(&cx.schema(branch.node))),
        _ if pending.event_time => Ok(timestamp()),
        _ => Ok(timestamp_ltz()),
    }
}

/// Adds an aggregate that collects the rows of each session in an array, after the keys and before the bounds.
fn collected(
    cx: &mut Context<'_>,
    relation: &Relation,
    pending: &PendingWindow,
    values: &[usize],
    fields: &[FieldRef],
) -> Result<NodeIndex> {
    let first = &relation.branches[0];
    let schema = cx.schema(first.node);
    let mut columns = Vec::with_capacity(pending.key_count + 1);
    for (place, key) in pending.keys(first).iter().enumerate() {
        let name = bare_column(key).map_or(format!("$key{place}"), |index| schema.field(index).name().clone());
        columns.push(plain(&name, cx.located(key.data_type(&schema))?, Attribute::None));
    }
    let row_type = DataType::Struct(match fields {
        [] => Fields::from(vec![Field::new("$0", DataType::Boolean, true)]),
        fields => Fields::from(fields.to_vec()),
    });
    columns.push(plain(ROWS, row_type.clone(), Attribute::None));
    let branches = relation.branches.iter().map(|branch| {
        let mut exprs = pending.keys(branch).to_vec();
        exprs.push(row(cx, branch, values, &row_type));
        Branch {
            exprs,
            ..branch.clone()
        }
    });
    let input = Relation {
        branches: branches.collect(),
        columns: columns.clone(),
        pending: Pending::Window(pending.clone()),
    };
    let read = |(index, info): (usize, &ColumnInfo)| -> PhysicalExprRef { Arc::new(Column::new(&info.name, index)) };
    let call = Call {
        function: AggregateFunction::new_udf(array_agg_udaf(), Vec::new(), false, None, Vec::new(), None),
        args: columns.iter().enumerate().map(read).skip(pending.key_count).collect(),
        filter: None,
        order: Vec::new(),
    };
    let keys = columns.iter().enumerate().take(pending.key_count);
    let keys: Vec<Key> = keys
        .map(|(index, info)| Key {
            expr: read((index, info)),
            info: info.clone(),
        })
        .collect();
    let grouping = Grouping::Window {
        id: pending.id,
        is_fused: true,
        two_phase: false,
    };
    let sides = aggregate_inputs(cx, &input, &keys.iter().collect::<Vec<_>>(), &[call], grouping)?;
    aggregate_nodes(cx, sides, false)
}

/// Returns the values of a row as one.
fn row(cx: &Context<'_>, branch: &Branch, values: &[usize], row_type: &DataType) -> PhysicalExprRef {
    let literal = |value: ScalarValue| -> PhysicalExprRef { Arc::new(Literal::new(value)) };
    let mut parts = Vec::with_capacity(2 * values.len().max(1));
    for (place, value) in values.iter().enumerate() {
        parts.extend([
            literal(ScalarValue::from(format!("${place}"))),
            branch.exprs[*value].clone(),
        ]);
    }
    if parts.is_empty() {
        parts.extend([
            literal(ScalarValue::from("$0")),
            literal(ScalarValue::Boolean(Some(true))),
        ]);
    }
    let function = named_struct();
    Arc::new(ScalarFunctionExpr::new(
        function.name(),
        Arc::clone(&function),
        parts,
        Arc::new(Field::new(function.name(), row_type.clone(), true)),
        cx.planning.config().clone(),
    ))
}

/// Returns the bounds of a session and the values of a row, for each row that an aggregate has collected.
fn unnested(cx: &mut Context<'_>, node: NodeIndex, pending: &PendingWindow, fields: &[FieldRef]) -> Result<Relation> {
    let schema = cx.schema(node);
    let width = schema.fields().len();
    let rows = schema.field(width - 3).data_type().clone();
    let sessions = Relation {
        branches: vec![Branch {
            node,
            filter: None,
            exprs: vec![
                column(&schema, width - 2),
                column(&schema, width - 1),
                column(&schema, width - 3),
            ],
            carried: Vec::new(),
        }],
        columns: vec![
            plain("window_start", timestamp(), Attribute::Window(pending.id, Bound::Start)),
            plain("window_end", timestamp(), Attribute::Window(pending.id, Bound::End)),
            plain(ROWS, rows, Attribute::None),
        ],
        pending: Pending::Nothing,
    };
    let mark = Arc::new(Field::new("$0", DataType::Boolean, true));
    let fields = match fields {
        [] => std::slice::from_ref(&mark),
        fields => fields,
    };
    elements_of(cx, &sessions, fields.iter(), [false, false])
}

fn plain(name: &str, data_type: DataType, attribute: Attribute) -> ColumnInfo {
    ColumnInfo {
        name: name.to_owned(),
        data_type,
        attribute,
        origin: None,
    }
}
