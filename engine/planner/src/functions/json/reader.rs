//! A reader of JSON text that finds and checks values without building them, so that no digit of a number and no member
//! of an object is lost.
//!
//! The grammar is that of RFC 8259, as Flink's reader (Jackson) accepts it.

use std::borrow::Cow;

/// Depth of nested arrays and objects beyond which a text is not read, as in Flink.
const DEPTH_MAX: usize = 1000;

/// The error of a text that is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) type Read<T> = Result<T, Malformed>;

/// A position in a JSON text.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next byte that is not space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let is_next = self.peek() == Some(wanted);
        self.at += usize::from(is_next);
        is_next
    }

    /// Enters an array or object. Returns false if it is empty.
    pub(super) fn enter(&mut self, open: u8, close: u8) -> Read<bool> {
        match self.take(open) {
            true => Ok(!self.take(close)),
            false => Err(Malformed),
        }
    }

    /// Moves to the next element or member. Returns false at the end.
    pub(super) fn next(&mut self, close: u8) -> Read<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(other) if other == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Malformed),
        }
    }

    /// Reads the name of a member and the colon; the name is returned as it is written, without its quotes.
    pub(super) fn name(&mut self) -> Read<&'a str> {
        let name = self.string()?;
        match self.take(b':') {
            true => Ok(name),
            false => Err(Malformed),
        }
    }

    /// Reads a value, and returns its text.
    pub(super) fn value(&mut self) -> Read<&'a str> {
        self.peek();
        let start = self.at;
        // The closing brackets of the arrays and objects around the position.
        let mut closing: Vec<u8> = Vec::new();
        loop {
            let opened = match self.peek() {
                Some(b'{') => self.enter(b'{', b'}')?.then_some(b'}'),
                Some(b'[') => self.enter(b'[', b']')?.then_some(b']'),
                Some(b'"') => self.string().map(|_| None)?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|()| None)?,
                _ => self.word().map(|()| None)?,
            };
            if let Some(close) = opened {
                if closing.len() >= DEPTH_MAX {
                    return Err(Malformed);
                }
                closing.push(close);
                if close == b'}' {
                    self.name()?;
                }
                continue;
            }
            loop {
                let Some(close) = closing.last().copied() else {
                    return Ok(&self.text[start..self.at]);
                };
                if self.next(close)? {
                    if close == b'}' {
                        self.name()?;
                    }
                    break;
                }
                closing.pop();
            }
        }
    }

    /// Requires the end of the text.
    pub(super) fn end(&mut self) -> Read<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }

    /// Reads a string, and returns it as it is written, without its quotes.
    pub(super) fn string(&mut self) -> Read<&'a str> {
        if !self.take(b'"') {
            return Err(Malformed);
        }
        let (bytes, start) = (self.text.as_bytes(), self.at);
        loop {
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => match bytes.get(self.at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                    Some(b'u') => {
                        let digits = bytes.get(self.at + 2..self.at + 6).ok_or(Malformed)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return Err(Malformed);
                        }
                        self.at += 6;
                    }
                    _ => return Err(Malformed),
                },
                None | Some(0..=0x1f) => return Err(Malformed),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at - 1])
    }

    fn number(&mut self) -> Read<()> {
        let bytes = self.text.as_bytes();
        self.at += usize::from(bytes.get(self.at) == Some(&b'-'));
        let is_zero = bytes.get(self.at) == Some(&b'0');
        let digits = self.digits()?;
        if is_zero && digits > 1 {
            return Err(Malformed);
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Reads digits, at least one, and returns their number.
    fn digits(&mut self) -> Read<usize> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
            0 => Err(Malformed),
            count => {
                self.at += count;
                Ok(count)
            }
        }
    }

    fn word(&mut self) -> Read<()> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        match ["true", "false", "null"]
            .iter()
            .find(|word| rest.starts_with(word.as_bytes()))
        {
            Some(word) => {
                self.at += word.len();
                Ok(())
            }
            None => Err(Malformed),
        }
    }
}

/// Checks that a text is one JSON value, and returns the value without the space around it.
pub(super) fn checked(text: &str) -> Read<&str> {
    let mut reader = Reader::new(text);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

/// Returns the elements of an array; none of any other value.
pub(super) fn elements(value: &str) -> Vec<&str> {
    let read = |reader: &mut Reader<'_>| -> Read<bool> { reader.enter(b'[', b']') };
    let mut reader = Reader::new(value);
    let mut found = Vec::new();
    let mut is_more = read(&mut reader).unwrap_or(false);
    while is_more {
        let Ok(element) = reader.value() else { break };
        found.push(element);
        is_more = reader.next(b']').unwrap_or(false);
    }
    found
}

/// Returns the members of an object in the order of their first occurrence; none of any other value. Of several members
/// of one name the last one counts.
pub(super) fn members(value: &str) -> Vec<(Cow<'_, str>, &str)> {
    let mut reader = Reader::new(value);
    let mut found: Vec<(Cow<'_, str>, &str)> = Vec::new();
    let mut is_more = reader.enter(b'{', b'}').unwrap_or(false);
    while is_more {
        let (Ok(name), Ok(value)) = (reader.name(), reader.value()) else {
            break;
        };
        found.push((unescaped(name), value));
        is_more = reader.next(b'}').unwrap_or(false);
    }
    let mut last = std::collections::HashMap::with_capacity(found.len());
    for (index, (name, _)) in found.iter().enumerate() {
        last.insert(name.clone(), index);
    }
    if last.len() == found.len() {
        return found;
    }
    let mut seen = std::collections::HashSet::with_capacity(last.len());
    let first: Vec<Cow<'_, str>> = found.iter().map(|(name, _)| name.clone()).collect();
    let unique = first.into_iter().filter(|name| seen.insert(name.clone()));
    unique
        .map(|name| {
            let value = found[last[&name]].1;
            (name, value)
        })
        .collect()
}

/// Returns true if a string as it is written, without its quotes, stands for a text.
pub(super) fn is_equal(written: &str, text: &str) -> bool {
    match written.contains('\\') {
        false => written == text,
        true => unescaped(written) == text,
    }
}

/// Returns the text that a string stands for, written without its quotes. A half of a surrogate pair without the other
/// becomes `?`, as in Flink.
pub(super) fn unescaped(written: &str) -> Cow<'_, str> {
    let Some(first) = written.find('\\') else {
        return Cow::Borrowed(written);
    };
    let mut text = String::with_capacity(written.len());
    text.push_str(&written[..first]);
    let mut rest = &written[first..];
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = rest[at + 1..].bytes().next().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (character, after) = unicode_escape(rest);
                rest = after;
                character
            }
            other => char::from(other),
        });
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Returns the character of the hexadecimal digits after `\u`, which may begin a surrogate pair, and the text after it.
fn unicode_escape(digits: &str) -> (char, &str) {
    let unit = |digits: &str| digits.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let after = digits.get(4..).unwrap_or_default();
    let Some(high) = unit(digits) else { return ('?', after) };
    if let Some(low) = after.strip_prefix("\\u").and_then(unit)
        && let [Ok(character)] = char::decode_utf16([high, low]).collect::<Vec<_>>()[..]
    {
        return (character, after.get(6..).unwrap_or_default());
    }
    (char::from_u32(u32::from(high)).unwrap_or('?'), after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_json_if_another_reader_accepts_them(
            text in r#"([\[\]{},: ]|"(a|\\u00e4|\\n|\\)?"|true|null|-?[0-9]{1,2}(\.[0-9])?(e[0-9])?|[-.e0]){0,12}"#,
        ) {
            let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(checked(&text).is_ok(), expected);
            if expected {
                let mut once = String::new();
                crate::functions::json::write::value(text.trim(), &mut once);
                let mut twice = String::new();
                crate::functions::json::write::value(&once, &mut twice);
                prop_assert_eq!(once, twice);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in r#"[\[\]{}",:\\0-9a-fu ä.]{0,30}"#) {
            drop(unescaped(&text));
            drop(members(&text));
            drop(elements(&text));
            if let Ok(path) = crate::functions::json::path::Path::parse(&text) {
                crate::functions::json::select::select(&text, &path);
            }
        }
    }

    #[track_caller]
    fn check(cases: &[(&str, bool)]) {
        for (text, expected) in cases {
            assert_eq!(checked(text).is_ok(), *expected, "{text}");
        }
    }

    #[test]
    fn texts_are_json_or_not() {
        check(&[
            ("1", true),
            (" -0.5e+10 ", true),
            ("1e400", true),
            ("123456789012345678901234567890", true),
            ("01", false),
            ("1.", false),
            (".5", false),
            ("+1", false),
            ("1e", false),
            ("NaN", false),
            ("true", true),
            ("truex", false),
            ("TRUE", false),
            ("\"a\\u00e4\\n\"", true),
            ("\"\\ud800\"", true),
            ("\"\\x\"", false),
            ("\"\\u00g0\"", false),
            ("\"a\nb\"", false),
            ("\"a", false),
            ("'a'", false),
            ("[]", true),
            ("[ 1 , [ ] , { } ]", true),
            ("[1,]", false),
            ("[1 2]", false),
            ("[", false),
            ("]", false),
            ("{\"a\":1}", true),
            ("{\"a\":1,}", false),
            ("{a:1}", false),
            ("{\"a\" 1}", false),
            ("{\"a\":1]", false),
            ("{\"a\":}", false),
            ("", false),
            ("1 x", false),
            ("/**/1", false),
        ]);
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&[(&nested(DEPTH_MAX), true), (&nested(DEPTH_MAX + 2), false)]);
    }

    #[test]
    fn escapes_are_replaced() {
        for (written, text) in [
            ("a", "a"),
            ("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\u{8}\u{c}\n\r\t"),
            ("x\\u00e4y", "xäy"),
            ("\\ud83d\\ude00!", "😀!"),
            ("\\ud83d!", "?!"),
            ("\\ude00\\ud83d", "??"),
            ("\\ud83d\\u0041", "?A"),
        ] {
            assert_eq!(unescaped(written), text);
        }
    }

    #[test]
    fn the_last_of_equal_members_counts_at_the_place_of_the_first() {
        let found = members("{\"a\": 1, \"b\": 2, \"\\u0061\": 3}");
        assert_eq!(found, vec![("a".into(), "3"), ("b".into(), "2")]);
    }
}
