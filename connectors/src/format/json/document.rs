//! The parts of a JSON document: the elements of an array or the members of an object, each as a range of bytes.
//!
//! A document with many rows is divided here, once, and its rows are decoded like any other records.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use super::cursor::Cursor;
use crate::format::parse_error::ParseError;

/// A JSON document of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An array: the ranges of its elements.
    Array(Vec<(usize, usize)>),
    /// An object: the names of its members and the ranges of their values, in their order.
    Object(Vec<(String, Range<usize>)>),
}

impl Document {
    /// Divides the document in `bytes[range]`, an array or an object. The ranges are those of `bytes`. The error names
    /// the byte at which it is not JSON.
    pub fn read(bytes: &[u8], range: Range<usize>) -> Result<Self, String> {
        if std::str::from_utf8(bytes).is_err() {
            return Err("not JSON: it is not UTF-8 text".to_string());
        }
        let mut cursor = Cursor {
            bytes: bytes.get(..range.end).unwrap_or(bytes),
            at: range.start,
        };
        read(&mut cursor).map_err(|error| error.0.into())
    }
}

fn read(cursor: &mut Cursor<'_>) -> Result<Document, ParseError> {
    cursor.skip_whitespace();
    let (document, end) = match cursor.peek() {
        Some(b'[') => (Document::Array(Vec::new()), b']'),
        Some(b'{') => (Document::Object(Vec::new()), b'}'),
        _ => return Err(cursor.unexpected("an object or an array of objects")),
    };
    let document = parts(cursor, document, end)?;
    cursor.skip_whitespace();
    match cursor.peek() {
        None => Ok(document),
        Some(_) => Err(cursor.unexpected("the end")),
    }
}

fn parts(cursor: &mut Cursor<'_>, mut document: Document, end: u8) -> Result<Document, ParseError> {
    cursor.at += 1;
    cursor.skip_whitespace();
    if cursor.peek() == Some(end) {
        cursor.at += 1;
        return Ok(document);
    }
    loop {
        cursor.skip_whitespace();
        match &mut document {
            Document::Array(elements) => {
                let start = cursor.at;
                cursor.skip_value(1)?;
                elements.push((start, cursor.at));
            }
            Document::Object(members) => {
                let name = String::from_utf8_lossy(&cursor.string()?).into_owned();
                cursor.skip_whitespace();
                cursor.expect(b':')?;
                cursor.skip_whitespace();
                let start = cursor.at;
                cursor.skip_value(1)?;
                members.push((name, start..cursor.at));
            }
        }
        cursor.skip_whitespace();
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            Some(byte) if byte == end => {
                cursor.at += 1;
                return Ok(document);
            }
            _ => return Err(cursor.unexpected(&format!("`,` or `{}`", char::from(end)))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "the ranges of a test")]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], &str>) {
        let read = Document::read(text.as_bytes(), 0..text.len());
        let parts = read.as_ref().map(|document| match document {
            Document::Array(elements) => elements
                .iter()
                .map(|(start, end)| text[*start..*end].to_string())
                .collect(),
            Document::Object(members) => members
                .iter()
                .map(|(name, range)| format!("{name}={}", &text[range.clone()]))
                .collect::<Vec<_>>(),
        });
        let parts = parts
            .as_ref()
            .map(|parts| parts.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = expected.map(<[&str]>::to_vec);
        assert_eq!(parts.map_err(|error| error.as_str()), expected, "{text}");
    }

    #[test]
    fn documents_are_divided_into_values() {
        check(" [ ] ", Ok(&[]));
        check("{}", Ok(&[]));
        check(
            r#"[{"a": [1, "]"]}, 2 ,null]"#,
            Ok(&[r#"{"a": [1, "]"]}"#, "2", "null"]),
        );
        check(r#"{"a\n": {"b": 1}, "c":[{}]}"#, Ok(&["a\n={\"b\": 1}", "c=[{}]"]));
    }

    #[test]
    fn errors_name_the_byte() {
        check(
            "",
            Err("not JSON: expected an object or an array of objects at byte 0, found the end"),
        );
        check(
            "7",
            Err("not JSON: expected an object or an array of objects at byte 0, found `7`"),
        );
        check("[1 2]", Err("not JSON: expected `,` or `]` at byte 3, found `2`"));
        check("[1] 2", Err("not JSON: expected the end at byte 4, found `2`"));
        check(r#"{"a" 1}"#, Err("not JSON: expected `:` at byte 5, found `1`"));
        check("[1,]", Err("not JSON: expected a value at byte 3, found `]`"));
    }
}
