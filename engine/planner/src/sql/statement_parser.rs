//! Parser of one statement of a script.

use datafusion::sql::sqlparser::ast::{Expr, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use millstream_graph::ConflictStrategy;

use super::ddl;
use super::dialect::FlinkDialect;
use super::hints::Hints;
use super::show;
use super::statement::{Insert, NamespaceStatement, StatementKind};
use super::tokens::{eat_word, if_not_exists, name, refusal, skip_comment, skip_rest};

const PRINTS_QUERIES: &str = "a script is run as a job and only prints the rows of its queries";

const NOT_LISTED: &str = "tables, views, columns, functions, databases and catalogs can be shown";

/// Parses one statement.
pub(super) fn statement(tokens: Vec<TokenWithSpan>, hints: &mut Hints) -> Result<StatementKind, ParserError> {
    let words: Vec<String> = tokens
        .iter()
        .take(4)
        .map(|token| match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            // A query in parentheses.
            Token::LParen => "(".into(),
            _ => String::new(),
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let parser = &mut Parser::new(&FlinkDialect).with_tokens_with_locations(tokens);
    let kind = match words.as_slice() {
        ["CREATE", ..] => create(&words, parser, hints)?,
        ["INSERT", ..] => StatementKind::Insert(insert(parser, hints)?),
        ["SELECT" | "WITH" | "VALUES" | "(", ..] => StatementKind::Query(hints.query(parser)?),
        ["SET", ..] => set(skip(parser, 1))?,
        ["RESET", ..] => reset(skip(parser, 1))?,
        ["EXPLAIN", "EXECUTE" | "COMPILE", ..] => return Err(compiled_plan(parser)),
        ["EXPLAIN", ..] => StatementKind::Explain(explain(skip(parser, 1), hints)?),
        ["ALTER", "TABLE", ..] => ddl::alter_table(skip(parser, 2))?,
        ["DROP", ..] => drop_statement(&words, parser)?,
        ["USE", ..] => use_statement(skip(parser, 1))?,
        ["SHOW", ..] => match show::show(skip(parser, 1))? {
            Some(shown) => StatementKind::Show(shown),
            None => no_effect(&words, parser, 2, NOT_LISTED),
        },
        ["DESCRIBE" | "DESC", ..] => match show::describe(skip(parser, 1))? {
            Some(shown) => StatementKind::Show(shown),
            None => no_effect(&words, parser, 2, NOT_LISTED),
        },
        _ => match without_effect(&words, parser)? {
            Some(kind) => kind,
            None => return Err(unsupported(&words, parser)),
        },
    };
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return parser.expected("`;` or the end of the statement", rest);
    }
    Ok(kind)
}

fn create(words: &[&str], parser: &mut Parser, hints: &mut Hints) -> Result<StatementKind, ParserError> {
    match words {
        ["CREATE", "TABLE", ..] => ddl::create_table(skip(parser, 2), hints),
        ["CREATE", "TEMPORARY", "TABLE", ..] => ddl::create_table(skip(parser, 3), hints),
        ["CREATE", "OR", "REPLACE", "TABLE"] => ddl::create_table(skip(parser, 4), hints),
        ["CREATE", "VIEW", ..] => create_view(skip(parser, 2), hints),
        ["CREATE", "TEMPORARY", "VIEW", ..] => create_view(skip(parser, 3), hints),
        ["CREATE", "FUNCTION", ..] => create_function(skip(parser, 2)),
        ["CREATE", "TEMPORARY", "FUNCTION", ..] => create_function(skip(parser, 3)),
        ["CREATE", "TEMPORARY", "SYSTEM", "FUNCTION"] => create_function(skip(parser, 4)),
        ["CREATE", "DATABASE", ..] => create_database(skip(parser, 2)),
        ["CREATE", "CATALOG", ..] => create_catalog(skip(parser, 2)),
        ["CREATE", "MATERIALIZED", "TABLE", ..] | ["CREATE", "OR", "ALTER", "MATERIALIZED"] => Err(refusal(
            parser,
            "materialized tables are not supported: write `CREATE TABLE ... WITH (...) AS SELECT ...`, which keeps the \
             table up to date as long as the job runs",
        )),
        ["CREATE", "TEMPORARY" | "OR", what, ..] | ["CREATE", what, ..] if !what.is_empty() => Err(refusal(
            parser,
            &format!("`CREATE {what}` is not supported: only `CREATE TABLE` and `CREATE VIEW` are"),
        )),
        _ => {
            skip(parser, 1);
            let found = parser.peek_token();
            parser.expected("TABLE or VIEW after CREATE", found)
        }
    }
}

/// Returns an error for a statement that is not supported.
fn unsupported(words: &[&str], parser: &Parser) -> ParserError {
    let message = match words {
        ["COMPILE" | "EXECUTE", ..] => return compiled_plan(parser),
        [first @ ("UPDATE" | "DELETE" | "MERGE" | "TRUNCATE"), ..] => {
            format!("`{first}` is not supported: streams are only appended to, with `INSERT INTO`")
        }
        ["ALTER", "VIEW", ..] => "`ALTER VIEW` is not supported: DROP the view and create it again".into(),
        ["ALTER", what, ..] => {
            format!("`ALTER {what}` is not supported: a script starts with an empty catalog, so declare it as needed")
        }
        ["CALL", ..] => "procedures are not supported: catalogs of external systems would provide them".into(),
        ["STOP", "JOB", ..] => "a script cannot stop jobs: use `engine-cli stop NAME`".into(),
        _ => {
            let found = parser.peek_token();
            let expected = "CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN or EXECUTE STATEMENT SET";
            return match parser.expected::<()>(expected, found) {
                Err(error) => error,
                Ok(()) => refusal(parser, expected),
            };
        }
    };
    refusal(parser, &message)
}

fn compiled_plan(parser: &Parser) -> ParserError {
    refusal(
        parser,
        "compiled plans are not supported: keep the script, which is planned in the same way at every start",
    )
}

/// Returns a statement that is accepted without an effect.
fn without_effect(words: &[&str], parser: &mut Parser) -> Result<Option<StatementKind>, ParserError> {
    let (count, reason) = match words {
        ["ANALYZE", "TABLE", ..] => (2, "plans do not depend on statistics"),
        ["ADD" | "REMOVE", "JAR", ..] => (
            2,
            "there are no Java classes: all connectors and functions are built in",
        ),
        ["LOAD" | "UNLOAD", "MODULE", ..] => (2, "all functions are built in"),
        ["QUIT" | "EXIT" | "CLEAR" | "HELP"] => (1, "it is a command of an interactive client"),
        _ => return Ok(None),
    };
    Ok(Some(no_effect(words, parser, count, reason)))
}

/// Skips the rest of a statement, which has no effect. A note names its first `count` words.
fn no_effect(words: &[&str], parser: &mut Parser, count: usize, reason: &'static str) -> StatementKind {
    skip_rest(parser);
    let words = words.iter().take(count).filter(|word| !word.is_empty());
    StatementKind::NoEffect {
        reason,
        words: words.copied().collect::<Vec<_>>().join(" "),
    }
}

fn skip<'p, 'd>(parser: &'p mut Parser<'d>, count: usize) -> &'p mut Parser<'d> {
    for _ in 0..count {
        if parser.next_token().token == Token::EOF {
            break;
        }
    }
    parser
}

fn if_exists(parser: &mut Parser) -> bool {
    parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS])
}

/// Parses the rest of a statement after `CREATE VIEW`.
fn create_view(parser: &mut Parser, hints: &mut Hints) -> Result<StatementKind, ParserError> {
    let if_not_exists = if_not_exists(parser);
    let name = name(parser)?;
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
    let query = hints.query(parser)?;
    Ok(StatementKind::CreateView {
        name,
        if_not_exists,
        columns,
        query,
    })
}

/// Parses the rest of a statement after `CREATE FUNCTION`.
fn create_function(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    if_not_exists(parser);
    let name = name(parser)?;
    skip_rest(parser);
    Ok(StatementKind::CreateFunction { name })
}

/// Parses the rest of a statement after `CREATE DATABASE`.
fn create_database(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    if_not_exists(parser);
    let name = name(parser)?;
    skip_comment(parser)?;
    if parser.parse_keyword(Keyword::WITH) {
        ddl::options(parser)?;
    }
    Ok(StatementKind::Namespace(NamespaceStatement::CreateDatabase { name }))
}

/// Parses the rest of a statement after `CREATE CATALOG`.
fn create_catalog(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let at = parser.peek_token().span.start;
    if_not_exists(parser);
    let name = parser.parse_identifier()?;
    skip_comment(parser)?;
    let options = match parser.parse_keyword(Keyword::WITH) {
        true => ddl::options(parser)?,
        false => Vec::new(),
    };
    let option = |wanted: &str| options.iter().find(|option| option.name == wanted);
    match option("type").map(|option| option.value.as_str()) {
        Some("generic_in_memory") => Ok(StatementKind::Namespace(NamespaceStatement::CreateCatalog {
            name,
            default_database: option("default-database").map(|option| option.value.clone()),
        })),
        other => Err(ParserError::ParserError(format!(
            "a catalog of the type '{}' is not supported: declare its tables with CREATE TABLE (only \
             'generic_in_memory' is supported){at}",
            other.unwrap_or_default()
        ))),
    }
}

/// Parses the rest of a statement after `USE`.
fn use_statement(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    if eat_word(parser, "MODULES") {
        skip_rest(parser);
        return Ok(StatementKind::NoEffect {
            reason: "all functions are built in",
            words: "USE MODULES".into(),
        });
    }
    Ok(StatementKind::Namespace(if eat_word(parser, "CATALOG") {
        NamespaceStatement::UseCatalog {
            name: parser.parse_identifier()?,
        }
    } else {
        NamespaceStatement::UseDatabase { name: name(parser)? }
    }))
}

/// Parses `DROP ...`.
fn drop_statement(words: &[&str], parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let words = match words {
        ["DROP", "TEMPORARY", "SYSTEM", what] => vec!["TEMPORARY", "SYSTEM", what],
        ["DROP", "TEMPORARY", what, ..] => vec!["TEMPORARY", what],
        ["DROP", what, ..] => vec![*what],
        _ => Vec::new(),
    };
    skip(parser, words.len());
    match words.last() {
        Some(&"TABLE" | &"VIEW") => {
            skip(parser, 1);
            if_exists(parser);
            Ok(StatementKind::Drop { name: name(parser)? })
        }
        Some(&what @ ("FUNCTION" | "CATALOG" | "DATABASE" | "MODEL" | "MATERIALIZED" | "CONNECTION")) => {
            skip_rest(parser);
            Ok(StatementKind::NoEffect {
                reason: "a script starts with an empty catalog",
                words: format!("DROP {what}"),
            })
        }
        _ => {
            if words.is_empty() {
                skip(parser, 1);
            }
            let found = parser.peek_token();
            parser.expected("TABLE, VIEW, DATABASE, CATALOG or FUNCTION after DROP", found)
        }
    }
}

/// Parses an `INSERT`.
fn insert(parser: &mut Parser, hints: &mut Hints) -> Result<Insert, ParserError> {
    parser.expect_keyword_is(Keyword::INSERT)?;
    if parser.parse_keyword(Keyword::OVERWRITE) {
        return Err(refusal(
            parser,
            "`INSERT OVERWRITE` is not supported: write `INSERT INTO`, and remove earlier output before the job starts",
        ));
    }
    parser.expect_keyword_is(Keyword::INTO)?;
    let table = name(parser)?;
    let hint = hints.take(&table.ident);
    let mut partition = Vec::new();
    if parser.parse_keyword(Keyword::PARTITION) {
        parser.expect_token(&Token::LParen)?;
        partition = parser.parse_comma_separated(static_partition)?;
        parser.expect_token(&Token::RParen)?;
    }
    let mut columns = Vec::new();
    if parser.peek_token().token == Token::LParen && !starts_query(&parser.peek_nth_token(1).token) {
        parser.expect_token(&Token::LParen)?;
        columns = parser.parse_comma_separated(Parser::parse_identifier)?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(Insert {
        table: Some(table),
        hint,
        columns,
        partition,
        query: hints.query(parser)?,
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

fn starts_query(token: &Token) -> bool {
    match token {
        Token::LParen => true,
        Token::Word(word) => matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES),
        _ => false,
    }
}

/// Parses `column = constant` of a `PARTITION (...)`.
fn static_partition(parser: &mut Parser) -> Result<(Ident, Expr), ParserError> {
    let column = parser.parse_identifier()?;
    if parser.peek_token().token != Token::Eq {
        return Err(refusal(
            parser,
            "a column of PARTITION (...) needs a value, such as `day = '2024-01-01'`; others are columns of the query",
        ));
    }
    parser.expect_token(&Token::Eq)?;
    Ok((column, parser.parse_expr()?))
}

/// Parses the rest of a statement after `EXPLAIN`.
fn explain(parser: &mut Parser, hints: &mut Hints) -> Result<Insert, ParserError> {
    if !parser.parse_keywords(&[Keyword::PLAN, Keyword::FOR]) {
        // `EXPLAIN ESTIMATED_COST, JSON_EXECUTION_PLAN INSERT ...`: the details are ignored.
        while matches!(&parser.peek_token().token, Token::Word(word)
            if !matches!(word.keyword, Keyword::INSERT | Keyword::SELECT | Keyword::WITH | Keyword::VALUES))
        {
            parser.next_token();
            let _separator = parser.consume_token(&Token::Comma);
        }
    }
    if parser.peek_keyword(Keyword::INSERT) {
        insert(parser, hints)
    } else {
        Ok(Insert {
            table: None,
            hint: Vec::new(),
            columns: Vec::new(),
            partition: Vec::new(),
            query: hints.query(parser)?,
            on_conflict: None,
        })
    }
}

/// Parses the rest of a statement after `SET`: `'key' = 'value'`, or `key = value` with dotted words.
fn set(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    if parser.peek_token().token == Token::EOF {
        return Ok(StatementKind::NoEffect {
            reason: PRINTS_QUERIES,
            words: "SET".into(),
        });
    }
    let key = text_until(parser, &Token::Eq)?;
    let value = text_until(parser, &Token::EOF)?;
    Ok(StatementKind::Set { key, value })
}

/// Parses the rest of a statement after `RESET`.
fn reset(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let key = text_until(parser, &Token::EOF)?;
    Ok(StatementKind::Reset {
        key: (!key.is_empty()).then_some(key),
    })
}

fn text_until(parser: &mut Parser, end: &Token) -> Result<String, ParserError> {
    let mut text = String::new();
    loop {
        let token = parser.next_token();
        match token.token {
            Token::SingleQuotedString(value) => text.push_str(&value),
            ref found if found == end => return Ok(text),
            Token::EOF => return parser.expected("`SET 'key' = 'value'`", token),
            other => text.push_str(&other.to_string()),
        }
    }
}
