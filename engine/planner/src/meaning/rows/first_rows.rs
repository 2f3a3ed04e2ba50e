//! The meaning of operators that keep rows in an order.

use millstream_connectors::changelog::is_changelog;
use millstream_graph::{NodeIndex, RankFunction, Sort, TopN, WindowTopN};

use super::{Rows, SymbolicEvaluation, of_all, reads};
use crate::meaning::items::{bounds_item, column_item, emission_item, sort_item, sort_words, time_to_live};
use crate::meaning::symbol::Item;
use crate::meaning::{Aspect, Meaning, Side};

impl SymbolicEvaluation<'_> {
    pub(super) fn first_rows(&mut self, node: NodeIndex, top: &WindowTopN) -> Rows {
        let WindowTopN {
            window,
            partition,
            order,
            function,
            from,
            to,
            prefers_last,
            // The result is computed when the window fires.
            emit_rank: _,
        } = top;
        let schema = self.input_schema(node, 0);
        let input = self.input(node, 0);
        let mut meaning = Meaning::default();
        reads(&mut meaning, Side::Only, &input);
        meaning.add(
            Aspect::WindowOf(Side::Only),
            [of_all(&input, |branch| bounds_item(window, &branch.columns))],
        );
        let partition = partition
            .iter()
            .map(|&key| of_all(&input, |branch| column_item(&branch.columns, key)));
        meaning.add(Aspect::Keys, partition);
        let sorts = order.iter().map(|sort| {
            of_all(&input, |branch| {
                sort_item(&sort.expr, &sort_words(sort.options), &branch.columns, &schema)
            })
        });
        meaning.add(Aspect::Order, sorts);
        let last = if *prefers_last { ", the last of equal rows" } else { "" };
        let function = match function {
            RankFunction::RowNumber => String::new(),
            RankFunction::Rank | RankFunction::DenseRank => format!("{}() ", function.name()),
        };
        meaning.add(Aspect::Ranks, [Item::new(format!("{function}{from} to {to}{last}"))]);
        let columns =
            (0..schema.fields().len()).map(|column| of_all(&input, |branch| column_item(&branch.columns, column)));
        let columns: Vec<Item> = columns.collect();
        meaning.add(Aspect::Columns(Side::Only), columns.iter().cloned());
        self.stateful(node, meaning, columns.into_iter().chain([Item::new("rank")]).collect())
    }

    pub(super) fn sorted(&mut self, node: NodeIndex, sort: &Sort) -> Rows {
        let Sort { order } = sort;
        let schema = self.input_schema(node, 0);
        let input = self.input(node, 0);
        let mut meaning = Meaning::default();
        reads(&mut meaning, Side::Only, &input);
        let sorts = order.iter().map(|sort| {
            of_all(&input, |branch| {
                sort_item(&sort.expr, &sort_words(sort.options), &branch.columns, &schema)
            })
        });
        meaning.add(Aspect::Order, sorts);
        let item = |column: usize| of_all(&input, |branch| column_item(&branch.columns, column));
        let columns: Vec<Item> = (0..schema.fields().len()).map(item).collect();
        meaning.add(Aspect::Columns(Side::Only), columns.iter().cloned());
        self.stateful(node, meaning, columns)
    }

    pub(super) fn first_rows_of_all(&mut self, node: NodeIndex, top: &TopN) -> Rows {
        let TopN {
            partition,
            order,
            function,
            from,
            to,
            prefers_last,
            is_by_arrival,
            // The rank is computed from the rows.
            emit_rank: _,
            emission,
            state_ttl,
        } = top;
        let schema = self.input_schema(node, 0);
        let input = self.input(node, 0);
        let mut meaning = Meaning::default();
        reads(&mut meaning, Side::Only, &input);
        let item = |column: usize| of_all(&input, |branch| column_item(&branch.columns, column));
        meaning.add(Aspect::Keys, partition.iter().map(|&key| item(key)));
        let sorts = order.iter().map(|sort| {
            of_all(&input, |branch| {
                sort_item(&sort.expr, &sort_words(sort.options), &branch.columns, &schema)
            })
        });
        meaning.add(Aspect::Order, sorts);
        if *is_by_arrival {
            meaning.add(Aspect::Order, [Item::new("PROCTIME()")]);
        }
        let last = if *prefers_last { ", the last of equal rows" } else { "" };
        meaning.add(
            Aspect::Ranks,
            [Item::new(format!("{}() {from} to {to}{last}", function.name()))],
        );
        // The kind of a change is not stored.
        let width = schema.fields().len() - usize::from(is_changelog(&schema));
        let columns: Vec<Item> = (0..width).map(item).collect();
        meaning.add(Aspect::Columns(Side::Only), columns.iter().cloned());
        meaning.add(Aspect::Emission, [emission_item(*emission)]);
        meaning.add(Aspect::TimeToLive, time_to_live(&[*state_ttl]));
        let rank = top.emit_rank.then(|| Item::new("rank"));
        self.stateful(node, meaning, columns.into_iter().chain(rank).collect())
    }
}
