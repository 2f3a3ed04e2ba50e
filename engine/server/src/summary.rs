//! Summary at the end of a run, as text and, with `--summary`, as JSON.

use std::time::Duration;

use millstream_cluster::{Error, Job, JobProgress, Outcome, Progress, Report};
use millstream_proto::report::{amount, count};
use serde_json::json;

use crate::status_line::sinks;

/// Outcome and counters of a run.
pub struct Summary {
    job: String,
    outcome: String,
    ended: &'static str,
    wall: Duration,
    numbers: JobProgress,
    report: Report,
    checkpoints_at: String,
    /// Name of each sink, with its connector and path or topic.
    outputs: Vec<(String, String)>,
}

impl Summary {
    /// Collects the summary of a run that has ended.
    pub fn new(job: &Job, progress: &Progress, wall: Duration, result: &Result<Outcome, Error>) -> Self {
        let report = progress.report();
        let (ended, outcome) = match result {
            Ok(Outcome::Finished { .. }) => ("finished", "finished: all input is processed".to_string()),
            Ok(Outcome::AlreadyFinished { checkpoint, unread }) => (
                "finished before",
                match unread.is_empty() {
                    true => format!(
                        "nothing to do: all input was processed as of checkpoint {checkpoint} (--fresh starts over)"
                    ),
                    false => format!("nothing to do: all earlier input was processed as of checkpoint {checkpoint}"),
                },
            ),
            Ok(Outcome::Stopped { checkpoint }) => (
                "stopped",
                format!("stopped at checkpoint {checkpoint}; the same command resumes there"),
            ),
            Ok(Outcome::Aborted {
                last_checkpoint,
                unpublished,
            }) => {
                let unpublished = unpublished.as_ref().map(|reason| {
                    format!(
                        "; the output of that checkpoint is not published yet ({reason}), resuming the job publishes it"
                    )
                });
                let resume = resume(*last_checkpoint);
                (
                    "aborted",
                    format!("aborted; {resume}{}", unpublished.unwrap_or_default()),
                )
            }
            Err(_) if !report.start_is_known => ("failed", "failed during startup".to_string()),
            Err(_) => {
                let last = report
                    .last_checkpoint
                    .as_ref()
                    .map(|last| last.id)
                    .or(report.restored_from);
                ("failed", format!("failed; {}", resume(last)))
            }
        };
        Self {
            job: job.graph.name.clone(),
            outcome,
            ended,
            wall,
            numbers: report.totals(),
            checkpoints_at: format!("{}/{}", job.checkpoint_storage.trim_end_matches('/'), job.graph.name),
            outputs: sinks(&job.graph)
                .map(|table| {
                    let location = table.option("path").or(table.option("topic")).unwrap_or_default();
                    (
                        table.name.clone(),
                        format!("{} {location}", table.connector()).trim_end().to_string(),
                    )
                })
                .collect(),
            report,
        }
    }

    /// Returns the text for standard error.
    pub fn text(&self) -> String {
        let numbers = &self.numbers;
        let seconds = self.wall.as_secs_f64().max(1e-3);
        let mut out = format!("{}: {} ({:.1} s)\n", self.job, self.outcome, seconds);
        if self.ended == "finished before" || !self.report.start_is_known {
            return out;
        }
        out.push_str(&format!(
            "  rows in      {} ({}), {}/s\n",
            count(numbers.rows_in),
            amount(numbers.bytes_in),
            count((numbers.rows_in as f64 / seconds) as u64),
        ));
        out.push_str(&format!(
            "  rows out     {} ({})\n",
            count(numbers.rows_out),
            amount(numbers.bytes_out)
        ));
        out.push_str(&format!(
            "  set aside    {} late, {} bad, {} dead letters, {} too far in the future\n",
            count(numbers.late_rows),
            count(numbers.bad_rows),
            count(numbers.dead_letters),
            count(numbers.future_rows),
        ));
        let last = match &self.report.last_checkpoint {
            Some(last) => format!(
                ", the last {} ({} ms, {} of state)",
                last.id,
                last.took.as_millis(),
                amount(last.state_bytes)
            ),
            None => String::new(),
        };
        let mut failed = match self.report.checkpoints_failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        if self.report.checkpoints_unaligned > 0 {
            failed.push_str(&format!(", {} with rows in flight", self.report.checkpoints_unaligned));
        }
        out.push_str(&format!(
            "  checkpoints  {}{failed}{last}, in {}\n",
            self.report.checkpoints, self.checkpoints_at
        ));
        if self.report.consistency_points > 0 {
            out.push_str(&format!(
                "  points       {} consistency points\n",
                self.report.consistency_points
            ));
        }
        if self.report.checkpoints > 0 {
            out.push_str(&format!(
                "  paused       {:.1} ms by checkpoints, {:.1} ms at most at once\n",
                milliseconds(numbers.checkpoint_pause_sum),
                milliseconds(numbers.checkpoint_pause_max),
            ));
        }
        if self.report.restarts > 0 {
            out.push_str(&format!("  restarts     {}\n", self.report.restarts));
        }
        for sentence in self.report.absent_columns() {
            out.push_str(&format!("  warning      {sentence}\n"));
        }
        for (name, location) in &self.outputs {
            out.push_str(&format!("  output       {name}: {location}\n"));
        }
        out
    }

    /// Returns the document for `--summary`.
    pub fn json(&self) -> String {
        let numbers = &self.numbers;
        let report = &self.report;
        let summary = json!({
            "job": self.job,
            "ended": self.ended,
            "seconds": self.wall.as_secs_f64(),
            "rows_in": numbers.rows_in,
            "rows_out": numbers.rows_out,
            "bytes_in": numbers.bytes_in,
            "bytes_out": numbers.bytes_out,
            "late_rows": numbers.late_rows,
            "bad_rows": numbers.bad_rows,
            "dead_letters": numbers.dead_letters,
            "future_rows": numbers.future_rows,
            "checkpoints": report.checkpoints,
            "checkpoints_failed": report.checkpoints_failed,
            "checkpoints_unaligned": report.checkpoints_unaligned,
            "consistency_points": report.consistency_points,
            "checkpoint_acknowledged_ms_max": report.acknowledged_in_max.as_millis() as u64,
            "checkpoint_pause_ms_max": milliseconds(numbers.checkpoint_pause_max),
            "checkpoint_pause_ms_sum": milliseconds(numbers.checkpoint_pause_sum),
            "last_checkpoint": report.last_checkpoint.as_ref().map(|last| last.id),
            "restored_from": report.restored_from,
            "state_bytes_max": report.state_bytes_max,
            "restarts": report.restarts,
            "absent_columns": report.absent_columns(),
            "checkpoints_at": self.checkpoints_at,
        });
        format!("{summary:#}\n")
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn resume(checkpoint: Option<u64>) -> String {
    match checkpoint {
        Some(checkpoint) => format!("the same command resumes from checkpoint {checkpoint}"),
        None => "there is no checkpoint: the same command starts from the beginning".to_string(),
    }
}
