//! Parser of Flink's `CREATE TABLE` and `ALTER TABLE`: physical, metadata and computed columns, a watermark, options.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::hints::Hints;
use super::statement::{CreateTable, Like, LikeFeature, LikeMode, StatementKind, TableChange};
use super::tokens::{self, Name, eat_word, eat_words, place, refusal, skip_comment, start, string};
use super::types;
use crate::catalog::{ColumnDeclaration, ColumnKind, OptionDeclaration, TableDeclaration, WatermarkClause};
use crate::error::Location;

/// Parses the rest of a statement after `CREATE [TEMPORARY] TABLE`.
pub(super) fn create_table(parser: &mut Parser, hints: &mut Hints) -> Result<StatementKind, ParserError> {
    let if_not_exists = tokens::if_not_exists(parser);
    let name = tokens::name(parser)?;
    let mut table = TableDeclaration::new(name.value().to_owned(), name.place());
    let mut column_order = Vec::new();
    if parser.consume_token(&Token::LParen) {
        if matches!(parser.peek_nth_token(1).token, Token::Comma | Token::RParen) {
            column_order = parser.parse_comma_separated(Parser::parse_identifier)?;
        } else {
            elements(parser, &mut table)?;
        }
        parser.expect_token(&Token::RParen)?;
    }
    skip_comment(parser)?;
    distribution(parser)?;
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
        let other = tokens::name(parser)?;
        like = Some(Like {
            table: other,
            options: like_options(parser)?,
        });
    } else if parser.parse_keyword(Keyword::AS) {
        query = Some(hints.query(parser)?);
    }
    if let (Some(column), None) = (column_order.first(), &query) {
        return Err(ParserError::ParserError(format!(
            "column `{}` needs a type, such as `{} BIGINT`{}",
            column.value, column.value, column.span.end
        )));
    }
    Ok(StatementKind::CreateTable(Box::new(CreateTable {
        name,
        declaration: table,
        if_not_exists,
        like,
        query,
        column_order,
    })))
}

/// Refuses `DISTRIBUTED [BY ...] [INTO n BUCKETS]`.
fn distribution(parser: &mut Parser) -> Result<(), ParserError> {
    let at = parser.peek_token().span.start;
    if !eat_word(parser, "DISTRIBUTED") {
        return Ok(());
    }
    Err(ParserError::ParserError(format!(
        "no connector has buckets, so DISTRIBUTED is not supported: leave it out; files are divided by PARTITIONED BY, \
         and Kafka's partitions by the key (`key.fields`){at}"
    )))
}

/// Parses the options of `LIKE`: `(INCLUDING ALL EXCLUDING OPTIONS ...)`.
fn like_options(parser: &mut Parser) -> Result<Vec<(LikeMode, LikeFeature)>, ParserError> {
    const MODES: [(&str, LikeMode); 3] = [
        ("INCLUDING", LikeMode::Including),
        ("EXCLUDING", LikeMode::Excluding),
        ("OVERWRITING", LikeMode::Overwriting),
    ];
    const FEATURES: [(&str, LikeFeature); 8] = [
        ("ALL", LikeFeature::All),
        ("CONSTRAINTS", LikeFeature::Constraints),
        ("DISTRIBUTION", LikeFeature::Distribution),
        ("GENERATED", LikeFeature::Generated),
        ("METADATA", LikeFeature::Metadata),
        ("OPTIONS", LikeFeature::Options),
        ("PARTITIONS", LikeFeature::Partitions),
        ("WATERMARKS", LikeFeature::Watermarks),
    ];
    let mut options = Vec::new();
    if !parser.consume_token(&Token::LParen) {
        return Ok(options);
    }
    while !parser.consume_token(&Token::RParen) {
        let found = parser.peek_token();
        let Some((_, mode)) = MODES.iter().find(|(word, _)| eat_word(parser, word)) else {
            return parser.expected("INCLUDING, EXCLUDING or OVERWRITING", found);
        };
        let found = parser.peek_token();
        let Some((_, feature)) = FEATURES.iter().find(|(word, _)| eat_word(parser, word)) else {
            let names: Vec<&str> = FEATURES.iter().map(|(word, _)| *word).collect();
            return parser.expected(&format!("one of {}", names.join(", ")), found);
        };
        options.push((*mode, *feature));
        let _separator = parser.consume_token(&Token::Comma);
    }
    Ok(options)
}

/// Parses the rest of a statement after `ALTER TABLE`.
pub(super) fn alter_table(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let name = tokens::name(parser)?;
    let found = parser.peek_token();
    let change = if parser.parse_keyword(Keyword::SET) {
        TableChange::SetOptions(options(parser)?)
    } else if eat_word(parser, "RESET") {
        parser.expect_token(&Token::LParen)?;
        let keys = parser.parse_comma_separated(|parser| {
            let location = start(&parser.peek_token());
            Ok((string(parser)?, location))
        })?;
        parser.expect_token(&Token::RParen)?;
        TableChange::ResetOptions(keys)
    } else if eat_words(parser, &["RENAME", "TO"]) {
        TableChange::Rename(tokens::name(parser)?)
    } else if eat_word(parser, "RENAME") {
        let from = parser.parse_identifier()?;
        parser.expect_keyword_is(Keyword::TO)?;
        let to = parser.parse_identifier()?;
        TableChange::RenameColumn { from, to }
    } else if eat_word(parser, "ADD") {
        TableChange::Add(Box::new(changed_elements(parser, &name)?))
    } else if eat_word(parser, "MODIFY") {
        TableChange::Modify(Box::new(changed_elements(parser, &name)?))
    } else if eat_words(parser, &["DROP", "WATERMARK"]) {
        TableChange::DropWatermark
    } else if eat_words(parser, &["DROP", "PRIMARY", "KEY"]) || eat_words(parser, &["DROP", "CONSTRAINT"]) {
        if parser.peek_token().token != Token::EOF {
            parser.parse_identifier()?;
        }
        TableChange::DropPrimaryKey
    } else if parser.peek_keyword(Keyword::DROP) && !is_partition(&parser.peek_nth_token(1).token) {
        parser.next_token();
        let parenthesised = parser.consume_token(&Token::LParen);
        let columns = parser.parse_comma_separated(Parser::parse_identifier)?;
        if parenthesised {
            parser.expect_token(&Token::RParen)?;
        }
        TableChange::DropColumns(columns)
    } else {
        return parser.expected(
            "SET (...), RESET (...), RENAME TO, ADD, MODIFY or DROP (partitions and distributions are not altered)",
            found,
        );
    };
    Ok(StatementKind::AlterTable {
        name,
        if_exists,
        change,
    })
}

fn is_partition(token: &Token) -> bool {
    matches!(token, Token::Word(word) if matches!(word.keyword, Keyword::PARTITION | Keyword::IF))
}

/// Parses the columns, watermark and key of `ADD` and `MODIFY`: one, or several in parentheses.
fn changed_elements(parser: &mut Parser, name: &Name) -> Result<TableDeclaration, ParserError> {
    if is_partition(&parser.peek_token().token) {
        return Err(refusal(
            parser,
            "partitions are found and made by the connector: leave this statement out",
        ));
    }
    let mut changed = TableDeclaration::new(name.value().to_owned(), name.place());
    if parser.consume_token(&Token::LParen) {
        elements(parser, &mut changed)?;
        parser.expect_token(&Token::RParen)?;
    } else {
        element(parser, &mut changed)?;
        column_position(parser)?;
    }
    Ok(changed)
}

/// Parses elements of a table, separated by commas.
fn elements(parser: &mut Parser, table: &mut TableDeclaration) -> Result<(), ParserError> {
    loop {
        element(parser, table)?;
        column_position(parser)?;
        if !parser.consume_token(&Token::Comma) {
            return Ok(());
        }
    }
}

/// Refuses `FIRST` and `AFTER column`.
fn column_position(parser: &mut Parser) -> Result<(), ParserError> {
    let at = parser.peek_token();
    let is_position = |word: &str| matches!(&at.token, Token::Word(found) if found.value.eq_ignore_ascii_case(word));
    match is_position("FIRST") || is_position("AFTER") {
        true => Err(refusal(
            parser,
            "positions of columns are not supported: leave FIRST or AFTER out, or create the table in this order",
        )),
        false => Ok(()),
    }
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
        table.primary_key = named(parser.parse_comma_separated(key_column)?);
        parser.expect_token(&Token::RParen)?;
        not_enforced(parser)?;
        return Ok(());
    }
    let mut name = parser.parse_identifier()?;
    // A name that is written as a string has no place of its own.
    name.span = token.span;
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

/// Parses a column of a key. A string is read as a name, too, and has its position.
fn key_column(parser: &mut Parser) -> Result<Ident, ParserError> {
    let span = parser.peek_token_ref().span;
    let name = parser.parse_identifier()?;
    Ok(Ident { span, ..name })
}

fn not_enforced(parser: &mut Parser) -> Result<(), ParserError> {
    if eat_word(parser, "NOT") && !eat_word(parser, "ENFORCED") {
        let found = parser.peek_token();
        return parser.expected("ENFORCED", found);
    }
    Ok(())
}

/// Parses options: `('name' = 'value', ...)`.
pub(super) fn options(parser: &mut Parser) -> Result<Vec<OptionDeclaration>, ParserError> {
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
