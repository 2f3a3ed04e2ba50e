//! An expression that is computed another way than DataFusion does.
//!
//! To everyone who looks at it, the planner included, it is still the expression it stands for: shown alike, equal to it
//! alone, its only child. Only its values come from somewhere else.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::{FieldRef, Schema};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{PhysicalExpr, PhysicalExprRef};

/// Another way to the values of an expression.
pub(super) trait Way: fmt::Debug + Send + Sync + Sized + 'static {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue>;

    /// The way for the same expression over columns that have moved, with types as they were; `None` if it is another.
    fn again(&self, original: &PhysicalExprRef) -> Result<Option<Self>>;
}

#[derive(Debug)]
pub(super) struct Instead<W> {
    original: PhysicalExprRef,
    way: W,
}

/// The expression, computed this way.
pub(super) fn instead<W: Way>(original: PhysicalExprRef, way: W) -> PhysicalExprRef {
    Arc::new(Instead { original, way })
}

impl<W: Way> PhysicalExpr for Instead<W> {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.way.evaluate(batch)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.original.return_field(input)
    }

    fn children(&self) -> Vec<&PhysicalExprRef> {
        vec![&self.original]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<PhysicalExprRef>) -> Result<PhysicalExprRef> {
        let original = children.remove(0);
        Ok(match self.way.again(&original)? {
            Some(way) => instead(original, way),
            None => original,
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original.fmt_sql(f)
    }
}

impl<W> fmt::Display for Instead<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original.fmt(f)
    }
}

impl<W> PartialEq for Instead<W> {
    fn eq(&self, other: &Self) -> bool {
        self.original.eq(&other.original)
    }
}

impl<W> Eq for Instead<W> {}

impl<W> Hash for Instead<W> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.original.hash(state);
    }
}

/// Whether an expression is computed in the way `W`.
#[cfg(test)]
pub(super) fn is_computed_by<W: Way>(expr: &PhysicalExprRef) -> bool {
    expr.downcast_ref::<Instead<W>>().is_some()
}
