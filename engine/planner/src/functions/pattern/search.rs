//! Functions of all matches of a pattern: `REGEXP_COUNT`, `REGEXP_EXTRACT_ALL`, `REGEXP_INSTR`, `REGEXP_SUBSTR`, and
//! `STR_TO_MAP`, whose delimiters are patterns.

use datafusion::arrow::array::{Int32Array, ListBuilder, MapBuilder, MapFieldNames, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::{Groups, Pattern, Patterns, check_pattern, text_text_maybe_integer};
use crate::functions::scalar::{Scalar, Texts, array_result, strings, utf8};

pub(super) fn all() -> Vec<Scalar> {
    let pattern: fn(&ScalarFunctionArgs) -> Result<()> = |arguments| check_pattern(arguments, 1);
    vec![
        Scalar::infallible("regexp_count", strings::<2>, |_| DataType::Int32, count).checked_by(pattern),
        Scalar::infallible("regexp_instr", strings::<2>, |_| DataType::Int32, position).checked_by(pattern),
        Scalar::infallible("regexp_substr", strings::<2>, utf8, substring).checked_by(pattern),
        Scalar::infallible("regexp_extract_all", text_text_maybe_integer, texts_type, extract_all).checked_by(pattern),
        Scalar::infallible("str_to_map", one_or_three_texts, map_type, str_to_map)
            .checked_by(|arguments| (1..arguments.args.len()).try_for_each(|index| check_pattern(arguments, index))),
    ]
}

fn texts_type(_: &[DataType]) -> DataType {
    DataType::List(Field::new_list_field(DataType::Utf8, true).into())
}

/// Applies a function to the text and the pattern of each row; NULL if one is NULL or the pattern is invalid.
fn for_each_pattern<'a, T>(
    arguments: &'a ScalarFunctionArgs,
    apply: impl Fn(&'a str, &Pattern) -> Option<T>,
) -> Result<Vec<Option<T>>> {
    let texts = Texts::of(arguments, 0)?;
    let mut patterns = Patterns::of(arguments, 1)?;
    let results = (0..arguments.number_rows).map(|row| {
        let text = texts.get(row)?;
        apply(text, patterns.get(row)?)
    });
    Ok(results.collect())
}

/// `REGEXP_COUNT(text, pattern)`: the number of matches.
fn count(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let counts = for_each_pattern(arguments, |text, pattern| {
        i32::try_from(pattern.regex.find_iter(text).count()).ok()
    })?;
    array_result(Int32Array::from(counts))
}

/// `REGEXP_INSTR(text, pattern)`: the position of the first match, from 1; 0 if there is none.
fn position(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let positions = for_each_pattern(arguments, |text, pattern| match pattern.regex.find(text) {
        Some(found) => i32::try_from(text[..found.start()].chars().count() + 1).ok(),
        None => Some(0),
    })?;
    array_result(Int32Array::from(positions))
}

/// `REGEXP_SUBSTR(text, pattern)`: the first match; NULL if there is none.
fn substring(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let matches = for_each_pattern(arguments, |text, pattern| {
        pattern.regex.find(text).map(|found| found.as_str())
    })?;
    array_result(StringArray::from(matches))
}

/// `REGEXP_EXTRACT_ALL(text, pattern[, group])`: a group of all matches, by default group 1; NULL if there is no such
/// group.
fn extract_all(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut patterns = Patterns::of(arguments, 1)?;
    let groups = match arguments.args.len() {
        2 => Groups::Constant(Some(1)),
        _ => Groups::of(arguments, 2)?,
    };
    let mut result = ListBuilder::new(StringBuilder::new());
    for row in 0..arguments.number_rows {
        let (Some(text), Some(pattern), Some(group)) = (texts.get(row), patterns.get(row), groups.get(row)) else {
            result.append_null();
            continue;
        };
        if group >= pattern.regex.captures_len() {
            result.append_null();
            continue;
        }
        if group == 0 {
            for found in pattern.regex.find_iter(text) {
                result.values().append_value(found.as_str());
            }
        } else {
            for found in pattern.regex.captures_iter(text) {
                result
                    .values()
                    .append_option(found.get(group).map(|found| found.as_str()));
            }
        }
        result.append(true);
    }
    array_result(result.finish())
}

fn one_or_three_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        1 | 3 => Ok(vec![DataType::Utf8; given.len()]),
        other => plan_err!("takes a text, or a text and two delimiters, not {other} arguments"),
    }
}

fn map_type(_: &[DataType]) -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    DataType::Map(Field::new("entries", DataType::Struct(entries), false).into(), false)
}

/// `STR_TO_MAP(text[, between pairs, within a pair])`: a pair without the second delimiter has the value NULL; of
/// several pairs of one key the last one counts.
fn str_to_map(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut delimiters = match arguments.args.len() {
        3 => Some((Patterns::of(arguments, 1)?, Patterns::of(arguments, 2)?)),
        _ => None,
    };
    let names = MapFieldNames {
        entry: "entries".into(),
        key: "key".into(),
        value: "value".into(),
    };
    let mut result = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..arguments.number_rows {
        let entries: Option<Vec<(&str, Option<&str>)>> = texts.get(row).and_then(|text| match &mut delimiters {
            None => Some(pairs(text.split(','), |pair| pair.split_once('='))),
            Some((between, within)) => {
                let (between, within) = (between.get(row)?, within.get(row)?);
                Some(pairs(between.regex.split(text), |pair| {
                    let found = within.regex.find(pair)?;
                    Some((&pair[..found.start()], &pair[found.end()..]))
                }))
            }
        });
        for (key, value) in entries.iter().flatten() {
            result.keys().append_value(key);
            result.values().append_option(*value);
        }
        result.append(entries.is_some())?;
    }
    array_result(result.finish())
}

/// Returns the entries of a map in the order of their first occurrence. Empty parts at the end are left out.
fn pairs<'a>(
    parts: impl Iterator<Item = &'a str>,
    split: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
) -> Vec<(&'a str, Option<&'a str>)> {
    let mut parts: Vec<&str> = parts.collect();
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    let mut places = std::collections::HashMap::with_capacity(parts.len());
    let mut entries: Vec<(&str, Option<&str>)> = Vec::with_capacity(parts.len());
    for part in parts {
        let (key, value) = split(part).map_or((part, None), |(key, value)| (key, Some(value)));
        match places.get(key) {
            Some(place) => entries[*place] = (key, value),
            None => {
                places.insert(key, entries.len());
                entries.push((key, value));
            }
        }
    }
    entries
}
