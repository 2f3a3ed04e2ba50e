//! The grammar of JSON: strings, numbers, literals, and values to be skipped.
//!
//! A [`Cursor`] moves over one record and returns the tokens as bytes. It knows nothing of columns. An error in the
//! grammar is a [`ParseError`] with the byte offset.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;

use crate::format::numbers::parse_integer;
use crate::format::parse_error::{CellResult, ParseError};

/// Deepest nesting of arrays and objects; deeper records are rejected.
const NESTING_MAX: usize = 512;

/// A position in one record, which is valid UTF-8.
pub(super) struct Cursor<'a> {
    /// The record.
    pub bytes: &'a [u8],
    /// Offset of the next byte.
    pub at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Returns the bytes from the cursor on.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Returns the bytes between `start` and the cursor.
    #[inline]
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    #[inline]
    pub(super) fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> CellResult {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.unexpected(&format!("`{}`", char::from(byte))))
    }

    #[cold]
    pub(super) fn unexpected(&self, wanted: &str) -> ParseError {
        let at = self.at.min(self.bytes.len());
        let rest = std::str::from_utf8(self.rest()).unwrap_or_default();
        let found = match rest.chars().next() {
            Some(found) => format!("`{}`", found.escape_debug()),
            None => "the end".to_string(),
        };
        ParseError::new(format!("not JSON: expected {wanted} at byte {at}, found {found}"))
    }

    pub(super) fn literal(&mut self, literal: &[u8]) -> CellResult {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            return Ok(());
        }
        Err(self.unexpected("a value"))
    }

    /// Returns the index of the first `"`, `\` or control character at or after `from`; the length if there is none.
    #[inline]
    fn special(&self, from: usize) -> usize {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        let mut at = from;
        while let Some(chunk) = self
            .bytes
            .get(at..at + 8)
            .and_then(|chunk| <[u8; 8]>::try_from(chunk).ok())
        {
            let word = u64::from_le_bytes(chunk);
            let quote = word ^ (ONES * b'"' as u64);
            let slash = word ^ (ONES * b'\\' as u64);
            // A byte of `x.wrapping_sub(ONES) & !x` has its high bit set where that byte of `x` is zero; false hits
            // appear only above a true one, and the lowest is what counts. The same with 0x20 finds what is below it.
            let hits = (quote.wrapping_sub(ONES) & !quote)
                | (slash.wrapping_sub(ONES) & !slash)
                | (word.wrapping_sub(ONES * 0x20) & !word);
            let hits = hits & HIGHS;
            if hits != 0 {
                return at + (hits.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        let tail = self.bytes.get(at..).unwrap_or_default();
        let special = tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        at + special.unwrap_or(tail.len())
    }

    /// Returns the content of a string; the cursor is at its opening quote.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, ParseError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("`\"`"));
        }
        let start = self.at + 1;
        let end = self.special(start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Cow::Borrowed(self.bytes.get(start..end).unwrap_or_default()));
        }
        let mut content = Vec::new();
        self.string_into(&mut content)?;
        Ok(Cow::Owned(content))
    }

    /// Appends the content of a string; the cursor is at its opening quote.
    #[inline]
    pub(super) fn string_into(&mut self, out: &mut Vec<u8>) -> CellResult {
        let mut start = self.at + 1;
        loop {
            let end = self.special(start);
            self.at = end;
            out.extend_from_slice(self.since(start));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.escape(out)?;
                    start = self.at;
                }
                Some(_) => return Err(self.unexpected("a string without raw control characters")),
                None => return Err(self.unexpected("`\"`")),
            }
        }
    }

    #[cold]
    fn escape(&mut self, out: &mut Vec<u8>) -> CellResult {
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let first = self.hex()?;
                let code = match first {
                    0xD800..0xDC00 if self.rest().starts_with(b"\\u") => {
                        let before = self.at;
                        self.at += 1;
                        match self.hex()? {
                            second @ 0xDC00..0xE000 => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                            _ => {
                                self.at = before;
                                first
                            }
                        }
                    }
                    other => other,
                };
                // Half a surrogate pair stands for no character: as in Java's UTF-8 encoder, it is replaced.
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")),
        };
        out.push(plain);
        self.at += 1;
        Ok(())
    }

    /// Returns the value of four hexadecimal digits; the cursor is at the `u` before them.
    fn hex(&mut self) -> Result<u32, ParseError> {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        let code = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                self.at += 5;
                Ok(code)
            }
            None => Err(self.unexpected("four hexadecimal digits")),
        }
    }

    /// The text of a number; the cursor is at its first byte.
    pub(super) fn number(&mut self) -> Result<&'a [u8], ParseError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.at;
        self.digits()?;
        if self.at > whole + 1 && self.since(whole).first() == Some(&b'0') {
            self.at = whole + 1;
            return Err(self.unexpected("no digit after a leading zero"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> CellResult {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.unexpected("a digit"))
        } else {
            Ok(())
        }
    }

    /// Returns a whole number; the cursor is at its first byte. `expected` says what else is expected in an error.
    #[inline]
    pub(super) fn integer(&mut self, expected: &str) -> Result<i64, ParseError> {
        if let Some(value) = self.short_integer() {
            return Ok(value);
        }
        let text = self.number()?;
        parse_integer(text).ok_or_else(|| ParseError::expected(text, expected))
    }

    /// Like [`Self::integer`], for a smaller type.
    #[inline]
    pub(super) fn narrow<T: TryFrom<i64>>(&mut self, expected: &str) -> Result<T, ParseError> {
        let start = self.at;
        let value = self.integer(expected)?;
        T::try_from(value).map_err(|_| ParseError::expected(self.since(start), expected))
    }

    /// Moves over a whole number of so few digits that it cannot overflow, without a fraction or an exponent. Otherwise
    /// returns `None`, and the cursor stays.
    #[inline]
    fn short_integer(&mut self) -> Option<i64> {
        const DIGITS_MAX: usize = 18;
        let is_negative = self.peek() == Some(b'-');
        let text = self.rest();
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let mut value = 0i64;
        let mut digits = 0;
        while digits < DIGITS_MAX
            && let Some(digit @ b'0'..=b'9') = text.get(digits)
        {
            value = value * 10 + i64::from(digit - b'0');
            digits += 1;
        }
        let goes_on = matches!(text.get(digits), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
        let has_leading_zero = digits > 1 && text.first() == Some(&b'0');
        if digits == 0 || goes_on || has_leading_zero {
            return None;
        }
        self.at += usize::from(is_negative) + digits;
        Some(if is_negative { -value } else { value })
    }

    /// Skips one value of any type, and checks that it is valid JSON.
    pub(super) fn skip_value(&mut self, depth: usize) -> CellResult {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(b'{') => {
                let depth = deeper(depth)?;
                self.skip_members(b'}', |cursor| {
                    if cursor.peek() != Some(b'"') {
                        return Err(cursor.unexpected("`\"`"));
                    }
                    cursor.skip_string()?;
                    cursor.skip_whitespace();
                    cursor.expect(b':')?;
                    cursor.skip_whitespace();
                    cursor.skip_value(depth)
                })
            }
            Some(b'[') => {
                let depth = deeper(depth)?;
                self.skip_members(b']', |cursor| cursor.skip_value(depth))
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    fn skip_members(&mut self, close: u8, mut member: impl FnMut(&mut Self) -> CellResult) -> CellResult {
        self.at += 1;
        self.skip_whitespace();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_whitespace();
            member(self)?;
            self.skip_whitespace();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected(&format!("`,` or `{}`", char::from(close)))),
            }
        }
    }

    #[inline]
    fn skip_string(&mut self) -> CellResult {
        let end = self.special(self.at + 1);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(());
        }
        self.string_into(&mut Vec::new())
    }
}

/// Returns the next nesting depth; an error if it is too deep.
pub(super) fn deeper(depth: usize) -> Result<usize, ParseError> {
    if depth >= NESTING_MAX {
        return Err(ParseError::new(format!("is nested deeper than {NESTING_MAX} levels")));
    }
    Ok(depth + 1)
}
