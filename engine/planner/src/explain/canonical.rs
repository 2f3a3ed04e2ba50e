//! The exact text of operators and graphs: what identifies an operator, and the fingerprint.

use std::fmt::Write;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::Literal;
use millstream_graph::{Aggregate, Calc, JobGraph, Join, MultiJoin, Operator, Parallelism, Stream, TemporalJoin};

use super::{describe, sorts};

/// Returns the complete text of an operator and its output. Operators with equal texts compute the same.
pub(crate) fn canonical(operator: &Operator, output: &Stream, parallelism: Parallelism) -> String {
    let mut text = describe(operator, None, None);
    match operator {
        Operator::Source(source) => {
            put(&mut text, &format!("{:?}", source.table));
            put(&mut text, &format!("{:?}", source.projection));
            if let Some(calc) = &source.calc {
                calc_literals(calc, &mut text);
            }
            if let Some(watermark) = &source.watermark {
                put(&mut text, &format!("{} {:?}", watermark.column, watermark.idle_timeout));
                put(&mut text, &format!("{:?}", watermark.max_future));
                literals(&watermark.expression, &mut text);
            }
        }
        Operator::Calc(calc) => calc_literals(calc, &mut text),
        Operator::Unnest(unnest) => put(&mut text, &format!("{unnest:?}")),
        Operator::WindowAssign(assign) => put(&mut text, &format!("{assign:?}")),
        Operator::WindowAggregate(aggregate) => {
            put(
                &mut text,
                &format!(
                    "{:?} {:?} {:?} {:?} {}",
                    aggregate.window, aggregate.time, aggregate.keys, aggregate.phase, aggregate.allowed_lateness
                ),
            );
            canonical_calls(&aggregate.aggregates, &mut text);
        }
        Operator::GroupAggregate(aggregate) => {
            put(
                &mut text,
                &format!(
                    "{:?} {:?} {:?}",
                    aggregate.keys, aggregate.emission, aggregate.state_ttl
                ),
            );
            if aggregate.phase != millstream_graph::Phase::Single {
                put(&mut text, &format!("{:?} {}", aggregate.phase, aggregate.retracts));
            }
            canonical_calls(&aggregate.aggregates, &mut text);
        }
        Operator::ChangelogNormalize(normalize) => put(&mut text, &format!("{normalize:?}")),
        Operator::SinkMaterialize(materialize) => put(&mut text, &format!("{materialize:?}")),
        Operator::Join(join) => {
            let Join {
                join_type,
                on,
                nulls_are_equal,
                filter,
                bounds,
                emission,
                state_ttl,
            } = join;
            put(&mut text, &format!("{join_type:?} {on:?} {nulls_are_equal} {bounds:?}"));
            put(&mut text, &format!("{emission:?} {state_ttl:?}"));
            if let Some(filter) = filter {
                literals(filter, &mut text);
            }
        }
        Operator::MultiJoin(join) => {
            let MultiJoin {
                keys,
                filter,
                output,
                emission,
                state_ttl,
            } = join;
            put(&mut text, &format!("{keys:?} {output:?} {emission:?} {state_ttl:?}"));
            if let Some(filter) = filter {
                literals(filter, &mut text);
            }
        }
        Operator::TemporalJoin(join) => {
            let TemporalJoin {
                is_outer,
                on,
                filter,
                time,
                emission,
            } = join;
            put(&mut text, &format!("{is_outer} {on:?} {time:?} {emission:?}"));
            if let Some(filter) = filter {
                literals(filter, &mut text);
            }
        }
        Operator::WindowJoin(join) => {
            put(
                &mut text,
                &format!(
                    "{:?} {:?} {:?} {:?}",
                    join.joined_columns, join.left, join.right, join.on
                ),
            );
            if let Some(filter) = &join.filter {
                literals(filter, &mut text);
            }
        }
        Operator::DynamicFilter(filter) => put(&mut text, &format!("{filter:?}")),
        Operator::Sort(sort) => {
            for sort in &sort.order {
                literals(&sort.expr, &mut text);
            }
        }
        Operator::TopN(top) => {
            put(
                &mut text,
                &format!(
                    "{:?} {:?} {:?} {:?} {} {}",
                    top.partition, top.function, top.emission, top.state_ttl, top.prefers_last, top.is_by_arrival
                ),
            );
            for sort in &top.order {
                literals(&sort.expr, &mut text);
            }
        }
        Operator::WindowTopN(top) => {
            put(&mut text, &format!("{:?} {:?}", top.window, top.partition));
            if top.prefers_last {
                put(&mut text, "last");
            }
            for sort in &top.order {
                literals(&sort.expr, &mut text);
            }
        }
        Operator::Sink(sink) => put(&mut text, &format!("{:?}", sink.table)),
    }
    for field in output.schema.fields() {
        put(&mut text, &format!("{} {:?}", field.name(), field.data_type()));
    }
    put(
        &mut text,
        &format!("{:?} {:?} {parallelism:?}", output.event_time, output.window),
    );
    if !output.changelog.is_append() {
        put(&mut text, &format!("{:?} {:?}", output.changelog, output.upsert_keys));
    }
    text
}

fn canonical_calls(calls: &[Aggregate], text: &mut String) {
    for call in calls {
        let function = &call.function;
        put(text, function.fun().name());
        put(
            text,
            &format!(
                "{} {} {}",
                function.is_distinct(),
                function.ignore_nulls(),
                function.field().data_type()
            ),
        );
        for argument in function.expressions().iter().chain(&call.filter) {
            put(text, &argument.to_string());
            literals(argument, text);
        }
        put(text, &sorts(function.order_bys()));
    }
}

fn put(text: &mut String, more: &str) {
    text.push('\n');
    text.push_str(more);
}

fn calc_literals(calc: &Calc, text: &mut String) {
    let exprs = calc.projection.iter().map(|column| &column.expr);
    for expr in exprs.chain(&calc.filter) {
        literals(expr, text);
        text.push(';');
    }
}

/// Returns the constants with their types, which an expression's display omits.
fn literals(expr: &PhysicalExprRef, text: &mut String) {
    expr.apply(|expr| {
        if let Some(literal) = expr.downcast_ref::<Literal>() {
            text.push(' ');
            write!(text, "{:?}", literal.value()).expect("writing to a string does not fail");
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the closure never fails");
}

/// Returns an expression's text with everything that its display omits: the types of constants and the nesting of
/// operators (`a - (b - c)` is displayed without its parentheses).
pub(crate) fn exact(expr: &PhysicalExprRef) -> String {
    let mut text = expr.to_string();
    text.push('\n');
    shape(expr, &mut text);
    text
}

/// Returns the nesting of an operator's expressions, which [`canonical`] omits.
pub(crate) fn shapes(operator: &Operator) -> String {
    let of_calc = |calc: &Calc| -> Vec<PhysicalExprRef> {
        let columns = calc.projection.iter().map(|column| column.expr.clone());
        columns.chain(calc.filter.clone()).collect()
    };
    let of_calls = |calls: &[Aggregate]| -> Vec<PhysicalExprRef> {
        let of_call = |call: &Aggregate| {
            let order = call.function.order_bys().iter().map(|sort| sort.expr.clone());
            let arguments = call.function.expressions().into_iter();
            arguments.chain(order).chain(call.filter.clone()).collect::<Vec<_>>()
        };
        calls.iter().flat_map(of_call).collect()
    };
    let expressions: Vec<PhysicalExprRef> = match operator {
        Operator::Source(source) => {
            let watermark = source.watermark.iter().map(|watermark| watermark.expression.clone());
            watermark.chain(source.calc.iter().flat_map(of_calc)).collect()
        }
        Operator::Calc(calc) => of_calc(calc),
        Operator::WindowAggregate(aggregate) => of_calls(&aggregate.aggregates),
        Operator::GroupAggregate(aggregate) => of_calls(&aggregate.aggregates),
        Operator::Join(join) => join.filter.iter().cloned().collect(),
        Operator::MultiJoin(join) => join.filter.iter().cloned().collect(),
        Operator::TemporalJoin(join) => join.filter.iter().cloned().collect(),
        Operator::WindowJoin(join) => join.filter.iter().cloned().collect(),
        Operator::Sort(sort) => sort.order.iter().map(|sort| sort.expr.clone()).collect(),
        Operator::TopN(top) => top.order.iter().map(|sort| sort.expr.clone()).collect(),
        Operator::WindowTopN(top) => top.order.iter().map(|sort| sort.expr.clone()).collect(),
        Operator::WindowAssign(_)
        | Operator::Unnest(_)
        | Operator::DynamicFilter(_)
        | Operator::ChangelogNormalize(_)
        | Operator::SinkMaterialize(_)
        | Operator::Sink(_) => Vec::new(),
    };
    let mut text = String::new();
    for expr in &expressions {
        shape(expr, &mut text);
        text.push(';');
    }
    text
}

#[recursive::recursive]
fn shape(expr: &PhysicalExprRef, text: &mut String) {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        write!(text, "{:?}", literal.value()).expect("writing to a string does not fail");
    }
    text.push('(');
    for child in expr.children() {
        shape(child, text);
    }
    text.push(')');
}

/// Returns the FNV-1a hash (64 bits) of the canonical text of all nodes and edges.
pub(crate) fn fingerprint(graph: &JobGraph) -> u64 {
    let mut hash = Fnv1a::new();
    hash.add(&graph.name);
    hash.add(&graph.max_parallelism.to_string());
    if let Some(interval) = graph.consistency_interval {
        hash.add(&format!("{interval:?}"));
    }
    add_content(&mut hash, graph);
    hash.0
}

/// Returns the [`fingerprint`] of the nodes and edges alone.
pub(crate) fn content_fingerprint(graph: &JobGraph) -> u64 {
    let mut hash = Fnv1a::new();
    add_content(&mut hash, graph);
    hash.0
}

fn add_content(hash: &mut Fnv1a, graph: &JobGraph) {
    for node in &graph.nodes {
        hash.add(&node.id.0);
        hash.add(&canonical(&node.operator, &node.output, node.parallelism));
    }
    for edge in &graph.edges {
        hash.add(&format!("{edge:?}"));
    }
}

struct Fnv1a(u64);

impl Fnv1a {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
