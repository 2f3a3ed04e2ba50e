//! Calls of `JSON_OBJECT`, `JSON_ARRAY`, `JSON_OBJECTAGG` and `JSON_ARRAYAGG`.

use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{expect_word, is_word, refuse, with_clauses, words};
use crate::ast::{call, text};

/// Functions whose results are JSON already, so that constructors nest them instead of quoting them.
const CONSTRUCTORS: &[&str] = &[
    "$json_object",
    "$json_array",
    "$json_objectagg",
    "$json_arrayagg",
    "json",
];

/// Parses a value of a constructor, and returns it as JSON.
fn json_of(parser: &mut Parser) -> Result<Expr, ParserError> {
    let value = parser.parse_expr()?;
    let is_json = match &value {
        Expr::Function(function) => CONSTRUCTORS
            .iter()
            .any(|name| function.name.to_string().eq_ignore_ascii_case(name)),
        _ => false,
    };
    Ok(match is_json {
        true => value,
        false => call(Ident::new("json_string"), vec![value]),
    })
}

/// Parses `NULL ON NULL` or `ABSENT ON NULL`, if one is next.
fn on_null(parser: &mut Parser) -> Option<&'static str> {
    ["null", "absent"]
        .into_iter()
        .find(|mode| words(parser, &[mode, "ON", "NULL"]))
}

/// Parses `[KEY] key VALUE value` or `key : value`.
fn key_and_value(
    parser: &mut Parser,
    key: fn(&mut Parser) -> Result<Expr, ParserError>,
) -> Result<[Expr; 2], ParserError> {
    let is_keyword = is_word(&parser.peek_token().token, "KEY")
        && !is_word(&parser.peek_nth_token(1).token, "VALUE")
        && !matches!(parser.peek_nth_token(1).token, Token::Colon | Token::Period);
    if is_keyword {
        parser.next_token();
    }
    let key = key(parser)?;
    if !parser.consume_token(&Token::Colon) {
        expect_word(parser, "VALUE")?;
    }
    Ok([key, json_of(parser)?])
}

/// Parses `JSON_OBJECT([[KEY] 'key' VALUE value, ...] [{NULL | ABSENT} ON NULL])`.
pub(super) fn object(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let mut members = Vec::new();
    let mut mode = on_null(parser);
    if mode.is_none() && parser.peek_token().token != Token::RParen {
        loop {
            members.extend(key_and_value(parser, |parser| match parser.peek_token().token {
                Token::SingleQuotedString(key) => {
                    parser.next_token();
                    Ok(text(key))
                }
                _ => refuse(parser, "a key of JSON_OBJECT is a string, such as KEY 'name' VALUE x"),
            })?);
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        mode = on_null(parser);
    }
    parser.expect_token(&Token::RParen)?;
    let mut arguments = vec![text(mode.unwrap_or("null"))];
    arguments.extend(members);
    Ok(call(with_clauses(&name, "$json_object"), arguments))
}

/// Parses `JSON_ARRAY([value, ...] [{NULL | ABSENT} ON NULL])`.
pub(super) fn array(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let mut elements = Vec::new();
    let mut mode = on_null(parser);
    if mode.is_none() && parser.peek_token().token != Token::RParen {
        elements = parser.parse_comma_separated(json_of)?;
        mode = on_null(parser);
    }
    parser.expect_token(&Token::RParen)?;
    let mut arguments = vec![text(mode.unwrap_or("absent"))];
    arguments.extend(elements);
    Ok(call(with_clauses(&name, "$json_array"), arguments))
}

/// Parses the rest of an aggregate's call, and returns `ARRAY_AGG` of its values.
fn array_agg(parser: &mut Parser, name: &Ident, value: Expr) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::RParen)?;
    let mut aggregate = call(with_clauses(name, "array_agg"), vec![value]);
    if let Expr::Function(function) = &mut aggregate
        && parser.parse_keyword(Keyword::FILTER)
    {
        parser.expect_token(&Token::LParen)?;
        parser.expect_keyword_is(Keyword::WHERE)?;
        function.filter = Some(Box::new(parser.parse_expr()?));
        parser.expect_token(&Token::RParen)?;
        debug_assert!(matches!(function.args, FunctionArguments::List(_)));
    }
    if parser.peek_keyword(Keyword::OVER) {
        return refuse(
            parser,
            "JSON aggregates are not supported with OVER: use GROUP BY with a window",
        );
    }
    Ok(aggregate)
}

/// Parses `JSON_OBJECTAGG([KEY] key VALUE value [{NULL | ABSENT} ON NULL]) [FILTER (WHERE condition)]`.
pub(super) fn object_aggregate(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let [key, value] = key_and_value(parser, |parser| parser.parse_expr())?;
    let mode = on_null(parser).unwrap_or("null");
    let member = call(Ident::new("$json_member"), vec![text(mode), key, value]);
    let members = array_agg(parser, &name, member)?;
    Ok(call(with_clauses(&name, "$json_objectagg"), vec![members]))
}

/// Parses `JSON_ARRAYAGG(value [{NULL | ABSENT} ON NULL]) [FILTER (WHERE condition)]`.
pub(super) fn array_aggregate(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let value = json_of(parser)?;
    let mode = on_null(parser).unwrap_or("absent");
    let elements = array_agg(parser, &name, value)?;
    Ok(call(with_clauses(&name, "$json_arrayagg"), vec![text(mode), elements]))
}
