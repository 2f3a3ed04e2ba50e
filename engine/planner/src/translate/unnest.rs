//! `UNNEST`: a node per branch that repeats rows for the elements of a collection.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use millstream_graph::{Operator, Unnest as UnnestOperator};

use super::context::{Context, Result};
use super::pending::{materialize, resolve};
use super::projection::project_physical;
use super::relation::{Attribute, Branch, ColumnInfo, Pending, Relation, all_columns, bare_column, column, stream};
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
    let input = project_physical(cx, input, &exprs, columns.clone())?;
    let input = materialize(cx, input)?;
    columns.pop();

    let elements = node.schema.fields().iter().skip(node.kept.len());
    columns.extend(elements.map(|field| ColumnInfo {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        attribute: Attribute::None,
        origin: None,
    }));
    let mut branches = Vec::with_capacity(input.branches.len());
    for branch in &input.branches {
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
        let operator = Operator::Unnest(UnnestOperator {
            collection,
            kept: kept.to_vec(),
            is_outer: node.is_outer,
            with_ordinality: node.with_ordinality,
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
