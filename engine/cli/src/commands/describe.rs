//! `jobs list` and `jobs describe`: tables of jobs and operators, and the details of one job.

use millstream_proto::report::{amount, count, time};
use millstream_proto::v1;

use crate::job::{counters, current_us, paint, parallelism, state_word, watermark, word};
use crate::output::{Printer, age, now_us, rate};
use crate::paint::Paint;
use crate::table::{ALWAYS, Cell, Table};

/// Returns the table of `jobs list`; `ended` is the number of ended jobs that are not in it.
pub fn table(jobs: &[v1::Job], ended: u32, wide: bool) -> Table {
    let mut columns = vec![
        ("NAME", ALWAYS),
        ("STATE", ALWAYS),
        ("FOR", 7),
        ("PARALLELISM", 2),
        ("IN/S", 5),
        ("OUT/S", 6),
        ("ROWS OUT", 1),
        ("CHECKPOINT", 4),
        ("RESTARTS", 3),
    ];
    if wide {
        columns.extend([
            ("WATERMARK", ALWAYS),
            ("LAG", ALWAYS),
            ("MODE", ALWAYS),
            ("ATTEMPT", ALWAYS),
            ("WORKERS", ALWAYS),
            ("REASON", ALWAYS),
        ]);
    }
    let mut table = Table::new(&columns, empty_list(ended));
    let now = now_us();
    for job in jobs {
        let counters = counters(job);
        let checkpoint = match &job.last_checkpoint {
            Some(last) => format!("{} ({})", last.checkpoint, age(now, current_us(last))),
            None => "-".to_string(),
        };
        let mut row = vec![
            job.name.as_str().into(),
            Cell::painted(state_word(job), paint(job)),
            age(now, job.since_us).into(),
            parallelism(job).into(),
            Cell::number(rate(counters.rows_in_per_second)),
            Cell::number(rate(counters.rows_out_per_second)),
            Cell::number(count(counters.rows_out)),
            checkpoint.into(),
            Cell::number(job.restarts.to_string()),
        ];
        if wide {
            let mut workers = job.placement.clone();
            workers.dedup();
            row.extend([
                watermark(counters.watermark_us).into(),
                Cell::number(counters.lag_rows.map_or("-".to_string(), count)),
                mode(job).into(),
                Cell::number(job.attempt.to_string()),
                workers.join(",").into(),
                job.reason.as_str().into(),
            ]);
        }
        table.row(row);
    }
    table
}

/// Returns the text of an empty list.
fn empty_list(ended: u32) -> String {
    match ended {
        0 => "no jobs".to_string(),
        1 => "no jobs that run or wait; `--all` shows one that has ended".to_string(),
        ended => format!("no jobs that run or wait; `--all` shows {ended} that have ended"),
    }
}

/// Returns the line below a list that names the failed jobs missing from it.
pub fn recent_failures(failed: u32) -> String {
    match failed {
        0 => String::new(),
        1 => "1 job failed in the last 24 h: engine-cli jobs list --all\n".to_string(),
        failed => format!("{failed} jobs failed in the last 24 h: engine-cli jobs list --all\n"),
    }
}

fn mode(job: &v1::Job) -> &'static str {
    match job.mode() {
        v1::Mode::Stream => "stream",
        v1::Mode::Batch => "batch",
        v1::Mode::Serve => "serve",
    }
}

/// Returns the text of `jobs describe`.
pub fn describe(job: &v1::Job, printer: &Printer) -> String {
    let now = now_us();
    let counters = counters(job);
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<13} {value}\n"));
        }
    };
    line("name", printer.paint(Paint::Bold, &job.name));
    let state = format!(
        "{} for {}",
        printer.paint(paint(job), state_word(job)),
        age(now, job.since_us)
    );
    line("state", state);
    line("reason", job.reason.clone());
    line("mode", mode(job).to_string());
    line(
        "parallelism",
        format!("{} of at most {}", parallelism(job), job.max_parallelism),
    );
    line("submitted", time(job.submitted_us));
    line("attempt", format!("{}, {} restarts", job.attempt, job.restarts));
    line("workers", job.placement.join(", "));
    line(
        "rows in",
        format!(
            "{} ({}), {}/s",
            count(counters.rows_in),
            amount(counters.bytes_in),
            rate(counters.rows_in_per_second)
        ),
    );
    line(
        "rows out",
        format!(
            "{} ({}), {}/s",
            count(counters.rows_out),
            amount(counters.bytes_out),
            rate(counters.rows_out_per_second)
        ),
    );
    line(
        "set aside",
        format!(
            "{} late, {} bad, {} dead letters, {} too far in the future",
            count(counters.late_rows),
            count(counters.bad_rows),
            count(counters.dead_letters),
            count(counters.future_rows)
        ),
    );
    line("watermark", watermark(counters.watermark_us));
    line(
        "lag",
        counters
            .lag_rows
            .map_or(String::new(), |rows| format!("{} rows", count(rows))),
    );
    let last = match &job.last_checkpoint {
        Some(last) => format!(
            ", the last {} {} ago ({} of state, {} ms)",
            last.checkpoint,
            age(now, current_us(last)),
            amount(last.state_bytes),
            last.duration_ms
        ),
        None => String::new(),
    };
    let unchanged = match job.checkpoints_unchanged {
        0 => String::new(),
        unchanged => format!(", {unchanged} with nothing new"),
    };
    line(
        "checkpoints",
        format!(
            "{} completed, {} failed{unchanged}{last}",
            job.checkpoints_completed, job.checkpoints_failed
        ),
    );
    if !job.operators.is_empty() {
        out.push('\n');
        out.push_str(&printer.render(&operators(&job.operators)));
    }
    if !job.transitions.is_empty() {
        let mut table = Table::new(&[("WHEN", ALWAYS), ("STATE", ALWAYS), ("REASON", ALWAYS)], "");
        for transition in &job.transitions {
            table.row(vec![
                time(transition.at_us).into(),
                word(transition.state()).into(),
                transition.reason.as_str().into(),
            ]);
        }
        out.push('\n');
        out.push_str(&printer.render(&table));
    }
    out
}

/// Returns the table of a job's operators, in the order of the plan.
pub fn operators(operators: &[v1::OperatorStatus]) -> Table {
    let columns = [
        ("OPERATOR", ALWAYS),
        ("KIND", 2),
        ("SUBTASKS", 1),
        ("ROWS IN", 6),
        ("ROWS OUT", 7),
        ("WATERMARK", 3),
        ("BUSY", 5),
        ("BLOCKED", 4),
    ];
    let mut table = Table::new(&columns, "nothing is reported yet");
    for operator in operators {
        let share = |share: f64| Cell::number(format!("{:.0} %", share * 100.0));
        table.row(vec![
            operator.id.as_str().into(),
            operator.kind.as_str().into(),
            Cell::number(operator.subtasks.to_string()),
            Cell::number(count(operator.rows_in)),
            Cell::number(count(operator.rows_out)),
            watermark(operator.watermark_us).into(),
            share(operator.busy),
            share(operator.blocked),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_what_it_leaves_out() {
        let printer = Printer::new(crate::output::Format::Wide);
        assert_eq!(printer.render(&table(&[], 0, false)), "no jobs\n");
        assert_eq!(
            printer.render(&table(&[], 2, false)),
            "no jobs that run or wait; `--all` shows 2 that have ended\n"
        );
    }

    #[test]
    fn a_list_ends_with_the_number_of_jobs_that_recent_failures() {
        assert_eq!(recent_failures(0), "");
        assert_eq!(
            recent_failures(1),
            "1 job failed in the last 24 h: engine-cli jobs list --all\n"
        );
        assert_eq!(
            recent_failures(2),
            "2 jobs failed in the last 24 h: engine-cli jobs list --all\n"
        );
    }
}
