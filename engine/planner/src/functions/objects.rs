//! `OBJECT_UPDATE(object, 'field', value, ...)`: a row with other values of some fields.
//!
//! `OBJECT_OF` is another spelling of a row with names ([`rewrites`](super::rewrites)).

use datafusion::arrow::array::{Array, AsArray, StructArray};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::scalar::{Scalar, array, array_result};

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![Scalar::fallible("object_update", object, |given| given[0].clone(), update).checked_by(check)]
}

fn object(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [DataType::Struct(_), pairs @ ..] if !pairs.is_empty() && pairs.len() % 2 == 0 => {
            match pairs.iter().step_by(2).find(|name| !name.is_string()) {
                Some(other) => plan_err!("takes the names of fields as strings, not {}", sql_type::name(other)),
                None => Ok(given.to_vec()),
            }
        }
        [other, ..] if !matches!(other, DataType::Struct(_)) => {
            plan_err!("takes a ROW first, not {}", sql_type::name(other))
        }
        _ => plan_err!("takes a ROW, and then a value for each name of a field"),
    }
}

/// Returns the fields that a call replaces, each with the number of the argument.
fn replaced(arguments: &ScalarFunctionArgs, fields: &Fields) -> Result<Vec<(usize, usize)>> {
    let mut replaced = Vec::with_capacity(arguments.args.len() / 2);
    for (at, name) in arguments.args.iter().enumerate().skip(1).step_by(2) {
        let ColumnarValue::Scalar(name) = name else {
            return plan_err!("OBJECT_UPDATE takes the names of fields as constants");
        };
        let Some(Some(name)) = name.try_as_str() else {
            return plan_err!("OBJECT_UPDATE takes the names of fields as constants");
        };
        let Some(field) = fields.iter().position(|field| field.name() == name) else {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            return plan_err!(
                "OBJECT_UPDATE: the ROW has no field `{name}`; it has {}",
                names.join(", ")
            );
        };
        replaced.push((field, at + 1));
    }
    Ok(replaced)
}

fn fields_of(arguments: &ScalarFunctionArgs) -> Result<&Fields> {
    match arguments.arg_fields.first().map(|field| field.data_type()) {
        Some(DataType::Struct(fields)) => Ok(fields),
        _ => plan_err!("OBJECT_UPDATE takes a ROW first"),
    }
}

fn check(arguments: &ScalarFunctionArgs) -> Result<()> {
    let fields = fields_of(arguments)?;
    for (field, argument) in replaced(arguments, fields)? {
        let (expected, found) = (fields[field].data_type(), arguments.arg_fields[argument].data_type());
        if !can_cast_types(found, expected) || found.is_string() != expected.is_string() && !found.is_null() {
            return plan_err!(
                "OBJECT_UPDATE: the field `{}` is of type {}, and the value of type {}: write a CAST",
                fields[field].name(),
                sql_type::name(expected),
                sql_type::name(found)
            );
        }
    }
    Ok(())
}

fn update(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let fields = fields_of(arguments)?;
    let objects = array(arguments, 0)?;
    let objects = objects.as_struct();
    let mut columns = objects.columns().to_vec();
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    for (field, argument) in replaced(arguments, fields)? {
        let value = array(arguments, argument)?;
        columns[field] = cast_with_options(&value, fields[field].data_type(), &options)?;
    }
    let nulls = objects.nulls().cloned();
    array_result(StructArray::try_new_with_length(
        fields.clone(),
        columns,
        nulls,
        objects.len(),
    )?)
}
