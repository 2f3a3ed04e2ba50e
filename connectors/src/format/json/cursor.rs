//! The grammar of JSON: strings, numbers, literals, and values to be skipped.
//!
//! A [`Cursor`] moves over one record and returns the tokens as bytes. It knows nothing of columns. An error in the
//! grammar is a [`ParseError`] with the byte offset.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;

use super::scan::first_special;
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
        if let Some(0..=b' ') = self.peek() {
            while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
                self.at += 1;
            }
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

    #[inline]
    pub(super) fn literal(&mut self, literal: &[u8]) -> CellResult {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            return Ok(());
        }
        Err(self.unexpected("a value"))
    }

    /// Returns the content of a string; the cursor is at its opening quote.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, ParseError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("`\"`"));
        }
        let start = self.at + 1;
        let end = first_special(self.bytes, start);
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
            let end = first_special(self.bytes, start);
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
        let (mut digits, mut value) = text.first_chunk().map_or((0, 0), leading_digits);
        if digits == 0 || digits == 8 {
            while digits < DIGITS_MAX
                && let Some(digit @ b'0'..=b'9') = text.get(digits)
            {
                value = value * 10 + i64::from(digit - b'0');
                digits += 1;
            }
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
        let end = first_special(self.bytes, self.at + 1);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(());
        }
        self.string_into(&mut Vec::new())
    }
}

/// Returns the number of decimal digits at the beginning of a text, and their value.
#[inline]
fn leading_digits(text: &[u8; 8]) -> (usize, i64) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The bytes of digits become their values. Of the others, those up to 0x7F have their high bit after the addition,
    // and the rest have it before. A carry only reaches bytes after one that is not a digit.
    let values = u64::from_le_bytes(*text) ^ (ONES * b'0' as u64);
    let others = (values.wrapping_add(ONES * 0x76) | values) & (ONES * 0x80);
    let digits = (others.trailing_zeros() / 8) as usize;
    if digits == 0 {
        return (0, 0);
    }
    // Zeros before the digits, so that there are eight; the last one is the highest byte. Neighbours are combined to
    // numbers of two digits, these to numbers of four, and these to one of eight.
    let eight = values << (64 - 8 * digits);
    let pairs = eight.wrapping_mul(10).wrapping_add(eight >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    let value = (fours & 0xFFFF) * 10_000 + (fours >> 32);
    (digits, value.cast_signed())
}

/// Returns the next nesting depth; an error if it is too deep.
pub(super) fn deeper(depth: usize) -> Result<usize, ParseError> {
    if depth >= NESTING_MAX {
        return Err(ParseError::new(format!("is nested deeper than {NESTING_MAX} levels")));
    }
    Ok(depth + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_and_read_before_any_byte() {
        for number in [
            0, 1, 9, 10, 42, 99, 100, 12_345, 987_654, 1_000_000, 7_654_321, 10_000_000, 99_999_999,
        ] {
            let digits = number.to_string();
            for after in (0..=255).filter(|byte: &u8| !byte.is_ascii_digit()) {
                for rest in [b'0', b'9', b' ', 0xFF] {
                    let mut text = [rest; 8];
                    text[..digits.len()].copy_from_slice(digits.as_bytes());
                    if let Some(next) = text.get_mut(digits.len()) {
                        *next = after;
                    }
                    assert_eq!(leading_digits(&text), (digits.len(), number), "{number}, {after}");
                }
            }
        }
        assert_eq!(leading_digits(b",1234567"), (0, 0));
        assert_eq!(leading_digits(b"00000012"), (8, 12));
    }
}
