//! String functions that DataFusion lacks, or whose results differ from DataFusion's.

use std::ops::Range;

use datafusion::arrow::array::{Array, AsArray, Int32Array, Int32Builder, Int64Array, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::{multiset, sql_type};

use super::scalar::{Scalar, Texts, array, array_result, bigint, strings, utf8};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("split_index", split_arguments, utf8, split_index),
        Scalar::fallible("count_char", strings::<2>, bigint, count_char),
        Scalar::fallible("parse_url", url_arguments, utf8, parse_url),
        Scalar::fallible("url_encode", strings::<1>, utf8, |arguments| {
            map_texts(arguments, |text| Some(percent_encoded(text)))
        }),
        Scalar::fallible("url_decode", strings::<1>, utf8, |arguments| {
            map_texts(arguments, percent_decoded)
        }),
        Scalar::infallible("$substring", text_integers, utf8, substring),
        Scalar::fallible("$locate", text_text_integer, |_| DataType::Int32, locate),
        Scalar::infallible("chr", integer, utf8, character),
        Scalar::fallible("left", text_integer, utf8, |arguments| left_or_right(arguments, true)),
        Scalar::fallible("right", text_integer, utf8, |arguments| left_or_right(arguments, false)),
        Scalar::fallible("lpad", padding, utf8, |arguments| pad(arguments, true)),
        Scalar::fallible("rpad", padding, utf8, |arguments| pad(arguments, false)),
        Scalar::fallible("overlay", overlay_arguments, utf8, overlay),
        Scalar::fallible("$elements", one_collection, |_| DataType::Int32, elements),
    ]
}

fn text_text_integer(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() == 3 {
        Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int64])
    } else {
        plan_err!("takes 3 arguments, not {}", given.len())
    }
}

/// Accepts a text, a separator (a text or the number of a character) and an index.
fn split_arguments(given: &[DataType]) -> Result<Vec<DataType>> {
    let mut types = text_text_integer(given)?;
    if given[1].is_integer() {
        types[1] = DataType::Int64;
    }
    Ok(types)
}

fn text_integer(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        2 => Ok(vec![DataType::Utf8, DataType::Int64]),
        other => plan_err!("takes a text and a length, not {other} arguments"),
    }
}

fn padding(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        2 => Ok(vec![DataType::Utf8, DataType::Int64]),
        3 => Ok(vec![DataType::Utf8, DataType::Int64, DataType::Utf8]),
        other => plan_err!("takes a text, a length and what to fill with, not {other} arguments"),
    }
}

fn overlay_arguments(given: &[DataType]) -> Result<Vec<DataType>> {
    let mut types = vec![DataType::Utf8, DataType::Utf8, DataType::Int64, DataType::Int64];
    if !matches!(given.len(), 3 | 4) {
        return plan_err!(
            "takes a text, its new part, a position and a length, not {} arguments",
            given.len()
        );
    }
    types.truncate(given.len());
    Ok(types)
}

fn one_collection(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [DataType::List(_) | DataType::Map(..)] => Ok(given.to_vec()),
        [other] => plan_err!(
            "counts the elements of an ARRAY, a MAP or a MULTISET, not of {}",
            sql_type::name(other)
        ),
        _ => plan_err!("takes one argument, not {}", given.len()),
    }
}

fn url_arguments(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        2 | 3 => Ok(vec![DataType::Utf8; given.len()]),
        other => plan_err!("takes a URL, a part such as 'HOST', and a key for 'QUERY', not {other} arguments"),
    }
}

/// Applies a function of one text to each row.
fn map_texts(arguments: &ScalarFunctionArgs, map: impl Fn(&str) -> Option<String>) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 32 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        result.append_option(texts.get(row).and_then(&map));
    }
    array_result(result.finish())
}

/// Encodes a text as `application/x-www-form-urlencoded`, like Java's `URLEncoder`.
fn percent_encoded(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => result.push(char::from(byte)),
            b' ' => result.push('+'),
            other => result.push_str(&format!("%{other:02X}")),
        }
    }
    result
}

/// Decodes a text; returns `None` if a `%` is not followed by two digits. Bytes without a character become U+FFFD.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).ok()?
            }
            other => *other,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `PARSE_URL(url, part[, key])`: NULL where the part is missing.
fn parse_url(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (urls, parts) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    if let Some(part) = parts.constant().filter(|part| !URL_PARTS.contains(part)) {
        return exec_err!("`{part}` is not a part of a URL; {} are", URL_PARTS.join(", "));
    }
    let keys = if arguments.args.len() == 3 {
        Some(Texts::of(arguments, 2)?)
    } else {
        None
    };
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let part = match (urls.get(row), parts.get(row)) {
            (Some(url), Some(part)) => url_part(url, part),
            _ => None,
        };
        let part = match &keys {
            None => part,
            Some(keys) => match (part, keys.get(row)) {
                (Some(query), Some(key)) => query
                    .split('&')
                    .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
                    .map(|(_, value)| value),
                _ => None,
            },
        };
        result.append_option(part);
    }
    array_result(result.finish())
}

const URL_PARTS: [&str; 8] = [
    "PROTOCOL",
    "AUTHORITY",
    "USERINFO",
    "HOST",
    "PATH",
    "FILE",
    "QUERY",
    "REF",
];

fn url_part<'a>(url: &'a str, part: &str) -> Option<&'a str> {
    let (protocol, rest) = url.split_once("://")?;
    let (rest, reference) = match rest.split_once('#') {
        Some((rest, reference)) => (rest, Some(reference)),
        None => (rest, None),
    };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, file) = rest.split_at(authority_end);
    let (path, query) = match file.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (file, None),
    };
    let (user, server) = match authority.rsplit_once('@') {
        Some((user, server)) => (Some(user), server),
        None => (None, authority),
    };
    match part {
        "PROTOCOL" => Some(protocol),
        "AUTHORITY" => Some(authority),
        "USERINFO" => user,
        "HOST" => Some(match server.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => server,
        }),
        "PATH" => Some(path),
        "FILE" => Some(file),
        "QUERY" => query,
        "REF" => reference,
        _ => None,
    }
}

fn text_integers(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        2 => Ok(vec![DataType::Utf8, DataType::Int64]),
        3 => Ok(vec![DataType::Utf8, DataType::Int64, DataType::Int64]),
        other => plan_err!("takes a text, a position and a length, not {other} arguments"),
    }
}

/// `SUBSTRING(text FROM n [FOR length])`: from character `n`, from 1; a negative `n` counts from the end.
fn substring(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let starts = array(arguments, 1)?;
    let starts = starts.as_primitive::<Int64Type>();
    let lengths = match arguments.args.len() {
        3 => Some(array(arguments, 2)?),
        _ => None,
    };
    let lengths = lengths.as_ref().map(|lengths| lengths.as_primitive::<Int64Type>());
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let length = match lengths {
            None => Some(i64::MAX),
            Some(lengths) => (!lengths.is_null(row)).then(|| lengths.value(row)),
        };
        let part = match (texts.get(row), starts.is_null(row), length) {
            (Some(text), false, Some(length)) if length >= 0 => Some(characters(text, starts.value(row), length)),
            _ => None,
        };
        result.append_option(part);
    }
    array_result(result.finish())
}

fn characters(text: &str, start: i64, length: i64) -> &str {
    let is_ascii = text.is_ascii();
    let count = if is_ascii { text.len() } else { text.chars().count() } as i64;
    let first = match start {
        1.. => start - 1,
        0 => 0,
        negative => count.saturating_add(negative),
    };
    if first < 0 || first >= count {
        return "";
    }
    let last = first.saturating_add(length).min(count);
    let byte = |character: i64| {
        let character = character as usize;
        if is_ascii {
            character
        } else {
            text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
        }
    };
    &text[byte(first)..byte(last)]
}

/// `SPLIT_INDEX(text, separator, n)`: part `n`, from 0; NULL if there is none. An empty separator is space.
fn split_index(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let codes;
    let separators = if *arguments.arg_fields[1].data_type() == DataType::Int64 {
        codes = characters_of(array(arguments, 1)?.as_primitive());
        match &arguments.args[1] {
            ColumnarValue::Scalar(_) if !codes.is_empty() => Texts::Constant(codes.iter().next().flatten()),
            _ => Texts::Rows(&codes),
        }
    } else {
        Texts::of(arguments, 1)?
    };
    let texts = Texts::of(arguments, 0)?;
    if let (Texts::Rows(texts), Some([separator]), ColumnarValue::Scalar(ScalarValue::Int64(Some(index)))) =
        (&texts, separators.constant().map(str::as_bytes), &arguments.args[2])
    {
        return array_result(parts(texts, *separator, *index));
    }
    let indices = array(arguments, 2)?;
    let indices = indices.as_primitive::<Int64Type>();
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let part = match (texts.get(row), separators.get(row), indices.is_null(row)) {
            (Some(text), Some(separator), false) => part(text, separator, indices.value(row)),
            _ => None,
        };
        result.append_option(part);
    }
    array_result(result.finish())
}

/// Returns the characters of numbers from 1 to 255, as in Flink, and no character for others.
fn characters_of(numbers: &Int64Array) -> StringArray {
    let character = |number: i64| u8::try_from(number).ok().filter(|number| *number > 0).map(char::from);
    let texts = numbers.iter().map(|number| Some(character(number?)?.to_string()));
    texts.collect()
}

/// Returns the same part of every text, for a separator of bytes.
fn parts(texts: &StringArray, separator: u8, index: i64) -> StringArray {
    let mut result = StringBuilder::with_capacity(texts.len(), 8 * texts.len());
    let index = usize::try_from(index).ok();
    for text in texts {
        result.append_option(text.zip(index).and_then(|(text, index)| {
            if text.is_empty() {
                return None;
            }
            let part = part_between(text.as_bytes(), separator, index)?;
            text.get(part)
        }));
    }
    result.finish()
}

fn part<'a>(text: &'a str, separator: &str, index: i64) -> Option<&'a str> {
    let index = usize::try_from(index).ok()?;
    if text.is_empty() {
        // As in Flink, an empty text has no part, not even an empty one.
        return None;
    }
    match separator.as_bytes() {
        [] => text.split(char::is_whitespace).nth(index),
        // A separator of one byte, the usual case, has a fast path.
        [byte] => part_between(text.as_bytes(), *byte, index).and_then(|part| text.get(part)),
        _ => text.split(separator).nth(index),
    }
}

/// Returns the range of part `index` between bytes `separator`. Separators are often close together, so eight bytes at
/// a time are tested instead of searching for each.
#[inline]
fn part_between(text: &[u8], separator: u8, index: usize) -> Option<Range<usize>> {
    let mut from = 0;
    let mut left = index;
    for (word, chunk) in text.chunks(8).enumerate() {
        let bytes = match <[u8; 8]>::try_from(chunk) {
            Ok(bytes) => bytes,
            Err(_) => {
                let mut padded = [!separator; 8];
                padded[..chunk.len()].copy_from_slice(chunk);
                padded
            }
        };
        let mut hits = bytes_equal(u64::from_le_bytes(bytes), separator);
        while hits != 0 {
            let at = word * 8 + hits.trailing_zeros() as usize / 8;
            if left == 0 {
                return Some(from..at);
            }
            left -= 1;
            from = at + 1;
            hits &= hits - 1;
        }
    }
    (left == 0).then_some(from..text.len())
}

/// Returns the highest bit of each byte of `word` that equals `byte`.
#[inline]
fn bytes_equal(word: u64, byte: u8) -> u64 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differing = word ^ (u64::from(byte) * 0x0101_0101_0101_0101);
    // The sum of two 7-bit numbers fits 8 bits, so no carry leaves a byte.
    !(((differing & LOW_BITS) + LOW_BITS) | differing | LOW_BITS)
}

/// `COUNT_CHAR(text, character)`: number of occurrences of the character.
fn count_char(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, characters) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let count = |text: &str, character: &str| match character.as_bytes() {
        [] => 0,
        [byte] => memchr::memchr_iter(*byte, text.as_bytes()).count() as i64,
        _ => text.matches(character.chars().next().unwrap_or_default()).count() as i64,
    };
    let result: Int64Array = (0..arguments.number_rows)
        .map(|row| Some(count(texts.get(row)?, characters.get(row)?)))
        .collect();
    array_result(result)
}

/// `LOCATE(needle, text, from)`: 1-based character position at or after `from`; 0 if there is none.
fn locate(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (needles, texts) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let starts = array(arguments, 2)?;
    let starts = starts.as_primitive::<Int64Type>();
    let mut result = Int32Builder::with_capacity(arguments.number_rows);
    for row in 0..arguments.number_rows {
        let position = match (needles.get(row), texts.get(row), starts.is_null(row)) {
            (Some(needle), Some(text), false) => Some(locate_from(needle, text, starts.value(row))),
            _ => None,
        };
        result.append_option(position);
    }
    array_result(result.finish())
}

fn locate_from(needle: &str, text: &str, start: i64) -> i32 {
    let Some(skip) = start.checked_sub(1).and_then(|skip| usize::try_from(skip).ok()) else {
        return 0;
    };
    let Some(at) = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(skip) else {
        return 0;
    };
    let found = text[at..]
        .find(needle)
        .map(|found| skip + text[at..at + found].chars().count() + 1);
    found.and_then(|position| i32::try_from(position).ok()).unwrap_or(0)
}

/// Returns the byte offset of character `count` of a text, or its length if it has no more than `count` characters.
fn byte_of(text: &str, count: usize) -> usize {
    text.char_indices().nth(count).map_or(text.len(), |(at, _)| at)
}

fn integer(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        1 => Ok(vec![DataType::Int64]),
        count => plan_err!("takes 1 argument, not {count}"),
    }
}

/// `CHR(n)`: the character of the last 8 bits of `n`, no character for a negative `n`.
fn character(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let codes = array(arguments, 0)?;
    let text = |code: i64| match u8::try_from(code & 0xff) {
        Ok(code_point) if code >= 0 => char::from(code_point).to_string(),
        _ => String::new(),
    };
    let texts = codes.as_primitive::<Int64Type>().iter().map(|code| code.map(text));
    array_result(texts.collect::<StringArray>())
}

/// `LEFT(text, n)`, `RIGHT(text, n)`: no characters for a negative `n`.
fn left_or_right(arguments: &ScalarFunctionArgs, is_left: bool) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let lengths = array(arguments, 1)?;
    let lengths = lengths.as_primitive::<Int64Type>();
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let Some(text) = texts.get(row).filter(|_| lengths.is_valid(row)) else {
            result.append_null();
            continue;
        };
        let length = usize::try_from(lengths.value(row)).unwrap_or(0);
        result.append_value(if is_left {
            &text[..byte_of(text, length)]
        } else {
            let skipped = text.chars().count().saturating_sub(length);
            &text[byte_of(text, skipped)..]
        });
    }
    array_result(result.finish())
}

/// Maximum length to which a text is padded.
const PADDED_MAX: i64 = 1 << 20;

/// `LPAD(text, length[, pad])`, `RPAD`: cut or filled; NULL for a negative length or an empty pad.
fn pad(arguments: &ScalarFunctionArgs, is_left: bool) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let lengths = array(arguments, 1)?;
    let lengths = lengths.as_primitive::<Int64Type>();
    let pads = match arguments.args.len() {
        3 => Texts::of(arguments, 2)?,
        _ => Texts::Constant(Some(" ")),
    };
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let mut filled = String::new();
    for row in 0..arguments.number_rows {
        let (Some(text), Some(pad), true) = (texts.get(row), pads.get(row), lengths.is_valid(row)) else {
            result.append_null();
            continue;
        };
        let length = lengths.value(row);
        if length > PADDED_MAX {
            return exec_err!("a text is padded to {PADDED_MAX} characters at most, not to {length}");
        }
        let Some(length) = usize::try_from(length).ok().filter(|_| !pad.is_empty()) else {
            result.append_null();
            continue;
        };
        let missing = length.saturating_sub(text.chars().count());
        let text = &text[..byte_of(text, length)];
        filled.clear();
        filled.extend(pad.chars().cycle().take(missing));
        let (first, second) = if is_left {
            (filled.as_str(), text)
        } else {
            (text, filled.as_str())
        };
        result.append_value([first, second].concat());
    }
    array_result(result.finish())
}

/// `OVERLAY(text PLACING part FROM start [FOR length])`; the text itself for a start outside of it.
fn overlay(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, parts) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let starts = array(arguments, 2)?;
    let starts = starts.as_primitive::<Int64Type>();
    let lengths = match arguments.args.len() {
        4 => Some(array(arguments, 3)?),
        _ => None,
    };
    let lengths = lengths.as_ref().map(|lengths| lengths.as_primitive::<Int64Type>());
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let (Some(text), Some(part), true) = (texts.get(row), parts.get(row), starts.is_valid(row)) else {
            result.append_null();
            continue;
        };
        let length = match lengths {
            None => part.chars().count(),
            Some(lengths) if lengths.is_null(row) => {
                result.append_null();
                continue;
            }
            Some(lengths) => usize::try_from(lengths.value(row)).unwrap_or(0),
        };
        let count = text.chars().count();
        let start = usize::try_from(starts.value(row)).unwrap_or(0);
        if start == 0 || start > count {
            result.append_value(text);
            continue;
        }
        let rest = (start - 1).saturating_add(length);
        // As in Flink, the rest is dropped if the new part replaces nothing.
        let rest = if length == 0 { "" } else { &text[byte_of(text, rest)..] };
        result.append_value([&text[..byte_of(text, start - 1)], part, rest].concat());
    }
    array_result(result.finish())
}

/// `CARDINALITY(array, map or multiset)`: the number of elements, not counting those of nested arrays.
fn elements(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let collections = array(arguments, 0)?;
    let offsets: &[i32] = match collections.data_type() {
        multiset if multiset::element(multiset).is_some() => {
            return array_result(multiset::cardinalities(collections.as_map()));
        }
        DataType::Map(..) => collections.as_map().value_offsets(),
        _ => collections.as_list::<i32>().value_offsets(),
    };
    let counts = offsets.windows(2).map(|ends| ends[1] - ends[0]);
    array_result(Int32Array::new(counts.collect(), collections.nulls().cloned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_part_between_bytes_is_what_split_gives(
            text in "[/:.a-cé]{0,40}",
            separator in "[/:.a]",
            index in 0usize..12,
        ) {
            let part = part_between(text.as_bytes(), separator.as_bytes()[0], index);
            prop_assert_eq!(part.map(|part| &text[part]), text.split(&separator).nth(index));
        }
    }
}
