//! Parsing of Flink's SQL types into Arrow types.
//!
//! The Arrow types are those of [`millstream_graph::sql_type`]. Lengths and precisions are accepted but not enforced,
//! except those of `DECIMAL`; times with more digits than microseconds are refused. All columns are nullable: `NOT
//! NULL` is accepted and ignored.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_graph::multiset;
use millstream_graph::sql_type::{day_time, timestamp, timestamp_ltz, year_month};

use super::tokens::eat_word;

const NAMES: &[&str] = &[
    "STRING",
    "VARCHAR",
    "CHAR",
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "BYTES",
    "BITMAP",
    "VARBINARY",
    "BINARY",
    "INTERVAL",
    "ARRAY",
    "MAP",
    "MULTISET",
    "ROW",
];

/// Parses a type with a trailing `NULL` or `NOT NULL`.
pub(crate) fn data_type(parser: &mut Parser, depth: usize) -> Result<DataType, ParserError> {
    if depth > 32 {
        return Err(ParserError::RecursionLimitExceeded);
    }
    let token = parser.next_token();
    let Token::Word(word) = &token.token else {
        return parser.expected("a type", token);
    };
    let name = word.value.to_ascii_uppercase();
    let data_type = match name.as_str() {
        "STRING" => DataType::Utf8,
        "VARCHAR" | "CHAR" | "CHARACTER" => {
            eat_word(parser, "VARYING");
            arguments(parser)?;
            DataType::Utf8
        }
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => {
            eat_word(parser, "PRECISION");
            DataType::Float64
        }
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(&arguments(parser)?, &token)?,
        "DATE" => DataType::Date32,
        "TIME" => {
            time_digits(parser, &name, &token)?;
            zone(parser)?;
            DataType::Time64(TimeUnit::Microsecond)
        }
        "TIMESTAMP" => {
            time_digits(parser, &name, &token)?;
            if zone(parser)? { timestamp_ltz() } else { timestamp() }
        }
        "TIMESTAMP_LTZ" => {
            time_digits(parser, &name, &token)?;
            timestamp_ltz()
        }
        "INTERVAL" => interval(parser, &token)?,
        // The sets of BITMAP_BUILD are in the portable format of Roaring bitmaps.
        "BYTES" | "BITMAP" => DataType::Binary,
        "VARBINARY" | "BINARY" => {
            arguments(parser)?;
            DataType::Binary
        }
        "ARRAY" => {
            parser.expect_token(&Token::Lt)?;
            let item = self::data_type(parser, depth + 1)?;
            parser.expect_token(&Token::Gt)?;
            DataType::List(Arc::new(Field::new_list_field(item, true)))
        }
        "MAP" => {
            parser.expect_token(&Token::Lt)?;
            let key = self::data_type(parser, depth + 1)?;
            parser.expect_token(&Token::Comma)?;
            let value = self::data_type(parser, depth + 1)?;
            parser.expect_token(&Token::Gt)?;
            let entries = DataType::Struct(Fields::from(vec![
                Field::new("key", key, false),
                Field::new("value", value, true),
            ]));
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        "MULTISET" => {
            parser.expect_token(&Token::Lt)?;
            let element = self::data_type(parser, depth + 1)?;
            parser.expect_token(&Token::Gt)?;
            multiset::of(element)
        }
        "ROW" => DataType::Struct(row_fields(parser, depth)?),
        "VARIANT" => {
            let at = token.span.start;
            return Err(ParserError::ParserError(format!("{NO_VARIANT}{at}")));
        }
        unknown => {
            let hint = millstream_proto::spec::did_you_mean(unknown, NAMES.iter().copied());
            let at = token.span.start;
            return Err(ParserError::ParserError(format!(
                "unknown type `{}`{hint}{at}",
                word.value
            )));
        }
    };
    if eat_word(parser, "NOT") && !eat_word(parser, "NULL") {
        let found = parser.peek_token();
        return parser.expected("NULL", found);
    }
    eat_word(parser, "NULL");
    Ok(data_type)
}

/// Refusal of a type of Flink that columns do not have here.
pub(super) const NO_VARIANT: &str =
    "the type VARIANT is not supported: store JSON in a STRING, and read it with JSON_VALUE";

/// Parses the fields of a ROW: `<name type ['comment'], ...>`, or the same in parentheses.
fn row_fields(parser: &mut Parser, depth: usize) -> Result<Fields, ParserError> {
    let close = if parser.consume_token(&Token::LParen) {
        Token::RParen
    } else {
        parser.expect_token(&Token::Lt)?;
        Token::Gt
    };
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let name = parser.parse_identifier()?;
        let data_type = data_type(parser, depth + 1)?;
        if matches!(parser.peek_token().token, Token::SingleQuotedString(_)) {
            parser.next_token();
        }
        fields.push(Field::new(name.value, data_type, true));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&close)?;
    Ok(Fields::from(fields))
}

/// Parses `(number, ...)`, if it follows.
fn arguments(parser: &mut Parser) -> Result<Vec<u64>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let numbers = parser.parse_comma_separated(|parser| {
        let token = parser.next_token();
        match &token.token {
            Token::Number(digits, _) => digits
                .parse()
                .or_else(|_| parser.expected("a small number", token.clone())),
            _ => parser.expected("a number", token),
        }
    })?;
    parser.expect_token(&Token::RParen)?;
    Ok(numbers)
}

/// Maximum number of digits of the fraction of a second (microseconds), and the default of a type without a precision,
/// as in Flink.
const TIME_DIGITS_MAX: u64 = 6;

/// Returns the error for a time type with too many digits.
pub(super) fn too_fine(name: &str, digits: u64) -> Option<String> {
    (digits > TIME_DIGITS_MAX).then(|| {
        format!(
            "{name}({digits}) is not supported: times have microseconds, so write {name}({TIME_DIGITS_MAX}) or fewer digits"
        )
    })
}

/// Parses the precision of a time type, if it follows.
fn time_digits(
    parser: &mut Parser,
    name: &str,
    token: &datafusion::sql::sqlparser::tokenizer::TokenWithSpan,
) -> Result<(), ParserError> {
    let digits = arguments(parser)?.first().copied().unwrap_or(TIME_DIGITS_MAX);
    match too_fine(name, digits) {
        Some(message) => Err(ParserError::ParserError(format!("{message}{}", token.span.start))),
        None => Ok(()),
    }
}

/// Units of the types of intervals, from the coarsest to the finest. A type has one unit, or a range of units that are
/// all years and months, or none of them.
const INTERVAL_UNITS: &[&str] = &["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];

/// Parses the units of an interval: `YEAR(4) TO MONTH`, `DAY(2) TO SECOND(3)`, `HOUR`. The number of digits of the
/// first unit is not enforced.
fn interval(
    parser: &mut Parser,
    token: &datafusion::sql::sqlparser::tokenizer::TokenWithSpan,
) -> Result<DataType, ParserError> {
    let first = interval_unit(parser)?;
    let mut last = first;
    let mut digits = arguments(parser)?;
    if eat_word(parser, "TO") {
        last = interval_unit(parser)?;
        digits = arguments(parser)?;
        if last <= first || (first < 2) != (last < 2) {
            return Err(ParserError::ParserError(format!(
                "an INTERVAL from {} to {} is not a type: write INTERVAL YEAR TO MONTH or INTERVAL DAY TO SECOND{}",
                INTERVAL_UNITS[first], INTERVAL_UNITS[last], token.span.start
            )));
        }
    }
    // `SECOND(2, 3)` has the digits of the fraction last, `SECOND(3)` has only those.
    if INTERVAL_UNITS[last] == "SECOND"
        && let Some(message) = digits
            .last()
            .and_then(|digits| too_fine("INTERVAL ... SECOND", *digits))
    {
        return Err(ParserError::ParserError(format!("{message}{}", token.span.start)));
    }
    Ok(if last < 2 { year_month() } else { day_time() })
}

/// Parses a unit of an interval. Returns its index in [`INTERVAL_UNITS`].
fn interval_unit(parser: &mut Parser) -> Result<usize, ParserError> {
    let found = parser.next_token();
    let unit = match &found.token {
        Token::Word(word) => INTERVAL_UNITS
            .iter()
            .position(|unit| word.value.eq_ignore_ascii_case(unit)),
        _ => None,
    };
    match unit {
        Some(unit) => Ok(unit),
        None => parser.expected(
            "a unit of the INTERVAL: YEAR, MONTH, DAY, HOUR, MINUTE or SECOND",
            found,
        ),
    }
}

fn decimal(
    arguments: &[u64],
    token: &datafusion::sql::sqlparser::tokenizer::TokenWithSpan,
) -> Result<DataType, ParserError> {
    let precision = arguments.first().copied().unwrap_or(10);
    let scale = arguments.get(1).copied().unwrap_or(0);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale as u64 <= u64::from(precision) => {
            Ok(DataType::Decimal128(precision, scale))
        }
        _ => Err(ParserError::ParserError(format!(
            "DECIMAL takes a precision of 1 to 38 and a scale no greater than it{}",
            token.span.start
        ))),
    }
}

/// Parses `WITH [LOCAL] TIME ZONE` (true), `WITHOUT TIME ZONE` (false) or nothing (false).
fn zone(parser: &mut Parser) -> Result<bool, ParserError> {
    let with = match &parser.peek_token().token {
        Token::Word(word) if word.value.eq_ignore_ascii_case("WITH") => true,
        Token::Word(word) if word.value.eq_ignore_ascii_case("WITHOUT") => false,
        _ => return Ok(false),
    };
    parser.next_token();
    eat_word(parser, "LOCAL");
    for word in ["TIME", "ZONE"] {
        if !eat_word(parser, word) {
            let found = parser.peek_token();
            return parser.expected(word, found);
        }
    }
    Ok(with)
}
