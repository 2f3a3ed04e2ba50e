//! Planning of `array[position]` and `map[key]`.
//!
//! A position outside of the array gives NULL, as in Flink; DataFusion's negative ones count from the end.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess};
use millstream_graph::sql_type;

use crate::functions;

#[derive(Debug)]
pub(crate) struct ElementAccess;

impl ExprPlanner for ElementAccess {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let data_type = access.expr.get_type(schema)?;
        let RawFieldAccessExpr { expr, field_access } = access;
        let original = |expr, field_access| Ok(PlannerResult::Original(RawFieldAccessExpr { expr, field_access }));
        match (field_access, &data_type) {
            (GetFieldAccess::ListRange { .. }, _) => {
                plan_err!("a range is not a position: use ARRAY_SLICE(a, from, to)")
            }
            (GetFieldAccess::ListIndex { key }, DataType::List(_)) => match constant(&key) {
                Some(position) if position < 1 => {
                    plan_err!("{position} is not a position in an ARRAY: positions count from 1")
                }
                Some(_) => original(expr, GetFieldAccess::ListIndex { key }),
                None => Ok(PlannerResult::Planned(functions::element_at().call(vec![expr, *key]))),
            },
            (GetFieldAccess::ListIndex { key }, DataType::Map(..)) => {
                Ok(PlannerResult::Planned(functions::map_value().call(vec![expr, *key])))
            }
            (GetFieldAccess::NamedStructField { name }, DataType::Map(entries, _)) if !has_text_keys(entries) => {
                let key = Expr::Literal(name, None);
                Ok(PlannerResult::Planned(functions::map_value().call(vec![expr, key])))
            }
            (GetFieldAccess::NamedStructField { name }, DataType::Map(..) | DataType::Struct(_)) => {
                original(expr, GetFieldAccess::NamedStructField { name })
            }
            (GetFieldAccess::NamedStructField { name }, DataType::List(_)) => {
                plan_err!("`{name}` is not a position in an ARRAY: write a[1].{name} for a field of an element")
            }
            (_, DataType::Struct(_)) => plan_err!("fields of a ROW are accessed by name, as in r.field"),
            (_, other) => plan_err!(
                "only an ARRAY, MAP or ROW has elements, and this is {}",
                sql_type::name(other)
            ),
        }
    }
}

fn has_text_keys(entries: &arrow_schema::FieldRef) -> bool {
    matches!(entries.data_type(), DataType::Struct(fields)
        if fields.first().is_some_and(|key| key.data_type().is_string()))
}

/// Returns the value of a constant integer.
fn constant(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(number)) => number,
            _ => None,
        },
        Expr::Negative(inner) => constant(inner)?.checked_neg(),
        _ => None,
    }
}
