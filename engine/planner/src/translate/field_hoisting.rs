//! Hoisting of field accesses out of `CASE`.
//!
//! DataFusion evaluates each branch of a `CASE` over the rows that take it, and copies those rows of every column the
//! branch reads: if the branch reads a field of a ROW, the whole ROW is copied. Here the fields are extracted first,
//! which copies nothing, and the `CASE` is evaluated over the extracted fields.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{CaseExpr, Column};

use super::relation::{bare_column, has_field_access, is_field_access};
use super::specialized_expr::{Specialization, specialized};

/// An expression whose column and field accesses are evaluated first.
#[derive(Debug)]
struct HoistedFields {
    /// Columns and fields that `inner` reads, over the input.
    fields: Vec<PhysicalExprRef>,
    /// Schema of the batch that `fields` form.
    schema: SchemaRef,
    /// The expression over `schema`.
    inner: PhysicalExprRef,
}

/// Hoists the field accesses of an expression that contains a `CASE`; returns other expressions unchanged.
pub(super) fn rewrite(expr: PhysicalExprRef, input: &Schema) -> Result<PhysicalExprRef> {
    let has_case = expr.exists(|expr| Ok(expr.downcast_ref::<CaseExpr>().is_some()))?;
    if !has_case || !has_field_access(&expr) {
        return Ok(expr);
    }
    let (inner, fields) = hoist(&expr)?;
    let types: Result<Vec<DataType>> = fields.iter().map(|field| field.data_type(input)).collect();
    let named = types?
        .into_iter()
        .enumerate()
        .map(|(index, data_type)| Field::new(format!("${index}"), data_type, true));
    let schema = Arc::new(Schema::new(named.collect::<Vec<_>>()));
    Ok(specialized(expr, HoistedFields { fields, schema, inner }))
}

/// Splits an expression into one over numbered columns, and the column and field accesses that those columns stand for.
fn hoist(expr: &PhysicalExprRef) -> Result<(PhysicalExprRef, Vec<PhysicalExprRef>)> {
    let mut fields: Vec<PhysicalExprRef> = Vec::new();
    let inner = Arc::clone(expr).transform_down(|expr| {
        if bare_column(&expr).is_none() && !is_field_access(&expr) {
            return Ok(Transformed::no(expr));
        }
        let known = fields.iter().position(|field| field == &expr);
        let index = known.unwrap_or(fields.len());
        if known.is_none() {
            fields.push(expr);
        }
        let column: PhysicalExprRef = Arc::new(Column::new(&format!("${index}"), index));
        Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
    })?;
    Ok((inner.data, fields))
}

impl Specialization for HoistedFields {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let columns: Result<Vec<_>> = self
            .fields
            .iter()
            .map(|field| field.evaluate(batch)?.into_array(rows))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns?, &options)?;
        self.inner.evaluate(&batch)
    }

    fn rebuild(&self, original: &PhysicalExprRef) -> Result<Option<Self>> {
        let (inner, fields) = hoist(original)?;
        // With a different number of fields the known types no longer apply.
        Ok((fields.len() == self.fields.len()).then(|| Self {
            fields,
            schema: self.schema.clone(),
            inner,
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, Int64Array, StructArray};
    use arrow::datatypes::Int64Type;
    use datafusion::common::{DFSchema, ScalarValue};
    use datafusion::functions::core::expr_fn::get_field;
    use datafusion::physical_expr::create_physical_expr;
    use datafusion::physical_expr::utils::collect_columns;
    use datafusion::prelude::{col, lit, when};

    use super::super::specialized_expr::is_specialized_by;
    use super::*;

    #[test]
    fn a_case_over_fields_has_the_same_values_hoisted() {
        let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values));
        let field = Arc::new(Field::new("n", DataType::Int64, true));
        let row = |values| StructArray::from(vec![(field.clone(), numbers(values) as _)]);
        let batch = RecordBatch::try_from_iter([
            ("unused", numbers(vec![None, None, None]) as Arc<dyn Array>),
            ("kind", numbers(vec![Some(0), Some(1), None])),
            ("a", Arc::new(row(vec![Some(1), Some(2), Some(3)]))),
            ("b", Arc::new(row(vec![Some(10), Some(20), None]))),
        ])
        .expect("columns of one length");
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let name = || ScalarValue::from("n");
        let expr = when(col("kind").eq(lit(0i64)), get_field(col("a"), name()))
            .otherwise(get_field(col("b"), name()) + col("kind"))
            .expect("a case");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let hoisted = rewrite(plain.clone(), batch.schema_ref()).expect("rewritten");
        assert!(is_specialized_by::<HoistedFields>(&hoisted));
        assert_eq!(collect_columns(&hoisted), collect_columns(&plain));
        assert_eq!(hoisted.to_string(), plain.to_string());

        let value = |expr: &PhysicalExprRef, batch: &RecordBatch| {
            let array = expr
                .evaluate(batch)
                .and_then(|value| value.into_array(3))
                .expect("a value");
            array.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(value(&hoisted, &batch), [Some(1), Some(21), None]);
        assert_eq!(value(&plain, &batch), [Some(1), Some(21), None]);

        // Columns are renumbered when the input becomes narrower.
        let moved = super::super::relation::substitute(&hoisted, &|index| {
            Some(Arc::new(Column::new("moved", index - 1)) as PhysicalExprRef)
        })
        .expect("moved");
        assert!(is_specialized_by::<HoistedFields>(&moved));
        let narrow = batch.project(&[1, 2, 3]).expect("columns");
        assert_eq!(value(&moved, &narrow), [Some(1), Some(21), None]);
    }
}
