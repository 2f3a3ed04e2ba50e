//! Late rows as outputs of their own.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;

use crate::test_folder::{TestFolder, text};

#[test]
fn late_rows_of_both_inputs_of_a_join_are_written_whole() {
    let folder = TestFolder::new();
    fs::create_dir_all(folder.path("entries")).unwrap();
    fs::create_dir_all(folder.path("exits")).unwrap();
    folder.write(
        "entries/1.csv",
        "1,A,2026-01-01 10:00:05,on time\n2,B,2026-01-01 10:09:00,on time\n",
    );
    folder.write(
        "entries/2.csv",
        "3,A,2026-01-01 10:00:30,late\n4,C,,no time\n5,B,2026-01-01 10:09:30,on time\n",
    );
    folder.write("exits/1.csv", "A,2026-01-01 10:00:50,x\nB,2026-01-01 10:09:50,y\n");
    folder.write("exits/2.csv", "A,2026-01-01 10:01:00,late too\n");
    folder.write(
        "job.yaml",
        "name: passed
parallelism: 1
sources:
  entries:
    connector: filesystem
    options: { path: entries, source.ordered: true }
    format: csv
    columns: { id: bigint, plate: string, entered: timestamp(3), note: string }
    event_time: { column: entered }
  exits:
    connector: filesystem
    options: { path: exits, source.ordered: true }
    format: csv
    columns: { plate: string, away: timestamp(3), note: string }
    event_time: { column: away }
steps:
  passed:
    sql: |
      SELECT e.id, e.plate
      FROM TABLE(TUMBLE(TABLE entries, DESCRIPTOR(entered), INTERVAL '1' MINUTE)) AS e
      JOIN TABLE(TUMBLE(TABLE exits, DESCRIPTOR(away), INTERVAL '1' MINUTE)) AS x
      ON e.window_start = x.window_start AND e.window_end = x.window_end AND e.plate = x.plate
sinks:
  result: { from: passed, connector: filesystem, options: { path: out }, format: csv }
  late_entries: { from: passed.late_left, connector: filesystem, options: { path: late_entries }, format: csv }
  late_exits: { from: passed.late_right, connector: filesystem, options: { path: late_exits }, format: csv }
",
    );
    let output = folder.run(&["run", "job.yaml"], 0);
    // The order of the sources decides which rows are late, but each row is complete in exactly one output.
    let (out, late) = (folder.lines("out"), folder.lines("late_entries"));
    let rows = [
        "1,A,2026-01-01 10:00:05,on time",
        "2,B,2026-01-01 10:09:00,on time",
        "3,A,2026-01-01 10:00:30,late",
    ];
    for row in rows {
        let joined = out.iter().any(|line| row.starts_with(line.as_str()));
        assert_ne!(joined, late.iter().any(|line| line == row), "{row}: {out:?} {late:?}");
    }
    assert!(late.contains(&"4,C,,no time".to_string()), "{late:?}");
    let late_exits = folder.lines("late_exits");
    let whole = [
        "A,2026-01-01 10:00:50,x",
        "B,2026-01-01 10:09:50,y",
        "A,2026-01-01 10:01:00,late too",
    ];
    assert!(
        late_exits.iter().all(|line| whole.contains(&line.as_str())),
        "{late_exits:?}"
    );
    let stderr = text(&output.stderr);
    let counted = format!(" {} late", late.len() + late_exits.len());
    assert!(stderr.contains(&counted), "{stderr}");
}

#[test]
fn late_rows_that_no_operator_finds_are_explained() {
    let folder = TestFolder::new();
    let job = |late: &str| {
        format!(
            "name: j
sources:
  t:
    connector: nexmark
    options: {{ rows: 10 }}
    columns: {{ dateTime: timestamp(3), auction: bigint }}
steps:
  s:
    sql: SELECT auction FROM t
sinks:
  out: {{ from: s, connector: blackhole }}
  late: {{ from: s.{late}, connector: blackhole }}
"
        )
    };
    for (late, message) in [
        ("late", "`s` has no late rows: only steps with a window have"),
        ("late_left", "`s` has no join of windows"),
        ("late_rigth", "did you mean `late_right`"),
    ] {
        folder.write("job.yaml", &job(late));
        let output = folder.run(&["run", "job.yaml"], 2);
        let stderr = text(&output.stderr);
        assert!(stderr.contains(message), "{stderr}");
    }
}
