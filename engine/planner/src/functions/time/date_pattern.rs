//! Date patterns with Java's letters (`yyyy-MM-dd HH:mm:ss`).
//!
//! Flink's functions use two classes of Java, which differ in the meaning of letters and in strictness: `DATE_FORMAT`,
//! `TO_TIMESTAMP` and `TO_TIMESTAMP_LTZ` use `DateTimeFormatter`; `FROM_UNIXTIME`, `UNIX_TIMESTAMP`, `TO_DATE` and
//! `CONVERT_TZ` the older `SimpleDateFormat`. Names are English.

use super::super::civil::DAY_US;

mod format;
mod parse;

/// The class of Java that defines a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `java.time.format.DateTimeFormatter`: strict.
    Formatter,
    /// `java.text.SimpleDateFormat`: takes any number of digits, carries over fields out of range (month 13 is the
    /// next January), and ignores text after the end of the pattern.
    Simple,
}

/// A compiled date pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    style: Style,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// A letter and its number of repetitions.
    Field(char, usize),
    /// `[...]`, which a text may lack.
    Optional(Vec<Piece>),
}

/// Letters of each class, with the greatest number of repetitions.
const FORMATTER_LETTERS: &[(char, usize)] = &[
    ('y', 19),
    ('u', 19),
    ('M', 5),
    ('L', 5),
    ('d', 2),
    ('D', 3),
    ('H', 2),
    ('k', 2),
    ('K', 2),
    ('h', 2),
    ('m', 2),
    ('s', 2),
    ('S', 9),
    ('a', 1),
    ('E', 5),
    ('Q', 5),
    ('q', 5),
    ('w', 2),
    ('X', 3),
    ('x', 3),
    ('Z', 5),
];
const SIMPLE_LETTERS: &[(char, usize)] = &[
    ('y', 19),
    ('M', 19),
    ('L', 19),
    ('d', 19),
    ('D', 19),
    ('H', 19),
    ('k', 19),
    ('K', 19),
    ('h', 19),
    ('m', 19),
    ('s', 19),
    ('S', 19),
    ('a', 19),
    ('E', 19),
    ('u', 19),
    ('X', 3),
    ('Z', 19),
];

/// Letters of offsets from UTC.
const OFFSETS: [char; 3] = ['X', 'x', 'Z'];

impl Style {
    fn letters(self) -> &'static [(char, usize)] {
        match self {
            Self::Formatter => FORMATTER_LETTERS,
            Self::Simple => SIMPLE_LETTERS,
        }
    }
}

impl Pattern {
    /// Compiles a pattern. An error names the unknown letter.
    pub(super) fn new(style: Style, text: &str) -> Result<Self, String> {
        let mut compiler = Compiler {
            style,
            text,
            sections: vec![Vec::new()],
            literal: String::new(),
        };
        compiler.run()?;
        match <[Vec<Piece>; 1]>::try_from(compiler.sections) {
            Ok([pieces]) => Ok(Self { style, pieces }),
            Err(_) => Err(format!("the date pattern `{text}` has a `[` without `]`")),
        }
    }

    /// Returns true if the pattern has an offset from UTC.
    pub(super) fn has_offset(&self) -> bool {
        fn any(pieces: &[Piece]) -> bool {
            pieces.iter().any(|piece| match piece {
                Piece::Literal(_) => false,
                Piece::Field(letter, _) => OFFSETS.contains(letter),
                Piece::Optional(inner) => any(inner),
            })
        }
        any(&self.pieces)
    }

    /// Returns the number of digits of the fraction of a second.
    pub(super) fn fraction_digits(&self) -> usize {
        fn most(pieces: &[Piece]) -> usize {
            let digits = pieces.iter().map(|piece| match piece {
                Piece::Field('S', count) => *count,
                Piece::Literal(_) | Piece::Field(..) => 0,
                Piece::Optional(inner) => most(inner),
            });
            digits.max().unwrap_or(0)
        }
        most(&self.pieces)
    }
}

/// The compilation of a pattern.
struct Compiler<'t> {
    style: Style,
    text: &'t str,
    /// Pieces of the open sections: the whole pattern, then one list for each open `[`.
    sections: Vec<Vec<Piece>>,
    literal: String,
}

impl Compiler<'_> {
    fn run(&mut self) -> Result<(), String> {
        let text = self.text;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\'' => self.quoted(&mut characters)?,
                '[' if self.style == Style::Formatter => {
                    self.end_literal();
                    self.sections.push(Vec::new());
                }
                ']' if self.style == Style::Formatter => {
                    self.end_literal();
                    let inner = self.sections.pop().unwrap_or_default();
                    match self.sections.last_mut() {
                        Some(outer) => outer.push(Piece::Optional(inner)),
                        None => return Err(format!("the date pattern `{text}` has a `]` without `[`")),
                    }
                }
                letter if letter.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while characters.peek() == Some(&letter) {
                        characters.next();
                        count += 1;
                    }
                    self.check_letter(letter, count)?;
                    self.end_literal();
                    self.push(Piece::Field(letter, count));
                }
                other => self.literal.push(other),
            }
        }
        self.end_literal();
        Ok(())
    }

    /// Reads a quoted text, after its opening quote.
    fn quoted(&mut self, characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<(), String> {
        if characters.peek() == Some(&'\'') {
            characters.next();
            self.literal.push('\'');
            return Ok(());
        }
        loop {
            match characters.next() {
                Some('\'') if characters.peek() == Some(&'\'') => {
                    characters.next();
                    self.literal.push('\'');
                }
                Some('\'') => return Ok(()),
                Some(other) => self.literal.push(other),
                None => {
                    return Err(format!(
                        "the date pattern `{}` has a quote that is not closed",
                        self.text
                    ));
                }
            }
        }
    }

    fn check_letter(&self, letter: char, count: usize) -> Result<(), String> {
        let text = self.text;
        match self.style.letters().iter().find(|(known, _)| *known == letter) {
            None => Err(format!(
                "`{letter}` in the date pattern `{text}` is not known; put letters that stand for themselves between \
                 quotes"
            )),
            Some((_, most)) if count > *most => Err(format!(
                "the date pattern `{text}` has `{letter}` {count} times in succession, but {most} is the most"
            )),
            Some(_) => Ok(()),
        }
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            let literal = std::mem::take(&mut self.literal);
            self.push(Piece::Literal(literal));
        }
    }

    fn push(&mut self, piece: Piece) {
        if let Some(section) = self.sections.last_mut() {
            section.push(piece);
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];

/// Greatest year, of either sign, that a pattern reads.
const YEAR_MAX: i64 = 200_000;
const HALF_DAY_US: i64 = DAY_US / 2;
