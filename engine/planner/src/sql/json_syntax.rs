//! The syntax of SQL/JSON: functions with clauses, constructors, and `IS JSON`.
//!
//! Calls become plain calls: those without clauses of the function itself, others of a function whose name begins with
//! `$`, with the clauses as constant arguments (see [`crate::functions`]).

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, Expr, FunctionArguments, Ident, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::ast::{call, text};

/// Parses the call of one function, from its name on.
type Parse = fn(&mut Parser) -> Result<Expr, ParserError>;

/// The functions whose calls have a syntax of their own.
const FUNCTIONS: &[(&str, Parse)] = &[
    ("JSON_VALUE", value),
    ("JSON_QUERY", query),
    ("JSON_EXISTS", exists),
    ("JSON_OBJECT", object),
    ("JSON_ARRAY", array),
    ("JSON_OBJECTAGG", object_aggregate),
    ("JSON_ARRAYAGG", array_aggregate),
];

/// Functions whose results are JSON already, so that constructors nest them instead of quoting them.
const CONSTRUCTORS: &[&str] = &[
    "$json_object",
    "$json_array",
    "$json_objectagg",
    "$json_arrayagg",
    "json",
];

/// Parses the call of a function with a syntax of its own, if a name of one and a parenthesis are next.
pub(super) fn function(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let Token::Word(word) = parser.peek_token().token else {
        return None;
    };
    let (_, parse) = FUNCTIONS
        .iter()
        .find(|(name, _)| word.value.eq_ignore_ascii_case(name))?;
    (parser.peek_nth_token(1).token == Token::LParen).then(|| parse(parser))
}

/// Parses `IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]` after an expression, if it is next.
pub(super) fn is_json(parser: &mut Parser, left: &Expr) -> Option<Result<Expr, ParserError>> {
    let is_negated = if parser.parse_keywords(&[Keyword::IS, Keyword::JSON]) {
        false
    } else if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::JSON]) {
        true
    } else {
        return None;
    };
    let mut arguments = vec![left.clone()];
    for kind in ["VALUE", "SCALAR", "ARRAY", "OBJECT"] {
        if word(parser, kind) {
            arguments.push(text(kind.to_ascii_lowercase()));
            break;
        }
    }
    let test = call(Ident::new("is_json"), arguments);
    Some(Ok(match is_negated {
        false => test,
        true => Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(test),
        },
    }))
}

/// Returns true if a token is an unquoted word, in any case.
fn is_word(token: &Token, wanted: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}

/// Takes the next token if it is this word.
fn word(parser: &mut Parser, wanted: &str) -> bool {
    let is_next = is_word(&parser.peek_token().token, wanted);
    if is_next {
        parser.next_token();
    }
    is_next
}

/// Takes the next tokens if they are these words.
fn words(parser: &mut Parser, wanted: &[&str]) -> bool {
    let is_next = wanted
        .iter()
        .enumerate()
        .all(|(index, wanted)| is_word(&parser.peek_nth_token(index).token, wanted));
    if is_next {
        for _ in wanted {
            parser.next_token();
        }
    }
    is_next
}

fn refuse<T>(parser: &Parser, message: &str) -> Result<T, ParserError> {
    let at = parser.peek_token().span.start;
    Err(ParserError::ParserError(format!("{message}{at}")))
}

fn expect_word(parser: &mut Parser, wanted: &str) -> Result<(), ParserError> {
    match word(parser, wanted) {
        true => Ok(()),
        false => {
            let found = parser.peek_token();
            parser.expected(wanted, found)
        }
    }
}

/// Parses the name of a function, a text and a path.
fn name_text_path(parser: &mut Parser) -> Result<(Ident, Vec<Expr>), ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let arguments = parser.parse_comma_separated(Parser::parse_expr)?;
    Ok((name, arguments))
}

/// Returns the name of the function that takes the clauses of another one as arguments.
fn with_clauses(name: &Ident, function: &str) -> Ident {
    Ident::with_span(name.span, function)
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
fn value(parser: &mut Parser) -> Result<Expr, ParserError> {
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
fn query(parser: &mut Parser) -> Result<Expr, ParserError> {
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
fn exists(parser: &mut Parser) -> Result<Expr, ParserError> {
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
fn object(parser: &mut Parser) -> Result<Expr, ParserError> {
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
fn array(parser: &mut Parser) -> Result<Expr, ParserError> {
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
fn object_aggregate(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let [key, value] = key_and_value(parser, |parser| parser.parse_expr())?;
    let mode = on_null(parser).unwrap_or("null");
    let member = call(Ident::new("$json_member"), vec![text(mode), key, value]);
    let members = array_agg(parser, &name, member)?;
    Ok(call(with_clauses(&name, "$json_objectagg"), vec![members]))
}

/// Parses `JSON_ARRAYAGG(value [{NULL | ABSENT} ON NULL]) [FILTER (WHERE condition)]`.
fn array_aggregate(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let value = json_of(parser)?;
    let mode = on_null(parser).unwrap_or("absent");
    let elements = array_agg(parser, &name, value)?;
    Ok(call(with_clauses(&name, "$json_arrayagg"), vec![text(mode), elements]))
}

#[cfg(test)]
mod tests {
    use super::FUNCTIONS;
    use crate::functions::Functions;

    #[test]
    fn functions_with_a_syntax_are_registered() {
        for (name, _) in FUNCTIONS {
            assert!(Functions::all().contains(&name.to_ascii_lowercase()), "{name}");
        }
    }
}
