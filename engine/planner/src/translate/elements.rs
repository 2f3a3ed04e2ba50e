//! `Unnest` nodes, which repeat the rows of a relation for the elements of a collection.

use std::sync::Arc;

use arrow_schema::{Field, FieldRef, Schema};
use millstream_graph::{Operator, Unnest};

use super::calc::materialize_branch;
use super::context::{Context, Result};
use super::relation::{Attribute, Branch, ColumnInfo, Pending, Relation, all_columns, bare_column, stream};

/// Returns the rows of a relation without a pending part, whose last column is a collection: its other columns, once
/// per element, and the columns `elements` of the element.
pub(super) fn elements_of<'f>(
    cx: &mut Context<'_>,
    input: &Relation,
    elements: impl Iterator<Item = &'f FieldRef>,
    [is_outer, with_ordinality]: [bool; 2],
) -> Result<Relation> {
    let mut columns = input.columns.clone();
    columns.pop();
    columns.extend(elements.map(|field| ColumnInfo {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        attribute: Attribute::None,
        origin: None,
    }));
    let mut branches = Vec::with_capacity(input.branches.len());
    for branch in &input.branches {
        let branch = materialize_branch(cx, branch, &input.columns)?;
        let positions: Option<Vec<usize>> = branch.exprs.iter().map(bare_column).collect();
        let Some((&collection, kept)) = positions.as_deref().and_then(<[usize]>::split_last) else {
            return Err(cx.error("the columns of UNNEST are not computed"));
        };
        let below = cx.schema(branch.node);
        let mut fields: Vec<Field> = kept.iter().map(|&index| below.field(index).clone()).collect();
        let elements = columns[kept.len()..].iter();
        fields.extend(elements.map(|info| Field::new(&info.name, info.data_type.clone(), true)));
        let output = stream(Arc::new(Schema::new(fields)), &columns);
        let made = all_columns(&output.schema, columns.len());
        let operator = Operator::Unnest(Unnest {
            collection,
            kept: kept.to_vec(),
            is_outer,
            with_ordinality,
        });
        branches.push(Branch {
            node: cx.add_after(branch.node, "unnest", operator, output),
            filter: None,
            exprs: made,
            carried: Vec::new(),
        });
    }
    Ok(Relation {
        branches,
        columns,
        pending: Pending::Nothing,
    })
}
