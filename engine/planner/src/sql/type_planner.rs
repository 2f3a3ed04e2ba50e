//! Types that are written outside of DDL: in a spec's `columns:`, and in `CAST(... AS type)`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use millstream_graph::sql_type::{timestamp, timestamp_ltz};

use super::dialect::FlinkDialect;
use super::{tokens, types};

/// Parses a type, as in a spec's `columns:`.
pub(crate) fn parse(text: &str) -> Result<DataType, String> {
    let tokens = Tokenizer::new(&FlinkDialect, text)
        .tokenize_with_location()
        .map_err(|error| error.message)?;
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(tokens::brackets(tokens));
    let parsed = types::data_type(&mut parser, 0).and_then(|parsed| match parser.peek_token() {
        rest if rest.token == Token::EOF => Ok(parsed),
        rest => parser.expected("the end of the type", rest),
    });
    parsed.map_err(|error| tokens::syntax_error(error, crate::Location::Unknown, crate::Location::Unknown).message)
}

/// Converts the types of `CAST(... AS type)`, which the stock parser reads.
#[derive(Debug)]
pub(crate) struct FlinkTypes;

impl TypePlanner for FlinkTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        use ast::DataType as Sql;
        let too_fine = match sql_type {
            Sql::Timestamp(Some(digits), _) | Sql::Datetime(Some(digits)) => types::too_fine("TIMESTAMP", *digits),
            Sql::TimestampNtz(Some(digits)) => types::too_fine("TIMESTAMP_LTZ", *digits),
            Sql::Time(Some(digits), _) => types::too_fine("TIME", *digits),
            _ => None,
        };
        if let Some(message) = too_fine {
            return datafusion::common::plan_err!("{message}");
        }
        let data_type = match sql_type {
            // Nested types, and those that the stock parser does not know, are parsed again by [`parse`].
            Sql::Timestamp(_, ast::TimezoneInfo::WithTimeZone) | Sql::TimestampNtz(_) => timestamp_ltz(),
            Sql::Timestamp(..) | Sql::Datetime(_) => timestamp(),
            Sql::Time(..) => DataType::Time64(TimeUnit::Microsecond),
            Sql::String(_)
            | Sql::Varchar(_)
            | Sql::Char(_)
            | Sql::Character(_)
            | Sql::CharacterVarying(_)
            | Sql::CharVarying(_)
            | Sql::Text => DataType::Utf8,
            Sql::Bytes(_) | Sql::Varbinary(_) | Sql::Binary(_) => DataType::Binary,
            Sql::Float(_) | Sql::Real => DataType::Float32,
            other => match parse(&other.to_string()) {
                Ok(data_type) => data_type,
                Err(message) => return datafusion::common::plan_err!("{message}"),
            },
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}
