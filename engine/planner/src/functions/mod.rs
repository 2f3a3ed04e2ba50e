//! The functions that queries may call, under Flink's names.
//!
//! A function is one of DataFusion's, declared in [`builtin`]; one of our own, declared as a [`Scalar`](scalar::Scalar)
//! beside its body; or another spelling of an expression ([`rewrites`]). Each declaration carries everything that
//! planning needs to know of the function: its names, types and properties such as fallibility. The [`registry`]
//! collects them. `docs/sql.md` documents the functions for users.

use datafusion::logical_expr::{Expr, Operator, ScalarUDF};

mod arrays;
mod builtin;
mod civil;
mod clock;
mod comparable;
mod decimals;
mod encodings;
mod format;
mod json;
mod numbers;
mod pattern;
mod registry;
mod rewrites;
mod scalar;
mod strings;
mod sums;
mod text;
mod time;

pub(crate) use builtin::PartialState;
pub(crate) use clock::batch_value;
pub(crate) use comparable::NAME as COMPARABLE;
pub(crate) use decimals::{as_decimal, result_digits};
pub(crate) use registry::Functions;
pub(crate) use rewrites::{complete, invalid_constant, refusal, rewrite};
pub(crate) use scalar::{Fallibility, check_constants};
pub(crate) use sums::sum;

/// Returns true for the processing-time attribute, `PROCTIME()`. A CAST of it is a value like others, as in Flink.
pub(crate) fn is_proctime(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.func.name() == clock::PROCTIME,
        Expr::Alias(alias) => is_proctime(&alias.expr),
        _ => false,
    }
}

/// Returns the function of `CAST(x AS STRING)` in Flink's form.
pub(crate) fn to_text() -> ScalarUDF {
    ScalarUDF::new_from_impl(time::to_text())
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
