//! Parser of Flink's `CREATE TABLE`: physical, metadata and computed columns, a watermark, options.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::statement::{CreateTable, StatementKind};
use super::tokens::{eat_word, place, skip_comment, start, string, table_name};
use super::types;
use crate::catalog::{ColumnDeclaration, ColumnKind, OptionDeclaration, TableDeclaration, WatermarkClause};
use crate::error::Location;

/// Parses the rest of a statement after `CREATE [TEMPORARY] TABLE`.
pub(super) fn create_table(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = table_name(parser)?;
    let mut table = TableDeclaration::new(name.value.clone(), place(&name));
    if parser.consume_token(&Token::LParen) {
        loop {
            element(parser, &mut table)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
    }
    skip_comment(parser)?;
    if parser.parse_keyword(Keyword::PARTITIONED) {
        parser.expect_keyword_is(Keyword::BY)?;
        parser.expect_token(&Token::LParen)?;
        table.partitioned_by = named(parser.parse_comma_separated(Parser::parse_identifier)?);
        parser.expect_token(&Token::RParen)?;
    }
    if parser.parse_keyword(Keyword::WITH) {
        table.options = options(parser)?;
    }
    let mut like = None;
    let mut query = None;
    if parser.parse_keyword(Keyword::LIKE) {
        like = Some(table_name(parser)?);
        if parser.peek_token().token == Token::LParen {
            let at = parser.peek_token().span.start;
            return Err(ParserError::ParserError(format!(
                "options of LIKE (`INCLUDING ...`) are not supported: LIKE takes columns, watermark and options, and \
                 WITH overrides them{at}"
            )));
        }
    } else if parser.parse_keyword(Keyword::AS) {
        query = Some(parser.parse_query()?);
    }
    Ok(StatementKind::CreateTable(Box::new(CreateTable {
        declaration: table,
        if_not_exists,
        like,
        query,
    })))
}

/// Parses one element of the table: a column, the watermark or a constraint.
fn element(parser: &mut Parser, table: &mut TableDeclaration) -> Result<(), ParserError> {
    let token = parser.peek_token();
    let next = parser.peek_nth_token(1).token;
    let is_unquoted = |expected: &str| {
        matches!(&token.token,
            Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
    };
    let followed_by = |expected: &str| matches!(&next, Token::Word(word) if word.value.eq_ignore_ascii_case(expected));
    if is_unquoted("WATERMARK") && followed_by("FOR") {
        parser.next_token();
        parser.next_token();
        let column = parser.parse_identifier()?;
        if parser.consume_token(&Token::Period) {
            return Err(ParserError::ParserError(format!(
                "a watermark needs a column of the table, not a field of one: add a computed column{}",
                column.span.start
            )));
        }
        parser.expect_keyword_is(Keyword::AS)?;
        let expression = parser.parse_expr()?;
        if table.watermark.is_some() {
            let at = token.span.start;
            return Err(ParserError::ParserError(format!(
                "a table has one watermark at most{at}"
            )));
        }
        table.watermark = Some(WatermarkClause {
            location: start(&token),
            column: column.value,
            expression,
        });
        return Ok(());
    }
    let is_constraint = is_unquoted("CONSTRAINT") || (is_unquoted("PRIMARY") && followed_by("KEY"));
    if is_constraint {
        if eat_word(parser, "CONSTRAINT") {
            parser.parse_identifier()?;
        }
        parser.expect_keyword_is(Keyword::PRIMARY)?;
        parser.expect_keyword_is(Keyword::KEY)?;
        parser.expect_token(&Token::LParen)?;
        table.primary_key = named(parser.parse_comma_separated(Parser::parse_identifier)?);
        parser.expect_token(&Token::RParen)?;
        not_enforced(parser)?;
        return Ok(());
    }
    let name = parser.parse_identifier()?;
    let kind = if parser.parse_keyword(Keyword::AS) {
        ColumnKind::Computed(Box::new(parser.parse_expr()?))
    } else {
        let data_type = types::data_type(parser, 0)?;
        if eat_word(parser, "METADATA") {
            let key = if parser.parse_keyword(Keyword::FROM) {
                Some(parser.parse_literal_string()?)
            } else {
                None
            };
            ColumnKind::Metadata {
                data_type,
                key,
                is_virtual: eat_word(parser, "VIRTUAL"),
            }
        } else {
            ColumnKind::Physical(data_type)
        }
    };
    let location = place(&name);
    if parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
        table.primary_key.push((name.value.clone(), location.clone()));
        not_enforced(parser)?;
    }
    skip_comment(parser)?;
    table.columns.push(ColumnDeclaration {
        name: name.value,
        location,
        kind,
    });
    Ok(())
}

fn not_enforced(parser: &mut Parser) -> Result<(), ParserError> {
    if eat_word(parser, "NOT") && !eat_word(parser, "ENFORCED") {
        let found = parser.peek_token();
        return parser.expected("ENFORCED", found);
    }
    Ok(())
}

/// Parses options: `('name' = 'value', ...)`.
fn options(parser: &mut Parser) -> Result<Vec<OptionDeclaration>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let mut options = Vec::new();
    while parser.peek_token().token != Token::RParen {
        let token = parser.peek_token();
        let name = string(parser)?;
        parser.expect_token(&Token::Eq)?;
        let value = string(parser)?;
        options.push(OptionDeclaration {
            name,
            value,
            location: start(&token),
        });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(options)
}

fn named(identifiers: Vec<Ident>) -> Vec<(String, Location)> {
    identifiers
        .into_iter()
        .map(|identifier| {
            let location = place(&identifier);
            (identifier.value, location)
        })
        .collect()
}
