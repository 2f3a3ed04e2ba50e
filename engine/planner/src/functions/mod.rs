//! The functions that queries may call, under Flink's names.
//!
//! A function is one of DataFusion's, declared in [`builtin`]; one of our own, declared as a [`Scalar`](scalar::Scalar)
//! beside its body; or another spelling of an expression ([`rewrites`]). Each declaration carries everything that
//! planning needs to know of the function: its names, types and properties such as fallibility. The [`registry`]
//! collects them. `docs/sql.md` documents the functions for users.

use datafusion::logical_expr::{Expr, Operator, ScalarUDF};

mod arrays;
mod as_of;
mod bitmap_aggregates;
mod bitmaps;
mod builtin;
mod casts;
mod civil;
mod clock;
mod comparable;
mod decimals;
mod encodings;
mod format;
mod json;
mod maps;
mod multisets;
mod numbers;
mod objects;
mod pattern;
mod percentiles;
mod raise;
mod random;
mod registry;
mod rewrites;
mod rounding;
mod scalar;
mod strings;
mod sums;
mod text;
mod time;
mod types;
mod value_text;

pub(crate) use as_of::AS_OF;
pub(crate) use builtin::PartialState;
pub(crate) use casts::can_convert;
pub(crate) use clock::{batch_value, local_value};
pub(crate) use comparable::NAME as COMPARABLE;
pub(crate) use decimals::{as_decimal, result_digits};
pub(crate) use multisets::MULTISET;
pub(crate) use registry::Functions;
pub(crate) use rewrites::{complete, invalid_constant, refusal, rewrite};
pub(crate) use scalar::{Fallibility, LocalTime, check_constants};
pub(crate) use sums::sum;
pub(crate) use time::{CLOCK_INTERVAL, DAY_INTERVAL, DAY_TIME, MINUS, YEAR_MONTH, Zone};
pub(crate) use types::TYPED;
pub(crate) use value_text::has_own_text;

/// Returns the name of a function, one of DataFusion's or our own, as messages and plans show it: Flink's, in capitals.
pub(crate) fn shown_name(name: &str) -> String {
    match name.to_ascii_lowercase().trim_start_matches('$') {
        "string_agg" => "LISTAGG".into(),
        "percentile_cont" => "PERCENTILE".into(),
        "approx_distinct" => "APPROX_COUNT_DISTINCT".into(),
        "stddev" => "STDDEV_SAMP".into(),
        "var" => "VAR_SAMP".into(),
        "nvl" => "IFNULL".into(),
        "negative" => "-".into(),
        "strpos" => "POSITION (or LOCATE, INSTR)".into(),
        "character_length" => "CHAR_LENGTH".into(),
        "make_array" => "ARRAY[...]".into(),
        "make_map" | "map" => "MAP[...]".into(),
        "struct" | "named_struct" => "ROW".into(),
        name => name.to_ascii_uppercase(),
    }
}

/// Returns true for the processing-time attribute, `PROCTIME()`. A CAST of it is a value like others, as in Flink.
pub(crate) fn is_proctime(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.func.name() == clock::PROCTIME,
        Expr::Alias(alias) => is_proctime(&alias.expr),
        _ => false,
    }
}

/// Returns the function that stands for a `CAST` or `TRY_CAST` of a query until types are coerced.
pub(crate) fn explicit_cast(is_try: bool) -> ScalarUDF {
    ScalarUDF::new_from_impl(casts::explicit(is_try))
}

/// Returns true for the name of a function that stands for a cast of a query.
pub(crate) fn is_explicit_cast(name: &str) -> bool {
    casts::EXPLICIT.contains(&name)
}

/// Returns true for the name of the function that stands for `TRY_CAST`.
pub(crate) fn is_try_cast(name: &str) -> bool {
    name == casts::EXPLICIT[1]
}

/// Returns the function of a cast that differs from Arrow's. Its second argument is a NULL of the wanted type.
pub(crate) fn conversion(is_try: bool) -> ScalarUDF {
    ScalarUDF::new_from_impl(casts::conversion(is_try))
}

/// Returns the function of `CAST(x AS STRING)` for types with [`has_own_text`].
pub(crate) fn value_text() -> ScalarUDF {
    ScalarUDF::new_from_impl(value_text::function())
}

/// Returns the function of `CAST(timestamp AS STRING)`.
pub(crate) fn to_text() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::to_text())
}

/// Returns the function of `array[position]`.
pub(crate) fn element_at() -> ScalarUDF {
    ScalarUDF::new_from_impl(maps::element_at())
}

/// Returns the function of `map[key]`.
pub(crate) fn map_value() -> ScalarUDF {
    ScalarUDF::new_from_impl(maps::map_value())
}

/// Returns the function of the local time of an instant; its second argument is the time zone.
pub(crate) fn to_local() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::to_local())
}

/// Returns the function of the instant of a local time; its second argument is the time zone.
pub(crate) fn to_instant() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::to_instant())
}

/// Returns the function of the watermark of local times; its second argument is the time zone.
pub(crate) fn to_local_watermark() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::to_watermark())
}

/// Returns the function of a `TIME` plus an interval, or minus it.
pub(crate) fn time_plus(is_minus: bool) -> ScalarUDF {
    ScalarUDF::new_from_impl(time::time_plus(is_minus))
}

/// Returns the function of a multiple of an interval.
pub(crate) fn interval_times() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::interval_times())
}

/// Returns the function of the difference of two times.
pub(crate) fn time_difference() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::difference_of_times())
}

/// Returns the function of `a / b` of decimals. A third argument, NULL, may give the type of the quotient.
pub(crate) fn quotient() -> ScalarUDF {
    ScalarUDF::new_from_impl(decimals::quotient())
}

/// Returns the function of an arithmetic operator of decimals, which fails if the result has too many digits.
pub(crate) fn decimal_operator(operator: Operator) -> Option<ScalarUDF> {
    decimals::of(operator).map(ScalarUDF::new_from_impl)
}

/// Returns the function that [normalizes](millstream_graph::float_equality) floats before they are compared.
pub(crate) fn as_comparable() -> ScalarUDF {
    ScalarUDF::new_from_impl(comparable::function())
}

#[cfg(test)]
mod tests;
