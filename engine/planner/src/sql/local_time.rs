//! Expressions of `TIMESTAMP_LTZ` values in a session time zone other than UTC.
//!
//! A `TIMESTAMP_LTZ` is an instant. Wherever its local time matters, the conversion becomes a part of the plan: in
//! casts between instants and other types, and in functions that compute with dates and hours. In UTC, both are the
//! same numbers, and plans stay as they are.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Function, FunctionArguments, Ident};
use datafusion::sql::sqlparser::tokenizer::Span;
use millstream_graph::sql_type::{self, timestamp, timestamp_ltz};

use crate::ast::{call_parts, text};
use crate::functions::{self, Functions, LocalTime};

/// Returns the call that a call of a lower-case name stands for in a time zone, or `None` if the function does not
/// depend on it, or is rewritten once types are known.
pub(super) fn call(name: &str, function: &Function, zone: &str, span: Span) -> Option<SqlExpr> {
    let has_arguments = match &function.args {
        FunctionArguments::None => false,
        FunctionArguments::List(list) => !list.args.is_empty(),
        FunctionArguments::Subquery(_) => true,
    };
    match name {
        _ if !has_arguments => {
            let now = crate::ast::call(Ident::with_span(span, "now"), Vec::new());
            functions::local_value(name, now)
        }
        "from_unixtime" | "unix_timestamp" => {
            let (_, mut arguments) = call_parts(function)?;
            if !(1..=2).contains(&arguments.len()) {
                return None;
            }
            if arguments.len() == 1 {
                arguments.push(text("yyyy-MM-dd HH:mm:ss"));
            }
            arguments.push(text(zone));
            let name = format!("${name}_in");
            Some(crate::ast::call(Ident::with_span(span, name), arguments))
        }
        _ => None,
    }
}

/// Makes the conversions of a coerced plan explicit.
pub(super) fn rewrite(plan: LogicalPlan, zone: &str) -> Result<Transformed<LogicalPlan>> {
    let mut schema = DFSchema::empty();
    for input in plan.inputs() {
        schema.merge(input.schema());
    }
    let preserver = NamePreserver::new(&plan);
    let transformed = plan.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let expr = expr.transform_up(|expr| match expr {
            Expr::Cast(Cast { expr: inner, field }) => {
                converted(*inner, field.data_type(), &schema, zone, |inner, data_type| {
                    Ok(Expr::Cast(Cast::new(Box::new(inner), data_type)))
                })
            }
            Expr::TryCast(TryCast { expr: inner, field }) => {
                converted(*inner, field.data_type(), &schema, zone, |inner, data_type| {
                    Ok(Expr::TryCast(TryCast::new(Box::new(inner), data_type)))
                })
            }
            Expr::ScalarFunction(mut call) if functions::is_explicit_cast(call.func.name()) => {
                let (to, inner) = (call.args.pop(), call.args.pop());
                let Some((to, inner)) = to.zip(inner) else {
                    return plan_err!("a cast has no type");
                };
                converted(inner, &to.get_type(&schema)?, &schema, zone, |inner, data_type| {
                    let to = Expr::Literal(ScalarValue::try_from(&data_type)?, None);
                    Ok(call.func.call(vec![inner, to]))
                })
            }
            Expr::ScalarFunction(function) => in_local_time(function, &schema, zone),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    match transformed.transformed {
        true => transformed.map_data(LogicalPlan::recompute_schema),
        false => Ok(transformed),
    }
}

/// Returns a cast with the conversion between instants and local times that it comprises.
fn converted(
    inner: Expr,
    to: &DataType,
    schema: &DFSchema,
    zone: &str,
    cast: impl Fn(Expr, DataType) -> Result<Expr>,
) -> Result<Transformed<Expr>> {
    let from = inner.get_type(schema)?;
    let of_type = |expr: Expr, found: &DataType, wanted: &DataType| match found == wanted {
        true => Ok(expr),
        false => cast(expr, wanted.clone()),
    };
    Ok(match (is_instant(&from), is_instant(to)) {
        _ if from.is_null() => Transformed::no(cast(inner, to.clone())?),
        (true, false) => {
            let local = to_local(of_type(inner, &from, &timestamp_ltz())?, zone);
            Transformed::yes(of_type(local, &timestamp(), to)?)
        }
        (false, true) => {
            let local = of_type(inner, &from, &timestamp())?;
            let instant = functions::to_instant().call(vec![local, literal(zone)]);
            Transformed::yes(of_type(instant, &timestamp_ltz(), to)?)
        }
        _ if contains_instants(&from) != contains_instants(to) => {
            return plan_err!(
                "a cast from {} to {} converts instants to local times inside a value, which is supported for \
                 `table.local-time-zone` UTC only: cast the elements",
                sql_type::name(&from),
                sql_type::name(to)
            );
        }
        _ => Transformed::no(cast(inner, to.clone())?),
    })
}

/// Converts the instants among the arguments of a function that computes with local times.
fn in_local_time(mut function: ScalarFunction, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let types = function.args.iter().map(|argument| argument.get_type(schema));
    let types = types.collect::<Result<Vec<DataType>>>()?;
    let has_local = types
        .iter()
        .any(|data_type| matches!(data_type, DataType::Timestamp(_, None) | DataType::Date32));
    let is_local = match Functions::all().scalar_properties(function.func.name()).local_time {
        LocalTime::Unused => false,
        LocalTime::Arguments => true,
        LocalTime::CommonArguments => has_local,
    };
    if !is_local || !types.iter().any(is_instant) {
        return Ok(Transformed::no(Expr::ScalarFunction(function)));
    }
    let returns_instant = is_instant(&Expr::ScalarFunction(function.clone()).get_type(schema)?);
    for (argument, data_type) in function.args.iter_mut().zip(&types) {
        if is_instant(data_type) {
            let instant = std::mem::replace(argument, Expr::Literal(ScalarValue::Null, None));
            *argument = to_local(instant, zone);
        }
    }
    let local = Expr::ScalarFunction(function);
    Ok(Transformed::yes(match returns_instant {
        true => functions::to_instant().call(vec![local, literal(zone)]),
        false => local,
    }))
}

fn to_local(instant: Expr, zone: &str) -> Expr {
    functions::to_local().call(vec![instant, literal(zone)])
}

fn literal(text: &str) -> Expr {
    Expr::Literal(ScalarValue::from(text), None)
}

fn is_instant(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

/// Returns true for types with instants inside.
fn contains_instants(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => contains_instants(item.data_type()),
        DataType::Map(entries, _) => contains_instants(entries.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| contains_instants(field.data_type())),
        other => is_instant(other),
    }
}
