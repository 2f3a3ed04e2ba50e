//! Table scans: one source node per table, which reads the union of the columns that queries read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, TableScan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::cast;
use datafusion::physical_expr::projection::ProjectionExpr;
use millstream_connectors::{ChangelogSupport, Role};
use millstream_graph::{
    Calc, ChangelogNormalize, Exchange, NodeIndex, Operator, Parallelism, Port, Source, Stream, Watermark,
};

use super::builder::{InputEdge, Owner};
use super::changelog;
use super::context::{Context, Result};
use super::field_hoisting;
use super::relation::{Attribute, Branch, ColumnInfo, Pending, Relation, all_columns, column, stream};
use crate::logical::{CatalogTable, Table, TableColumn};

/// The source nodes of a pipeline.
pub(super) struct Sources {
    /// Indices of the columns that queries read, by table.
    columns_read: BTreeMap<String, BTreeSet<usize>>,
    /// True in batch mode, where event time is never ahead of the clock.
    is_batch: bool,
    /// The relation of each table that was read so far.
    relations: HashMap<String, Relation>,
}

impl Sources {
    /// Returns no source nodes yet; `columns_read` are the indices of the columns that queries read, by table.
    pub(super) fn new(columns_read: BTreeMap<String, BTreeSet<usize>>, is_batch: bool) -> Self {
        Self {
            columns_read,
            is_batch,
            relations: HashMap::new(),
        }
    }

    pub(super) fn scan(&mut self, cx: &mut Context<'_>, scan: &TableScan) -> Result<Relation> {
        let Some(catalog) = scan.source.downcast_ref::<CatalogTable>() else {
            return Err(cx.error(format!("`{}` is not a table of this pipeline", scan.table_name)));
        };
        if scan.fetch.is_some() || !scan.filters.is_empty() {
            return Err(cx.error(format!("table `{}` takes no conditions of its own", scan.table_name)));
        }
        let table = &catalog.table;
        self.add(cx, table)?;
        let whole = &self.relations[&table.name];
        let picked: Vec<usize> = match &scan.projection {
            Some(projection) => projection.clone(),
            None => (0..table.columns.len()).collect(),
        };
        // The relation has the columns of the table that are read, by name.
        let mut positions = Vec::with_capacity(picked.len());
        for index in picked {
            let name = table.columns[index].field.name();
            let position = whole.columns.iter().position(|column| column.name == *name);
            positions.push(position.ok_or_else(|| cx.error(format!("table `{}` lost column `{name}`", table.name)))?);
        }
        let branch = &whole.branches[0];
        Ok(Relation {
            branches: vec![Branch {
                exprs: positions
                    .iter()
                    .map(|&position| branch.exprs[position].clone())
                    .collect(),
                ..branch.clone()
            }],
            columns: positions
                .iter()
                .map(|&position| whole.columns[position].clone())
                .collect(),
            pending: Pending::Nothing,
        })
    }

    /// Adds the source node of a table that queries read, unless there is one already.
    pub(super) fn add(&mut self, cx: &mut Context<'_>, table: &Arc<Table>) -> Result<()> {
        if self.columns_read.contains_key(&table.name) && !self.relations.contains_key(&table.name) {
            let relation = self.source(cx, table)?;
            self.relations.insert(table.name.clone(), relation);
        }
        Ok(())
    }

    /// Returns the table's source node with all columns of the table that are read.
    fn source(&mut self, cx: &mut Context<'_>, table: &Arc<Table>) -> Result<Relation> {
        let read = self.columns_read.get(&table.name).cloned().unwrap_or_default();
        let output = output_columns(table, &read);
        let computed_from: Vec<(usize, Expr)> = output
            .iter()
            .filter_map(|&index| Some((index, table.columns[index].computed.clone()?)))
            .collect();
        let stored = &table.definition.0.schema;
        let mut projection = BTreeSet::new();
        for &index in &output {
            if table.columns[index].computed.is_none() {
                projection.insert(stored_index(cx, table, table.columns[index].field.name())?);
            }
        }
        for (_, expr) in &computed_from {
            for used in expr.column_refs() {
                projection.insert(stored_index(cx, table, &used.name)?);
            }
        }
        let projection: Vec<usize> = projection.into_iter().collect();
        let decoded = Arc::new(cx.located(stored.project(&projection).map_err(Into::into))?);
        let fields: Vec<Field> = output
            .iter()
            .map(|&index| table.columns[index].field.as_ref().clone().with_nullable(true))
            .collect();
        let output_schema = Arc::new(Schema::new(fields));

        let mut columns = table_columns(table, &output);
        let same_columns = decoded.fields().len() == output_schema.fields().len()
            && decoded
                .fields()
                .iter()
                .zip(output_schema.fields())
                .all(|(a, b)| a.name() == b.name());
        let calc = if same_columns && computed_from.is_empty() {
            None
        } else {
            let mut exprs = Vec::with_capacity(output.len());
            for &index in &output {
                let expr = table_column_expr(cx, &table.columns[index], &decoded)?;
                let expr = cx.located(field_hoisting::rewrite(expr, &decoded))?;
                let alias = table.columns[index].field.name().clone();
                exprs.push(ProjectionExpr { expr, alias });
            }
            Some(Calc {
                filter: None,
                projection: exprs,
                on_error: table.on_error,
            })
        };
        let watermark = watermark(cx, table, &output_schema, self.is_batch)?;
        let node_stream = stream(output_schema.clone(), &columns);
        let source = Operator::Source(Source {
            table: table.definition.0.clone(),
            projection,
            calc,
            watermark,
            on_error: table.on_error,
        });
        let owner = Owner {
            name: &table.name,
            location: &table.location,
        };
        let source_stream = node_stream.clone();
        let mut node: NodeIndex = cx
            .builder
            .add(owner, "", source, Vec::new(), source_stream, Parallelism::Job);
        if let Some(keys) = primary_key(table, &output_schema)? {
            node = normalize(cx, owner, node, keys, node_stream);
        }

        // Processing-time columns are no columns of the source: they stay pending, and are evaluated only where they
        // are read.
        let mut exprs = all_columns(&output_schema, output.len());
        for &index in read.iter().filter(|&&index| table.columns[index].is_proctime) {
            let proctime = &table.columns[index];
            exprs.push(table_column_expr(cx, proctime, &output_schema)?);
            columns.extend(table_columns(table, &[index]));
        }
        Ok(Relation {
            branches: vec![Branch {
                node,
                filter: None,
                exprs,
                carried: Vec::new(),
            }],
            columns,
            pending: Pending::Nothing,
        })
    }
}

/// Returns the columns of the primary key by which the changes of a table are normalised; `None` if they need not be.
fn primary_key(table: &Table, output: &Schema) -> Result<Option<Vec<usize>>> {
    let definition = &table.definition.0;
    let error = |message: String| crate::Error {
        location: table.location.clone(),
        message,
    };
    match changelog::support(definition, Role::Source) {
        ChangelogSupport::Append => Ok(None),
        ChangelogSupport::Upsert if definition.primary_key.is_empty() => Err(error(format!(
            "table `{}` ({}) consists of changes by key, so it needs a PRIMARY KEY (...) NOT ENFORCED",
            table.name,
            definition.connector()
        ))),
        // Without a key, all changes are taken as they are.
        ChangelogSupport::Retract if definition.primary_key.is_empty() => Ok(None),
        ChangelogSupport::Upsert | ChangelogSupport::Retract => {
            let position = |name: &String| {
                let found = output.index_of(name);
                found.map_err(|_| error(format!("table `{}` lost column `{name}` of its key", table.name)))
            };
            definition
                .primary_key
                .iter()
                .map(position)
                .collect::<Result<_>>()
                .map(Some)
        }
    }
}

/// Adds the node that makes a consistent changelog of a source's changes.
fn normalize(cx: &mut Context<'_>, owner: Owner<'_>, source: NodeIndex, keys: Vec<usize>, output: Stream) -> NodeIndex {
    let edge = InputEdge {
        from: source,
        port: Port::Main,
        input: 0,
        exchange: Exchange::Hash(keys.clone()),
    };
    let operator = Operator::ChangelogNormalize(ChangelogNormalize {
        keys,
        emission: cx.emission(),
        state_ttl: cx.pipeline.state_ttl,
    });
    let edges = vec![edge];
    cx.builder
        .add(owner, "normalize", operator, edges, output, Parallelism::Job)
}

/// Returns the columns of the source's output, as indices into the table's columns, in declared order: those that are
/// read, and those that the watermark and the key of changes need.
fn output_columns(table: &Table, read: &BTreeSet<usize>) -> Vec<usize> {
    let mut wanted: HashSet<String> = read
        .iter()
        .map(|&index| table.columns[index].field.name().clone())
        .collect();
    if let Some(watermark) = &table.watermark {
        wanted.insert(watermark.column.clone());
        wanted.extend(
            watermark
                .expression
                .column_refs()
                .iter()
                .map(|column| column.name.clone()),
        );
    }
    if changelog::support(&table.definition.0, Role::Source) != ChangelogSupport::Append {
        wanted.extend(table.definition.0.primary_key.iter().cloned());
    }
    let output: Vec<usize> = (0..table.columns.len())
        .filter(|&index| {
            let column = &table.columns[index];
            wanted.contains(column.field.name()) && !column.is_proctime
        })
        .collect();
    // `COUNT(*)` reads no column, but a batch needs one.
    if output.is_empty()
        && let Some(first) = table.columns.iter().position(|column| !column.is_proctime)
    {
        return vec![first];
    }
    output
}

fn table_columns(table: &Table, indices: &[usize]) -> Vec<ColumnInfo> {
    indices
        .iter()
        .map(|&index| {
            let column = &table.columns[index];
            let name = column.field.name();
            let is_event_time = table
                .watermark
                .as_ref()
                .is_some_and(|watermark| watermark.column == *name);
            ColumnInfo {
                name: name.clone(),
                data_type: column.field.data_type().clone(),
                attribute: match (column.is_proctime, is_event_time) {
                    (true, _) => Attribute::ProcessingTime,
                    (_, true) => Attribute::EventTime,
                    _ => Attribute::None,
                },
                origin: Some((table.name.clone(), name.clone())),
            }
        })
        .collect()
}

fn stored_index(cx: &Context<'_>, table: &Table, name: &str) -> Result<usize> {
    let index = table.definition.0.schema.index_of(name);
    index.map_err(|_| {
        cx.error(format!(
            "table `{}`: `{name}` is not a stored column; a computed column may only use stored ones",
            table.name
        ))
    })
}

/// Returns a column of the table, over the decoded columns.
fn table_column_expr(cx: &Context<'_>, table_column: &TableColumn, decoded: &Arc<Schema>) -> Result<PhysicalExprRef> {
    let field = &table_column.field;
    let expr = match &table_column.computed {
        Some(expr) => expression_over(cx, expr, decoded)?,
        None => {
            let index = decoded.index_of(field.name());
            column(decoded, cx.located(index.map_err(Into::into))?)
        }
    };
    let found = cx.located(expr.data_type(decoded))?;
    if found == *field.data_type() {
        return Ok(expr);
    }
    cx.located(cast(expr, decoded, field.data_type().clone()))
}

/// Returns the physical form of an expression over a schema, with types coerced and constants folded.
fn expression_over(cx: &Context<'_>, expr: &Expr, schema: &Arc<Schema>) -> Result<PhysicalExprRef> {
    let schema = Arc::new(cx.located(DFSchema::try_from(schema.as_ref().clone()))?);
    let unqualified = expr.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) if column.relation.is_some() => {
                Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    });
    let expr = cx.located(unqualified)?.data;
    let context = SimplifyContext::builder()
        .with_schema(schema.clone())
        .with_config_options(cx.planning.config().clone())
        .with_query_execution_start_time(Some(cx.planning.now()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let expr = cx.located(simplifier.coerce(expr, &schema))?;
    let expr = cx.located(simplifier.simplify(expr))?;
    cx.physical(&expr, &schema)
}

fn watermark(cx: &Context<'_>, table: &Table, output: &Arc<Schema>, is_batch: bool) -> Result<Option<Watermark>> {
    let Some(declared) = &table.watermark else {
        return Ok(None);
    };
    let location = |message: String| crate::Error {
        location: table.location.clone(),
        message,
    };
    let is_timestamp = |data_type: &arrow_schema::DataType| {
        matches!(
            data_type,
            arrow_schema::DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, _)
        )
    };
    let column = output.index_of(&declared.column).map_err(|_| {
        location(format!(
            "the event-time column `{}` of table `{}` is not one of its columns",
            declared.column, table.name
        ))
    })?;
    let column_type = output.field(column).data_type();
    if !is_timestamp(column_type) {
        return Err(location(format!(
            "the event-time column `{}` of table `{}` has type {column_type}; it must be a TIMESTAMP or TIMESTAMP_LTZ",
            declared.column, table.name
        )));
    }
    let mut expression = expression_over(cx, &declared.expression, output)?;
    let data_type = cx.located(expression.data_type(output))?;
    if !is_timestamp(&data_type) {
        if !matches!(data_type, arrow_schema::DataType::Timestamp(..)) {
            return Err(location(format!(
                "the watermark of table `{}` has type {data_type}; it must be a timestamp such as `{column}` - \
                 INTERVAL '5' SECOND",
                table.name,
                column = declared.column
            )));
        }
        expression = cx.located(cast(expression, output, column_type.clone()))?;
    }
    Ok(Some(Watermark {
        column,
        expression,
        idle_timeout: declared.idle_timeout,
        max_future: if is_batch { None } else { declared.max_future },
    }))
}
