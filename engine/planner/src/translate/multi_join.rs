//! Merges chains of inner joins by one key into one operator.
//!
//! `A JOIN B ON a = b JOIN C ON a = c` would keep the rows of `A JOIN B` in the second join, beside those of A and B in
//! the first. One operator with three inputs keeps the rows of A, B and C only. Joins are merged if nothing else reads
//! the inner one, if the columns that the outer one compares are key columns of the inner one, and if all rows live
//! equally long. The pass runs before nodes that no sink needs are removed, so it leaves the inner join behind.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::conjunction_opt;
use millstream_graph::{Calc, Edge, Exchange, Join, MultiJoin, Node, NodeIndex, Operator, Port};

use super::relation::{bare_column, substitute};

/// Most inputs of one operator: collections have numbers of a byte.
const INPUTS_MAX: usize = 64;

/// One side of a join: the inputs that its rows are combined of.
struct Part {
    /// Edges into each input.
    inputs: Vec<Vec<Edge>>,
    /// Names of the columns of each input.
    names: Vec<Vec<String>>,
    /// By input: the key columns, in the order of the outer join's.
    keys: Vec<Vec<usize>>,
    /// The input, and the column there, of each column of the side.
    columns: Vec<(usize, usize)>,
    /// Condition over the columns of all inputs.
    filter: Option<PhysicalExprRef>,
}

/// Merges joins of a graph that is not finished.
pub(super) fn merge(nodes: &mut [Node], edges: &mut Vec<Edge>) {
    for node in 0..nodes.len() {
        let Operator::Join(join) = &nodes[node].operator else {
            continue;
        };
        if !is_mergeable(join) {
            continue;
        }
        let join = join.clone();
        let graph = Graph { nodes, edges };
        let sides = [0, 1].map(|side| graph.merged_side(node, side, &join));
        if sides.iter().all(Option::is_none) {
            continue;
        }
        let merged = sides.into_iter().enumerate();
        let parts: Option<Vec<Part>> = merged
            .map(|(side, part)| part.or_else(|| graph.plain_side(node, side, &join)))
            .collect();
        let Some((operator, inputs)) = parts.and_then(|parts| combined(&join, parts)) else {
            continue;
        };
        nodes[node].operator = Operator::MultiJoin(operator);
        edges.retain(|edge| edge.to != node);
        edges.extend(inputs.into_iter().map(|edge| Edge { to: node, ..edge }));
    }
}

fn is_mergeable(join: &Join) -> bool {
    join.join_type == JoinType::Inner
        && join.bounds.is_none()
        && !join.nulls_are_equal
        && !join.on.is_empty()
        && join.state_ttl[0] == join.state_ttl[1]
}

struct Graph<'g> {
    nodes: &'g [Node],
    edges: &'g [Edge],
}

impl Graph<'_> {
    fn inputs(&self, node: NodeIndex, input: usize) -> Vec<Edge> {
        let edges = self.edges.iter().filter(|edge| edge.to == node && edge.input == input);
        edges.cloned().collect()
    }

    /// Returns the only node that feeds an input, if nothing else reads it.
    fn only_source(&self, node: NodeIndex, input: usize) -> Option<NodeIndex> {
        let edges = self.inputs(node, input);
        let [edge] = edges.as_slice() else { return None };
        let readers = self.edges.iter().filter(|other| other.from == edge.from).count();
        (edge.port == Port::Main && readers == 1).then_some(edge.from)
    }

    /// Returns the names of the columns of an input.
    fn names(&self, edges: &[Edge]) -> Option<Vec<String>> {
        let fields = self.nodes[edges.first()?.from].output.schema.fields();
        Some(fields.iter().map(|field| field.name().clone()).collect())
    }

    /// Returns a side as one input.
    fn plain_side(&self, node: NodeIndex, side: usize, join: &Join) -> Option<Part> {
        let inputs = self.inputs(node, side);
        let names = self.names(&inputs)?;
        Some(Part {
            inputs: vec![inputs],
            columns: (0..names.len()).map(|column| (0, column)).collect(),
            names: vec![names],
            keys: vec![on(join, side)],
            filter: None,
        })
    }

    /// Returns a side as the inputs of the join that feeds it; `None` if that cannot be merged.
    fn merged_side(&self, node: NodeIndex, side: usize, join: &Join) -> Option<Part> {
        let mut from = self.only_source(node, side)?;
        let width = self.nodes[from].output.schema.fields().len();
        // The column of the inner join that each column of the side is.
        let mut origins: Vec<Option<usize>> = (0..width).map(Some).collect();
        while let Operator::Calc(calc) = &self.nodes[from].operator {
            let Calc {
                filter: None,
                projection,
                on_error: _,
            } = calc
            else {
                return None;
            };
            for origin in &mut origins {
                *origin = origin.and_then(|column| bare_column(&projection.get(column)?.expr));
            }
            from = self.only_source(from, 0)?;
        }
        let mut part = self.inner(from, join)?;
        let columns = origins.iter().map(|origin| part.columns.get((*origin)?).copied());
        // All columns of the side must be columns of the inputs.
        let columns: Vec<(usize, usize)> = columns.collect::<Option<_>>()?;
        let positions = key_positions(&part, &on(join, side), &columns)?;
        part.keys = part
            .keys
            .iter()
            .map(|key| positions.iter().map(|position| key[*position]).collect())
            .collect();
        part.columns = columns;
        Some(part)
    }

    /// Returns the inputs of a join whose rows live as long as those of the outer `join`.
    fn inner(&self, node: NodeIndex, join: &Join) -> Option<Part> {
        let (keys, filter, output) = match &self.nodes[node].operator {
            Operator::Join(inner)
                if is_mergeable(inner) && inner.state_ttl == join.state_ttl && inner.emission == join.emission =>
            {
                (vec![on(inner, 0), on(inner, 1)], inner.filter.clone(), None)
            }
            Operator::MultiJoin(inner) if [inner.state_ttl; 2] == join.state_ttl && inner.emission == join.emission => {
                (inner.keys.clone(), inner.filter.clone(), Some(inner.output.clone()))
            }
            _ => return None,
        };
        let inputs: Vec<Vec<Edge>> = (0..keys.len()).map(|input| self.inputs(node, input)).collect();
        let names: Vec<Vec<String>> = inputs.iter().map(|edges| self.names(edges)).collect::<Option<_>>()?;
        let all = || {
            let inputs = names.iter().enumerate();
            inputs.flat_map(|(input, names)| (0..names.len()).map(move |column| (input, column)))
        };
        Some(Part {
            columns: output.unwrap_or_else(|| all().collect()),
            inputs,
            names,
            keys,
            filter,
        })
    }
}

fn on(join: &Join, side: usize) -> Vec<usize> {
    let columns = join.on.iter().map(|pair| if side == 0 { pair.0 } else { pair.1 });
    columns.collect()
}

/// Returns, for each column that the outer join compares, the position among the keys of the inner one; `None` unless
/// all of these are compared, once each.
fn key_positions(part: &Part, on: &[usize], columns: &[(usize, usize)]) -> Option<Vec<usize>> {
    let count = part.keys.first()?.len();
    let mut is_used = vec![false; count];
    let positions = on.iter().map(|column| {
        let (input, column) = *columns.get(*column)?;
        let position = part.keys[input].iter().position(|key| *key == column)?;
        (!std::mem::replace(&mut is_used[position], true)).then_some(position)
    });
    let positions: Vec<usize> = positions.collect::<Option<_>>()?;
    (positions.len() == count).then_some(positions)
}

/// Returns the operator of a join of these sides, and the edges of its inputs.
fn combined(join: &Join, parts: Vec<Part>) -> Option<(MultiJoin, Vec<Edge>)> {
    let names: Vec<&[String]> = parts
        .iter()
        .flat_map(|part| part.names.iter().map(Vec::as_slice))
        .collect();
    if names.len() > INPUTS_MAX {
        return None;
    }
    let first_input: Vec<usize> = vec![0, parts[0].inputs.len()];
    let first_column = |input: usize| names[..input].iter().map(|names| names.len()).sum::<usize>();
    let all_names = names.concat();
    let output: Vec<(usize, usize)> = parts
        .iter()
        .zip(&first_input)
        .flat_map(|(part, first)| part.columns.iter().map(move |(input, column)| (first + input, *column)))
        .collect();
    let mut filters = Vec::new();
    for (part, first) in parts.iter().zip(&first_input) {
        if let Some(filter) = &part.filter {
            filters.push(moved(filter, &all_names, &|column| {
                Some(column + first_column(*first))
            })?);
        }
    }
    if let Some(filter) = &join.filter {
        let place = |column: usize| {
            let (input, column) = *output.get(column)?;
            Some(first_column(input) + column)
        };
        filters.push(moved(filter, &all_names, &place)?);
    }
    let mut keys = Vec::new();
    let mut edges = Vec::new();
    for (part, first) in parts.into_iter().zip(first_input) {
        for (input, (key, of_input)) in part.keys.into_iter().zip(part.inputs).enumerate() {
            edges.extend(of_input.into_iter().map(|edge| Edge {
                input: first + input,
                exchange: Exchange::Hash(key.clone()),
                ..edge
            }));
            keys.push(key);
        }
    }
    let operator = MultiJoin {
        keys,
        filter: conjunction_opt(filters),
        output,
        emission: join.emission,
        state_ttl: join.state_ttl[0],
    };
    Some((operator, edges))
}

/// Returns an expression over other columns, which have these names.
fn moved(expr: &PhysicalExprRef, names: &[String], place: &dyn Fn(usize) -> Option<usize>) -> Option<PhysicalExprRef> {
    let replacement = |column: usize| -> Option<PhysicalExprRef> {
        let place = place(column)?;
        Some(Arc::new(Column::new(names.get(place)?, place)))
    };
    substitute(expr, &replacement).ok()
}
