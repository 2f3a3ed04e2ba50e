//! A table scan: one source node per table, however many queries read it, for the union of what they read.

use std::collections::{BTreeSet, HashSet};
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

use super::relation::{Attribute, Branch, ColumnInfo, Pending, Relation, column, stream};
use super::{Result, Translator};
use crate::logical::{CatalogTable, Table, TableColumn};
use millstream_graph::{Calc, NodeIndex, Operator, Parallelism, Source, Watermark};

impl Translator<'_> {
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<Relation> {
        let Some(catalog) = scan.source.downcast_ref::<CatalogTable>() else {
            return Err(self.error(format!("`{}` is not a table of this pipeline", scan.table_name)));
        };
        if scan.fetch.is_some() || !scan.filters.is_empty() {
            return Err(self.error(format!("table `{}` takes no conditions of its own", scan.table_name)));
        }
        let table = &catalog.table;
        if !self.sources.contains_key(&table.name) {
            let relation = self.source(table)?;
            self.sources.insert(table.name.clone(), relation);
        }
        let whole = &self.sources[&table.name];
        let picked: Vec<usize> = match &scan.projection {
            Some(projection) => projection.clone(),
            None => (0..table.columns.len()).collect(),
        };
        // The whole relation has the read columns of the table, by name.
        let mut positions = Vec::with_capacity(picked.len());
        for index in picked {
            let name = table.columns[index].field.name();
            let position = whole.columns.iter().position(|column| column.name == *name);
            positions.push(position.ok_or_else(|| self.error(format!("table `{}` lost column `{name}`", table.name)))?);
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

    /// The table's source node and all columns of it that are read.
    fn source(&mut self, table: &Arc<Table>) -> Result<Relation> {
        let read = self.columns_read.get(&table.name).cloned().unwrap_or_default();
        let output = self.output_columns(table, &read)?;
        let computed_from: Vec<(usize, Expr)> = output
            .iter()
            .filter_map(|&index| Some((index, table.columns[index].computed.clone()?)))
            .collect();
        let stored = &table.definition.0.schema;
        let mut projection = BTreeSet::new();
        for &index in &output {
            if table.columns[index].computed.is_none() {
                projection.insert(self.stored_index(table, table.columns[index].field.name())?);
            }
        }
        for (_, expr) in &computed_from {
            for used in expr.column_refs() {
                projection.insert(self.stored_index(table, &used.name)?);
            }
        }
        let projection: Vec<usize> = projection.into_iter().collect();
        let decoded = Arc::new(self.located(stored.project(&projection).map_err(Into::into))?);
        let fields: Vec<Field> = output
            .iter()
            .map(|&index| table.columns[index].field.as_ref().clone().with_nullable(true))
            .collect();
        let output_schema = Arc::new(Schema::new(fields));

        let mut columns = self.table_columns(table, &output);
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
                let expr = self.table_column_expr(&table.columns[index], &decoded)?;
                let expr = self.located(super::field_hoisting::rewrite(expr, &decoded))?;
                let alias = table.columns[index].field.name().clone();
                exprs.push(ProjectionExpr { expr, alias });
            }
            Some(Calc {
                filter: None,
                projection: exprs,
                on_error: table.on_error,
            })
        };
        let watermark = self.watermark(table, &output_schema)?;
        let node_stream = stream(output_schema.clone(), &columns);
        let source = Operator::Source(Source {
            table: table.definition.0.clone(),
            projection,
            calc,
            watermark,
            on_error: table.on_error,
        });
        let node: NodeIndex = self
            .builder
            .add(&table.name, "", source, Vec::new(), node_stream, Parallelism::Job);

        // Processing-time columns are not stored: they stay expressions, evaluated only where their value is used.
        let mut exprs = super::relation::all_columns(&output_schema, output.len());
        for &index in read.iter().filter(|&&index| table.columns[index].is_proctime) {
            let proctime = &table.columns[index];
            exprs.push(self.table_column_expr(proctime, &output_schema)?);
            columns.extend(self.table_columns(table, &[index]));
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

    /// Columns of the source's output, as indices into the table's columns, in declared order: what is read, and what
    /// the watermark needs.
    fn output_columns(&self, table: &Table, read: &BTreeSet<usize>) -> Result<Vec<usize>> {
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
        let output: Vec<usize> = (0..table.columns.len())
            .filter(|&index| {
                let column = &table.columns[index];
                wanted.contains(column.field.name()) && !column.is_proctime
            })
            .collect();
        // A count of rows reads no column; but rows without columns cannot be carried.
        if output.is_empty()
            && let Some(first) = table.columns.iter().position(|column| !column.is_proctime)
        {
            return Ok(vec![first]);
        }
        Ok(output)
    }

    fn table_columns(&self, table: &Table, indices: &[usize]) -> Vec<ColumnInfo> {
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

    fn stored_index(&self, table: &Table, name: &str) -> Result<usize> {
        let index = table.definition.0.schema.index_of(name);
        index.map_err(|_| {
            self.error(format!(
                "table `{}`: `{name}` is not a stored column; a computed column may only use stored ones",
                table.name
            ))
        })
    }

    /// A column of the table over what was decoded.
    fn table_column_expr(&self, table_column: &TableColumn, decoded: &Arc<Schema>) -> Result<PhysicalExprRef> {
        let field = &table_column.field;
        let expr = match &table_column.computed {
            Some(expr) => self.expression_over(expr, decoded)?,
            None => {
                let index = decoded.index_of(field.name());
                column(decoded, self.located(index.map_err(Into::into))?)
            }
        };
        let found = self.located(expr.data_type(decoded))?;
        if found == *field.data_type() {
            return Ok(expr);
        }
        self.located(cast(expr, decoded, field.data_type().clone()))
    }

    /// An unplanned expression by plain column names: types coerced, constants folded.
    fn expression_over(&self, expr: &Expr, schema: &Arc<Schema>) -> Result<PhysicalExprRef> {
        let schema = Arc::new(self.located(DFSchema::try_from(schema.as_ref().clone()))?);
        let unqualified = expr.clone().transform(|expr| {
            Ok(match expr {
                Expr::Column(column) if column.relation.is_some() => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
                }
                other => Transformed::no(other),
            })
        });
        let expr = self.located(unqualified)?.data;
        let context = SimplifyContext::builder()
            .with_schema(schema.clone())
            .with_config_options(self.planning.config().clone())
            .with_query_execution_start_time(Some(self.planning.now()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let expr = self.located(simplifier.coerce(expr, &schema))?;
        let expr = self.located(simplifier.simplify(expr))?;
        self.physical(&expr, &schema)
    }

    fn watermark(&self, table: &Table, output: &Arc<Schema>) -> Result<Option<Watermark>> {
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
        let mut expression = self.expression_over(&declared.expression, output)?;
        let data_type = self.located(expression.data_type(output))?;
        if !is_timestamp(&data_type) {
            if !matches!(data_type, arrow_schema::DataType::Timestamp(..)) {
                return Err(location(format!(
                    "the watermark of table `{}` has type {data_type}; it must be a timestamp such as `{column}` - \
                     INTERVAL '5' SECOND",
                    table.name,
                    column = declared.column
                )));
            }
            expression = self.located(cast(expression, output, column_type.clone()))?;
        }
        Ok(Some(Watermark {
            column,
            expression,
            idle_timeout: declared.idle_timeout,
            max_future: if self.batch { None } else { declared.max_future },
        }))
    }
}
