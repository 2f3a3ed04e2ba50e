//! `Calc` nodes: filters and projections of existing nodes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{Column, Literal, cast};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use millstream_graph::{Calc, NodeIndex, Operator, Parallelism, Port, Stream};

use super::builder::InputEdge;
use super::context::{Context, Result};
use super::relation::{
    Attribute, Branch, ColumnInfo, VIRTUAL_RANK, bare_column, columns_of, has_field_access, is_field_access,
    is_virtual, stream,
};
use super::{decimal_multiply, field_hoisting, relation, short_circuit, string_case};

/// The error of a rank without an upper bound.
pub(super) const RANK_UNBOUNDED: &str = "ROW_NUMBER(), RANK() and DENSE_RANK() need a bound: SELECT ... FROM (SELECT ..., ROW_NUMBER() \
    OVER (PARTITION BY ... ORDER BY ...) AS rn FROM ...) WHERE rn <= N";

/// Returns a node with these columns of a branch, filtered; the branch's own node if it has them already. With `named`,
/// the columns' names must match too.
pub(super) fn calc(
    cx: &mut Context<'_>,
    branch: &Branch,
    exprs: &[PhysicalExprRef],
    columns: &[ColumnInfo],
    named: bool,
) -> Result<NodeIndex> {
    let schema = cx.schema(branch.node);
    let as_is = branch.filter.is_none()
        && exprs.len() == schema.fields().len()
        && exprs
            .iter()
            .enumerate()
            .all(|(index, expr)| bare_column(expr) == Some(index))
        && (!named
            || columns
                .iter()
                .zip(schema.fields())
                .all(|(column, field)| column.name == *field.name()));
    if as_is {
        return Ok(branch.node);
    }
    if exprs
        .iter()
        .chain(&branch.filter)
        .any(|expr| columns_of(expr).contains(&VIRTUAL_RANK))
    {
        return Err(cx.error(RANK_UNBOUNDED));
    }
    if let Some(filter) = &branch.filter
        && let Some((lower, lifted)) = hoist_fields_before_filter(cx, branch, filter, exprs, columns)?
    {
        return calc(cx, &lower, &lifted, columns, named);
    }
    let (calc, output) = calc_operator(cx, &schema, branch.filter.clone(), exprs, columns)?;
    Ok(cx.add_after(branch.node, "calc", calc, output))
}

/// Adds a node that extracts fields of ROW columns before a filter: extraction copies nothing, but filtering a whole
/// ROW copies all its fields. Returns the branch over the fields and the expressions over it, or `None` if no field is
/// accessed.
fn hoist_fields_before_filter(
    cx: &mut Context<'_>,
    branch: &Branch,
    filter: &PhysicalExprRef,
    exprs: &[PhysicalExprRef],
    columns: &[ColumnInfo],
) -> Result<Option<(Branch, Vec<PhysicalExprRef>)>> {
    if !exprs.iter().chain([filter]).any(has_field_access) {
        return Ok(None);
    }
    let schema = cx.schema(branch.node);
    let mut below = Columns::default();
    let mut lift = |expr: &PhysicalExprRef| {
        Arc::clone(expr).transform_down(|expr| {
            if bare_column(&expr).is_none() && !is_field_access(&expr) {
                return Ok(Transformed::no(expr));
            }
            let known = exprs.iter().position(|output| output == &expr);
            let name = match (bare_column(&expr), known) {
                (Some(index), _) => schema.field(index).name().clone(),
                (None, Some(position)) => columns[position].name.clone(),
                (None, None) => format!("$field{}", below.exprs.len()),
            };
            let info = ColumnInfo {
                data_type: expr.data_type(&schema)?,
                attribute: known.map_or(Attribute::None, |position| columns[position].attribute),
                origin: None,
                name: name.clone(),
            };
            let index = below.index_of(&expr, info);
            let column: PhysicalExprRef = Arc::new(Column::new(&below.infos[index].name, index));
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        })
    };
    let lifted: Result<Vec<_>, _> = exprs.iter().map(|expr| lift(expr).map(|lifted| lifted.data)).collect();
    let filter = lift(filter).map(|lifted| lifted.data);
    let (lifted, filter) = (cx.located(lifted)?, cx.located(filter)?);
    let (calc, output) = calc_operator(cx, &schema, None, &below.exprs, &below.infos)?;
    let node = cx.add_after(branch.node, "fields", calc, output);
    let branch = Branch {
        node,
        filter: Some(filter),
        exprs: lifted.clone(),
        carried: Vec::new(),
    };
    Ok(Some((branch, lifted)))
}

/// Returns a projection of a port other than the main one; the port itself if the projection is the identity.
pub(super) fn calc_over_port(
    cx: &mut Context<'_>,
    node: NodeIndex,
    port: Port,
    schema: &SchemaRef,
    exprs: &[PhysicalExprRef],
    columns: &[ColumnInfo],
) -> Result<(NodeIndex, Port)> {
    let as_is = exprs.len() == schema.fields().len()
        && exprs
            .iter()
            .enumerate()
            .all(|(index, expr)| bare_column(expr) == Some(index));
    if as_is {
        return Ok((node, port));
    }
    Ok((calc_of_port(cx, node, port, schema, exprs, columns)?, Port::Main))
}

/// Returns a node with a projection of a port other than the main one.
pub(super) fn calc_of_port(
    cx: &mut Context<'_>,
    node: NodeIndex,
    port: Port,
    schema: &SchemaRef,
    exprs: &[PhysicalExprRef],
    columns: &[ColumnInfo],
) -> Result<NodeIndex> {
    let (calc, output) = calc_operator(cx, schema, None, exprs, columns)?;
    let parallelism: Parallelism = cx.builder.nodes[node].parallelism;
    let edge = InputEdge {
        port,
        ..cx.builder.unkeyed_edge(node, 0, parallelism)
    };
    Ok(cx.add("calc", calc, vec![edge], output, parallelism))
}

fn calc_operator(
    cx: &Context<'_>,
    input: &Schema,
    filter: Option<PhysicalExprRef>,
    exprs: &[PhysicalExprRef],
    columns: &[ColumnInfo],
) -> Result<(Operator, Stream)> {
    let mut fields = Vec::with_capacity(exprs.len());
    let mut projection = Vec::with_capacity(exprs.len());
    for (expr, column) in exprs.iter().zip(columns) {
        let data_type = cx.located(expr.data_type(input))?;
        // All columns are nullable: an expression that wrongly declares its result not nullable would fail rows at run
        // time.
        fields.push(Field::new(&column.name, data_type, true));
        let expr = cx.located(short_circuit::rewrite(expr.clone(), input))?;
        let expr = cx.located(decimal_multiply::rewrite(expr, input))?;
        let expr = cx.located(string_case::rewrite(expr, input))?;
        projection.push(ProjectionExpr {
            expr: cx.located(field_hoisting::rewrite(expr, input))?,
            alias: column.name.clone(),
        });
    }
    let filter = filter.map(|filter| {
        let filter = short_circuit::rewrite(filter, input)?;
        decimal_multiply::rewrite(filter, input)
    });
    let filter = filter.transpose();
    let operator = Operator::Calc(Calc {
        filter: cx.located(filter)?,
        projection,
        on_error: cx.scope.on_error,
    });
    Ok((operator, stream(Arc::new(Schema::new(fields)), columns)))
}

/// Adds a node that computes all expressions of a branch over existing columns. The remaining expressions refer to the
/// new node.
pub(super) fn materialize_branch(cx: &mut Context<'_>, branch: &Branch, columns: &[ColumnInfo]) -> Result<Branch> {
    let schema = cx.schema(branch.node);
    let mut below = Columns::default();
    let above_filter = branch.filter.clone().filter(is_virtual);
    let below_filter = branch.filter.clone().filter(|filter| !is_virtual(filter));
    let unnamed = |index: usize| ColumnInfo {
        name: schema.field(index).name().clone(),
        data_type: schema.field(index).data_type().clone(),
        attribute: Attribute::None,
        origin: None,
    };
    // New positions of the columns that the remaining expressions read.
    let mut moved = HashMap::new();
    let mut exprs: Vec<Option<usize>> = Vec::new();
    for (expr, info) in branch.exprs.iter().zip(columns) {
        exprs.push((!is_virtual(expr)).then(|| below.index_of(expr, info.clone())));
    }
    let mut carried = Vec::new();
    for (place, expr) in branch.carried.iter().enumerate() {
        let name = match bare_column(expr) {
            Some(index) => schema.field(index).name().clone(),
            None => format!("$carried{place}"),
        };
        let data_type = cx.located(expr.data_type(&schema))?;
        let info = ColumnInfo {
            name,
            data_type,
            attribute: Attribute::None,
            origin: None,
        };
        carried.push(below.index_of(expr, info));
    }
    let upper = branch.exprs.iter().filter(|expr| is_virtual(expr)).chain(&above_filter);
    for index in upper
        .flat_map(columns_of)
        .filter(|&index| index < schema.fields().len())
    {
        let expr = relation::column(&schema, index);
        moved.insert(index, below.index_of(&expr, unnamed(index)));
    }
    let lower = Branch {
        filter: below_filter,
        ..branch.clone()
    };
    let node = calc(cx, &lower, &below.exprs, &below.infos, false)?;
    let schema = cx.schema(node);
    let column = |index: usize| relation::column(&schema, index);
    let move_up =
        |expr: &PhysicalExprRef| relation::substitute(expr, &|index| moved.get(&index).map(|&index| column(index)));
    let mut new_exprs = Vec::with_capacity(exprs.len());
    for (below, expr) in exprs.iter().zip(&branch.exprs) {
        new_exprs.push(match below {
            Some(index) => column(*index),
            None => cx.located(move_up(expr))?,
        });
    }
    Ok(Branch {
        node,
        filter: cx.located(above_filter.as_ref().map(move_up).transpose())?,
        exprs: new_exprs,
        carried: carried.into_iter().map(column).collect(),
    })
}

/// Columns of a node that is being made, without duplicates; volatile expressions are not merged.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub exprs: Vec<PhysicalExprRef>,
    pub infos: Vec<ColumnInfo>,
    /// True to keep duplicates.
    pub keep_equal: bool,
}

impl Columns {
    pub(super) fn index_of(&mut self, expr: &PhysicalExprRef, info: ColumnInfo) -> usize {
        let known = self.exprs.iter().position(|known| known == expr);
        if let Some(index) = known.filter(|_| !self.keep_equal && !is_volatile(expr)) {
            if self.infos[index].attribute == Attribute::None {
                self.infos[index].attribute = info.attribute;
            }
            return index;
        }
        self.exprs.push(expr.clone());
        self.infos.push(info);
        self.exprs.len() - 1
    }
}

/// Returns a literal NULL of a type.
pub(super) fn null(data_type: &DataType) -> Result<PhysicalExprRef, DataFusionError> {
    Ok(Arc::new(Literal::new(ScalarValue::try_from(data_type)?)))
}

/// Returns an expression over a schema in this type.
pub(super) fn cast_if_needed(
    cx: &Context<'_>,
    expr: PhysicalExprRef,
    schema: &Schema,
    wanted: &DataType,
) -> Result<PhysicalExprRef> {
    if cx.located(expr.data_type(schema))? == *wanted {
        return Ok(expr);
    }
    cx.located(cast(expr, schema, wanted.clone()))
}
