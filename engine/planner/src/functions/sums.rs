//! `SUM` and `AVG` with Flink's types of decimals (`LogicalTypeMerging.findSumAggType`, `findAvgAggType`): results have
//! precision 38, and an average has scale 6 at least.
//!
//! All else is DataFusion's. An average of decimals is planned as a quotient and never computed here.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, FieldRef};
use datafusion::common::ScalarValue;
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
        self.inner.accumulator(arguments)
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
