//! `ON CONFLICT`: the choice between rows of a query that have the same primary key of its table.
//!
//! Several rows of a query can have one primary key where that does not contain an upsert key of the query. A node
//! before the sink then keeps all of them, and passes one on.

use std::collections::HashMap;
use std::time::Duration;

use millstream_connectors::{ChangelogSupport, Role};
use millstream_graph::{
    ConflictStrategy, Edge, Emission, Exchange, JobGraph, Node, NodeIndex, Operator, OperatorId, Parallelism, Port,
    SinkMaterialize,
};

use super::changelog;
use super::relation::plain_stream;
use crate::error::{Error, Location};

/// The choice between rows of one primary key of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conflict {
    pub strategy: ConflictStrategy,
    /// True if the `INSERT` has `ON CONFLICT`.
    pub is_written: bool,
}

/// Properties of the nodes that choose between rows.
pub(super) struct ConflictState {
    pub emission: Emission,
    pub state_ttl: Option<Duration>,
}

/// Adds the nodes that choose between rows of one primary key. `locations` are the positions of errors, by node.
pub(super) fn materialize(
    graph: &mut JobGraph,
    locations: &mut Vec<Location>,
    conflicts: &HashMap<String, Conflict>,
    state: &ConflictState,
) -> Result<(), Vec<Error>> {
    if conflicts.is_empty() {
        return Ok(());
    }
    let mut errors = Vec::new();
    for node in 0..graph.nodes.len() {
        let Operator::Sink(sink) = &graph.nodes[node].operator else {
            continue;
        };
        let Some(conflict) = conflicts.get(&sink.table.name).copied() else {
            continue;
        };
        match primary_key(graph, node, conflict, state) {
            Ok(Some(keys)) => {
                locations.push(locations[node].clone());
                insert(
                    graph,
                    node,
                    SinkMaterialize {
                        keys,
                        strategy: conflict.strategy,
                        emission: state.emission,
                        state_ttl: state.state_ttl,
                    },
                );
            }
            Ok(None) => {}
            Err(message) => errors.push(Error {
                location: locations.get(node).cloned().unwrap_or(Location::Unknown),
                message,
            }),
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors),
    }
}

/// Returns the primary key of a sink if several rows can have one; an error is the message about an `ON CONFLICT`
/// without a meaning.
fn primary_key(
    graph: &JobGraph,
    node: NodeIndex,
    conflict: Conflict,
    state: &ConflictState,
) -> Result<Option<Vec<usize>>, String> {
    let Operator::Sink(sink) = &graph.nodes[node].operator else {
        return Ok(None);
    };
    let table = &sink.table;
    let primary_key = changelog::primary_key(table);
    let is_append_only =
        changelog::support(table, Role::Sink) == ChangelogSupport::Append && state.emission == Emission::Changes;
    if primary_key.is_empty() || is_append_only {
        let cause = match is_append_only {
            true => "it is append-only: write to a table of `upsert-kafka`, or of `print`",
            false => "it has none: declare PRIMARY KEY (...) NOT ENFORCED",
        };
        return match conflict.is_written {
            true => Err(format!(
                "ON CONFLICT chooses between rows with the same primary key of table `{}` ({}), but {cause}; or remove ON \
                 CONFLICT",
                table.name,
                table.connector()
            )),
            false => Ok(None),
        };
    }
    let needs_choice = match changelog::keys_of_input(graph, node) {
        Some(keys) => !keys
            .iter()
            .any(|key| key.iter().all(|column| primary_key.contains(column))),
        // A sink that is updated by key keeps the newest of append-only rows itself; others keep all rows.
        None => match conflict.strategy {
            ConflictStrategy::Error | ConflictStrategy::Nothing => true,
            ConflictStrategy::Deduplicate => {
                conflict.is_written && changelog::support(table, Role::Sink) != ChangelogSupport::Upsert
            }
        },
    };
    Ok(needs_choice.then_some(primary_key))
}

/// Puts a node before a sink, which becomes the last node: nothing reads it.
fn insert(graph: &mut JobGraph, sink: NodeIndex, materialize: SinkMaterialize) {
    let exchange = Exchange::Hash(materialize.keys.clone());
    let id = graph.nodes[sink].id.0.clone();
    let owner = id.rsplit_once('/').map_or(id.as_str(), |(owner, _)| owner);
    let node = Node {
        id: OperatorId(format!("{owner}/materialize")),
        operator: Operator::SinkMaterialize(materialize),
        output: plain_stream(graph.nodes[sink].output.schema.clone()),
        parallelism: Parallelism::Job,
    };
    let mut node_of_sink = std::mem::replace(&mut graph.nodes[sink], node);
    node_of_sink.parallelism = Parallelism::Job;
    graph.nodes.push(node_of_sink);
    for edge in graph.edges.iter_mut().filter(|edge| edge.to == sink) {
        edge.exchange = exchange.clone();
    }
    graph.edges.push(Edge {
        from: sink,
        port: Port::Main,
        to: graph.nodes.len() - 1,
        input: 0,
        exchange: Exchange::Forward,
    });
}
