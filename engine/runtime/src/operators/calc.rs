//! Calc: filter and projection, used by the operator and by sources.
//!
//! The filter is evaluated first; only the columns that the projection reads are filtered, then the projection is
//! evaluated. A projection of plain columns copies nothing, nor does a filter that every row passes. A row that an
//! expression fails for (a cast, an overflow) is found by bisecting its batch; only that row is subject to the step's
//! error policy.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_select::concat::concat_batches;
use arrow_select::filter::FilterBuilder;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::utils::collect_columns;
use millstream_connectors::changelog;
use millstream_graph::evaluation::EvaluationContext;
use millstream_graph::sql_type;
use millstream_graph::{self as graph, ErrorPolicy, Port};

use super::row_kinds;
use crate::Error;
use crate::dead_letters::{DeadLetter, dead_letters, row_as_json};
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp};

/// The remedy for rows that fail, for both languages: the graph does not know in which one its step was written.
const REMEDY: &str = "to go on without such rows set `on_error` of the step, in SQL `table.exec.on-error`; or write TRY_CAST(x AS \
                      type), which gives NULL for a value that does not fit, and NULLIF(x, 0) for a divisor of 0";

/// Evaluates a [`graph::Calc`] over batches.
pub(crate) struct Calc {
    /// Name of the step, for errors, dead letters and metrics.
    step: String,
    filter: Option<PhysicalExprRef>,
    /// Input columns that the projection reads, in ascending order; its expressions refer to these.
    read: Vec<usize>,
    read_schema: SchemaRef,
    projection: Vec<PhysicalExprRef>,
    output: SchemaRef,
    on_error: ErrorPolicy,
    /// True if the rows are those of a changelog.
    is_changelog: bool,
    /// The context of functions that depend on more than their arguments.
    context: Mutex<EvaluationContext>,
}

/// The result of evaluating a batch.
#[derive(Debug)]
pub(crate) struct Calculated {
    /// `None` if no row is left.
    pub rows: Option<RecordBatch>,
    /// Rows that failed under [`ErrorPolicy::DeadLetter`].
    pub dead_letters: Option<RecordBatch>,
    /// Number of rows that failed, whatever the error policy.
    pub bad_rows: u64,
}

impl Calc {
    /// Makes the calc of a step from input rows to output rows.
    pub(crate) fn new(
        step: impl Into<String>,
        calc: &graph::Calc,
        input: &SchemaRef,
        output: SchemaRef,
    ) -> Result<Self, Error> {
        let read: BTreeSet<usize> = calc
            .projection
            .iter()
            .flat_map(|projection| collect_columns(&projection.expr))
            .map(|column| column.index())
            .collect();
        let read: Vec<usize> = read.into_iter().collect();
        let read_schema = Arc::new(input.project(&read)?);
        let projection = calc
            .projection
            .iter()
            .map(|projection| rebase(&projection.expr, &read, &read_schema))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            step: step.into(),
            filter: calc.filter.clone(),
            read,
            read_schema,
            projection,
            output,
            on_error: calc.on_error,
            is_changelog: changelog::is_changelog(input),
            context: Mutex::default(),
        })
    }

    /// Sets the watermark that expressions see.
    pub(crate) fn set_watermark(&self, watermark: Timestamp) {
        self.context
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set_watermark(watermark);
    }

    /// Evaluates expressions in the context of this calc.
    fn in_context<T>(&self, evaluate: impl FnOnce() -> T) -> T {
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        context.scope(evaluate)
    }

    /// Filters and projects a batch. `position` is the source position of its rows and `now` the time, for dead
    /// letters.
    pub(crate) fn evaluate(
        &self,
        batch: &RecordBatch,
        position: Option<&str>,
        now: Timestamp,
    ) -> Result<Calculated, Error> {
        self.in_context(|| self.calculated(batch, position, now))
    }

    fn calculated(&self, batch: &RecordBatch, position: Option<&str>, now: Timestamp) -> Result<Calculated, Error> {
        match self.evaluate_all(batch) {
            Ok(rows) => Ok(Calculated {
                rows: Some(rows).filter(|rows| rows.num_rows() > 0),
                dead_letters: None,
                bad_rows: 0,
            }),
            Err(error) if self.on_error == ErrorPolicy::Fail => Err(self.fail(batch, error)),
            Err(error) if self.is_changelog => {
                // A batch is cut between the two rows of an update.
                let rows = row_kinds::without_updates(batch)?;
                self.evaluate_by_bisection(&rows, error, position, now)
            }
            Err(error) => self.evaluate_by_bisection(batch, error, position, now),
        }
    }

    /// Filters and projects a batch that consists of groups of consecutive rows. `ends` are the ends of the groups,
    /// and become those of the output. Fails if any row does, whatever the error policy.
    pub(crate) fn evaluate_groups(&self, batch: &RecordBatch, ends: &mut [usize]) -> Result<RecordBatch, Error> {
        self.in_context(|| self.calculated_groups(batch, ends))
    }

    fn calculated_groups(&self, batch: &RecordBatch, ends: &mut [usize]) -> Result<RecordBatch, Error> {
        let passed = self.passed(batch)?;
        if let Some(passed) = &passed {
            let (mut begin, mut kept) = (0, 0);
            for end in ends {
                kept += passed.slice(begin, *end - begin).true_count();
                begin = std::mem::replace(end, kept);
            }
        }
        self.project(&self.filtered(batch, passed.as_ref())?)
    }

    /// Evaluates the whole batch, or returns the first error.
    fn evaluate_all(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let passed = self.passed(batch)?;
        self.project(&self.filtered(batch, passed.as_ref())?)
    }

    /// Evaluates the projection of rows that have passed the filter.
    fn project(&self, kept: &RecordBatch) -> Result<RecordBatch, Error> {
        let columns = self
            .projection
            .iter()
            .map(|expression| Ok(expression.evaluate(kept)?.into_array(kept.num_rows())?))
            .collect::<Result<Vec<_>, Error>>()?;
        self.batch(columns, kept.num_rows())
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.output),
            columns,
            &options,
        )?)
    }

    /// Evaluates the filter: returns true for each row that passes, or `None` if all do.
    fn passed(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>, Error> {
        let Some(filter) = &self.filter else {
            return Ok(None);
        };
        let passed = filter.evaluate(batch)?.into_array(batch.num_rows())?;
        let passed = datafusion::common::cast::as_boolean_array(&passed)?;
        Ok(Some(passed.clone()).filter(|passed| passed.true_count() < batch.num_rows()))
    }

    /// Returns the rows that have passed the filter, with the columns that the projection reads.
    fn filtered(&self, batch: &RecordBatch, passed: Option<&BooleanArray>) -> Result<RecordBatch, Error> {
        let read = |columns: Vec<ArrayRef>, rows: usize| {
            RecordBatch::try_new_with_options(
                Arc::clone(&self.read_schema),
                columns,
                &RecordBatchOptions::new().with_row_count(Some(rows)),
            )
        };
        let mut columns: Vec<ArrayRef> = self.read.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let Some(passed) = passed else {
            return Ok(read(columns, batch.num_rows())?);
        };
        if let (true, Some(kinds)) = (self.is_changelog, columns.last_mut()) {
            // The last column that is read is that of the kinds: a changelog's projection ends with it.
            *kinds = row_kinds::of_passed_rows(kinds, passed);
        }
        let mut predicate = FilterBuilder::new(passed);
        if columns.len() > 1 {
            predicate = predicate.optimize();
        }
        let predicate = predicate.build();
        let columns = columns
            .iter()
            .map(|column| predicate.filter(column))
            .collect::<Result<_, _>>()?;
        Ok(read(columns, predicate.count())?)
    }

    /// Bisects the batch until the failing rows are single, and applies the error policy to them.
    fn evaluate_by_bisection(
        &self,
        batch: &RecordBatch,
        error: Error,
        position: Option<&str>,
        now: Timestamp,
    ) -> Result<Calculated, Error> {
        let mut kept = Vec::new();
        let mut failed = Vec::new();
        let mut bad_rows = 0;
        let mut open = vec![(0, batch.num_rows(), error)];
        while let Some((start, rows, error)) = open.pop() {
            if rows == 1 {
                let row = batch.slice(start, 1);
                // The error policy applies to the row that was inserted. The same row is deleted without a word.
                let is_deletion = changelog::kinds(&row).is_some_and(|kinds| kinds.value(0) < 0);
                bad_rows += u64::from(!is_deletion);
                match self.on_error {
                    ErrorPolicy::DeadLetter if is_deletion => {}
                    ErrorPolicy::Null => kept.extend(self.with_nulls(&row)?.map(|row| (start, row))),
                    ErrorPolicy::DeadLetter => failed.push((start, self.sql_message(&error))),
                    ErrorPolicy::Skip | ErrorPolicy::Fail => {}
                }
                continue;
            }
            let half = rows / 2;
            // The second half is pushed first, so the first half is popped first and rows keep their order.
            let mut halves = Vec::new();
            for (start, rows) in [(start + half, rows - half), (start, half)] {
                match self.evaluate_all(&batch.slice(start, rows)) {
                    Ok(done) => halves.push(Half::Done(start, done)),
                    Err(error) => halves.push(Half::Failed(start, rows, error)),
                }
            }
            for half in halves {
                match half {
                    Half::Done(at, done) => kept.push((at, done)),
                    Half::Failed(start, rows, error) => open.push((start, rows, error)),
                }
            }
        }
        kept.sort_by_key(|(start, _)| *start);
        failed.sort_by_key(|(start, _)| *start);
        let rows = concat_batches(&self.output, kept.iter().map(|(_, rows)| rows))?;
        Ok(Calculated {
            rows: Some(rows).filter(|rows| rows.num_rows() > 0),
            dead_letters: (!failed.is_empty())
                .then(|| self.dead_letters(batch, &failed, position, now))
                .transpose()?,
            bad_rows,
        })
    }

    /// Returns a failing row with NULL for each value that fails, or `None` if the filter fails.
    fn with_nulls(&self, row: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
        let kept = self.passed(row).and_then(|passed| self.filtered(row, passed.as_ref()));
        let Ok(kept) = kept else {
            return Ok(None);
        };
        let columns = self
            .projection
            .iter()
            .zip(self.output.fields())
            .map(|(expression, field)| {
                expression
                    .evaluate(&kept)
                    .and_then(|value| value.into_array(kept.num_rows()))
                    .unwrap_or_else(|_| new_null_array(field.data_type(), kept.num_rows()))
            })
            .collect();
        self.batch(columns, kept.num_rows()).map(Some)
    }

    fn dead_letters(
        &self,
        batch: &RecordBatch,
        failed: &[(usize, String)],
        position: Option<&str>,
        now: Timestamp,
    ) -> Result<RecordBatch, Error> {
        let payloads = failed
            .iter()
            .map(|(row, _)| row_as_json(&batch.slice(*row, 1)))
            .collect::<Result<Vec<_>, _>>()?;
        let letters = failed.iter().zip(&payloads).map(|((_, error), payload)| DeadLetter {
            position,
            error,
            payload: Some(payload),
        });
        dead_letters(&self.step, now, letters)
    }

    /// Returns the error of a batch under [`ErrorPolicy::Fail`], with the row that caused it.
    fn fail(&self, batch: &RecordBatch, error: Error) -> Error {
        let (mut start, mut rows, mut error) = (0, batch.num_rows(), error);
        while rows > 1 {
            let half = rows / 2;
            match self.evaluate_all(&batch.slice(start, half)) {
                Err(first) => (rows, error) = (half, first),
                Ok(_) => match self.evaluate_all(&batch.slice(start + half, rows - half)) {
                    Err(second) => (start, rows, error) = (start + half, rows - half, second),
                    Ok(_) => break,
                },
            }
        }
        let row = row_as_json(&batch.slice(start, rows.min(1)))
            .map(|row| String::from_utf8_lossy(&row).into_owned())
            .unwrap_or_default();
        Error::Operator {
            operator: self.step.clone(),
            message: format!("{}; the row is {row}; {REMEDY}", self.sql_message(&error)),
        }
    }

    /// Returns the message of an expression's error, with the SQL name of the type in a failed cast. Arrow reports
    /// every cast of a text to DECIMAL as `Decimal128(38, 10)`, which is replaced by the type that the expressions cast
    /// to.
    fn sql_message(&self, error: &Error) -> String {
        const ANY_DECIMAL: DataType = DataType::Decimal128(38, 10);
        let text = error.to_string();
        let text = match text.strip_prefix("Execution error: ") {
            Some(message) => message.to_owned(),
            None => text,
        };
        let Some((before, rest)) = text.rsplit_once(" to value of ") else {
            return text;
        };
        let Some((arrow_name, after)) = rest.split_once(" type") else {
            return text;
        };
        let name = match arrow_name.parse::<DataType>() {
            Ok(ANY_DECIMAL) => {
                let decimals = self.decimals();
                match decimals.iter().next() {
                    Some(only) if decimals.len() == 1 => sql_type::name(only),
                    _ => "DECIMAL".to_string(),
                }
            }
            Ok(data_type) => sql_type::name(&data_type),
            Err(_) => return text,
        };
        format!("{before} to {name}{after}")
    }

    /// Returns the DECIMAL types that the expressions cast to.
    fn decimals(&self) -> BTreeSet<DataType> {
        let mut decimals = BTreeSet::new();
        for expression in self.filter.iter().chain(&self.projection) {
            let visited = expression.apply(|node| {
                if let Some(cast) = node.downcast_ref::<CastExpr>()
                    && let DataType::Decimal128(..) = cast.cast_type()
                {
                    decimals.insert(cast.cast_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            });
            debug_assert!(visited.is_ok(), "the visitor does not fail");
        }
        decimals
    }
}

/// A half of a bisected batch, with its first row.
enum Half {
    Done(usize, RecordBatch),
    /// The half fails; with its number of rows.
    Failed(usize, usize, Error),
}

/// Rewrites an expression over the whole input as one over the columns in `read`.
pub(super) fn rebase(
    expression: &PhysicalExprRef,
    read: &[usize],
    schema: &SchemaRef,
) -> Result<PhysicalExprRef, Error> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    Ok(Arc::clone(expression)
        .transform(|node| {
            let Some(column) = node.downcast_ref::<Column>() else {
                return Ok(Transformed::no(node));
            };
            let index = read
                .binary_search(&column.index())
                .map_err(|_| datafusion::error::DataFusionError::Internal(format!("column {column} is not read")))?;
            let moved: PhysicalExprRef = Arc::new(Column::new(schema.field(index).name(), index));
            Ok(Transformed::yes(moved))
        })?
        .data)
}

/// The calc operator.
pub(super) struct CalcOperator {
    calc: Calc,
    /// Processing time.
    now: Timestamp,
}

impl CalcOperator {
    /// Makes the operator of a calc.
    pub(super) fn new(calc: Calc) -> Self {
        Self { calc, now: 0 }
    }
}

impl Operator for CalcOperator {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let calculated = self.calc.evaluate(&batch, None, self.now)?;
        out.count_bad(calculated.bad_rows);
        if let Some(rows) = calculated.rows {
            out.emit(Port::Main, rows);
        }
        if let Some(letters) = calculated.dead_letters {
            out.emit(Port::DeadLetters, letters);
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        self.calc.set_watermark(watermark);
        Ok(Progress::Done)
    }

    fn on_time(&mut self, now: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }
}

#[cfg(test)]
mod tests;
