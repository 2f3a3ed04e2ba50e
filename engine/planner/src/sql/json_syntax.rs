//! The syntax of SQL/JSON: functions with clauses, constructors, and `IS JSON`.
//!
//! Calls become plain calls: those without clauses of the function itself, others of a function whose name begins with
//! `$`, with the clauses as constant arguments (see [`crate::functions`]).

use datafusion::sql::sqlparser::ast::{Expr, Ident, UnaryOperator};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::ast::{call, text};

mod construction;
mod extraction;

/// Parses the call of one function, from its name on.
type Parse = fn(&mut Parser) -> Result<Expr, ParserError>;

/// The functions whose calls have a syntax of their own.
const FUNCTIONS: &[(&str, Parse)] = &[
    ("JSON_VALUE", extraction::value),
    ("JSON_QUERY", extraction::query),
    ("JSON_EXISTS", extraction::exists),
    ("JSON_OBJECT", construction::object),
    ("JSON_ARRAY", construction::array),
    ("JSON_OBJECTAGG", construction::object_aggregate),
    ("JSON_ARRAYAGG", construction::array_aggregate),
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

/// Returns the name of the function that takes the clauses of another one as arguments.
fn with_clauses(name: &Ident, function: &str) -> Ident {
    Ident::with_span(name.span, function)
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
