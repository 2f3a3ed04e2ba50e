//! Regular expressions: `REGEXP`, `REGEXP_EXTRACT`, `REGEXP_REPLACE`, those of [`search`], and `SIMILAR TO`.
//!
//! Patterns follow the `regex` crate, which has most of Java's syntax but no look-around and no back-references, and
//! matches in linear time. An invalid pattern gives NULL, as in Flink; a constant one is an error when the pipeline is
//! planned. Simple patterns, which are common in queries, are matched without the regex
//! automaton ([`literal_matcher`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, Int64Array, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use regex::{CaptureLocations, NoExpand, Regex};

use super::scalar::{Scalar, Texts, array, array_result, boolean, strings, utf8};
use literal_matcher::LiteralMatcher;

mod literal_matcher;
mod search;
mod similar;

pub(super) fn all() -> Vec<Scalar> {
    let pattern: fn(&ScalarFunctionArgs) -> Result<()> = |arguments| check_pattern(arguments, 1);
    let mut all = vec![
        Scalar::infallible("regexp_extract", text_text_maybe_integer, utf8, extract).checked_by(pattern),
        Scalar::fallible("regexp_replace", strings::<3>, utf8, replace).checked_by(pattern),
        Scalar::infallible("$regexp", strings::<2>, boolean, matches).checked_by(pattern),
    ];
    all.extend(search::all());
    all.extend(similar::all());
    all
}

/// Checks a constant pattern.
fn check_pattern(arguments: &ScalarFunctionArgs, index: usize) -> Result<()> {
    if let Some(pattern) = Texts::of(arguments, index)?.constant()
        && let Err(error) = compiled(pattern)
    {
        let reason = reason(&error);
        if reason.starts_with("look-around") || reason.starts_with("backreferences") {
            return exec_err!(
                "the regular expression `{pattern}` is not supported: {reason}; patterns are matched in linear time"
            );
        }
        return exec_err!("the regular expression `{pattern}` is not valid: {reason}");
    }
    Ok(())
}

/// Returns the reason why a pattern is invalid, in one line.
fn reason(error: &regex::Error) -> String {
    let error = error.to_string();
    let reason = error.lines().last().unwrap_or(&error);
    reason.trim_start_matches("error: ").to_owned()
}

fn text_text_maybe_integer(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        2 => Ok(vec![DataType::Utf8; 2]),
        3 => Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int64]),
        other => plan_err!("takes a text, a pattern and a group's number, not {other} arguments"),
    }
}

/// The patterns of an argument; a pattern is compiled again only when it changes.
struct Patterns<'a> {
    texts: Texts<'a>,
    last: Option<(&'a str, Option<Rc<Pattern>>)>,
}

/// A compiled pattern.
struct Pattern {
    regex: Regex,
    /// Faster matcher, for patterns that have one.
    matcher: Option<LiteralMatcher>,
}

impl Pattern {
    fn compile(pattern: &str) -> std::result::Result<Self, regex::Error> {
        Ok(Self {
            regex: Regex::new(pattern)?,
            matcher: LiteralMatcher::new(pattern),
        })
    }

    fn is_match(&self, text: &str) -> bool {
        match &self.matcher {
            Some(matcher) if matcher.supports(text) => matcher.is_match(text),
            _ => self.regex.is_match(text),
        }
    }

    /// Returns a group of the leftmost match. `locations` is a buffer for the groups of this pattern, allocated at
    /// first use.
    #[inline]
    fn group<'t>(&self, text: &'t str, group: usize, locations: &mut Option<CaptureLocations>) -> Option<&'t str> {
        match &self.matcher {
            Some(matcher) if matcher.supports(text) => matcher.group(text, u32::try_from(group).ok()?),
            _ if group == 0 => self.regex.find(text).map(|found| found.as_str()),
            _ => {
                let locations = locations.get_or_insert_with(|| self.regex.capture_locations());
                self.regex.captures_read(locations, text)?;
                locations.get(group).map(|(start, end)| &text[start..end])
            }
        }
    }
}

/// Maximum number of compiled patterns per thread.
const COMPILED_MAX: usize = 64;

thread_local! {
    /// Compiled patterns. Compilation costs more than matching a small batch of rows, and a compiled pattern is fast
    /// only as long as the same thread uses it.
    static COMPILED: RefCell<HashMap<String, Rc<Pattern>>> = RefCell::new(HashMap::new());
}

fn compiled(pattern: &str) -> std::result::Result<Rc<Pattern>, regex::Error> {
    COMPILED.with_borrow_mut(|known| {
        if let Some(compiled) = known.get(pattern) {
            return Ok(compiled.clone());
        }
        let compiled = Rc::new(Pattern::compile(pattern)?);
        if known.len() >= COMPILED_MAX {
            known.clear();
        }
        known.insert(pattern.to_owned(), compiled.clone());
        Ok(compiled)
    })
}

impl<'a> Patterns<'a> {
    fn of(arguments: &'a ScalarFunctionArgs, index: usize) -> Result<Self> {
        let texts = Texts::of(arguments, index)?;
        Ok(Self { texts, last: None })
    }

    fn get(&mut self, row: usize) -> Option<&Pattern> {
        let pattern = self.texts.get(row)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != pattern) {
            self.last = Some((pattern, compiled(pattern).ok()));
        }
        self.last.as_ref()?.1.as_deref()
    }
}

/// `REGEXP_EXTRACT(text, pattern[, group])`: the text of a group, by default 0, the whole match; NULL without a match.
fn extract(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut patterns = Patterns::of(arguments, 1)?;
    let groups = Groups::of(arguments, 2)?;
    let patterns_are_constant = patterns.texts.constant().is_some();
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let mut locations = None;
    for row in 0..arguments.number_rows {
        let found = match (texts.get(row), patterns.get(row), groups.get(row)) {
            (Some(text), Some(pattern), Some(group)) => {
                if !patterns_are_constant {
                    // A buffer belongs to one pattern.
                    locations = None;
                }
                pattern.group(text, group, &mut locations)
            }
            _ => None,
        };
        result.append_option(found);
    }
    array_result(result.finish())
}

/// The number of a group: one per row, or one for all.
enum Groups {
    Rows(Int64Array),
    Constant(Option<usize>),
}

impl Groups {
    /// Returns group 0, the whole match, if the argument is missing.
    fn of(arguments: &ScalarFunctionArgs, index: usize) -> Result<Self> {
        Ok(match arguments.args.get(index) {
            None => Self::Constant(Some(0)),
            Some(ColumnarValue::Scalar(ScalarValue::Int64(group))) => {
                Self::Constant(group.and_then(|group| usize::try_from(group).ok()))
            }
            Some(_) => Self::Rows(array(arguments, index)?.as_primitive::<Int64Type>().clone()),
        })
    }

    fn get(&self, row: usize) -> Option<usize> {
        match self {
            Self::Constant(group) => *group,
            Self::Rows(groups) => (!groups.is_null(row)).then(|| usize::try_from(groups.value(row)).ok())?,
        }
    }
}

/// `REGEXP_REPLACE(text, pattern, replacement)`: replaces every match. The replacement is plain text, as in Flink.
fn replace(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, replacements) = (Texts::of(arguments, 0)?, Texts::of(arguments, 2)?);
    let mut patterns = Patterns::of(arguments, 1)?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let replaced = match (texts.get(row), patterns.get(row), replacements.get(row)) {
            (Some(text), Some(pattern), Some(replacement)) => {
                Some(pattern.regex.replace_all(text, NoExpand(replacement)).into_owned())
            }
            _ => None,
        };
        result.append_option(replaced);
    }
    array_result(result.finish())
}

/// `REGEXP(text, pattern)`: true if a part of the text matches. As in Flink, nothing matches an empty or invalid
/// pattern.
fn matches(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut patterns = Patterns::of(arguments, 1)?;
    let result: BooleanArray = (0..arguments.number_rows)
        .map(|row| {
            let text = texts.get(row)?;
            let is_empty = patterns.texts.get(row)?.is_empty();
            Some(!is_empty && patterns.get(row).is_some_and(|pattern| pattern.is_match(text)))
        })
        .collect();
    array_result(result)
}
