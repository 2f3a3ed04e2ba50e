//! The nodes of an aggregate: a single one after an exchange by key, or a local one, an exchange, and a final one.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use millstream_graph::{
    Aggregate, Exchange, NodeIndex, Operator, Phase, Port, Stream, TimeAttribute, Window, WindowAggregate,
    WindowColumns,
};

use super::input::AggregateInput;
use crate::translate::builder::{InputEdge, keyed_exchange};
use crate::translate::context::{Context, Result};
use crate::translate::relation::plain_stream;

/// Adds the aggregate's nodes and returns the last one.
pub(in crate::translate) fn aggregate_nodes(
    cx: &mut Context<'_>,
    sides: Vec<AggregateInput>,
    two_phase: bool,
) -> Result<NodeIndex> {
    let first = sides.first().ok_or_else(|| cx.error("an aggregate over nothing"))?;
    let output = windowed(output_fields(cx, first));
    if two_phase {
        local_and_final(cx, &sides, output)
    } else {
        single(cx, &sides, output)
    }
}

/// Returns the columns of the keys and results of an aggregate.
pub(in crate::translate) fn output_fields(cx: &Context<'_>, input: &AggregateInput) -> Vec<Field> {
    let mut fields = key_fields(&cx.schema(input.node), &input.keys);
    for aggregate in &input.aggregates {
        let function = &aggregate.function;
        fields.push(Field::new(function.name(), function.field().data_type().clone(), true));
    }
    fields
}

fn single(cx: &mut Context<'_>, sides: &[AggregateInput], output: Stream) -> Result<NodeIndex> {
    let first = &sides[0];
    let (window, time) = window_of(cx, first)?;
    let (exchange, parallelism) = keyed_exchange(first.keys.clone());
    let operator = Operator::WindowAggregate(WindowAggregate {
        window,
        time,
        keys: first.keys.clone(),
        aggregates: first.aggregates.clone(),
        phase: Phase::Single,
        allowed_lateness: 0,
    });
    let edges = sides.iter().map(|side| main_edge(side.node, &exchange)).collect();
    let node = cx.add("aggregate", operator, edges, output, parallelism);
    if matches!(time, TimeAttribute::Event(_)) {
        let ports = cx.late.aggregates.entry(cx.scope.owner.clone()).or_default();
        if !ports.contains(&node) {
            ports.push(node);
        }
    }
    Ok(node)
}

fn local_and_final(cx: &mut Context<'_>, sides: &[AggregateInput], output: Stream) -> Result<NodeIndex> {
    let first = &sides[0];
    let key_count = first.keys.len();
    let (exchange, parallelism) = keyed_exchange((0..key_count).collect());
    let mut edges = Vec::with_capacity(sides.len());
    let mut partial = None;
    for side in sides {
        let mut fields = key_fields(&cx.schema(side.node), &side.keys);
        for aggregate in &side.aggregates {
            let states = cx.located(aggregate.function.state_fields())?;
            fields.extend(states.iter().map(|field| field.as_ref().clone().with_nullable(true)));
        }
        let stream = windowed(fields);
        partial = stream.window;
        let (window, time) = window_of(cx, side)?;
        let operator = Operator::WindowAggregate(WindowAggregate {
            window,
            time,
            keys: side.keys.clone(),
            aggregates: side.aggregates.clone(),
            phase: Phase::Local,
            allowed_lateness: 0,
        });
        let local = cx.add_after(side.node, "local-aggregate", operator, stream);
        edges.push(main_edge(local, &exchange));
    }
    let bounds = partial.ok_or_else(|| cx.error("an aggregate over nothing"))?;
    // Conditions were evaluated by the local aggregate; all partial states count.
    let aggregates = first.aggregates.iter().map(|aggregate| Aggregate {
        function: aggregate.function.clone(),
        filter: None,
    });
    let operator = Operator::WindowAggregate(WindowAggregate {
        window: match window_of(cx, first)?.0 {
            Window::Attached(_) => Window::Attached(bounds),
            other => other,
        },
        time: TimeAttribute::Event(bounds.end),
        keys: (0..key_count).collect(),
        aggregates: aggregates.collect(),
        phase: Phase::Final,
        allowed_lateness: 0,
    });
    Ok(cx.add("aggregate", operator, edges, output, parallelism))
}

fn window_of(cx: &Context<'_>, input: &AggregateInput) -> Result<(Window, TimeAttribute)> {
    input.window.ok_or_else(|| cx.error("an aggregate lost its window"))
}

pub(in crate::translate) fn main_edge(from: NodeIndex, exchange: &Exchange) -> InputEdge {
    InputEdge {
        from,
        port: Port::Main,
        input: 0,
        exchange: exchange.clone(),
    }
}

pub(in crate::translate) fn key_fields(schema: &Schema, keys: &[usize]) -> Vec<Field> {
    keys.iter()
        .map(|&key| schema.field(key).clone().with_nullable(true))
        .collect()
}

/// Returns a stream of these columns followed by the bounds of the rows' window.
fn windowed(mut fields: Vec<Field>) -> Stream {
    let start = fields.len();
    for name in ["window_start", "window_end"] {
        fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true));
    }
    Stream {
        window: Some(WindowColumns { start, end: start + 1 }),
        ..plain_stream(Arc::new(Schema::new(fields)))
    }
}
