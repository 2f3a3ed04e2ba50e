//! Signatures of operators' state: lines that tell two layouts of state apart, and their descriptions.
//!
//! A signature is compared as a whole and is stored in checkpoints, so its form cannot change. Descriptions are
//! derived from it. A signature of unknown form, as an older or newer engine may have written it, is its own
//! description.

use arrow_schema::DataType;
use millstream_graph::{
    Aggregate, JobGraph, NodeIndex, Operator, Phase, RankFunction, VersionTime, Window, WindowColumns, sql_type,
};
use millstream_proto::spec::format_duration_ms;

/// Returns the signature of an operator's state: a line that changes exactly when the operator could no longer read
/// its stored state; empty for operators whose state does not depend on their definition.
pub(crate) fn of_state(graph: &JobGraph, node: NodeIndex) -> String {
    let input_types = |input: usize, columns: &[usize]| -> Vec<String> {
        let edge = graph.inputs(node).find(|edge| edge.input == input);
        let schema = edge.map(|edge| &graph.nodes[edge.from].output.schema);
        columns
            .iter()
            .map(|column| {
                let field = schema.and_then(|schema| schema.fields().get(*column));
                field.map_or_else(|| "?".to_string(), |field| field.data_type().to_string())
            })
            .collect()
    };
    let all_types = |input: usize| {
        let fields = graph
            .input_schema(node, input)
            .map_or(0, |schema| schema.fields().len());
        input_types(input, &(0..fields).collect::<Vec<_>>())
    };
    match &graph.nodes[node].operator {
        Operator::WindowAggregate(aggregate) => format!(
            "aggregate {}{} {} keys [{}] calls [{}]",
            if reads_changes(graph, node) { "changes " } else { "" },
            window_form(&aggregate.window),
            phase_form(aggregate.phase),
            input_types(0, &aggregate.keys).join(", "),
            call_forms(&aggregate.aggregates)
        ),
        // State over changes has weights, so that rows can be retracted.
        Operator::GroupAggregate(aggregate) => format!(
            "group {} keys [{}] calls [{}]",
            if aggregate.retracts || reads_changes(graph, node) {
                "changes"
            } else {
                "rows"
            },
            input_types(0, &aggregate.keys).join(", "),
            call_forms(&aggregate.aggregates)
        ),
        Operator::ChangelogNormalize(normalize) => {
            let columns = graph.nodes[node].output.schema.fields().len();
            let columns = columns - usize::from(!graph.nodes[node].output.changelog.is_append());
            let by: Vec<String> = normalize.keys.iter().map(usize::to_string).collect();
            format!(
                "newest by [{}] of [{}]",
                by.join(", "),
                input_types(0, &(0..columns).collect::<Vec<_>>()).join(", ")
            )
        }
        Operator::SinkMaterialize(materialize) => {
            let columns = graph.nodes[node].output.schema.fields().len();
            let columns = columns - usize::from(!graph.nodes[node].output.changelog.is_append());
            let by: Vec<String> = materialize.keys.iter().map(usize::to_string).collect();
            format!(
                "rows by [{}] of [{}]",
                by.join(", "),
                input_types(0, &(0..columns).collect::<Vec<_>>()).join(", ")
            )
        }
        Operator::WindowJoin(join) => {
            let all = |input: usize| {
                let columns: Vec<usize> = (0..join.joined_columns[input]).collect();
                input_types(input, &columns).join(", ")
            };
            let on: Vec<String> = join
                .on
                .iter()
                .map(|(left, right)| format!("({left}, {right})"))
                .collect();
            format!("join on [{}] left [{}] right [{}]", on.join(", "), all(0), all(1))
        }
        // The form of rows in state depends on the changes of the inputs (their last column), and on the rows whose
        // matches must be known.
        Operator::Join(join) => format!(
            "{} {} join{} {}",
            if join.bounds.is_some() { "interval" } else { "regular" },
            join.join_type,
            if join.filter.is_some() { " with condition" } else { "" },
            joined_form(&join.on, all_types)
        ),
        Operator::MultiJoin(join) => {
            let inputs = join.keys.iter().enumerate().map(|(input, key)| {
                let by: Vec<String> = key.iter().map(usize::to_string).collect();
                format!("[{}] by [{}]", all_types(input).join(", "), by.join(", "))
            });
            format!("join of {}", inputs.collect::<Vec<_>>().join(" and "))
        }
        Operator::TemporalJoin(join) => {
            let time = match join.time {
                VersionTime::Event { left, right } => format!("event time ({left}, {right})"),
                VersionTime::Processing { .. } => "processing time".to_owned(),
            };
            format!("temporal join by {time} {}", joined_form(&join.on, all_types))
        }
        Operator::WindowTopN(top) => {
            let columns = graph.nodes[node].output.schema.fields().len();
            let by: Vec<String> = top.partition.iter().map(usize::to_string).collect();
            let function = match top.function {
                RankFunction::RowNumber => String::new(),
                RankFunction::Rank | RankFunction::DenseRank => format!("{} ", top.function.name()),
            };
            format!(
                "{function}top {}..={} by [{}] of [{}]",
                top.from,
                top.to,
                by.join(", "),
                input_types(0, &(0..columns).collect::<Vec<_>>()).join(", ")
            )
        }
        Operator::Sort(sort) => {
            let columns = graph.nodes[node].output.schema.fields().len();
            let order = sort.order.iter().map(ToString::to_string);
            format!(
                "sort by [{}] of [{}]",
                order.collect::<Vec<_>>().join(", "),
                input_types(0, &(0..columns).collect::<Vec<_>>()).join(", ")
            )
        }
        Operator::TopN(top) => {
            let columns = graph.nodes[node].output.schema.fields().len()
                - usize::from(!graph.nodes[node].output.changelog.is_append())
                - usize::from(top.emit_rank);
            let by: Vec<String> = top.partition.iter().map(usize::to_string).collect();
            let rows = match (reads_changes(graph, node), top.keeps_first_to_come()) {
                (true, _) => "all",
                (false, true) => "number",
                (false, false) => "best",
            };
            format!(
                "{rows} top {} {}..={} by [{}] of [{}]",
                top.function.name(),
                top.from,
                top.to,
                by.join(", "),
                input_types(0, &(0..columns).collect::<Vec<_>>()).join(", ")
            )
        }
        Operator::Source(_)
        | Operator::Calc(_)
        | Operator::WindowAssign(_)
        | Operator::Unnest(_)
        | Operator::DynamicFilter(_)
        | Operator::Sink(_) => String::new(),
    }
}

/// Returns true if the input of a node is a changelog.
fn reads_changes(graph: &JobGraph, node: NodeIndex) -> bool {
    graph
        .inputs(node)
        .any(|edge| !graph.nodes[edge.from].output.changelog.is_append())
}

/// Returns the form of a join's condition and inputs in signatures.
fn joined_form(on: &[(usize, usize)], types: impl Fn(usize) -> Vec<String>) -> String {
    let on: Vec<String> = on.iter().map(|(left, right)| format!("({left}, {right})")).collect();
    format!(
        "on [{}] left [{}] right [{}]",
        on.join(", "),
        types(0).join(", "),
        types(1).join(", ")
    )
}

/// Returns the form of aggregate calls in signatures.
fn call_forms(calls: &[Aggregate]) -> String {
    let calls = calls.iter().map(|call| {
        let function = &call.function;
        // Types only: literals may differ between two starts (`NOW()`), column names between two edits.
        let state: Vec<String> = match function.state_fields() {
            Ok(fields) => fields.iter().map(|field| field.data_type().to_string()).collect(),
            Err(error) => vec![error.to_string()],
        };
        let distinct = if function.is_distinct() { "distinct " } else { "" };
        let ordered = if function.order_bys().is_empty() {
            ""
        } else {
            "ordered "
        };
        // Distinct values have a weight per filter.
        let filter = match &call.filter {
            Some(filter) if function.is_distinct() => {
                let filters = calls.iter().filter_map(|other| other.filter.as_ref());
                let number = filters.take_while(|other| *other != filter).count();
                format!("filter {number} ")
            }
            _ => String::new(),
        };
        format!(
            "{distinct}{ordered}{filter}{}: {}",
            function.fun().name(),
            state.join(" ")
        )
    });
    calls.collect::<Vec<_>>().join(", ")
}

/// Returns the form of a window in signatures.
fn window_form(window: &Window) -> String {
    match window {
        Window::Tumble { size, offset } => format!("Tumble {{ size: {size}, offset: {offset} }}"),
        Window::Hop { size, slide, offset } => format!("Hop {{ size: {size}, slide: {slide}, offset: {offset} }}"),
        Window::Cumulate { size, step, offset } => {
            format!("Cumulate {{ size: {size}, step: {step}, offset: {offset} }}")
        }
        Window::Session { gap } => format!("Session {{ gap: {gap} }}"),
        Window::Attached(WindowColumns { start, end }) => {
            format!("Attached(WindowColumns {{ start: {start}, end: {end} }})")
        }
    }
}

/// Returns the form of a phase in signatures.
fn phase_form(phase: Phase) -> &'static str {
    match phase {
        Phase::Single => "Single",
        Phase::Local => "Local",
        Phase::Final => "Final",
    }
}

/// The level of detail of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// The kind of state.
    Kind,
    /// In addition offsets of windows, types of accumulators, and positions of columns.
    Everything,
}

/// Describes the kind of state, such as `window of 1min by BIGINT: count, sum`.
pub(crate) fn describe(signature: &str) -> String {
    describe_at(signature, Detail::Kind)
}

/// Describes two signatures with enough detail to tell them apart.
pub(crate) fn describe_difference(before: &str, now: &str) -> (String, String) {
    for detail in [Detail::Kind, Detail::Everything] {
        let words = (describe_at(before, detail), describe_at(now, detail));
        if words.0 != words.1 {
            return words;
        }
    }
    (before.to_string(), now.to_string())
}

fn describe_at(signature: &str, detail: Detail) -> String {
    let words = match signature.split_once(' ') {
        Some(("aggregate", rest)) => aggregate(rest, detail),
        Some(("join", rest)) => join(rest, detail),
        Some(("top", rest)) => top(rest, detail),
        Some(("group", rest)) => group(rest, detail),
        Some(("newest", rest)) => newest(rest, detail),
        _ => None,
    };
    words.unwrap_or_else(|| signature.to_string())
}

/// `Tumble { size: 60000000, offset: 0 } Single keys [Int64] calls [count: Int64, sum: Decimal128(20, 2)]`
fn aggregate(rest: &str, detail: Detail) -> Option<String> {
    let (window, rest) = rest.split_once(" keys [")?;
    let (keys, calls) = rest.split_once("] calls [")?;
    let (window, phase) = window.rsplit_once(' ')?;
    let window = window_in_words(window, detail)?;
    let by = match keys {
        "" => String::new(),
        keys => format!(" by {}", types_in_words(keys)),
    };
    let partial = match phase {
        "Local" => ", partial",
        _ => "",
    };
    Some(format!(
        "{window}{by}: {}{partial}",
        calls_in_words(calls.strip_suffix(']')?, detail)
    ))
}

fn window_in_words(window: &str, detail: Detail) -> Option<String> {
    let length_us = |name: &str| {
        let digits = window.split_once(&format!("{name}: "))?.1;
        digits.split([',', ' ']).next()?.parse::<i64>().ok()
    };
    let length = |name: &str| Some(format_duration_ms(u64::try_from(length_us(name)?).ok()? / 1000));
    let words = match window.split([' ', '(']).next()? {
        "Tumble" => format!("window of {}", length("size")?),
        "Hop" => format!("window of {} every {}", length("size")?, length("slide")?),
        "Cumulate" => format!("window that grows by {} up to {}", length("step")?, length("size")?),
        "Session" => format!("session with a gap of {}", length("gap")?),
        "Attached" => "window that rows bring along".to_string(),
        _ => return None,
    };
    Some(match length_us("offset") {
        Some(offset_us) if detail == Detail::Everything && offset_us != 0 => {
            let sign = if offset_us < 0 { "-" } else { "" };
            format!(
                "{words} with an offset of {sign}{}",
                format_duration_ms(offset_us.unsigned_abs() / 1000)
            )
        }
        _ => words,
    })
}

/// Describes the aggregate functions; in full detail with the types of their accumulators.
fn calls_in_words(calls: &str, detail: Detail) -> String {
    let is_name = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_ ".contains(c))
    };
    let calls = split_outside(calls, ", ").into_iter().filter_map(|call| {
        let (name, state) = call.split_once(": ").filter(|(name, _)| is_name(name))?;
        Some(match detail {
            Detail::Kind => name.to_string(),
            Detail::Everything => {
                let types: Vec<String> = split_outside(state, " ").into_iter().map(type_in_words).collect();
                format!("{name} (in {})", types.join(", "))
            }
        })
    });
    let calls: Vec<String> = calls.collect();
    match calls.as_slice() {
        [] => "distinct keys".to_string(),
        calls => calls.join(", "),
    }
}

/// `changes keys [Int64] calls [count: Int64]`
fn group(rest: &str, detail: Detail) -> Option<String> {
    let (input, rest) = rest.split_once(" keys [")?;
    let (keys, calls) = rest.split_once("] calls [")?;
    let by = match keys {
        "" => String::new(),
        keys => format!(" by {}", types_in_words(keys)),
    };
    let input = match input {
        "changes" => " of changes",
        "rows" => "",
        _ => return None,
    };
    Some(format!(
        "groups{by}{input}: {}",
        calls_in_words(calls.strip_suffix(']')?, detail)
    ))
}

/// `by [0] of [Int64, Utf8]`
fn newest(rest: &str, detail: Detail) -> Option<String> {
    let (by, columns) = rest.strip_prefix("by [")?.split_once("] of [")?;
    let by = match detail {
        Detail::Everything => {
            let by: Option<Vec<String>> = by.split(", ").map(number).collect();
            format!(" by column {}", by?.join(", "))
        }
        Detail::Kind => String::new(),
    };
    Some(format!(
        "newest rows of ({}){by}",
        types_in_words(columns.strip_suffix(']')?)
    ))
}

/// `on [(0, 0)] left [Int64, Utf8] right [Int64]`
fn join(rest: &str, detail: Detail) -> Option<String> {
    let (on, sides) = rest.split_once(" left [")?;
    let (left, right) = sides.split_once("] right [")?;
    let on = match (detail, on.strip_prefix("on [").and_then(|on| on.strip_suffix(']'))) {
        (Detail::Everything, Some(pairs)) if !pairs.is_empty() => {
            let pairs: Vec<String> = split_outside(pairs, ", ")
                .into_iter()
                .filter_map(|pair| {
                    let (left, right) = pair.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
                    Some(format!("{} = {}", number(left)?, number(right)?))
                })
                .collect();
            format!(" on columns {}", pairs.join(" and "))
        }
        _ => String::new(),
    };
    Some(format!(
        "window join of ({}) and ({}){on}",
        types_in_words(left),
        types_in_words(right.strip_suffix(']')?)
    ))
}

/// `1..=3 by [0] of [Int64, Utf8]`
fn top(rest: &str, detail: Detail) -> Option<String> {
    let (ranks, rest) = rest.split_once(" by [")?;
    let (by, columns) = rest.split_once("] of [")?;
    let (from, to) = ranks.split_once("..=")?;
    let ranks = match from {
        "1" => format!("first {to}"),
        from => format!("ranks {from} to {to}"),
    };
    let by = match detail {
        Detail::Everything if !by.is_empty() => {
            let by: Option<Vec<String>> = by.split(", ").map(number).collect();
            format!(" by column {}", by?.join(", "))
        }
        _ => String::new(),
    };
    Some(format!(
        "{ranks} of ({}){by}",
        types_in_words(columns.strip_suffix(']')?)
    ))
}

/// Returns the position of a column, counted from 1.
fn number(index: &str) -> Option<String> {
    Some((index.parse::<u64>().ok()?.checked_add(1)?).to_string())
}

/// Returns types by their names in SQL: `Int64, Decimal128(20, 2)` becomes `BIGINT, DECIMAL(20, 2)`.
fn types_in_words(types: &str) -> String {
    let types: Vec<String> = split_outside(types, ", ").into_iter().map(type_in_words).collect();
    types.join(", ")
}

/// Returns the name of a type in SQL; an unknown type as it is.
fn type_in_words(name: &str) -> String {
    name.parse::<DataType>()
        .map_or_else(|_| name.to_string(), |data_type| sql_type::name(&data_type))
}

/// Splits a text where no bracket and no quote is open.
fn split_outside<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut start, mut depth, mut quoted) = (0, 0_usize, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_phases_have_the_form_that_checkpoints_contain() {
        let forms = [
            (
                Window::Tumble { size: 60, offset: -5 },
                "Tumble { size: 60, offset: -5 }",
            ),
            (
                Window::Hop {
                    size: 60,
                    slide: 20,
                    offset: 0,
                },
                "Hop { size: 60, slide: 20, offset: 0 }",
            ),
            (
                Window::Cumulate {
                    size: 60,
                    step: 20,
                    offset: 0,
                },
                "Cumulate { size: 60, step: 20, offset: 0 }",
            ),
            (Window::Session { gap: 10 }, "Session { gap: 10 }"),
            (
                Window::Attached(WindowColumns { start: 1, end: 2 }),
                "Attached(WindowColumns { start: 1, end: 2 })",
            ),
        ];
        for (window, form) in forms {
            assert_eq!(window_form(&window), form);
        }
        let phases = [Phase::Single, Phase::Local, Phase::Final].map(phase_form);
        assert_eq!(phases, ["Single", "Local", "Final"]);
    }

    #[test]
    fn signatures_are_described_in_terms_of_sql() {
        #[track_caller]
        fn check(signature: &str, expected: &str) {
            assert_eq!(describe(signature), expected);
        }
        check(
            "aggregate Tumble { size: 60000000, offset: 0 } Single keys [Int64, Utf8] calls [count: Int64, distinct sum: Decimal128(20, 2) Int64]",
            "window of 1min by BIGINT, STRING: count, distinct sum",
        );
        check(
            "aggregate Hop { size: 60000000, slide: 1500000, offset: 0 } Local keys [] calls [max: Int64]",
            "window of 1min every 1500ms: max, partial",
        );
        check(
            "aggregate Cumulate { size: 3600000000, step: 60000000, offset: 0 } Final keys [Utf8] calls []",
            "window that grows by 1min up to 1h by STRING: distinct keys",
        );
        check(
            "aggregate Session { gap: 30000000 } Single keys [Utf8] calls [avg: UInt64 Float64]",
            "session with a gap of 30s by STRING: avg",
        );
        check(
            "aggregate Attached(WindowColumns { start: 3, end: 4 }) Final keys [Utf8] calls [count: Int64]",
            "window that rows bring along by STRING: count",
        );
        check(
            "join on [(0, 0)] left [Int64, Utf8] right [Int64]",
            "window join of (BIGINT, STRING) and (BIGINT)",
        );
        check("top 1..=3 by [0] of [Int64, Utf8]", "first 3 of (BIGINT, STRING)");
        check("top 2..=3 by [0] of [Int64]", "ranks 2 to 3 of (BIGINT)");
        check(
            "group rows keys [Int64, Utf8] calls [count: Int64]",
            "groups by BIGINT, STRING: count",
        );
        check(
            "group changes keys [] calls [distinct count: Int64]",
            "groups of changes: distinct count",
        );
        check("group rows keys [Utf8] calls []", "groups by STRING: distinct keys");
        check("newest by [0] of [Int64, Utf8]", "newest rows of (BIGINT, STRING)");
        check("group of something newer", "group of something newer");
        check("", "");
        check("something newer", "something newer");
        check("aggregate something newer", "aggregate something newer");
    }

    #[test]
    fn two_signatures_are_described_with_their_difference() {
        #[track_caller]
        fn check(before: &str, now: &str, expected: (&str, &str)) {
            let (before, now) = describe_difference(before, now);
            assert_eq!((before.as_str(), now.as_str()), expected);
        }
        check(
            "aggregate Tumble { size: 60000000, offset: 0 } Single keys [Decimal128(12, 2)] calls [count: Int64]",
            "aggregate Tumble { size: 30000000, offset: 0 } Single keys [Timestamp(µs)] calls [count: Int64]",
            (
                "window of 1min by DECIMAL(12, 2): count",
                "window of 30s by TIMESTAMP: count",
            ),
        );
        check(
            "aggregate Tumble { size: 60000000, offset: 0 } Single keys [] calls [sum: Decimal128(20, 2) Int64]",
            "aggregate Tumble { size: 60000000, offset: 5000000 } Single keys [] calls [sum: Int64]",
            (
                "window of 1min: sum (in DECIMAL(20, 2), BIGINT)",
                "window of 1min with an offset of 5s: sum (in BIGINT)",
            ),
        );
        check(
            "join on [(0, 0), (1, 2)] left [Int64, Utf8] right [Int64]",
            "join on [] left [Int64, Utf8] right [Int64]",
            (
                "window join of (BIGINT, STRING) and (BIGINT) on columns 1 = 1 and 2 = 3",
                "window join of (BIGINT, STRING) and (BIGINT)",
            ),
        );
        check(
            "top 1..=3 by [0] of [Int64]",
            "top 1..=3 by [1, 0] of [Int64]",
            ("first 3 of (BIGINT) by column 1", "first 3 of (BIGINT) by column 2, 1"),
        );
        check(
            "newest by [0] of [Int64, Int64]",
            "newest by [0, 1] of [Int64, Int64]",
            (
                "newest rows of (BIGINT, BIGINT) by column 1",
                "newest rows of (BIGINT, BIGINT) by column 1, 2",
            ),
        );
        check(
            "group rows keys [Int64] calls [sum: Int64]",
            "group changes keys [Int64] calls [sum: Int64]",
            ("groups by BIGINT: sum", "groups by BIGINT of changes: sum"),
        );
        // Both have the same description.
        let (single, last) = (
            "aggregate Tumble { size: 60000000, offset: 0 } Single keys [] calls []",
            "aggregate Tumble { size: 60000000, offset: 0 } Final keys [] calls []",
        );
        check(single, last, (single, last));
    }

    #[test]
    fn every_type_of_a_table_has_its_name_in_sql() {
        use std::sync::Arc;

        use arrow_schema::{Field, TimeUnit};
        let item = Arc::new(Field::new("item", DataType::Int64, true));
        for (data_type, name) in [
            (DataType::Boolean, "BOOLEAN"),
            (DataType::Int8, "TINYINT"),
            (DataType::Int32, "INT"),
            (DataType::Float32, "FLOAT"),
            (DataType::Float64, "DOUBLE"),
            (DataType::Decimal128(12, 2), "DECIMAL(12, 2)"),
            (DataType::Date32, "DATE"),
            (DataType::Time64(TimeUnit::Microsecond), "TIME"),
            (DataType::Timestamp(TimeUnit::Microsecond, None), "TIMESTAMP"),
            (
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                "TIMESTAMP_LTZ",
            ),
            (DataType::Binary, "BYTES"),
            (DataType::List(item), "ARRAY<BIGINT>"),
        ] {
            let types = format!("{data_type}, Utf8");
            assert_eq!(types_in_words(&types), format!("{name}, STRING"));
        }
    }
}
