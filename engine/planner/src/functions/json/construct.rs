//! Functions that make JSON of SQL values: `JSON_STRING`, `JSON_OBJECT`, `JSON_ARRAY`, `JSON_OBJECTAGG`,
//! `JSON_ARRAYAGG`, `JSON`, `JSON_QUOTE` and `JSON_UNQUOTE`.
//!
//! A constructor is a call of a function whose name begins with `$`. Its arguments are JSON texts: values are
//! wrapped in `JSON_STRING`, results of other constructors are not, so that they are nested. The aggregates apply
//! a constructor to the array of a group's texts.

use std::fmt::Write;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::values::{self, Values};
use super::{reader, write};
use crate::functions::scalar::{Scalar, Texts, array, array_result, strings, utf8};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::fallible("json_string", one_value, utf8, json_string),
        Scalar::fallible("json", strings::<1>, utf8, json),
        Scalar::infallible("json_quote", strings::<1>, utf8, |arguments| {
            map_texts(arguments, quoted)
        }),
        Scalar::infallible("json_unquote", strings::<1>, utf8, |arguments| {
            map_texts(arguments, unquoted)
        }),
        Scalar::infallible("$json_object", all_strings, utf8, object),
        Scalar::infallible("$json_array", all_strings, utf8, array_of),
        Scalar::fallible("$json_member", strings::<3>, utf8, member),
        Scalar::fallible("$json_objectagg", texts, utf8, object_of_members),
        Scalar::infallible("$json_arrayagg", mode_and_texts, utf8, array_of_elements),
    ]
}

fn one_value(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [value] => {
            let accepted = match value {
                DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
                other => other.clone(),
            };
            values::check(&accepted)?;
            Ok(vec![accepted])
        }
        _ => plan_err!("takes 1 argument, not {}", given.len()),
    }
}

fn all_strings(given: &[DataType]) -> Result<Vec<DataType>> {
    Ok(vec![DataType::Utf8; given.len()])
}

fn texts(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [list @ DataType::List(_)] => Ok(vec![list.clone()]),
        _ => plan_err!("takes the array of a group's members"),
    }
}

fn mode_and_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [_, list @ DataType::List(_)] => Ok(vec![DataType::Utf8, list.clone()]),
        _ => plan_err!("takes the array of a group's elements"),
    }
}

/// `JSON_STRING(value)`: the value as JSON; NULL for NULL.
fn json_string(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let values = Values::of(&array(arguments, 0)?)?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let mut text = String::new();
    for row in 0..arguments.number_rows {
        if values.is_null(row) {
            result.append_null();
            continue;
        }
        text.clear();
        values.write(row, &mut text)?;
        result.append_value(&text);
    }
    array_result(result.finish())
}

/// `JSON(text)`: the text, in Flink's form; NULL for an empty text, an error for one that is not JSON.
fn json(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let mut out = String::new();
    for row in 0..arguments.number_rows {
        let Some(text) = texts.get(row).filter(|text| !text.trim().is_empty()) else {
            result.append_null();
            continue;
        };
        let Ok(value) = reader::checked(text) else {
            let shown: String = text.chars().take(80).collect();
            return exec_err!("JSON takes a text that is JSON, which `{shown}` is not");
        };
        out.clear();
        write::value(value, &mut out);
        result.append_value(&out);
    }
    array_result(result.finish())
}

/// Applies a function of one text to each row.
fn map_texts(arguments: &ScalarFunctionArgs, map: fn(&str) -> String) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let result = (0..arguments.number_rows).map(|row| texts.get(row).map(map));
    array_result(result.collect::<StringArray>())
}

/// `JSON_QUOTE(text)`: a JSON string of ASCII characters.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut units = [0; 2];
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='\u{7f}' => out.push(character),
            other => {
                for unit in other.encode_utf16(&mut units) {
                    let _infallible = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// `JSON_UNQUOTE(text)`: the text of a JSON string; other texts as they are.
fn unquoted(text: &str) -> String {
    let is_string = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    match is_string && reader::checked(text).is_ok() {
        true => reader::unescaped(&text[1..text.len() - 1]).into_owned(),
        false => text.to_owned(),
    }
}

/// Returns true if the first argument tells to leave out NULL values.
fn is_absent_on_null(arguments: &ScalarFunctionArgs) -> Result<bool> {
    Ok(Texts::of(arguments, 0)?.constant() == Some("absent"))
}

/// `JSON_OBJECT`: of the mode for NULL, then names and values. Names are constants.
fn object(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let is_absent = is_absent_on_null(arguments)?;
    let mut members = Vec::with_capacity(arguments.args.len() / 2);
    for index in (1..arguments.args.len()).step_by(2) {
        let Some(name) = Texts::of(arguments, index)?.constant() else {
            return plan_err!("JSON_OBJECT takes constant names");
        };
        members.push((name, Texts::of(arguments, index + 1)?));
    }
    // Members of one name stay in their order: the last value counts.
    members.sort_by(|(left, _), (right, _)| write::name_order(left, right));
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 32 * arguments.number_rows);
    let mut out = String::new();
    for row in 0..arguments.number_rows {
        out.clear();
        out.push('{');
        for same in members.chunk_by(|(left, _), (right, _)| left == right) {
            let values = same.iter().rev().map(|(_, values)| values.get(row));
            let value = match is_absent {
                true => values.flatten().next(),
                false => values.take(1).next().flatten().or(Some("null")),
            };
            if let Some(value) = value {
                if out.len() > 1 {
                    out.push(',');
                }
                write::string(same[0].0, &mut out);
                out.push(':');
                out.push_str(value);
            }
        }
        out.push('}');
        result.append_value(&out);
    }
    array_result(result.finish())
}

/// Appends an array of JSON texts; `None` is left out or `null`.
fn write_array<'a>(texts: impl Iterator<Item = Option<&'a str>>, is_absent: bool, out: &mut String) {
    out.push('[');
    for text in texts {
        let Some(text) = text.or((!is_absent).then_some("null")) else {
            continue;
        };
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(text);
    }
    out.push(']');
}

/// `JSON_ARRAY`: of the mode for NULL, then values.
fn array_of(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let is_absent = is_absent_on_null(arguments)?;
    let values = (1..arguments.args.len()).map(|index| Texts::of(arguments, index));
    let values = values.collect::<Result<Vec<_>>>()?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 32 * arguments.number_rows);
    let mut out = String::new();
    for row in 0..arguments.number_rows {
        out.clear();
        write_array(values.iter().map(|values| values.get(row)), is_absent, &mut out);
        result.append_value(&out);
    }
    array_result(result.finish())
}

/// A member of `JSON_OBJECTAGG`: of the mode for NULL, a name and a value; NULL for a value to leave out.
fn member(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let is_absent = is_absent_on_null(arguments)?;
    let (names, values) = (Texts::of(arguments, 1)?, Texts::of(arguments, 2)?);
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let mut out = String::new();
    for row in 0..arguments.number_rows {
        let Some(name) = names.get(row) else {
            return exec_err!(
                "the key of JSON_OBJECTAGG is NULL: filter such rows with FILTER (WHERE key IS NOT NULL)"
            );
        };
        let Some(value) = values.get(row).or((!is_absent).then_some("null")) else {
            result.append_null();
            continue;
        };
        out.clear();
        write::string(name, &mut out);
        out.push(':');
        out.push_str(value);
        result.append_value(&out);
    }
    array_result(result.finish())
}

/// Calls `each` with the texts of every row's array; a NULL array, that of a group without rows, has none.
fn for_each_list(
    lists: &ArrayRef,
    mut each: impl FnMut(&mut dyn Iterator<Item = Option<&str>>) -> Result<()>,
) -> Result<()> {
    let lists = lists.as_list::<i32>();
    let Some(texts) = lists.values().as_string_opt::<i32>() else {
        return plan_err!("takes an array of JSON texts");
    };
    let offsets = lists.value_offsets();
    for row in 0..lists.len() {
        let range = match lists.is_valid(row) {
            true => offsets[row] as usize..offsets[row + 1] as usize,
            false => 0..0,
        };
        each(&mut range.map(|index| texts.is_valid(index).then(|| texts.value(index))))?;
    }
    Ok(())
}

/// `JSON_OBJECTAGG`: the object of an array of members, whose names must be different.
fn object_of_members(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 64 * arguments.number_rows);
    for_each_list(&array(arguments, 0)?, |members| {
        let mut members: Vec<_> = members
            .flatten()
            .map(|member| {
                (
                    reader::Reader::new(member)
                        .string()
                        .map_or("".into(), reader::unescaped),
                    member,
                )
            })
            .collect();
        members.sort_by(|(left, _), (right, _)| write::name_order(left, right));
        if let Some(same) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return exec_err!(
                "JSON_OBJECTAGG has several values for the key `{}`: keys must be unique within a group",
                same[0].0
            );
        }
        let members: Vec<&str> = members.iter().map(|(_, member)| *member).collect();
        result.append_value(format!("{{{}}}", members.join(",")));
        Ok(())
    })?;
    array_result(result.finish())
}

/// `JSON_ARRAYAGG`: of the mode for NULL and an array of elements.
fn array_of_elements(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let is_absent = is_absent_on_null(arguments)?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 64 * arguments.number_rows);
    let mut out = String::new();
    for_each_list(&array(arguments, 1)?, |elements| {
        out.clear();
        write_array(elements, is_absent, &mut out);
        result.append_value(&out);
        Ok(())
    })?;
    array_result(result.finish())
}
