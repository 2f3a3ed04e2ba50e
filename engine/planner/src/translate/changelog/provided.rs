//! Changes that nodes provide, from sources to sinks.

use arrow_schema::{DataType, Schema};
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::CastExpr;
use itertools::Itertools;
use millstream_connectors::{ChangelogSupport, Role};
use millstream_graph::{
    Calc, Edge, Emission, Exchange, JobGraph, Join, MultiJoin, NodeIndex, Operator, Parallelism, Phase, Port,
    RankFunction, TopN,
};

use super::{contains, primary_key, support};
use crate::translate::relation::bare_column;

/// Indices of columns, ascending.
pub(super) type Key = Vec<usize>;

/// Most keys of a projection that outputs a key column several times.
const KEYS_MAX: usize = 8;

/// Properties of the rows of a node's main output.
#[derive(Debug, Clone, Default)]
pub(super) struct Provided {
    /// Upsert keys, if rows are updated or deleted; `None` if the output is append-only.
    pub changes: Option<Vec<Key>>,
    /// Columns that determine the subtask of a row; `None` if it depends on something else.
    pub distribution: Option<Key>,
}

/// Returns the properties of every node's rows.
pub(super) fn of_nodes(graph: &JobGraph) -> Vec<Provided> {
    let mut provided: Vec<Provided> = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut rows = of_node(graph, index, &provided);
        if node.parallelism == Parallelism::One {
            rows.distribution = Some(Vec::new());
        }
        provided.push(rows);
    }
    provided
}

fn of_node(graph: &JobGraph, node: NodeIndex, provided: &[Provided]) -> Provided {
    let operator = &graph.nodes[node].operator;
    match operator {
        Operator::Source(source) => {
            let output = &graph.nodes[node].output.schema;
            let positions = source.table.primary_key.iter().map(|name| output.index_of(name).ok());
            let key: Option<Key> = positions.collect();
            let key = key.filter(|key| !key.is_empty()).map(sorted);
            Provided {
                changes: match support(&source.table, Role::Source) {
                    ChangelogSupport::Append => None,
                    ChangelogSupport::Upsert | ChangelogSupport::Retract => Some(key.into_iter().collect()),
                },
                distribution: None,
            }
        }
        Operator::Calc(calc) => {
            let input = of_input(graph, node, 0, provided);
            let schema = graph.input_schema(node, 0);
            let schema = schema.as_deref().cloned().unwrap_or_else(Schema::empty);
            let changes = input.changes.map(|keys| {
                let mapped = keys.iter().flat_map(|key| projected(key, calc, &schema));
                mapped.take(KEYS_MAX).collect()
            });
            let distribution = input.distribution;
            Provided {
                changes,
                distribution: distribution.and_then(|columns| projected(&columns, calc, &schema).into_iter().next()),
            }
        }
        // A row is identified by its key and the end of its window, the last column but one.
        Operator::WindowAssign(_) => {
            let input = of_input(graph, node, 0, provided);
            let window_end = graph.nodes[node].output.schema.fields().len().saturating_sub(2);
            let in_window = |key: Key| sorted(key.into_iter().chain([window_end]).collect());
            Provided {
                changes: input.changes.map(|keys| keys.into_iter().map(in_window).collect()),
                ..input
            }
        }
        // A row is identified by its key and the position of the element, or the key of a map.
        Operator::Unnest(unnest) => {
            let input = of_input(graph, node, 0, provided);
            let width = graph.nodes[node].output.schema.fields().len();
            let kept = |column: &usize| unnest.kept.iter().position(|kept| kept == column);
            let of_map = || {
                let schema = graph.input_schema(node, 0)?;
                let collection = schema.field(unnest.collection).data_type();
                matches!(collection, DataType::Map(..)).then_some(unnest.kept.len())
            };
            let element = if unnest.with_ordinality {
                Some(width - 1)
            } else {
                of_map()
            };
            let moved = |key: &Key| -> Option<Key> { key.iter().map(kept).collect() };
            let of_element = |key: &Key| Some(sorted(moved(key)?.into_iter().chain([element?]).collect()));
            Provided {
                changes: input.changes.map(|keys| keys.iter().filter_map(of_element).collect()),
                distribution: input.distribution.as_ref().and_then(moved),
            }
        }
        // Its input is append-only, and its columns are those of the input and more.
        Operator::DynamicFilter(_) => Provided {
            changes: None,
            ..of_input(graph, node, 0, provided)
        },
        Operator::WindowAggregate(aggregate) => Provided {
            changes: None,
            distribution: (aggregate.phase != Phase::Local).then(|| (0..aggregate.keys.len()).collect()),
        },
        // Partial states are no changes.
        Operator::GroupAggregate(aggregate) if aggregate.phase == Phase::Local => Provided::default(),
        Operator::GroupAggregate(aggregate) => {
            let key: Key = (0..aggregate.keys.len()).collect();
            Provided {
                changes: emitted(aggregate.emission, &key),
                distribution: Some(key),
            }
        }
        Operator::ChangelogNormalize(normalize) => {
            let key = sorted(normalize.keys.clone());
            Provided {
                changes: emitted(normalize.emission, &key),
                distribution: Some(key),
            }
        }
        Operator::SinkMaterialize(materialize) => Provided {
            changes: emitted(materialize.emission, &materialize.keys),
            distribution: Some(materialize.keys.clone()),
        },
        Operator::TopN(top) => {
            let input = of_input(graph, node, 0, provided);
            let columns = graph.input_schema(node, 0).map_or(0, |schema| schema.fields().len());
            let partition = sorted(top.partition.clone());
            let is_append = top.emission == Emission::Final || (input.changes.is_none() && top.keeps_first_to_come());
            Provided {
                changes: (!is_append).then(|| top_n_keys(top, &partition, columns, input.changes)),
                distribution: Some(partition),
            }
        }
        Operator::WindowTopN(top) => Provided {
            changes: None,
            distribution: Some(sorted(top.partition.clone())),
        },
        Operator::Join(join) => {
            let inputs = [0, 1].map(|input| of_input(graph, node, input, provided));
            let left = graph.input_schema(node, 0);
            joined(join, inputs, left.map_or(0, |schema| schema.fields().len()))
        }
        Operator::MultiJoin(join) => {
            let inputs = (0..join.keys.len()).map(|input| of_input(graph, node, input, provided));
            multi_joined(join, inputs.collect())
        }
        // The left input and the output are append-only.
        Operator::TemporalJoin(join) => Provided {
            changes: None,
            distribution: Some(sorted(join.on.iter().map(|pair| pair.0).collect())),
        },
        Operator::WindowJoin(_) | Operator::Sort(_) | Operator::Sink(_) => Provided::default(),
    }
}

/// Returns true if the output of an operator is append-only. `inputs` tells which of its inputs are.
pub(in crate::translate) fn is_append_only(operator: &Operator, inputs: [bool; 2]) -> bool {
    match operator {
        Operator::Source(source) => support(&source.table, Role::Source) == ChangelogSupport::Append,
        Operator::Calc(_)
        | Operator::WindowAssign(_)
        | Operator::Unnest(_)
        | Operator::DynamicFilter(_)
        | Operator::Sink(_) => inputs[0],
        Operator::WindowAggregate(_)
        | Operator::WindowJoin(_)
        | Operator::WindowTopN(_)
        | Operator::Sort(_)
        | Operator::TemporalJoin(_) => true,
        Operator::GroupAggregate(aggregate) => aggregate.emission == Emission::Final || aggregate.phase == Phase::Local,
        Operator::ChangelogNormalize(normalize) => normalize.emission == Emission::Final,
        Operator::SinkMaterialize(materialize) => materialize.emission == Emission::Final,
        Operator::TopN(top) => top.emission == Emission::Final || (top.keeps_first_to_come() && inputs[0]),
        Operator::MultiJoin(join) => join.emission == Emission::Final || inputs == [true, true],
        Operator::Join(join) => {
            // Further rows add results, and change none.
            let is_monotonic = matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi);
            join.emission == Emission::Final || join.bounds.is_some() || (is_monotonic && inputs == [true, true])
        }
    }
}

/// Returns the properties of the rows of a join whose left input has `width` columns.
fn joined(join: &Join, inputs: [Provided; 2], width: usize) -> Provided {
    let on_left = sorted(join.on.iter().map(|pair| pair.0).collect());
    let on_right = sorted(join.on.iter().map(|pair| pair.1).collect());
    let moved = |key: &Key| -> Key { key.iter().map(|column| column + width).collect() };
    let is_append = inputs.each_ref().map(|input| input.changes.is_none());
    let [left, right] = inputs.map(|input| input.changes.unwrap_or_default());
    // True if at most one row of a side has a join key.
    let is_left_unique = left.iter().any(|key| contains(&on_left, key));
    let is_right_unique = right.iter().any(|key| contains(&on_right, key));
    let right: Vec<Key> = right.iter().map(moved).collect();
    let both = || {
        let pairs = left.iter().flat_map(|key| right.iter().map(move |other| (key, other)));
        pairs
            .map(|(key, other)| sorted([key.as_slice(), other].concat()))
            .collect()
    };
    let keys: Vec<Key> = match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti => left,
        JoinType::Inner if is_left_unique && is_right_unique => left.into_iter().chain(right).collect(),
        JoinType::Inner | JoinType::Left if is_right_unique => left,
        JoinType::Inner | JoinType::Right if is_left_unique => right,
        JoinType::Inner | JoinType::Left | JoinType::Right => both(),
        // A row of each side without a match may have the same NULLs.
        _ => Vec::new(),
    };
    let keys = match join.join_type {
        JoinType::Inner => with_equal_columns(keys, join, width),
        _ => keys,
    };
    let distribution = match join.join_type {
        JoinType::Full => None,
        JoinType::Right => Some(moved(&on_right)),
        _ => Some(on_left),
    };
    let is_append = is_append_only(&Operator::Join(join.clone()), is_append);
    Provided {
        changes: (!is_append).then_some(keys),
        distribution,
    }
}

/// Returns the properties of the rows of a join of several inputs.
fn multi_joined(join: &MultiJoin, inputs: Vec<Provided>) -> Provided {
    // Equal columns of other inputs identify rows, too.
    let output = |input: usize, column: usize| -> Option<usize> {
        let is_output = |place: (usize, usize)| join.output.iter().position(|output| *output == place);
        let key = join.keys[input].iter().position(|key| *key == column);
        let equal = key.into_iter().flat_map(|key| {
            join.keys
                .iter()
                .enumerate()
                .map(move |(other, keys)| (other, keys[key]))
        });
        is_output((input, column)).or_else(|| equal.filter_map(is_output).next())
    };
    let mapped = |input: usize, key: &Key| -> Option<Key> {
        let columns: Option<Key> = key.iter().map(|column| output(input, *column)).collect();
        columns.map(sorted)
    };
    let distribution = (0..join.keys.len()).find_map(|input| {
        let columns: Option<Key> = join.keys[input].iter().map(|column| output(input, *column)).collect();
        columns.map(sorted)
    });
    let is_append = join.emission == Emission::Final || inputs.iter().all(|input| input.changes.is_none());
    if is_append {
        return Provided {
            changes: None,
            distribution,
        };
    }
    let of_inputs: Vec<Vec<Key>> = inputs
        .into_iter()
        .map(|input| input.changes.unwrap_or_default())
        .collect();
    // At most one row of such an input has a join key.
    let is_unique = |input: usize| {
        of_inputs[input]
            .iter()
            .any(|key| contains(&sorted(join.keys[input].clone()), key))
    };
    let others: Vec<usize> = (0..of_inputs.len()).filter(|input| !is_unique(*input)).collect();
    let keys_of = |input: usize| of_inputs[input].iter().filter_map(move |key| mapped(input, key));
    let keys: Vec<Key> = match others.as_slice() {
        [] => (0..of_inputs.len()).flat_map(keys_of).collect(),
        others => others.iter().fold(vec![Vec::new()], |keys: Vec<Key>, input| {
            let extended = keys
                .iter()
                .flat_map(|key| keys_of(*input).map(move |other| sorted([key.as_slice(), &other].concat())));
            extended.take(KEYS_MAX).collect()
        }),
    };
    Provided {
        changes: Some(keys.into_iter().unique().collect()),
        distribution,
    }
}

/// Adds the keys with columns of the other side that are equal.
fn with_equal_columns(mut keys: Vec<Key>, join: &Join, width: usize) -> Vec<Key> {
    let pairs = join.on.iter().map(|&(left, right)| (left, right + width));
    for (left, right) in pairs {
        let replaced: Vec<Key> = keys
            .iter()
            .flat_map(|key| {
                let replace = |old: usize, new: usize| {
                    let columns = key.iter().map(|&column| if column == old { new } else { column });
                    sorted(columns.collect())
                };
                [replace(left, right), replace(right, left)]
            })
            .collect();
        keys = keys.into_iter().chain(replaced).unique().take(KEYS_MAX).collect();
    }
    keys
}

/// Returns the keys of the first rows of partitions: the partition with the rank if that is a column, the partition
/// alone if there is one rank only, and the keys of the input. `columns` is the number of columns of the input.
fn top_n_keys(top: &TopN, partition: &Key, columns: usize, input: Option<Vec<Key>>) -> Vec<Key> {
    let mut keys = Vec::new();
    if top.function == RankFunction::RowNumber {
        if top.from == top.to {
            keys.push(partition.clone());
        }
        if top.emit_rank {
            keys.push(partition.iter().copied().chain([columns]).collect());
        }
    }
    for key in input.into_iter().flatten() {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn emitted(emission: Emission, key: &Key) -> Option<Vec<Key>> {
    match emission {
        Emission::Changes => Some(vec![key.clone()]),
        Emission::Final => None,
    }
}

/// Returns the upsert keys of the rows that arrive at a node with one input, if they are updated or deleted.
pub(super) fn keys_of_input(graph: &JobGraph, node: NodeIndex) -> Option<Vec<Key>> {
    let provided = of_nodes(graph);
    let mut edges = graph.inputs(node).filter(|edge| edge.port == Port::Main);
    match (edges.next(), edges.next()) {
        (Some(edge), None) => provided[edge.from].changes.clone(),
        _ => of_input(graph, node, 0, &provided).changes,
    }
}

/// Returns the properties of the rows that arrive at an input of a node.
fn of_input(graph: &JobGraph, node: NodeIndex, input: usize, provided: &[Provided]) -> Provided {
    let edges: Vec<Provided> = graph
        .inputs(node)
        .filter(|edge| edge.input == input)
        .map(|edge| of_edge(graph, edge, provided))
        .collect();
    if let [edge] = edges.as_slice() {
        return edge.clone();
    }
    // The same key may be in several branches, and its changes arrive by several paths.
    let has_changes = edges.iter().any(|edge| edge.changes.is_some());
    let mut distributions = edges.iter().map(|edge| &edge.distribution);
    let first = distributions.next().cloned().flatten();
    Provided {
        changes: has_changes.then(Vec::new),
        distribution: first.clone().filter(|_| distributions.all(|other| *other == first)),
    }
}

/// Returns the properties of an edge's rows when they arrive.
fn of_edge(graph: &JobGraph, edge: &Edge, provided: &[Provided]) -> Provided {
    match edge.port {
        Port::Main => {}
        Port::Late(_) | Port::DeadLetters => return Provided::default(),
    }
    let rows = provided[edge.from].clone();
    match &edge.exchange {
        Exchange::Forward => rows,
        // Changes of a key stay in order if they take one path, which the columns of the exchange determine.
        Exchange::Hash(columns) => Provided {
            changes: rows.changes.map(|keys| {
                let keys = keys.into_iter().map(|key| sorted([key.as_slice(), columns].concat()));
                keys.unique().collect()
            }),
            distribution: Some(sorted(columns.clone())),
        },
        Exchange::Rebalance if graph.nodes[edge.to].parallelism == Parallelism::One => Provided {
            changes: rows.changes,
            distribution: Some(Vec::new()),
        },
        Exchange::Rebalance | Exchange::Broadcast => Provided {
            changes: rows.changes.map(|_| Vec::new()),
            distribution: None,
        },
    }
}

/// Returns the sets of output columns of a projection that determine the columns of `key`, and are determined by them.
pub(super) fn projected(key: &[usize], calc: &Calc, input: &Schema) -> Vec<Key> {
    let mut sets: Vec<Key> = vec![Vec::new()];
    for &column in key {
        let copies: Vec<usize> = calc
            .projection
            .iter()
            .enumerate()
            .filter(|(_, output)| injective_column(&output.expr, input) == Some(column))
            .map(|(index, _)| index)
            .collect();
        let extended = sets.iter().flat_map(|set| {
            copies.iter().map(move |&copy| {
                let mut set = set.clone();
                set.push(copy);
                set
            })
        });
        sets = extended.take(KEYS_MAX).collect();
    }
    sets.into_iter().map(sorted).collect()
}

/// Returns the column of an expression that has different values for different values of that column.
pub(in crate::translate) fn injective_column(expr: &PhysicalExprRef, input: &Schema) -> Option<usize> {
    if let Some(column) = bare_column(expr) {
        return Some(column);
    }
    let cast = expr.downcast_ref::<CastExpr>()?;
    let column = bare_column(cast.expr())?;
    let from = cast.expr().data_type(input).ok()?;
    is_lossless(&from, cast.cast_type()).then_some(column)
}

/// Returns true if different values stay different in a cast, which does not fail.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Decimal128(precision, scale), DataType::Decimal128(to_precision, to_scale)) => {
            let digits = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
            to_scale >= scale && digits(*to_precision, *to_scale) >= digits(*precision, *scale)
        }
        // Ranks are the only unsigned numbers of keys.
        (DataType::UInt64, DataType::Int64) => true,
        _ if from.is_signed_integer() && to.is_signed_integer() => from.primitive_width() <= to.primitive_width(),
        _ => from == to,
    }
}

fn sorted(mut columns: Key) -> Key {
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Returns the primary key of a sink's table, by position in the rows that it is given.
pub(super) fn sink_key(operator: &Operator) -> Key {
    match operator {
        Operator::Sink(sink) => primary_key(&sink.table),
        _ => Vec::new(),
    }
}
