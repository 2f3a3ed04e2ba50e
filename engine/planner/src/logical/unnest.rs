//! `UNNEST`: the rows of a relation, each once per element of a collection.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference, plan_err};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};
use millstream_graph::sql_type;

/// Rows of the input, each once per element of an array or map. Columns: those that are kept of the input, then those
/// of the element, then its position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Unnest {
    pub input: LogicalPlan,
    /// The array or map, over the columns of the input.
    pub collection: Expr,
    /// True if a row whose collection is empty or NULL is kept, with NULLs: `LEFT JOIN UNNEST(...) ON TRUE`.
    pub is_outer: bool,
    pub with_ordinality: bool,
    /// Columns of the input that are passed on.
    pub kept: Vec<Column>,
    /// Table alias and names of the element's columns, and of its position.
    pub relation: Option<TableReference>,
    pub names: Vec<String>,
    pub schema: DFSchemaRef,
}

impl Unnest {
    /// Returns the node over `input`. `collection_type` is the type of the collection.
    pub(crate) fn try_new(
        input: LogicalPlan,
        collection: Expr,
        collection_type: &DataType,
        [is_outer, with_ordinality]: [bool; 2],
        kept: Vec<Column>,
        relation: Option<TableReference>,
        names: Vec<String>,
    ) -> Result<Self> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> = Vec::with_capacity(kept.len() + names.len());
        for column in &kept {
            let (qualifier, field) = input.schema().qualified_field_from_column(column)?;
            fields.push((qualifier.cloned(), Arc::clone(field)));
        }
        let Some(elements) = element_fields(collection_type) else {
            return plan_err!(
                "UNNEST takes an ARRAY, a MAP or a MULTISET, not a value of type {}",
                sql_type::name(collection_type)
            );
        };
        let types = elements.iter().map(|field| field.data_type().clone());
        let types = types.chain(with_ordinality.then_some(DataType::Int32));
        let columns = names.iter().zip(types);
        fields.extend(columns.map(|(name, data_type)| (relation.clone(), Arc::new(Field::new(name, data_type, true)))));
        let metadata = input.schema().as_arrow().metadata().clone();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, metadata)?);
        Ok(Self {
            input,
            collection,
            is_outer,
            with_ordinality,
            kept,
            relation,
            names,
            schema,
        })
    }

    /// Returns the rows of the input, each as often as the number in a column says.
    pub(crate) fn repeated(input: LogicalPlan, number: Expr, kept: Vec<Column>) -> Result<Self> {
        let flags = [false, false];
        Self::try_new(input, number, &DataType::Int64, flags, kept, None, Vec::new())
    }

    /// Returns the node over another input with the same columns and more, or without some that are not read.
    pub(crate) fn over(&self, input: LogicalPlan, collection: Expr, kept: Vec<Column>, is_outer: bool) -> Result<Self> {
        let collection_type = collection.get_type(input.schema())?;
        let flags = [is_outer, self.with_ordinality];
        let (relation, names) = (self.relation.clone(), self.names.clone());
        Self::try_new(input, collection, &collection_type, flags, kept, relation, names)
    }
}

/// Returns the columns of an element: the fields of a row, the key and value of a map, or the element itself; `None` if
/// the type has no elements. A number stands for as many elements without columns.
pub(crate) fn element_fields(collection: &DataType) -> Option<Fields> {
    match collection {
        DataType::List(element) => Some(match element.data_type() {
            DataType::Struct(fields) => fields.clone(),
            _ => Fields::from(vec![Arc::clone(element)]),
        }),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => Some(fields.clone()),
            _ => None,
        },
        DataType::Int64 => Some(Fields::empty()),
        _ => None,
    }
}

impl PartialOrd for Unnest {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.names.partial_cmp(&other.names)
    }
}

impl UserDefinedLogicalNodeCore for Unnest {
    fn name(&self) -> &str {
        "Unnest"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.collection.clone()]
    }

    /// Conditions on elements stay above the node.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.names.iter().cloned().collect()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let outputs = output_columns.iter().filter_map(|&column| self.kept.get(column));
        let mut needed: Vec<usize> = Vec::new();
        for column in outputs.chain(self.collection.column_refs()) {
            needed.push(schema.maybe_index_of_column(column)?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let outer = if self.is_outer { " OUTER" } else { "" };
        write!(f, "Unnest{outer}: {}", self.collection)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(collection), Some(input), true) = (exprs.pop(), inputs.pop(), exprs.is_empty() && inputs.is_empty())
        else {
            return plan_err!("UNNEST has one input and one collection");
        };
        let kept = self.kept.iter();
        let kept = kept.filter(|column| input.schema().maybe_index_of_column(column).is_some());
        let kept = kept.cloned().collect();
        self.over(input, collection, kept, self.is_outer)
    }
}
