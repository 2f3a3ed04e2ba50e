//! `SIMILAR TO`: patterns of the SQL standard, which match the whole text.
//!
//! `%` is any text, `_` any character; `[...]`, `(...)`, `|`, `*`, `+`, `?` and `{n}` are those of regular expressions.
//! As in Flink (Calcite), `.` matches any character, too.

use std::collections::HashMap;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use regex::Regex;

use crate::functions::scalar::{Scalar, Texts, array_result, boolean};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::fallible("$similar", two_or_three_texts, boolean, similar).checked_by(|arguments| {
            let pattern = Texts::of(arguments, 1)?;
            match (pattern.constant(), escape(arguments)?) {
                (Some(pattern), escape) => compiled(pattern, escape).map(drop),
                _ => Ok(()),
            }
        }),
    ]
}

fn two_or_three_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        2 | 3 => Ok(vec![DataType::Utf8; given.len()]),
        _ => plan_err!("takes a text, a pattern and an escape character"),
    }
}

/// Returns the escape character, a constant.
fn escape(arguments: &ScalarFunctionArgs) -> Result<Option<char>> {
    if arguments.args.len() < 3 {
        return Ok(None);
    }
    let text = Texts::of(arguments, 2)?.constant().unwrap_or_default();
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Ok(Some(character)),
        _ => exec_err!("ESCAPE takes one character, such as ESCAPE '!'"),
    }
}

/// `text SIMILAR TO pattern [ESCAPE character]`.
fn similar(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, patterns) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let escape = escape(arguments)?;
    let mut known: HashMap<&str, Regex> = HashMap::new();
    let mut result = Vec::with_capacity(arguments.number_rows);
    for row in 0..arguments.number_rows {
        let (Some(text), Some(pattern)) = (texts.get(row), patterns.get(row)) else {
            result.push(None);
            continue;
        };
        let regex = match known.get(pattern) {
            Some(regex) => regex,
            None => known.entry(pattern).or_insert(compiled(pattern, escape)?),
        };
        result.push(Some(regex.is_match(text)));
    }
    array_result(BooleanArray::from(result))
}

fn compiled(pattern: &str, escape: Option<char>) -> Result<Regex> {
    let regular = match regular_expression(pattern, escape) {
        Ok(regular) => regular,
        Err(reason) => return exec_err!("the pattern `{pattern}` of SIMILAR TO is not valid: {reason}"),
    };
    match Regex::new(&regular) {
        Ok(regex) => Ok(regex),
        Err(error) => exec_err!(
            "the pattern `{pattern}` of SIMILAR TO is not valid: {}",
            super::reason(&error)
        ),
    }
}

/// Characters that an escape character may precede.
const SPECIAL: &str = "_%[]()|^-+*?{}";

/// Returns the regular expression of a pattern.
fn regular_expression(pattern: &str, escape: Option<char>) -> std::result::Result<String, String> {
    let mut regular = String::from(r"\A(?:");
    let mut rest = pattern;
    let mut is_in_brackets = false;
    while let Some(next) = rest.chars().next() {
        let after = &rest[next.len_utf8()..];
        rest = after;
        if Some(next) == escape {
            let Some(escaped) = after.chars().next() else {
                return Err("nothing follows the escape character".into());
            };
            if !SPECIAL.contains(escaped) && Some(escaped) != escape {
                return Err(format!("`{escaped}` needs no escape character"));
            }
            regular.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
            rest = &after[escaped.len_utf8()..];
            continue;
        }
        match next {
            '[' if is_in_brackets => {
                let class = CLASSES
                    .iter()
                    .find_map(|(name, class)| Some((class, after.strip_prefix(name)?)));
                let Some((class, after)) = class else {
                    return Err("`[` in brackets begins a class such as [:ALPHA:]".into());
                };
                regular.push_str(class);
                rest = after;
            }
            '[' => {
                is_in_brackets = true;
                regular.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    regular.push('^');
                    rest = after;
                }
                // `[:ALPHA:]` is a set of its own.
                if rest.starts_with(':') {
                    let class = CLASSES
                        .iter()
                        .find_map(|(name, class)| Some((class, rest.strip_prefix(name)?)));
                    let Some((class, after)) = class else {
                        return Err("there is no such class of characters".into());
                    };
                    regular.push_str(class);
                    regular.push(']');
                    is_in_brackets = false;
                    rest = after;
                }
            }
            ']' if is_in_brackets => {
                is_in_brackets = false;
                regular.push(']');
            }
            ']' => return Err("a `[` is missing".into()),
            // `[a-z^b]`: all of the first characters but the following ones.
            '^' if is_in_brackets => {
                let Some(end) = rest.find(']') else {
                    return Err("a `]` is missing".into());
                };
                regular.push_str("&&[^");
                regular.push_str(&rest[..end]);
                regular.push(']');
                rest = &rest[end..];
            }
            other if is_in_brackets => match other {
                '-' => regular.push('-'),
                other => regular.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            },
            '_' => regular.push('.'),
            '%' => regular.push_str("(?s:.*)"),
            '\\' => regular.push_str(r"\\"),
            '$' => regular.push_str(r"\$"),
            other => regular.push(other),
        }
    }
    if is_in_brackets {
        return Err("a `]` is missing".into());
    }
    regular.push_str(r")\z");
    Ok(regular)
}

/// Classes of characters after their first bracket.
const CLASSES: &[(&str, &str)] = &[
    (":ALPHA:]", "[:alpha:]"),
    (":alpha:]", "[:alpha:]"),
    (":UPPER:]", "[:upper:]"),
    (":upper:]", "[:upper:]"),
    (":LOWER:]", "[:lower:]"),
    (":lower:]", "[:lower:]"),
    (":DIGIT:]", "[:digit:]"),
    (":digit:]", "[:digit:]"),
    (":SPACE:]", " "),
    (":space:]", " "),
    (":WHITESPACE:]", r"\s"),
    (":whitespace:]", r"\s"),
    (":ALNUM:]", "[:alnum:]"),
    (":alnum:]", "[:alnum:]"),
];
