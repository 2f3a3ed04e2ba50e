//! Matcher for patterns around a literal that need no automaton and no backtracking.
//!
//! Such a pattern is a literal, optionally preceded by one byte of a set or the start of the text, and followed by
//! literals and greedy runs of characters (`(&|^)id=([^&]*)`, `id=(\d+)`, `^https`). A run takes as many characters as
//! it can. This is correct because what follows a run cannot begin with a character of the run, so giving characters
//! back never helps. The literal is searched as a substring, and the rest is compared in place.
//!
//! [`LiteralMatcher::new`] returns `None` for all other patterns, which the regex automaton matches.

use memchr::memmem::Finder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// A compiled pattern around a literal.
pub(super) struct LiteralMatcher {
    before: Before,
    /// The literal, which is not empty.
    literal: Finder<'static>,
    /// Steps after the literal.
    steps: Vec<Step>,
    /// Number of capture groups.
    groups: u32,
    /// True if a run distinguishes characters outside ASCII; then only ASCII texts are supported.
    ascii_only: bool,
}

/// The part of a pattern before the literal.
struct Before {
    kind: BeforeKind,
    /// Capture group around the part.
    group: Option<u32>,
}

enum BeforeKind {
    /// No condition.
    Anything,
    /// One of these bytes, or the start of the text if `or_start`. The first byte of the literal is not one of them, so
    /// a match from a given position is unambiguous.
    OneOf { bytes: ByteSet, or_start: bool },
}

enum Step {
    Literal(Box<[u8]>),
    Run { bytes: ByteSet, min: usize, max: usize },
    End,
    Open(u32),
    Close(u32),
}

/// A set of bytes: an ASCII character is its byte; all other characters are members together or not at all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    #[inline]
    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(left, right)| left & right != 0)
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    fn has_others(&self) -> bool {
        self.0[2] | self.0[3] != 0
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}

impl LiteralMatcher {
    /// Compiles a pattern. Returns `None` if it is not supported or invalid.
    pub(super) fn new(pattern: &str) -> Option<Self> {
        let hir = regex_syntax::parse(pattern).ok()?;
        let mut reader = Reader::default();
        reader.read(&hir)?;
        reader.finish()
    }

    /// Returns true if the text can be matched here.
    #[inline]
    pub(super) fn supports(&self, text: &str) -> bool {
        !self.ascii_only || text.is_ascii()
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.group(text, 0).is_some()
    }

    /// Returns the text of a group of the leftmost match; group 0 is the whole match. Returns `None` without a match or
    /// such a group.
    pub(super) fn group<'t>(&self, text: &'t str, group: u32) -> Option<&'t str> {
        if group > self.groups {
            return None;
        }
        let bytes = text.as_bytes();
        let length = self.literal.needle().len();
        let mut from = 0;
        loop {
            let at = match &self.before.kind {
                // Only the start of the text matches, so no search is needed.
                BeforeKind::OneOf { bytes: set, or_start } if set.is_empty() => {
                    (*or_start && from == 0 && bytes.starts_with(self.literal.needle())).then_some(0)?
                }
                _ => from + self.literal.find(&bytes[from..])?,
            };
            if let Some(start) = self.start(bytes, at)
                && let Some((first, last)) = self.rest(bytes, start, at, at + length, group)
            {
                return text.get(first..last);
            }
            from = at + 1;
        }
    }

    /// Returns the start of a match whose literal is at `at`.
    #[inline]
    fn start(&self, bytes: &[u8], at: usize) -> Option<usize> {
        match &self.before.kind {
            BeforeKind::Anything => Some(at),
            BeforeKind::OneOf { bytes: set, or_start } => match at.checked_sub(1) {
                None => or_start.then_some(0),
                Some(before) => set.contains(bytes[before]).then_some(before),
            },
        }
    }

    /// Matches the steps from the end of the literal, `at`, and returns the range of `group`.
    #[inline]
    fn rest(&self, bytes: &[u8], start: usize, literal: usize, mut at: usize, group: u32) -> Option<(usize, usize)> {
        let mut place = (start, at);
        if self.before.group == Some(group) {
            place = (start, literal);
        }
        for step in &self.steps {
            match step {
                Step::Literal(expected) => {
                    bytes[at..].starts_with(expected).then_some(())?;
                    at += expected.len();
                }
                Step::Run { bytes: set, min, max } => {
                    let rest = &bytes[at..];
                    let rest = &rest[..rest.len().min(*max)];
                    let taken = rest.iter().position(|byte| !set.contains(*byte)).unwrap_or(rest.len());
                    (taken >= *min).then_some(())?;
                    at += taken;
                }
                Step::End => (at == bytes.len()).then_some(())?,
                Step::Open(number) if *number == group => place.0 = at,
                Step::Close(number) if *number == group => place.1 = at,
                Step::Open(_) | Step::Close(_) => {}
            }
        }
        Some(if group == 0 { (start, at) } else { place })
    }
}

/// Compiler of patterns.
#[derive(Default)]
struct Reader {
    before: Option<Before>,
    literal: Option<Box<[u8]>>,
    steps: Vec<Step>,
    groups: u32,
    ascii_only: bool,
}

impl Reader {
    fn read(&mut self, hir: &Hir) -> Option<()> {
        match hir.kind() {
            HirKind::Empty => Some(()),
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.read(part)),
            HirKind::Literal(literal) if self.literal.is_none() => {
                self.literal = Some(literal.0.clone());
                Some(())
            }
            HirKind::Literal(literal) => {
                self.steps.push(Step::Literal(literal.0.clone()));
                Some(())
            }
            _ if self.literal.is_none() => self.read_before(hir),
            HirKind::Look(Look::End) => {
                self.steps.push(Step::End);
                Some(())
            }
            HirKind::Capture(capture) => {
                self.groups = self.groups.max(capture.index);
                self.steps.push(Step::Open(capture.index));
                self.read(&capture.sub)?;
                self.steps.push(Step::Close(capture.index));
                Some(())
            }
            HirKind::Class(class) => self.run(class, 1, Some(1)),
            HirKind::Repetition(repetition) if repetition.greedy => match repetition.sub.kind() {
                HirKind::Class(class) => self.run(class, repetition.min, repetition.max),
                HirKind::Literal(literal) => match literal.0[..] {
                    [byte] => self.run_of(ByteSet::of([byte]), repetition.min, repetition.max),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    fn run(&mut self, class: &Class, min: u32, max: Option<u32>) -> Option<()> {
        let (bytes, is_exact) = characters(class)?;
        self.ascii_only |= !is_exact;
        self.run_of(bytes, min, max)
    }

    fn run_of(&mut self, bytes: ByteSet, min: u32, max: Option<u32>) -> Option<()> {
        // Lengths count characters, but runs are measured in bytes.
        self.ascii_only |= bytes.has_others() && (min > 1 || max.is_some());
        self.steps.push(Step::Run {
            bytes,
            min: min.try_into().ok()?,
            max: max.map_or(Some(usize::MAX), |max| max.try_into().ok())?,
        });
        Some(())
    }

    /// Compiles the part before the literal: at most one byte.
    fn read_before(&mut self, hir: &Hir) -> Option<()> {
        let (inner, group) = match hir.kind() {
            HirKind::Capture(capture) => {
                self.groups = self.groups.max(capture.index);
                (&*capture.sub, Some(capture.index))
            }
            _ => (hir, None),
        };
        if self.before.is_some() {
            return None;
        }
        let (mut bytes, mut or_start) = (ByteSet::default(), false);
        let choices = match inner.kind() {
            HirKind::Alternation(choices) => &choices[..],
            _ => std::slice::from_ref(inner),
        };
        for choice in choices {
            match choice.kind() {
                HirKind::Literal(literal) => match literal.0[..] {
                    [byte] => bytes.insert(byte),
                    _ => return None,
                },
                HirKind::Class(class) => {
                    let (set, true) = characters(class)? else {
                        return None;
                    };
                    if set.has_others() {
                        return None;
                    }
                    bytes.add(&set);
                }
                HirKind::Look(Look::Start) => or_start = true,
                _ => return None,
            }
        }
        self.before = Some(Before {
            kind: BeforeKind::OneOf { bytes, or_start },
            group,
        });
        Some(())
    }

    fn finish(self) -> Option<LiteralMatcher> {
        let literal = self.literal?;
        let before = self.before.unwrap_or(Before {
            kind: BeforeKind::Anything,
            group: None,
        });
        if let BeforeKind::OneOf { bytes, .. } = &before.kind
            && bytes.contains(*literal.first()?)
        {
            return None;
        }
        let gives_nothing_back = self.steps.iter().enumerate().all(|(index, step)| match step {
            Step::Run { bytes, .. } => !bytes.overlaps(&first_of(&self.steps[index + 1..])),
            _ => true,
        });
        gives_nothing_back.then(|| LiteralMatcher {
            before,
            literal: Finder::new(&literal).into_owned(),
            steps: self.steps,
            groups: self.groups,
            ascii_only: self.ascii_only,
        })
    }
}

impl ByteSet {
    fn of(bytes: impl IntoIterator<Item = u8>) -> Self {
        let mut set = Self::default();
        for byte in bytes {
            set.insert(byte);
        }
        set
    }
}

/// Returns the bytes with which a match of these steps can begin.
fn first_of(steps: &[Step]) -> ByteSet {
    let mut first = ByteSet::default();
    for step in steps {
        match step {
            Step::Literal(literal) => {
                first.add(&ByteSet::of(literal.first().copied()));
                break;
            }
            Step::Run { bytes, min, .. } => {
                first.add(bytes);
                if *min > 0 {
                    break;
                }
            }
            Step::End => break,
            Step::Open(_) | Step::Close(_) => {}
        }
    }
    first
}

/// Returns the bytes of a class, and true if they represent it exactly. If a class has some characters outside ASCII
/// but not all, only its ASCII part is represented.
fn characters(class: &Class) -> Option<(ByteSet, bool)> {
    let Class::Unicode(class) = class else {
        return None;
    };
    let mut bytes = ByteSet::default();
    let mut beyond = 0;
    for range in class.ranges() {
        for character in range.start()..=range.end().min('\x7f') {
            bytes.insert(character as u8);
        }
        // The range excludes surrogates, which are no characters.
        beyond += (range.start().max('\u{80}')..=range.end()).count();
    }
    let all = ('\u{80}'..=char::MAX).count();
    if beyond == all {
        bytes.add(&ByteSet([0, 0, u64::MAX, u64::MAX]));
    }
    Some((bytes, beyond == 0 || beyond == all))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    /// Checks that the matcher and the regex crate find the same groups.
    #[track_caller]
    fn same(pattern: &str, text: &str) {
        let matcher = LiteralMatcher::new(pattern).expect(pattern);
        if !matcher.supports(text) {
            return;
        }
        let regex = Regex::new(pattern).expect("a valid pattern");
        let expected = regex.captures(text);
        assert_eq!(matcher.is_match(text), expected.is_some(), "`{pattern}` in `{text}`");
        for group in 0..=regex.captures_len() {
            let expected = expected.as_ref().and_then(|captures| captures.get(group));
            let found = matcher.group(text, group as u32);
            assert_eq!(
                found,
                expected.map(|found| found.as_str()),
                "{group} of `{pattern}` in `{text}`"
            );
            if let (Some(found), Some(expected)) = (found, expected) {
                let start = found.as_ptr() as usize - text.as_ptr() as usize;
                assert_eq!(start, expected.start(), "{group} of `{pattern}` in `{text}`");
            }
        }
    }

    const SUPPORTED: &[&str] = &[
        "ab",
        "^ab",
        "^ab$",
        "(&|^)ab=([^&]*)",
        "(^|&)ab=([^&]*)",
        "(?:^|[?&])ab=([a-z]+)",
        "[=&]ab",
        "ab=([^&]+)&",
        "ab(a*)(b+)(=?)",
        "a([bc])d",
        "a=(\\d+)",
        "a=(\\d{2,3})[a-z]",
        "a(([^&]{0,2}))",
        "a[^b]b",
        "ab=([^=]*)=(.*)",
        "aa([ab]{2})$",
        "a([é&]*)b",
        "a(b?)=",
        "a.",
        "ä=(.+)",
    ];

    #[test]
    fn supported_patterns_match_as_the_regex_crate_does() {
        for pattern in SUPPORTED {
            for text in [
                "",
                "ab",
                "aab",
                "&ab=",
                "ab=x&ab=y",
                "xab=1&ab=22",
                "?ab=ab&",
                "ab=&&",
                "a=12a",
                "a=1a=123b",
                "ä=ö",
                "aé&b",
                "aaab",
                "aaaba",
                "abd acd",
                "ab==b=",
                "abab=&ab=1",
            ] {
                same(pattern, text);
            }
        }
    }

    #[test]
    fn patterns_that_need_backtracking_are_not_supported() {
        for pattern in [
            "",
            "a|b",
            "[ab]",
            "ab*bc",
            "a[a-c]*b",
            "a.*b",
            "a(.*?)b",
            "(a|^)ab",
            "(ab|^)c",
            "(&?)ab",
            "a\\b",
            "(?m)^ab",
            "a(bc)*",
            "a[^&]*(&?)x?&",
            "a(",
        ] {
            assert!(LiteralMatcher::new(pattern).is_none(), "`{pattern}`");
        }
        for pattern in [
            "(&|^)channel_id=([^&]*)",
            "id=(\\d+)",
            "^https?",
            "/item/([0-9]+)/",
            "a.{2}$",
        ] {
            assert!(LiteralMatcher::new(pattern).is_some(), "`{pattern}`");
        }
    }

    proptest! {
        #[test]
        fn any_supported_pattern_matches_as_the_regex_crate_does(
            pattern in r"(\^|\(&\|\^\)|\[&\?=\]|)[ab=]{1,3}(\(\[\^[&=]\]\*\)|\(\\w\+\)|\[ab\]\*|b\+|[ab&]|\.|a\{1,2\}){0,3}(\$|)",
            texts in prop::collection::vec("[ab=&?é1]{0,12}", 1..20),
        ) {
            if LiteralMatcher::new(&pattern).is_some() {
                for text in &texts {
                    same(&pattern, text);
                }
            }
        }
    }
}
