//! `GROUP BY`, `SELECT DISTINCT` and `UNION` without a window: the result is updated with each row of the input.
//!
//! A batch job emits the result once, at the end of its input.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{Aggregate, GroupAggregate, NodeIndex, Operator, Phase, partial_state};

use crate::logical::AggregatePhases;
use crate::translate::builder::keyed_exchange;
use crate::translate::context::{Context, Result};
use crate::translate::group_nodes::{
    AggregateInput, Call, Grouping, Key, aggregate_inputs, key_fields, main_edge, output_fields,
};
use crate::translate::pending::{materialize, resolve};
use crate::translate::relation::{Attribute, Branch, ColumnInfo, Pending, Relation, all_columns, plain_stream};

/// Returns the grouped relation; its columns are the keys, then the calls. Time attributes are lost.
pub(super) fn grouped(
    cx: &mut Context<'_>,
    input: Relation,
    keys: &[Key],
    calls: &[Call],
    names: &[String],
) -> Result<Relation> {
    let mut input = resolve(cx, input)?;
    let operands = calls.iter().flat_map(|call| {
        let order = call.order.iter().map(|sort| &sort.expr);
        call.args.iter().chain(&call.filter).chain(order)
    });
    let exprs: Vec<&PhysicalExprRef> = keys.iter().map(|key| &key.expr).chain(operands).collect();
    if input
        .branches
        .iter()
        .any(|branch| branch.would_repeat(exprs.iter().copied()))
    {
        input = materialize(cx, input)?;
    }
    let keys: Vec<&Key> = keys.iter().collect();
    let sides = aggregate_inputs(cx, &input, &keys, calls, Grouping::All)?;
    let first = sides.first().ok_or_else(|| cx.error("an aggregate over nothing"))?;
    let schema = Arc::new(Schema::new(output_fields(cx, first)));
    let node = match partial_states(cx, &sides) {
        Some(partial) => local_and_final(cx, &sides, &partial, schema.clone()),
        None => {
            let (exchange, parallelism) = keyed_exchange(first.keys.clone());
            let operator = Operator::GroupAggregate(group_aggregate(cx, &sides, Phase::Single, first));
            let edges = sides.iter().map(|side| main_edge(side.node, &exchange)).collect();
            cx.add("aggregate", operator, edges, plain_stream(schema.clone()), parallelism)
        }
    };

    let key_infos = keys.iter().map(|key| key.info.clone());
    let call_infos = schema.fields().iter().skip(keys.len()).map(|field| ColumnInfo {
        name: String::new(),
        data_type: field.data_type().clone(),
        attribute: Attribute::None,
        origin: None,
    });
    let columns = key_infos.chain(call_infos).zip(names).map(|(info, name)| ColumnInfo {
        name: name.clone(),
        attribute: Attribute::None,
        ..info
    });
    Ok(Relation {
        branches: vec![Branch {
            node,
            filter: None,
            exprs: all_columns(&schema, schema.fields().len()),
            carried: Vec::new(),
        }],
        columns: columns.collect(),
        pending: Pending::Nothing,
    })
}

/// Returns true if rows of a side are updated or deleted.
fn retracts(cx: &Context<'_>, sides: &[AggregateInput]) -> bool {
    sides.iter().any(|side| cx.builder.has_updates(side.node))
}

/// Returns the operator of a side, or of all.
fn group_aggregate(cx: &Context<'_>, sides: &[AggregateInput], phase: Phase, side: &AggregateInput) -> GroupAggregate {
    GroupAggregate {
        keys: side.keys.clone(),
        aggregates: side.aggregates.clone(),
        emission: cx.emission(),
        state_ttl: cx.state_ttl(),
        phase,
        retracts: retracts(cx, sides),
    }
}

/// Returns the partial state columns of all calls, if the aggregate is to have two phases.
fn partial_states(cx: &Context<'_>, sides: &[AggregateInput]) -> Option<Vec<DataType>> {
    if cx.agg_phases() != AggregatePhases::Two {
        return None;
    }
    let retracts = retracts(cx, sides);
    // Rows whose group has expired are not taken back; a partial state does not tell them from others.
    if retracts && cx.state_ttl().is_some() {
        return None;
    }
    let calls = &sides.first()?.aggregates;
    let states = calls.iter().map(|call| partial_state(call, retracts));
    let mut columns: Vec<DataType> = states.collect::<Option<Vec<_>>>()?.concat();
    // The number of rows.
    columns.push(DataType::Int64);
    (!calls.is_empty()).then_some(columns)
}

/// Adds a local aggregate per side and the final one, and returns that.
fn local_and_final(
    cx: &mut Context<'_>,
    sides: &[AggregateInput],
    partial: &[DataType],
    output: Arc<Schema>,
) -> NodeIndex {
    let first = &sides[0];
    let key_count = first.keys.len();
    let (exchange, parallelism) = keyed_exchange((0..key_count).collect());
    let mut edges = Vec::with_capacity(sides.len());
    for side in sides {
        let mut fields = key_fields(&cx.schema(side.node), &side.keys);
        let states = partial.iter().enumerate();
        fields.extend(states.map(|(at, of)| Field::new(format!("state_{at}"), of.clone(), true)));
        let operator = Operator::GroupAggregate(GroupAggregate {
            retracts: cx.builder.has_updates(side.node),
            ..group_aggregate(cx, sides, Phase::Local, side)
        });
        let stream = plain_stream(Arc::new(Schema::new(fields)));
        let local = cx.add_after(side.node, "local-aggregate", operator, stream);
        edges.push(main_edge(local, &exchange));
    }
    // Conditions were evaluated by the local aggregate; all partial states count.
    let aggregates = first.aggregates.iter().map(|aggregate| Aggregate {
        function: aggregate.function.clone(),
        filter: None,
    });
    let operator = Operator::GroupAggregate(GroupAggregate {
        keys: (0..key_count).collect(),
        aggregates: aggregates.collect(),
        ..group_aggregate(cx, sides, Phase::Final, first)
    });
    cx.add("aggregate", operator, edges, plain_stream(output), parallelism)
}
