//! `WindowTopN` and `TopN` nodes, which keep the rows within the bounds of a pending rank.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{Operator, Port, TopN, WindowTopN};

use super::builder::{InputEdge, keyed_exchange};
use super::calc::RANK_UNBOUNDED;
use super::context::{Context, Result};
use super::relation::{
    Arrival, Attribute, Bound, Branch, Pending, PendingRank, Relation, VIRTUAL_RANK, bare_column, column, columns_of,
    stream, substitute, too_many_ranks,
};

/// Returns true if the rank selects the row of the latest event time. As in Flink's de-duplication, it is then the last
/// to come of several rows with that time; other orders prefer the first to come.
fn is_latest_row(cx: &Context<'_>, relation: &Relation, rank: &PendingRank) -> bool {
    let ([sort], Some(1)) = (rank.order.as_slice(), rank.to) else {
        return false;
    };
    let ordered = relation.columns.iter().zip(&relation.branches[0].exprs);
    let of_order =
        ordered.filter(|(_, expr)| bare_column(expr).is_some() && bare_column(expr) == bare_column(&sort.expr));
    sort.options.descending
        && of_order.into_iter().any(|(column, _)| match column.attribute {
            Attribute::EventTime => true,
            Attribute::Window(id, Bound::Time | Bound::Instant) => !cx.windows[id].processing_time,
            Attribute::Window(..) | Attribute::ProcessingTime | Attribute::None => false,
        })
}

/// Makes the node of a pending rank.
pub(super) fn top_n(cx: &mut Context<'_>, relation: Relation) -> Result<Relation> {
    let Pending::Rank(rank) = &relation.pending else {
        return Ok(relation);
    };
    let rank = rank.clone();
    let Some(to) = rank.to else {
        return Err(cx.error(RANK_UNBOUNDED));
    };
    let first = &relation.branches[0];
    let emit_rank = first
        .exprs
        .iter()
        .chain(&first.filter)
        .any(|expr| columns_of(expr).contains(&VIRTUAL_RANK));
    let input = cx.schema(first.node);
    let width = input.fields().len();
    let mut fields: Vec<Field> = input.fields().iter().map(|field| field.as_ref().clone()).collect();
    if emit_rank {
        fields.push(Field::new(&rank.rank_name, rank.rank_type.clone(), true));
    }
    let schema = Arc::new(Schema::new(fields));
    let (exchange, parallelism) = keyed_exchange(rank.partition.clone());
    let edges = relation
        .branches
        .iter()
        .map(|branch| InputEdge {
            from: branch.node,
            port: Port::Main,
            input: 0,
            exchange: exchange.clone(),
        })
        .collect();
    let prefers_last = is_latest_row(cx, &relation, &rank);
    let mut output = stream(schema.clone(), &[]);
    let mut keeps_attributes = false;
    let is_windowed = rank.window.is_some();
    let operator = match rank.window {
        Some(window) => {
            output.window = Some(window);
            Operator::WindowTopN(WindowTopN {
                window,
                partition: rank.partition,
                order: rank.order,
                function: rank.function,
                from: rank.from,
                to,
                prefers_last,
                emit_rank,
            })
        }
        None => {
            let top = TopN {
                partition: rank.partition,
                order: rank.order,
                function: rank.function,
                from: rank.from,
                to,
                prefers_last: prefers_last || rank.arrival == Some(Arrival::LastToCome),
                is_by_arrival: rank.arrival.is_some(),
                emit_rank,
                emission: cx.emission(),
                state_ttl: cx.pipeline.state_ttl,
            };
            // These rows pass as they come.
            keeps_attributes = top.keeps_first_to_come();
            if keeps_attributes {
                let of = |branch: &Branch| &cx.builder.nodes[branch.node].output;
                let input = of(first);
                let is_same =
                    |branch: &Branch| (of(branch).event_time, of(branch).window) == (input.event_time, input.window);
                if relation.branches.iter().all(is_same) {
                    output.event_time = input.event_time;
                    output.window = input.window;
                }
            } else if to > TopN::RANK_MAX {
                return Err(cx.error(too_many_ranks(to)));
            }
            Operator::TopN(top)
        }
    };
    let node = cx.add("top-n", operator, edges, output, parallelism);
    let real =
        |expr: &PhysicalExprRef| substitute(expr, &|index| (index == VIRTUAL_RANK).then(|| column(&schema, width)));
    // All branches have the same columns over their nodes, so they are one after the exchange.
    let exprs: Result<Vec<_>, _> = first.exprs.iter().map(real).collect();
    let filter = first.filter.as_ref().map(real).transpose();
    let mut columns = relation.columns.clone();
    for column in &mut columns {
        let is_kept = match column.attribute {
            Attribute::EventTime => keeps_attributes,
            Attribute::Window(..) | Attribute::ProcessingTime => keeps_attributes || is_windowed,
            Attribute::None => true,
        };
        if !is_kept {
            column.attribute = Attribute::None;
        }
    }
    Ok(Relation {
        branches: vec![Branch {
            node,
            filter: cx.located(filter)?,
            exprs: cx.located(exprs)?,
            carried: Vec::new(),
        }],
        columns,
        pending: Pending::Nothing,
    })
}
