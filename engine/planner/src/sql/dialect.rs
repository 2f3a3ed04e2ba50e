//! Flink's dialect for the stock parser: characters of identifiers, `TABLE name [PARTITION BY ...]` as a function's
//! argument, SQL/JSON ([`super::json_syntax`]), and the [`expressions`] that the stock parser does not read.
//!
//! Statements that the stock parser does not know (DDL, `SET`, statement sets) are read by [`super::script`].

use datafusion::sql::sqlparser::ast::{Expr, Ident};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{expressions, json_syntax};
use crate::ast::call;

/// Name of the function that represents `TABLE name` in the parsed tree. Users cannot write it.
pub(crate) const TABLE_ARGUMENT: &str = "$table";

#[derive(Debug)]
pub(crate) struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`' || ch == '"'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn supports_comment_optimizer_hint(&self) -> bool {
        false
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let Token::Word(word) = parser.peek_token().token else {
            return None;
        };
        if word.quote_style.is_some() {
            return None;
        }
        if word.keyword == Keyword::TABLE && parser.peek_nth_token(1).token != Token::LParen {
            return Some(table_argument(parser));
        }
        // Flink's other name of CEIL, which takes a unit too.
        if word.value.eq_ignore_ascii_case("CEILING") && parser.peek_nth_token(1).token == Token::LParen {
            parser.next_token();
            return Some(parser.parse_ceil_floor_expr(true));
        }
        json_syntax::function(parser).or_else(|| expressions::prefix(parser))
    }

    fn parse_infix(&self, parser: &mut Parser, left: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        expressions::infix(parser, left, self.prec_value(Precedence::Eq)).or_else(|| json_syntax::is_json(parser, left))
    }
}

/// Parses `TABLE name [PARTITION BY column, ...]`.
fn table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let span = parser.next_token().span;
    let name = parser.parse_object_name(false)?;
    let mut arguments = vec![Expr::CompoundIdentifier(
        name.0.into_iter().filter_map(|part| part.as_ident().cloned()).collect(),
    )];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        let parenthesised = parser.consume_token(&Token::LParen);
        // The list ends at the next argument of the function, which also follows a comma. As in Flink, several columns
        // need parentheses unless a plain column cannot follow.
        loop {
            arguments.push(column(parser)?);
            if parenthesised {
                if !parser.consume_token(&Token::Comma) {
                    parser.expect_token(&Token::RParen)?;
                    break;
                }
            } else if parser.peek_token().token == Token::Comma && is_plain_column_next(parser) {
                parser.next_token();
            } else {
                break;
            }
        }
    }
    Ok(call(Ident::with_span(span, TABLE_ARGUMENT), arguments))
}

/// Returns true if a column name and another comma follow the comma, rather than `DESCRIPTOR(...)` or `NAME => ...`.
fn is_plain_column_next(parser: &Parser) -> bool {
    matches!(parser.peek_nth_token(1).token, Token::Word(_))
        && matches!(parser.peek_nth_token(2).token, Token::Comma | Token::Period)
}

fn column(parser: &mut Parser) -> Result<Expr, ParserError> {
    let mut parts = vec![parser.parse_identifier()?];
    while parser.consume_token(&Token::Period) {
        parts.push(parser.parse_identifier()?);
    }
    Ok(if parts.len() == 1 {
        Expr::Identifier(parts.remove(0))
    } else {
        Expr::CompoundIdentifier(parts)
    })
}
