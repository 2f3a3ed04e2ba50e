//! Functions of the characters of strings, and of the bytes of byte strings.

use std::collections::HashMap;
use std::sync::LazyLock;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Builder, ListBuilder, StringArray, StringBuilder,
};
use datafusion::arrow::compute::interleave;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;
use regex::Regex;

use super::scalar::{Scalar, Texts, array, array_result, boolean, strings, utf8};

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("startswith", two_of_a_kind, boolean, |arguments| {
            compare_bytes(arguments, |value, part| value.starts_with(part))
        }),
        Scalar::infallible("endswith", two_of_a_kind, boolean, |arguments| {
            compare_bytes(arguments, |value, part| value.ends_with(part))
        }),
        Scalar::fallible("$instr", instr_arguments, |_| DataType::Int32, instr),
        Scalar::infallible("translate", strings::<3>, utf8, translate),
        Scalar::infallible("initcap", strings::<1>, utf8, |arguments| {
            let texts = Texts::of(arguments, 0)?;
            let capitals = (0..arguments.number_rows).map(|row| texts.get(row).map(capitalized));
            array_result(capitals.collect::<StringArray>())
        }),
        Scalar::infallible("split", strings::<2>, texts_type, split),
        Scalar::infallible("elt", index_and_values, second, elt),
        Scalar::infallible("is_alpha", any, boolean, |arguments| {
            test(arguments, |_| false, |text| text.chars().all(char::is_alphabetic))
        }),
        Scalar::infallible("is_digit", any, boolean, |arguments| {
            test(arguments, DataType::is_integer, is_digits)
        }),
        Scalar::infallible("is_decimal", any, boolean, |arguments| {
            test(arguments, DataType::is_numeric, is_number)
        }),
    ]
}

fn texts_type(_: &[DataType]) -> DataType {
    DataType::List(Field::new_list_field(DataType::Utf8, true).into())
}

fn second(given: &[DataType]) -> DataType {
    given.get(1).cloned().unwrap_or(DataType::Null)
}

fn any(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [text] if text.is_string() || text.is_null() => Ok(vec![DataType::Utf8]),
        [other] => Ok(vec![other.clone()]),
        _ => plan_err!("takes 1 argument, not {}", given.len()),
    }
}

/// Accepts two texts or two byte strings.
fn two_of_a_kind(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [left, right] if left.is_binary() || right.is_binary() => {
            match (left.is_binary() || left.is_null()) && (right.is_binary() || right.is_null()) {
                true => Ok(vec![DataType::Binary; 2]),
                false => plan_err!(
                    "takes two values of one type, not {} and {}",
                    sql_type::name(left),
                    sql_type::name(right)
                ),
            }
        }
        [_, _] => Ok(vec![DataType::Utf8; 2]),
        _ => plan_err!("takes 2 arguments, not {}", given.len()),
    }
}

fn compare_bytes(arguments: &ScalarFunctionArgs, compare: fn(&[u8], &[u8]) -> bool) -> Result<ColumnarValue> {
    if *arguments.arg_fields[0].data_type() == DataType::Binary {
        let (values, parts) = (array(arguments, 0)?, array(arguments, 1)?);
        let pairs = values.as_binary::<i32>().iter().zip(parts.as_binary::<i32>());
        let result = pairs.map(|(value, part)| Some(compare(value?, part?)));
        return array_result(result.collect::<BooleanArray>());
    }
    let (values, parts) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let result =
        (0..arguments.number_rows).map(|row| Some(compare(values.get(row)?.as_bytes(), parts.get(row)?.as_bytes())));
    array_result(result.collect::<BooleanArray>())
}

fn instr_arguments(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        3 | 4 => {
            let mut types = vec![DataType::Utf8, DataType::Utf8, DataType::Int64, DataType::Int64];
            types.truncate(given.len());
            Ok(types)
        }
        other => plan_err!("takes a text, a part, a start and an occurrence, not {other} arguments"),
    }
}

/// `INSTR(text, part, start[, n])`: the position of occurrence `n` at or after `start`, from 1; a negative start counts
/// from the end and searches backwards; 0 if there is none.
fn instr(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, parts) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let starts = array(arguments, 2)?;
    let starts = starts.as_primitive::<Int64Type>();
    let counts = match arguments.args.len() {
        4 => Some(array(arguments, 3)?),
        _ => None,
    };
    let counts = counts.as_ref().map(|counts| counts.as_primitive::<Int64Type>());
    let mut result = Int32Builder::with_capacity(arguments.number_rows);
    for row in 0..arguments.number_rows {
        let count = match counts {
            None => Some(1),
            Some(counts) => counts.is_valid(row).then(|| counts.value(row)),
        };
        let (Some(text), Some(part), true, Some(count)) = (texts.get(row), parts.get(row), starts.is_valid(row), count)
        else {
            result.append_null();
            continue;
        };
        if count <= 0 {
            return exec_err!("INSTR takes the number of an occurrence, from 1, not {count}");
        }
        result.append_value(occurrence(text, part, starts.value(row), count));
    }
    array_result(result.finish())
}

fn occurrence(text: &str, part: &str, start: i64, count: i64) -> i32 {
    let text: Vec<char> = text.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let Some(last) = text.len().checked_sub(part.len()) else {
        return 0;
    };
    let skipped = usize::try_from(start.unsigned_abs())
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    let is_match = |at: &usize| text[*at..].starts_with(&part);
    let index = usize::try_from(count - 1).unwrap_or(usize::MAX);
    let found = match start {
        0 => None,
        1.. => (skipped..=last).filter(is_match).nth(index),
        _ => last
            .checked_sub(skipped)
            .and_then(|first| (0..=first).rev().filter(is_match).nth(index)),
    };
    found.and_then(|at| i32::try_from(at + 1).ok()).unwrap_or(0)
}

/// `TRANSLATE(text, from, to)`: replaces characters of `from` by those of `to` at the same position, or removes them.
/// NULL as `from` replaces nothing, NULL as `to` is empty.
fn translate(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let [texts, from, to] = [0, 1, 2].map(|index| Texts::of(arguments, index));
    let (texts, from, to) = (texts?, from?, to?);
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let mut last = ("", "");
    let mut replacements: HashMap<char, Option<char>> = HashMap::new();
    for row in 0..arguments.number_rows {
        let Some(text) = texts.get(row) else {
            result.append_null();
            continue;
        };
        let current = (from.get(row).unwrap_or(""), to.get(row).unwrap_or(""));
        if current != last {
            replacements.clear();
            let mut to = current.1.chars();
            for character in current.0.chars() {
                let replacement = to.next();
                replacements.entry(character).or_insert(replacement);
            }
            last = current;
        }
        if replacements.is_empty() {
            result.append_value(text);
            continue;
        }
        let replace = |character| replacements.get(&character).copied().unwrap_or(Some(character));
        result.append_value(text.chars().filter_map(replace).collect::<String>());
    }
    array_result(result.finish())
}

/// `INITCAP(text)`: words of ASCII letters and digits begin with a capital; as in Flink, other letters separate words.
fn capitalized(text: &str) -> String {
    let mut is_inside = false;
    let convert = |character: char| {
        let converted = match is_inside {
            true => character.to_ascii_lowercase(),
            false => character.to_ascii_uppercase(),
        };
        is_inside = character.is_ascii_alphanumeric();
        converted
    };
    text.chars().map(convert).collect()
}

/// `SPLIT(text, separator)`: the parts between separators; characters if the separator is empty.
fn split(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, separators) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let mut result = ListBuilder::new(StringBuilder::new());
    let mut buffer = [0; 4];
    for row in 0..arguments.number_rows {
        let (Some(text), Some(separator)) = (texts.get(row), separators.get(row)) else {
            result.append_null();
            continue;
        };
        match (text, separator) {
            ("", _) => {}
            (text, "") => {
                for character in text.chars() {
                    result.values().append_value(character.encode_utf8(&mut buffer));
                }
            }
            (text, separator) => {
                for part in text.split(separator) {
                    result.values().append_value(part);
                }
            }
        }
        result.append(true);
    }
    array_result(result.finish())
}

fn index_and_values(given: &[DataType]) -> Result<Vec<DataType>> {
    let [index, first, rest @ ..] = given else {
        return plan_err!("takes an index and values, not {} arguments", given.len());
    };
    if !index.is_integer() && !index.is_null() {
        return plan_err!("takes an integer as the index, not {}", sql_type::name(index));
    }
    let mut common = first.clone();
    for value in rest {
        common = match type_union_coercion(&common, value) {
            Some(common) => common,
            None => {
                return plan_err!(
                    "takes values of one type, not {} and {}",
                    sql_type::name(&common),
                    sql_type::name(value)
                );
            }
        };
    }
    let common = match common {
        bytes if bytes.is_binary() => DataType::Binary,
        text if text.is_string() || text.is_null() => DataType::Utf8,
        other => return plan_err!("takes values of STRING or BYTES, not {}", sql_type::name(&other)),
    };
    Ok(std::iter::once(DataType::Int64)
        .chain(vec![common; given.len() - 1])
        .collect())
}

/// `ELT(n, a, b, ...)`: value `n`, from 1; NULL if there is none.
fn elt(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let indices = array(arguments, 0)?;
    let values = (1..arguments.args.len()).map(|index| array(arguments, index));
    let mut values = values.collect::<Result<Vec<ArrayRef>>>()?;
    let count = values.len();
    values.push(datafusion::arrow::array::new_null_array(values[0].data_type(), 1));
    let places: Vec<(usize, usize)> = indices
        .as_primitive::<Int64Type>()
        .iter()
        .enumerate()
        .map(
            |(row, index)| match index.and_then(|index| usize::try_from(index).ok()) {
                Some(index) if (1..=count).contains(&index) => (index - 1, row),
                _ => (count, 0),
            },
        )
        .collect();
    let values: Vec<&dyn Array> = values.iter().map(|values| values.as_ref()).collect();
    Ok(ColumnarValue::Array(interleave(&values, &places)?))
}

/// Tests a value: one of a type for which `is_type` is true passes, a text is tested, NULL and others fail.
fn test(
    arguments: &ScalarFunctionArgs,
    is_type: fn(&DataType) -> bool,
    is_text: fn(&str) -> bool,
) -> Result<ColumnarValue> {
    let data_type = arguments.arg_fields[0].data_type();
    if *data_type != DataType::Utf8 {
        let values = array(arguments, 0)?;
        let passes = is_type(data_type);
        let result = (0..values.len()).map(|row| Some(passes && values.is_valid(row)));
        return array_result(result.collect::<BooleanArray>());
    }
    let texts = Texts::of(arguments, 0)?;
    let result = (0..arguments.number_rows)
        .map(|row| Some(texts.get(row).is_some_and(|text| !text.is_empty() && is_text(text))));
    array_result(result.collect::<BooleanArray>())
}

/// Returns true if all characters are decimal digits of any script.
fn is_digits(text: &str) -> bool {
    static DIGITS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A\p{Nd}*\z").expect("the pattern is valid"));
    match text.is_ascii() {
        true => text.bytes().all(|byte| byte.is_ascii_digit()),
        false => DIGITS.is_match(text),
    }
}

/// Returns true if Java reads a text as a number: space around it and a suffix `f` or `d` are allowed.
fn is_number(text: &str) -> bool {
    let text = text.trim_matches(|character: char| character <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return true;
    }
    let digits = unsigned.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(unsigned);
    // Rust has the same grammar, and other names.
    digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') && digits.parse::<f64>().is_ok()
}
