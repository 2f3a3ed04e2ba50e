//! Flink's semantics of expressions, where they differ from DataFusion's and depend on types.
//!
//! * `AVG` of integers is an integer, rounded towards zero: `SUM / COUNT`. `AVG` of decimals is rounded half up.
//! * A DOUBLE and a DECIMAL are compared as DOUBLEs. DataFusion casts the DOUBLE to a DECIMAL, which fails for 1e15.
//! * A DOUBLE and a DECIMAL in one `CASE`, array or column of a `UNION ALL` are DOUBLEs.
//! * All comparisons of floating-point numbers use the same equality ([`float_equality`]).
//! * `EXP`, `LN`, `SIN` and their like compute a FLOAT as a DOUBLE.
//!
//! Casts are those of [`super::casts`].

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Cast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection, Union};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, when};
use millstream_graph::float_equality::{self, contains_floats};

use crate::functions::Functions;

/// Rewrites a plan before types are coerced, which makes an integer argument of AVG a DOUBLE.
pub(super) fn before_coercion(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(rewrite_averages)?.data;
    let plan = plan.transform_up_with_subqueries(widen_floats)?.data;
    plan.transform_up_with_subqueries(|plan| rewrite_comparisons(plan, Pass::BeforeCoercion))
        .map(|transformed| transformed.data)
}

/// Rewrites an optimised plan.
pub(crate) fn after_optimization(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| rewrite_comparisons(plan, Pass::AfterOptimization))
        .map(|transformed| transformed.data)
}

/// Casts FLOAT arguments of functions that compute with DOUBLEs, and decimals that are alternatives of floats, which
/// DataFusion would make decimals of.
fn widen_floats(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Union(union) = plan {
        return widen_union(union);
    }
    let mut schema = DFSchema::empty();
    for input in plan.inputs() {
        schema.merge(input.schema());
    }
    let preserver = NamePreserver::new(&plan);
    let transformed = plan.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let expr = expr.transform_up(|mut expr| {
            let mut is_changed = false;
            if let Expr::ScalarFunction(call) = &mut expr
                && Functions::all().scalar_properties(call.func.name()).is_in_double
            {
                for argument in &mut call.args {
                    if argument.get_type(&schema).is_ok_and(|found| found == DataType::Float32) {
                        let float = std::mem::replace(argument, Expr::Literal(ScalarValue::Null, None));
                        *argument = Expr::Cast(Cast::new(Box::new(float), DataType::Float64));
                        is_changed = true;
                    }
                }
            }
            let alternatives = alternatives(&mut expr);
            if alternatives.iter().any(|alternative| is_float(alternative, &schema)) {
                for alternative in alternatives {
                    is_changed |= as_double(alternative, &schema);
                }
            }
            Ok(match is_changed {
                true => Transformed::yes(expr),
                false => Transformed::no(expr),
            })
        })?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    match transformed.transformed {
        true => transformed.map_data(LogicalPlan::recompute_schema),
        false => Ok(transformed),
    }
}

/// Returns the operands of which an expression returns one, or that it puts into one array.
fn alternatives(expr: &mut Expr) -> Vec<&mut Expr> {
    match expr {
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            branches.chain(case.else_expr.as_deref_mut()).collect()
        }
        Expr::ScalarFunction(call)
            if matches!(
                call.func.name(),
                "coalesce" | "nvl" | "greatest" | "least" | "make_array"
            ) =>
        {
            call.args.iter_mut().collect()
        }
        _ => Vec::new(),
    }
}

/// Makes columns of a `UNION ALL` that are decimals in some queries and floats in others DOUBLEs.
fn widen_union(union: Union) -> Result<Transformed<LogicalPlan>> {
    let type_of = |input: &LogicalPlan, column: usize| input.schema().field(column).data_type().clone();
    let width = union.schema.fields().len();
    if union.inputs.iter().any(|input| input.schema().fields().len() != width) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let is_decimal = |data_type: DataType| matches!(data_type, DataType::Decimal128(..));
    let mixed: Vec<bool> = (0..width)
        .map(|column| {
            let mut inputs = union.inputs.iter();
            let has_float = inputs.any(|input| type_of(input, column).is_floating());
            has_float && union.inputs.iter().any(|input| is_decimal(type_of(input, column)))
        })
        .collect();
    if !mixed.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let widened = union.inputs.iter().map(|input| {
        let columns = input.schema().iter().enumerate();
        let outputs = columns.map(|(index, (qualifier, field))| {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            match mixed[index] && is_decimal(field.data_type().clone()) {
                true => Expr::Cast(Cast::new(Box::new(column), DataType::Float64))
                    .alias_qualified(qualifier.cloned(), field.name()),
                false => column,
            }
        });
        let projection = Projection::try_new(outputs.collect(), input.clone())?;
        Ok(Arc::new(LogicalPlan::Projection(projection)))
    });
    let inputs = widened.collect::<Result<Vec<_>>>()?;
    let union = Union::try_new_with_loose_types(inputs)?;
    Ok(Transformed::yes(LogicalPlan::Union(union)))
}

/// A pass that rewrites comparisons. Operands of `=`, `<` and the like are wrapped after optimisation: the optimiser
/// recognises plain comparisons, and knows that they are not true for NULL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    BeforeCoercion,
    AfterOptimization,
}

/// Rewrites comparisons of floating-point numbers: operands are DOUBLEs if one is, and normalised.
fn rewrite_comparisons(plan: LogicalPlan, pass: Pass) -> Result<Transformed<LogicalPlan>> {
    let mut schema = DFSchema::empty();
    for input in plan.inputs() {
        schema.merge(input.schema());
    }
    let preserver = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let expr = expr.transform_up(|expr| normalize_operands(expr, &schema, pass))?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })
}

/// Rewrites the operands of one expression that compares, see [`float_equality`].
fn normalize_operands(mut expr: Expr, schema: &DFSchema, pass: Pass) -> Result<Transformed<Expr>> {
    let is_operator = matches!(expr, Expr::BinaryExpr(_) | Expr::Between(_));
    // The optimiser folds comparisons of constants, so they are rewritten now.
    let is_later = pass == Pass::BeforeCoercion && is_operator && expr.any_column_refs();
    let (sides, are_operands): (Vec<&mut Expr>, bool) = match &mut expr {
        // The result of NULLIF is its first argument, unchanged.
        Expr::ScalarFunction(call) if call.func.name() == "nullif" && call.args.len() == 2 => {
            let [left, right] = &call.args[..] else {
                return Ok(Transformed::no(expr));
            };
            let types = [left.get_type(schema)?, right.get_type(schema)?];
            if !types.iter().any(contains_floats) {
                return Ok(Transformed::no(expr));
            }
            if !left.is_volatile() {
                let equal = normalize_operands(left.clone().eq(right.clone()), schema, pass)?.data;
                let nothing = Expr::Literal(ScalarValue::try_from(&types[0])?, None);
                return Ok(Transformed::yes(when(equal, nothing).otherwise(left.clone())?));
            }
            (call.args.iter_mut().collect(), true)
        }
        Expr::ScalarFunction(call) if Functions::all().scalar_properties(call.func.name()).is_comparing => {
            (call.args.iter_mut().collect(), false)
        }
        Expr::AggregateFunction(call) => {
            let params = &mut call.params;
            let is_comparing = params.distinct || Functions::all().aggregate_properties(call.func.name()).is_comparing;
            let args = params.args.iter_mut().filter(|_| is_comparing);
            let order = params.order_by.iter_mut().map(|sort| &mut sort.expr);
            (args.chain(order).collect(), false)
        }
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => {
            (vec![binary.left.as_mut(), binary.right.as_mut()], true)
        }
        Expr::Between(between) => (
            vec![between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()],
            true,
        ),
        Expr::InList(list) => (
            std::iter::once(list.expr.as_mut()).chain(&mut list.list).collect(),
            true,
        ),
        Expr::Case(case) if case.expr.is_some() => {
            let values = case.when_then_expr.iter_mut().map(|(value, _)| value.as_mut());
            (case.expr.as_deref_mut().into_iter().chain(values).collect(), true)
        }
        _ => return Ok(Transformed::no(expr)),
    };
    let is_one_a_float = sides.iter().any(|side| is_float(side, schema));
    let mut is_changed = false;
    for side in sides {
        if are_operands && is_one_a_float {
            as_double(side, schema);
            is_changed = true;
        }
        let holds_floats = side.get_type(schema).is_ok_and(|data_type| contains_floats(&data_type));
        if holds_floats && !is_later && !is_normalized(side) {
            let value = std::mem::replace(side, Expr::Literal(ScalarValue::Null, None));
            *side = match value {
                Expr::Literal(value, metadata) => {
                    let comparable = float_equality::normalize(&value.to_array()?)?;
                    Expr::Literal(ScalarValue::try_from_array(&comparable, 0)?, metadata)
                }
                value => crate::functions::as_comparable().call(vec![value]),
            };
            is_changed = true;
        }
    }
    Ok(if is_changed {
        Transformed::yes(expr)
    } else {
        Transformed::no(expr)
    })
}

/// Returns true if an expression was wrapped by [`normalize_operands`] already, as happens in subqueries.
fn is_normalized(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == crate::functions::COMPARABLE)
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type.is_floating())
}

/// Casts a DECIMAL to DOUBLE; returns true if it was one.
fn as_double(expr: &mut Expr, schema: &DFSchema) -> bool {
    let is_decimal = |found: DataType| matches!(found, DataType::Decimal128(..));
    let is_changed = expr.get_type(schema).is_ok_and(is_decimal);
    if is_changed {
        let decimal = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
        *expr = Expr::Cast(Cast::new(Box::new(decimal), DataType::Float64));
    }
    is_changed
}

/// Returns true for `=`, `<`, `IS DISTINCT FROM` and the like.
pub(super) fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(
        operator,
        Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}

/// Rewrites `AVG` of integers and decimals as `SUM / COUNT`.
fn rewrite_averages(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = plan else {
        return Ok(Transformed::no(plan));
    };
    let input = aggregate.input.clone();
    let exact = aggregate
        .aggr_expr
        .iter()
        .map(|expr| exact_average(expr, input.schema()))
        .collect::<Result<Vec<_>>>()?;
    if exact.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let mut calls: Vec<Expr> = Vec::new();
    let mut outputs: Vec<Expr> = Vec::new();
    let group_width = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    for (qualifier, field) in aggregate.schema.iter().take(group_width) {
        outputs.push(Expr::Column(Column::new(qualifier.cloned(), field.name())));
    }
    let names: Vec<_> = aggregate.schema.iter().skip(group_width).collect();
    for ((expr, exact), (qualifier, field)) in aggregate.aggr_expr.iter().zip(exact).zip(names) {
        let Some((average, data_type)) = exact else {
            push(&mut calls, expr.clone());
            outputs.push(Expr::Column(Column::new(qualifier.cloned(), field.name())));
            continue;
        };
        // The argument is not cast, so that a SUM or COUNT of it in the query is the same call; SUM widens by itself.
        let mut summed = average.clone();
        summed.func = crate::functions::sum();
        let mut counted = average;
        counted.func = count_udaf();
        let sum = shared(&mut calls, &aggregate.aggr_expr, Expr::AggregateFunction(summed));
        let count = shared(&mut calls, &aggregate.aggr_expr, Expr::AggregateFunction(counted));
        let zero = Expr::Literal(ScalarValue::Int64(Some(0)), None);
        let count = nullif(count, zero);
        let quotient = match data_type {
            DataType::Int64 => sum / count,
            DataType::Decimal128(..) => {
                let wanted = ScalarValue::try_from(field.data_type())?;
                crate::functions::quotient().call(vec![sum, count, Expr::Literal(wanted, None)])
            }
            _ => Expr::Cast(Cast::new(Box::new(sum / count), data_type)),
        };
        outputs.push(quotient.alias_qualified(qualifier.cloned(), field.name()));
    }
    let inner = Aggregate::try_new(input, aggregate.group_expr.clone(), calls)?;
    let projection = Projection::try_new(outputs, Arc::new(LogicalPlan::Aggregate(inner)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

fn push(calls: &mut Vec<Expr>, call: Expr) {
    if !calls.contains(&call) {
        calls.push(call);
    }
}

/// Returns the column of a call, which is added to `calls` if necessary. Names omit casts, so another call of the query
/// may have the same name.
fn shared(calls: &mut Vec<Expr>, written: &[Expr], call: Expr) -> Expr {
    let name = call.schema_name().to_string();
    let taken = |other: &Expr| *other != call && other.schema_name().to_string() == name;
    if !calls.iter().chain(written).any(taken) {
        push(calls, call);
        return Expr::Column(Column::new_unqualified(name));
    }
    let name = format!("$average{}", calls.len());
    calls.push(call.alias(&name));
    Expr::Column(Column::new_unqualified(name))
}

/// Returns the call of an average and the type of its argument, if that is an exact number.
fn exact_average(expr: &Expr, schema: &DFSchema) -> Result<Option<(AggregateFunction, DataType)>> {
    let Expr::AggregateFunction(call) = expr.clone().unalias() else {
        return Ok(None);
    };
    if call.func.name() != "avg" || call.params.args.len() != 1 {
        return Ok(None);
    }
    let data_type = call.params.args[0].get_type(schema)?;
    let is_exact = data_type.is_integer() || matches!(data_type, DataType::Decimal128(..));
    Ok(is_exact.then_some((call, data_type)))
}
