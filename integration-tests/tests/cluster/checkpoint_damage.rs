//! Damaged checkpoints: `checkpoints verify` finds them, and a fallback is always reported.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::test_cluster::{Process, TestCluster, expected, is_finished_job, text, until};

/// A stopped job with its checkpoints.
struct StoppedJob {
    cluster: TestCluster,
    _standalone: Process,
}

impl StoppedJob {
    fn new() -> Self {
        let cluster = TestCluster::new();
        let standalone = cluster.standalone();
        cluster.cli_with(
            &[("RATE", "4000")],
            "out",
            &["jobs", "submit", "cars.yaml", "--wait"],
            0,
        );
        cluster.until_checkpoints("cars", 3);
        cluster.cli(&["jobs", "stop", "cars", "--wait"], 0);
        Self {
            cluster,
            _standalone: standalone,
        }
    }

    fn folder(&self) -> PathBuf {
        self.cluster.path("data/checkpoints/cars")
    }

    fn newest(&self) -> u64 {
        let job = self.cluster.job("cars");
        job["last_checkpoint"]["checkpoint"].as_u64().expect("it was stopped")
    }

    /// Verifies checkpoints; checks the exit code and returns the JSON document.
    #[track_caller]
    fn verify(&self, what: &str, code: i32) -> Value {
        let (stdout, _) = self.cluster.cli(&["checkpoints", "verify", what, "-o", "json"], code);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    #[track_caller]
    fn restart_and_check_output(&self) {
        self.cluster.cli(&["jobs", "restart", "cars"], 0);
        until("the job is finished", || {
            is_finished_job(
                &self
                    .cluster
                    .cli_at(&self.cluster.url(), &["jobs", "describe", "cars", "-o", "json"]),
            )
        });
        assert_eq!(self.cluster.lines("out"), expected());
    }
}

/// Returns all objects below a folder with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => open.push(entry.path()),
                false => found.push((entry.path(), fs::read(entry.path()).expect("a file"))),
            }
        }
    }
    found.sort();
    found
}

fn problems(report: &Value) -> Vec<String> {
    let damages = report["damages"].as_array().map_or(&[][..], Vec::as_slice);
    let problems = damages.iter().map(|damage| {
        let word = |field: &str| damage[field].as_str().unwrap_or_default().to_string();
        format!("{}: {}", word("kind"), word("problem"))
    });
    problems.collect()
}

#[test]
fn verify_names_damaged_files_and_the_checkpoint_that_a_restore_would_fall_back_to() {
    let stopped = StoppedJob::new();
    let newest = stopped.newest();
    let whole = stopped.verify("cars", 0);
    assert_eq!(whole["result"]["is_whole"], true, "{whole}");
    assert_eq!(whole["checkpoints"][0]["checkpoint"].as_u64(), Some(newest), "{whole}");
    assert_eq!(whole["result"]["restored_from"].as_u64(), Some(newest), "{whole}");
    let (said, _) = stopped
        .cluster
        .cli(&["checkpoints", "verify", &format!("cars/{newest}")], 0);
    assert!(
        said.contains(": whole, ") && said.contains(&format!("a restore begins with checkpoint {newest}")),
        "{said}"
    );
    let (_, missing) = stopped.cluster.cli(&["checkpoints", "verify", "cars/999"], 3);
    assert!(missing.contains("has no checkpoint 999"), "{missing}");

    let folder = fs::read_dir(stopped.folder().join("checkpoints")).expect("it is there");
    let manifest = folder
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&format!("{newest}-")))
        })
        .map(|folder| folder.join("manifest"))
        .expect("the newest checkpoint has a folder");
    let original = fs::read(&manifest).expect("a file");
    let mut flipped = original.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&manifest, flipped).expect("a writable file");
    let report = stopped.verify("cars", 7);
    let found = problems(&report);
    assert!(
        found.len() == 1 && found[0].starts_with("manifest: ") && found[0].contains("checksum"),
        "{found:?}"
    );
    assert_eq!(report["result"]["restored_from"].as_u64(), Some(newest - 1), "{report}");
    let (said, _) = stopped
        .cluster
        .cli(&["checkpoints", "verify", &format!("cars/{newest}")], 7);
    let words = format!("would fall back to checkpoint {}", newest - 1);
    assert!(said.contains("damaged") && said.contains(&words), "{said}");
    fs::write(&manifest, original).expect("a writable file");

    // Without any manifest there is nothing to restore.
    let manifests: Vec<(PathBuf, Vec<u8>)> = contents(&stopped.folder().join("checkpoints"))
        .into_iter()
        .filter(|(path, _)| path.ends_with("manifest"))
        .collect();
    for (path, _) in &manifests {
        fs::remove_file(path).expect("it is there");
    }
    let report = stopped.verify("cars", 7);
    assert_eq!(problems(&report).len(), manifests.len(), "{report}");
    let restore = report["result"]["restore"].as_str().unwrap_or_default();
    assert!(restore.contains("nothing is left"), "{report}");
    for (path, content) in manifests {
        fs::write(path, content).expect("a writable folder");
    }
    stopped.restart_and_check_output();
}

#[test]
fn a_lost_journal_is_refused_and_nothing_is_deleted_until_it_is_back() {
    let stopped = StoppedJob::new();
    let (journal, saved) = (stopped.folder().join("journal"), stopped.cluster.path("saved"));
    let before = contents(&stopped.folder().join("checkpoints"));
    let files = contents(&stopped.folder().join("files"));
    // A new process, as a running one has the journal in memory.
    let StoppedJob { cluster, _standalone } = stopped;
    drop(_standalone);
    fs::rename(&journal, &saved).expect("one folder");
    let stopped = StoppedJob {
        _standalone: cluster.standalone(),
        cluster,
    };
    let report = stopped.verify("cars", 7);
    let found = problems(&report);
    assert!(
        found
            .iter()
            .any(|problem| problem.contains("is missing, but there are checkpoints")),
        "{found:?}"
    );
    let refused = stopped
        .cluster
        .cli_at(&stopped.cluster.url(), &["jobs", "restart", "cars"]);
    until("the restart is refused", || {
        let job = stopped.cluster.job("cars");
        job["state"] == "failed" || !refused.status.success()
    });
    let reason = stopped.cluster.job("cars")["reason"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    let said = format!("{reason} {}", text(&refused.stderr));
    for words in [
        "is missing, but there are checkpoints",
        "Nothing was changed",
        "from a backup",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(contents(&stopped.folder().join("checkpoints")), before);
    assert_eq!(contents(&stopped.folder().join("files")), files);
    fs::rename(&saved, &journal).expect("one folder");
    stopped.restart_and_check_output();
}
