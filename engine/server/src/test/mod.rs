//! `engine test`: runs the tests of pipelines, on a clock of their own and without external systems.

mod file;
mod junit;

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use millstream_cluster::pipeline_test;
use millstream_cluster::resolve::{Overrides, Resolved};
use millstream_planner::Mode;
use millstream_state::store::{Backend, BackendOptions};

use self::file::{Test, TestFile};
use crate::arguments::TestArguments;
use crate::{Failure, pipeline, print};

/// Memory budget for the state of a test.
const MEMORY_BYTES: usize = 256 << 20;

/// The result of a test in one mode.
struct Outcome {
    file: String,
    name: String,
    mode: &'static str,
    /// Differences, one per line; none if the test has passed.
    differences: Vec<String>,
    elapsed: Duration,
}

pub fn run(arguments: &TestArguments) -> Result<(), Failure> {
    let mut files = Vec::new();
    let mut mistakes = String::new();
    for path in &arguments.files {
        match read(path) {
            Ok(file) => files.push((path.display().to_string(), file)),
            Err(text) => mistakes.push_str(&text),
        }
    }
    if !mistakes.is_empty() {
        return Err(Failure::Invalid(mistakes));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("error: {error}\n"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let folder = std::env::temp_dir().join(format!("millstream-test-{}", std::process::id()));
    let runner = Runner {
        arguments,
        folder: &folder,
        runtime: runtime.handle(),
    };
    let result = runner.run_all(&files);
    // A folder that cannot be removed, or was never created, does not change the result.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| failed(&error))?;
    }
    let outcomes = result?;
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit::render(&outcomes))
            .map_err(|error| failed(&format!("{}: {error}", path.display())))?;
    }
    let failures = outcomes
        .iter()
        .filter(|outcome| !outcome.differences.is_empty())
        .count();
    print(&format!("{} passed, {failures} failed\n", outcomes.len() - failures))?;
    match (outcomes.len(), failures) {
        (0, _) => Err(Failure::Invalid(
            "error: there is no test to run; see --filter\n".into(),
        )),
        (_, 0) => Ok(()),
        _ => Err(Failure::Failed(String::new())),
    }
}

/// Reads a file of tests.
fn read(path: &Path) -> Result<TestFile, String> {
    let text = pipeline::read(path)?;
    file::parse(path, &text).map_err(|mistakes| {
        mistakes.iter().fold(String::new(), |mut text, mistake| {
            // Writing to a String cannot fail.
            writeln!(text, "error: {mistake}").ok();
            text
        })
    })
}

struct Runner<'a> {
    arguments: &'a TestArguments,
    folder: &'a Path,
    runtime: &'a tokio::runtime::Handle,
}

impl Runner<'_> {
    /// Runs all tests, and prints the result of each.
    fn run_all(&self, files: &[(String, TestFile)]) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::new();
        for (name, file) in files {
            let wanted = |test: &&Test| match &self.arguments.filter {
                Some(filter) => test.name.contains(filter.as_str()),
                None => true,
            };
            for test in file.tests.iter().filter(wanted) {
                self.run_test(name, file, test, &mut outcomes)?;
            }
        }
        Ok(outcomes)
    }

    fn run_test(
        &self,
        file_name: &str,
        file: &TestFile,
        test: &Test,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Failure> {
        let modes = match test.modes.is_empty() {
            true => vec![None],
            false => test.modes.iter().copied().map(Some).collect(),
        };
        for mode in modes {
            let start = Instant::now();
            let resolved = plan(file, test, mode).map_err(Failure::Invalid)?;
            let outcome = Outcome {
                differences: self.run_case(file_name, test, &resolved)?,
                file: file_name.to_owned(),
                name: test.name.clone(),
                mode: name_of(resolved.settings.mode),
                elapsed: start.elapsed(),
            };
            let verdict = if outcome.differences.is_empty() {
                "ok    "
            } else {
                "FAILED"
            };
            let mut text = format!(
                "{verdict} {} ({}, {} ms)\n",
                outcome.name,
                outcome.mode,
                outcome.elapsed.as_millis()
            );
            for line in &outcome.differences {
                // Writing to a String cannot fail.
                writeln!(text, "       {line}").ok();
            }
            print(&text)?;
            outcomes.push(outcome);
        }
        Ok(())
    }

    fn run_case(&self, file: &str, test: &Test, resolved: &Resolved) -> Result<Vec<String>, Failure> {
        let backend = Backend::new(BackendOptions {
            dir: self.folder.to_path_buf(),
            memory_bytes: MEMORY_BYTES,
            process_gauge: None,
            background_threads: 1,
        })
        .map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
        pipeline_test::run(resolved, &test.case, backend, self.runtime)
            .map_err(|error| Failure::Invalid(format!("error: {file}: the test `{}`: {error}\n", test.name)))
    }
}

/// Plans the pipeline of a file, at the time of the test's clock.
fn plan(file: &TestFile, test: &Test, mode: Option<Mode>) -> Result<Resolved, String> {
    let environment: HashMap<String, String> = file.variables.iter().cloned().collect();
    let overrides = Overrides { name: None, mode };
    pipeline::resolve(&file.pipeline, &overrides, environment, test.case.clock_us)
}

fn name_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Stream => "stream",
        Mode::Batch => "batch",
        Mode::Serve => "serve",
    }
}
