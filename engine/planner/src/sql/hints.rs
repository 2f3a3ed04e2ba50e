//! Hints: comments that start with `+`.
//!
//! `/*+ OPTIONS('key' = 'value') */` after the name of a table changes its options for this use. It becomes part of the
//! parsed query, as a call of [`OPTIONS_ARGUMENT`]; before the query is planned, [`declare_hinted_tables`] replaces the
//! table by a derived one with these options. `/*+ STATE_TTL('relation' = '1 d') */` after `SELECT` is for the operator
//! that reads the relation ([`state_ttl`]). Other hints after `SELECT` choose join algorithms in Flink, and have no
//! effect here.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select,
    TableAlias, TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location as Place, Span, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::dialect::{FlinkDialect, TABLE_ARGUMENT};
use super::state_ttl;
use super::tokens::{line_column, place, start, string};
use crate::ast::{call, call_parts, text};
use crate::catalog::{Catalog, OptionDeclaration, TableDeclaration};
use crate::error::{Error, Location};

/// Name of the function that carries the options of a hint in the parsed tree. Users cannot write it.
const OPTIONS_ARGUMENT: &str = "$options";

/// Hints of Flink that follow `SELECT`.
const QUERY_HINTS: &[&str] = &[
    "BROADCAST",
    "SHUFFLE_HASH",
    "SHUFFLE_MERGE",
    "NEST_LOOP",
    "LOOKUP",
    "MULTI_JOIN",
];

/// The hints of a text.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Options of `OPTIONS` hints, by the position of the table's name before the hint.
    tables: HashMap<Place, Vec<OptionDeclaration>>,
    /// Pairs of `STATE_TTL` hints, by the position of the `SELECT` before the hint.
    selects: HashMap<Place, Vec<OptionDeclaration>>,
    /// Names and positions of hints without an effect.
    pub without_effect: Vec<(String, Location)>,
    pub errors: Vec<Error>,
}

impl Hints {
    /// Reads the hints among the tokens of a text.
    pub(super) fn read(tokens: &[TokenWithSpan]) -> Self {
        let mut hints = Self::default();
        let mut before: Option<&TokenWithSpan> = None;
        for token in tokens {
            match &token.token {
                Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
                    if let Some(hint) = comment.strip_prefix('+') {
                        hints.hint(hint, token, before);
                    }
                }
                Token::Whitespace(_) => {}
                _ => before = Some(token),
            }
        }
        hints
    }

    fn hint(&mut self, hint: &str, token: &TokenWithSpan, before: Option<&TokenWithSpan>) {
        let error = |message: String| Error {
            location: start(token),
            message,
        };
        let items = match parse(hint, token) {
            Ok(items) => items,
            Err(message) => return self.errors.push(error(message)),
        };
        for item in items {
            match item {
                Item::Options(options) => match before {
                    Some(name) if matches!(&name.token, Token::Word(_)) => {
                        self.tables.entry(name.span.start).or_default().extend(options);
                    }
                    _ => self.errors.push(error(MISPLACED.into())),
                },
                Item::StateTtl(pairs) => match before {
                    Some(select) if is_select(select) => {
                        self.selects.entry(select.span.start).or_default().extend(pairs);
                    }
                    _ => self.errors.push(error(MISPLACED_TTL.into())),
                },
                Item::Other(name) if QUERY_HINTS.contains(&name.as_str()) => {
                    self.without_effect.push((name, start(token)));
                }
                Item::Other(name) => {
                    let known = QUERY_HINTS.iter().copied().chain(["OPTIONS", "STATE_TTL"]);
                    let hint = millstream_proto::spec::did_you_mean(&name, known);
                    self.errors.push(error(format!("unknown hint `{name}`{hint}")));
                }
            }
        }
    }

    /// Removes and returns the options of the hint after a name.
    pub(super) fn take(&mut self, name: &Ident) -> Vec<OptionDeclaration> {
        self.tables.remove(&name.span.start).unwrap_or_default()
    }

    /// Parses a query, with the options of its hints.
    pub(super) fn query(&mut self, parser: &mut Parser) -> Result<Box<Query>, ParserError> {
        let mut query = parser.parse_query()?;
        self.attach(query.as_mut());
        Ok(query)
    }

    /// Moves the options of hints into a parsed query.
    pub(super) fn attach(&mut self, parsed: &mut Query) {
        if self.tables.is_empty() && self.selects.is_empty() {
            return;
        }
        match parsed.visit(&mut Attach(self)) {
            ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
        }
    }

    /// Returns the errors of the hints, and of those that belong to no table.
    pub(super) fn into_errors(self) -> Vec<Error> {
        let misplaced = self.tables.into_keys().map(|name| Error {
            location: line_column(name.line, name.column),
            message: MISPLACED.into(),
        });
        let unread = self.selects.into_keys().map(|select| Error {
            location: line_column(select.line, select.column),
            message: MISPLACED_TTL.into(),
        });
        self.errors.into_iter().chain(misplaced).chain(unread).collect()
    }
}

const MISPLACED: &str =
    "an OPTIONS hint belongs directly after the name of a table: `FROM t /*+ OPTIONS('key' = 'value') */ AS a`";

const MISPLACED_TTL: &str = "a STATE_TTL hint belongs directly after SELECT: `SELECT /*+ STATE_TTL('o' = '1 d') */ ... FROM orders AS o JOIN ...`";

fn is_select(token: &TokenWithSpan) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == Keyword::SELECT)
}

enum Item {
    Options(Vec<OptionDeclaration>),
    /// Relations with the time to live of their rows.
    StateTtl(Vec<OptionDeclaration>),
    Other(String),
}

/// Parses `NAME(...), NAME(...)`.
fn parse(hint: &str, token: &TokenWithSpan) -> Result<Vec<Item>, String> {
    let wrong = |found: &dyn std::fmt::Display| {
        format!(
            "this is not a hint such as `/*+ OPTIONS('key' = 'value') */`: {found}; for a comment, write a space before the `+`"
        )
    };
    let tokens = Tokenizer::new(&FlinkDialect, hint)
        .tokenize()
        .map_err(|error| wrong(&error.message))?;
    let mut parser = Parser::new(&FlinkDialect).with_tokens(tokens);
    let mut items = Vec::new();
    while parser.peek_token().token != Token::EOF {
        let name = parser.parse_identifier().map_err(|_| wrong(&"a name is expected"))?;
        let name = name.value.to_ascii_uppercase();
        if name == "OPTIONS" {
            items.push(Item::Options(options(&mut parser, start(token)).map_err(|()| {
                wrong(&"OPTIONS takes pairs such as 'key' = 'value', separated by commas")
            })?));
        } else if name == "STATE_TTL" {
            items.push(Item::StateTtl(options(&mut parser, start(token)).map_err(|()| {
                wrong(&"STATE_TTL takes pairs such as 'relation' = '1 d', separated by commas")
            })?));
        } else {
            skip_arguments(&mut parser);
            items.push(Item::Other(name));
        }
        let _separator = parser.consume_token(&Token::Comma);
    }
    Ok(items)
}

fn options(parser: &mut Parser, location: Location) -> Result<Vec<OptionDeclaration>, ()> {
    let mut options = Vec::new();
    parser.expect_token(&Token::LParen).map_err(drop)?;
    loop {
        let name = string(parser).map_err(drop)?;
        parser.expect_token(&Token::Eq).map_err(drop)?;
        let value = string(parser).map_err(drop)?;
        options.push(OptionDeclaration {
            name,
            value,
            location: location.clone(),
        });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(drop)?;
    Ok(options)
}

fn skip_arguments(parser: &mut Parser) {
    if !parser.consume_token(&Token::LParen) {
        return;
    }
    let mut open = 1;
    while open > 0 {
        match parser.next_token().token {
            Token::LParen => open += 1,
            Token::RParen => open -= 1,
            Token::EOF => return,
            _ => {}
        }
    }
}

struct Attach<'h>(&'h mut Hints);

impl VisitorMut for Attach<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let place = select.select_token.0.span.start;
        if let Some(pairs) = self.0.selects.remove(&place) {
            let errors = state_ttl::attach(select, &pairs);
            self.0.errors.extend(errors);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, with_hints, .. } = factor
            && let Some(ident) = name.0.last().and_then(ObjectNamePart::as_ident)
        {
            let options = self.0.take(ident);
            if !options.is_empty() {
                with_hints.push(carrier(ident.span, &options));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let FunctionArguments::List(list) = &mut function.args
            && function.name.to_string() == TABLE_ARGUMENT
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))) =
                list.args.first()
            && let Some(ident) = parts.last()
        {
            let options = self.0.take(ident);
            if !options.is_empty() {
                let carrier = carrier(ident.span, &options);
                list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(carrier)));
            }
        }
        ControlFlow::Continue(())
    }
}

fn carrier(span: Span, options: &[OptionDeclaration]) -> Expr {
    let pairs = options
        .iter()
        .flat_map(|option| [text(&option.name), text(&option.value)]);
    call(Ident::with_span(span, OPTIONS_ARGUMENT), pairs.collect())
}

/// Returns the options that an expression carries.
fn carried(expr: &Expr) -> Option<Vec<OptionDeclaration>> {
    let Expr::Function(function) = expr else { return None };
    let (name, arguments) = call_parts(function)?;
    if name != OPTIONS_ARGUMENT {
        return None;
    }
    let location = function.name.0.last().and_then(ObjectNamePart::as_ident).map(place);
    let texts: Vec<String> = arguments
        .into_iter()
        .filter_map(|argument| match argument {
            Expr::Value(value) => match value.value {
                Value::SingleQuotedString(text) => Some(text),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let pairs = texts.chunks_exact(2).map(|pair| OptionDeclaration {
        name: pair[0].clone(),
        value: pair[1].clone(),
        location: location.clone().unwrap_or(Location::Unknown),
    });
    Some(pairs.collect())
}

/// Adds a declared table to the catalog.
type Declare<'a> = dyn FnMut(&mut Catalog, TableDeclaration) -> Result<(), Vec<Error>> + 'a;

/// Replaces the tables with `OPTIONS` hints in a query by derived tables with these options, which `declare` adds to
/// the catalog.
pub(crate) fn declare_hinted_tables(
    catalog: &mut Catalog,
    query: &mut Query,
    declare: &mut Declare<'_>,
) -> Result<(), Vec<Error>> {
    let mut replace = Replace {
        catalog,
        declare,
        errors: Vec::new(),
    };
    match query.visit(&mut replace) {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
    }
    if replace.errors.is_empty() {
        Ok(())
    } else {
        Err(replace.errors)
    }
}

struct Replace<'a> {
    catalog: &'a mut Catalog,
    declare: &'a mut Declare<'a>,
    errors: Vec<Error>,
}

impl Replace<'_> {
    /// Returns the name of the derived table, or `None` after an error.
    fn derived(&mut self, ident: &Ident, options: &[OptionDeclaration]) -> Option<String> {
        match hinted_table(self.catalog, ident, options, self.declare) {
            Ok(name) => name,
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }
}

impl VisitorMut for Replace<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name,
            alias,
            with_hints,
            ..
        } = factor
            && let Some(options) = with_hints.first().and_then(carried)
            && let Some(ident) = name.0.last().and_then(ObjectNamePart::as_ident).cloned()
        {
            with_hints.clear();
            if let Some(derived) = self.derived(&ident, &options) {
                *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_span(ident.span, derived))]);
                alias.get_or_insert_with(|| TableAlias {
                    explicit: true,
                    name: ident,
                    columns: Vec::new(),
                    at: None,
                });
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let FunctionArguments::List(list) = &mut function.args
            && function.name.to_string() == TABLE_ARGUMENT
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(last))) = list.args.last()
            && let Some(options) = carried(last)
        {
            list.args.pop();
            if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))) =
                list.args.first_mut()
                && let Some(ident) = parts.last().cloned()
                && let Some(derived) = self.derived(&ident, &options)
            {
                *parts = vec![Ident::with_span(ident.span, derived)];
            }
        }
        ControlFlow::Continue(())
    }
}

/// Returns the name of the table that has the options of another and those of a hint, which take precedence. Equal
/// hints share one. `None` if the table's own declaration failed.
pub(super) fn hinted_table(
    catalog: &mut Catalog,
    table: &Ident,
    options: &[OptionDeclaration],
    declare: &mut Declare<'_>,
) -> Result<Option<String>, Vec<Error>> {
    let error = |message: String| {
        Err(vec![Error {
            location: place(table),
            message,
        }])
    };
    if let Some(connector) = options.iter().find(|option| option.name == "connector") {
        return error(format!(
            "a hint cannot change the connector to '{}': declare another table LIKE `{}`",
            connector.value, table.value
        ));
    }
    let Some(base) = catalog.declarations.get(&table.value) else {
        if catalog.is_broken(&table.value) {
            return Ok(None);
        }
        if catalog.is_step(&table.value) {
            return error(format!(
                "`{}` is a view, and OPTIONS hints are for tables: write the hint inside the view",
                table.value
            ));
        }
        // Planning reports the unknown name.
        return Ok(Some(table.value.clone()));
    };
    let mut derived = base.clone();
    for option in options {
        derived.options.retain(|known| known.name != option.name);
        derived.options.push(option.clone());
    }
    for number in 1.. {
        derived.name = format!("{}#{number}", table.value);
        match catalog.declarations.get(&derived.name) {
            Some(other) if same_options(&other.options, &derived.options) => return Ok(Some(derived.name)),
            Some(_) => {}
            None if catalog.contains(&derived.name) => {}
            None => break,
        }
    }
    let name = derived.name.clone();
    declare(catalog, derived).map(|()| Some(name))
}

fn same_options(left: &[OptionDeclaration], right: &[OptionDeclaration]) -> bool {
    let has = |options: &[OptionDeclaration], wanted: &OptionDeclaration| {
        options
            .iter()
            .any(|option| option.name == wanted.name && option.value == wanted.value)
    };
    left.len() == right.len() && left.iter().all(|option| has(right, option))
}
