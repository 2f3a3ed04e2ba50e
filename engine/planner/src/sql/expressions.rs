//! Expressions of Flink that the stock parser does not read, or reads differently: casts to nested types, `MAP[...]`,
//! `BETWEEN SYMMETRIC`, `IS DISTINCT FROM` and `CASE` with lists.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, Ident, ObjectName, UnaryOperator,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::tokens::{eat_word, refusal};
use super::types;
use crate::ast::call;

/// Words that begin a type which only [`types`] parses.
const OWN_TYPES: &[&str] = &["ARRAY", "MAP", "ROW", "MULTISET", "INTERVAL"];

/// Parses an expression that begins with the next word, if it is one of this module.
pub(super) fn prefix(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let Token::Word(word) = parser.peek_token().token else {
        return None;
    };
    if word.quote_style.is_some() {
        return None;
    }
    let next = parser.peek_nth_token(1).token;
    match word.value.to_ascii_uppercase().as_str() {
        "CAST" if next == Token::LParen => Some(cast(parser, CastKind::Cast)),
        "TRY_CAST" if next == Token::LParen => Some(cast(parser, CastKind::TryCast)),
        "MAP" if next == Token::LBracket => Some(map(parser)),
        "CASE" => Some(case(parser)),
        _ => None,
    }
}

/// Parses `CASE [value] WHEN a [, b ...] THEN result ... [ELSE result] END`. A list is the same as a `WHEN` for each of
/// its values.
fn case(parser: &mut Parser) -> Result<Expr, ParserError> {
    let case_token = AttachedToken(parser.next_token());
    let operand = match parser.peek_keyword(Keyword::WHEN) {
        true => None,
        false => Some(Box::new(parser.parse_expr()?)),
    };
    let mut conditions = Vec::new();
    while parser.parse_keyword(Keyword::WHEN) {
        let values = match operand {
            Some(_) => parser.parse_comma_separated(Parser::parse_expr)?,
            None => vec![parser.parse_expr()?],
        };
        parser.expect_keyword_is(Keyword::THEN)?;
        let result = parser.parse_expr()?;
        conditions.extend(values.into_iter().map(|condition| CaseWhen {
            condition,
            result: result.clone(),
        }));
    }
    if conditions.is_empty() {
        let found = parser.peek_token();
        return parser.expected("WHEN", found);
    }
    let else_result = match parser.parse_keyword(Keyword::ELSE) {
        true => Some(Box::new(parser.parse_expr()?)),
        false => None,
    };
    let end_token = AttachedToken(parser.expect_keyword(Keyword::END)?);
    Ok(Expr::Case {
        case_token,
        end_token,
        operand,
        conditions,
        else_result,
    })
}

/// Parses `CAST(value AS type)`.
fn cast(parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
    parser.next_token();
    parser.expect_token(&Token::LParen)?;
    let value = parser.parse_expr()?;
    parser.expect_keyword_is(Keyword::AS)?;
    let data_type = data_type(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Cast {
        kind,
        expr: Box::new(value),
        data_type,
        array: false,
        format: None,
    })
}

/// Parses a type. A nested one or interval is kept as its text, which the type planner reads.
fn data_type(parser: &mut Parser) -> Result<DataType, ParserError> {
    if let Token::Word(word) = &parser.peek_token().token
        && word.value.eq_ignore_ascii_case("VARIANT")
    {
        return Err(refusal(parser, types::NO_VARIANT));
    }
    let is_own = matches!(&parser.peek_token().token, Token::Word(word)
        if OWN_TYPES.iter().any(|name| word.value.eq_ignore_ascii_case(name)));
    let mut data_type = match is_own {
        true => {
            let start = parser.index();
            types::data_type(parser, 0)?;
            let tokens = (start..parser.index()).map(|index| parser.token_at(index).token.to_string());
            named(tokens.collect::<Vec<_>>().join(" "))
        }
        false => parser.parse_data_type()?,
    };
    // `INT ARRAY` is another spelling of `ARRAY<INT>`, and `INT MULTISET` of `MULTISET<INT>`.
    loop {
        let collection = ["ARRAY", "MULTISET"].into_iter().find(|name| eat_word(parser, name));
        let Some(collection) = collection else { break };
        data_type = named(format!("{collection}<{data_type}>"));
    }
    Ok(data_type)
}

fn named(text: String) -> DataType {
    DataType::Custom(ObjectName::from(vec![Ident::new(text)]), Vec::new())
}

/// Parses `MAP[key, value, ...]`.
fn map(parser: &mut Parser) -> Result<Expr, ParserError> {
    let span = parser.next_token().span;
    parser.expect_token(&Token::LBracket)?;
    let entries = parser.parse_comma_separated(Parser::parse_expr)?;
    let end = parser.expect_token(&Token::RBracket)?;
    if entries.len() % 2 == 1 {
        return Err(ParserError::ParserError(format!(
            "MAP[...] takes a value for each key: MAP[key, value, ...]{}",
            end.span.start
        )));
    }
    Ok(call(Ident::with_span(span, "$map"), entries))
}

/// Parses what follows an operand, if it is an operator of this module. The precedence is that of `=`.
pub(super) fn infix(parser: &mut Parser, left: &Expr, equality_precedence: u8) -> Option<Result<Expr, ParserError>> {
    if let Some(distinct) = is_distinct_from(parser) {
        // The stock parser would take everything that follows as the right side, including `AND` and `OR`.
        let right = parser.parse_subexpr(equality_precedence);
        return Some(right.map(|right| distinct(Box::new(left.clone()), Box::new(right))));
    }
    let is_word = |parser: &Parser, index: usize, expected: &str| {
        matches!(&parser.peek_nth_token(index).token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
    };
    let negated = is_word(parser, 0, "NOT");
    let between = usize::from(negated);
    let is_symmetric = is_word(parser, between + 1, "SYMMETRIC");
    if !is_word(parser, between, "BETWEEN") || !(is_symmetric || is_word(parser, between + 1, "ASYMMETRIC")) {
        return None;
    }
    for _ in 0..between + 2 {
        parser.next_token();
    }
    Some(
        parser
            .parse_between(left.clone(), negated)
            .map(|between| match is_symmetric {
                true => symmetric(between),
                false => between,
            }),
    )
}

/// An operator of two expressions.
type Operator = fn(Box<Expr>, Box<Expr>) -> Expr;

/// Parses `IS [NOT] DISTINCT FROM`, if it follows.
fn is_distinct_from(parser: &mut Parser) -> Option<Operator> {
    if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
        Some(Expr::IsDistinctFrom)
    } else if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
        Some(Expr::IsNotDistinctFrom)
    } else {
        None
    }
}

/// Returns `x BETWEEN a AND b OR x BETWEEN b AND a`, negated if the given expression is.
fn symmetric(between: Expr) -> Expr {
    let Expr::Between {
        expr,
        negated,
        low,
        high,
    } = between
    else {
        return between;
    };
    let either = |low: &Expr, high: &Expr| Expr::Between {
        expr: expr.clone(),
        negated: false,
        low: Box::new(low.clone()),
        high: Box::new(high.clone()),
    };
    let both = Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(either(&low, &high)),
        op: BinaryOperator::Or,
        right: Box::new(either(&high, &low)),
    }));
    match negated {
        true => Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(both),
        },
        false => both,
    }
}
