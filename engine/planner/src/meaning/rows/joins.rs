//! The meaning of joins.

use arrow_schema::Schema;
use datafusion::physical_expr::PhysicalExprRef;
use millstream_connectors::changelog::is_changelog;
use millstream_graph::{Join, MultiJoin, NodeIndex, TemporalJoin, TimeBounds, VersionTime, WindowJoin};

use super::{Rows, SymbolicEvaluation, of_all, reads};
use crate::meaning::items::{bounds_item, column_item, emission_item, time_to_live};
use crate::meaning::symbol::{Item, Symbol};
use crate::meaning::{Aspect, Meaning, Side};

/// An input of a join: the rows with the columns that are joined.
struct Input {
    side: Side,
    rows: Rows,
    schema: Schema,
    /// Columns, distinguished from those of the other side.
    symbols: Vec<Symbol>,
}

impl SymbolicEvaluation<'_> {
    pub(super) fn joined(&mut self, node: NodeIndex, join: &Join) -> Rows {
        let Join {
            join_type,
            on,
            nulls_are_equal,
            filter,
            bounds,
            emission,
            state_ttl,
        } = join;
        // The kind of a change is not stored.
        let width = |input: usize| {
            let schema = self.input_schema(node, input);
            schema.fields().len() - usize::from(is_changelog(&schema))
        };
        let inputs = [
            self.join_input(node, Side::Left, width(0)),
            self.join_input(node, Side::Right, width(1)),
        ];
        let mut meaning = Meaning::default();
        for (index, input) in inputs.iter().enumerate() {
            let Some(bounds) = bounds else { continue };
            let TimeBounds {
                time,
                expiry,
                // They follow from the expiry.
                retention: _,
                watermark_delay: _,
            } = bounds;
            meaning.add(Aspect::Time, [column_item(&input.symbols, time[index])]);
            let expiry = of_all(&input.rows, |branch| column_item(&branch.columns, expiry[index]));
            meaning.add(Aspect::Expiry(input.side), [expiry]);
        }
        let equal = match nulls_are_equal {
            true => "IS NOT DISTINCT FROM",
            false => "=",
        };
        let join_type = join_type.to_string().to_lowercase();
        let columns = condition(&mut meaning, join_type, &inputs, (on, equal), filter.as_ref());
        meaning.add(Aspect::Emission, [emission_item(*emission)]);
        meaning.add(Aspect::TimeToLive, time_to_live(state_ttl));
        self.stateful(node, meaning, columns)
    }

    pub(super) fn joined_inputs(&mut self, node: NodeIndex, join: &MultiJoin) -> Rows {
        let MultiJoin {
            keys,
            filter,
            output,
            emission,
            state_ttl,
        } = join;
        let inputs: Vec<Input> = (0..keys.len())
            .map(|input| {
                let schema = self.input_schema(node, input);
                let width = schema.fields().len() - usize::from(is_changelog(&schema));
                self.join_input(node, Side::Numbered(input), width)
            })
            .collect();
        let mut meaning = Meaning::default();
        for Input { side, rows, .. } in &inputs {
            reads(&mut meaning, *side, rows);
            let width = rows.first().map_or(0, |branch| branch.columns.len());
            let columns = (0..width).map(|column| of_all(rows, |branch| column_item(&branch.columns, column)));
            meaning.add(Aspect::Columns(*side), columns);
        }
        meaning.add(
            Aspect::JoinType,
            [Item::new(format!("inner of {} inputs", inputs.len()))],
        );
        let equal = (0..keys.first().map_or(0, Vec::len)).map(|at| {
            let inputs = inputs.iter().zip(keys);
            let items: Vec<Item> = inputs
                .map(|(input, key)| column_item(&input.symbols, key[at]))
                .collect();
            let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
            Item::over(texts.join(" = "), "=", &items.iter().collect::<Vec<_>>())
        });
        meaning.add(Aspect::On, equal.collect::<Vec<_>>());
        let all: Vec<Symbol> = inputs.iter().flat_map(|input| input.symbols.iter().cloned()).collect();
        let fields = inputs.iter().flat_map(|input| input.schema.fields().iter().cloned());
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let filter = filter.as_ref().map(|filter| Symbol::over(filter, &all, &schema));
        meaning.add(Aspect::Condition, filter.iter().flat_map(Symbol::conjuncts));
        meaning.add(Aspect::Emission, [emission_item(*emission)]);
        meaning.add(Aspect::TimeToLive, time_to_live(&[*state_ttl]));
        let columns = output
            .iter()
            .map(|(input, column)| inputs[*input].symbols[*column].item());
        let columns = columns.collect();
        self.stateful(node, meaning, columns)
    }

    pub(super) fn joined_versions(&mut self, node: NodeIndex, join: &TemporalJoin) -> Rows {
        let TemporalJoin {
            is_outer,
            on,
            filter,
            time,
            emission,
        } = join;
        let width = |input: usize| {
            let schema = self.input_schema(node, input);
            schema.fields().len() - usize::from(is_changelog(&schema))
        };
        let inputs = [
            self.join_input(node, Side::Left, width(0)),
            self.join_input(node, Side::Right, width(1)),
        ];
        let mut meaning = Meaning::default();
        match *time {
            VersionTime::Event { left, right } => {
                for (input, column) in inputs.iter().zip([left, right]) {
                    meaning.add(Aspect::Time, [column_item(&input.symbols, column)]);
                }
            }
            // Left rows in state only wait.
            VersionTime::Processing { waits_for_end: _ } => {
                meaning.add(Aspect::Time, [Item::new("processing time".to_owned())]);
            }
        }
        let join_type = if *is_outer { "left temporal" } else { "inner temporal" };
        let columns = condition(&mut meaning, join_type.to_owned(), &inputs, (on, "="), filter.as_ref());
        meaning.add(Aspect::Emission, [emission_item(*emission)]);
        self.stateful(node, meaning, columns)
    }

    pub(super) fn joined_windows(&mut self, node: NodeIndex, join: &WindowJoin) -> Rows {
        let WindowJoin {
            join_type,
            joined_columns,
            left,
            right,
            on,
            filter,
        } = join;
        let inputs = [
            self.join_input(node, Side::Left, joined_columns[0]),
            self.join_input(node, Side::Right, joined_columns[1]),
        ];
        let mut meaning = Meaning::default();
        for (input, window) in inputs.iter().zip([left, right]) {
            let bounds = of_all(&input.rows, |branch| bounds_item(window, &branch.columns));
            meaning.add(Aspect::WindowOf(input.side), [bounds]);
        }
        let join_type = join_type.to_string().to_lowercase();
        let columns = condition(&mut meaning, join_type, &inputs, (on, "="), filter.as_ref());
        self.stateful(node, meaning, columns)
    }

    /// Returns an input whose first `width` columns are joined.
    fn join_input(&self, node: NodeIndex, side: Side, width: usize) -> Input {
        let input = match side {
            Side::Only | Side::Left => 0,
            Side::Right => 1,
            Side::Numbered(input) => input,
        };
        let mut rows = self.input(node, input);
        rows.iter_mut().for_each(|branch| branch.columns.truncate(width));
        let fields = self.input_schema(node, input).fields;
        let schema = Schema::new(fields.iter().take(width).cloned().collect::<Vec<_>>());
        let symbols = sided(side, &rows, &schema);
        Input {
            side,
            rows,
            schema,
            symbols,
        }
    }
}

/// Adds the inputs and the condition of a join, and returns the columns of both inputs.
fn condition(
    meaning: &mut Meaning,
    join_type: String,
    inputs: &[Input; 2],
    (on, equal): (&[(usize, usize)], &str),
    filter: Option<&PhysicalExprRef>,
) -> Vec<Item> {
    for Input { side, rows, .. } in inputs {
        reads(meaning, *side, rows);
        let width = rows.first().map_or(0, |branch| branch.columns.len());
        let columns = (0..width).map(|column| of_all(rows, |branch| column_item(&branch.columns, column)));
        meaning.add(Aspect::Columns(*side), columns);
    }
    let [left, right] = inputs;
    meaning.add(Aspect::JoinType, [Item::new(join_type)]);
    let pairs = on.iter().map(|&pair| {
        let (left, right) = (column_item(&left.symbols, pair.0), column_item(&right.symbols, pair.1));
        let text = format!("{} {equal} {}", left.text, right.text);
        Item::over(text, equal, &[&left, &right])
    });
    meaning.add(Aspect::On, pairs);
    let both: Vec<Symbol> = left.symbols.iter().chain(&right.symbols).cloned().collect();
    let fields = left.schema.fields().iter().chain(right.schema.fields());
    let schema = Schema::new(fields.cloned().collect::<Vec<_>>());
    let filter = filter.map(|filter| Symbol::over(filter, &both, &schema));
    meaning.add(Aspect::Condition, filter.iter().flat_map(Symbol::conjuncts));
    both.iter().map(Symbol::item).collect()
}

/// Returns the columns of a side of a join, distinguished from those of the other side.
fn sided(side: Side, rows: &Rows, schema: &Schema) -> Vec<Symbol> {
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let item = of_all(rows, |branch| column_item(&branch.columns, index));
        let word = match side {
            Side::Only => String::new(),
            Side::Left => "left".to_owned(),
            Side::Right => "right".to_owned(),
            Side::Numbered(input) => format!("input {}", input + 1),
        };
        let sided = Item::over(format!("{word} {}", item.text), &word, &[&item]);
        Symbol::named(sided, field.data_type().clone())
    });
    columns.collect()
}
