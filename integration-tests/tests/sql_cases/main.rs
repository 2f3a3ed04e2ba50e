//! SQL cases: each folder of `sql/` holds a pipeline and the rows it must give, computed by DuckDB. The queries of the
//! Nexmark and TPC-H benchmarks are cases, too, named `nexmark_q0`, `tpch_q1` and so on.
//!
//! Every case runs four ways with the real binary: whole; at parallelism 2 with checkpoints in the middle; killed with
//! SIGKILL after some checkpoints and resumed at parallelism 3; as a batch. All must give the expected rows.
//!
//! The result of an updating query is a changelog. It is printed, its changes are applied in order, and the table that
//! they make is compared ([`changelog`]). A run that is killed writes it to files, each change exactly once. Another
//! run has consistency points, at which its operators emit their changes.
//!
//! Finally, a service gets the rows of the tables in one request ([`service`]), and must answer with the rows.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::cases::{Case, Outcome, Output};
use self::service::Server;

mod cases;
mod changelog;
mod service;

/// Most cases that run at the same time.
const WORKERS: usize = 6;

/// Rows per second of the slow runs: about a second and a half for the larger input.
const SLOW: u32 = 1_600;
/// A rate above that of any run.
const FAST: u32 = 10_000_000;

/// Setting of runs with consistency points.
const POINTS: &str = "SET 'consistency.interval' = '60 ms';\n";

/// Cases that a request cannot express: `values` and `table_like` give tables options of files, `nexmark_q10` writes
/// columns to the names of folders, the others read changes, or records with more fields than columns.
const NOT_SERVED: [&str; 12] = [
    "nexmark_q10",
    "table_like",
    "temporal_join",
    "temporal_join_append",
    "temporal_join_grouped",
    "temporal_join_left",
    "temporal_join_window",
    "updating_unnest",
    "values",
    "windows_of_changed_bitmaps",
    "windows_of_changes",
    "windows_of_keyed_changes",
];

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn every_sql_case_gives_the_expected_rows_however_it_runs() {
    let cases = cases::cases().expect("readable cases");
    let wanted = if std::env::var_os("SQL_CASE").is_some() { 1 } else { 20 };
    assert!(cases.len() >= wanted, "no SQL cases found");
    let server = Server::start(cases.iter().filter(|case| serves(case))).expect("all cases can be served");
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = check(case, &server) {
                        failures.lock().unwrap().push(format!("{}: {error}", case.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

fn check(case: &Case, server: &Server) -> Result<(), String> {
    let expected = sorted_lines(&fs::read_to_string(&case.expected).map_err(|e| e.to_string())?);

    let whole = Run::new(case, Output::Declared);
    whole.finish(FAST, &["--parallelism", "1"])?;
    whole.compare("whole", &expected)?;

    let divided = Run::new(case, Output::Declared);
    divided.finish(SLOW, &["--parallelism", "2", "--checkpoint-interval", "150ms"])?;
    let checkpoints = divided.checkpoints();
    if checkpoints == 0 {
        return Err("at parallelism 2: no checkpoint was taken".into());
    }
    divided.compare("at parallelism 2 with checkpoints", &expected)?;

    if let Outcome::Printed(_) = case.outcome(Output::Declared) {
        let held_back = Run {
            settings: POINTS,
            ..Run::new(case, Output::Declared)
        };
        let summary = held_back.folder.path().join("summary.json");
        let arguments = [
            "--checkpoint-interval",
            "400ms",
            "--summary",
            &summary.display().to_string(),
        ];
        held_back.finish(SLOW, &[&["--parallelism", "2"], &arguments[..]].concat())?;
        let summary = fs::read_to_string(summary).map_err(|e| e.to_string())?;
        let summary: serde_json::Value = serde_json::from_str(&summary).map_err(|e| e.to_string())?;
        if summary["consistency_points"].as_u64().is_none_or(|points| points == 0) {
            return Err("with consistency points: none has passed".into());
        }
        held_back.compare("with consistency points", &expected)?;
    }

    kill_and_resume(case)?.compare("killed and resumed at parallelism 3", &expected)?;

    let batch = Run::new(case, Output::Declared);
    batch.finish(FAST, &["--mode", "batch", "--parallelism", "2"])?;
    batch.compare("as a batch", &expected)?;

    if serves(case) {
        compare("as a service", server.rows(case)?, &expected)?;
    }
    Ok(())
}

/// Kills a run in the middle of its input, and resumes it at parallelism 3. On a busy machine the input may have ended
/// at the checkpoint; then another run, a slower one, is killed.
fn kill_and_resume(case: &Case) -> Result<Run<'_>, String> {
    for rate in [SLOW, SLOW / 4, SLOW / 16] {
        let run = Run::new(case, Output::Files);
        run.kill_after_checkpoints(2, rate)?;
        match run.finish(FAST, &["--parallelism", "3"]) {
            Err(error) if error.contains("all input was processed before") => {}
            resumed => return resumed.map(|()| run),
        }
    }
    Err("killed: all input was processed at the second checkpoint, at every rate".into())
}

/// Returns true if a request can express a case.
fn serves(case: &Case) -> bool {
    !NOT_SERVED.contains(&case.name.as_str())
}

/// One way of running one case, in its own folders.
struct Run<'a> {
    folder: TempDir,
    case: &'a Case,
    output: Output,
    /// Statements before those of the case.
    settings: &'static str,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case, output: Output) -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
            case,
            output,
            settings: "",
        }
    }

    fn command(&self, rate: u32, arguments: &[&str]) -> Result<Command, String> {
        let script = (self.settings.to_owned() + &self.case.script(self.output))
            .replace("${DATA}", &cases::root().join("data").display().to_string())
            .replace("${OUT}", &self.output().display().to_string())
            .replace("${RATE}", &rate.to_string())
            .replace("${RATE/2}", &(rate / 2).to_string())
            .replace("${RATE/8}", &(rate / 8).to_string());
        let file = self.folder.path().join("case.sql");
        fs::write(&file, script).map_err(|e| e.to_string())?;
        let mut command = Command::new(millstream_integration_tests::engine());
        command
            .arg("run")
            .arg(file)
            .arg("--data-dir")
            .arg(self.data())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(self.printed()?);
        Ok(command)
    }

    /// Returns the file that the runs of the case print to, one after the other.
    fn printed(&self) -> Result<File, String> {
        let path = self.folder.path().join("printed");
        let file = File::options().create(true).append(true).open(path);
        file.map_err(|e| e.to_string())
    }

    fn finish(&self, rate: u32, arguments: &[&str]) -> Result<(), String> {
        let output = self
            .command(rate, arguments)?
            .output()
            .map_err(|e| format!("cannot start the engine: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = error.lines().rev().take(12).collect();
        Err(format!(
            "{}: {}",
            arguments.join(" "),
            tail.into_iter().rev().collect::<Vec<_>>().join("\n    ")
        ))
    }

    /// Starts a run and kills it (SIGKILL) once so many checkpoints are complete.
    fn kill_after_checkpoints(&self, wanted: usize, rate: u32) -> Result<(), String> {
        let mut command = self.command(rate, &["--parallelism", "2", "--checkpoint-interval", "100ms"])?;
        let mut child = command.stderr(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        let reached = self.wait_for_checkpoints(&mut child, wanted);
        child.kill().map_err(|e| e.to_string())?;
        child.wait().map_err(|e| e.to_string())?;
        reached
    }

    fn wait_for_checkpoints(&self, child: &mut Child, wanted: usize) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        while self.checkpoints() < wanted {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!(
                    "the run to be killed ended by itself ({status}) before checkpoint {wanted}"
                ));
            }
            if Instant::now() > deadline {
                return Err(format!("no {wanted} checkpoints within {DEADLINE:?}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn checkpoints(&self) -> usize {
        files_below(&self.data())
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| name == "manifest"))
            .count()
    }

    /// Returns the lines of all files that are visible.
    fn written(&self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for file in files_below(&self.output()) {
            let hidden = file
                .file_name()
                .is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if !hidden {
                let text = fs::read_to_string(&file).map_err(|e| e.to_string())?;
                lines.extend(text.lines().map(str::to_owned));
            }
        }
        Ok(lines)
    }

    fn check_zero_column(&self, way: &str, changes: &[String]) -> Result<(), String> {
        let script = self.case.script(self.output);
        changelog::check_zero_column(&script, changes).map_err(|error| format!("{way}: {error}"))
    }

    fn compare(&self, way: &str, expected: &[String]) -> Result<(), String> {
        let outcome = self.case.outcome(self.output);
        let mut lines = match outcome {
            Outcome::Printed(changelog) => {
                let printed = fs::read_to_string(self.folder.path().join("printed")).map_err(|e| e.to_string())?;
                let changes: Vec<String> = printed.lines().map(str::to_owned).collect();
                self.check_zero_column(way, &changes)?;
                changelog.table(&printed).map_err(|e| format!("{way}: {e}"))?
            }
            Outcome::Rows | Outcome::Changes => self.written()?,
        };
        if let Outcome::Changes = outcome {
            self.check_zero_column(way, &lines)?;
            lines = changelog::table_of_files(&lines).map_err(|e| format!("{way}: {e}"))?;
        }
        compare(way, lines, expected)
    }
}

/// Compares the rows of a run, in any order.
fn compare(way: &str, mut lines: Vec<String>, expected: &[String]) -> Result<(), String> {
    lines.sort();
    if lines == expected {
        return Ok(());
    }
    let missing = difference(expected, &lines);
    let surplus = difference(&lines, expected);
    Err(format!(
        "{way}: {} rows instead of {}; missing {}: {:?}; surplus {}: {:?}",
        lines.len(),
        expected.len(),
        missing.len(),
        &missing[..missing.len().min(3)],
        surplus.len(),
        &surplus[..surplus.len().min(3)],
    ))
}

fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Returns the elements of `a` that are not in `b`, as multisets; both are sorted.
fn difference(a: &[String], b: &[String]) -> Vec<String> {
    let mut rest = b.iter().peekable();
    let mut missing = Vec::new();
    for line in a {
        while rest.next_if(|other| *other < line).is_some() {}
        if rest.next_if(|other| *other == line).is_none() {
            missing.push(line.clone());
        }
    }
    missing
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files
}
