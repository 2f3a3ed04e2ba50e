//! Messages about operators and functions that do not take the types of their operands and arguments.

use std::str::FromStr;

use datafusion::arrow::datatypes::DataType;
use itertools::Itertools;
use millstream_graph::sql_type;

use super::in_sql;
use crate::functions;

/// Returns the message of a call whose arguments match no signature of the function.
pub(super) fn signature_mismatch(text: &str) -> Option<String> {
    if let Some((before, counts)) = text.split_once(" expects ")
        && let Some((expected, rest)) = counts.split_once(" arguments but received ")
    {
        let name = function_name(before.rsplit('\'').find(|part| !part.trim().is_empty())?);
        let received = rest.split(|next: char| !next.is_ascii_digit()).next()?;
        let noun = if expected == "1" { "argument" } else { "arguments" };
        return Some(format!("{name} takes {expected} {noun}, not {received}"));
    }
    if let Some((function, rest)) = text.split_once(" failed to match any signature")
        && let Some((_, types)) = rest.split_once("(DataType: ")
    {
        let name = function_name(function.rsplit('\'').find(|part| !part.trim().is_empty())?);
        return Some(format!("{name} does not take ({})", in_sql(before_closing(types))));
    }
    if let Some((_, call)) = text.split_once("satisfy a call to '")
        && let Some((name, rest)) = call.split_once("' function: coercion from ")
        && let Some((types, _)) = rest.split_once(" to the signature ")
    {
        return Some(format!("{} does not take ({})", function_name(name), in_sql(types)));
    }
    let (_, call) = text.split_once("No function matches the given name and argument types '")?;
    let (call, rest) = call.split_once("'. You might need")?;
    let (name, types) = call.split_once('(')?;
    let name = function_name(name);
    let types = types.strip_suffix(')').unwrap_or(types);
    let given = format!("({})", in_sql(types));
    let candidates = rest
        .split_once("Candidate functions:")
        .map_or("", |(_, candidates)| candidates);
    let candidates: Option<Vec<String>> = candidates
        .split_whitespace()
        .join(" ")
        .split(") ")
        .map(parameters)
        .collect();
    Some(
        match candidates.map(|candidates| candidates.into_iter().unique().collect::<Vec<_>>()) {
            Some(candidates) if (1..=4).contains(&candidates.len()) && !candidates.contains(&given) => {
                format!("{name} takes {}, not {given}", candidates.join(" or "))
            }
            _ => format!("{name} does not take {given}"),
        },
    )
}

/// Returns the part of a text before the parenthesis that is not opened in it.
fn before_closing(text: &str) -> &str {
    let mut open = 0_i32;
    for (at, next) in text.char_indices() {
        match next {
            '(' => open += 1,
            ')' if open == 0 => return &text[..at],
            ')' => open -= 1,
            _ => {}
        }
    }
    text
}

/// Returns the name of a function for messages.
fn function_name(name: &str) -> String {
    match name.trim() {
        name if name.starts_with('$') => "the function".into(),
        name => functions::shown_name(name),
    }
}

/// Returns the types of a signature such as `upper(String)`, or `None` if it has no short form in SQL.
fn parameters(signature: &str) -> Option<String> {
    let (_, types) = signature.trim().split_once('(')?;
    let types = types.trim_end_matches(')');
    if types.is_empty() {
        return None;
    }
    let names = types.split(',').map(|name| {
        Some(match name.trim() {
            "String" => "STRING".to_owned(),
            "Numeric(1" | "Numeric" => "a number".to_owned(),
            "Integer" => "an integer".to_owned(),
            "Decimal" => "DECIMAL".to_owned(),
            "Float" => "DOUBLE".to_owned(),
            "Timestamp" => "TIMESTAMP".to_owned(),
            "Date" => "DATE".to_owned(),
            "Time" => "TIME".to_owned(),
            "Interval" | "Duration" => "INTERVAL".to_owned(),
            "Binary" => "BYTES".to_owned(),
            other => sql_type::name(&DataType::from_str(other).ok()?),
        })
    });
    Some(format!("({})", names.collect::<Option<Vec<_>>>()?.join(", ")))
}

/// Returns the message of an operator that is not defined for the types of its sides.
pub(super) fn operator_mismatch(text: &str) -> Option<String> {
    let prefixes = [
        "Cannot coerce arithmetic expression ",
        "Cannot infer common argument type for comparison operation ",
        "Cannot infer common argument type for logical boolean operation ",
        "Cannot infer common argument type for string operation ",
        "Cannot infer common string type for string concat operation ",
        "Cannot infer common array type for operation ",
        "Cannot get result type for arithmetic operation ",
        "Cannot get result type for temporal operation ",
    ];
    let rest = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let rest = rest.split(": Invalid argument error").next().unwrap_or(rest);
    let operation = in_sql(rest.trim_end_matches(" to valid types"));
    let operators = [
        " IS DISTINCT FROM ",
        " IS NOT DISTINCT FROM ",
        " NOT LIKE ",
        " LIKE ",
        " AND ",
        " OR ",
        " || ",
        " <= ",
        " >= ",
        " <> ",
        " != ",
        " = ",
        " < ",
        " > ",
        " + ",
        " - ",
        " * ",
        " / ",
        " % ",
        " ~ ",
    ];
    let (operator, (left, right)) = operators
        .iter()
        .find_map(|operator| Some((operator.trim(), operation.split_once(operator)?)))?;
    Some(match operator {
        "AND" | "OR" => format!("{operator} takes conditions, not {left} and {right}"),
        _ => format!("{operator} does not take {left} and {right}: convert one of them with CAST"),
    })
}

/// Returns the message of another expression whose parts have types that do not fit.
pub(super) fn type_mismatch(text: &str) -> Option<String> {
    let convert = "convert one of them with CAST";
    if let Some(types) = text.strip_prefix("Failed to coerce then (") {
        let (first, second) = types.split_once(" to common types")?.0.split_once(") and else (")?;
        return Some(format!(
            "the results of CASE (or IF, COALESCE) are {} and {}: {convert}",
            in_sql(first),
            in_sql(second.strip_suffix(')')?)
        ));
    }
    if let Some(types) = text.strip_prefix("Failed to coerce case (") {
        let (first, second) = types.split_once(" to common types")?.0.split_once(") and when (")?;
        return Some(format!(
            "CASE compares {} with {}: {convert}",
            in_sql(first),
            in_sql(second.strip_suffix(')')?)
        ));
    }
    if let Some(types) = text.strip_prefix("Can not find compatible types to compare ") {
        let (value, list) = types.split_once(" with ")?;
        let list = list.trim_start_matches('[').trim_end_matches(']');
        return Some(format!(
            "IN compares {} with {}: {convert}",
            in_sql(value),
            in_sql(list)
        ));
    }
    if let Some(types) = text.strip_prefix("Failed to coerce types ") {
        let types = types.split(" in BETWEEN").next()?;
        return Some(format!("BETWEEN does not take {}: {convert}", in_sql(types)));
    }
    if let Some((_, types)) = text.split_once("There isn't a common type to coerce ") {
        let (types, operator) = types.split_once(" in ")?;
        let operator = operator.split(' ').next().unwrap_or("LIKE").to_uppercase();
        return Some(format!("{operator} takes two STRINGs, not {}", in_sql(types)));
    }
    if let Some(rest) = text.strip_prefix("Incompatible inputs for Union: Previous inputs were of type ") {
        let (first, rest) = rest.split_once(", but got incompatible type ")?;
        let (second, column) = rest.split_once(" on column '")?;
        return Some(format!(
            "column `{}` is {} in one query of this UNION (or INTERSECT, EXCEPT) and {} in another: {convert}",
            column.trim_end_matches(['.', '\'']),
            in_sql(first),
            in_sql(second)
        ));
    }
    if let Some((operator, rest)) = text
        .strip_prefix("Unary operator '")
        .and_then(|rest| rest.split_once("' "))
    {
        let needed = match operator {
            "NOT" => "a condition",
            _ => "a number or an interval",
        };
        return Some(match rest.rsplit_once("got ") {
            Some((_, found)) => format!("{operator} takes {needed}, not {}", in_sql(found)),
            None => format!("{operator} takes {needed}"),
        });
    }
    if let Some(types) = text.strip_prefix("Cannot automatically convert ") {
        let (from, to) = types.split_once(" to ")?;
        return Some(format!("this is {}, but {} is needed", in_sql(from), in_sql(to)));
    }
    if let Some((function, rest)) = text
        .strip_prefix("Function '")
        .and_then(|rest| rest.split_once("' requires "))
    {
        let (needed, rest) = rest.split_once(", but received ")?;
        let (_, found) = rest.split_once("(DataType: ")?;
        let needed = parameters(&format!("({needed})")).unwrap_or_else(|| needed.to_owned());
        // Texts of a LIKE pass through this function.
        let name = match function {
            "replace" => "REPLACE or LIKE".to_owned(),
            name => function_name(name),
        };
        return Some(format!(
            "{name} takes {needed}, not ({})",
            in_sql(before_closing(found))
        ));
    }
    if let Some((_, rest)) = text.split_once("Cannot access field at argument 1: type ")
        && let Some((found, _)) = rest.split_once(" is not Struct")
    {
        return Some(format!("only a ROW has fields, and this is {}", in_sql(found)));
    }
    if let Some(name) = text.strip_prefix("Invalid qualifier ") {
        return Some(format!(
            "`{name}.*`: there is no table `{name}` here; the fields of a ROW are named one by one, as in `{name}.field`"
        ));
    }
    if text.starts_with("make_map requires") || text.starts_with("Function 'map' expected") {
        return Some("MAP[...] takes keys and values: MAP['a', 1, 'b', 2]".into());
    }
    if let Some(found) = text.strip_prefix("Expected LIMIT to be an integer or null, but got ") {
        return Some(format!("LIMIT and OFFSET take a number of rows, not {}", in_sql(found)));
    }
    if text.starts_with("Argument ") && text.ends_with("to grouping function is not in grouping columns") {
        return Some("GROUPING takes columns of the GROUP BY".into());
    }
    if text.starts_with("CEIL with scale")
        || text.starts_with("FLOOR with scale")
        || text.contains("cale field can only")
    {
        return Some(
            "a number of digits is not supported in CEIL and FLOOR: write CEIL(x), or CEIL(t TO DAY) of a time".into(),
        );
    }
    if text.contains("identifiers and literals are supported in tuples") {
        return Some("expressions in (a, b) are not supported: write ROW(a + 1, b)".into());
    }
    if let Some((from, to)) = text
        .strip_prefix("Casting from ")
        .and_then(|types| types.split_once(" to "))
    {
        let to = to.split(" not supported").next().unwrap_or(to);
        return Some(format!("there is no CAST of {} to {}", in_sql(from), in_sql(to)));
    }
    if let Some((name, _)) = text.split_once(" does not support type Null") {
        return Some(format!(
            "{} takes an ARRAY, not NULL: CAST(NULL AS ARRAY<INT>)",
            function_name(name)
        ));
    }
    if let Some(rest) = text.strip_prefix("[return_type] ") {
        let (name, found) = rest.split_once(" not supported for ")?;
        return Some(format!("{} does not take ({})", function_name(name), in_sql(found)));
    }
    if let Some((_, rest)) = text.split_once("HAVING clause references")
        && rest.contains("must appear in the GROUP BY clause")
    {
        let (_, column) = rest.split_once(": ")?;
        let column = column.split(" must appear").next()?;
        let is_column = |next: char| next.is_alphanumeric() || matches!(next, '_' | '.' | '`');
        return Some(
            match column.chars().all(is_column) && !column.starts_with(|c: char| c.is_ascii_digit()) {
                true => format!(
                    "column `{column}` of HAVING must be in GROUP BY, or inside an aggregate such as MAX({column})"
                ),
                false => "HAVING is a condition on aggregates and columns of GROUP BY: write other conditions in WHERE"
                    .into(),
            },
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::plain;

    #[test]
    fn types_that_do_not_fit_are_told_in_terms_of_sql() {
        #[track_caller]
        fn check(message: &str, expected: &str) {
            assert_eq!(plain(message), expected);
        }
        check(
            "Failed to coerce then (Struct(\"c0\": Int64)) and else (Boolean) to common types in CASE WHEN expression",
            "the results of CASE (or IF, COALESCE) are ROW<c0 BIGINT> and BOOLEAN: convert one of them with CAST",
        );
        check(
            "Failed to coerce case (Boolean) and when (List(Int64)) to common types in CASE WHEN expression",
            "CASE compares BOOLEAN with ARRAY<BIGINT>: convert one of them with CAST",
        );
        check(
            "Can not find compatible types to compare Boolean with [Int64]",
            "IN compares BOOLEAN with BIGINT: convert one of them with CAST",
        );
        check(
            "There isn't a common type to coerce Boolean and Boolean in LIKE expression",
            "LIKE takes two STRINGs, not BOOLEAN and BOOLEAN",
        );
        check(
            "Incompatible inputs for Union: Previous inputs were of type Boolean, but got incompatible type Int64 on \
             column 'a'",
            "column `a` is BOOLEAN in one query of this UNION (or INTERSECT, EXCEPT) and BIGINT in another: convert one of \
             them with CAST",
        );
        check(
            "Unary operator 'NOT' requires a boolean expression, got Int64",
            "NOT takes a condition, not BIGINT",
        );
        check(
            "Cannot get result type for temporal operation Date32 * Int64: Invalid argument error: Invalid date arithmetic \
             operation: Date32 * Interval(DayTime)",
            "* does not take DATE and BIGINT: convert one of them with CAST",
        );
        check(
            "Failed to coerce arguments to satisfy a call to 'make_array' function: user-defined coercion failed with: \
             Failed to unify argument types of make_array: [Boolean, Int64]. No function matches the given name and \
             argument types 'make_array(Boolean, Int64)'. You might need to add explicit type casts.",
            "ARRAY[...] does not take (BOOLEAN, BIGINT)",
        );
        check(
            "Invalid function 'cumulate'. Did you mean '$locate'?",
            "CUMULATE makes a table: write `FROM CUMULATE(TABLE t, DESCRIPTOR(ts), ...)`",
        );
    }
}
