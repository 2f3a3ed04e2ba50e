//! Sink nodes, and the columns of plans, late rows and dead letters that they write.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{Fields, Schema};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::cast;
use millstream_graph::{
    ConflictStrategy, ErrorPolicy, NodeIndex, Operator, Parallelism, Port, Sink, dead_letter_schema,
};

use super::builder::{InputEdge, Owner};
use super::calc::{calc, calc_of_port, calc_over_port};
use super::conflict::Conflict;
use super::context::{Context, Result, error_at};
use super::pending::resolve;
use super::relation::{Attribute, Branch, ColumnInfo, Pending, Relation, all_columns, plain_stream};
use super::side_output::SideOutput;
use crate::error::Error;
use crate::logical::{Insert, JoinSide, LateRows, Table};

/// An output of a node that a sink reads.
pub(super) type Source = (NodeIndex, Port);

/// An insert with the outputs that it writes.
pub(super) struct SinkInput<'p> {
    pub insert: &'p Insert,
    pub sources: Vec<Source>,
}

/// Gives a relation the columns of a sink table, under their names.
pub(super) fn table_columns(cx: &mut Context<'_>, relation: Relation, table: &Table) -> Result<Vec<Source>> {
    let fields = table.definition.0.schema.fields().clone();
    if fields.len() != relation.columns.len() {
        return Err(cx.error(format!(
            "the query has {} columns, but table `{}` has {}",
            relation.columns.len(),
            table.name,
            fields.len()
        )));
    }
    let mut relation = resolve(cx, relation)?;
    for (column, field) in relation.columns.iter_mut().zip(&fields) {
        column.name = field.name().clone();
    }
    let mut edges = Vec::new();
    for index in 0..relation.branches.len() {
        let mut branch = relation.branches[index].clone();
        let schema = cx.schema(branch.node);
        for ((expr, column), field) in branch.exprs.iter_mut().zip(&relation.columns).zip(&fields) {
            if column.data_type != *field.data_type() {
                *expr = cast(expr.clone(), &schema, field.data_type().clone())
                    .map_err(|error| error_at(error, &cx.scope.location))?;
            }
        }
        let node = calc(cx, &branch, &branch.exprs.clone(), &relation.columns, true)?;
        edges.push((node, Port::Main));
    }
    Ok(edges)
}

pub(super) fn late_rows(cx: &mut Context<'_>, step: &str, of: LateRows, table: &Table) -> Result<Vec<Source>> {
    let ports = late_outputs(cx, step, of, table.definition.0.schema.fields())?;
    let what = format!("the late rows of step `{step}`");
    ports
        .iter()
        .map(|port| side_output_columns(cx, port, table, &what))
        .collect()
}

/// Returns the side outputs of the late rows of a step, preferably those with these columns.
pub(super) fn late_outputs(cx: &Context<'_>, step: &str, of: LateRows, wanted: &Fields) -> Result<Vec<SideOutput>> {
    match of {
        LateRows::Aggregate => late_of_aggregates(cx, step, wanted),
        LateRows::Join(side) => late_of_join(cx, step, side),
    }
}

fn late_of_aggregates(cx: &Context<'_>, step: &str, wanted: &Fields) -> Result<Vec<SideOutput>> {
    let nodes = cx.late.aggregates.get(step).map(Vec::as_slice).unwrap_or_default();
    if nodes.is_empty() {
        return Err(cx.error(match cx.late.joins.contains_key(step) {
            true => format!(
                "step `{step}` is a join: the late rows of its inputs are `{step}.late_left` and `{step}.late_right`"
            ),
            false => format!(
                "late rows of step `{step}` cannot be written: only those of window aggregates and joins on event \
                 time can (any others are counted as late)"
            ),
        }));
    }
    let ports = nodes.iter().filter_map(|&node| {
        let schema = cx.schema(cx.builder.input_of(node, 0)?);
        Some(SideOutput::whole(node, Port::Late(0), &schema))
    });
    let mut ports: Vec<SideOutput> = ports.collect();
    // A step of nested aggregates has late rows of several shapes; those without the columns are left out.
    let has_columns = |port: &SideOutput| wanted.iter().all(|field| port.column(field.name()).is_some());
    if ports.iter().any(has_columns) {
        ports.retain(has_columns);
    }
    Ok(ports)
}

fn late_of_join(cx: &Context<'_>, step: &str, side: JoinSide) -> Result<Vec<SideOutput>> {
    let joins = cx.late.joins.get(step).map(Vec::as_slice).unwrap_or_default();
    match joins {
        [sides] => Ok(sides[side as usize].clone()),
        [] => Err(cx.error(format!(
            "step `{step}` has no window join or interval join, so there are no late rows of its sides"
        ))),
        _ => Err(cx.error(format!(
            "step `{step}` has several joins, so that `late_left` and `late_right` could be of any: make a step of \
             each join"
        ))),
    }
}

pub(super) fn dead_letters(cx: &mut Context<'_>, name: &str, table: &Table) -> Result<Vec<Source>> {
    let what = format!("the dead letters of `{name}`");
    dead_letter_outputs(cx, name)?
        .iter()
        .map(|port| side_output_columns(cx, port, table, &what))
        .collect()
}

/// Returns the side outputs of the dead letters of a step or table.
pub(super) fn dead_letter_outputs(cx: &Context<'_>, name: &str) -> Result<Vec<SideOutput>> {
    let nodes: Vec<NodeIndex> = cx
        .builder
        .owned_by(name)
        .filter(|&node| match &cx.builder.nodes[node].operator {
            Operator::Source(source) => source.on_error == ErrorPolicy::DeadLetter,
            Operator::Calc(calc) => calc.on_error == ErrorPolicy::DeadLetter,
            _ => false,
        })
        .collect();
    if nodes.is_empty() {
        return Err(cx.error(format!(
            "`{name}` has no dead letters: set `on_error: dead_letter` on it, and use it in a query"
        )));
    }
    let schema = dead_letter_schema();
    let nodes = nodes.into_iter();
    Ok(nodes
        .map(|node| SideOutput::whole(node, Port::DeadLetters, &schema))
        .collect())
}

/// Returns the relation of these columns of side outputs of a table or step.
pub(super) fn side_output_relation(
    cx: &mut Context<'_>,
    outputs: &[SideOutput],
    fields: &Fields,
    owner: &str,
) -> Result<Relation> {
    let mut branches = Vec::with_capacity(outputs.len());
    let mut columns = Vec::new();
    for output in outputs {
        let schema = port_schema(cx, output);
        let picked = pick(cx, output, fields, |field, names| {
            format!("`{owner}` has several kinds of late rows, of which one has no column `{field}`, but: {names}")
        })?;
        columns = picked.1;
        let node = calc_of_port(cx, output.node, output.port, &schema, &picked.0, &columns)?;
        branches.push(Branch {
            node,
            filter: None,
            exprs: all_columns(&cx.schema(node), columns.len()),
            carried: Vec::new(),
        });
    }
    Ok(Relation {
        branches,
        columns,
        pending: Pending::Nothing,
    })
}

/// Returns the columns of a table, taken by name from a side output.
fn side_output_columns(
    cx: &mut Context<'_>,
    port: &SideOutput,
    table: &Table,
    what: &str,
) -> Result<(NodeIndex, Port)> {
    let schema = port_schema(cx, port);
    let fields = table.definition.0.schema.fields().clone();
    let (exprs, columns) = pick(cx, port, &fields, |field, names| {
        format!(
            "table `{}` wants a column `{field}`, but {what} have: {names}",
            table.name
        )
    })?;
    calc_over_port(cx, port.node, port.port, &schema, &exprs, &columns)
}

/// Returns these columns of a side output, taken by name and cast. `missing` is the error for a column that it does not
/// have, from the column's name and those of all columns.
fn pick(
    cx: &Context<'_>,
    output: &SideOutput,
    fields: &Fields,
    missing: impl Fn(&str, String) -> String,
) -> Result<(Vec<PhysicalExprRef>, Vec<ColumnInfo>)> {
    let schema = port_schema(cx, output);
    let mut exprs = Vec::new();
    let mut columns = Vec::new();
    for field in fields {
        let Some(found) = output.column(field.name()) else {
            let names: Vec<&str> = output.columns.iter().map(|(name, _)| name.as_str()).collect();
            return Err(cx.error(missing(field.name(), names.join(", "))));
        };
        let mut expr = found.clone();
        if cx.located(expr.data_type(&schema))? != *field.data_type() {
            expr =
                cast(expr, &schema, field.data_type().clone()).map_err(|error| error_at(error, &cx.scope.location))?;
        }
        exprs.push(expr);
        columns.push(ColumnInfo {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            attribute: Attribute::None,
            origin: None,
        });
    }
    Ok((exprs, columns))
}

fn port_schema(cx: &Context<'_>, port: &SideOutput) -> Arc<Schema> {
    match port.port {
        Port::Main => cx.schema(port.node),
        Port::DeadLetters => dead_letter_schema(),
        Port::Late(input) => {
            let from = cx.builder.input_of(port.node, input);
            cx.schema(from.unwrap_or(port.node))
        }
    }
}

/// Adds one sink node per table, however many inserts it has.
pub(super) fn add_sinks(cx: &mut Context<'_>, mut inputs: Vec<SinkInput<'_>>, errors: &mut Vec<Error>) {
    while !inputs.is_empty() {
        let name = inputs[0].insert.table.name.clone();
        let (mine, others): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|input| input.insert.table.name == name);
        inputs = others;
        let insert = mine[0].insert;
        let sources: Vec<Source> = mine.iter().flat_map(|input| &input.sources).copied().collect();
        if sources.is_empty() {
            errors.push(Error {
                location: insert.location.clone(),
                message: format!("nothing is written to table `{name}`"),
            });
            continue;
        }
        let one = sources
            .iter()
            .all(|(node, _)| cx.builder.nodes[*node].parallelism == Parallelism::One);
        let parallelism = if one { Parallelism::One } else { Parallelism::Job };
        let edges: Vec<InputEdge> = sources
            .iter()
            .map(|&(node, port)| InputEdge {
                port,
                ..cx.builder.unkeyed_edge(node, 0, parallelism)
            })
            .collect();
        let output = plain_stream(insert.table.definition.0.schema.clone());
        let sink = Operator::Sink(Sink {
            table: insert.table.definition.0.clone(),
            on_error: insert.table.on_error,
        });
        let strategies: BTreeSet<_> = mine.iter().filter_map(|input| input.insert.on_conflict).collect();
        if strategies.len() > 1 {
            errors.push(Error {
                location: insert.location.clone(),
                message: format!(
                    "table `{name}` is written with different ON CONFLICT: write the same one in each INSERT"
                ),
            });
        }
        let written = strategies.first().copied();
        let implied = cx.pipeline.allows_conflicts.then_some(ConflictStrategy::Deduplicate);
        if let Some(strategy) = written.or(implied) {
            let conflict = Conflict {
                strategy,
                is_written: written.is_some(),
            };
            cx.builder.conflicts.insert(name.clone(), conflict);
        }
        let owner = Owner {
            name: &name,
            location: &insert.location,
        };
        cx.builder.add(owner, "sink", sink, edges, output, parallelism);
    }
}
