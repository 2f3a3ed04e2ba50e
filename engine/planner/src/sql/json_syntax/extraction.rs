//! Calls of `JSON_VALUE`, `JSON_QUERY` and `JSON_EXISTS`.

use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, CastKind, DataType, Expr, Ident, Value};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{expect_word, refuse, with_clauses, word, words};
use crate::ast::{call, text};

/// Parses the name of a function, a text and a path.
fn name_text_path(parser: &mut Parser) -> Result<(Ident, Vec<Expr>), ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let arguments = parser.parse_comma_separated(Parser::parse_expr)?;
    Ok((name, arguments))
}

/// A moment at which a function has no value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Empty,
    Error,
}

/// Parses the end of `NULL ON EMPTY` or `NULL ON ERROR`.
fn moment(parser: &mut Parser) -> Result<Moment, ParserError> {
    parser.expect_keyword_is(Keyword::ON)?;
    if word(parser, "EMPTY") {
        return Ok(Moment::Empty);
    }
    if word(parser, "ERROR") {
        return Ok(Moment::Error);
    }
    let found = parser.peek_token();
    parser.expected("EMPTY or ERROR", found)
}

/// A clause `behaviour [value] ON EMPTY` or `... ON ERROR`.
struct Clause {
    behaviour: &'static str,
    default: Option<Expr>,
}

/// The clauses of a call. Without a clause, a missing value is NULL.
#[derive(Default)]
struct Clauses {
    on_empty: Option<Clause>,
    on_error: Option<Clause>,
}

impl Clauses {
    /// Parses one clause, if one of `behaviours` is next.
    fn parse(&mut self, parser: &mut Parser, behaviours: &[&'static str]) -> Result<bool, ParserError> {
        for behaviour in behaviours {
            let parts: Vec<&str> = behaviour.split(' ').collect();
            if !words(parser, &parts) {
                continue;
            }
            let default = match *behaviour {
                "default" => Some(parser.parse_expr()?),
                _ => None,
            };
            let moment = moment(parser)?;
            let clause = match moment {
                Moment::Empty => &mut self.on_empty,
                Moment::Error => &mut self.on_error,
            };
            if clause.replace(Clause { behaviour, default }).is_some() {
                return refuse(parser, "ON EMPTY and ON ERROR can be written once each");
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns true if all clauses are the defaults.
    fn are_default(&self) -> bool {
        let is_default = |clause: &Option<Clause>| clause.as_ref().is_none_or(|clause| clause.behaviour == "null");
        is_default(&self.on_empty) && is_default(&self.on_error)
    }
}

fn null_of(data_type: DataType) -> Expr {
    cast(CastKind::Cast, Expr::value(Value::Null), data_type)
}

fn cast(kind: CastKind, expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast {
        kind,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

/// Parses `JSON_VALUE(text, path [RETURNING type] [{NULL | ERROR | DEFAULT value} ON {EMPTY | ERROR}] ...)`.
pub(super) fn value(parser: &mut Parser) -> Result<Expr, ParserError> {
    let (name, arguments) = name_text_path(parser)?;
    let mut returning = None;
    let mut clauses = Clauses::default();
    loop {
        if word(parser, "RETURNING") {
            returning = Some(parser.parse_data_type()?);
        } else if !clauses.parse(parser, &["null", "error", "default"])? {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    if clauses.are_default() {
        let function = call(name, arguments);
        return Ok(match returning {
            None => function,
            Some(data_type) => cast(CastKind::TryCast, function, data_type),
        });
    }
    let mut arguments = arguments;
    for clause in [clauses.on_empty, clauses.on_error] {
        let (behaviour, default) = clause.map_or(("null", None), |clause| (clause.behaviour, clause.default));
        arguments.push(text(behaviour));
        arguments.push(default.unwrap_or(Expr::value(Value::Null)));
    }
    arguments.push(null_of(returning.unwrap_or(DataType::String(None))));
    Ok(call(with_clauses(&name, "$json_value"), arguments))
}

/// Parses `JSON_QUERY(text, path [RETURNING type] [... WRAPPER] [{NULL | ERROR | EMPTY ARRAY | EMPTY OBJECT} ON ...])`.
pub(super) fn query(parser: &mut Parser) -> Result<Expr, ParserError> {
    let (name, mut arguments) = name_text_path(parser)?;
    let (mut wrapper, mut returns_elements) = ("without", false);
    let mut clauses = Clauses::default();
    loop {
        if word(parser, "RETURNING") {
            let at = parser.peek_token();
            returns_elements = match parser.parse_data_type()? {
                DataType::Array(ArrayElemTypeDef::AngleBracket(element)) if is_string(&element) => true,
                DataType::Array(_) => {
                    return refuse_at(
                        &at,
                        "JSON_QUERY returns ARRAY<STRING>: CAST its result to another array",
                    );
                }
                other if is_string(&other) => false,
                _ => return refuse_at(&at, "JSON_QUERY returns STRING or ARRAY<STRING>: CAST its result"),
            };
        } else if word(parser, "WITHOUT") {
            word(parser, "ARRAY");
            expect_word(parser, "WRAPPER")?;
            wrapper = "without";
        } else if word(parser, "WITH") {
            wrapper = match word(parser, "CONDITIONAL") {
                true => "conditional",
                false => {
                    word(parser, "UNCONDITIONAL");
                    "unconditional"
                }
            };
            word(parser, "ARRAY");
            expect_word(parser, "WRAPPER")?;
        } else if !clauses.parse(parser, &["null", "error", "empty array", "empty object"])? {
            break;
        }
    }
    let has_object = [&clauses.on_empty, &clauses.on_error]
        .into_iter()
        .flatten()
        .any(|clause| clause.behaviour == "empty object");
    if returns_elements && has_object {
        return refuse(
            parser,
            "EMPTY OBJECT is not an ARRAY<STRING>: write EMPTY ARRAY or NULL",
        );
    }
    parser.expect_token(&Token::RParen)?;
    if clauses.are_default() && wrapper == "without" && !returns_elements {
        return Ok(call(name, arguments));
    }
    arguments.push(text(wrapper));
    for clause in [clauses.on_empty, clauses.on_error] {
        arguments.push(text(clause.map_or("null", |clause| clause.behaviour)));
    }
    let function = match returns_elements {
        true => "$json_elements",
        false => "$json_query",
    };
    Ok(call(with_clauses(&name, function), arguments))
}

fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::String(_) | DataType::Varchar(_))
}

fn refuse_at<T>(token: &TokenWithSpan, message: &str) -> Result<T, ParserError> {
    Err(ParserError::ParserError(format!("{message}{}", token.span.start)))
}

/// Parses `JSON_EXISTS(text, path [{TRUE | FALSE | UNKNOWN | ERROR} ON ERROR])`.
pub(super) fn exists(parser: &mut Parser) -> Result<Expr, ParserError> {
    let (name, mut arguments) = name_text_path(parser)?;
    let mut on_error = None;
    for (written, behaviour) in [
        ("TRUE", "true"),
        ("FALSE", "false"),
        ("UNKNOWN", "null"),
        ("ERROR", "error"),
    ] {
        if words(parser, &[written, "ON", "ERROR"]) {
            on_error = Some(behaviour);
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(match on_error {
        None => call(name, arguments),
        Some(behaviour) => {
            arguments.push(text(behaviour));
            call(with_clauses(&name, "$json_exists"), arguments)
        }
    })
}
