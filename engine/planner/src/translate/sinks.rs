//! What is written where: plans, late rows and dead letters into sink tables.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::cast;

use super::builder::InputEdge;
use super::relation::{Attribute, ColumnInfo, Relation, column};
use super::{Fallible, Scope, SinkInput, Translator, located};
use crate::error::Error;
use crate::graph::{ErrorPolicy, NodeIndex, Operator, Parallelism, Port, Sink, Stream, dead_letter_schema};
use crate::logical::{Insert, InsertInput, Table};

impl<'p> Translator<'p> {
    pub(super) fn insert_plan(&mut self, insert: &'p Insert, plan: &LogicalPlan) -> Fallible<()> {
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
    fn sink_columns(&mut self, relation: Relation, table: &Table) -> Fallible<Vec<(NodeIndex, Port)>> {
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
                        .map_err(|error| located(error, &self.scope.location))?;
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
                InsertInput::Late { step } => self.late_rows(step, &insert.table),
                InsertInput::DeadLetters { name } => self.dead_letters(name, &insert.table),
            };
            match edges {
                Ok(edges) => self.sink_inputs.push(SinkInput { insert, edges }),
                Err(error) => errors.push(error),
            }
        }
    }

    fn late_rows(&mut self, step: &str, table: &Table) -> Fallible<Vec<(NodeIndex, Port)>> {
        self.shared_step(step)?;
        let ports = self.late_ports.get(step).cloned().unwrap_or_default();
        if ports.is_empty() {
            return Err(self.error(format!(
                "step `{step}` has no window aggregate on event time, so none of its rows can be late"
            )));
        }
        // Aggregates of aggregates have late rows too, but not of these columns.
        let wanted = &table.definition.0.schema;
        let has_columns = |schema: &arrow_schema::Schema| {
            let mut names = wanted.fields().iter().map(|field| field.name());
            names.all(|name| schema.column_with_name(name).is_some())
        };
        let inputs: Vec<(NodeIndex, Arc<arrow_schema::Schema>)> = ports
            .iter()
            .filter_map(|&node| Some((node, self.schema(self.builder.input_of(node)?))))
            .collect();
        let any = inputs.iter().any(|(_, schema)| has_columns(schema));
        let mut edges = Vec::new();
        for (node, schema) in inputs {
            if any && !has_columns(&schema) {
                continue;
            }
            edges.push(self.port_by_name(
                node,
                Port::Late,
                &schema,
                table,
                &format!("the late rows of step `{step}`"),
            )?);
        }
        Ok(edges)
    }

    fn dead_letters(&mut self, name: &str, table: &Table) -> Fallible<Vec<(NodeIndex, Port)>> {
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
            .map(|node| self.port_by_name(node, Port::DeadLetters, &schema, table, &what))
            .collect()
    }

    /// The columns of a table, picked by name from what a port carries.
    fn port_by_name(
        &mut self,
        node: NodeIndex,
        port: Port,
        schema: &Arc<arrow_schema::Schema>,
        table: &Table,
        what: &str,
    ) -> Fallible<(NodeIndex, Port)> {
        let fields = table.definition.0.schema.fields().clone();
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for field in &fields {
            let Some((index, found)) = schema.column_with_name(field.name()) else {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(self.error(format!(
                    "table `{}` wants a column `{}`, but {what} have: {}",
                    table.name,
                    field.name(),
                    names.join(", ")
                )));
            };
            let mut expr = column(schema, index);
            if found.data_type() != field.data_type() {
                expr = cast(expr, schema, field.data_type().clone())
                    .map_err(|error| located(error, &self.scope.location))?;
            }
            exprs.push(expr);
            columns.push(ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                attribute: Attribute::None,
                origin: None,
            });
        }
        let node = self.calc_over_port(node, port, schema, &exprs, &columns)?;
        Ok(node)
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
                    ..self.builder.plain_edge(node, 0, parallelism)
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
