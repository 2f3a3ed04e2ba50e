//! Functions about the types of their arguments: `TYPEOF`, and the one that tells two casts of a value apart.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use millstream_graph::sql_type;

use super::scalar::{Scalar, utf8};

/// Name of the function of a cast that has the name of its type in the names of columns.
pub(crate) const TYPED: &str = "$typed";

pub(super) fn all() -> Vec<Scalar> {
    vec![
        // The second argument asks Flink for a type that can be stored, which all types here can.
        Scalar::infallible("typeof", any_and_boolean, utf8, |arguments| {
            let name = sql_type::name(arguments.arg_fields[0].data_type());
            Ok(ColumnarValue::Scalar(ScalarValue::from(name)))
        }),
        Scalar::infallible(
            TYPED,
            |given| Ok(given.to_vec()),
            |given| given[0].clone(),
            |arguments| Ok(arguments.args[0].clone()),
        ),
    ]
}

fn any_and_boolean(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [_] | [_, DataType::Boolean] => Ok(given.to_vec()),
        _ => plan_err!("takes a value, and optionally TRUE or FALSE"),
    }
}
