//! Translation of logical plans into the job graph.
//!
//! First every insert's plan is optimised ([`optimize`]); steps are inlined into it or shared ([`common_subplans`]).
//! Then each plan becomes nodes, bottom up ([`plan`]): [`source`], [`projection`], [`window`], [`aggregate`],
//! [`join`] ([`dynamic_filter`]), [`row_number`], [`union`], [`unnest`], and at last [`sinks`]. On the complete
//! graph, [`changelog`] determines which edges carry updates and deletions. A [`relation`] is the result of each
//! step: nodes with pending projections, filters, windows or ranks, which become nodes where they must ([`pending`],
//! [`calc`], [`window_assign`], [`top_n`]). Queries that a stream cannot answer are refused here, with what to write
//! instead.

use datafusion::logical_expr::LogicalPlan;
use millstream_graph::{ErrorPolicy, JobGraph};

use crate::error::{Error, Errors, Location};
use crate::logical::{Insert, InsertInput, Pipeline};
use crate::{Mode, PlanOptions};

mod aggregate;
mod builder;
mod calc;
mod changelog;
mod common_subplans;
mod conflict;
mod context;
mod decimal_multiply;
mod dynamic_filter;
mod elements;
mod embedded_subqueries;
mod fallibility;
mod field_hoisting;
mod filter_push_down;
mod group_nodes;
mod join;
mod late_columns;
mod lateral;
mod limit;
mod local_time;
mod masked_eval;
mod mode_check;
mod multi_join;
mod optimize;
mod pending;
mod plan;
mod projection;
mod relation;
mod row_number;
mod session_join;
mod session_rows;
mod short_circuit;
mod side_output;
mod sinks;
mod source;
mod specialized_expr;
mod string_case;
mod subqueries;
mod subquery_operands;
mod top_n;
mod union;
mod unnest;
mod unnest_columns;
mod window;
mod window_assign;

#[cfg(test)]
mod tests;

use builder::GraphBuilder;
use common_subplans::Subplans;
use conflict::ConflictState;
use context::{Context, Result, Scope};
use dynamic_filter::DynamicFilters;
use optimize::Planning;
use plan::Translator;
use side_output::LateOutputs;
use sinks::{SinkInput, Source};
use source::Sources;

/// Translates all inserts of a pipeline into one graph. Reports all errors.
pub fn translate(pipeline: &Pipeline, options: &PlanOptions) -> Result<JobGraph, Errors> {
    let mut errors = Vec::new();
    let planning = Planning::new(options.now_us);
    let late = LateOutputs::new(pipeline);
    let subplans = Subplans::optimize(pipeline, &planning, &late.steps, &mut errors);
    let mut translator = Translator {
        cx: Context {
            pipeline,
            mode: options.mode,
            planning,
            builder: GraphBuilder::default(),
            windows: Vec::new(),
            late,
            scope: Scope {
                owner: String::new(),
                location: Location::Unknown,
                on_error: ErrorPolicy::default(),
            },
            hinted_ttl: None,
        },
        sources: Sources::new(subplans.columns_read, options.mode.is_bounded()),
        shared_steps: subplans.shared_steps,
        filters: DynamicFilters::default(),
    };
    let mut sinks = Vec::new();
    for (insert, plan) in &subplans.inserts {
        match translator.insert(insert, Some(plan)) {
            Ok(sources) => sinks.push(SinkInput { insert, sources }),
            Err(error) => errors.push(error),
        }
    }
    // Side outputs exist only once all plans have nodes.
    if errors.is_empty() {
        let inserts = pipeline.inserts.iter();
        for insert in inserts.filter(|insert| !matches!(insert.input, InsertInput::Plan(_))) {
            match translator.insert(insert, None) {
                Ok(sources) => sinks.push(SinkInput { insert, sources }),
                Err(error) => errors.push(error),
            }
        }
    }
    let mut cx = translator.cx;
    if errors.is_empty() {
        sinks::add_sinks(&mut cx, sinks, &mut errors);
    }
    if !errors.is_empty() {
        return Err(sorted(errors));
    }
    // In a batch, the end of input is the only consistency point.
    let consistency_interval = pipeline.consistency_interval.filter(|_| options.mode == Mode::Stream);
    let state = ConflictState {
        emission: cx.emission(),
        state_ttl: pipeline.state_ttl,
    };
    let graph = cx
        .builder
        .finish(&pipeline.name, pipeline.max_parallelism, consistency_interval, &state)
        .map_err(sorted)?;
    match mode_check::check(&graph, pipeline, options.mode) {
        errors if errors.is_empty() => Ok(graph),
        errors => Err(sorted(errors)),
    }
}

fn sorted(mut errors: Vec<Error>) -> Errors {
    errors.sort_by(|a, b| a.location.cmp(&b.location));
    errors.dedup();
    Errors(errors)
}

impl Translator<'_> {
    /// Returns the outputs that an insert writes to its table: those of its optimised plan, or side outputs.
    fn insert(&mut self, insert: &Insert, plan: Option<&LogicalPlan>) -> Result<Vec<Source>> {
        let table = &insert.table;
        self.cx.scope = Scope {
            owner: table.name.clone(),
            location: insert.location.clone(),
            on_error: insert.on_error,
        };
        match (&insert.input, plan) {
            (InsertInput::Plan(plan), optimized) => {
                let relation = self.plan(optimized.unwrap_or(plan))?;
                sinks::table_columns(&mut self.cx, relation, table)
            }
            (InsertInput::Late { step, of }, _) => {
                self.shared_step(step)?;
                sinks::late_rows(&mut self.cx, step, *of, table)
            }
            (InsertInput::DeadLetters { name }, _) => {
                if self.shared_steps.contains_key(name) {
                    self.shared_step(name)?;
                }
                sinks::dead_letters(&mut self.cx, name, table)
            }
        }
    }
}
