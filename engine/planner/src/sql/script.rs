//! Parser of SQL scripts: a list of statements, each with its position.
//!
//! The text is tokenized once; a `;` ends a statement. Every statement is parsed by itself, so that an error in one
//! does not hide the errors of the next. `EXECUTE STATEMENT SET BEGIN ... END` only groups its `INSERT`s: all inserts
//! of a script are one job anyway.

use datafusion::sql::sqlparser::ast::{Expr, Query};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

use super::dialect::FlinkDialect;
use super::statement::{Insert, Statement, StatementKind};
use super::tokens::{brackets, end, line_column, skip_comment, start, syntax_error, table_name};
use crate::error::Error;
use crate::logical::ConflictStrategy;

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
    let mut errors = hints(&tokens);
    for tokens in split(tokens) {
        let Some(first) = tokens.first() else { continue };
        let location = start(first);
        let end = end(&tokens);
        let read = match too_deep(&tokens) {
            Some(error) => Err(error),
            None => statement(tokens),
        };
        match read {
            Ok(kind) => statements.push(Statement { location, kind }),
            Err(error) => errors.push(syntax_error(error, location, end)),
        }
    }
    (statements, errors)
}

/// Refuses `/*+ OPTIONS('key' = 'value') */`, which would change a table in Flink, instead of ignoring it as a comment.
fn hints(tokens: &[TokenWithSpan]) -> Vec<Error> {
    let is_hint = |token: &&TokenWithSpan| {
        matches!(&token.token, Token::Whitespace(Whitespace::MultiLineComment(text))
            if text.strip_prefix('+').is_some_and(|hint| hint.to_ascii_uppercase().contains("OPTIONS")))
    };
    tokens
        .iter()
        .filter(is_hint)
        .map(|token| Error {
            location: start(token),
            message: "hints are not supported: put the options into WITH, or declare another table LIKE this one"
                .into(),
        })
        .collect()
}

/// Parses one query, such as a step's; a `;` may follow it.
pub(crate) fn read_query(text: &str) -> Result<Box<Query>, Error> {
    read_whole(text, |parser| parser.parse_query())
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
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(tokens);
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
            Token::Whitespace(_) | Token::EOF => {}
            _ => last(&mut statements).push(token),
        }
    }
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

/// Parses one statement.
fn statement(tokens: Vec<TokenWithSpan>) -> Result<StatementKind, ParserError> {
    let words: Vec<String> = tokens
        .iter()
        .take(4)
        .map(|token| match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => String::new(),
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let parser = &mut Parser::new(&FlinkDialect).with_tokens_with_locations(tokens);
    let kind = match words.as_slice() {
        ["CREATE", "TABLE", ..] => super::ddl::create_table(skip(parser, 2))?,
        ["CREATE", "TEMPORARY", "TABLE", ..] => super::ddl::create_table(skip(parser, 3))?,
        ["CREATE", "VIEW", ..] => create_view(skip(parser, 2))?,
        ["CREATE", "TEMPORARY", "VIEW", ..] => create_view(skip(parser, 3))?,
        ["CREATE", "OR", "REPLACE", "TABLE"] => super::ddl::create_table(skip(parser, 4))?,
        ["INSERT", ..] => StatementKind::Insert(insert(parser)?),
        ["SET", ..] => set(skip(parser, 1))?,
        ["EXPLAIN", ..] => StatementKind::Explain(explain(skip(parser, 1))?),
        ["CREATE", "FUNCTION", ..] => create_function(skip(parser, 2))?,
        ["CREATE", "TEMPORARY", "FUNCTION", ..] => create_function(skip(parser, 3))?,
        ["CREATE", "TEMPORARY", "SYSTEM", "FUNCTION"] => create_function(skip(parser, 4))?,
        ["USE" | "SHOW" | "DROP" | "RESET", ..] => {
            skip(parser, usize::MAX);
            StatementKind::Ignored
        }
        ["SELECT" | "WITH" | "VALUES", ..] => {
            return refuse(
                parser,
                "a query needs a target: write `INSERT INTO table SELECT ...`, or `EXPLAIN SELECT ...` to see \
                 its plan",
            );
        }
        ["CREATE", what @ ("CATALOG" | "DATABASE" | "MODEL"), ..] | ["CREATE", "TEMPORARY" | "OR", what, ..] => {
            let message = format!("`CREATE {what}` is not supported: only `CREATE TABLE` and `CREATE VIEW` are");
            return refuse(parser, &message);
        }
        [
            first @ ("UPDATE" | "DELETE" | "ALTER" | "MERGE" | "TRUNCATE" | "CALL" | "ANALYZE"),
            ..,
        ] => {
            let message = format!("`{first}` is not supported: streams are only appended to, with `INSERT INTO`");
            return refuse(parser, &message);
        }
        _ => {
            let found = parser.peek_token();
            return parser.expected(
                "CREATE TABLE, CREATE VIEW, INSERT INTO, SET, EXPLAIN or EXECUTE STATEMENT SET",
                found,
            );
        }
    };
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return parser.expected("`;` or the end of the statement", rest);
    }
    Ok(kind)
}

fn skip<'p, 'd>(parser: &'p mut Parser<'d>, count: usize) -> &'p mut Parser<'d> {
    for _ in 0..count {
        if parser.next_token().token == Token::EOF {
            break;
        }
    }
    parser
}

fn refuse(parser: &Parser, message: &str) -> Result<StatementKind, ParserError> {
    let at = parser.peek_token().span.start;
    Err(ParserError::ParserError(format!("{message}{at}")))
}

/// Parses the rest of a statement after `CREATE VIEW`.
fn create_view(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = table_name(parser)?;
    let mut columns = Vec::new();
    if parser.consume_token(&Token::LParen) {
        columns = parser.parse_comma_separated(|parser| {
            let column = parser.parse_identifier()?;
            skip_comment(parser)?;
            Ok(column)
        })?;
        parser.expect_token(&Token::RParen)?;
    }
    skip_comment(parser)?;
    parser.expect_keyword_is(Keyword::AS)?;
    let query = parser.parse_query()?;
    Ok(StatementKind::CreateView {
        name,
        if_not_exists,
        columns,
        query,
    })
}

/// Parses the rest of a statement after `CREATE FUNCTION`.
fn create_function(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    while [Keyword::IF, Keyword::NOT, Keyword::EXISTS]
        .iter()
        .any(|word| parser.parse_keyword(*word))
    {}
    let name = table_name(parser)?;
    skip(parser, usize::MAX);
    Ok(StatementKind::CreateFunction { name })
}

/// Parses an `INSERT`.
fn insert(parser: &mut Parser) -> Result<Insert, ParserError> {
    parser.expect_keyword_is(Keyword::INSERT)?;
    if parser.parse_keyword(Keyword::OVERWRITE) {
        let at = parser.peek_token().span.start;
        return Err(ParserError::ParserError(format!(
            "`INSERT OVERWRITE` is not supported: write `INSERT INTO`{at}"
        )));
    }
    parser.expect_keyword_is(Keyword::INTO)?;
    let table = table_name(parser)?;
    let mut columns = Vec::new();
    if parser.peek_token().token == Token::LParen
        && !matches!(&parser.peek_nth_token(1).token, Token::Word(word) if matches!(word.keyword, Keyword::SELECT | Keyword::WITH))
    {
        parser.expect_token(&Token::LParen)?;
        columns = parser.parse_comma_separated(Parser::parse_identifier)?;
        parser.expect_token(&Token::RParen)?;
    }
    let query = parser.parse_query()?;
    Ok(Insert {
        table: Some(table),
        columns,
        query,
        on_conflict: on_conflict(parser)?,
    })
}

/// Parses `ON CONFLICT DO ...` after the query of an `INSERT`, if it is there.
fn on_conflict(parser: &mut Parser) -> Result<Option<ConflictStrategy>, ParserError> {
    if !parser.parse_keywords(&[Keyword::ON, Keyword::CONFLICT]) {
        return Ok(None);
    }
    parser.expect_keyword_is(Keyword::DO)?;
    let word = parser.parse_identifier()?;
    match word.value.to_ascii_uppercase().as_str() {
        "ERROR" => Ok(Some(ConflictStrategy::Error)),
        "NOTHING" => Ok(Some(ConflictStrategy::Nothing)),
        "DEDUPLICATE" => Ok(Some(ConflictStrategy::Deduplicate)),
        _ => Err(ParserError::ParserError(format!(
            "Expected: ON CONFLICT DO ERROR, DO NOTHING or DO DEDUPLICATE, found: {word}{}",
            word.span.start
        ))),
    }
}

/// Parses the rest of a statement after `EXPLAIN`.
fn explain(parser: &mut Parser) -> Result<Insert, ParserError> {
    if !parser.parse_keywords(&[Keyword::PLAN, Keyword::FOR]) {
        // `EXPLAIN ESTIMATED_COST, JSON_EXECUTION_PLAN INSERT ...`: the details are ignored.
        while matches!(&parser.peek_token().token, Token::Word(word)
            if !matches!(word.keyword, Keyword::INSERT | Keyword::SELECT | Keyword::WITH))
        {
            parser.next_token();
            let _separator = parser.consume_token(&Token::Comma);
        }
    }
    if parser.peek_keyword(Keyword::INSERT) {
        insert(parser)
    } else {
        Ok(Insert {
            table: None,
            columns: Vec::new(),
            query: parser.parse_query()?,
            on_conflict: None,
        })
    }
}

/// Parses the rest of a statement after `SET`: `'key' = 'value'`, or `key = value` with dotted words.
fn set(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let mut side = |end: Token| {
        let mut text = String::new();
        loop {
            let token = parser.next_token();
            match token.token {
                Token::SingleQuotedString(value) => text.push_str(&value),
                ref found if *found == end => return Ok(text),
                Token::EOF => return parser.expected("`SET 'key' = 'value'`", token),
                other => text.push_str(&other.to_string()),
            }
        }
    };
    let key = side(Token::Eq)?;
    let value = side(Token::EOF)?;
    Ok(StatementKind::Set { key, value })
}
