//! `UNNEST(collection) [WITH ORDINALITY] [AS t(x, ...)]` in `FROM`.
//!
//! The relation and the joins before it are planned together ([`nested_joins`](super::nested_joins)), as an
//! [`Unnest`] of the joined rows.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, TableReference, plan_err};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::{coalesce, get_field};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast::{
    FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, TableAlias, TableFactor,
};
use millstream_graph::{multiset, sql_type};

use crate::logical::{Unnest, element_fields};

/// Default name of the column of the elements' positions.
const ORDINALITY: &str = "ORDINALITY";

/// Makes an `UNNEST` of a table function of this name, as which it is parsed.
pub(super) fn read(factor: &mut TableFactor) {
    let TableFactor::Table {
        name,
        args: Some(arguments),
        alias,
        with_ordinality,
        ..
    } = factor
    else {
        return;
    };
    if !name.to_string().eq_ignore_ascii_case("UNNEST") {
        return;
    }
    let collections = arguments.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(collection)) => Some(collection.clone()),
        _ => None,
    });
    let Some(array_exprs) = collections.collect() else {
        return;
    };
    *factor = TableFactor::UNNEST {
        alias: alias.take(),
        array_exprs,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: *with_ordinality,
    };
}

/// Returns the relation of an `UNNEST` of constants, or of columns of the query around, which are refused later.
pub(super) fn plan(factor: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let row = LogicalPlanBuilder::empty(true).build()?;
    of_rows(row, factor, Vec::new(), false, context)
}

/// Returns the rows of a join with an `UNNEST`, which may read the columns of the left side.
pub(super) fn join(left: LogicalPlan, join: Join, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let (is_outer, constraint) = match join.join_operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) | JoinOperator::CrossJoin(constraint) => {
            (false, constraint)
        }
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (true, constraint),
        _ => return plan_err!("UNNEST can be the right side of a CROSS JOIN, an INNER JOIN or a LEFT JOIN only"),
    };
    let condition = match constraint {
        JoinConstraint::None => None,
        JoinConstraint::On(condition) => Some(condition),
        JoinConstraint::Using(_) | JoinConstraint::Natural => {
            return plan_err!("USING and NATURAL are not supported in a join with UNNEST: write CROSS JOIN and WHERE");
        }
    };
    let kept = left.schema().columns();
    let rows = of_rows(left, join.relation, kept, is_outer, context)?;
    let Some(condition) = condition else { return Ok(rows) };
    let condition = context.sql_to_expr(condition, rows.schema())?;
    if matches!(&condition, Expr::Literal(value, _) if *value == true.into()) {
        return Ok(rows);
    }
    if is_outer {
        return plan_err!(
            "LEFT JOIN UNNEST(...) takes the condition ON TRUE only: filter the array or map itself, or write CROSS JOIN"
        );
    }
    LogicalPlanBuilder::from(rows).filter(condition)?.build()
}

/// Returns the rows of a relation, each once per element.
fn of_rows(
    rows: LogicalPlan,
    factor: TableFactor,
    kept: Vec<Column>,
    is_outer: bool,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let TableFactor::UNNEST {
        alias,
        mut array_exprs,
        with_ordinality,
        ..
    } = factor
    else {
        return plan_err!("`{factor}` is not an UNNEST");
    };
    let (Some(collection), true) = (array_exprs.pop(), array_exprs.is_empty()) else {
        return plan_err!("UNNEST takes one ARRAY, MAP or MULTISET: write CROSS JOIN UNNEST(...) for each");
    };
    let collection = context.sql_to_expr(collection, rows.schema())?;
    let collection_type = collection.get_type(rows.schema())?;
    if multiset::element(&collection_type).is_some() {
        if with_ordinality {
            return plan_err!("the elements of a MULTISET have no order: leave WITH ORDINALITY out");
        }
        return of_multisets(rows, collection, alias, kept, is_outer, context);
    }
    let elements = element_fields(&collection_type).filter(|fields| !fields.is_empty());
    let Some(elements) = elements else {
        return plan_err!(
            "UNNEST takes an ARRAY, a MAP or a MULTISET, not a value of type {}",
            sql_type::name(&collection_type)
        );
    };
    let mut names: Vec<String> = elements.iter().map(|field| field.name().clone()).collect();
    let is_plain = names.len() == 1;
    names.extend(with_ordinality.then(|| ORDINALITY.to_owned()));
    let relation = rename(&mut names, is_plain, alias, context)?;
    let flags = [is_outer, with_ordinality];
    let node = Unnest::try_new(rows, collection, &collection_type, flags, kept, relation, names)?;
    let node = Arc::new(node);
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// Names of the columns of a multiset's entries.
const ENTRY: [&str; 2] = ["$element", "$count"];

/// Returns the rows of a relation, each once per element of a multiset: once per entry, and those as often as the entry
/// counts.
fn of_multisets(
    rows: LogicalPlan,
    collection: Expr,
    alias: Option<TableAlias>,
    kept: Vec<Column>,
    is_outer: bool,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let collection_type = collection.get_type(rows.schema())?;
    let fields = match multiset::element(&collection_type) {
        Some(DataType::Struct(fields)) => Some(fields),
        _ => None,
    };
    let mut names: Vec<String> = match fields {
        Some(fields) => fields.iter().map(|field| field.name().clone()).collect(),
        None => vec!["EXPR$0".to_owned()],
    };
    let is_plain = names.len() == 1;
    let relation = rename(&mut names, is_plain, alias, context)?;
    let entry = ENTRY.map(str::to_owned).to_vec();
    let entries = Unnest::try_new(
        rows,
        collection,
        &collection_type,
        [is_outer, false],
        kept.clone(),
        None,
        entry,
    )?;
    let entries = LogicalPlan::Extension(Extension {
        node: Arc::new(entries),
    });
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let count = cast(column(ENTRY[1]), DataType::Int64);
    // An empty multiset of an outer join is one row without an element.
    let number = coalesce(vec![count, lit(1_i64)]);
    let kept_and_element = kept.iter().cloned().chain([Column::new_unqualified(ENTRY[0])]);
    let repeated = Unnest::repeated(entries, number, kept_and_element.collect())?;
    let repeated = LogicalPlan::Extension(Extension {
        node: Arc::new(repeated),
    });
    let values: Vec<Expr> = match fields {
        Some(fields) => {
            let fields = fields.iter();
            fields
                .map(|field| get_field(column(ENTRY[0]), field.name().as_str()))
                .collect()
        }
        None => vec![column(ENTRY[0])],
    };
    let values = values.into_iter().zip(names);
    let values = values.map(|(value, name)| value.alias_qualified(relation.clone(), name));
    let outputs = kept.into_iter().map(Expr::Column).chain(values);
    LogicalPlanBuilder::from(repeated).project(outputs)?.build()
}

/// Gives the columns the names of the alias, and returns its table name. An alias without columns names the only column
/// of an element, too.
fn rename(
    names: &mut [String],
    is_plain: bool,
    alias: Option<TableAlias>,
    context: &mut dyn RelationPlannerContext,
) -> Result<Option<TableReference>> {
    let Some(alias) = alias else { return Ok(None) };
    let table = context.normalize_ident(alias.name);
    let columns: Vec<String> = alias
        .columns
        .into_iter()
        .map(|column| context.normalize_ident(column.name))
        .collect();
    if columns.is_empty() {
        if let (true, Some(first)) = (is_plain, names.first_mut()) {
            first.clone_from(&table);
        }
        return Ok(Some(TableReference::bare(table)));
    }
    if columns.len() != names.len() {
        return plan_err!(
            "`{table}` names {} columns, but UNNEST has {}: {}",
            columns.len(),
            names.len(),
            names.join(", ")
        );
    }
    if let Some(repeated) = {
        let mut seen = HashSet::new();
        columns.iter().find(|name| !seen.insert(*name))
    } {
        return plan_err!("`{table}` names two columns `{repeated}`");
    }
    names.clone_from_slice(&columns);
    Ok(Some(TableReference::bare(table)))
}

/// Refuses collections of columns of the query around a subquery.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::Extension(extension) = plan
            && let Some(node) = extension.node.as_any().downcast_ref::<Unnest>()
            && node.collection.contains_outer()
        {
            return plan_err!(
                "UNNEST of a column of the query around is not supported in a subquery: write ARRAY_CONTAINS, or CROSS \
                 JOIN UNNEST(...) in that query"
            );
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
