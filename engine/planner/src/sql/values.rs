//! Rows that a query contains itself: `VALUES (1, 'a'), (2, 'b')`, and the single row of a `SELECT` without `FROM`.
//!
//! They are read from a table of row numbers, whose columns are computed: from an array of constants by the row's
//! number, or, for values that are not constant, by `CASE`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::error::Result;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values, lit, when};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use millstream_connectors::TableDefinition;
use millstream_graph::ErrorPolicy;

use crate::error::Location;
use crate::logical::{CatalogTable, DefinitionRef, Table, TableColumn};

/// Column of the table of row numbers, from 1.
const ROW_NUMBER: &str = "$row";

/// Rows per second of the table of row numbers: no limit that a reader could notice.
const ROWS_PER_SECOND: &str = "1000000000";

/// Replaces the rows that a plan contains by scans of tables of row numbers.
pub(super) fn replace(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Values(values) => values_of(values).map(Transformed::yes),
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => row_numbers(1).map(Transformed::yes),
        plan => Ok(Transformed::no(plan)),
    })
    .map(|transformed| transformed.data)
}

fn values_of(values: Values) -> Result<LogicalPlan> {
    let Values { schema, values } = values;
    let input = row_numbers(values.len())?;
    let columns = (0..schema.fields().len()).map(|index| {
        let cells = values.iter().map(|row| row[index].clone());
        let column = column_of(&schema, index, cells)?;
        Ok(column.alias(schema.field(index).name()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(input).project(columns)?.build()
}

/// Returns the column of the cells as an expression over the row's number.
fn column_of(schema: &DFSchemaRef, index: usize, cells: impl Iterator<Item = Expr>) -> Result<Expr> {
    let data_type = schema.field(index).data_type();
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let cells = cells
        .map(|cell| {
            let simple = simplifier.simplify(cell.clone()).unwrap_or(cell);
            Ok(match simple {
                Expr::Literal(value, _) => lit(value.cast_to(data_type)?),
                other => other,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if let [only] = cells.as_slice() {
        return Ok(only.clone());
    }
    let row = || Expr::Column(ROW_NUMBER.into());
    let constants: Option<Vec<ScalarValue>> = cells
        .iter()
        .map(|cell| match cell {
            Expr::Literal(value, _) => Some(value.clone()),
            _ => None,
        })
        .collect();
    if let Some(constants) = constants
        && data_type != &DataType::Null
    {
        let list = ScalarValue::List(ScalarValue::new_list_nullable(&constants, data_type));
        return Ok(array_element(lit(list), row()));
    }
    let mut rows = (1_i64..).zip(cells);
    let Some((_, first)) = rows.next() else {
        return Ok(lit(ScalarValue::try_from(data_type)?));
    };
    let mut case = when(row().eq(lit(1_i64)), first);
    for (number, cell) in rows {
        case = case.when(row().eq(lit(number)), cell);
    }
    case.end()
}

/// Returns a scan of a table of row numbers.
fn row_numbers(count: usize) -> Result<LogicalPlan> {
    let field = Arc::new(Field::new(ROW_NUMBER, DataType::Int64, true));
    let options = [
        ("connector".to_owned(), "datagen".to_owned()),
        ("rows-per-second".to_owned(), ROWS_PER_SECOND.to_owned()),
        ("number-of-rows".to_owned(), count.to_string()),
        (format!("fields.{ROW_NUMBER}.kind"), "sequence".to_owned()),
        (format!("fields.{ROW_NUMBER}.start"), "1".to_owned()),
        (format!("fields.{ROW_NUMBER}.end"), count.to_string()),
    ];
    let name = format!("{count} rows");
    let definition = TableDefinition {
        name: name.clone(),
        schema: Arc::new(Schema::new(vec![field.clone()])),
        metadata: Vec::new(),
        options: options.into(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    };
    let table = Table {
        name: name.clone(),
        definition: DefinitionRef(Arc::new(definition)),
        columns: vec![TableColumn {
            field,
            computed: None,
            is_proctime: false,
        }],
        watermark: None,
        on_error: ErrorPolicy::default(),
        location: Location::Unknown,
    };
    let source = Arc::new(CatalogTable::new(Arc::new(table)));
    LogicalPlanBuilder::scan(name, source, None)?.build()
}
