//! Changes of a graph whose changelogs are known: the columns of row kinds, and the exchanges that keep the changes of
//! a row in order.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::projection::ProjectionExpr;
use millstream_connectors::changelog::{is_changelog, kind_field};
use millstream_connectors::{ChangelogSupport, KIND_COLUMN, Role, RowKind};
use millstream_graph::{
    Calc, ChangelogMode, Edge, ErrorPolicy, Exchange, JobGraph, Node, NodeIndex, Operator, OperatorId, Parallelism,
    Port,
};

use super::provided::{Provided, sink_key};
use super::{contains, support};
use crate::translate::relation::{all_columns, plain_stream};

/// Distributes the rows of sinks by primary key where they are updated, so that one subtask writes all changes of a
/// row.
pub(super) fn distribute_sinks(graph: &mut JobGraph, provided: &[Provided]) {
    for node in 0..graph.nodes.len() {
        let Operator::Sink(sink) = &graph.nodes[node].operator else {
            continue;
        };
        let is_changed = |edge: &Edge| edge.port == Port::Main && provided[edge.from].changes.is_some();
        let has_changes = graph.inputs(node).any(is_changed);
        let is_by_key = support(&sink.table, Role::Sink) == ChangelogSupport::Upsert;
        if !has_changes && !is_by_key {
            continue;
        }
        let primary_key = sink_key(&graph.nodes[node].operator);
        let (nodes, edges) = (&graph.nodes, &mut graph.edges);
        if nodes[node].parallelism == Parallelism::One {
            continue;
        }
        let mut is_single = false;
        for edge in edges
            .iter_mut()
            .filter(|edge| edge.to == node && edge.port == Port::Main)
        {
            let rows = &provided[edge.from];
            let is_spread = nodes[edge.from].parallelism == Parallelism::Job;
            if !primary_key.is_empty() {
                let is_ordered = rows.distribution.as_ref().is_some_and(|of| contains(&primary_key, of));
                if !(is_spread && is_ordered) {
                    edge.exchange = Exchange::Hash(primary_key.clone());
                }
            } else if !is_spread && let Some(keys) = &rows.changes {
                match keys.iter().find(|key| !key.is_empty()) {
                    Some(key) => edge.exchange = Exchange::Hash(key.clone()),
                    None => is_single = true,
                }
            }
        }
        if is_single {
            make_single(graph, node);
        }
    }
}

/// Gives a node one subtask: there is no key to distribute its rows by.
fn make_single(graph: &mut JobGraph, node: NodeIndex) {
    graph.nodes[node].parallelism = Parallelism::One;
    let (nodes, edges) = (&graph.nodes, &mut graph.edges);
    for edge in edges.iter_mut().filter(|edge| edge.to == node) {
        edge.exchange = match nodes[edge.from].parallelism {
            Parallelism::One => Exchange::Forward,
            Parallelism::Job => Exchange::Rebalance,
        };
    }
}

/// Sets the modes and keys of all outputs, and appends the column of row kinds to those that are not append-only.
pub(super) fn add_kinds(graph: &mut JobGraph, modes: &[ChangelogMode], provided: &[Provided]) {
    for ((node, mode), rows) in graph.nodes.iter_mut().zip(modes).zip(provided) {
        if mode.is_append() {
            continue;
        }
        node.output.changelog = mode.clone();
        node.output.upsert_keys = rows.changes.clone().unwrap_or_default();
        node.output.schema = with_kind(&node.output.schema);
    }
    for (index, mode) in modes.iter().enumerate() {
        if mode.is_append() {
            continue;
        }
        let input = graph.input_schema(index, 0);
        match &mut graph.nodes[index].operator {
            Operator::Source(source) => {
                let width = source.projection.len();
                if let Some(calc) = &mut source.calc {
                    calc.projection.push(kind_at(width));
                }
            }
            Operator::Calc(calc) => {
                let width = input.map_or(0, |schema| schema.fields().len());
                calc.projection.push(kind_at(width.saturating_sub(1)));
            }
            Operator::TopN(top) => {
                // The order of arrival of changes says nothing about their rows.
                let has_changes = input.is_some_and(|schema| is_changelog(&schema));
                top.prefers_last &= !has_changes;
            }
            // They append the kinds of their rows themselves.
            Operator::GroupAggregate(_)
            | Operator::ChangelogNormalize(_)
            | Operator::SinkMaterialize(_)
            | Operator::Join(_)
            | Operator::MultiJoin(_) => {}
            Operator::WindowAssign(_)
            | Operator::Unnest(_)
            | Operator::WindowAggregate(_)
            | Operator::WindowJoin(_)
            | Operator::TemporalJoin(_)
            | Operator::WindowTopN(_)
            | Operator::Sort(_)
            | Operator::DynamicFilter(_)
            | Operator::Sink(_) => {}
        }
    }
}

/// Gives inputs that several edges feed the same columns: append-only rows become insertions where others are changes.
pub(super) fn unite(graph: &mut JobGraph) {
    let mixed: Vec<usize> = (0..graph.edges.len())
        .filter(|&index| {
            let edge = &graph.edges[index];
            let mut others = graph.inputs(edge.to).filter(|other| other.input == edge.input);
            !is_changes(graph, edge) && others.any(|other| is_changes(graph, other))
        })
        .collect();
    if mixed.is_empty() {
        return;
    }
    let schemas = mixed.iter().map(|&index| graph.edge_schema(&graph.edges[index]));
    let schemas: Vec<SchemaRef> = schemas.collect();
    let old = std::mem::take(&mut graph.nodes);
    let mut names: HashSet<OperatorId> = old.iter().map(|node| node.id.clone()).collect();
    let mut added: Vec<(usize, Node)> = Vec::new();
    for (&index, schema) in mixed.iter().zip(&schemas) {
        let edge = &graph.edges[index];
        let id = unique_id(&old[edge.to].id, &mut names);
        added.push((index, insertions(id, schema, old[edge.from].parallelism)));
    }
    // Nodes stay in topological order: a new one directly precedes its consumer.
    let mut new_index = vec![0; old.len()];
    let mut nodes = Vec::with_capacity(old.len() + added.len());
    let mut inserted = Vec::new();
    for (index, node) in old.into_iter().enumerate() {
        let mut rest = Vec::new();
        for (edge, calc) in added {
            if graph.edges[edge].to == index {
                inserted.push((edge, nodes.len()));
                nodes.push(calc);
            } else {
                rest.push((edge, calc));
            }
        }
        added = rest;
        new_index[index] = nodes.len();
        nodes.push(node);
    }
    let mut edges = Vec::with_capacity(graph.edges.len() + inserted.len());
    for (index, edge) in graph.edges.drain(..).enumerate() {
        let (from, to) = (new_index[edge.from], new_index[edge.to]);
        let Some((_, calc)) = inserted.iter().find(|(of, _)| *of == index) else {
            edges.push(Edge { from, to, ..edge });
            continue;
        };
        edges.push(Edge {
            from,
            port: edge.port,
            to: *calc,
            input: 0,
            exchange: Exchange::Forward,
        });
        edges.push(Edge {
            from: *calc,
            port: Port::Main,
            to,
            ..edge
        });
    }
    graph.nodes = nodes;
    graph.edges = edges;
}

fn is_changes(graph: &JobGraph, edge: &Edge) -> bool {
    edge.port == Port::Main && is_changelog(&graph.nodes[edge.from].output.schema)
}

/// Returns a node that makes an insertion of each row.
fn insertions(id: OperatorId, input: &SchemaRef, parallelism: Parallelism) -> Node {
    let columns = all_columns(input, input.fields().len());
    let mut projection: Vec<ProjectionExpr> = columns
        .into_iter()
        .zip(input.fields())
        .map(|(expr, field)| ProjectionExpr {
            expr,
            alias: field.name().clone(),
        })
        .collect();
    projection.push(ProjectionExpr {
        expr: Arc::new(Literal::new(ScalarValue::Int8(Some(RowKind::Insert as i8)))),
        alias: KIND_COLUMN.to_owned(),
    });
    let mut output = plain_stream(with_kind(input));
    output.changelog = ChangelogMode::Retract;
    Node {
        id,
        operator: Operator::Calc(Calc {
            filter: None,
            projection,
            on_error: ErrorPolicy::default(),
        }),
        output,
        parallelism,
    }
}

/// Returns a free name for a node before the node of this name.
fn unique_id(consumer: &OperatorId, names: &mut HashSet<OperatorId>) -> OperatorId {
    let owner = consumer
        .0
        .rsplit_once('/')
        .map_or(consumer.0.as_str(), |(owner, _)| owner);
    let base = format!("{owner}/insertions");
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let id = std::iter::once(base.clone())
        .chain(numbered)
        .map(OperatorId)
        .find(|id| !names.contains(id))
        .expect("the numbers do not end");
    names.insert(id.clone());
    id
}

fn kind_at(index: usize) -> ProjectionExpr {
    ProjectionExpr {
        expr: Arc::new(Column::new(KIND_COLUMN, index)),
        alias: KIND_COLUMN.to_owned(),
    }
}

fn with_kind(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().cloned();
    Arc::new(Schema::new(fields.chain([Arc::new(kind_field())]).collect::<Vec<_>>()))
}
