//! Parser of SQL scripts: a list of statements, each with its position.
//!
//! The text is tokenized once; a `;` ends a statement. Every statement is parsed by itself, so that an error in one
//! does not hide the errors of the next. `EXECUTE STATEMENT SET BEGIN ... END` only groups its `INSERT`s: all inserts
//! of a script are one job anyway.

use datafusion::sql::sqlparser::ast::{Expr, Query};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::dialect::FlinkDialect;
use super::hints::Hints;
use super::statement::{Statement, StatementKind};
use super::statement_parser;
use super::tokens::{brackets, end, line_column, rows_in_parentheses, start, syntax_error};
use crate::error::Error;

/// Parses a script. Returns the valid statements, and the errors of the others.
pub(crate) fn read(text: &str) -> (Vec<Statement>, Vec<Error>) {
    let tokens = match Tokenizer::new(&FlinkDialect, text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => {
            let location = line_column(error.location.line, error.location.column);
            return (
                Vec::new(),
                vec![Error {
                    location,
                    message: error.message,
                }],
            );
        }
    };
    let mut statements = Vec::new();
    let mut errors = Vec::new();
    let mut hints = Hints::read(&tokens);
    for tokens in split(tokens) {
        let Some(first) = tokens.first() else { continue };
        let location = start(first);
        let end = end(&tokens);
        let read = match too_deep(&tokens) {
            Some(error) => Err(error),
            None => statement_parser::statement(tokens, &mut hints),
        };
        match read {
            Ok(kind) => statements.push(Statement { location, kind }),
            Err(error) => errors.push(syntax_error(error, location, end)),
        }
    }
    let without_effect = std::mem::take(&mut hints.without_effect);
    statements.extend(without_effect.into_iter().map(|(name, location)| Statement {
        location,
        kind: StatementKind::NoEffect {
            words: format!("hint {name}"),
            reason: "joins and state are planned without hints",
        },
    }));
    // A statement that is not valid has taken none of its hints.
    if errors.is_empty() {
        errors = hints.into_errors();
    } else {
        errors.append(&mut hints.errors);
    }
    (statements, errors)
}

/// Parses one query, such as a step's; a `;` may follow it.
pub(crate) fn read_query(text: &str) -> Result<Box<Query>, Error> {
    let tokens = Tokenizer::new(&FlinkDialect, text).tokenize_with_location();
    let mut hints = tokens.map(|tokens| Hints::read(&tokens)).unwrap_or_default();
    let mut query = read_whole(text, |parser| parser.parse_query())?;
    hints.attach(query.as_mut());
    match hints.into_errors().into_iter().next() {
        None => Ok(query),
        Some(error) => Err(error),
    }
}

/// Parses one expression.
pub(crate) fn read_expression(text: &str) -> Result<Expr, Error> {
    read_whole(text, |parser| parser.parse_expr())
}

/// Returns a name as an expression spells it: quoted if it would be read as something else.
pub(crate) fn identifier(name: &str) -> String {
    match read_expression(name) {
        Ok(Expr::Identifier(found)) if found.quote_style.is_none() && found.value == name => name.to_owned(),
        _ => format!("`{}`", name.replace('`', "``")),
    }
}

fn read_whole<T>(text: &str, read: impl Fn(&mut Parser) -> Result<T, ParserError>) -> Result<T, Error> {
    let tokens = Tokenizer::new(&FlinkDialect, text)
        .tokenize_with_location()
        .map_err(|error| Error {
            location: line_column(error.location.line, error.location.column),
            message: error.message,
        })?;
    let tokens = brackets(tokens);
    let end = end(&tokens);
    if let Some(error) = too_deep(&tokens) {
        return Err(syntax_error(error, line_column(1, 1), end));
    }
    let tokens = with_plain_strings(tokens.into_iter().filter(|token| !is_blank(&token.token)).collect());
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(rows_in_parentheses(tokens));
    read(&mut parser)
        .and_then(|found| {
            let _separator = parser.consume_token(&Token::SemiColon);
            match parser.peek_token() {
                rest if rest.token == Token::EOF => Ok(found),
                rest => parser.expected("the end of the text", rest),
            }
        })
        .map_err(|error| syntax_error(error, line_column(1, 1), end))
}

/// Maximum depth of operators in one expression, and maximum number of `UNION`s and `JOIN`s in one statement: deeper
/// ones would overflow the stack during evaluation.
pub const EXPRESSION_DEPTH_MAX: usize = 500;

/// Returns an error if a statement nests too deeply. The parser itself limits parentheses; chains such as `a + a + a
/// ...` nest without any.
fn too_deep(tokens: &[TokenWithSpan]) -> Option<ParserError> {
    let mut open: Vec<usize> = vec![0];
    let mut nested = 0;
    let mut relations = 0;
    for token in tokens {
        let mut deeper = 0;
        match &token.token {
            Token::LParen => open.push(0),
            Token::LBracket => {
                deeper = 1;
                open.push(0);
            }
            Token::RParen | Token::RBracket => {
                nested -= open.pop().unwrap_or(0);
                if open.is_empty() {
                    open.push(0);
                }
            }
            Token::Comma => nested -= open.last_mut().map(std::mem::take).unwrap_or(0),
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::DoubleColon
            | Token::Period => deeper = 1,
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::BETWEEN | Keyword::IS | Keyword::LIKE => deeper = 1,
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::WHEN
                | Keyword::THEN
                | Keyword::ON => nested -= open.last_mut().map(std::mem::take).unwrap_or(0),
                Keyword::UNION | Keyword::JOIN | Keyword::EXCEPT | Keyword::INTERSECT => relations += 1,
                _ => {}
            },
            _ => {}
        }
        if let Some(last) = open.last_mut() {
            *last += deeper;
        }
        nested += deeper;
        if nested > EXPRESSION_DEPTH_MAX || relations > EXPRESSION_DEPTH_MAX {
            return Some(ParserError::ParserError(format!(
                "this nests more than {EXPRESSION_DEPTH_MAX} operators: use IN (...), or compute parts in a view{}",
                token.span.start
            )));
        }
    }
    None
}

/// Returns the tokens of each statement, without white space, comments and the delimiters of statement sets.
fn split(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let mut statements = vec![Vec::new()];
    for token in brackets(tokens) {
        match token.token {
            Token::SemiColon => statements.push(Vec::new()),
            ref token if is_blank(token) => {}
            _ => last(&mut statements).push(token),
        }
    }
    let plain = |tokens| rows_in_parentheses(with_plain_strings(tokens));
    let mut statements: Vec<_> = statements.into_iter().map(plain).collect();
    let mut open_sets = 0_usize;
    for statement in &mut statements {
        let prefix = set_prefix(statement);
        if prefix > 0 {
            let explained = is_word(&statement[0], "EXPLAIN");
            statement.drain(usize::from(explained)..prefix);
            open_sets += 1;
        }
        if open_sets > 0 && statement.len() == 1 && is_word(&statement[0], "END") {
            statement.clear();
            open_sets -= 1;
        }
    }
    statements
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

/// Replaces `U&'...'` by plain strings, and joins string literals on consecutive lines, as the SQL standard does.
fn with_plain_strings(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut plain: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(mut token) = tokens.next() {
        if let Token::UnicodeStringLiteral(text) = token.token {
            token.token = Token::SingleQuotedString(text);
        }
        let followed_by_equals = tokens.peek().is_some_and(|next| next.token == Token::Eq);
        match (plain.last_mut(), &token.token) {
            (Some(before), Token::SingleQuotedString(text))
                if before.span.end.line < token.span.start.line && !followed_by_equals =>
            {
                if let Token::SingleQuotedString(start) = &mut before.token {
                    start.push_str(text);
                    before.span.end = token.span.end;
                } else {
                    plain.push(token);
                }
            }
            _ => plain.push(token),
        }
    }
    plain
}

fn last(statements: &mut [Vec<TokenWithSpan>]) -> &mut Vec<TokenWithSpan> {
    statements.last_mut().expect("there is always a statement being read")
}

/// Returns the number of tokens of `[EXPLAIN] [EXECUTE] [BEGIN] STATEMENT SET [BEGIN]` at the start of a statement, 0
/// if it has no such prefix.
fn set_prefix(tokens: &[TokenWithSpan]) -> usize {
    let mut at = 0;
    for optional in ["EXPLAIN", "EXECUTE", "BEGIN"] {
        if tokens.get(at).is_some_and(|token| is_word(token, optional)) {
            at += 1;
        }
    }
    for required in ["STATEMENT", "SET"] {
        if !tokens.get(at).is_some_and(|token| is_word(token, required)) {
            return 0;
        }
        at += 1;
    }
    if tokens.get(at).is_some_and(|token| is_word(token, "BEGIN")) {
        at += 1;
    }
    at
}

fn is_word(token: &TokenWithSpan, expected: &str) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
}
