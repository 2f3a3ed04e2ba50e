//! Parts of operators as items of a meaning, over the symbols of their input.

use std::time::Duration;

use arrow_schema::{Schema, SortOptions};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{Aggregate, Emission, TimeAttribute, Window, WindowColumns};
use millstream_proto::spec::format_duration_ms;

use super::symbol::{Item, Symbol};
use crate::explain;

pub(super) fn column_item(columns: &[Symbol], index: usize) -> Item {
    columns.get(index).map(Symbol::item).unwrap_or_default()
}

pub(super) fn bounds_item(window: &WindowColumns, columns: &[Symbol]) -> Item {
    let (start, end) = (column_item(columns, window.start), column_item(columns, window.end));
    Item::over(format!("[{}, {})", start.text, end.text), "bounds", &[&start, &end])
}

pub(super) fn window_item(window: &Window, columns: &[Symbol]) -> Item {
    match window {
        Window::Attached(bounds) => {
            let bounds = bounds_item(bounds, columns);
            Item::over(format!("the window {}", bounds.text), "attached", &[&bounds])
        }
        Window::Tumble { .. } | Window::Hop { .. } | Window::Cumulate { .. } | Window::Session { .. } => {
            Item::new(explain::window(window))
        }
    }
}

pub(super) fn emission_item(emission: Emission) -> Item {
    Item::new(match emission {
        Emission::Changes => "changes",
        Emission::Final => "the final result",
    })
}

/// Returns the times to live of the state of an operator's inputs, or of its only state; nothing if there are none.
pub(super) fn time_to_live(ttls: &[Option<Duration>]) -> Option<Item> {
    let text = |ttl: &Option<Duration>| match ttl {
        Some(ttl) => format_duration_ms(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        None => "none".to_owned(),
    };
    let any = ttls.iter().any(Option::is_some);
    any.then(|| Item::new(ttls.iter().map(text).collect::<Vec<_>>().join(" and ")))
}

pub(super) fn time_item(time: &TimeAttribute, columns: &[Symbol]) -> Item {
    match time {
        TimeAttribute::Event(column) => column_item(columns, *column),
        TimeAttribute::Processing => Item::new("the clock"),
    }
}

pub(super) fn sort_item(expr: &PhysicalExprRef, words: &str, columns: &[Symbol], schema: &Schema) -> Item {
    let item = Symbol::over(expr, columns, schema).item();
    Item::over(format!("{} {words}", item.text), words, &[&item])
}

pub(super) fn call_item(call: &Aggregate, columns: &[Symbol], schema: &Schema) -> Item {
    let Aggregate { function, filter } = call;
    let arguments: Vec<Item> = function
        .expressions()
        .iter()
        .map(|argument| Symbol::over(argument, columns, schema).item())
        .collect();
    let order: Vec<Item> = function
        .order_bys()
        .iter()
        .map(|sort| sort_item(&sort.expr, &sort_words(sort.options), columns, schema))
        .collect();
    let filter = filter
        .as_ref()
        .map(|filter| Symbol::over(filter, columns, schema).item());
    let texts = |items: &[Item]| {
        items
            .iter()
            .map(|item| item.text.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let distinct = if function.is_distinct() { "DISTINCT " } else { "" };
    let mut text = format!("{}({distinct}{})", function.fun().name(), texts(&arguments));
    if function.ignore_nulls() {
        text.push_str(" IGNORE NULLS");
    }
    let kind = text.clone();
    if !order.is_empty() {
        text.push_str(&format!(" ORDER BY {}", texts(&order)));
    }
    if let Some(filter) = &filter {
        text.push_str(&format!(" FILTER (WHERE {})", filter.text));
    }
    let all: Vec<&Item> = arguments.iter().chain(&order).chain(&filter).collect();
    let exact = format!("{kind} {} {} {}", arguments.len(), order.len(), filter.is_some());
    Item::over(text, &exact, &all)
}

/// Returns sort options as text.
pub(super) fn sort_words(options: SortOptions) -> String {
    let direction = if options.descending { "DESC" } else { "ASC" };
    // NULL is the lowest value unless the query says otherwise.
    match options.nulls_first == options.descending {
        true if options.nulls_first => format!("{direction} NULLS FIRST"),
        true => format!("{direction} NULLS LAST"),
        false => direction.to_string(),
    }
}
