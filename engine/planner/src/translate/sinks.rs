//! What is written where: plans, late rows and dead letters into sink tables.

use std::sync::Arc;

use arrow_schema::Schema;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::cast;

use super::builder::InputEdge;
use super::relation::{Attribute, ColumnInfo, Relation, column};
use super::{Result, Scope, SinkInput, Translator, error_at};
use crate::error::Error;
use crate::logical::{Insert, InsertInput, JoinSide, LateRows, Table};
use millstream_graph::{ErrorPolicy, NodeIndex, Operator, Parallelism, Port, Sink, Stream, dead_letter_schema};

/// A port beside the main one, with the columns that a sink may take of it.
#[derive(Debug, Clone)]
pub(super) struct SideOutput {
    node: NodeIndex,
    port: Port,
    /// Over what the port carries.
    columns: Vec<(String, PhysicalExprRef)>,
}

impl SideOutput {
    /// The late rows of an input, as these columns.
    pub fn late(node: NodeIndex, input: usize, columns: &[ColumnInfo], exprs: &[PhysicalExprRef]) -> Self {
        let names = columns.iter().map(|column| column.name.clone());
        Self {
            node,
            port: Port::Late(input),
            columns: names.zip(exprs.iter().cloned()).collect(),
        }
    }

    /// All that the port carries.
    fn whole(node: NodeIndex, port: Port, schema: &Schema) -> Self {
        let columns = schema.fields().iter().enumerate();
        Self {
            node,
            port,
            columns: columns
                .map(|(index, field)| (field.name().clone(), column(schema, index)))
                .collect(),
        }
    }

    fn column(&self, name: &str) -> Option<&PhysicalExprRef> {
        let found = self.columns.iter().find(|(column, _)| column == name);
        found.map(|(_, expr)| expr)
    }
}

impl<'p> Translator<'p> {
    pub(super) fn insert_plan(&mut self, insert: &'p Insert, plan: &LogicalPlan) -> Result<()> {
        self.scope = Scope {
            owner: insert.table.name.clone(),
            location: insert.location.clone(),
            on_error: insert.on_error,
        };
        let relation = self.plan(plan)?;
        let edges = self.sink_columns(relation, &insert.table)?;
        self.sink_inputs.push(SinkInput { insert, edges });
        Ok(())
    }

    /// Brings a relation into the shape a sink table has: its columns, under its names.
    fn sink_columns(&mut self, relation: Relation, table: &Table) -> Result<Vec<(NodeIndex, Port)>> {
        let fields = table.definition.0.schema.fields().clone();
        if fields.len() != relation.columns.len() {
            return Err(self.error(format!(
                "the query has {} columns, but table `{}` has {}",
                relation.columns.len(),
                table.name,
                fields.len()
            )));
        }
        let mut relation = self.resolve(relation)?;
        for (column, field) in relation.columns.iter_mut().zip(&fields) {
            column.name = field.name().clone();
        }
        let mut edges = Vec::new();
        for index in 0..relation.branches.len() {
            let mut branch = relation.branches[index].clone();
            let schema = self.schema(branch.node);
            for ((expr, column), field) in branch.exprs.iter_mut().zip(&relation.columns).zip(&fields) {
                if column.data_type != *field.data_type() {
                    *expr = cast(expr.clone(), &schema, field.data_type().clone())
                        .map_err(|error| error_at(error, &self.scope.location))?;
                }
            }
            let node = self.calc(&branch, &branch.exprs.clone(), &relation.columns, true)?;
            edges.push((node, Port::Main));
        }
        Ok(edges)
    }

    /// Late rows and dead letters: inserts that read a port instead of a plan.
    pub(super) fn side_outputs(&mut self, errors: &mut Vec<Error>) {
        for insert in &self.pipeline.inserts {
            self.scope = Scope {
                owner: insert.table.name.clone(),
                location: insert.location.clone(),
                on_error: insert.on_error,
            };
            let edges = match &insert.input {
                InsertInput::Plan(_) => continue,
                InsertInput::Late { step, of } => self.late_rows(step, *of, &insert.table),
                InsertInput::DeadLetters { name } => self.dead_letters(name, &insert.table),
            };
            match edges {
                Ok(edges) => self.sink_inputs.push(SinkInput { insert, edges }),
                Err(error) => errors.push(error),
            }
        }
    }

    fn late_rows(&mut self, step: &str, of: LateRows, table: &Table) -> Result<Vec<(NodeIndex, Port)>> {
        self.shared_step(step)?;
        let ports = match of {
            LateRows::Aggregate => self.late_of_aggregates(step, table)?,
            LateRows::Join(side) => self.late_of_join(step, side)?,
        };
        let what = format!("the late rows of step `{step}`");
        ports
            .iter()
            .map(|port| self.side_output_columns(port, table, &what))
            .collect()
    }

    fn late_of_aggregates(&self, step: &str, table: &Table) -> Result<Vec<SideOutput>> {
        let nodes = self.late_ports.get(step).map(Vec::as_slice).unwrap_or_default();
        if nodes.is_empty() {
            return Err(self.error(match self.late_of_joins.contains_key(step) {
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
            let schema = self.schema(self.builder.input_of(node, 0)?);
            Some(SideOutput::whole(node, Port::Late(0), &schema))
        });
        let mut ports: Vec<SideOutput> = ports.collect();
        // Aggregates of aggregates have late rows too, but not of these columns.
        let wanted = table.definition.0.schema.fields();
        let has_columns = |port: &SideOutput| wanted.iter().all(|field| port.column(field.name()).is_some());
        if ports.iter().any(has_columns) {
            ports.retain(has_columns);
        }
        Ok(ports)
    }

    fn late_of_join(&self, step: &str, side: JoinSide) -> Result<Vec<SideOutput>> {
        let joins = self.late_of_joins.get(step).map(Vec::as_slice).unwrap_or_default();
        match joins {
            [sides] => Ok(sides[side as usize].clone()),
            [] => Err(self.error(format!(
                "step `{step}` has no window join, so there are no sides of one"
            ))),
            _ => Err(self.error(format!(
                "step `{step}` has several joins, so that `late_left` and `late_right` could be of any: make a step of \
                 each join"
            ))),
        }
    }

    fn dead_letters(&mut self, name: &str, table: &Table) -> Result<Vec<(NodeIndex, Port)>> {
        if self.shared_steps.contains_key(name) {
            self.shared_step(name)?;
        }
        let nodes: Vec<NodeIndex> = self
            .builder
            .owned_by(name)
            .filter(|&node| match &self.builder.nodes[node].operator {
                Operator::Source(source) => source.on_error == ErrorPolicy::DeadLetter,
                Operator::Calc(calc) => calc.on_error == ErrorPolicy::DeadLetter,
                _ => false,
            })
            .collect();
        if nodes.is_empty() {
            return Err(self.error(format!(
                "`{name}` has no dead letters: set `on_error: dead_letter` on it, and use it in a query"
            )));
        }
        let schema = dead_letter_schema();
        let what = format!("the dead letters of `{name}`");
        nodes
            .into_iter()
            .map(|node| self.side_output_columns(&SideOutput::whole(node, Port::DeadLetters, &schema), table, &what))
            .collect()
    }

    /// The columns of a table, picked by name from what a port carries.
    fn side_output_columns(&mut self, port: &SideOutput, table: &Table, what: &str) -> Result<(NodeIndex, Port)> {
        let schema = self.port_schema(port);
        let fields = table.definition.0.schema.fields().clone();
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for field in &fields {
            let Some(found) = port.column(field.name()) else {
                let names: Vec<&str> = port.columns.iter().map(|(name, _)| name.as_str()).collect();
                return Err(self.error(format!(
                    "table `{}` wants a column `{}`, but {what} have: {}",
                    table.name,
                    field.name(),
                    names.join(", ")
                )));
            };
            let mut expr = found.clone();
            if self.located(expr.data_type(&schema))? != *field.data_type() {
                expr = cast(expr, &schema, field.data_type().clone())
                    .map_err(|error| error_at(error, &self.scope.location))?;
            }
            exprs.push(expr);
            columns.push(ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                attribute: Attribute::None,
                origin: None,
            });
        }
        self.calc_over_port(port.node, port.port, &schema, &exprs, &columns)
    }

    fn port_schema(&self, port: &SideOutput) -> Arc<Schema> {
        match port.port {
            Port::Main => self.schema(port.node),
            Port::DeadLetters => dead_letter_schema(),
            Port::Late(input) => {
                let from = self.builder.input_of(port.node, input);
                self.schema(from.unwrap_or(port.node))
            }
        }
    }

    /// One sink node per table, whatever number of inserts it has.
    pub(super) fn write_sinks(&mut self, errors: &mut Vec<Error>) {
        let mut inputs = std::mem::take(&mut self.sink_inputs);
        while !inputs.is_empty() {
            let name = inputs[0].insert.table.name.clone();
            let (mine, others): (Vec<_>, Vec<_>) =
                inputs.into_iter().partition(|input| input.insert.table.name == name);
            inputs = others;
            let insert = mine[0].insert;
            let mut sources: Vec<(NodeIndex, Port)> = Vec::new();
            for edge in mine.iter().flat_map(|input| &input.edges) {
                sources.push(*edge);
            }
            if sources.is_empty() {
                errors.push(Error {
                    location: insert.location.clone(),
                    message: format!("nothing is written to table `{name}`"),
                });
                continue;
            }
            let one = sources
                .iter()
                .all(|(node, _)| self.builder.nodes[*node].parallelism == Parallelism::One);
            let parallelism = if one { Parallelism::One } else { Parallelism::Job };
            let edges: Vec<InputEdge> = sources
                .iter()
                .map(|&(node, port)| InputEdge {
                    port,
                    ..self.builder.unkeyed_edge(node, 0, parallelism)
                })
                .collect();
            let output = Stream {
                schema: insert.table.definition.0.schema.clone(),
                event_time: None,
                window: None,
            };
            let sink = Operator::Sink(Sink {
                table: insert.table.definition.0.clone(),
                on_error: insert.on_error,
            });
            self.builder.add(&name, "sink", sink, edges, output, parallelism);
        }
    }
}
