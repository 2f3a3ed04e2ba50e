//! The marker of temporal joins, which only the parser writes.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::logical_expr::ScalarFunctionArgs;

use super::scalar::Scalar;

/// Name of the function: a time of the left side, and the condition of the join.
pub(crate) const AS_OF: &str = "$as_of";

pub(super) fn all() -> Vec<Scalar> {
    let types = |arguments: &[DataType]| Ok(arguments.to_vec());
    let no_value =
        |_: &ScalarFunctionArgs| exec_err!("FOR SYSTEM_TIME AS OF is a property of a join, which has no value");
    vec![Scalar::fallible(AS_OF, types, |_| DataType::Boolean, no_value).volatile()]
}
