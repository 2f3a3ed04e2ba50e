//! Normalization of floating-point numbers before they are compared ([`float_equality`]), as a function.

use datafusion::common::{ScalarValue, plan_err};
use datafusion::logical_expr::ColumnarValue;
use millstream_graph::float_equality;

use super::scalar::{Notation, Scalar};

/// Name of [`function`].
pub(crate) const NAME: &str = "$comparable";

/// Returns [`float_equality::normalize`] as a function of one argument of any type.
pub(super) fn function() -> Scalar {
    Scalar::infallible(
        NAME,
        |given| match given {
            [_] => Ok(given.to_vec()),
            _ => plan_err!("takes one argument, not {}", given.len()),
        },
        |given| given[0].clone(),
        |arguments| match &arguments.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(float_equality::normalize(array)?)),
            ColumnarValue::Scalar(value) => {
                let array = float_equality::normalize(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
        },
    )
    .notation(Notation::Argument)
}
