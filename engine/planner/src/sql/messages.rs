//! DataFusion's and Arrow's messages in terms of SQL.
//!
//! Their messages contain names of Arrow types (`Utf8`), literals in the notation of expressions (`Int64(1)`), lists of
//! signatures, and dumps of syntax trees.

use std::str::FromStr;

use datafusion::arrow::datatypes::DataType;
use itertools::Itertools;
use millstream_graph::sql_type;

use super::windows::is_window_function;
use crate::functions;
use mismatches::{operator_mismatch, signature_mismatch, type_mismatch};

mod mismatches;

/// Replaces Arrow's types and DataFusion's literals by those of SQL.
pub(crate) fn in_sql(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_start = true;
    let mut is_quoted = false;
    while let Some(next) = rest.chars().next() {
        if is_start
            && next.is_ascii_uppercase()
            && let Some((replacement, length)) = type_or_literal(rest, is_quoted)
        {
            result.push_str(&replacement);
            rest = &rest[length..];
            is_start = false;
            continue;
        }
        is_quoted ^= next == '`';
        is_start = !next.is_alphanumeric() && next != '_';
        result.push(next);
        rest = &rest[next.len_utf8()..];
    }
    result
}

/// Returns the SQL text of the Arrow type or the literal at the start of a text, and the length of the replaced text.
/// A bare word in back quotes is a name of the user.
fn type_or_literal(text: &str, is_quoted: bool) -> Option<(String, usize)> {
    let word = text
        .find(|next: char| !next.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    if text[word..].starts_with(" { months: ") {
        let end = text.find('}')?;
        return Some((interval(&text[word..end]), end + 1));
    }
    if !text[word..].starts_with('(') {
        let data_type = DataType::from_str(&text[..word]).ok()?;
        return (!is_quoted).then(|| (sql_type::name(&data_type), word));
    }
    let length = closing(&text[word..])? + word + 1;
    let inside = &text[word + 1..length - 1];
    if let Ok(data_type) = DataType::from_str(&text[..length]) {
        return Some((sql_type::name(&data_type), length));
    }
    let literal = match &text[..word] {
        _ if inside == "NULL" => "NULL".into(),
        "Utf8" | "LargeUtf8" | "Utf8View" => format!("'{}'", inside.trim_matches('"')),
        "Int8" | "Int16" | "Int32" | "Int64" | "UInt8" | "UInt16" | "UInt32" | "UInt64" | "Float32" | "Float64" => {
            inside.to_owned()
        }
        "Boolean" => inside.to_ascii_uppercase(),
        "Decimal128" | "Decimal256" => decimal(inside)?,
        "IntervalMonthDayNano" | "IntervalYearMonth" | "IntervalDayTime" | "DurationMicrosecond" => {
            format!("INTERVAL '{}'", inside.trim_matches('"'))
        }
        "Date32" => format!("DATE '{}'", inside.trim_matches('"')),
        "TimestampMicrosecond" | "TimestampNanosecond" | "TimestampMillisecond" => "TIMESTAMP '...'".into(),
        "Time64Microsecond" | "Time64Nanosecond" => "TIME '...'".into(),
        "Binary" => "X'...'".into(),
        "List" => "ARRAY[...]".into(),
        "Struct" => "ROW(...)".into(),
        "Map" => "MAP[...]".into(),
        _ => return None,
    };
    Some((literal, length))
}

/// Returns the offset of the parenthesis that closes the one at the start of a text.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut is_quoted = false;
    for (at, next) in text.char_indices() {
        match next {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => open += 1,
            ')' if !is_quoted => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns the parts of `{ months: 1, days: 0, nanoseconds: 0 }` that are not 0.
fn interval(fields: &str) -> String {
    let parts = fields.trim_matches([' ', '{', '}']).split(", ").filter_map(|part| {
        let (unit, number) = part.split_once(": ")?;
        (number.trim() != "0").then(|| format!("{} {unit}", number.trim()))
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// Returns the number of `Some(15),2,1` (the digits, the precision and the scale) or of `1.5,2,1`.
fn decimal(inside: &str) -> Option<String> {
    let Some(inside) = inside.strip_prefix("Some(") else {
        return inside.split(',').next().map(str::to_owned);
    };
    let (digits, rest) = inside.split_once(')')?;
    let scale: usize = rest.rsplit(',').next()?.trim().parse().ok()?;
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    Some(match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    })
}

/// Returns the message of a failed conversion of a value.
pub(super) fn conversion_message(message: &str) -> String {
    let text = message.strip_prefix("Cast error: ").unwrap_or(message);
    let text = match text.split_once(" error: ") {
        Some((kind, text)) if kind.split(' ').count() <= 2 => text,
        _ => text,
    };
    if let Some(rest) = text.strip_prefix("Cannot cast string '")
        && let Some((value, rest)) = rest.rsplit_once("' to value of ")
    {
        let data_type = rest.trim_end_matches(" type");
        return format!("'{value}' is not a value of the type {}", in_sql(data_type));
    }
    if let Some(rest) = text.strip_prefix("Error parsing timestamp from '")
        && let Some((value, _)) = rest.split_once("': ")
    {
        return format!("'{value}' is not a value of the type TIMESTAMP, such as '2024-01-31 10:20:30.000'");
    }
    plain(text)
}

/// Removes parts of DataFusion's messages that are for its developers.
pub(super) fn plain(message: &str) -> String {
    let mut text = message.split("\n\nbacktrace").next().unwrap_or(message).trim();
    loop {
        let before = text;
        for prefix in [
            "Error during planning: ",
            "This feature is not implemented: ",
            "Internal error: ",
            "Execution error: ",
            "Schema error: ",
            "Arrow error: ",
            "SQL error: ",
            "type_coercion\ncaused by\n",
        ] {
            text = text.strip_prefix(prefix).unwrap_or(text);
        }
        if text == before {
            break;
        }
    }
    let text = without_syntax_tree(text);
    if let Some(field) = text
        .strip_prefix("Field ")
        .and_then(|rest| rest.split_once(" not found in struct"))
    {
        return format!("unknown field `{}` of a ROW", field.0);
    }
    if let Some((_, rest)) = text.split_once("filter with non-boolean predicate '")
        && let Some((predicate, data_type)) = rest.split_once("' returning ")
    {
        // The text of an expression that was rewritten is not the user's.
        let is_column = |next: char| next.is_alphanumeric() || matches!(next, '_' | '.' | '`');
        let shown = match predicate.chars().all(is_column) {
            true => format!("`{predicate}`"),
            false => "this".to_owned(),
        };
        return format!("a condition is true or false, but {shown} is {}", in_sql(data_type));
    }
    if text.contains("Aggregate function calls cannot be nested") {
        return "aggregates cannot be nested: compute the inner one in a view or subquery".to_owned();
    }
    if text.contains("without for/from is not valid") {
        return "SUBSTRING takes a position: SUBSTRING(text FROM start FOR length)".to_owned();
    }
    if text.contains("expression Wildcard") {
        return "`*` is an argument of COUNT only: name the columns".to_owned();
    }
    if let Some((_, rest)) = text.split_once("While expanding wildcard, column ")
        && let Some((column, _)) = rest.split_once(" must")
    {
        let column = in_sql(column.trim_matches('"'));
        return format!("column `{column}` must be in GROUP BY, or inside an aggregate such as MAX({column})");
    }
    let found = refusal_of_ours(text)
        .or_else(|| signature_mismatch(text))
        .or_else(|| operator_mismatch(text))
        .or_else(|| type_mismatch(text));
    if let Some(message) = found {
        return message;
    }
    if let Some(cast) = text.strip_prefix("Unsupported CAST from ") {
        return format!("a CAST from {} is not supported", in_sql(cast));
    }
    if let Some(rest) = text.strip_prefix("Projections require unique expression names but the expression \"")
        && let Some((name, _)) = rest.split_once("\" at position")
    {
        return format!(
            "two columns are named `{}`: give one another name with AS",
            in_sql(name)
        );
    }
    if let Some(rest) = text.strip_prefix("Invalid function '")
        && let Some((name, _)) = rest.split_once('\'')
    {
        return match is_window_function(name) {
            true => format!(
                "{0} makes a table: write `FROM {0}(TABLE t, DESCRIPTOR(ts), ...)`",
                name.to_uppercase()
            ),
            false => format!("unknown function `{name}`"),
        };
    }
    if text.contains("Dot access not supported") {
        return "only a column or a field has fields: write `column.field`".to_owned();
    }
    let end = text
        .find("\nThis issue was likely caused by a bug in DataFusion")
        .unwrap_or(text.len());
    let text = text[..end].trim_end_matches('.').split_whitespace().join(" ");
    lower_first(&in_sql(&text))
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match (characters.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Cuts a message before the first dump of a syntax tree.
fn without_syntax_tree(message: &str) -> &str {
    let dumps = ["Ident {", "Span(", "WithSpan {", "Span {", "Field {"];
    let Some(dump) = dumps.iter().filter_map(|dump| message.find(dump)).min() else {
        return message;
    };
    let before = &message[..dump];
    let end = before.rfind(": ").or_else(|| before.rfind(' ')).unwrap_or(0);
    match before[..end].trim_end_matches([':', ' ']) {
        "" => "this expression is not supported here: write it in another way",
        message => message,
    }
}

/// Returns the message of one of our own functions that refused its arguments with a reason.
fn refusal_of_ours(text: &str) -> Option<String> {
    let (function, reason) = text.split_once("user-defined coercion failed with: ")?;
    let reason = reason.strip_prefix("Error during planning: ").unwrap_or(reason);
    let of_library = [
        "Function '",
        "'",
        "Failed to",
        "Internal error",
        "Execution error",
        "Cannot find a common type",
        "concat",
        "greatest",
        "least",
        "Fail to",
    ];
    if of_library.iter().any(|start| reason.starts_with(start)) {
        return signature_mismatch(text);
    }
    let reason = reason
        .split(" No function matches")
        .next()
        .unwrap_or(reason)
        .trim_end_matches('.');
    let name = match quoted(function) {
        Some(name) => functions::shown_name(name),
        None => "the function".into(),
    };
    Some(format!("{name} {}", in_sql(reason)))
}

/// Returns the first name in single quotes, unless it is the name of an internal function.
fn quoted(text: &str) -> Option<&str> {
    text.split('\'').nth(1).filter(|name| !name.starts_with('$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_literals_are_those_of_sql() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(in_sql(text), expected);
        }
        check("Utf8 + Int64", "STRING + BIGINT");
        check(
            "List(Int64), Timestamp(µs), Timestamp(µs, \"UTC\")",
            "ARRAY<BIGINT>, TIMESTAMP, TIMESTAMP_LTZ",
        );
        check("Struct(\"c0\": Int64, \"c1\": Utf8)!", "ROW<c0 BIGINT, c1 STRING>!");
        check(
            "Decimal128(10, 2) - Interval(MonthDayNano)",
            "DECIMAL(10, 2) - INTERVAL",
        );
        check(
            "Duration(µs) Null Boolean Date32 Time64(µs)",
            "INTERVAL DAY TO SECOND NULL BOOLEAN DATE TIME",
        );
        check("`x = Utf8(\"it (is)\")` Int64(-1)", "`x = 'it (is)'` -1");
        check("Decimal128(Some(-15),4,3) Boolean(true) Utf8(NULL)", "-0.015 TRUE NULL");
        check("unknown column `List` of MyInt64", "unknown column `List` of MyInt64");
    }

    #[test]
    fn messages_are_in_terms_of_sql() {
        #[track_caller]
        fn check(message: &str, expected: &str) {
            assert_eq!(plain(message), expected);
        }
        let suffix = |call: &str, candidates: &str| {
            format!(
                "No function matches the given name and argument types '{call}'. You might need to add explicit type \
                 casts.\n\tCandidate functions:\n\t{candidates}"
            )
        };
        check(
            &format!(
                "Function 'upper' requires String, but received Int64 (DataType: Int64).. {}",
                suffix("upper(Int64)", "upper(String)")
            ),
            "UPPER takes (STRING), not (BIGINT)",
        );
        check(
            &format!(
                "'avg' does not support zero arguments. {}",
                suffix("avg()", "avg(Decimal)\n\tavg(Float64)")
            ),
            "AVG takes (DECIMAL) or (DOUBLE), not ()",
        );
        check(
            &format!(
                "Function 'abs' expects 1 arguments but received 2 {}",
                suffix("abs(Int64, Int64)", "abs(Numeric(1))")
            ),
            "ABS takes 1 argument, not 2",
        );
        check(
            "Internal error: a thing\nis wrong.\nThis issue was likely caused by a bug in DataFusion's code",
            "a thing is wrong",
        );
        check(
            "Cannot coerce arithmetic expression Decimal128(8, 2) * Timestamp(µs) to valid types",
            "* does not take DECIMAL(8, 2) and TIMESTAMP: convert one of them with CAST",
        );
        check(
            "Cannot infer common argument type for logical boolean operation Int64 AND Utf8",
            "AND takes conditions, not BIGINT and STRING",
        );
        assert_eq!(
            conversion_message("Cast error: Cannot cast string 'a' to value of Int64 type"),
            "'a' is not a value of the type BIGINT"
        );
    }
}
