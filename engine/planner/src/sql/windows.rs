//! Table functions in `FROM`: `UNNEST` ([`unnest`](super::unnest)), and window functions such as `TABLE(TUMBLE(TABLE
//! t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))`.
//!
//! They become [`WindowTableFunction`] nodes over any relation: a table, a view, a `WITH` name or a subquery. The outer
//! `TABLE(...)` is optional, and arguments may be named (`DATA => TABLE t, TIMECOL => ...`).

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::TableReference;
use datafusion::common::{Column, DFSchema, Diagnostic, ExprSchema, Span as DataFusionSpan, plan_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    self, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Spanned,
    TableAlias, TableFactor,
};
use millstream_graph::sql_type;

use super::dialect::TABLE_ARGUMENT;
use super::interval::{self, Span};
use super::{nested_joins, state_ttl, temporal, unnest};
use crate::ast::not_written;
use crate::logical::{StateTtl, WindowFunction, WindowTableFunction};

/// Plans the table functions of a query.
#[derive(Debug)]
pub(crate) struct WindowFunctions;

/// Name of the function that carries the partition columns of a rewritten `GROUP BY SESSION(...)`. Users cannot write
/// it.
pub(crate) const PARTITION_ARGUMENT: &str = "$partition";

/// Returns the names of a function's parameters, in order.
fn parameters(function: &str) -> Option<&'static [&'static str]> {
    Some(match function {
        "TUMBLE" => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
        "HOP" => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        "CUMULATE" => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
        // The last parameter is internal: see `PARTITION_ARGUMENT`.
        "SESSION" => &["DATA", "TIMECOL", "GAP", "$partition"],
        _ => return None,
    })
}

const NAMES: &[&str] = &["TUMBLE", "HOP", "CUMULATE", "SESSION"];

/// Returns true for the names of window table functions.
pub(crate) fn is_window_function(name: &str) -> bool {
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl RelationPlanner for WindowFunctions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let span = relation.span();
        let relation = match nested_joins::plan(relation, context).map_err(|error| placed(error, span))? {
            Ok(plan) => return Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None)))),
            Err(other) => other,
        };
        let (name, arguments, alias) = match relation {
            TableFactor::UNNEST { .. } => {
                let plan = unnest::plan(relation, context).map_err(|error| placed(error, span))?;
                return Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))));
            }
            TableFactor::TableFunction {
                expr:
                    ast::Expr::Function(Function {
                        name,
                        args: FunctionArguments::List(list),
                        ..
                    }),
                alias,
            } => (name, list.args, alias),
            TableFactor::Table {
                name,
                args: Some(arguments),
                alias,
                ..
            } => (name, arguments.args, alias),
            TableFactor::TableFunction { .. } => {
                return Err(placed(
                    plan_datafusion_err!("TABLE(...) takes a window table function: TUMBLE, HOP, CUMULATE or SESSION"),
                    span,
                ));
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = match name.to_string() == state_ttl::FUNCTION {
            true => with_ttl(arguments, context),
            false => window(&name, arguments, context),
        };
        let plan = plan.map_err(|error| placed(error, span))?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// Adds a position to an error that has none.
fn placed(error: DataFusionError, span: datafusion::sql::sqlparser::tokenizer::Span) -> DataFusionError {
    match error {
        error @ DataFusionError::Diagnostic(..) => error,
        error => error.with_diagnostic(Diagnostic::new_error(
            String::new(),
            DataFusionSpan::try_from_sqlparser_span(span),
        )),
    }
}

fn window(
    name: &ObjectName,
    arguments: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let function = name.to_string().to_ascii_uppercase();
    let Some(names) = parameters(&function) else {
        let hint = millstream_proto::spec::did_you_mean(&function, NAMES.iter().copied());
        return Err(plan_datafusion_err!(
            "unknown table function `{name}`{hint}; TUMBLE, HOP, CUMULATE and SESSION are supported"
        ));
    };
    let mut values = by_name(&function, names, arguments)?;
    let mut take = |parameter: &str| {
        let at = names.iter().position(|name| *name == parameter);
        at.and_then(|at| values[at].take())
    };
    let required = |value: Option<ast::Expr>, parameter: &str| {
        value.ok_or_else(|| plan_datafusion_err!("{function} needs {parameter}; it takes ({})", names.join(", ")))
    };
    let (input, mut partition) = data(required(take("DATA"), "DATA")?, context)?;
    let descriptor = descriptor(&function, required(take("TIMECOL"), "TIMECOL")?)?;
    let time_column = column(descriptor, input.schema(), context)?;
    let mut length = |parameter: &str| length(&function, parameter, required(take(parameter), parameter)?);
    let window = match function.as_str() {
        "TUMBLE" => WindowFunction::Tumble {
            size: length("SIZE")?,
            offset: 0,
        },
        "HOP" => WindowFunction::Hop {
            slide: length("SLIDE")?,
            size: length("SIZE")?,
            offset: 0,
        },
        "CUMULATE" => WindowFunction::Cumulate {
            step: length("STEP")?,
            size: length("SIZE")?,
            offset: 0,
        },
        _ => WindowFunction::Session { gap: length("GAP")? },
    };
    let offset = match take("OFFSET") {
        None => 0,
        Some(value) => microseconds(&function, "OFFSET", value)?,
    };
    let window = with_offset(window, offset)?;
    if let Some(ast::Expr::Function(carrier)) = take(PARTITION_ARGUMENT) {
        partition.extend(
            crate::ast::call_parts(&carrier)
                .map(|(_, keys)| keys)
                .unwrap_or_default(),
        );
    }
    if !matches!(window, WindowFunction::Session { .. }) && !partition.is_empty() {
        return Err(plan_datafusion_err!(
            "PARTITION BY belongs to SESSION only: for {function}, group by the columns after it"
        ));
    }
    let partition_by = partition
        .into_iter()
        .map(|key| column(key, input.schema(), context))
        .collect::<Result<Vec<_>>>()?;
    let zone = context.context_provider().options().execution.time_zone.clone();
    node(
        input,
        window,
        time_column,
        partition_by,
        zone.filter(|zone| zone != "UTC"),
    )
}

/// Returns the arguments in the order of the parameters.
fn by_name(function: &str, names: &[&str], arguments: Vec<FunctionArg>) -> Result<Vec<Option<ast::Expr>>> {
    let mut values: Vec<Option<ast::Expr>> = vec![None; names.len()];
    for (position, argument) in arguments.into_iter().enumerate() {
        let (slot, value) = match argument {
            FunctionArg::Unnamed(value) => (position, value),
            FunctionArg::Named { name, arg, .. } => {
                let slot = names.iter().position(|known| known.eq_ignore_ascii_case(&name.value));
                let Some(slot) = slot else {
                    let hint =
                        millstream_proto::spec::did_you_mean(&name.value.to_ascii_uppercase(), names.iter().copied());
                    return Err(plan_datafusion_err!(
                        "{function} has no argument `{name}`{hint}; it takes ({})",
                        names.join(", ")
                    ));
                };
                (slot, arg)
            }
            FunctionArg::ExprNamed { name, .. } => {
                return Err(plan_datafusion_err!(
                    "`{name}` is not the name of an argument of {function}"
                ));
            }
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(plan_datafusion_err!("`*` is not an argument of {function}"));
        };
        match values.get_mut(slot) {
            Some(empty @ None) => *empty = Some(value),
            Some(Some(_)) => {
                return Err(plan_datafusion_err!("{function} is given {} twice", names[slot]));
            }
            None => {
                return Err(plan_datafusion_err!("{function} takes at most ({})", names.join(", ")));
            }
        }
    }
    Ok(values)
}

/// Plans the table function of a `STATE_TTL` hint.
fn with_ttl(arguments: Vec<FunctionArg>, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let (relation, ttl_ms) = state_ttl::arguments(arguments)?;
    let (input, _) = data(relation, context)?;
    let node = Arc::new(StateTtl { input, ttl_ms });
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// Plans the relation given as `TABLE name [PARTITION BY ...]` or as a subquery. Also returns its partition columns.
pub(super) fn data(
    argument: ast::Expr,
    context: &mut dyn RelationPlannerContext,
) -> Result<(LogicalPlan, Vec<ast::Expr>)> {
    match argument {
        ast::Expr::Function(Function {
            name,
            args: FunctionArguments::List(list),
            ..
        }) if name.to_string() == TABLE_ARGUMENT => {
            let mut arguments = list.args.into_iter().filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            });
            let parts = match arguments.next() {
                Some(ast::Expr::CompoundIdentifier(parts)) => parts,
                _ => return Err(plan_datafusion_err!("TABLE needs the name of a table or view")),
            };
            let plan = context.plan(named_table(parts))?;
            Ok((plan, arguments.collect()))
        }
        ast::Expr::Subquery(subquery) => {
            let plan = context.plan(TableFactor::Derived {
                lateral: false,
                subquery,
                alias: None,
                sample: None,
            })?;
            Ok((plan, Vec::new()))
        }
        // A name without the word TABLE, which Flink requires.
        ast::Expr::Identifier(name) => Ok((context.plan(named_table(vec![name]))?, Vec::new())),
        other => Err(plan_datafusion_err!(
            "the first argument of a window table function is `TABLE name`{}",
            not_written(&other)
        )),
    }
}

fn named_table(parts: Vec<Ident>) -> TableFactor {
    TableFactor::Table {
        name: ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect()),
        alias: None::<TableAlias>,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// Returns the column of `DESCRIPTOR(column)`.
fn descriptor(function: &str, argument: ast::Expr) -> Result<ast::Expr> {
    if let ast::Expr::Function(Function {
        name,
        args: FunctionArguments::List(list),
        ..
    }) = &argument
        && name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] = list.args.as_slice()
    {
        return Ok(column.clone());
    }
    Err(plan_datafusion_err!(
        "{function} names its time column as DESCRIPTOR(column){}",
        not_written(&argument)
    ))
}

fn column(expr: ast::Expr, schema: &DFSchema, context: &mut dyn RelationPlannerContext) -> Result<Column> {
    let text = expr.to_string();
    match context.sql_to_expr(expr, schema)? {
        Expr::Column(column) => Ok(column),
        _ => Err(plan_datafusion_err!(
            "`{text}` is not a plain column: compute it in a view or subquery first"
        )),
    }
}

/// Returns a positive length in microseconds.
fn length(function: &str, parameter: &str, value: ast::Expr) -> Result<i64> {
    let text = value.to_string();
    let length = microseconds(function, parameter, value)?;
    if length <= 0 {
        return Err(plan_datafusion_err!(
            "{function}: {parameter} must be greater than zero, not {text}"
        ));
    }
    Ok(length)
}

fn microseconds(function: &str, parameter: &str, value: ast::Expr) -> Result<i64> {
    let value = temporal::literal(value);
    let ast::Expr::Interval(literal) = &value else {
        return Err(plan_datafusion_err!(
            "{function}: {parameter} is an interval, such as INTERVAL '10' SECOND{}",
            not_written(&value)
        ));
    };
    match interval::span(literal).map_err(|message| plan_datafusion_err!("{message}"))? {
        Span::Microseconds(length) => Ok(length),
        Span::Months(_) => Err(plan_datafusion_err!(
            "{function}: {parameter} cannot be counted in months: they differ in length"
        )),
    }
}

/// Applies the offset to the window and checks that its lengths are compatible.
pub(crate) fn with_offset(window: WindowFunction, offset: i64) -> Result<WindowFunction> {
    let offset_in = |length: i64| offset.rem_euclid(length);
    Ok(match window {
        WindowFunction::Tumble { size, .. } => WindowFunction::Tumble {
            size,
            offset: offset_in(size),
        },
        WindowFunction::Hop { size, slide, .. } => {
            if size % slide != 0 {
                return Err(plan_datafusion_err!(
                    "HOP: the size ({} ms) must be a multiple of the slide ({} ms)",
                    size / 1000,
                    slide / 1000
                ));
            }
            WindowFunction::Hop {
                size,
                slide,
                offset: offset_in(slide),
            }
        }
        WindowFunction::Cumulate { size, step, .. } => {
            if size % step != 0 {
                return Err(plan_datafusion_err!(
                    "CUMULATE: the size ({} ms) must be a multiple of the step ({} ms)",
                    size / 1000,
                    step / 1000
                ));
            }
            WindowFunction::Cumulate {
                size,
                step,
                offset: offset_in(size),
            }
        }
        session => session,
    })
}

/// Returns the node, with its three columns after those of its input. `zone` is the session's time zone, unless it is
/// UTC.
fn node(
    input: LogicalPlan,
    window: WindowFunction,
    time_column: Column,
    partition_by: Vec<Column>,
    zone: Option<String>,
) -> Result<LogicalPlan> {
    let time_type = input.schema().field_from_column(&time_column)?.data_type().clone();
    if !matches!(time_type, DataType::Timestamp(..)) {
        return Err(plan_datafusion_err!(
            "`{}` is of type {}: a window needs a TIMESTAMP column with a watermark, or a PROCTIME() column",
            time_column.name,
            sql_type::name(&time_type)
        ));
    }
    let zone = zone.filter(|_| matches!(time_type, DataType::Timestamp(_, Some(_))));
    let mut fields: Vec<(Option<TableReference>, Arc<Field>)> = input
        .schema()
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    for (name, data_type) in [
        ("window_start", sql_type::timestamp()),
        ("window_end", sql_type::timestamp()),
        ("window_time", time_type),
    ] {
        // A window over windowed rows: Flink numbers duplicate names.
        let mut unique = name.to_owned();
        let mut number = 0;
        while fields.iter().any(|(_, field)| field.name() == &unique) {
            unique = format!("{name}{number}");
            number += 1;
        }
        fields.push((None, Arc::new(Field::new(unique, data_type, true))));
    }
    let schema = DFSchema::new_with_metadata(fields, input.schema().as_arrow().metadata().clone())?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(WindowTableFunction {
            input,
            window,
            time_column,
            partition_by,
            zone: zone.map(Arc::from),
            schema: Arc::new(schema),
            keep_all_columns: false,
        }),
    }))
}
