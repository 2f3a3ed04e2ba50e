//! Runs that end, are stopped or are killed and resumed: the output is that of one undisturbed run.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;
use std::process::Output;

use crate::test_folder::{TestFolder, manifests, signal, text};

/// Creates a job over two files of events, each with about a minute of event time, with windows of 10 s per key.
fn folder(rate: &str) -> TestFolder {
    let folder = TestFolder::new();
    for file in 0..2 {
        let mut lines = String::new();
        for row in 0..1500 {
            let at = 1_700_000_000_000u64 + row * 40 + file * 7;
            let (second, ms) = (at / 1000, at % 1000);
            let (minute, second) = (second / 60 % 60, second % 60);
            lines.push_str(&format!(
                "{{\"k\": {}, \"v\": {row}, \"ts\": \"2023-11-14 22:{minute:02}:{second:02}.{ms:03}\"}}\n",
                (row * 7 + file) % 5
            ));
        }
        folder.write(&format!("in/{file}.json"), &lines);
    }
    write_job(&folder, rate);
    folder
}

fn write_job(folder: &TestFolder, rate: &str) {
    folder.write(
        "job.yaml",
        &format!(
            "name: job
parallelism: 2
checkpoints: {{ interval: 50ms, retain: 3 }}
sources:
  events:
    connector: filesystem
    options: {{ path: in, scan.rate-limit: {rate} }}
    format: json
    columns: {{ k: bigint, v: bigint, ts: timestamp(3) }}
    event_time: {{ column: ts, out_of_orderness: 1s }}
steps:
  sums:
    sql: |
      SELECT k, window_start, sum(v) AS total, count(*) AS n
      FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))
      GROUP BY k, window_start, window_end
sinks:
  out:
    from: sums
    connector: filesystem
    options: {{ path: out }}
    format: csv
"
        ),
    );
}

const SLOW: &str = "3000";
const FAST: &str = "10000000";

fn expected() -> Vec<String> {
    let folder = folder(FAST);
    folder.run(&["run", "job.yaml"], 0);
    let lines = folder.lines("out");
    assert!(lines.len() > 20, "{lines:?}");
    lines
}

#[track_caller]
fn says(output: &Output, what: &str) {
    let stderr = text(&output.stderr);
    assert!(stderr.contains(what), "`{what}` is not in:\n{stderr}");
}

#[test]
fn rows_are_printed_and_a_finished_job_says_so() {
    let folder = TestFolder::new();
    folder.write(
        "x.sql",
        "CREATE TABLE t (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '100', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '100');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'print');
INSERT INTO out SELECT n FROM t WHERE n <= 10;",
    );
    let output = folder.run(&["run", "x.sql", "--summary", "summary.json"], 0);
    assert_eq!(text(&output.stdout).lines().count(), 10, "{}", text(&output.stdout));
    says(&output, "finished: all input is processed");
    let summary = fs::read_to_string(folder.path("summary.json")).unwrap();
    assert!(summary.contains("\"rows_out\": 10"), "{summary}");

    let again = folder.run(&["run", "x.sql"], 0);
    assert_eq!(text(&again.stdout), "");
    says(&again, "nothing to do");

    let fresh = folder.run(&["run", "x.sql", "--fresh"], 0);
    assert_eq!(text(&fresh.stdout).lines().count(), 10);
}

/// Creates a job over a folder of CSV files that has finished once.
fn finished_over_files() -> TestFolder {
    let folder = TestFolder::new();
    fs::create_dir(folder.path("in")).unwrap();
    folder.write("in/a.csv", "1\n2\n3\n");
    folder.write("job.sql", FILES_SQL);
    folder.run(&["run", "job.sql"], 0);
    assert_eq!(folder.lines("out"), ["1", "2", "3"]);
    folder
}

const FILES_SQL: &str = "CREATE TABLE t (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO out SELECT n FROM t WHERE n < 100;";

#[test]
fn a_finished_job_does_not_take_an_edited_pipeline_for_its_own() {
    let folder = finished_over_files();
    folder.write("job.sql", &format!("-- a comment is no change\n{FILES_SQL}"));
    says(&folder.run(&["run", "job.sql"], 0), "nothing to do");

    // No state depends on the filter, but the output does.
    folder.write("job.sql", &FILES_SQL.replace("n < 100", "n < 2"));
    let refused = folder.run(&["run", "job.sql"], 2);
    says(
        &refused,
        "all input was processed before, by a pipeline that differs from this one (edited: sink `out`)",
    );
    says(&refused, "--fresh");
    folder.write("job.sql", &FILES_SQL.replace("'path' = 'out'", "'path' = 'elsewhere'"));
    says(
        &folder.run(&["run", "job.sql"], 2),
        "a pipeline that differs from this one",
    );

    // An unrelated script of the same file name.
    folder.write(
        "job.sql",
        "CREATE TABLE g (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '5', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '5');
CREATE TABLE printed (n BIGINT) WITH ('connector' = 'print');
INSERT INTO printed SELECT n FROM g;",
    );
    says(&folder.run(&["run", "job.sql"], 2), "does not fit the pipeline");
    let other = folder.run(&["run", "job.sql", "--name", "other"], 0);
    assert_eq!(text(&other.stdout).lines().count(), 5);
    assert_eq!(folder.lines("out"), ["1", "2", "3"]);
}

#[test]
fn a_finished_job_names_the_input_that_it_does_not_read() {
    let folder = finished_over_files();
    for n in 0..7 {
        folder.write(&format!("in/b{n}.csv"), "4\n");
    }
    folder.write("in/a.csv", "1\n2\n3\n4\n");
    let refused = folder.run(&["run", "job.sql"], 2);
    says(
        &refused,
        "does not read newer input: source `t`: `in/a.csv` has changed, `in/b0.csv` is new, `in/b1.csv` is new, \
         `in/b2.csv` is new, `in/b3.csv` is new and 3 more",
    );
    assert_eq!(folder.lines("out"), ["1", "2", "3"]);

    let both = folder.run(&["run", "job.sql", "--fresh"], 0);
    says(
        &both,
        "`out/sink`: 1 file of earlier runs in out/: kept beside the output of this run",
    );
    assert_eq!(folder.lines("out").len(), 3 + 11);

    folder.write("out/notes.csv", "100\n");
    let only_new = folder.run(&["run", "job.sql", "--fresh", "--remove-output"], 0);
    says(&only_new, "`out/sink`: removed ");
    assert_eq!(folder.lines("out").len(), 11 + 1, "the file of somebody else stays");
    folder.run(&["run", "job.sql", "--remove-output"], 2);
}

#[test]
fn a_killed_run_resumes_and_writes_every_row_exactly_once() {
    let expected = expected();
    let folder = folder(SLOW);
    for round in 0..2 {
        let before = manifests(&folder.path(".millstream")).pop();
        let mut child = folder.start(&["run", "job.yaml"]);
        folder.wait(&mut child, "two more checkpoints", || {
            let manifests = manifests(&folder.path(".millstream"));
            manifests.len() >= 2 && manifests.last() != before.as_ref()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            folder.lines("out").len() < expected.len(),
            "round {round}: nothing was left to resume"
        );
    }
    write_job(&folder, FAST);
    // The rate does not affect state, so the edited pipeline resumes. So does another parallelism.
    let output = folder.run(&["run", "job.yaml", "--parallelism", "3"], 0);
    says(&output, "finished");
    assert_eq!(folder.lines("out"), expected);
}

/// A batch of several statements. All but the last one end at once.
const BATCH: &str = "
SET 'pipeline.name' = 'batch';
SET 'execution.runtime-mode' = 'batch';
SET 'execution.checkpointing.interval' = '50 ms';
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json');
CREATE TABLE slow (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '200', 'number-of-rows' = '400');
CREATE TABLE results (statement STRING, n BIGINT, m BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
EXECUTE STATEMENT SET BEGIN
INSERT INTO results SELECT 'groups', n, COUNT(*) FROM numbers GROUP BY n;
INSERT INTO results SELECT 'all', COUNT(*), SUM(n) FROM numbers;
INSERT INTO results SELECT 'none', COUNT(*), SUM(n) FROM numbers WHERE n > 9;
INSERT INTO results SELECT 'left', a.n, b.n FROM numbers AS a LEFT JOIN numbers AS b ON a.n = b.n + 1;
INSERT INTO results SELECT 'anti', n, n FROM numbers AS a WHERE NOT EXISTS (SELECT 1 FROM numbers AS b WHERE b.n = a.n + 1);
INSERT INTO results SELECT 'distinct', n, 0 FROM (SELECT DISTINCT n FROM numbers);
INSERT INTO results SELECT 'first', n, 0 FROM (SELECT n FROM numbers ORDER BY n LIMIT 1);
INSERT INTO results SELECT 'sorted', n, 0 FROM numbers ORDER BY n;
INSERT INTO results SELECT 'slow', COUNT(*), 0 FROM slow;
END;
";

#[test]
fn a_killed_batch_writes_the_results_that_were_complete_only_once() {
    let folder = TestFolder::new();
    folder.write("batch.sql", BATCH);
    folder.write("in.json", "{\"n\":1}\n{\"n\":2}\n{\"n\":2}\n{\"n\":5}\n");
    let expected = [
        "all,4,10",
        "anti,2,2",
        "anti,2,2",
        "anti,5,5",
        "distinct,1,0",
        "distinct,2,0",
        "distinct,5,0",
        "first,1,0",
        "groups,1,1",
        "groups,2,2",
        "groups,5,1",
        "left,1,",
        "left,2,1",
        "left,2,1",
        "left,5,",
        "none,0,",
        "slow,400,0",
        "sorted,1,0",
        "sorted,2,0",
        "sorted,2,0",
        "sorted,5,0",
    ];
    for parallelism in ["1", "3"] {
        let mut child = folder.start(&["run", "batch.sql", "--parallelism", "2"]);
        folder.wait(&mut child, "the results of all statements but one", || {
            folder.lines("out").len() == expected.len() - 1
        });
        child.kill().unwrap();
        child.wait().unwrap();

        folder.run(&["run", "batch.sql", "--parallelism", parallelism], 0);
        assert_eq!(folder.lines("out"), expected);
        fs::remove_dir_all(folder.path(".millstream")).unwrap();
        fs::remove_dir_all(folder.path("out")).unwrap();
    }
}

#[test]
fn a_stopped_run_takes_a_last_checkpoint_and_resumes() {
    let expected = expected();
    let folder = folder(SLOW);
    for request in [libc::SIGTERM, libc::SIGINT] {
        let newest = || manifests(&folder.path(".millstream")).pop();
        let before = newest();
        let mut child = folder.start(&["run", "job.yaml"]);
        folder.wait(&mut child, "a checkpoint of its own", || {
            newest().is_some() && newest() != before
        });
        signal(&child, request);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        says(&output, "stopped at checkpoint");
    }
    write_job(&folder, FAST);
    folder.run(&["run", "job.yaml"], 0);
    assert_eq!(folder.lines("out"), expected);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_only_if_duplicates_are_accepted() {
    let folder = folder(SLOW);
    let mut child = folder.start(&["run", "job.yaml"]);
    folder.wait(&mut child, "checkpoints", || folder.checkpoints() >= 3);
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let newest = manifests(&folder.path(".millstream")).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let published = folder.lines("out");
    write_job(&folder, FAST);
    // Its output has been published: rows would occur twice.
    for _ in 0..2 {
        let output = folder.run(&["run", "job.yaml"], 1);
        says(&output, "a second time");
        says(&output, "--allow-duplicates");
        assert_eq!(folder.lines("out"), published);
    }
    let output = folder.run(&["run", "job.yaml", "--allow-duplicates"], 0);
    says(&output, "is damaged and skipped");
    says(&output, "finished");
    let mut lines = folder.lines("out");
    lines.dedup();
    assert_eq!(lines, expected());
}

#[test]
fn any_retained_checkpoint_can_be_replayed() {
    let folder = folder(SLOW);
    let mut child = folder.start(&["run", "job.yaml"]);
    folder.wait(&mut child, "checkpoints", || folder.checkpoints() >= 3);
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let listed = text(&folder.run(&["checkpoints", "job.yaml"], 0).stdout);
    let ids: Vec<&str> = listed
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(ids.len(), 3, "{listed}");
    write_job(&folder, FAST);
    // A refused replay does not change the job.
    let job = fs::read_to_string(folder.path("job.yaml")).unwrap();
    folder.write("job.yaml", &job.replace("sum(v)", "max(v)"));
    let refused = folder.run(&["run", "job.yaml", "--from-checkpoint", ids[1]], 2);
    says(&refused, "does not fit the pipeline");
    assert_eq!(text(&folder.run(&["checkpoints", "job.yaml"], 0).stdout), listed);
    folder.write("job.yaml", &job);
    let output = folder.run(&["run", "job.yaml", "--from-checkpoint", ids[1]], 0);
    says(&output, "finished");
    let missing = folder.run(&["run", "job.yaml", "--from-checkpoint", "99999"], 1);
    says(&missing, "99999");
}

#[test]
fn two_processes_never_run_one_job() {
    let folder = folder(SLOW);
    let mut child = folder.start(&["run", "job.yaml"]);
    folder.wait(&mut child, "a checkpoint", || folder.checkpoints() >= 1);
    let second = folder.run(&["run", "job.yaml"], 1);
    says(&second, "in use by process");
    // The second process has not read the checkpoints of the first.
    says(&second, "failed during startup");
    assert!(!text(&second.stderr).contains("checkpoint"), "{}", text(&second.stderr));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_whose_checkpoints_cannot_be_read_does_not_say_that_there_are_none() {
    let folder = folder(FAST);
    let output = folder.run(&["run", "job.yaml"], 0);
    says(&output, "finished");
    let missing = folder.run(&["run", "job.yaml", "--from-checkpoint", "99999"], 1);
    says(&missing, "failed during startup");
    assert!(
        !text(&missing.stderr).contains("there is no checkpoint"),
        "{}",
        text(&missing.stderr)
    );
}

#[test]
fn state_that_would_be_lost_is_refused() {
    let folder = folder(SLOW);
    let mut child = folder.start(&["run", "job.yaml"]);
    folder.wait(&mut child, "checkpoints", || folder.checkpoints() >= 2);
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let job = fs::read_to_string(folder.path("job.yaml"))
        .unwrap()
        .replace("sums", "totals");
    folder.write("job.yaml", &job);
    let output = folder.run(&["run", "job.yaml"], 2);
    says(&output, "does not fit the pipeline");
    says(&output, "sums");
}

#[test]
fn state_that_would_mean_something_else_is_refused_until_that_is_accepted() {
    let folder = folder(SLOW);
    let mut child = folder.start(&["run", "job.yaml"]);
    folder.wait(&mut child, "checkpoints", || folder.checkpoints() >= 2);
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    write_job(&folder, FAST);
    let job = fs::read_to_string(folder.path("job.yaml")).unwrap();
    folder.write("job.yaml", &job.replace("sum(v)", "sum(v + 1000000)"));
    let listed = text(&folder.run(&["checkpoints", "job.yaml"], 0).stdout);
    let newest = listed.lines().nth(1).and_then(|line| line.split_whitespace().next());
    for arguments in [
        &["run", "job.yaml"][..],
        &["run", "job.yaml", "--from-checkpoint", newest.expect("there is one")],
    ] {
        let refused = folder.run(arguments, 2);
        says(&refused, "the state of `sums/aggregate` would mean something else");
        says(
            &refused,
            "from `sum(events.v)` to `sum(events.v + 1000000)` (edited: step `sums`)",
        );
        says(&refused, "--accept-changed-meaning");
    }
    assert_eq!(
        text(&folder.run(&["checkpoints", "job.yaml"], 0).stdout),
        listed,
        "nothing was changed"
    );
    let accepted = folder.run(&["run", "job.yaml", "--accept-changed-meaning"], 0);
    says(&accepted, "accepted: the state of `sums/aggregate`");
    says(&accepted, "finished");
    // Each row once, computed by the old or the new expression.
    let sums: Vec<(u64, u64)> = folder
        .lines("out")
        .iter()
        .map(|line| {
            let mut numbers = line.rsplit(',').map(|number| number.parse().expect("a number"));
            (numbers.next().expect("a count"), numbers.next().expect("a sum"))
        })
        .collect();
    assert_eq!(sums.iter().map(|(rows, _)| rows).sum::<u64>(), 3000);
    let after = sums.iter().map(|(_, total)| total / 1_000_000).sum::<u64>();
    assert!(after > 0 && after < 3000, "{after} rows were read after the change");
    // The accepted meaning is the present one from then on: the job has finished with it.
    let again = folder.run(&["run", "job.yaml"], 0);
    says(&again, "nothing to do");
}

#[test]
fn edits_without_meaning_are_not_refused() {
    let expected = expected();
    let folder = folder(SLOW);
    let mut child = folder.start(&["run", "job.yaml"]);
    folder.wait(&mut child, "checkpoints", || folder.checkpoints() >= 2);
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    write_job(&folder, FAST);
    let job = fs::read_to_string(folder.path("job.yaml")).unwrap();
    let edited = job
        .replace("sum(v) AS total", "sum(w) AS total")
        .replace("TABLE events, DESCRIPTOR", "TABLE kept, DESCRIPTOR")
        .replace(
            "steps:\n",
            "steps:\n  kept:\n    sql: SELECT ts, v AS w, k FROM events\n",
        );
    assert_ne!(edited, job);
    folder.write("job.yaml", &edited);
    let output = folder.run(&["run", "job.yaml"], 0);
    says(&output, "finished");
    assert_eq!(folder.lines("out"), expected);
}

#[test]
fn a_row_that_does_not_decode_fails_the_run_with_its_place() {
    let folder = folder(FAST);
    folder.write(
        "in/2.json",
        "{\"k\": 1, \"v\": \"many\", \"ts\": \"2023-11-14 22:00:00.000\"}\nnot json\n",
    );
    let output = folder.run(&["run", "job.yaml"], 1);
    says(&output, "2.json");
    assert_eq!(folder.lines("out"), Vec::<String>::new());
}

#[test]
fn damage_is_found_by_verify_and_a_lost_journal_is_refused() {
    let folder = folder(SLOW);
    let mut child = folder.start(&["run", "job.yaml"]);
    folder.wait(&mut child, "checkpoints", || folder.checkpoints() >= 3);
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let verify = ["checkpoints", "job.yaml", "--verify"];
    let whole = text(&folder.run(&verify, 0).stdout);
    assert!(whole.contains("a restore begins with checkpoint"), "{whole}");

    let newest = manifests(&folder.path(".millstream")).pop().unwrap();
    let original = fs::read(&newest).unwrap();
    fs::write(&newest, &original[..original.len() / 2]).unwrap();
    let damaged = folder.run(&["checkpoints", "job.yaml", "--verify", "--json"], 7);
    let last: serde_json::Value = serde_json::from_str(text(&damaged.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(last["result"]["damaged"], 1, "{last}");
    let restore = last["result"]["restore"].as_str().unwrap_or_default();
    assert!(restore.contains("would fall back to checkpoint"), "{last}");
    fs::write(&newest, original).unwrap();

    let job = newest.ancestors().nth(3).unwrap().to_path_buf();
    let whole = manifests(&job);
    fs::rename(job.join("journal"), folder.path("saved")).unwrap();
    write_job(&folder, FAST);
    for _ in 0..2 {
        let output = folder.run(&["run", "job.yaml"], 1);
        says(&output, "is missing, but there are checkpoints");
        says(&output, "Nothing was changed");
    }
    let output = folder.run(&verify, 7);
    assert!(
        text(&output.stdout).contains("a restore is refused"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(manifests(&job), whole);
    fs::rename(folder.path("saved"), job.join("journal")).unwrap();
    folder.run(&["run", "job.yaml"], 0);
    assert_eq!(folder.lines("out"), expected());
}
