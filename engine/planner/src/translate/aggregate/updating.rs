//! `GROUP BY`, `SELECT DISTINCT` and `UNION` without a window: the result is updated with each row of the input.
//!
//! A batch job emits the result once, at the end of its input.

use std::sync::Arc;

use arrow_schema::Schema;
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{GroupAggregate, Operator};

use super::input::aggregate_inputs;
use super::nodes::{main_edge, output_fields};
use super::{Call, Grouping, Key};
use crate::translate::builder::keyed_exchange;
use crate::translate::context::{Context, Result};
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
    let (exchange, parallelism) = keyed_exchange(first.keys.clone());
    let operator = Operator::GroupAggregate(GroupAggregate {
        keys: first.keys.clone(),
        aggregates: first.aggregates.clone(),
        emission: cx.emission(),
        state_ttl: cx.pipeline.state_ttl,
    });
    let edges = sides.iter().map(|side| main_edge(side.node, &exchange)).collect();
    let node = cx.add("aggregate", operator, edges, plain_stream(schema.clone()), parallelism);

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
