//! JSON paths as Flink reads them (Jayway's JsonPath, with the modes of SQL/JSON).
//!
//! Supported are `$`, `.key`, `['key']`, `[n]` (negative from the end), lists and ranges of indices, `[*]` and `..`.
//! A path without a mode is strict. Filters and functions are not supported.

use std::iter::Peekable;
use std::str::CharIndices;

/// Behaviour of a path that selects nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// An empty result.
    Lax,
    /// An error.
    Strict,
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    /// From 0; negative indices count from the end.
    Index(i64),
    Indices(Vec<i64>),
    /// `[from:to]`, without `to`.
    Range(Option<i64>, Option<i64>),
    All,
    /// `..`: the value and all values in it.
    Descendants,
}

impl Step {
    /// Returns true if the step selects one value at most.
    pub(super) fn is_definite(&self) -> bool {
        matches!(self, Self::Key(_) | Self::Index(_))
    }
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub mode: Mode,
    pub steps: Vec<Step>,
}

impl Path {
    /// Parses a path, or returns the reason why it is invalid.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim_start();
        let (mode, rest) = [("strict", Mode::Strict), ("lax", Mode::Lax)]
            .into_iter()
            .find_map(|(word, mode)| {
                let (first, rest) = (trimmed.get(..word.len())?, &trimmed[word.len()..]);
                let is_word = first.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace);
                is_word.then_some((mode, rest))
            })
            .unwrap_or((Mode::Strict, text));
        let rest = rest.trim();
        // As in Flink, `a.b` is `$.a.b`.
        let (rest, is_rooted) = match rest.strip_prefix('$') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        if rest.is_empty() && !is_rooted {
            return Err("it is empty".into());
        }
        let mut parser = Parser {
            text: rest,
            characters: rest.char_indices().peekable(),
            steps: Vec::new(),
        };
        if !is_rooted && !rest.starts_with(['.', '[']) {
            parser.word()?;
        }
        parser.rest()?;
        Ok(Self {
            mode,
            steps: parser.steps,
        })
    }

    /// Returns true if the path selects one value at most.
    pub(super) fn is_definite(&self) -> bool {
        self.steps.iter().all(Step::is_definite)
    }
}

struct Parser<'a> {
    text: &'a str,
    characters: Peekable<CharIndices<'a>>,
    steps: Vec<Step>,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Option<char> {
        self.characters.peek().map(|(_, character)| *character)
    }

    fn take(&mut self, wanted: char) -> bool {
        self.characters.next_if(|(_, character)| *character == wanted).is_some()
    }

    fn rest(&mut self) -> Result<(), String> {
        while let Some(next) = self.peek() {
            match next {
                '.' => {
                    self.characters.next();
                    if self.take('.') {
                        self.steps.push(Step::Descendants);
                    }
                    match self.peek() {
                        None => return Err("it ends with `.`".into()),
                        Some('.') => return Err("it has a `.` too many".into()),
                        Some('[') => self.bracket()?,
                        Some(_) => self.word()?,
                    }
                }
                '[' => self.bracket()?,
                other => return Err(format!("`{other}` follows a complete step")),
            }
        }
        Ok(())
    }

    /// Parses a key without quotes, or `*`.
    fn word(&mut self) -> Result<(), String> {
        let start = self.offset();
        while let Some(next) = self.peek() {
            match next {
                '.' | '[' => break,
                '(' => return Err("functions are not supported".into()),
                ' ' => return Err("a key with spaces is written as ['a key']".into()),
                _ => self.characters.next(),
            };
        }
        let key = &self.text[start..self.offset()];
        self.steps.push(match key {
            "" => return Err("a key is missing".into()),
            "*" => Step::All,
            key => Step::Key(key.to_owned()),
        });
        Ok(())
    }

    fn offset(&mut self) -> usize {
        self.characters.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn space(&mut self) {
        while self.take(' ') {}
    }

    /// Parses `['key']`, `[*]`, `[n]`, `[n, m]` or `[n:m]`.
    fn bracket(&mut self) -> Result<(), String> {
        self.characters.next();
        self.space();
        match self.peek() {
            Some(quote @ ('\'' | '"')) => {
                let key = self.quoted(quote)?;
                self.space();
                if self.peek() == Some(',') {
                    return Err("several keys in brackets are not supported".into());
                }
                self.steps.push(Step::Key(key));
            }
            Some('*') => {
                self.characters.next();
                self.steps.push(Step::All);
            }
            Some('?') => return Err("filters are not supported".into()),
            _ => self.indices()?,
        }
        self.space();
        match self.take(']') {
            true => Ok(()),
            false => Err("a `]` is missing".into()),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        self.characters.next();
        let mut key = String::new();
        while let Some((_, character)) = self.characters.next() {
            match character {
                '\\' => key.extend(self.characters.next().map(|(_, escaped)| escaped)),
                end if end == quote => return Ok(key),
                other => key.push(other),
            }
        }
        Err(format!("a {quote} is missing"))
    }

    fn indices(&mut self) -> Result<(), String> {
        let start = self.offset();
        while self.peek().is_some_and(|next| next != ']') {
            self.characters.next();
        }
        let text = self.text[start..self.offset()].trim();
        let index = |text: &str| -> Result<i64, String> {
            let parsed = text.trim().parse::<i32>();
            parsed.map(i64::from).map_err(|_| format!("`[{text}]` is not an index"))
        };
        let bound = |text: &str| match text.trim() {
            "" => Ok(None),
            text => index(text).map(Some),
        };
        self.steps.push(if let Some((from, to)) = text.split_once(':') {
            match (bound(from)?, bound(to)?) {
                (None, None) => return Err("`[:]` has no bounds".into()),
                (from, to) => Step::Range(from, to),
            }
        } else if text.contains(',') {
            Step::Indices(text.split(',').map(index).collect::<Result<_, _>>()?)
        } else {
            Step::Index(index(text)?)
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_parsed() {
        let key = |key: &str| Step::Key(key.to_owned());
        let cases: Vec<(&str, Mode, Vec<Step>)> = vec![
            ("$", Mode::Strict, vec![]),
            ("  LAX  $.a", Mode::Lax, vec![key("a")]),
            ("strict $.a", Mode::Strict, vec![key("a")]),
            ("laxative", Mode::Strict, vec![key("laxative")]),
            ("a.b", Mode::Strict, vec![key("a"), key("b")]),
            ("$['a b'].c", Mode::Strict, vec![key("a b"), key("c")]),
            ("$.[\"a.b\"][0]", Mode::Strict, vec![key("a.b"), Step::Index(0)]),
            ("$['it\\'s']", Mode::Strict, vec![key("it's")]),
            ("$.a[-1]", Mode::Strict, vec![key("a"), Step::Index(-1)]),
            ("$[*].*", Mode::Strict, vec![Step::All, Step::All]),
            ("$..a", Mode::Strict, vec![Step::Descendants, key("a")]),
            ("$[0, 2]", Mode::Strict, vec![Step::Indices(vec![0, 2])]),
            ("$[1:3]", Mode::Strict, vec![Step::Range(Some(1), Some(3))]),
            ("$[-2:]", Mode::Strict, vec![Step::Range(Some(-2), None)]),
            ("$.größe", Mode::Strict, vec![key("größe")]),
        ];
        for (text, mode, steps) in cases {
            assert_eq!(Path::parse(text), Ok(Path { mode, steps }), "{text}");
        }
    }

    #[test]
    fn invalid_paths_are_refused_with_a_reason() {
        for (text, reason) in [
            ("", "it is empty"),
            ("$.", "it ends with `.`"),
            ("$...a", "it has a `.` too many"),
            ("$.a b", "a key with spaces is written as ['a key']"),
            ("$a", "`a` follows a complete step"),
            ("$[", "`[]` is not an index"),
            ("$[0", "a `]` is missing"),
            ("$['a", "a ' is missing"),
            ("$[last]", "`[last]` is not an index"),
            ("$[:]", "`[:]` has no bounds"),
            ("$.a[?(@.b > 1)]", "filters are not supported"),
            ("$.a.length()", "functions are not supported"),
            ("$['a','b']", "several keys in brackets are not supported"),
        ] {
            assert_eq!(Path::parse(text), Err(reason.to_owned()), "{text}");
        }
    }
}
