//! Symbolic evaluation of a graph: the rows of each edge as expressions over sources and stateful operators.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use millstream_connectors::OptionEffect;
use millstream_connectors::changelog::{KIND_COLUMN, is_changelog, kind_field};
use millstream_connectors::registry::{self, RowOption};
use millstream_graph::{
    Calc, ChangelogNormalize, ConflictStrategy, DynamicFilter, Edge, ErrorPolicy, GroupAggregate, JobGraph, Node,
    NodeIndex, Operator, OperatorId, Phase, Port, Sink, SinkMaterialize, Source, TimeAttribute, Unnest, Window,
    WindowAggregate, WindowAssign, dead_letter_schema,
};

use super::items::{call_item, column_item, emission_item, time_item, time_to_live, window_item};
use super::symbol::{Item, Symbol};
use super::{Aspect, Meaning, Side};
use crate::sql::in_sql;

mod first_rows;
mod joins;

/// Rows of one source or stateful operator, after the stateless operators since. A union has several branches.
#[derive(Debug, Clone)]
struct Branch {
    from: Item,
    origin: OperatorId,
    /// Conditions that all rows meet, by their exact text.
    conditions: BTreeMap<String, Item>,
    /// Windows for each of which a row is repeated.
    copies: Vec<Item>,
    /// The error policy, if it is not to fail the job.
    errors: BTreeSet<String>,
    columns: Vec<Symbol>,
    /// Set if the rows are partial results of a local aggregate.
    partial: Option<Partial>,
}

/// The result of a local aggregate.
#[derive(Debug, Clone)]
struct Partial {
    /// Number of key columns; the other columns are partial states of the calls.
    keys: usize,
    window: Item,
    time: Item,
    calls: Vec<Item>,
}

type Rows = Vec<Branch>;

/// Returns the meaning of the state of every stateful operator, and of the position of every source.
pub(super) fn meanings(graph: &JobGraph) -> BTreeMap<OperatorId, Meaning> {
    let mut walk = SymbolicEvaluation {
        graph,
        rows: HashMap::new(),
        meanings: BTreeMap::new(),
    };
    for node in 0..graph.nodes.len() {
        walk.node(node);
    }
    walk.meanings
}

struct SymbolicEvaluation<'g> {
    graph: &'g JobGraph,
    /// Rows of the main outputs.
    rows: HashMap<NodeIndex, Rows>,
    meanings: BTreeMap<OperatorId, Meaning>,
}

impl SymbolicEvaluation<'_> {
    /// Adds the meaning of an operator. Operators are destructured with all fields, so a new operator or field does not
    /// compile until its meaning is defined.
    fn node(&mut self, node: NodeIndex) {
        let rows = match &self.graph.nodes[node].operator {
            Operator::Source(source) => self.source(node, source),
            Operator::Calc(calc) => {
                let schema = self.input_schema(node, 0);
                self.input(node, 0)
                    .into_iter()
                    .map(|rows| calculated(rows, calc, &schema))
                    .collect()
            }
            Operator::Unnest(unnest) => self.unnested(node, unnest),
            Operator::WindowAssign(WindowAssign { window, time }) => self.assigned(node, window, time),
            Operator::WindowAggregate(aggregate) => self.aggregated(node, aggregate),
            Operator::GroupAggregate(aggregate) => self.grouped(node, aggregate),
            Operator::ChangelogNormalize(normalize) => self.normalized(node, normalize),
            Operator::SinkMaterialize(materialize) => self.materialized(node, materialize),
            Operator::Join(join) => self.joined(node, join),
            Operator::MultiJoin(join) => self.joined_inputs(node, join),
            Operator::TemporalJoin(join) => self.joined_versions(node, join),
            Operator::WindowJoin(join) => self.joined_windows(node, join),
            Operator::WindowTopN(top) => self.first_rows(node, top),
            Operator::TopN(top) => self.first_rows_of_all(node, top),
            Operator::Sort(sort) => self.sorted(node, sort),
            // The filter drops only rows that the join drops too; its condition is a filter of the query.
            Operator::DynamicFilter(DynamicFilter {
                condition,
                window: _,
                time: _,
                keys: _,
                value: _,
                extreme: _,
            }) => {
                let mut rows = self.input(node, 0);
                for branch in &mut rows {
                    let condition = condition.and_then(|column| branch.columns.get(column));
                    let conjuncts = condition.map(Symbol::conjuncts).unwrap_or_default();
                    branch
                        .conditions
                        .extend(conjuncts.into_iter().map(|item| (item.exact.clone(), item)));
                }
                rows
            }
            // Prepared output is published whatever the new pipeline is.
            Operator::Sink(Sink { table: _, on_error: _ }) => return,
        };
        self.rows.insert(node, rows);
    }

    fn input_schema(&self, node: NodeIndex, input: usize) -> Schema {
        let schema = self.graph.input_schema(node, input);
        schema.map_or_else(Schema::empty, |schema| schema.as_ref().clone())
    }

    fn input(&self, node: NodeIndex, input: usize) -> Rows {
        let edges = self.graph.inputs(node).filter(|edge| edge.input == input);
        edges.flat_map(|edge| self.edge(edge)).collect()
    }

    fn edge(&self, edge: &Edge) -> Rows {
        let id = &self.graph.nodes[edge.from].id;
        match edge.port {
            Port::Main => self.rows.get(&edge.from).cloned().unwrap_or_default(),
            Port::Late(input) => {
                let mut rows = self.input(edge.from, input);
                for branch in &mut rows {
                    let late = Item::new(format!("late for `{id}`"));
                    branch.conditions.insert(late.exact.clone(), late);
                }
                rows
            }
            Port::DeadLetters => {
                let columns = dead_letter_schema()
                    .fields()
                    .iter()
                    .map(|field| named(field.name(), field.data_type()))
                    .collect();
                vec![branch(id, Item::new(format!("dead letters of `{id}`")), columns)]
            }
        }
    }

    fn source(&mut self, node: NodeIndex, source: &Source) -> Rows {
        let Source {
            table,
            projection,
            calc,
            // The watermark determines when windows fire, not their content.
            watermark: _,
            on_error,
        } = source;
        let mut meaning = Meaning::default();
        let mut errors: BTreeSet<String> = on_failure(*on_error).map(str::to_string).into_iter().collect();
        for RowOption { name, value, effect } in registry::row_options(table) {
            let selects_records = match effect {
                OptionEffect::Records => true,
                OptionEffect::Rows => false,
                OptionEffect::Failures => {
                    errors.insert(format!("'{name}' = '{value}'"));
                    continue;
                }
                OptionEffect::Nothing => continue,
            };
            meaning.add(Aspect::Option { name, selects_records }, [Item::new(value)]);
        }
        meaning.add(Aspect::PartitionedBy, table.partitioned_by.iter().map(Item::new));
        let id = self.graph.nodes[node].id.clone();
        // Records without field names are decoded by position.
        let by_place = table.option("format").or(table.option("value.format")) == Some("csv");
        let columns = projection.iter().map(|&index| {
            let field = table.schema.field(index);
            let metadata = table.metadata.iter().find(|metadata| metadata.column == *field.name());
            let origin = match metadata {
                Some(metadata) => format!(" METADATA FROM '{}'", metadata.key),
                None if by_place => format!(", field {}", index + 1),
                None => String::new(),
            };
            let name = format!("{}.{}", table.name, field.name());
            let declared = format!("{name}\0{}{origin}", in_sql(&field.data_type().to_string()));
            let item = Item {
                fields: BTreeSet::from([declared]),
                ..Item::new(name)
            };
            Symbol::named(item, field.data_type().clone())
        });
        let mut rows = branch(&id, Item::new(&table.name), columns.collect());
        rows.errors = errors;
        rows.columns.extend(self.kind_of(node).map(|(_, kind)| kind));
        if let Some(calc) = calc {
            let decoded = table.schema.project(projection).unwrap_or_else(|_| Schema::empty());
            let kind = self.kind_of(node).map(|(field, _)| Arc::new(field));
            let decoded = Schema::new(decoded.fields.iter().cloned().chain(kind).collect::<Vec<_>>());
            rows = calculated(rows, calc, &decoded);
        }
        self.meanings.insert(id, meaning);
        vec![rows]
    }

    fn assigned(&self, node: NodeIndex, window: &Window, time: &TimeAttribute) -> Rows {
        let mut rows = self.input(node, 0);
        for branch in &mut rows {
            let time = time_item(time, &branch.columns);
            let window = window_item(window, &branch.columns);
            let text = format!("{} on {}", window.text, time.text);
            branch.copies.push(Item::over(text, "window", &[&window, &time]));
            branch
                .columns
                .extend(bounds(&["window_start", "window_end", "window_time"]));
        }
        rows
    }

    fn unnested(&self, node: NodeIndex, unnest: &Unnest) -> Rows {
        let Unnest {
            collection,
            kept,
            is_outer,
            with_ordinality: _,
        } = unnest;
        let output = &self.graph.nodes[node].output.schema;
        let mut rows = self.input(node, 0);
        for branch in &mut rows {
            let collection = column_item(&branch.columns, *collection);
            let outer = if *is_outer { "element or NULL" } else { "element" };
            let repeated = Item::over(format!("{outer} of {}", collection.text), outer, &[&collection]);
            let mut columns = picked(&branch.columns, kept);
            let elements = output.fields().iter().enumerate().skip(kept.len());
            columns.extend(elements.map(|(index, field)| {
                let part = format!("{outer}#{}", index - kept.len());
                let item = Item::over(
                    format!("{} of {}", field.name(), collection.text),
                    &part,
                    &[&collection],
                );
                Symbol::named(item, field.data_type().clone())
            }));
            branch.copies.push(repeated);
            branch.columns = columns;
        }
        rows
    }

    fn aggregated(&mut self, node: NodeIndex, aggregate: &WindowAggregate) -> Rows {
        let WindowAggregate {
            window,
            time,
            keys,
            aggregates,
            phase,
            // Lateness determines which rows count, not how.
            allowed_lateness: _,
        } = aggregate;
        let schema = self.input_schema(node, 0);
        let input = self.input(node, 0);
        if *phase == Phase::Local {
            let output = &self.graph.nodes[node].output.schema;
            return input
                .into_iter()
                .map(|branch| {
                    let calls: Vec<Item> = aggregates
                        .iter()
                        .map(|call| call_item(call, &branch.columns, &schema))
                        .collect();
                    let mut columns = picked(&branch.columns, keys);
                    let states = output.fields().iter().skip(keys.len());
                    columns.extend(states.map(|field| named(field.name(), field.data_type())));
                    Branch {
                        partial: Some(Partial {
                            keys: keys.len(),
                            window: window_item(window, &branch.columns),
                            time: time_item(time, &branch.columns),
                            calls,
                        }),
                        columns,
                        ..branch
                    }
                })
                .collect();
        }
        let calls = |branch: &Branch| -> Vec<Item> {
            match &branch.partial {
                Some(partial) => partial.calls.clone(),
                None => aggregates
                    .iter()
                    .map(|call| call_item(call, &branch.columns, &schema))
                    .collect(),
            }
        };
        let window_of = |branch: &Branch| match &branch.partial {
            Some(partial) => partial.window.clone(),
            None => window_item(window, &branch.columns),
        };
        let time_of = |branch: &Branch| match &branch.partial {
            Some(partial) => partial.time.clone(),
            None => time_item(time, &branch.columns),
        };
        let mut meaning = Meaning::default();
        reads(&mut meaning, Side::Only, &input);
        meaning.add(Aspect::Window, [of_all(&input, window_of)]);
        meaning.add(Aspect::Time, [of_all(&input, time_of)]);
        let key_items: Vec<Item> = keys
            .iter()
            .map(|&key| of_all(&input, |branch| column_item(&branch.columns, key)))
            .collect();
        let call_items: Vec<Item> = (0..aggregates.len())
            .map(|index| of_all(&input, |branch| calls(branch).get(index).cloned().unwrap_or_default()))
            .collect();
        meaning.add(Aspect::Keys, key_items.iter().cloned());
        meaning.add(Aspect::Aggregates, call_items.iter().cloned());
        let bounds = ["window_start", "window_end"].map(Item::new);
        let columns = key_items.into_iter().chain(call_items).chain(bounds).collect();
        self.stateful(node, meaning, columns)
    }

    fn grouped(&mut self, node: NodeIndex, aggregate: &GroupAggregate) -> Rows {
        let GroupAggregate {
            keys,
            aggregates,
            emission,
            state_ttl,
            phase,
            // A property of the input.
            retracts: _,
        } = aggregate;
        let schema = self.input_schema(node, 0);
        let input = self.input(node, 0);
        if *phase == Phase::Local {
            let output = &self.graph.nodes[node].output.schema;
            let partial = |branch: Branch| {
                let calls = aggregates.iter().map(|call| call_item(call, &branch.columns, &schema));
                let calls = calls.collect();
                let mut columns = picked(&branch.columns, keys);
                let states = output.fields().iter().skip(keys.len());
                columns.extend(states.map(|field| named(field.name(), field.data_type())));
                Branch {
                    partial: Some(Partial {
                        keys: keys.len(),
                        window: Item::default(),
                        time: Item::default(),
                        calls,
                    }),
                    columns,
                    ..branch
                }
            };
            return input.into_iter().map(partial).collect();
        }
        let mut meaning = Meaning::default();
        reads(&mut meaning, Side::Only, &input);
        let keys = keys
            .iter()
            .map(|&key| of_all(&input, |branch| column_item(&branch.columns, key)));
        let keys: Vec<Item> = keys.collect();
        let call_of = |branch: &Branch, index: usize| match &branch.partial {
            Some(partial) => partial.calls.get(index).cloned().unwrap_or_default(),
            None => call_item(&aggregates[index], &branch.columns, &schema),
        };
        let calls = (0..aggregates.len()).map(|index| of_all(&input, |branch| call_of(branch, index)));
        let calls: Vec<Item> = calls.collect();
        meaning.add(Aspect::Keys, keys.iter().cloned());
        meaning.add(Aspect::Aggregates, calls.iter().cloned());
        meaning.add(Aspect::Emission, [emission_item(*emission)]);
        meaning.add(Aspect::TimeToLive, time_to_live(&[*state_ttl]));
        self.stateful(node, meaning, keys.into_iter().chain(calls).collect())
    }

    fn normalized(&mut self, node: NodeIndex, normalize: &ChangelogNormalize) -> Rows {
        let ChangelogNormalize {
            keys,
            emission,
            state_ttl,
        } = normalize;
        let input = self.input(node, 0);
        let mut meaning = Meaning::default();
        reads(&mut meaning, Side::Only, &input);
        let item = |column: usize| of_all(&input, |branch| column_item(&branch.columns, column));
        // The kind of a change is not stored.
        let width = self.input_schema(node, 0).fields().len().saturating_sub(1);
        let columns: Vec<Item> = (0..width).map(item).collect();
        meaning.add(Aspect::Keys, keys.iter().map(|&key| item(key)));
        meaning.add(Aspect::Columns(Side::Only), columns.iter().cloned());
        meaning.add(Aspect::Emission, [emission_item(*emission)]);
        meaning.add(Aspect::TimeToLive, time_to_live(&[*state_ttl]));
        self.stateful(node, meaning, columns)
    }

    fn materialized(&mut self, node: NodeIndex, materialize: &SinkMaterialize) -> Rows {
        let SinkMaterialize {
            keys,
            // The same rows are kept for each strategy, but for append-only rows.
            strategy,
            emission,
            state_ttl,
        } = materialize;
        let input = self.input(node, 0);
        let mut meaning = Meaning::default();
        reads(&mut meaning, Side::Only, &input);
        let item = |column: usize| of_all(&input, |branch| column_item(&branch.columns, column));
        let schema = self.input_schema(node, 0);
        let width = schema.fields().len() - usize::from(is_changelog(&schema));
        let columns: Vec<Item> = (0..width).map(item).collect();
        meaning.add(Aspect::Keys, keys.iter().map(|&key| item(key)));
        meaning.add(Aspect::Columns(Side::Only), columns.iter().cloned());
        let kept = match strategy {
            ConflictStrategy::Error => "ON CONFLICT DO ERROR",
            ConflictStrategy::Nothing => "ON CONFLICT DO NOTHING",
            ConflictStrategy::Deduplicate => "ON CONFLICT DO DEDUPLICATE",
        };
        meaning.add(Aspect::Emission, [Item::new(kept.to_owned()), emission_item(*emission)]);
        meaning.add(Aspect::TimeToLive, time_to_live(&[*state_ttl]));
        self.stateful(node, meaning, columns)
    }

    /// Returns the column of row kinds of a node's output, if it is a changelog.
    fn kind_of(&self, node: NodeIndex) -> Option<(Field, Symbol)> {
        let output = &self.graph.nodes[node].output;
        let kind = || (kind_field(), named(KIND_COLUMN, &DataType::Int8));
        (!output.changelog.is_append()).then(kind)
    }

    /// Returns the rows of a stateful operator. Its columns are identified by position: their definition is part of the
    /// operator's own meaning.
    fn stateful(&mut self, node: NodeIndex, meaning: Meaning, columns: Vec<Item>) -> Rows {
        let Node { id, output, .. } = &self.graph.nodes[node];
        let columns = columns.into_iter().zip(output.schema.fields()).enumerate();
        let columns = columns.map(|(index, (item, field))| {
            let item = Item {
                text: item.text,
                exact: format!("{id}#{index}"),
                fields: BTreeSet::new(),
            };
            Symbol::named(item, field.data_type().clone())
        });
        let columns = columns.chain(self.kind_of(node).map(|(_, kind)| kind));
        let rows = vec![branch(id, Item::new(id.0.clone()), columns.collect())];
        let id = id.clone();
        self.meanings.insert(id, meaning);
        rows
    }
}

fn branch(origin: &OperatorId, from: Item, columns: Vec<Symbol>) -> Branch {
    Branch {
        from,
        origin: origin.clone(),
        conditions: BTreeMap::new(),
        copies: Vec::new(),
        errors: BTreeSet::new(),
        columns,
        partial: None,
    }
}

fn calculated(rows: Branch, calc: &Calc, schema: &Schema) -> Branch {
    let Calc {
        filter,
        projection,
        on_error,
    } = calc;
    let mut conditions = rows.conditions;
    let filter = filter
        .as_ref()
        .map(|filter| Symbol::over(filter, &rows.columns, schema));
    let conjuncts = filter.iter().flat_map(Symbol::conjuncts);
    conditions.extend(conjuncts.map(|item| (item.exact.clone(), item)));
    let mut errors = rows.errors;
    errors.extend(on_failure(*on_error).map(str::to_string));
    let columns = projection
        .iter()
        .map(|column| Symbol::over(&column.expr, &rows.columns, schema));
    Branch {
        columns: columns.collect(),
        conditions,
        errors,
        ..rows
    }
}

/// Returns the error policy if a failed row does not fail the job.
fn on_failure(policy: ErrorPolicy) -> Option<&'static str> {
    match policy {
        ErrorPolicy::Fail => None,
        ErrorPolicy::DeadLetter | ErrorPolicy::Skip => Some("rows are dropped"),
        ErrorPolicy::Null => Some("values become NULL"),
    }
}

/// Adds the rows that an operator reads.
fn reads(meaning: &mut Meaning, side: Side, rows: &Rows) {
    meaning.reads.extend(rows.iter().map(|branch| branch.origin.clone()));
    let several = rows.len() > 1;
    let marked = |branch: &Branch, item: &Item| match several {
        true => Item::over(
            format!("{} of {}", item.text, branch.from.text),
            "of",
            &[item, &branch.from],
        ),
        false => item.clone(),
    };
    meaning.add(Aspect::Reads(side), rows.iter().map(|branch| branch.from.clone()));
    if several {
        let whole = rows.iter().map(|branch| {
            let columns: Vec<Item> = match &branch.partial {
                Some(partial) => {
                    let keys = branch.columns.iter().take(partial.keys).map(Symbol::item);
                    keys.chain(partial.calls.iter().cloned()).collect()
                }
                None => branch.columns.iter().map(Symbol::item).collect(),
            };
            let texts =
                |items: &mut dyn Iterator<Item = &Item>| items.map(|item| item.text.clone()).collect::<Vec<_>>();
            let mut text = format!("{} of {}", texts(&mut columns.iter()).join(", "), branch.from.text);
            if !branch.conditions.is_empty() {
                text.push_str(&format!(
                    " where {}",
                    texts(&mut branch.conditions.values()).join(" AND ")
                ));
            }
            let all: Vec<&Item> = branch.conditions.values().chain(&columns).collect();
            Item {
                fields: BTreeSet::new(),
                ..Item::over(text, &branch.from.exact, &all)
            }
        });
        meaning.add(Aspect::Union(side), whole);
    }
    let conditions = rows
        .iter()
        .flat_map(|branch| branch.conditions.values().map(|item| marked(branch, item)));
    meaning.add(Aspect::Filter(side), conditions);
    let copies = rows
        .iter()
        .flat_map(|branch| branch.copies.iter().map(|item| marked(branch, item)));
    meaning.add(Aspect::Copies(side), copies);
    let errors: BTreeSet<&String> = rows.iter().flat_map(|branch| &branch.errors).collect();
    meaning.add(Aspect::Errors(side), errors.into_iter().map(Item::new));
}

/// Joins the texts of all branches.
fn of_all(rows: &Rows, item: impl Fn(&Branch) -> Item) -> Item {
    let mut items: Vec<Item> = rows.iter().map(item).collect();
    items.sort_by(|a, b| a.exact.cmp(&b.exact));
    let fields: BTreeSet<String> = items.iter().flat_map(|item| item.fields.clone()).collect();
    items.dedup_by(|a, b| a.exact == b.exact);
    if items.len() == 1 {
        return Item {
            fields,
            ..items.remove(0)
        };
    }
    let text: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let all: Vec<&Item> = items.iter().collect();
    Item::over(text.join(" | "), "any", &all)
}

fn picked(columns: &[Symbol], indices: &[usize]) -> Vec<Symbol> {
    indices
        .iter()
        .filter_map(|&index| columns.get(index).cloned())
        .collect()
}

fn named(name: &str, data_type: &DataType) -> Symbol {
    Symbol::named(Item::new(name), data_type.clone())
}

fn bounds(names: &[&str]) -> Vec<Symbol> {
    let time = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
    names.iter().map(|name| named(name, &time)).collect()
}
