//! Physical expressions with a faster or stricter evaluation than DataFusion's.
//!
//! A [`SpecializedExpr`] wraps the original expression and replaces only its evaluation. It is displayed, compared and
//! hashed as the original, which is its only child, so that planning code and fingerprints see no difference.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::{FieldRef, Schema};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{PhysicalExpr, PhysicalExprRef};

/// An alternative evaluation of an expression.
pub(super) trait Specialization: fmt::Debug + Send + Sync + Sized + 'static {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue>;

    /// Specialises the expression again after its columns were renumbered; their types are unchanged. Returns `None`
    /// if the new expression cannot be specialised.
    fn rebuild(&self, original: &PhysicalExprRef) -> Result<Option<Self>>;
}

/// An expression that is evaluated by `S`.
#[derive(Debug)]
pub(super) struct SpecializedExpr<S> {
    original: PhysicalExprRef,
    specialization: S,
}

/// Wraps an expression so that it is evaluated by `specialization`.
pub(super) fn specialized<S: Specialization>(original: PhysicalExprRef, specialization: S) -> PhysicalExprRef {
    Arc::new(SpecializedExpr {
        original,
        specialization,
    })
}

impl<S: Specialization> PhysicalExpr for SpecializedExpr<S> {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.specialization.evaluate(batch)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.original.return_field(input)
    }

    fn children(&self) -> Vec<&PhysicalExprRef> {
        vec![&self.original]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<PhysicalExprRef>) -> Result<PhysicalExprRef> {
        let original = children.remove(0);
        Ok(match self.specialization.rebuild(&original)? {
            Some(specialization) => specialized(original, specialization),
            None => original,
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original.fmt_sql(f)
    }
}

impl<S> fmt::Display for SpecializedExpr<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original.fmt(f)
    }
}

impl<S> PartialEq for SpecializedExpr<S> {
    fn eq(&self, other: &Self) -> bool {
        self.original.eq(&other.original)
    }
}

impl<S> Eq for SpecializedExpr<S> {}

impl<S> Hash for SpecializedExpr<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.original.hash(state);
    }
}

/// Returns true if an expression is evaluated by `S`.
#[cfg(test)]
pub(super) fn is_specialized_by<S: Specialization>(expr: &PhysicalExprRef) -> bool {
    expr.downcast_ref::<SpecializedExpr<S>>().is_some()
}
