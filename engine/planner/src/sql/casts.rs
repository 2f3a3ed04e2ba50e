//! Casts: those of a query get Flink's values, and those that type coercion adds are checked.
//!
//! Flink has no implicit cast between text and other types (`CASE WHEN c THEN 1 ELSE 'a' END` is refused), whereas
//! DataFusion adds one that fails for most rows. To tell both kinds apart, the casts of a query are replaced by
//! [functions](crate::functions) before types are coerced ([`mark`]); afterwards each remaining cast is an implicit one
//! ([`refuse_implicit`]). Then all of them become the cast or the function that has Flink's values ([`lower`]).

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use millstream_graph::sql_type::{self, is_interval};

use super::semantics::is_comparison;
use super::temporal;
use crate::functions::{self, Functions};

/// Returns the columns that the expressions of a plan refer to.
fn input_schema(plan: &LogicalPlan) -> DFSchema {
    let mut schema = DFSchema::empty();
    for input in plan.inputs() {
        schema.merge(input.schema());
    }
    schema
}

/// Replaces the casts of a query by functions, and negations that DataFusion lacks.
pub(super) fn mark(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = input_schema(&plan);
    let preserver = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let marked = expr.transform_up(|expr| {
            let (inner, to, is_try) = match expr {
                Expr::Cast(Cast { expr, field }) => (expr, field, false),
                Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
                other => {
                    return Ok(match temporal::negated(other, &schema) {
                        Ok(negated) => Transformed::yes(negated),
                        Err(other) => Transformed::no(other),
                    });
                }
            };
            let to = Expr::Literal(ScalarValue::try_from(to.data_type())?, None);
            Ok(Transformed::yes(
                functions::explicit_cast(is_try).call(vec![*inner, to]),
            ))
        })?;
        Ok(marked.update_data(|expr| name.restore(expr)))
    })
}

/// Refuses the casts between text and other types that type coercion has added.
pub(super) fn refuse_implicit(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Union(union) = &plan {
        for input in &union.inputs {
            if let LogicalPlan::Projection(projection) = input.as_ref() {
                let schema = input_schema(input);
                for (index, expr) in projection.expr.iter().enumerate() {
                    if let Some((from, to)) = crossing(expr, &schema)? {
                        return plan_err!(
                            "column {} of this UNION ALL is {} in one query and {} in another: {}",
                            index + 1,
                            sql_type::name(&from),
                            sql_type::name(&to),
                            remedy(&from, &to)
                        );
                    }
                }
            }
        }
    }
    let schema = input_schema(&plan);
    let is_join = matches!(plan, LogicalPlan::Join(_));
    plan.apply_expressions(|expr| {
        if is_join {
            check_operand(expr, &schema, "the join condition", true)?;
        }
        expr.apply(|expr| {
            check_operands(expr, &schema)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(Transformed::no(plan))
}

/// Checks the operands of one expression.
fn check_operands(expr: &Expr, schema: &DFSchema) -> Result<()> {
    match expr {
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => {
            let of = format!("`{}`", binary.op);
            check_operand(&binary.left, schema, &of, true)?;
            check_operand(&binary.right, schema, &of, true)
        }
        Expr::Between(between) => [&between.expr, &between.low, &between.high]
            .into_iter()
            .try_for_each(|operand| check_operand(operand, schema, "BETWEEN", true)),
        Expr::InList(list) => std::iter::once(list.expr.as_ref())
            .chain(&list.list)
            .try_for_each(|operand| check_operand(operand, schema, "IN", true)),
        Expr::InSubquery(subquery) => {
            if let LogicalPlan::Projection(projection) = subquery.subquery.subquery.as_ref()
                && let [value] = projection.expr.as_slice()
            {
                check_operand(value, projection.input.schema(), "IN", true)?;
            }
            check_operand(&subquery.expr, schema, "IN", true)
        }
        Expr::Case(case) => {
            let conditions = case.when_then_expr.iter().map(|(when, _)| when);
            case.expr
                .iter()
                .chain(conditions)
                .try_for_each(|operand| check_operand(operand, schema, "CASE", true))?;
            let branches = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
            branches
                .into_iter()
                .try_for_each(|branch| check_operand(branch, schema, "CASE (or IF, COALESCE)", false))
        }
        Expr::ScalarFunction(call) => {
            let name = call.func.name();
            let is_mixing = Functions::all().scalar_properties(name).is_comparing
                || matches!(name, "coalesce" | "nvl" | "nullif" | "make_array");
            let of = functions::shown_name(name);
            call.args.iter().try_for_each(|argument| match is_mixing {
                true => check_operand(argument, schema, &of, false),
                false => check_argument(argument, schema, &of),
            })
        }
        Expr::AggregateFunction(call) => {
            let of = functions::shown_name(call.func.name());
            let mut arguments = call.params.args.iter();
            arguments.try_for_each(|argument| check_argument(argument, schema, &of))
        }
        // An operand of arithmetic, or the value of an output.
        _ => Ok(()),
    }
}

/// Refuses an operand that was cast from text or to text. Texts are compared with times as times.
fn check_operand(expr: &Expr, schema: &DFSchema, of: &str, is_comparison: bool) -> Result<()> {
    match crossing(expr, schema)? {
        Some((from, to)) if is_interval(&from) && is_interval(&to) => plan_err!(
            "{of} mixes {} with another kind of INTERVAL: years and months have no fixed length in days",
            sql_type::name(&from)
        ),
        Some((from, to)) if is_comparison && is_time(&to) && is_text(&from) => Ok(()),
        Some((from, to)) => plan_err!(
            "{of} mixes {} and {}: {}",
            sql_type::name(&from),
            sql_type::name(&to),
            remedy(&from, &to)
        ),
        None => Ok(()),
    }
}

/// Refuses an argument of a function that was cast from text to a number or boolean.
fn check_argument(expr: &Expr, schema: &DFSchema, of: &str) -> Result<()> {
    match crossing(expr, schema)? {
        Some((from, to)) if is_text(&from) && (to.is_numeric() || to == DataType::Boolean) => plan_err!(
            "{of} takes {} here, not STRING: write CAST(... AS {})",
            sql_type::name(&to),
            sql_type::name(&to)
        ),
        _ => Ok(()),
    }
}

fn remedy(from: &DataType, to: &DataType) -> String {
    format!(
        "write CAST(... AS {}), or CAST(... AS {})",
        sql_type::name(to),
        sql_type::name(from)
    )
}

fn is_text(data_type: &DataType) -> bool {
    data_type.is_string()
}

fn is_time(data_type: &DataType) -> bool {
    data_type.is_temporal() && !is_interval(data_type)
}

/// Returns the types of an implicit cast if it is one between text and another type, or of elements in this way.
fn crossing(expr: &Expr, schema: &DFSchema) -> Result<Option<(DataType, DataType)>> {
    let expr = match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    let Expr::Cast(Cast { expr: inner, field }) = expr else {
        return Ok(None);
    };
    let (from, to) = (inner.get_type(schema)?, field.data_type().clone());
    Ok(crosses(&from, &to).then_some((from, to)))
}

fn crosses(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Null, _) | (_, DataType::Null) => false,
        (DataType::List(from), DataType::List(to)) | (DataType::Map(from, _), DataType::Map(to, _)) => {
            crosses(from.data_type(), to.data_type())
        }
        (DataType::Struct(from), DataType::Struct(to)) => {
            let mut fields = from.iter().zip(to);
            fields.any(|(from, to)| crosses(from.data_type(), to.data_type()))
        }
        (from, to) if is_interval(from) && is_interval(to) => from != to,
        (from, to) => is_text(from) != is_text(to),
    }
}

/// Replaces casts by those with Flink's values.
pub(super) fn lower(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = input_schema(&plan);
    let preserver = NamePreserver::new(&plan);
    let transformed = plan.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let expr = expr.transform_up(|expr| {
            let (inner, to, is_try) = match expr {
                Expr::Cast(Cast { expr, field }) => (*expr, in_microseconds(field.data_type()), false),
                Expr::TryCast(TryCast { expr, field }) => (*expr, field.data_type().clone(), true),
                Expr::ScalarFunction(mut call) if functions::is_explicit_cast(call.func.name()) => {
                    let (to, inner) = (call.args.pop(), call.args.pop());
                    let Some((to, inner)) = to.zip(inner) else {
                        return plan_err!("a cast has no type");
                    };
                    (inner, to.get_type(&schema)?, functions::is_try_cast(call.func.name()))
                }
                Expr::ScalarFunction(mut call) if call.func.name() == functions::TYPED => {
                    return Ok(Transformed::yes(call.args.swap_remove(0)));
                }
                Expr::ScalarFunction(call) => {
                    functions::check_constants(&call, &schema)?;
                    return Ok(Transformed::no(Expr::ScalarFunction(call)));
                }
                other => return Ok(Transformed::no(other)),
            };
            Ok(Transformed::yes(cast(inner, to, is_try, &schema)?))
        })?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    if transformed.transformed {
        transformed.map_data(LogicalPlan::recompute_schema)
    } else {
        Ok(transformed)
    }
}

/// Returns the type that values have here instead of one that type coercion chooses: times have microseconds.
fn in_microseconds(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    }
}

/// Returns a cast with Flink's values.
fn cast(inner: Expr, to: DataType, is_try: bool, schema: &DFSchema) -> Result<Expr> {
    let from = inner.get_type(schema)?;
    check_cast(&from, &to)?;
    let has_time_text = matches!(
        from,
        DataType::Timestamp(..) | DataType::Interval(_) | DataType::Duration(_)
    );
    if has_time_text && to == DataType::Utf8 {
        return Ok(functions::to_text().call(vec![inner]));
    }
    if to == DataType::Utf8 && functions::has_own_text(&from) {
        return Ok(functions::value_text().call(vec![inner]));
    }
    if is_converted(&from, &to) {
        let name = Expr::Literal(ScalarValue::from(sql_type::name(&to)), None);
        let null = Expr::Literal(ScalarValue::try_from(&to)?, None);
        return Ok(functions::conversion(is_try).call(vec![inner, name, null]));
    }
    Ok(match is_try {
        true => Expr::TryCast(TryCast::new(Box::new(inner), to)),
        false => Expr::Cast(Cast::new(Box::new(inner), to)),
    })
}

/// Returns true if Arrow's cast has other values than Flink's.
fn is_converted(from: &DataType, to: &DataType) -> bool {
    if from == to || from.is_null() {
        return false;
    }
    match (from, to) {
        (from, to) if from.is_nested() && to.is_nested() => true,
        (DataType::Utf8, to) => {
            to.is_signed_integer() || is_interval(to) || matches!(to, DataType::Boolean | DataType::Decimal128(..))
        }
        (from, DataType::Decimal128(precision, scale)) => {
            let whole = i16::from(*precision) - i16::from(*scale);
            match functions::as_decimal(from) {
                Some((from_precision, from_scale)) => {
                    let from_whole = i16::from(from_precision) - i16::from(from_scale);
                    // A number that is rounded up may have one digit more.
                    whole < from_whole || (whole == from_whole && *scale < from_scale)
                }
                None => true,
            }
        }
        _ => false,
    }
}

/// Refuses casts between times and numbers, whose unit would be ambiguous, and those without a meaning.
fn check_cast(from: &DataType, to: &DataType) -> Result<()> {
    match (from, to) {
        (DataType::Timestamp(..), to) if to.is_numeric() => {
            plan_err!("a TIMESTAMP is not a number: use EXTRACT(EPOCH FROM t) or TIMESTAMPDIFF")
        }
        (from, DataType::Timestamp(..)) if from.is_numeric() => {
            plan_err!("a number is not a TIMESTAMP: use TO_TIMESTAMP_LTZ(n, 3) for milliseconds")
        }
        (from, to) if from.is_numeric() && is_interval(to) => {
            plan_err!("a number is not an INTERVAL: write INTERVAL '1' SECOND * n, with the unit of the number")
        }
        (from, to) if is_interval(from) && to.is_numeric() => plan_err!(
            "an INTERVAL is not a number: write EXTRACT(EPOCH FROM i) for seconds, or EXTRACT(YEAR FROM i) * 12 + \
             EXTRACT(MONTH FROM i) for months"
        ),
        (from, to)
            if is_interval(from) != is_interval(to) && !from.is_null() && !is_text(from) && !is_text(to)
                || is_interval(from) && is_interval(to) && from != to =>
        {
            plan_err!("there is no CAST of {} to {}", sql_type::name(from), sql_type::name(to))
        }
        (from, to) if (from.is_nested() || to.is_nested()) && !functions::can_convert(from, to) => plan_err!(
            "there is no CAST of {} to {}: types inside must correspond, and a ROW must have as many fields",
            sql_type::name(from),
            sql_type::name(to)
        ),
        _ => Ok(()),
    }
}
