//! Changes that nodes need of their inputs, from sinks to sources.

use arrow_schema::Schema;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use millstream_connectors::{ChangelogSupport, Role};
use millstream_graph::{
    Aggregate, Calc, ChangelogMode, Edge, ErrorPolicy, Join, NodeIndex, Operator, Port, Sink, TopN, VersionTime,
    Window, WindowAggregate,
};

use super::provided::{Key, injective_column, sink_key};
use super::{Pass, contains, support};
use crate::error::Error;
use crate::functions::{Functions, shown_name};
use crate::translate::fallibility::can_fail;
use crate::translate::relation::{columns_of, too_many_ranks};

/// Changes that the consumers of a node need, where its rows are updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// New versions and deletions by this key.
    Upsert(Key),
    /// Former versions too.
    Retract,
}

impl Need {
    fn or(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other != self => Self::Retract,
            _ => self,
        }
    }
}

impl Pass<'_> {
    /// Returns what the consumers of each node need; `None` where nobody reads its updates. What cannot be satisfied is
    /// an error.
    pub(super) fn needs(&self, errors: &mut Vec<Error>) -> Vec<Option<Need>> {
        let mut needs: Vec<Option<Need>> = vec![None; self.graph.nodes.len()];
        for node in (0..self.graph.nodes.len()).rev() {
            let edges = self.graph.inputs(node).filter(|edge| edge.port == Port::Main);
            let changes: Vec<&Edge> = edges
                .filter(|edge| self.provided[edge.from].changes.is_some())
                .collect();
            let Some(first) = changes.first() else {
                continue;
            };
            match self.needed(node, first.from, needs[node].as_ref()) {
                Ok(need) => {
                    for edge in changes {
                        needs[edge.from] = Some(need.clone().or(needs[edge.from].take()));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        needs
    }

    /// Returns what a node needs of its input, whose rows `from` updates, if its own consumers have this need.
    fn needed(&self, node: NodeIndex, from: NodeIndex, own: Option<&Need>) -> Result<Need, Error> {
        match &self.graph.nodes[node].operator {
            Operator::Sink(sink) => self.sink_needs(node, from, sink),
            Operator::Calc(calc) => Ok(match own {
                Some(Need::Upsert(key)) => self.calc_needs(node, from, calc, key),
                Some(Need::Retract) | None => Need::Retract,
            }),
            // Results depend on the former values of all columns.
            Operator::GroupAggregate(aggregate) => {
                self.check_retractable(node, from, &aggregate.aggregates)?;
                Ok(Need::Retract)
            }
            Operator::Join(Join { bounds: Some(_), .. }) => Err(self.append_only(node, from, "an interval join")),
            // A version ends when the next one of its key begins.
            Operator::TemporalJoin(join) if matches!(join.time, VersionTime::Event { .. }) => {
                let mut key: Key = join.on.iter().map(|pair| pair.1).collect();
                key.sort_unstable();
                Ok(match self.keys(from).contains(&key) {
                    true => Need::Upsert(key),
                    false => Need::Retract,
                })
            }
            // They keep all versions that are joined.
            Operator::Join(_) | Operator::MultiJoin(_) | Operator::TemporalJoin(_) => Ok(Need::Retract),
            Operator::TopN(top) if top.is_by_arrival => {
                let message = format!(
                    "rows that are updated or deleted have no order by processing time (PROCTIME): {}. Order them by a \
                     column, or rank the rows of an append-only table",
                    self.described_cause(from)
                );
                Err(self.error(node, message))
            }
            Operator::TopN(top) if top.to > TopN::RANK_MAX => Err(self.error(node, too_many_ranks(top.to))),
            // The former row may be among the first.
            Operator::TopN(_) => Ok(Need::Retract),
            // It keeps whole rows, of which any column may change.
            Operator::SinkMaterialize(_) => Ok(Need::Retract),
            // It keeps the former rows itself.
            Operator::ChangelogNormalize(_) | Operator::Source(_) => Ok(match self.keys(from) {
                [key] => Need::Upsert(key.clone()),
                _ => Need::Retract,
            }),
            // The elements of the former row are deleted.
            Operator::Unnest(_) => Ok(Need::Retract),
            // Windows are assigned by a column of the former row, too.
            Operator::WindowAssign(_) => {
                self.check_late_output(node, from)?;
                Ok(Need::Retract)
            }
            Operator::WindowAggregate(aggregate) => {
                if let Window::Session { .. } = aggregate.window {
                    return Err(self.append_only(node, from, "a SESSION window"));
                }
                self.check_late_output(node, from)?;
                self.check_retractable(node, from, &aggregate.aggregates)?;
                self.check_window_functions(node, from, aggregate)?;
                Ok(Need::Retract)
            }
            Operator::WindowJoin(_) | Operator::DynamicFilter(_) => Err(self.append_only(node, from, "a window join")),
            Operator::Sort(_) => Err(self.append_only(node, from, "ORDER BY without LIMIT")),
            Operator::WindowTopN(_) => Err(self.append_only(node, from, "ROW_NUMBER() over a window")),
        }
    }

    fn keys(&self, node: NodeIndex) -> &[Key] {
        self.provided[node].changes.as_deref().unwrap_or_default()
    }

    fn sink_needs(&self, node: NodeIndex, from: NodeIndex, sink: &Sink) -> Result<Need, Error> {
        let table = &sink.table;
        let described = format!("table `{}` ({})", table.name, table.connector());
        match support(table, Role::Sink) {
            ChangelogSupport::Retract => return Ok(Need::Retract),
            ChangelogSupport::Append => {
                let window = match self.cause(from) {
                    Operator::GroupAggregate(_) => ", or group by a window (TUMBLE, HOP, CUMULATE or SESSION)",
                    Operator::Join(_) | Operator::MultiJoin(_) => {
                        ", or join windows, or bound the event times of the rows that are joined"
                    }
                    _ => "",
                };
                let message = format!(
                    "{described} is append-only, but the query updates its rows: {}. Write to a table of `upsert-kafka`, \
                     of `kafka` or `filesystem` with 'format' = 'debezium-json', or of `print`{window}",
                    self.described_cause(from)
                );
                return Err(self.error(node, message));
            }
            ChangelogSupport::Upsert => {}
        }
        let primary_key = sink_key(&self.graph.nodes[node].operator);
        if primary_key.is_empty() {
            let message = format!(
                "{described} is updated by key, so it needs one: declare PRIMARY KEY (...) NOT ENFORCED, with the \
                 columns that identify a row of the query"
            );
            return Err(self.error(node, message));
        }
        let keys = match self.graph.inputs(node).count() {
            1 => self.keys(from),
            // A key may be in several branches.
            _ => &[],
        };
        if keys.contains(&primary_key) {
            return Ok(Need::Upsert(primary_key));
        }
        // If other columns of the primary key change, the former row must be deleted.
        if keys.iter().any(|key| contains(&primary_key, key)) {
            return Ok(Need::Retract);
        }
        let names = |columns: &[usize]| {
            let names = columns.iter().map(|&column| table.schema.field(column).name().as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let identified = match keys {
            [] => "no columns identify the rows of the query".to_owned(),
            [key, ..] => format!("({}) identifies the rows of the query", names(key)),
        };
        let message = format!(
            "{described} has the primary key ({}), but {identified}, so that several rows can have one primary key; make \
             the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO \
             DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails",
            names(&primary_key)
        );
        Err(self.error(node, message))
    }

    /// Returns what a `Calc` needs whose output is read by this key.
    fn calc_needs(&self, node: NodeIndex, from: NodeIndex, calc: &Calc, key: &Key) -> Need {
        let schema = self.graph.input_schema(node, 0);
        let schema = schema.as_deref().cloned().unwrap_or_else(Schema::empty);
        let source = |&column: &usize| injective_column(&calc.projection.get(column)?.expr, &schema);
        let input: Option<Key> = key.iter().map(source).collect();
        let Some(mut input) = input else { return Need::Retract };
        input.sort_unstable();
        input.dedup();
        // A filter may pass the former version of a row and not the new one.
        let reads_others = |filter: &PhysicalExprRef| !contains(&input, &columns_of(filter));
        let drops_failed = matches!(calc.on_error, ErrorPolicy::Skip | ErrorPolicy::DeadLetter)
            && expressions(calc).any(|expr| can_fail(expr, &schema));
        match calc.filter.as_ref().is_some_and(reads_others) || drops_failed || !self.keys(from).contains(&input) {
            true => Need::Retract,
            false => Need::Upsert(input),
        }
    }

    /// Checks that a retraction has the values of the row that it retracts.
    pub(super) fn check_volatile(&self, node: NodeIndex, calc: &Calc, mode: &ChangelogMode) -> Result<(), Error> {
        let is_retracted = matches!(mode, ChangelogMode::Retract);
        let mut wrong = expressions(calc).filter(|expr| is_volatile(expr));
        let mut wrong = wrong.find(|expr| is_retracted || calc.filter.as_ref().is_some_and(|filter| filter == *expr));
        let Some(expr) = wrong.take() else { return Ok(()) };
        let called = volatile_call(expr);
        let inputs = self.graph.inputs(node).map(|edge| edge.from);
        let cause = inputs.map(|from| self.described_cause(from)).next().unwrap_or_default();
        Err(self.error(
            node,
            format!(
                "`{}` has another value each time it is evaluated, so a row that it was part of could not be retracted: \
                 {cause}. Compute it before the rows are updated, or write them to a table with their key as PRIMARY KEY",
                crate::explain::expression(called)
            ),
        ))
    }

    /// Checks that a join finds the pairs again whose rows are updated or deleted.
    pub(super) fn check_volatile_condition(&self, node: NodeIndex, join: &Join) -> Result<(), Error> {
        let Some(filter) = join.filter.as_ref().filter(|filter| is_volatile(filter)) else {
            return Ok(());
        };
        let message = format!(
            "`{}` in the condition of a join has another value each time it is evaluated, so the rows that were joined \
             could not be found again when they are updated: {}. Compute it in a view or subquery, and join that",
            crate::explain::expression(volatile_call(filter)),
            self.described_cause(node)
        );
        Err(self.error(node, message))
    }

    /// Checks that the calls of an aggregate can take back the values of former rows.
    fn check_retractable(&self, node: NodeIndex, from: NodeIndex, aggregates: &[Aggregate]) -> Result<(), Error> {
        let functions = Functions::all();
        let wrong = aggregates.iter().find(|call| {
            let properties = functions.aggregate_properties(call.function.fun().name());
            !properties.is_retractable
        });
        let Some(call) = wrong else { return Ok(()) };
        let mut retractable: Vec<String> = functions.retractable_aggregates().map(shown_name).collect();
        retractable.sort_unstable();
        retractable.dedup();
        let message = format!(
            "{} cannot take back the values of rows that are updated or deleted: {}. Over such rows there are {}",
            shown_name(call.function.fun().name()),
            self.described_cause(from),
            retractable.join(", ")
        );
        Err(self.error(node, message))
    }

    /// Checks that the accumulators of a window can take back the values of former rows.
    fn check_window_functions(
        &self,
        node: NodeIndex,
        from: NodeIndex,
        aggregate: &WindowAggregate,
    ) -> Result<(), Error> {
        for call in &aggregate.aggregates {
            let function = &call.function;
            let name = function.fun().name();
            let remedy = match name {
                "first_value" | "last_value" if function.order_bys().is_empty() => {
                    "add ORDER BY to its argument: the order of arrival is not kept"
                }
                "count" | "min" | "max" | "first_value" | "last_value" | "array_agg" | "string_agg" => continue,
                "median" | "percentile_cont" | "$percentile" => continue,
                name if name.starts_with("bitmap_") => continue,
                "sum" | "avg" if !function.field().data_type().is_unsigned_integer() => continue,
                _ => {
                    "there are COUNT, SUM, AVG, MIN, MAX, ARRAY_AGG, LISTAGG, MEDIAN, PERCENTILE and aggregates of bitmaps, \
                     and FIRST_VALUE and LAST_VALUE with ORDER BY; or group without a window"
                }
            };
            let message = format!(
                "{} within a window cannot take back the values of rows that are updated or deleted: {}; {remedy}",
                shown_name(name),
                self.described_cause(from),
            );
            return Err(self.error(node, message));
        }
        Ok(())
    }

    /// Checks that nobody reads the late rows of a node, which would be changes.
    fn check_late_output(&self, node: NodeIndex, from: NodeIndex) -> Result<(), Error> {
        if !self.graph.outputs(node).any(|edge| matches!(edge.port, Port::Late(_))) {
            return Ok(());
        }
        let message = format!(
            "late rows cannot be written where rows are updated or deleted: {}. Drop the sink of the late rows; \
             `millstream_late_rows_total` counts them",
            self.described_cause(from)
        );
        Err(self.error(node, message))
    }

    fn append_only(&self, node: NodeIndex, from: NodeIndex, what: &str) -> Error {
        let message = format!(
            "{what} needs rows that are never updated or deleted, but its input has updates: {}. Apply the window to \
             an append-only table first",
            self.described_cause(from)
        );
        self.error(node, message)
    }

    /// Returns the operator that makes the rows of a node be updated.
    fn cause(&self, node: NodeIndex) -> &Operator {
        let mut node = node;
        loop {
            let operator = &self.graph.nodes[node].operator;
            let is_passed_on = match operator {
                Operator::Calc(_)
                | Operator::ChangelogNormalize(_)
                | Operator::SinkMaterialize(_)
                | Operator::WindowAssign(_)
                | Operator::Unnest(_)
                | Operator::Join(_)
                | Operator::MultiJoin(_) => true,
                Operator::Source(_)
                | Operator::WindowAggregate(_)
                | Operator::GroupAggregate(_)
                | Operator::WindowJoin(_)
                | Operator::TemporalJoin(_)
                | Operator::WindowTopN(_)
                | Operator::TopN(_)
                | Operator::Sort(_)
                | Operator::DynamicFilter(_)
                | Operator::Sink(_) => false,
            };
            let mut inputs = self.graph.inputs(node).filter(|edge| edge.port == Port::Main);
            let next = inputs.find(|edge| self.provided[edge.from].changes.is_some());
            match next.filter(|_| is_passed_on) {
                Some(edge) => node = edge.from,
                None => return operator,
            }
        }
    }

    fn described_cause(&self, node: NodeIndex) -> String {
        match self.cause(node) {
            Operator::GroupAggregate(aggregate) if aggregate.aggregates.is_empty() => {
                "it has a GROUP BY, DISTINCT or UNION without a window".to_owned()
            }
            Operator::MultiJoin(_) => format!("it has {}", described_join(JoinType::Inner)),
            Operator::Join(join) => format!("it has {}", described_join(join.join_type)),
            Operator::TopN(_) => "it has a ROW_NUMBER() or LIMIT without a window".to_owned(),
            Operator::Source(source) => format!(
                "it reads the changes of table `{}` ({})",
                source.table.name,
                source.table.connector()
            ),
            _ => "it has a GROUP BY without a window".to_owned(),
        }
    }
}

/// Returns the SQL of a join that updates the rows of append-only inputs.
fn described_join(join_type: JoinType) -> String {
    match join_type {
        JoinType::LeftAnti => "a NOT EXISTS, NOT IN or EXCEPT".to_owned(),
        other => format!("a {} JOIN without a window", other.to_string().to_uppercase()),
    }
}

/// Returns the innermost volatile expression.
fn volatile_call(expr: &PhysicalExprRef) -> &PhysicalExprRef {
    let volatile = expr.children().into_iter().find(|child| is_volatile(child));
    volatile.map_or(expr, volatile_call)
}

fn expressions(calc: &Calc) -> impl Iterator<Item = &PhysicalExprRef> {
    let columns = calc.projection.iter().map(|column| &column.expr);
    columns.chain(&calc.filter)
}
