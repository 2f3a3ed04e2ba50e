//! The changelogs of a graph: the edges that carry updates and deletions, and the keys of their rows.
//!
//! The pass runs on the complete graph. Forward, each node tells whether its rows are updated and which keys identify
//! them ([`provided`]); backward, each node tells which changes it needs of its inputs ([`needs`]); then each node gets
//! the narrowest mode that all its consumers can do with ([`ChangelogMode`]), and its output the column of row kinds
//! ([`rewrite`]). A graph without updates stays as it is.

use millstream_connectors::{ChangelogSupport, Role, TableDefinition, registry};
use millstream_graph::{ChangelogMode, JobGraph, NodeIndex, Operator, Port};

use self::needs::Need;
use self::provided::{Key, Provided};
use crate::error::{Error, Location};

pub(super) use self::provided::{injective_column, is_append_only};

mod needs;
mod provided;
mod rewrite;

#[cfg(test)]
mod tests;

/// Returns the changes that a table accepts, or that it provides as a source.
pub(super) fn support(table: &TableDefinition, role: Role) -> ChangelogSupport {
    let connector = registry::find(table.connector());
    connector.map_or(ChangelogSupport::Append, |connector| connector.changelog(table, role))
}

/// Returns the upsert keys of the rows that arrive at a node with one input, if they are updated or deleted.
pub(super) fn keys_of_input(graph: &JobGraph, node: NodeIndex) -> Option<Vec<Key>> {
    provided::keys_of_input(graph, node)
}

/// Determines the changelogs of a graph. `locations` are the positions of errors, by node.
pub(super) fn plan(graph: &mut JobGraph, locations: &[Location]) -> Result<(), Vec<Error>> {
    let provided = provided::of_nodes(graph);
    let pass = Pass {
        graph,
        provided: &provided,
        locations,
    };
    let mut errors = Vec::new();
    let needs = pass.needs(&mut errors);
    let modes = pass.modes(&needs, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    rewrite::distribute_sinks(graph, &provided);
    if modes.iter().any(|mode| !mode.is_append()) {
        rewrite::add_kinds(graph, &modes, &provided);
        rewrite::unite(graph);
    }
    Ok(())
}

/// A graph whose changelogs are being determined.
struct Pass<'g> {
    graph: &'g JobGraph,
    provided: &'g [Provided],
    locations: &'g [Location],
}

impl Pass<'_> {
    /// Returns the mode of every node's main output, given what its consumers need.
    fn modes(&self, needs: &[Option<Need>], errors: &mut Vec<Error>) -> Vec<ChangelogMode> {
        let mut modes = vec![ChangelogMode::Append; self.graph.nodes.len()];
        for node in 0..self.graph.nodes.len() {
            modes[node] = self.mode(node, needs[node].as_ref(), &modes, errors);
        }
        modes
    }

    fn mode(
        &self,
        node: NodeIndex,
        need: Option<&Need>,
        modes: &[ChangelogMode],
        errors: &mut Vec<Error>,
    ) -> ChangelogMode {
        let Some(keys) = &self.provided[node].changes else {
            // A sink has the mode of its input.
            return match &self.graph.nodes[node].operator {
                Operator::Sink(_) => self.input_mode(node, modes),
                _ => ChangelogMode::Append,
            };
        };
        match &self.graph.nodes[node].operator {
            Operator::Source(source) => match (support(&source.table, Role::Source), keys.first()) {
                (ChangelogSupport::Append, _) => ChangelogMode::Append,
                (ChangelogSupport::Upsert, Some(key)) => ChangelogMode::Upsert(key.clone()),
                (ChangelogSupport::Upsert, None) | (ChangelogSupport::Retract, _) => ChangelogMode::Retract,
            },
            Operator::GroupAggregate(_)
            | Operator::ChangelogNormalize(_)
            | Operator::SinkMaterialize(_)
            | Operator::TopN(_) => match need {
                Some(Need::Upsert(key)) if keys.contains(key) => ChangelogMode::Upsert(key.clone()),
                _ => ChangelogMode::Retract,
            },
            Operator::Calc(calc) => {
                let mode = match (self.input_mode(node, modes), need) {
                    (ChangelogMode::Append, _) => ChangelogMode::Append,
                    (ChangelogMode::Upsert(_), Some(Need::Upsert(key))) => ChangelogMode::Upsert(key.clone()),
                    (ChangelogMode::Upsert(_) | ChangelogMode::Retract, _) => ChangelogMode::Retract,
                };
                if !mode.is_append()
                    && let Err(error) = self.check_volatile(node, calc, &mode)
                {
                    errors.push(error);
                }
                mode
            }
            // Its condition is that of joins, which were checked.
            Operator::MultiJoin(_) => ChangelogMode::Retract,
            Operator::Join(join) => {
                if let Err(error) = self.check_volatile_condition(node, join) {
                    errors.push(error);
                }
                ChangelogMode::Retract
            }
            Operator::WindowAssign(_) | Operator::Unnest(_) => ChangelogMode::Retract,
            // Their outputs are append-only.
            Operator::WindowAggregate(_)
            | Operator::WindowJoin(_)
            | Operator::TemporalJoin(_)
            | Operator::WindowTopN(_)
            | Operator::Sort(_)
            | Operator::DynamicFilter(_)
            | Operator::Sink(_) => ChangelogMode::Append,
        }
    }

    /// Returns the mode of a node's input: the widest of its edges.
    fn input_mode(&self, node: NodeIndex, modes: &[ChangelogMode]) -> ChangelogMode {
        let edges = self.graph.inputs(node).filter(|edge| edge.port == Port::Main);
        let mut widest = ChangelogMode::Append;
        for edge in edges {
            widest = match (widest, &modes[edge.from]) {
                (ChangelogMode::Append, mode) => mode.clone(),
                (mode, ChangelogMode::Append) => mode,
                (ChangelogMode::Upsert(key), ChangelogMode::Upsert(other)) if key == *other => {
                    ChangelogMode::Upsert(key)
                }
                _ => ChangelogMode::Retract,
            };
        }
        widest
    }

    fn error(&self, node: NodeIndex, message: String) -> Error {
        Error {
            location: self.locations.get(node).cloned().unwrap_or(Location::Unknown),
            message,
        }
    }
}

/// Returns the positions of a table's primary key, ascending.
pub(super) fn primary_key(table: &TableDefinition) -> Key {
    let positions = table.primary_key.iter().map(|name| table.schema.index_of(name));
    let mut positions: Key = positions.filter_map(Result::ok).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// Returns true if all elements of `inner` are in `outer`.
fn contains(outer: &[usize], inner: &[usize]) -> bool {
    inner.iter().all(|column| outer.contains(column))
}
