//! Expressions over named inputs.
//!
//! Expressions of a graph refer to columns by position, which unrelated edits change. A [`Symbol`] is an expression in
//! which each column is replaced by its definition, down to columns of source tables and results of stateful operators.
//! Aliases, unused columns and the division of a query into steps do not affect it.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalExprRef, split_conjunction};

use crate::explain;

/// Maximum size of an expression that is represented as a tree, in nodes. Steps over steps can double an expression
/// each time; larger expressions are represented by the beginning of their text and a hash.
const SYMBOL_NODES_MAX: usize = 200;
/// Maximum length of the text of an abbreviated expression, in characters.
const ABBREVIATED_CHARS_MAX: usize = 120;

/// A part of an operator's meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// Readable text.
    pub text: String,
    /// Exact text, which differs for different items even if the readable text does not.
    pub exact: String,
    /// Columns of source tables that the item uses, each followed by NUL and its type.
    pub fields: BTreeSet<String>,
}

impl Item {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            exact: text.clone(),
            text,
            fields: BTreeSet::new(),
        }
    }

    /// Returns a text with items inserted in order.
    pub(super) fn over(text: impl Into<String>, exact: &str, items: &[&Item]) -> Self {
        let exacts: Vec<String> = items.iter().map(|item| format!("<{}>", item.exact)).collect();
        Self {
            text: text.into(),
            exact: format!("{exact}{}", exacts.concat()),
            fields: items.iter().flat_map(|item| item.fields.iter().cloned()).collect(),
        }
    }
}

/// An expression over names.
#[derive(Debug, Clone)]
pub(super) struct Symbol {
    /// The expression over readable names.
    shown: PhysicalExprRef,
    /// The expression over exact names.
    exact: PhysicalExprRef,
    nodes: usize,
}

impl Symbol {
    /// Returns the symbol of a name.
    pub(super) fn named(item: Item, data_type: DataType) -> Self {
        let name = |text: &str| -> PhysicalExprRef {
            Arc::new(Name {
                text: text.to_string(),
                fields: item.fields.clone(),
                data_type: data_type.clone(),
            })
        };
        Self {
            shown: name(&item.text),
            exact: name(&item.exact),
            nodes: 1,
        }
    }

    /// Returns the symbol of an expression over columns.
    pub(super) fn over(expr: &PhysicalExprRef, columns: &[Symbol], schema: &Schema) -> Self {
        let data_type = || expr.data_type(schema).unwrap_or(DataType::Null);
        let shown = replaced(expr, &|expr| match expr.downcast_ref::<Literal>() {
            Some(literal) => quoted(literal),
            None => column(expr, columns).map(|symbol| symbol.shown.clone()),
        });
        // Some functions require constant arguments.
        let shown = shown.or_else(|_| replaced(expr, &|expr| Some(column(expr, columns)?.shown.clone())));
        let exact = replaced(expr, &|expr| Some(column(expr, columns)?.exact.clone()));
        let (Ok(shown), Ok(exact)) = (shown, exact) else {
            // A function whose arguments cannot be replaced is represented by its text and the symbols of its columns.
            let used = columns_of(expr).into_iter().filter_map(|index| columns.get(index));
            let used: Vec<Item> = used.map(Self::item).collect();
            let used: Vec<&Item> = used.iter().collect();
            return Self::named(Item::over(expr.to_string(), &explain::exact(expr), &used), data_type());
        };
        let nodes = size(expr, columns);
        let whole = Self { shown, exact, nodes };
        match nodes <= SYMBOL_NODES_MAX {
            true => whole,
            false => Self::named(abbreviated(whole.item()), data_type()),
        }
    }

    pub(super) fn item(&self) -> Item {
        item(&self.shown, &self.exact)
    }

    /// Returns the conjuncts of a condition.
    pub(super) fn conjuncts(&self) -> Vec<Item> {
        let shown = split_conjunction(&self.shown);
        let exact = split_conjunction(&self.exact);
        shown
            .into_iter()
            .zip(exact)
            .map(|(shown, exact)| item(shown, exact))
            .collect()
    }
}

/// Returns the expression with its leaves replaced.
fn replaced(
    expr: &PhysicalExprRef,
    leaf: &dyn Fn(&PhysicalExprRef) -> Option<PhysicalExprRef>,
) -> Result<PhysicalExprRef> {
    let made = Arc::clone(expr).transform_up(|expr| {
        Ok(match leaf(&expr) {
            Some(leaf) => Transformed::yes(leaf),
            None => Transformed::no(expr),
        })
    });
    Ok(made?.data)
}

fn column<'c>(expr: &PhysicalExprRef, columns: &'c [Symbol]) -> Option<&'c Symbol> {
    columns.get(expr.downcast_ref::<Column>()?.index())
}

/// Returns a string constant in quotes, which its display omits.
fn quoted(literal: &Literal) -> Option<PhysicalExprRef> {
    let ScalarValue::Utf8(Some(text)) = literal.value() else {
        return None;
    };
    Some(Arc::new(Name {
        text: format!("'{}'", text.replace('\'', "''")),
        fields: BTreeSet::new(),
        data_type: DataType::Utf8,
    }))
}

fn item(shown: &PhysicalExprRef, exact: &PhysicalExprRef) -> Item {
    let mut fields = BTreeSet::new();
    walk(exact, |expr| {
        if let Some(name) = expr.downcast_ref::<Name>() {
            fields.extend(name.fields.iter().cloned());
        }
    });
    Item {
        text: explain::expression(shown),
        exact: explain::exact(exact),
        fields,
    }
}

fn abbreviated(item: Item) -> Item {
    let mut hasher = DefaultHasher::new();
    item.exact.hash(&mut hasher);
    let beginning: String = item.text.chars().take(ABBREVIATED_CHARS_MAX).collect();
    let text = format!("{beginning}... (#{:016x})", hasher.finish());
    Item {
        exact: text.clone(),
        text,
        fields: item.fields,
    }
}

/// Returns the number of nodes of an expression after its columns are replaced.
fn size(expr: &PhysicalExprRef, columns: &[Symbol]) -> usize {
    let mut nodes: usize = 0;
    walk(expr, |expr| {
        let column = expr
            .downcast_ref::<Column>()
            .and_then(|column| columns.get(column.index()));
        nodes = nodes.saturating_add(column.map_or(1, |symbol| symbol.nodes));
    });
    nodes
}

fn columns_of(expr: &PhysicalExprRef) -> Vec<usize> {
    let mut found = Vec::new();
    walk(expr, |expr| {
        found.extend(expr.downcast_ref::<Column>().map(Column::index))
    });
    found
}

fn walk(expr: &PhysicalExprRef, mut visit: impl FnMut(&PhysicalExprRef)) {
    expr.apply(|expr| {
        visit(expr);
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the closure never fails");
}

/// A leaf of a symbol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    text: String,
    fields: BTreeSet<String>,
    data_type: DataType,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PhysicalExpr for Name {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, _batch: &RecordBatch) -> Result<ColumnarValue> {
        internal_err!("`{}` is a name, which has no value", self.text)
    }

    fn children(&self) -> Vec<&PhysicalExprRef> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<PhysicalExprRef>) -> Result<PhysicalExprRef> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
