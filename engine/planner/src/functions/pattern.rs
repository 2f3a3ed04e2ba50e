//! Regular expressions: `REGEXP`, `REGEXP_EXTRACT`, `REGEXP_REPLACE`.
//!
//! Patterns follow the `regex` crate, which has most of Java's syntax but no look-around and no back-references: it
//! runs in linear time. A pattern that is not valid gives NULL, as in Flink, where it is not the same for all rows; a
//! constant one is an error when the pipeline is planned or its first rows are computed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, Int64Array, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use regex::Regex;

use super::{Scalar, Texts, array, boolean, finished, strings, utf8};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::new("regexp_extract", text_text_maybe_integer, utf8, extract),
        Scalar::new("regexp_replace", strings::<3>, utf8, replace),
        Scalar::new("$regexp", strings::<2>, boolean, matches),
    ]
}

fn text_text_maybe_integer(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        2 => Ok(vec![DataType::Utf8; 2]),
        3 => Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int64]),
        other => plan_err!("takes a text, a pattern and a group's number, not {other} arguments"),
    }
}

/// The patterns of an argument: compiled once if constant, else kept while they repeat.
struct Patterns<'a> {
    texts: Texts<'a>,
    last: Option<(&'a str, Option<Rc<Regex>>)>,
}

/// Patterns each thread keeps compiled.
const COMPILED_MAX: usize = 64;

thread_local! {
    /// Compiling a pattern costs more than matching a small batch of rows, and a compiled one is only fast while the
    /// same thread goes on using it.
    static COMPILED: RefCell<HashMap<String, Rc<Regex>>> = RefCell::new(HashMap::new());
}

fn compiled(pattern: &str) -> std::result::Result<Rc<Regex>, regex::Error> {
    COMPILED.with_borrow_mut(|known| {
        if let Some(regex) = known.get(pattern) {
            return Ok(regex.clone());
        }
        let regex = Rc::new(Regex::new(pattern)?);
        if known.len() >= COMPILED_MAX {
            known.clear();
        }
        known.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    })
}

impl<'a> Patterns<'a> {
    fn of(arguments: &'a ScalarFunctionArgs, index: usize) -> Result<Self> {
        let texts = Texts::of(arguments, index)?;
        let mut last = None;
        if let Some(pattern) = texts.constant() {
            match compiled(pattern) {
                Ok(regex) => last = Some((pattern, Some(regex))),
                Err(error) => return exec_err!("the regular expression `{pattern}` is not valid: {error}"),
            }
        }
        Ok(Self { texts, last })
    }

    fn get(&mut self, row: usize) -> Option<&Regex> {
        let pattern = self.texts.get(row)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != pattern) {
            self.last = Some((pattern, compiled(pattern).ok()));
        }
        self.last.as_ref()?.1.as_deref()
    }
}

/// `REGEXP_EXTRACT(text, pattern[, group])`: the group's text, the whole match for 0 or no group; NULL without a match.
fn extract(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut patterns = Patterns::of(arguments, 1)?;
    let groups = match arguments.args.len() {
        3 => array(arguments, 2)?,
        _ => std::sync::Arc::new(Int64Array::from(vec![0; arguments.number_rows])),
    };
    let groups = groups.as_primitive::<Int64Type>();
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let mut locations = None;
    for row in 0..arguments.number_rows {
        let group = (!groups.is_null(row)).then(|| groups.value(row));
        let group = group.and_then(|group| usize::try_from(group).ok());
        let found = match (texts.get(row), patterns.get(row), group) {
            (Some(text), Some(regex), Some(0)) => regex.find(text).map(|found| found.as_str()),
            (Some(text), Some(regex), Some(group)) => {
                // Locations of one pattern fit another only if they have as many groups.
                let locations = match &mut locations {
                    Some(locations) if arguments_constant(&arguments.args[1]) => locations,
                    other => other.insert(regex.capture_locations()),
                };
                regex
                    .captures_read(locations, text)
                    .and_then(|_| locations.get(group))
                    .map(|(start, end)| &text[start..end])
            }
            _ => None,
        };
        result.append_option(found);
    }
    finished(result.finish())
}

fn arguments_constant(argument: &ColumnarValue) -> bool {
    matches!(argument, ColumnarValue::Scalar(_))
}

/// `REGEXP_REPLACE(text, pattern, replacement)`: every match replaced; `$1` stands for a group.
fn replace(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, replacements) = (Texts::of(arguments, 0)?, Texts::of(arguments, 2)?);
    let mut patterns = Patterns::of(arguments, 1)?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let replaced = match (texts.get(row), patterns.get(row), replacements.get(row)) {
            (Some(text), Some(regex), Some(replacement)) => {
                Some(regex.replace_all(text, braced(replacement).as_ref()).into_owned())
            }
            _ => None,
        };
        result.append_option(replaced);
    }
    finished(result.finish())
}

/// Java's `$1x` is group 1 and then `x`; the `regex` crate needs `${1}x` for that.
fn braced(replacement: &str) -> Cow<'_, str> {
    if !replacement.contains(['$', '\\']) {
        return Cow::Borrowed(replacement);
    }
    let mut result = String::with_capacity(replacement.len() + 4);
    let mut characters = replacement.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('$') => result.push_str("$$"),
                Some(other) => result.push(other),
                None => result.push('\\'),
            },
            '$' => match characters.peek() {
                Some(digit) if digit.is_ascii_digit() => {
                    result.push_str("${");
                    result.push(*digit);
                    result.push('}');
                    characters.next();
                }
                Some('{') => result.push('$'),
                _ => result.push_str("$$"),
            },
            other => result.push(other),
        }
    }
    Cow::Owned(result)
}

/// `REGEXP(text, pattern)`: whether a part of the text matches.
fn matches(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut patterns = Patterns::of(arguments, 1)?;
    let result: BooleanArray = (0..arguments.number_rows)
        .map(|row| {
            let text = texts.get(row)?;
            Some(patterns.get(row)?.is_match(text))
        })
        .collect();
    finished(result)
}
