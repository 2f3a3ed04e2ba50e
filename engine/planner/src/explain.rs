//! Textual form of a job graph: for `EXPLAIN`, for snapshot tests, and for the fingerprint.
//!
//! The text depends on the content of the graph only: no addresses, no hash order. [`canonical`] is the exact form that
//! identifies an operator; [`explain`] is the readable form.

mod canonical;
mod mermaid;

use std::collections::HashSet;
use std::time::Duration;

use arrow_schema::Schema;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use millstream_connectors::changelog::is_changelog;
use millstream_graph::{
    Aggregate, Calc, ChangelogMode, ConflictStrategy, Edge, Emission, ErrorPolicy, Exchange, Extreme, GroupAggregate,
    JobGraph, Join, MultiJoin, NodeIndex, Operator, Parallelism, Phase, Port, RankFunction, SinkMaterialize, Stream,
    TemporalJoin, TimeAttribute, TopN, VersionTime, Window, WindowColumns,
};

use crate::functions::shown_name;

pub(crate) use canonical::{canonical, content_fingerprint, exact, fingerprint, shapes};
pub use mermaid::mermaid;

/// Returns the graph as a tree per sink, with inputs below their readers. A node that several others read is written
/// once.
pub fn explain(graph: &JobGraph) -> String {
    let points = match graph.consistency_interval {
        None => String::new(),
        Some(interval) => format!(", consistency points every {}", duration_of(interval)),
    };
    let mut text = format!("job {} ({} key groups{points})\n", graph.name, graph.max_parallelism);
    let mut seen = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.operator, Operator::Sink(_)) {
            write_node(graph, index, 0, "", &mut seen, &mut text);
        }
    }
    if graph.consistency_interval.is_some() {
        tables_of_one_input(graph).iter().for_each(|note| line(&mut text, note));
    }
    text
}

/// Options of connectors that name their input.
const INPUT_OPTIONS: [&str; 2] = ["topic", "path"];

/// Returns a note for each two tables that read the same topic or folder: a consistency point divides the rows of both
/// at different places.
fn tables_of_one_input(graph: &JobGraph) -> Vec<String> {
    let tables = graph.nodes.iter().filter_map(|node| match &node.operator {
        Operator::Source(source) => Some(&source.table),
        _ => None,
    });
    let tables: Vec<_> = tables.collect();
    let mut notes = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        for earlier in tables[..index]
            .iter()
            .filter(|earlier| earlier.connector() == table.connector())
        {
            let option = INPUT_OPTIONS.iter().find(|option| {
                let input = table.options.get(**option);
                input.is_some() && input == earlier.options.get(**option)
            });
            if let Some(option) = option {
                notes.push(format!(
                    "note: the tables {} and {} read the same {option} independently, so rows that are computed from both may \
                     mix different prefixes of it; use one table",
                    earlier.name, table.name
                ));
            }
        }
    }
    notes
}

fn write_node(
    graph: &JobGraph,
    index: NodeIndex,
    depth: usize,
    arrival: &str,
    seen: &mut HashSet<NodeIndex>,
    text: &mut String,
) {
    let node = &graph.nodes[index];
    let indent = "  ".repeat(depth);
    let single = if node.parallelism == Parallelism::One {
        " [one subtask]"
    } else {
        ""
    };
    if !seen.insert(index) {
        line(text, &format!("{indent}{arrival}{} (see above)", node.id));
        return;
    }
    let mut inputs = graph.inputs(index);
    let input_schema = inputs.next().map(|edge| graph.edge_schema(edge));
    let right_schema = graph
        .inputs(index)
        .find(|edge| edge.input == 1)
        .map(|edge| graph.edge_schema(edge));
    let words = describe(&node.operator, input_schema.as_deref(), right_schema.as_deref());
    let changelog = describe_changelog(&node.output);
    let held_back = match graph.holds_back(index) {
        true => ", held back until consistency points",
        false => "",
    };
    line(
        text,
        &format!("{indent}{arrival}{}: {words}{changelog}{held_back}{single}", node.id),
    );
    for edge in graph.inputs(index) {
        let (side, exchange, port) = describe_edge(graph, edge);
        let of = if port.is_empty() { "" } else { "of " };
        let arrival = format!("{side}<- {exchange}{port}{of}");
        write_node(graph, edge.from, depth + 1, &arrival, seen, text);
    }
}

/// Returns the join input of an edge, its exchange and its rows; each is empty or followed by a space.
fn describe_edge(graph: &JobGraph, edge: &Edge) -> (String, String, &'static str) {
    let last = graph.inputs(edge.to).map(|edge| edge.input).max();
    let side = match (last, edge.input) {
        (None | Some(0), _) => String::new(),
        (Some(1), 0) => "left ".to_owned(),
        (Some(1), _) => "right ".to_owned(),
        (Some(_), input) => format!("input {} ", input + 1),
    };
    let exchange = match &edge.exchange {
        Exchange::Forward => String::new(),
        Exchange::Hash(columns) => format!("hash({}) ", names(&graph.edge_schema(edge), columns)),
        Exchange::Rebalance if graph.nodes[edge.to].parallelism == Parallelism::One => "gather ".to_owned(),
        Exchange::Rebalance => "rebalance ".to_owned(),
        Exchange::Broadcast => "broadcast ".to_owned(),
    };
    let port = match edge.port {
        Port::Main => "",
        Port::Late(input) => match (input, &graph.nodes[edge.from].operator) {
            (0, Operator::WindowJoin(_) | Operator::Join(_) | Operator::TemporalJoin(_)) => "late left rows ",
            (_, Operator::WindowJoin(_) | Operator::Join(_) | Operator::TemporalJoin(_)) => "late right rows ",
            _ => "late rows ",
        },
        Port::DeadLetters => "dead letters ",
    };
    (side, exchange, port)
}

/// Returns the changelog mode of a stream and its upsert keys; empty if the stream is append-only.
fn describe_changelog(stream: &Stream) -> String {
    let mode = match &stream.changelog {
        ChangelogMode::Append => return String::new(),
        ChangelogMode::Upsert(key) => format!(" changelog: upsert by ({})", names(&stream.schema, key)),
        ChangelogMode::Retract => " changelog: retract".to_owned(),
    };
    let keys = stream.upsert_keys.iter();
    let keys: Vec<String> = keys.map(|key| format!("({})", names(&stream.schema, key))).collect();
    match (&stream.changelog, keys.as_slice()) {
        (ChangelogMode::Upsert(_), [_]) | (_, []) => mode,
        (_, keys) => format!("{mode}, keys {}", keys.join(", ")),
    }
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

fn describe(operator: &Operator, input: Option<&Schema>, right: Option<&Schema>) -> String {
    let empty = Schema::empty();
    let input = input.unwrap_or(&empty);
    match operator {
        Operator::Source(source) => {
            let mut words = format!("read {} ({})", source.table.name, source.table.connector());
            let columns = names(&source.table.schema, &source.projection);
            push(&mut words, &format!(" columns [{columns}]"));
            if let Some(calc) = &source.calc {
                push(&mut words, &format!(" {}", describe_calc(calc)));
            }
            if let Some(watermark) = &source.watermark {
                push(&mut words, &format!(" watermark {}", expression(&watermark.expression)));
            }
            words + &policy(source.on_error)
        }
        Operator::Calc(calc) => describe_calc(calc),
        Operator::Unnest(unnest) => {
            let outer = if unnest.is_outer { "outer " } else { "" };
            let mut words = format!("{outer}unnest {}", names(input, &[unnest.collection]));
            if unnest.with_ordinality {
                words.push_str(" with ordinality");
            }
            push(&mut words, &format!(" keep [{}]", names(input, &unnest.kept)));
            words
        }
        Operator::WindowAssign(assign) => {
            format!("mark windows {}", describe_window(&assign.window, &assign.time, input))
        }
        Operator::WindowAggregate(aggregate) => {
            let phase = match aggregate.phase {
                Phase::Single => "aggregate",
                Phase::Local => "pre-aggregate",
                Phase::Final => "merge",
            };
            let mut words = format!("{phase} {}", describe_window(&aggregate.window, &aggregate.time, input));
            if !aggregate.keys.is_empty() {
                push(&mut words, &format!(" by {}", names(input, &aggregate.keys)));
            }
            push(&mut words, &format!(" [{}]", describe_calls(&aggregate.aggregates)));
            if aggregate.phase != Phase::Local {
                words.push_str(" (state)");
            }
            words
        }
        Operator::GroupAggregate(aggregate) => {
            let mut words = match aggregate.phase {
                Phase::Single => "aggregate",
                Phase::Local => "pre-aggregate",
                Phase::Final => "merge",
            }
            .to_owned();
            if !aggregate.keys.is_empty() {
                push(&mut words, &format!(" by {}", names(input, &aggregate.keys)));
            }
            push(&mut words, &format!(" [{}]", describe_calls(&aggregate.aggregates)));
            if aggregate.phase != Phase::Local {
                push(&mut words, &format!(" ({})", describe_group_state(aggregate)));
            }
            words
        }
        Operator::ChangelogNormalize(normalize) => format!(
            "newest row by {} (state: one row per key, {})",
            names(input, &normalize.keys),
            retention(normalize.emission, normalize.state_ttl)
        ),
        Operator::SinkMaterialize(materialize) => describe_sink_materialize(materialize, input),
        Operator::Join(join) => describe_join(join, input, right.unwrap_or(&empty)),
        Operator::MultiJoin(join) => describe_multi_join(join),
        Operator::TemporalJoin(join) => describe_temporal_join(join, input, right.unwrap_or(&empty)),
        Operator::WindowJoin(join) => {
            let right = right.unwrap_or(&empty);
            let windows = format!(
                "{} join windows {} = {}",
                join.join_type.to_string().to_lowercase(),
                bounds(&join.left, input),
                bounds(&join.right, right)
            );
            windows + &describe_condition(&join.on, "=", join.filter.as_ref(), input, right) + " (state)"
        }
        Operator::DynamicFilter(filter) => {
            let (relation, extreme) = match filter.extreme {
                Extreme::Greatest => ("less", "greatest"),
                Extreme::Least => ("greater", "least"),
            };
            let mut words = format!(
                "drop rows {relation} than the {extreme} {} so far of {}",
                name(input, filter.value),
                describe_window(&filter.window, &TimeAttribute::Event(filter.time), input)
            );
            if !filter.keys.is_empty() {
                push(&mut words, &format!(" by {}", names(input, &filter.keys)));
            }
            if let Some(condition) = filter.condition {
                push(&mut words, &format!(" where {}", name(input, condition)));
            }
            words
        }
        Operator::Sort(sort) => format!("sort by {} (state: all rows)", sorts(&sort.order)),
        Operator::TopN(top) => describe_top_n(top, input),
        Operator::WindowTopN(top) => {
            let mut words = format!(
                "rows {}..={} of window {}",
                top.from,
                top.to,
                bounds(&top.window, input)
            );
            if top.function != RankFunction::RowNumber {
                push(&mut words, &format!(" by {}", top.function.name()));
            }
            if !top.partition.is_empty() {
                push(&mut words, &format!(" by {}", names(input, &top.partition)));
            }
            push(&mut words, &format!(" order by {}", sorts(&top.order)));
            if top.emit_rank {
                words.push_str(" with rank");
            }
            words + " (state)"
        }
        Operator::Sink(sink) => format!(
            "write {} ({}){}",
            sink.table.name,
            sink.table.connector(),
            policy(sink.on_error)
        ),
    }
}

fn describe_join(join: &Join, left: &Schema, right: &Schema) -> String {
    let equal = match join.nulls_are_equal {
        true => "is not distinct from",
        false => "=",
    };
    let join_type = join.join_type.to_string().to_lowercase();
    let condition = describe_condition(&join.on, equal, join.filter.as_ref(), left, right);
    let Some(bounds) = &join.bounds else {
        let retention = match join.state_ttl {
            [left, right] if left == right => retention(join.emission, left),
            [left, right] => format!(
                "left {}, right {}",
                retention(join.emission, left),
                retention(join.emission, right)
            ),
        };
        return format!("{join_type} join{condition} (state: rows of both inputs, {retention})");
    };
    let [left_time, right_time] = bounds.time;
    let [left_expiry, right_expiry] = bounds.expiry;
    let mut words = format!(
        "{join_type} interval join of {} and {}{condition} (state: left rows until {}, right rows until {}",
        name(left, left_time),
        name(right, right_time),
        name(left, left_expiry),
        name(right, right_expiry)
    );
    if bounds.watermark_delay > 0 {
        push(
            &mut words,
            &format!("; watermark delayed by {}", duration(bounds.watermark_delay)),
        );
    }
    words + ")"
}

fn describe_multi_join(join: &MultiJoin) -> String {
    let filter = join
        .filter
        .as_ref()
        .map(|filter| format!(" where {}", expression(filter)));
    format!(
        "inner join of {} inputs by one key{} (state: rows of the inputs, {})",
        join.keys.len(),
        filter.unwrap_or_default(),
        retention(join.emission, join.state_ttl)
    )
}

fn describe_sink_materialize(materialize: &SinkMaterialize, input: &Schema) -> String {
    let kept = match materialize.strategy {
        ConflictStrategy::Error => "only",
        ConflictStrategy::Nothing => "first",
        ConflictStrategy::Deduplicate => "last",
    };
    format!(
        "{kept} row by {} (state: all rows of each key, {})",
        names(input, &materialize.keys),
        retention(materialize.emission, materialize.state_ttl)
    )
}

fn describe_temporal_join(join: &TemporalJoin, left: &Schema, right: &Schema) -> String {
    let join_type = if join.is_outer { "left" } else { "inner" };
    let condition = describe_condition(&join.on, "=", join.filter.as_ref(), left, right);
    let valid = match join.time {
        VersionTime::Event {
            left: time,
            right: from,
        } => format!(
            "as of {}{condition} (state: left rows until the watermark passes them, versions of right rows by {}",
            name(left, time),
            name(right, from)
        ),
        VersionTime::Processing { waits_for_end: true } => format!(
            "as of processing time{condition} (state: left rows until the right input has ended, all right rows"
        ),
        VersionTime::Processing { waits_for_end: false } => {
            format!("as of processing time{condition} (state: all right rows")
        }
    };
    format!("{join_type} temporal join {valid})")
}

/// Returns the condition of a join; empty if there is none.
fn describe_condition(
    on: &[(usize, usize)],
    equal: &str,
    filter: Option<&PhysicalExprRef>,
    left: &Schema,
    right: &Schema,
) -> String {
    let keys = on
        .iter()
        .map(|&(left_key, right_key)| format!(" on {} {equal} {}", name(left, left_key), name(right, right_key)));
    let filter = filter.map(|filter| format!(" where {}", expression(filter)));
    keys.chain(filter).collect()
}

fn describe_calls(calls: &[Aggregate]) -> String {
    let calls = calls.iter().map(|aggregate| {
        let mut call = match aggregate.function.name().split_once('(') {
            Some((name, arguments)) => format!("{}({arguments}", shown_name(name).to_lowercase()),
            None => aggregate.function.name().to_owned(),
        };
        if let Some(filter) = &aggregate.filter {
            push(&mut call, &format!(" where {}", expression(filter)));
        }
        call
    });
    calls.collect::<Vec<_>>().join(", ")
}

fn describe_top_n(top: &TopN, input: &Schema) -> String {
    let mut words = format!("rows {}..={}", top.from, top.to);
    if top.function != RankFunction::RowNumber {
        push(&mut words, &format!(" by {}", top.function.name()));
    }
    if !top.partition.is_empty() {
        push(&mut words, &format!(" of each {}", names(input, &top.partition)));
    }
    let arrival = match (top.is_by_arrival, top.prefers_last) {
        (false, _) => None,
        (true, false) => Some("first to come".to_owned()),
        (true, true) => Some("last to come".to_owned()),
    };
    let order: Vec<String> = top.order.iter().map(ToString::to_string).chain(arrival).collect();
    if !order.is_empty() {
        push(&mut words, &format!(" order by {}", order.join(", ")));
    }
    if top.emit_rank {
        words.push_str(" with rank");
    }
    let rows = match (is_changelog(input), top.keeps_first_to_come()) {
        (true, _) => "all rows",
        (false, true) => "their number",
        (false, false) => "these rows",
    };
    push(
        &mut words,
        &format!(" (state: {rows}, {})", retention(top.emission, top.state_ttl)),
    );
    words
}

/// Returns what an aggregate without a window keeps, and until when.
fn describe_group_state(aggregate: &GroupAggregate) -> String {
    let rows = match aggregate.keys.is_empty() {
        true => "one row",
        false => "one row per group",
    };
    let distinct = match aggregate.aggregates.iter().any(|call| call.function.is_distinct()) {
        true => " and its distinct values",
        false => "",
    };
    let retention = retention(aggregate.emission, aggregate.state_ttl);
    format!("state: {rows}{distinct}, {retention}")
}

/// Returns the time until which an updating operator keeps its rows.
fn retention(emission: Emission, state_ttl: Option<Duration>) -> String {
    match (emission, state_ttl) {
        (Emission::Final, _) => "until the end of input".to_owned(),
        (Emission::Changes, None) => "for ever".to_owned(),
        (Emission::Changes, Some(ttl)) => {
            format!("until {} after its last change", duration_of(ttl))
        }
    }
}

fn duration_of(time: Duration) -> String {
    duration(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

fn push(words: &mut String, more: &str) {
    words.push_str(more);
}

fn describe_calc(calc: &Calc) -> String {
    let columns: Vec<String> = calc
        .projection
        .iter()
        .map(|column| {
            let expr = expression(&column.expr);
            // `price@2` as `price` needs no alias.
            match expr.rsplit_once('@') {
                Some((name, index)) if name == column.alias && index.bytes().all(|byte| byte.is_ascii_digit()) => expr,
                _ => format!("{expr} as {}", column.alias),
            }
        })
        .collect();
    let mut words = format!("select [{}]", columns.join(", "));
    if let Some(filter) = &calc.filter {
        push(&mut words, &format!(" where {}", expression(filter)));
    }
    words + &policy(calc.on_error)
}

fn policy(policy: ErrorPolicy) -> String {
    match policy {
        ErrorPolicy::Fail => String::new(),
        ErrorPolicy::DeadLetter => " on error: dead letter".to_owned(),
        ErrorPolicy::Skip => " on error: skip".to_owned(),
        ErrorPolicy::Null => " on error: null".to_owned(),
    }
}

fn describe_window(shape: &Window, time: &TimeAttribute, input: &Schema) -> String {
    if let Window::Attached(columns) = shape {
        return format!("window {}", bounds(columns, input));
    }
    let shape = window(shape);
    match time {
        TimeAttribute::Event(column) => format!("{shape} on {}", name(input, *column)),
        TimeAttribute::Processing => format!("{shape} on the clock"),
    }
}

/// Returns the kind and the lengths of a window.
pub(crate) fn window(window: &Window) -> String {
    let offset = |offset: i64| match offset {
        0 => String::new(),
        offset => format!(" offset {}", duration(offset)),
    };
    match *window {
        Window::Tumble { size, offset: by } => format!("tumble {}{}", duration(size), offset(by)),
        Window::Hop {
            size,
            slide,
            offset: by,
        } => format!("hop {} every {}{}", duration(size), duration(slide), offset(by)),
        Window::Cumulate { size, step, offset: by } => {
            format!("cumulate to {} by {}{}", duration(size), duration(step), offset(by))
        }
        Window::Session { gap } => format!("session gap {}", duration(gap)),
        Window::Attached(_) => "a window that rows carry".to_owned(),
    }
}

fn bounds(columns: &WindowColumns, schema: &Schema) -> String {
    format!("[{}, {})", name(schema, columns.start), name(schema, columns.end))
}

/// Returns an expression as text, with readable intervals and casts.
pub(crate) fn expression(expr: &PhysicalExprRef) -> String {
    const INTERVAL: &str = "IntervalMonthDayNano { months: 0, days: 0, nanoseconds: ";
    let mut text = with_casts(expr.to_string());
    while let Some(start) = text.find(INTERVAL) {
        let number = start + INTERVAL.len();
        let Some(length) = text[number..].find(" }") else {
            break;
        };
        let Ok(nanoseconds) = text[number..number + length].parse::<i64>() else {
            break;
        };
        let interval = format!("interval {}", duration(nanoseconds / 1_000));
        text.replace_range(start..number + length + 2, &interval);
    }
    text
}

/// Returns the text of an expression with `CAST(x AS type)` instead of `$convert(x, type, NULL)`.
fn with_casts(mut text: String) -> String {
    for (function, cast) in [("$convert(", "CAST("), ("$try_convert(", "TRY_CAST(")] {
        // The innermost ones are last.
        while let Some(start) = text.rfind(function) {
            let arguments = start + function.len();
            let mut depth = 0;
            let mut commas = Vec::new();
            let end = text[arguments..].char_indices().find_map(|(at, c)| {
                match c {
                    '(' => depth += 1,
                    ')' if depth == 0 => return Some(arguments + at),
                    ')' => depth -= 1,
                    ',' if depth == 0 => commas.push(arguments + at),
                    _ => {}
                }
                None
            });
            let (Some(end), Some([comma, last])) = (end, commas.last_chunk()) else {
                break;
            };
            let value = &text[arguments..*comma];
            let replacement = format!("{cast}{value} AS {})", text[comma + 1..*last].trim());
            text.replace_range(start..=end, &replacement);
        }
    }
    text
}

fn sorts(order: &[PhysicalSortExpr]) -> String {
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    order.join(", ")
}

fn name(schema: &Schema, column: usize) -> String {
    match schema.fields().get(column) {
        Some(field) => format!("{}@{column}", field.name()),
        None => format!("@{column}"),
    }
}

fn names(schema: &Schema, columns: &[usize]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|&column| match schema.fields().get(column) {
            Some(field) => field.name().clone(),
            None => format!("@{column}"),
        })
        .collect();
    names.join(", ")
}

/// Returns microseconds in the largest unit that divides them: `10s`, `1500ms`.
pub(crate) fn duration(microseconds: i64) -> String {
    for (unit, length) in [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ] {
        if microseconds != 0 && microseconds % length == 0 {
            return format!("{}{unit}", microseconds / length);
        }
    }
    format!("{microseconds}us")
}
