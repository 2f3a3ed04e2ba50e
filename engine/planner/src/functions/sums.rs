//! `SUM` and `AVG` with Flink's types of decimals (`LogicalTypeMerging.findSumAggType`, `findAvgAggType`): results have
//! precision 38, and an average has scale 6 at least.
//!
//! All else is DataFusion's, except that a sum of distinct decimals does not wrap around. An average of decimals is
//! planned as a quotient and never computed here.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, FieldRef, i256};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, GroupsAccumulator, Operator, ReversedUDAF, Signature,
};

/// Returns `SUM`.
pub(crate) fn sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(WithFlinkType {
        inner: sum_udaf(),
        scale_min: 0,
    }))
}

/// Returns `AVG`.
pub(crate) fn avg() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(WithFlinkType {
        inner: avg_udaf(),
        scale_min: 6,
    }))
}

/// An aggregate whose result for decimals has precision 38 and at least the scale `scale_min`.
#[derive(Debug)]
struct WithFlinkType {
    inner: Arc<AggregateUDF>,
    scale_min: i8,
}

// Names are unique, so they identify aggregates.
impl PartialEq for WithFlinkType {
    fn eq(&self, other: &Self) -> bool {
        self.inner.name() == other.inner.name()
    }
}

impl Eq for WithFlinkType {}

impl Hash for WithFlinkType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

/// `SUM(DISTINCT x)` of decimals: NULL if the sum has too many digits, where DataFusion's wraps around.
#[derive(Debug)]
struct DistinctDecimalSum {
    /// DataFusion's accumulator, whose state is the list of distinct values.
    values: Box<dyn Accumulator>,
    precision: u8,
    scale: i8,
}

impl Accumulator for DistinctDecimalSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        let [ScalarValue::List(values)] = state.as_slice() else {
            return exec_err!("the state of SUM(DISTINCT ...) is a list");
        };
        let values = values.values().as_primitive::<Decimal128Type>();
        let sum = values.iter().flatten().fold(None, |sum: Option<i256>, value| {
            let value = i256::from_i128(value);
            Some(sum.map_or(value, |sum| sum.wrapping_add(value)))
        });
        let largest = 10_u128.pow(u32::from(self.precision));
        let sum = sum.and_then(i256::to_i128).filter(|sum| sum.unsigned_abs() < largest);
        Ok(ScalarValue::Decimal128(sum, self.precision, self.scale))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }
}

impl AggregateUDFImpl for WithFlinkType {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Decimal128(_, scale)] => Ok(DataType::Decimal128(
                DECIMAL128_MAX_PRECISION,
                (*scale).max(self.scale_min),
            )),
            _ => self.inner.return_type(arguments),
        }
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let is_distinct_sum = arguments.is_distinct && self.scale_min == 0;
        let data_type = arguments.return_field.data_type().clone();
        let inner = self.inner.accumulator(arguments)?;
        Ok(match data_type {
            DataType::Decimal128(precision, scale) if is_distinct_sum => Box::new(DistinctDecimalSum {
                values: inner,
                precision,
                scale,
            }),
            _ => inner,
        })
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(arguments)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_udf()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    /// Rewrites `SUM(x + 1)` as `SUM(x) + COUNT(x)`, except for decimals: the count would have to fit the constant's
    /// digits.
    fn simplify_expr_op_literal(
        &self,
        call: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        is_argument_left: bool,
    ) -> Result<Option<Expr>> {
        match literal {
            Expr::Literal(ScalarValue::Decimal128(..), _) => Ok(None),
            _ => self
                .inner
                .inner()
                .simplify_expr_op_literal(call, argument, operator, literal, is_argument_left),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Decimal128Array;
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::col;

    use super::*;

    #[test]
    fn a_distinct_sum_of_decimals_is_null_beyond_38_digits() {
        let most = 10_i128.pow(38) - 1;
        let cases: [(&[Option<i128>], Option<i128>); 6] = [
            (&[], None),
            (&[None], None),
            (&[Some(5), Some(5), None, Some(7)], Some(12)),
            (&[Some(most), Some(most)], Some(most)),
            (&[Some(most), Some(1)], None),
            (&[Some(-most), Some(-1), Some(most), Some(2)], Some(1)),
        ];
        let schema = Schema::new(vec![Field::new("d", DataType::Decimal128(38, 0), true)]);
        for (values, expected) in cases {
            let argument = col("d", &schema).expect("the column exists");
            let sum = AggregateExprBuilder::new(sum(), vec![argument])
                .schema(Arc::new(schema.clone()))
                .alias("s")
                .with_distinct(true)
                .build()
                .expect("an aggregate");
            let mut accumulator = sum.create_accumulator().expect("an accumulator");
            let values = Decimal128Array::from(values.to_vec()).with_precision_and_scale(38, 0);
            let values: ArrayRef = Arc::new(values.expect("valid digits"));
            accumulator.update_batch(&[values]).expect("updated");
            let found = accumulator.evaluate().expect("a value");
            assert_eq!(found, ScalarValue::Decimal128(expected, 38, 0));
        }
    }
}
