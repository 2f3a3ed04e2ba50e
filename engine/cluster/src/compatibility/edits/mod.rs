//! Typical edits of a script, and what becomes of its state: the verdict about each operator, and the rows after a
//! restore.
//!
//! Every case runs the script until its sources have delivered a part of their rows, stops it with a checkpoint, and
//! runs the edited script from there to the end, with one subtask or two. Its changes must be those that the script
//! makes after the checkpoint, or those that the edited script makes after a checkpoint of its own.

mod cases;
mod connector;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use futures::StreamExt;
use millstream_connectors::registry;
use millstream_proto::v1::{self, pipeline};
use tokio::sync::watch;

use self::cases::{CASES, Case, Rows, SCRIPT};
use self::connector::{Changes, ROWS, RowsConnector};
use super::{Verdict, check};
use crate::deployer::Embedded;
use crate::history::History;
use crate::job::{Job, Outcome, Start, StopRequest};
use crate::progress::Progress;
use crate::resolve::{Overrides, resolve};
use crate::{signature, stored_pipeline};

/// Number of rows of each source that are part of the checkpoint.
const ROWS_BEFORE: usize = 25;
const MEMORY_BYTES: usize = 64 << 20;
const DEADLINE: Duration = Duration::from_secs(60);
/// Cases that run at the same time.
const CONCURRENT: usize = 4;

/// One run of a script.
struct ScriptRun<'a> {
    script: &'a str,
    folder: &'a Path,
    /// Name of the run, for the connector.
    name: String,
    first: usize,
    limit: usize,
    parallelism: usize,
    start: Start,
}

impl ScriptRun<'_> {
    fn job(&self) -> Result<Job, String> {
        let text = self
            .script
            .replace("'rows'", &format!("'rows', 'run' = '{}'", self.name));
        let sql = v1::SpecText {
            text,
            file: "job.sql".into(),
        };
        let pipeline = v1::Pipeline {
            pipeline: Some(pipeline::Pipeline::Sql(sql)),
            ..v1::Pipeline::default()
        };
        let resolved = resolve(&pipeline, &Overrides::default(), 0).map_err(|mistakes| format!("{mistakes:?}"))?;
        let storage = self.folder.join("checkpoints").display().to_string();
        let mut job = resolved.job(self.parallelism, storage, self.start);
        job.accept_changed_meaning = true;
        job.allow_dropped_state = true;
        Ok(job)
    }

    /// Runs the script until its sources have delivered their rows up to the limit, and stops it there. Returns the
    /// last checkpoint and the changes.
    async fn run(&self) -> Result<(u64, Changes), String> {
        connector::begin(&self.name, self.first, self.limit);
        let job = self.job()?;
        let deployer = Embedded::new(self.folder.to_path_buf(), "job", self.parallelism, MEMORY_BYTES);
        let deployer = deployer.await.map_err(|error| error.to_string())?;
        let (ask, stop) = watch::channel(StopRequest::None);
        let progress = Progress::default();
        let running = crate::run::run(&job, &deployer, stop, &progress);
        let sources = job.graph.nodes.iter();
        let sources = sources.filter(|node| matches!(node.operator, super::Operator::Source(_)));
        let sources = sources.count();
        let stopping = async {
            let deadline = Instant::now() + DEADLINE;
            while self.limit < ROWS && connector::of(&self.name).waiting.len() < sources && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if self.limit < ROWS {
                ask.send_replace(StopRequest::Stop);
            }
            // The receivers end with the run.
            ask.closed().await;
        };
        let (outcome, ()) = tokio::join!(running, stopping);
        match outcome.map_err(|error| error.to_string())? {
            Outcome::Finished { checkpoint } | Outcome::Stopped { checkpoint } => {
                Ok((checkpoint, connector::of(&self.name).changes))
            }
            other => Err(format!("{other:?}")),
        }
    }
}

/// Returns the verdicts about the operators whose state does not have the same meaning, and new stateful operators.
async fn verdicts(storage: &Path, checkpoint: u64, job: &Job) -> Result<String, String> {
    let storage = storage.join("checkpoints").display().to_string();
    let history = History::open(&storage, "job", 3)
        .await
        .map_err(|error| error.to_string())?;
    let base = history.load(checkpoint).await.map_err(|error| error.to_string())?;
    let compared = stored_pipeline::compare(&base, &job.resolved, job.stored_pipeline.as_deref()).await;
    let findings = check(&job.graph, &base, &compared.map_err(|error| error.to_string())?);
    let mut text: Vec<String> = findings.general.clone();
    for finding in &findings.operators {
        let verdict = match finding.verdict {
            Verdict::SameMeaning => continue,
            Verdict::ChangedMeaning => "other meaning",
            Verdict::NeedsMigration => "needs migration",
            Verdict::LosesState => "lost",
        };
        text.push(format!("{}: {verdict}", finding.operator));
    }
    for (index, node) in job.graph.nodes.iter().enumerate() {
        let is_stateful = !signature::of_state(&job.graph, index).is_empty();
        if is_stateful && !base.operators.contains_key(&node.id) {
            text.push(format!("{}: new", node.id));
        }
    }
    Ok(text.join("; "))
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a writable folder");
    for entry in std::fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a readable folder").is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).expect("a writable folder")),
        }
    }
}

/// Returns the differences between the changes of two runs.
fn differences(found: &Changes, expected: &Changes) -> String {
    let mut text = String::new();
    for (changes, others, sign) in [(expected, found, '-'), (found, expected, '+')] {
        for (table, rows) in changes {
            for (row, weight) in rows {
                if others.get(table).and_then(|rows| rows.get(row)) != Some(weight) {
                    writeln!(text, "  {sign} {table}: {row} ({weight:+})").expect("a text grows");
                }
            }
        }
    }
    text
}

/// The checkpoint of the script.
struct Base {
    folder: PathBuf,
    checkpoint: u64,
    /// The changes that the script makes after it.
    changes: Changes,
}

/// Returns the problems with a case.
async fn problems(number: usize, case: &Case, base: &Base, folder: PathBuf) -> Result<String, String> {
    let checkpoint = base.checkpoint;
    let mut edited = SCRIPT.to_owned();
    for (from, to) in case.edits {
        if !edited.contains(from) {
            return Err(format!("`{from}` is not in the script"));
        }
        edited = edited.replace(from, to);
    }
    let run = |name: &str, folder, first, limit, parallelism, start| ScriptRun {
        script: &edited,
        folder,
        name: format!("{number}-{name}"),
        first,
        limit,
        parallelism,
        start,
    };
    let own_folder = folder.join("own");
    let restored_folder = folder.join("restored");
    copy_folder(&base.folder.join("checkpoints"), &restored_folder.join("checkpoints"));
    let parallelism = 1 + number % 2;
    let restored = run(
        "restored",
        &restored_folder,
        0,
        ROWS,
        parallelism,
        Start::FromCheckpoint(checkpoint),
    );
    let found = verdicts(&restored_folder, checkpoint, &restored.job()?).await?;
    let mut text = String::new();
    if found != case.verdicts {
        writeln!(text, "  verdicts: {found}").expect("a text grows");
    }
    if found.contains("needs migration") {
        match restored.run().await {
            Err(refused) if refused.contains("does not fit the pipeline") => {}
            other => writeln!(text, "  was not refused: {other:?}").expect("a text grows"),
        }
        return Ok(text);
    }
    let (_, mut changes) = restored.run().await?;
    // Most edits change no rows.
    let mut expected = match changes == base.changes {
        true => changes.clone(),
        false => {
            let before = run("before", &own_folder, 0, ROWS_BEFORE, 1, Start::Fresh);
            let (own, _) = before.run().await?;
            let own = run("own", &own_folder, 0, ROWS, 1, Start::FromCheckpoint(own));
            own.run().await?.1
        }
    };
    let later_folder = folder.join("later");
    let later = run("later", &later_folder, ROWS_BEFORE, ROWS, 1, Start::Fresh);
    let mut of_later = None;
    for (table, rows) in case.rows {
        match rows {
            Rows::OfLaterInput => {
                if of_later.is_none() {
                    of_later = Some(later.run().await?.1);
                }
                let rows = of_later.as_ref().and_then(|changes| changes.get(*table));
                expected.insert((*table).to_owned(), rows.cloned().unwrap_or_default());
            }
            Rows::Mixed => {
                changes.remove(*table);
                expected.remove(*table);
            }
        }
    }
    changes.retain(|_, rows| !rows.is_empty());
    expected.retain(|_, rows| !rows.is_empty());
    text.push_str(&differences(&changes, &expected));
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_and_their_state_survive_edits_elsewhere() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| registry::register(&RowsConnector));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |name: &str, folder, limit, start| ScriptRun {
        script: SCRIPT,
        folder,
        name: name.to_owned(),
        first: 0,
        limit,
        parallelism: 1,
        start,
    };
    let base = folder.path().join("base");
    let before = run("base", &base, ROWS_BEFORE, Start::Fresh).run().await;
    let (checkpoint, changes) = before.expect("the script runs");
    assert_eq!(changes.len(), 7, "every sink has rows: {changes:?}");
    let after_folder = folder.path().join("after");
    copy_folder(&base.join("checkpoints"), &after_folder.join("checkpoints"));
    let after = run("after", &after_folder, ROWS, Start::FromCheckpoint(checkpoint))
        .run()
        .await;
    let base = Base {
        folder: base,
        checkpoint,
        changes: after.expect("the script runs").1,
    };
    let runs = CASES.iter().enumerate().map(|(number, case)| {
        let folder = folder.path().join(number.to_string());
        let base = &base;
        async move {
            let problems = match problems(number, case, base, folder).await {
                Ok(problems) => problems,
                Err(error) => format!("  {error}\n"),
            };
            (case.name, problems)
        }
    });
    let results: Vec<(&str, String)> = futures::stream::iter(runs).buffered(CONCURRENT).collect().await;
    let failed: Vec<String> = results
        .iter()
        .filter(|(_, problems)| !problems.is_empty())
        .map(|(name, problems)| format!("{name}\n{problems}"))
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.concat());
}
