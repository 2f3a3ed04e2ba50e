//! The SQL planner end: a script in Flink's dialect becomes a [`Pipeline`].
//!
//! [`script`] splits the text into statements and parses each; DDL is parsed by [`ddl`] and [`types`], queries by the
//! stock parser with our [`dialect`]. A query is then [rewritten](rewrite) where Flink and DataFusion differ, planned
//! by DataFusion against the [`Catalog`], and adapted to [Flink's semantics](semantics). Statements are processed in
//! order; an error in one does not hide the errors of the next.

use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::ExprPlanner;

use crate::PlanOptions;
use crate::catalog::{self, Catalog};

mod aggregate_arguments;
mod alter;
mod as_of;
mod casts;
mod common_columns;
mod conversion;
mod ddl;
mod decimals;
mod diagnose;
mod dialect;
mod element_access;
mod error_places;
mod expressions;
mod first_rows;
mod group_casts;
mod group_windows;
mod grouping_sets;
mod hints;
mod interval;
mod json_syntax;
mod like;
mod local_time;
mod messages;
mod nested_joins;
mod output_names;
mod over;
mod overlaps;
mod query;
mod redact;
mod relations;
mod reserved;
mod rewrite;
mod script;
mod script_planner;
pub(crate) mod semantics;
mod set_operations;
mod settings;
mod show;
mod side_output;
mod sink;
mod state_ttl;
mod statement;
mod statement_parser;
mod table;
mod temporal;
mod tokens;
pub(crate) mod type_planner;
mod types;
mod unnest;
mod values;
mod windows;

pub(crate) use diagnose::errors as errors_of;
pub(crate) use hints::declare_hinted_tables;
pub(crate) use messages::in_sql;
pub(crate) use query::plan as plan_query;
#[cfg(test)]
pub(crate) use query::typed_expressions;
pub use redact::redacted;
pub(crate) use relations::relations_read;
pub use script::EXPRESSION_DEPTH_MAX;
pub(crate) use script::{read_expression, read_query};
pub(crate) use script_planner::pipeline;
pub use settings::SETTING_KEYS;
pub(crate) use settings::{notes, settings};
pub(crate) use sink::{check_names, project_to_sink, sink_table};
pub(crate) use table::{columns_of, resolve};

/// Returns a catalog for queries in Flink's dialect.
pub(crate) fn new_catalog(options: &PlanOptions) -> Catalog {
    let mut expr_planners: Vec<Arc<dyn ExprPlanner>> = vec![
        Arc::new(decimals::DecimalArithmetic),
        Arc::new(element_access::ElementAccess),
        Arc::new(temporal::TemporalArithmetic),
    ];
    expr_planners.extend(SessionStateDefaults::default_expr_planners());
    let dialect = catalog::Dialect {
        expr_planners,
        relation_planners: vec![Arc::new(windows::WindowFunctions)],
        type_planner: Arc::new(type_planner::FlinkTypes),
    };
    Catalog::new(options, dialect)
}

#[cfg(test)]
mod tests;
