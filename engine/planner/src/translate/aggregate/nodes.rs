//! The nodes of an aggregate: one where rows are exchanged by key, or a local one, the exchange, and one that merges.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};

use super::input::Side;
use crate::translate::builder::InputEdge;
use crate::translate::{Result, Translator, keyed_exchange};
use millstream_graph::{
    Aggregate, Exchange, NodeIndex, Operator, Phase, Port, Stream, TimeAttribute, Window, WindowAggregate,
    WindowColumns,
};

impl Translator<'_> {
    /// Adds the aggregate's nodes; the last one's index.
    pub(super) fn aggregate_nodes(&mut self, sides: Vec<Side>, two_phase: bool) -> Result<NodeIndex> {
        let first = sides.first().ok_or_else(|| self.error("an aggregate over nothing"))?;
        let schema = self.schema(first.node);
        let mut fields = key_fields(&schema, &first.keys);
        for aggregate in &first.aggregates {
            let function = &aggregate.function;
            fields.push(Field::new(function.name(), function.field().data_type().clone(), true));
        }
        if two_phase {
            self.local_and_final(&sides, windowed(fields))
        } else {
            self.single(&sides, windowed(fields))
        }
    }

    fn single(&mut self, sides: &[Side], output: Stream) -> Result<NodeIndex> {
        let first = &sides[0];
        let (exchange, parallelism) = keyed_exchange(first.keys.clone());
        let operator = Operator::WindowAggregate(WindowAggregate {
            window: first.window,
            time: first.time,
            keys: first.keys.clone(),
            aggregates: first.aggregates.clone(),
            phase: Phase::Single,
            allowed_lateness: 0,
        });
        let edges = sides.iter().map(|side| main_edge(side.node, &exchange)).collect();
        let owner = self.scope.owner.clone();
        let node = self
            .builder
            .add(&owner, "aggregate", operator, edges, output, parallelism);
        if matches!(first.time, TimeAttribute::Event(_)) {
            let ports = self.late_ports.entry(owner).or_default();
            if !ports.contains(&node) {
                ports.push(node);
            }
        }
        Ok(node)
    }

    fn local_and_final(&mut self, sides: &[Side], output: Stream) -> Result<NodeIndex> {
        let owner = self.scope.owner.clone();
        let first = &sides[0];
        let key_count = first.keys.len();
        let (exchange, parallelism) = keyed_exchange((0..key_count).collect());
        let mut edges = Vec::with_capacity(sides.len());
        let mut partial = None;
        for side in sides {
            let mut fields = key_fields(&self.schema(side.node), &side.keys);
            for aggregate in &side.aggregates {
                let states = self.located(aggregate.function.state_fields())?;
                fields.extend(states.iter().map(|field| field.as_ref().clone().with_nullable(true)));
            }
            let stream = windowed(fields);
            partial = stream.window;
            let operator = Operator::WindowAggregate(WindowAggregate {
                window: side.window,
                time: side.time,
                keys: side.keys.clone(),
                aggregates: side.aggregates.clone(),
                phase: Phase::Local,
                allowed_lateness: 0,
            });
            let own = self.builder.nodes[side.node].parallelism;
            let edge = self.builder.unkeyed_edge(side.node, 0, own);
            let local = self
                .builder
                .add(&owner, "local-aggregate", operator, vec![edge], stream, own);
            edges.push(main_edge(local, &exchange));
        }
        let bounds = partial.ok_or_else(|| self.error("an aggregate over nothing"))?;
        // Conditions have done their work on the rows; partial states all count.
        let aggregates = first.aggregates.iter().map(|aggregate| Aggregate {
            function: aggregate.function.clone(),
            filter: None,
        });
        let operator = Operator::WindowAggregate(WindowAggregate {
            window: match first.window {
                Window::Attached(_) => Window::Attached(bounds),
                other => other,
            },
            time: TimeAttribute::Event(bounds.end),
            keys: (0..key_count).collect(),
            aggregates: aggregates.collect(),
            phase: Phase::Final,
            allowed_lateness: 0,
        });
        Ok(self
            .builder
            .add(&owner, "aggregate", operator, edges, output, parallelism))
    }
}

fn main_edge(from: NodeIndex, exchange: &Exchange) -> InputEdge {
    InputEdge {
        from,
        port: Port::Main,
        input: 0,
        exchange: exchange.clone(),
    }
}

fn key_fields(schema: &Schema, keys: &[usize]) -> Vec<Field> {
    keys.iter()
        .map(|&key| schema.field(key).clone().with_nullable(true))
        .collect()
}

/// These columns, then the bounds of the rows' window.
fn windowed(mut fields: Vec<Field>) -> Stream {
    let start = fields.len();
    for name in ["window_start", "window_end"] {
        fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true));
    }
    Stream {
        schema: Arc::new(Schema::new(fields)),
        event_time: None,
        window: Some(WindowColumns { start, end: start + 1 }),
    }
}
