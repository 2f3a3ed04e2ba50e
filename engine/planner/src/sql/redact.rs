//! Removal of secrets from scripts before they are stored.

use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer, Whitespace};

use super::dialect::FlinkDialect;

/// Replaces the values of secret options by `mask` and removes comments except hints. Returns `None`
/// if the text does not consist of SQL tokens.
pub fn redacted(text: &str, mask: &str, is_secret: impl Fn(&str) -> bool) -> Option<String> {
    without_secrets(text, mask, &is_secret)
}

fn without_secrets(text: &str, mask: &str, is_secret: &dyn Fn(&str) -> bool) -> Option<String> {
    let all = Tokenizer::new(&FlinkDialect, text).tokenize_with_location().ok()?;
    let is_comment = |token: &Token| {
        matches!(
            token,
            Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_))
        )
    };
    let mut replaced: Vec<(Location, Location, String)> = Vec::new();
    for token in all.iter().filter(|token| is_comment(&token.token)) {
        let instead = match &token.token {
            Token::Whitespace(Whitespace::SingleLineComment { .. }) => "\n".to_owned(),
            // A hint is part of the query.
            Token::Whitespace(Whitespace::MultiLineComment(hint)) if hint.starts_with('+') => {
                format!("/*{}*/", without_secrets(hint, mask, is_secret)?)
            }
            _ => " ".to_owned(),
        };
        replaced.push((token.span.start, token.span.end, instead));
    }
    let words: Vec<_> = all
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .collect();
    for window in words.windows(3) {
        let [key, equals, value] = window else { continue };
        if let (Token::SingleQuotedString(key), Token::Eq) = (&key.token, &equals.token)
            && is_secret(key)
        {
            replaced.push((value.span.start, value.span.end, format!("'{mask}'")));
        }
    }
    replaced.sort_by_key(|(start, _, _)| (start.line, start.column));
    let lines = LineOffsets::new(text);
    let (mut result, mut at) = (String::with_capacity(text.len()), 0);
    for (start, end, with) in replaced {
        let (start, end) = (lines.offset(start)?, lines.offset(end)?);
        result.push_str(text.get(at..start)?);
        result.push_str(&with);
        at = end;
    }
    result.push_str(text.get(at..)?);
    Some(result)
}

/// Byte offsets of the lines of a text.
struct LineOffsets<'t> {
    text: &'t str,
    lines: Vec<usize>,
}

impl<'t> LineOffsets<'t> {
    fn new(text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self {
            text,
            lines: lines.collect(),
        }
    }

    /// Returns the byte offset of a position. Lines and columns count from 1, columns in characters.
    fn offset(&self, place: Location) -> Option<usize> {
        let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
        let begin = *self.lines.get(line)?;
        let characters = usize::try_from(place.column).ok()?.checked_sub(1)?;
        let rest = self.text.get(begin..)?;
        let within = rest
            .char_indices()
            .map(|(at, _)| at)
            .chain([rest.len()])
            .nth(characters)?;
        Some(begin + within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_comments_are_left_out() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let found = redacted(text, "***", |key| key.contains("password"));
            assert_eq!(found.as_deref(), Some(expected));
        }
        check("SELECT 'é' -- my password is x\nFROM t", "SELECT 'é' \nFROM t");
        check("SELECT /* hush */ 1", "SELECT   1");
        check(
            "SELECT 1 FROM t /*+ OPTIONS('a.password' = 'x', 'b' = 'c') */ /* + hush */",
            "SELECT 1 FROM t /*+ OPTIONS('a.password' = '***', 'b' = 'c') */  ",
        );
        check(
            "CREATE TABLE t (a INT) WITH ('é' = 'ü', 'a.password' = 'it''s',\n 'b.password'='${X}', 'c' = 'password')",
            "CREATE TABLE t (a INT) WITH ('é' = 'ü', 'a.password' = '***',\n 'b.password'='***', 'c' = 'password')",
        );
        check("SELECT 1", "SELECT 1");
        assert_eq!(redacted("SELECT 'open", "***", |_| true), None);
    }
}
