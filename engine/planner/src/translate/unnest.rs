//! `UNNEST`: the rows of a relation, each once per element of a collection.

use super::context::{Context, Result};
use super::elements::elements_of;
use super::pending::resolve;
use super::projection::project_physical;
use super::relation::{Attribute, ColumnInfo, Relation, bare_column, column};
use crate::logical::Unnest;

/// Returns the rows of a relation, each once per element of a collection.
pub(super) fn unnest(cx: &mut Context<'_>, node: &Unnest, input: Relation) -> Result<Relation> {
    let input = resolve(cx, input)?;
    let schema = node.input.schema();
    let mut exprs = Vec::with_capacity(node.kept.len() + 1);
    let mut columns = Vec::with_capacity(node.kept.len() + 1);
    for kept in &node.kept {
        let index = cx.located(schema.index_of_column(kept))?;
        exprs.push(column(schema.as_arrow(), index));
        columns.push(input.columns[index].clone());
    }
    let collection = cx.physical(&node.collection, schema)?;
    let data_type = cx.located(collection.data_type(schema.as_arrow()))?;
    let name = bare_column(&collection).map_or("$collection", |index| schema.field(index).name());
    columns.push(ColumnInfo {
        name: name.to_owned(),
        data_type,
        attribute: Attribute::None,
        origin: None,
    });
    exprs.push(collection);
    let input = project_physical(cx, input, &exprs, columns)?;
    let elements = node.schema.fields().iter().skip(node.kept.len());
    elements_of(cx, &input, elements, [node.is_outer, node.with_ordinality])
}
