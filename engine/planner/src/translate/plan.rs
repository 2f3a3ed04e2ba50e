//! One logical plan node after the other, bottom up. Projections and filters stay pending in the relation; the other
//! kinds have files of their own.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Union};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;

use super::builder::InputEdge;
use super::common_subplans::step_reference;
use super::relation::{
    Attribute, Branch, ColumnInfo, Pending, Relation, VIRTUAL_RANK, bare_column, columns_of, has_field_access,
    is_field_access, is_virtual, stream,
};
use super::{Result, Scope, Translator, error_at};
use crate::logical::WindowTableFunction;
use millstream_graph::{Calc, NodeIndex, Operator, Parallelism, Port};

impl Translator<'_> {
    /// Deep plans (long chains of views) grow the stack instead of overflowing it.
    #[recursive::recursive]
    pub(super) fn plan(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let input = self.plan(&projection.input)?;
                self.project(input, &projection.expr, projection.input.schema(), &projection.schema)
            }
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                self.filter(input, &filter.predicate, filter.input.schema())
            }
            LogicalPlan::SubqueryAlias(alias) => self.subquery_alias(alias.alias.table(), &alias.input),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Distinct(Distinct::On(_)) => {
                Err(self.error("DISTINCT ON is not supported; use ROW_NUMBER() per window with WHERE rn = 1"))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Window(window) => self.row_number(window),
            LogicalPlan::Extension(extension) => {
                if let Some(function) = extension.node.as_any().downcast_ref::<WindowTableFunction>() {
                    return self.window_function(function);
                }
                if let Some(step) = step_reference(plan) {
                    return self.shared_step(&step.name);
                }
                Err(self.error(format!("{} is not supported in a pipeline", extension.node.name())))
            }
            other => Err(self.error(unsupported_node(other))),
        }
    }

    /// A step's or a user's name for a relation: nodes below it belong to the step.
    fn subquery_alias(&mut self, name: &str, input: &LogicalPlan) -> Result<Relation> {
        let Some(step) = self.pipeline.steps.iter().find(|step| step.name == name) else {
            return self.plan(input);
        };
        let scope = Scope {
            owner: step.name.clone(),
            location: step.location.clone(),
            on_error: self.scope.on_error,
        };
        let outer = std::mem::replace(&mut self.scope, scope);
        let relation = self.plan(input);
        self.scope = outer;
        relation
    }

    fn project(
        &mut self,
        input: Relation,
        exprs: &[Expr],
        input_schema: &DFSchema,
        output_schema: &DFSchema,
    ) -> Result<Relation> {
        let mut physical = Vec::with_capacity(exprs.len());
        let mut columns = Vec::with_capacity(exprs.len());
        for (expr, field) in exprs.iter().zip(output_schema.fields()) {
            let made = self.physical(expr, input_schema)?;
            let source = bare_column(&made).map(|index| &input.columns[index]);
            let attribute = match source {
                Some(column) => column.attribute,
                None if crate::functions::is_proctime(expr) => Attribute::ProcessingTime,
                None => Attribute::None,
            };
            columns.push(ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                attribute,
                origin: source.and_then(|column| column.origin.clone()),
            });
            physical.push(made);
        }
        self.project_physical(input, &physical, columns)
    }

    /// New columns over a relation's.
    pub(super) fn project_physical(
        &mut self,
        input: Relation,
        exprs: &[PhysicalExprRef],
        columns: Vec<ColumnInfo>,
    ) -> Result<Relation> {
        let input = self.materialize_if_repeated(input, exprs)?;
        let mut branches = Vec::with_capacity(input.branches.len());
        for branch in &input.branches {
            let composed: Result<Vec<_>, _> = exprs.iter().map(|expr| branch.compose(expr)).collect();
            branches.push(Branch {
                exprs: self.located(composed)?,
                ..branch.clone()
            });
        }
        Ok(Relation {
            branches,
            columns,
            pending: input.pending,
        })
    }

    fn filter(&mut self, input: Relation, predicate: &Expr, schema: &DFSchema) -> Result<Relation> {
        let mut rest = Vec::new();
        let mut input = input;
        for condition in datafusion::logical_expr::utils::split_conjunction(predicate) {
            if !self.rank_bound(&mut input, condition, schema)? {
                rest.push(self.physical(condition, schema)?);
            }
        }
        for condition in rest {
            input = self.filter_physical(input, &condition)?;
        }
        Ok(input)
    }

    fn filter_physical(&mut self, input: Relation, predicate: &PhysicalExprRef) -> Result<Relation> {
        if let Some(literal) = predicate.downcast_ref::<Literal>()
            && literal.value() == &ScalarValue::Boolean(Some(true))
        {
            return Ok(input);
        }
        let input = self.materialize_if_repeated(input, std::slice::from_ref(predicate))?;
        let mut input = self.materialize_if_volatile(input, std::slice::from_ref(predicate))?;
        let pending = match &input.pending {
            Pending::Window(pending) => Some(pending.clone()),
            _ => None,
        };
        let mut on_session_keys = true;
        for branch in &mut input.branches {
            let condition = branch.compose(predicate);
            let condition = condition.map_err(|error| error_at(error, &self.scope.location))?;
            let session_keys = pending.as_ref().map_or(&[][..], |pending| pending.keys(branch));
            on_session_keys &= columns_of(&condition)
                .iter()
                .all(|&column| session_keys.iter().any(|key| bare_column(key) == Some(column)));
            branch.filter = Some(match branch.filter.take() {
                Some(filter) => Arc::new(BinaryExpr::new(
                    filter,
                    datafusion::logical_expr::Operator::And,
                    condition,
                )),
                None => condition,
            });
        }
        if let Pending::Window(pending) = &mut input.pending {
            pending.filtered |= !on_session_keys;
        }
        Ok(input)
    }

    fn union(&mut self, union: &Union) -> Result<Relation> {
        let mut branches = Vec::new();
        let mut columns: Option<Vec<ColumnInfo>> = None;
        for input in parts(union) {
            let relation = self.plan(input)?;
            let relation = self.resolve(relation)?;
            columns = Some(match columns {
                None => relation.columns.clone(),
                Some(columns) => self.common_columns(columns, &relation.columns),
            });
            branches.extend(relation.branches);
        }
        let mut columns = columns.ok_or_else(|| self.error("UNION ALL of nothing"))?;
        for (column, field) in columns.iter_mut().zip(union.schema.fields()) {
            column.name = field.name().clone();
            if column.data_type != *field.data_type() {
                return Err(self.error(format!(
                    "column `{}` has type {} in one part of UNION ALL and {} in the whole; add a CAST",
                    column.name,
                    column.data_type,
                    field.data_type()
                )));
            }
        }
        Ok(Relation {
            branches,
            columns,
            pending: Pending::Nothing,
        })
    }

    /// What the columns of two parts of a union still mean together.
    pub(super) fn common_columns(&self, mut left: Vec<ColumnInfo>, right: &[ColumnInfo]) -> Vec<ColumnInfo> {
        for (column, other) in left.iter_mut().zip(right) {
            let same = match (column.attribute, other.attribute) {
                (Attribute::Window(a, bound), Attribute::Window(b, other)) => {
                    bound == other
                        && self.windows[a].window == self.windows[b].window
                        && self.windows[a].processing_time == self.windows[b].processing_time
                }
                (a, b) => a == b,
            };
            if !same {
                column.attribute = Attribute::None;
            }
            if column.origin != other.origin {
                column.origin = None;
            }
        }
        left
    }

    fn materialize_if_repeated(&mut self, relation: Relation, exprs: &[PhysicalExprRef]) -> Result<Relation> {
        if relation.branches.iter().any(|branch| branch.would_repeat(exprs)) {
            self.materialize(relation)
        } else {
            Ok(relation)
        }
    }

    /// What is read beside its own column must be computed once, if it is another value each time: a condition on
    /// `RAND() AS u` is one on the `u` that the row has.
    pub(super) fn materialize_if_volatile(
        &mut self,
        relation: Relation,
        exprs: &[PhysicalExprRef],
    ) -> Result<Relation> {
        let reads_volatile = |relation: &Relation| relation.branches.iter().any(|branch| branch.reads_volatile(exprs));
        if !reads_volatile(&relation) {
            return Ok(relation);
        }
        let settled = self.materialize(relation)?;
        if !reads_volatile(&settled) {
            return Ok(settled);
        }
        // It is made of a pending window's bounds too.
        let resolved = self.resolve(settled)?;
        self.materialize(resolved)
    }

    /// Makes a node of what is pending on each branch, so that its columns are computed. A pending window or rank
    /// stays pending.
    pub(super) fn materialize(&mut self, mut relation: Relation) -> Result<Relation> {
        if let Pending::Rank(_) = relation.pending {
            relation = self.resolve(relation)?;
        }
        for index in 0..relation.branches.len() {
            relation.branches[index] = self.materialize_branch(&relation.branches[index].clone(), &relation.columns)?;
        }
        Ok(relation)
    }

    /// Computes everything of a branch that depends on existing columns. What is left over refers to the new node.
    pub(super) fn materialize_branch(&mut self, branch: &Branch, columns: &[ColumnInfo]) -> Result<Branch> {
        let schema = self.schema(branch.node);
        let mut below = Columns::default();
        let above_filter = branch.filter.clone().filter(is_virtual);
        let below_filter = branch.filter.clone().filter(|filter| !is_virtual(filter));
        let unnamed = |index: usize| ColumnInfo {
            name: schema.field(index).name().clone(),
            data_type: schema.field(index).data_type().clone(),
            attribute: Attribute::None,
            origin: None,
        };
        // Where each column that upper expressions need has gone.
        let mut moved = std::collections::HashMap::new();
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
            let data_type = self.located(expr.data_type(&schema))?;
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
            let expr = super::relation::column(&schema, index);
            moved.insert(index, below.index_of(&expr, unnamed(index)));
        }
        let lower = Branch {
            filter: below_filter,
            ..branch.clone()
        };
        let node = self.calc(&lower, &below.exprs, &below.infos, false)?;
        let schema = self.schema(node);
        let column = |index: usize| super::relation::column(&schema, index);
        let move_up = |expr: &PhysicalExprRef| {
            super::relation::substitute(expr, &|index| moved.get(&index).map(|&index| column(index)))
        };
        let mut new_exprs = Vec::with_capacity(exprs.len());
        for (below, expr) in exprs.iter().zip(&branch.exprs) {
            new_exprs.push(match below {
                Some(index) => column(*index),
                None => self.located(move_up(expr))?,
            });
        }
        Ok(Branch {
            node,
            filter: self.located(above_filter.as_ref().map(move_up).transpose())?,
            exprs: new_exprs,
            carried: carried.into_iter().map(column).collect(),
        })
    }

    /// The node with these columns of a branch (filter applied): the branch's own node where nothing is to be done.
    /// With `named`, the columns' names must be right too.
    pub(super) fn calc(
        &mut self,
        branch: &Branch,
        exprs: &[PhysicalExprRef],
        columns: &[ColumnInfo],
        named: bool,
    ) -> Result<NodeIndex> {
        let schema = self.schema(branch.node);
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
            return Err(self.error(super::top_n::RANK_UNBOUNDED));
        }
        if let Some(filter) = &branch.filter
            && let Some((lower, lifted)) = self.hoist_fields_before_filter(branch, filter, exprs, columns)?
        {
            return self.calc(&lower, &lifted, columns, named);
        }
        let (calc, output) = self.calc_operator(&schema, branch.filter.clone(), exprs, columns)?;
        let parallelism = self.builder.nodes[branch.node].parallelism;
        let edge = self.builder.unkeyed_edge(branch.node, 0, parallelism);
        let owner = self.scope.owner.clone();
        Ok(self.builder.add(&owner, "calc", calc, vec![edge], output, parallelism))
    }

    /// Takes fields out of ROW columns before a filter: taking them costs nothing, but filtering a whole ROW copies all
    /// its fields. The branch over the fields, and the expressions over it; nothing where no field is taken.
    fn hoist_fields_before_filter(
        &mut self,
        branch: &Branch,
        filter: &PhysicalExprRef,
        exprs: &[PhysicalExprRef],
        columns: &[ColumnInfo],
    ) -> Result<Option<(Branch, Vec<PhysicalExprRef>)>> {
        if !exprs.iter().chain([filter]).any(has_field_access) {
            return Ok(None);
        }
        let schema = self.schema(branch.node);
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
        let (lifted, filter) = (self.located(lifted)?, self.located(filter)?);
        let (calc, output) = self.calc_operator(&schema, None, &below.exprs, &below.infos)?;
        let parallelism = self.builder.nodes[branch.node].parallelism;
        let edge = self.builder.unkeyed_edge(branch.node, 0, parallelism);
        let owner = self.scope.owner.clone();
        let node = self
            .builder
            .add(&owner, "fields", calc, vec![edge], output, parallelism);
        let branch = Branch {
            node,
            filter: Some(filter),
            exprs: lifted.clone(),
            carried: Vec::new(),
        };
        Ok(Some((branch, lifted)))
    }

    /// A projection of what another port than the main one carries; nothing where it is the identity.
    pub(super) fn calc_over_port(
        &mut self,
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
        let (calc, output) = self.calc_operator(schema, None, exprs, columns)?;
        let parallelism: Parallelism = self.builder.nodes[node].parallelism;
        let edge = InputEdge {
            port,
            ..self.builder.unkeyed_edge(node, 0, parallelism)
        };
        let owner = self.scope.owner.clone();
        let node = self.builder.add(&owner, "calc", calc, vec![edge], output, parallelism);
        Ok((node, Port::Main))
    }

    fn calc_operator(
        &self,
        input: &Schema,
        filter: Option<PhysicalExprRef>,
        exprs: &[PhysicalExprRef],
        columns: &[ColumnInfo],
    ) -> Result<(Operator, millstream_graph::Stream)> {
        let mut fields = Vec::with_capacity(exprs.len());
        let mut projection = Vec::with_capacity(exprs.len());
        for (expr, column) in exprs.iter().zip(columns) {
            let data_type = self.located(expr.data_type(input))?;
            // Nullable, whatever the expression promises: a wrong promise would fail rows at run time.
            fields.push(Field::new(&column.name, data_type, true));
            let expr = self.located(super::short_circuit::rewrite(expr.clone(), input))?;
            let expr = self.located(super::decimal_multiply::rewrite(expr, input))?;
            let expr = self.located(super::string_case::rewrite(expr, input))?;
            projection.push(ProjectionExpr {
                expr: self.located(super::field_hoisting::rewrite(expr, input))?,
                alias: column.name.clone(),
            });
        }
        let filter = filter.map(|filter| {
            let filter = super::short_circuit::rewrite(filter, input)?;
            super::decimal_multiply::rewrite(filter, input)
        });
        let filter = filter.transpose();
        let operator = Operator::Calc(Calc {
            filter: self.located(filter)?,
            projection,
            on_error: self.scope.on_error,
        });
        Ok((operator, stream(Arc::new(Schema::new(fields)), columns)))
    }
}

/// Columns of a node in the making, each expression once; what is another value each time, as often as it is asked for.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub exprs: Vec<PhysicalExprRef>,
    pub infos: Vec<ColumnInfo>,
}

impl Columns {
    pub fn index_of(&mut self, expr: &PhysicalExprRef, info: ColumnInfo) -> usize {
        let known = self.exprs.iter().position(|known| known == expr);
        if let Some(index) = known.filter(|_| !is_volatile(expr)) {
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

/// The parts of a union and of the unions within it, in order.
fn parts(union: &Union) -> Vec<&LogicalPlan> {
    let mut parts = Vec::new();
    let mut waiting: Vec<&LogicalPlan> = union.inputs.iter().rev().map(AsRef::as_ref).collect();
    while let Some(plan) = waiting.pop() {
        match plan {
            LogicalPlan::Union(union) => waiting.extend(union.inputs.iter().rev().map(AsRef::as_ref)),
            other => parts.push(other),
        }
    }
    parts
}

/// A literal NULL.
pub(super) fn null(data_type: &DataType) -> Result<PhysicalExprRef, datafusion::error::DataFusionError> {
    Ok(Arc::new(Literal::new(ScalarValue::try_from(data_type)?)))
}

/// What to write instead of a plan node that a stream cannot run.
fn unsupported_node(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Sort(_) => "ORDER BY over a stream has no end to wait for: drop it, or take the first rows of \
             each window with ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY ...) and WHERE rn <= N"
            .to_owned(),
        LogicalPlan::Limit(_) => "LIMIT over a stream is not supported: take the first rows of each window with \
             ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY ...) and WHERE rn <= N, or bound the \
             source"
            .to_owned(),
        LogicalPlan::Values(_) => "VALUES is not supported as an input: read it from a table".to_owned(),
        LogicalPlan::EmptyRelation(_) => "a query needs a FROM clause: a pipeline reads a table".to_owned(),
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE is not supported over streams".to_owned(),
        LogicalPlan::Unnest(_) => "UNNEST is not supported yet".to_owned(),
        LogicalPlan::Subquery(_) => "this form of subquery is not supported: write it as a window join".to_owned(),
        other => format!("{} is not supported in a pipeline", other.display()),
    }
}
