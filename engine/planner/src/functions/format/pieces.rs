//! The pieces of a format: literal texts and conversions.

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    Conversion(Conversion),
}

/// The value that a conversion formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Next,
    /// From 0.
    Index(usize),
    /// `%<s`: the value of the conversion before.
    Previous,
}

/// A conversion such as `%-10.3f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conversion {
    pub place: Place,
    pub flags: String,
    pub width: Option<usize>,
    pub precision: Option<usize>,
    pub letter: char,
}

/// Maximum width and precision, so that a format cannot use up the memory.
const WIDTH_MAX: usize = 1 << 20;

/// Parses a format. Returns `None` if it is invalid.
pub(super) fn pieces(format: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            pieces.push(Piece::Literal(rest[..at].to_owned()));
        }
        rest = &rest[at + 1..];
        let mut place = Place::Next;
        if let Some((number, after)) = number(rest)
            && let Some(after) = after.strip_prefix('$')
        {
            place = Place::Index(number.checked_sub(1)?);
            rest = after;
        }
        let flags_end = rest.find(|next| !"-#+ 0,(<".contains(next))?;
        let mut flags = rest[..flags_end].to_owned();
        rest = &rest[flags_end..];
        if flags.contains('<') {
            place = Place::Previous;
            flags = flags.replace('<', "");
        }
        let mut repeated = flags.chars().enumerate();
        if repeated.any(|(index, flag)| flags[..index].contains(flag)) {
            return None;
        }
        let take_number = |rest: &mut &str| {
            let (number, after) = number(rest)?;
            *rest = after;
            Some(number)
        };
        let width = take_number(&mut rest);
        let precision = match rest.strip_prefix('.') {
            Some(after) => {
                rest = after;
                Some(take_number(&mut rest)?)
            }
            None => None,
        };
        if width.max(precision).unwrap_or(0) > WIDTH_MAX {
            return None;
        }
        let letter = rest
            .chars()
            .next()
            .filter(|letter| "sSbBcCdoxXeEfgGn%".contains(*letter))?;
        rest = &rest[letter.len_utf8()..];
        pieces.push(Piece::Conversion(Conversion {
            place,
            flags,
            width,
            precision,
            letter,
        }));
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Some(pieces)
}

/// Returns the number that a text begins with, and the text after it. A number does not begin with 0, which is a flag.
fn number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
    let digits = &text[..end];
    match digits.starts_with('0') && digits.len() > 1 {
        true => None,
        false => Some((digits.parse().ok()?, &text[end..])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(format in "[%0-9$<#+ ,(.a-zA-Z-]{0,12}") {
            drop(super::pieces(&format));
        }
    }
}
