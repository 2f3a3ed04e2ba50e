//! Reading of tokens and positions, shared by the parsers of statements, tables and types.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, Location};

/// Consumes the next token if it is this unquoted word, in any case; returns true if it was.
pub(super) fn eat_word(parser: &mut Parser, expected: &str) -> bool {
    let found = matches!(&parser.peek_token().token,
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected));
    if found {
        parser.next_token();
    }
    found
}

/// Reads a string in single quotes.
pub(super) fn string(parser: &mut Parser) -> Result<String, ParserError> {
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(value) => Ok(value),
        _ => parser.expected("a text in single quotes", token),
    }
}

/// Skips `COMMENT 'text'`, if it follows.
pub(super) fn skip_comment(parser: &mut Parser) -> Result<(), ParserError> {
    if eat_word(parser, "COMMENT") {
        string(parser)?;
    }
    Ok(())
}

/// Splits `>>`: in `ROW<a ROW<b INT>>` it is two brackets, and SQL has no shifts.
pub(super) fn brackets(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut result = Vec::with_capacity(tokens.len());
    for token in tokens {
        if token.token != Token::ShiftRight {
            result.push(token);
            continue;
        }
        for offset in 0..2 {
            let mut half = token.clone();
            half.token = Token::Gt;
            half.span.start.column += offset;
            result.push(half);
        }
    }
    result
}

/// Puts parentheses around the rows of one column in `VALUES 1, 2`.
pub(super) fn rows_in_parentheses(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut result: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_values =
            matches!(&token.token, Token::Word(word) if word.keyword == Keyword::VALUES && word.quote_style.is_none());
        result.push(token);
        if !is_values || !tokens.peek().is_some_and(|next| starts_value(&next.token)) {
            continue;
        }
        let mut depth = 0_i32;
        let mut is_open = false;
        while let Some(next) = tokens.peek() {
            let closes = matches!(next.token, Token::RParen | Token::RBracket);
            if depth == 0 && (closes || ends_rows(&next.token)) {
                break;
            }
            if depth == 0 && !is_open && next.token != Token::LParen {
                result.push(TokenWithSpan::new(Token::LParen, next.span));
                is_open = true;
            }
            if depth == 0 && is_open && next.token == Token::Comma {
                result.push(TokenWithSpan::new(Token::RParen, next.span));
                is_open = false;
                result.extend(tokens.next());
                continue;
            }
            depth += match next.token {
                Token::LParen | Token::LBracket => 1,
                _ if closes => -1,
                _ => 0,
            };
            result.extend(tokens.next());
        }
        if is_open && let Some(last) = result.last() {
            result.push(TokenWithSpan::new(Token::RParen, last.span));
        }
    }
    result
}

/// Returns true for the first token of a constant. A row in parentheses and `ROW(...)` need none around them.
fn starts_value(token: &Token) -> bool {
    match token {
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Minus | Token::Plus => true,
        Token::Word(word) if word.quote_style.is_none() => matches!(
            word.keyword,
            Keyword::NULL
                | Keyword::TRUE
                | Keyword::FALSE
                | Keyword::DATE
                | Keyword::TIME
                | Keyword::TIMESTAMP
                | Keyword::INTERVAL
                | Keyword::CAST
                | Keyword::ARRAY
                | Keyword::MAP
        ),
        _ => false,
    }
}

/// Returns true for a token that follows the rows of `VALUES`.
fn ends_rows(token: &Token) -> bool {
    match token {
        Token::EOF | Token::SemiColon => true,
        Token::Word(word) if word.quote_style.is_none() => matches!(
            word.keyword,
            Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::ORDER
                | Keyword::LIMIT
                | Keyword::OFFSET
                | Keyword::FETCH
        ),
        _ => false,
    }
}

/// Returns the position of an identifier.
pub(super) fn place(identifier: &Ident) -> Location {
    line_column(identifier.span.start.line, identifier.span.start.column)
}

/// The name of a table, view, function, database or catalog, with the names before it.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    /// The catalog and database, or the database; usually empty.
    pub qualifier: Vec<Ident>,
    pub ident: Ident,
}

impl Name {
    /// Returns the last part of the name.
    pub(super) fn value(&self) -> &str {
        &self.ident.value
    }

    /// Returns the position of the last part.
    pub(super) fn place(&self) -> Location {
        place(&self.ident)
    }
}

/// Parses a name with at most two qualifiers.
pub(super) fn name(parser: &mut Parser) -> Result<Name, ParserError> {
    let mut qualifier = Vec::new();
    let mut ident = parser.parse_identifier()?;
    while qualifier.len() < 2 && parser.consume_token(&Token::Period) {
        let next = parser.parse_identifier()?;
        qualifier.push(std::mem::replace(&mut ident, next));
    }
    Ok(Name { qualifier, ident })
}

/// Returns an error at the next token.
pub(super) fn refusal(parser: &Parser, message: &str) -> ParserError {
    let at = parser.peek_token().span.start;
    ParserError::ParserError(format!("{message}{at}"))
}

/// Consumes the next tokens if they are these unquoted words, in any case; returns true if they were.
pub(super) fn eat_words(parser: &mut Parser, expected: &[&str]) -> bool {
    let found = expected.iter().enumerate().all(|(index, word)| {
        matches!(&parser.peek_nth_token(index).token,
            Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    });
    if found {
        for _ in expected {
            parser.next_token();
        }
    }
    found
}

/// Consumes `IF NOT EXISTS`, if it follows; returns true if it did.
pub(super) fn if_not_exists(parser: &mut Parser) -> bool {
    parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS])
}

/// Skips the rest of the statement.
pub(super) fn skip_rest(parser: &mut Parser) {
    while parser.next_token().token != Token::EOF {}
}

pub(super) fn start(token: &TokenWithSpan) -> Location {
    line_column(token.span.start.line, token.span.start.column)
}

/// Returns a position; line 0 is an unknown one.
pub(super) fn line_column(line: u64, column: u64) -> Location {
    if line == 0 {
        Location::Unknown
    } else {
        Location::LineColumn { line, column }
    }
}

/// Returns the position after the last token that is not white space.
pub(super) fn end(tokens: &[TokenWithSpan]) -> Location {
    tokens
        .iter()
        .rev()
        .find(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
        .map_or(Location::Unknown, |token| {
            line_column(token.span.end.line, token.span.end.column)
        })
}

/// Converts a parser error: its position is part of the message. An error at the end of the text has the position
/// `end`.
pub(super) fn syntax_error(error: ParserError, statement: Location, end: Location) -> Error {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return Error {
                location: statement,
                message: "this statement is nested too deeply (more than 50 levels)".into(),
            };
        }
    };
    let placed = message.rsplit_once(" at Line: ").and_then(|(text, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some(Error {
            location: line_column(line.parse().ok()?, column.parse().ok()?),
            message: lower_first(text),
        })
    });
    placed.unwrap_or_else(|| Error {
        location: if message.ends_with("found: EOF") {
            end
        } else {
            statement
        },
        message: lower_first(&message),
    })
}

fn lower_first(text: &str) -> String {
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    match text.strip_prefix("Expected") {
        Some(rest) => format!("expected {}", rest.trim_start_matches(':').trim_start())
            .replace(", found: EOF", ", found the end of the statement")
            .replace("expected joined table", "expected a table"),
        None => text.to_owned(),
    }
}
