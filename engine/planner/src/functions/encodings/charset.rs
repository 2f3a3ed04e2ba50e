//! The character sets of `ENCODE` and `DECODE`, with Java's treatment of what a set does not have: `?` for a character,
//! U+FFFD for bytes.

/// A character set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16Be,
    Utf16Le,
    /// With a byte-order mark; without one, big-endian.
    Utf16,
}

impl Charset {
    /// Returns the set of a name, in any case.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "US-ASCII" | "ASCII" => Self::Ascii,
            "ISO-8859-1" | "LATIN1" => Self::Latin1,
            "UTF-8" | "UTF8" => Self::Utf8,
            "UTF-16BE" => Self::Utf16Be,
            "UTF-16LE" => Self::Utf16Le,
            "UTF-16" => Self::Utf16,
            _ => return None,
        })
    }

    pub(super) fn encode(self, text: &str) -> Vec<u8> {
        let up_to = |last: char| {
            let byte = |character: char| match u8::try_from(u32::from(character)) {
                Ok(byte) if character <= last => byte,
                _ => b'?',
            };
            text.chars().map(byte).collect()
        };
        match self {
            Self::Ascii => up_to('\u{7f}'),
            Self::Latin1 => up_to('\u{ff}'),
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Self::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            // Java writes no mark before an empty text.
            Self::Utf16 if text.is_empty() => Vec::new(),
            Self::Utf16 => [vec![0xfe, 0xff], Self::Utf16Be.encode(text)].concat(),
        }
    }

    pub(super) fn decode(self, bytes: &[u8]) -> String {
        let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
            let pairs = bytes.chunks(2).map(|pair| match *pair {
                [first, second] => unit([first, second]),
                // Half a unit.
                _ => 0xfffd,
            });
            char::decode_utf16(pairs)
                .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        };
        match self {
            Self::Ascii => {
                let character = |byte: &u8| match byte.is_ascii() {
                    true => char::from(*byte),
                    false => char::REPLACEMENT_CHARACTER,
                };
                bytes.iter().map(character).collect()
            }
            Self::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Utf16Be => units(bytes, u16::from_be_bytes),
            Self::Utf16Le => units(bytes, u16::from_le_bytes),
            Self::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => Self::Utf16Le.decode(rest),
                [0xfe, 0xff, rest @ ..] => Self::Utf16Be.decode(rest),
                _ => Self::Utf16Be.decode(bytes),
            },
        }
    }
}
