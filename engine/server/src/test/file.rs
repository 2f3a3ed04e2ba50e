//! Files of tests (`NAME.tests.yaml`): which pipeline, and its tests.

use std::path::{Path, PathBuf};

use millstream_cluster::pipeline_test::{Case, Expected, Row, Step};
use millstream_connectors::RowKind;
use millstream_connectors::format::parse_timestamp;
use millstream_planner::Mode;
use millstream_proto::spec::did_you_mean;
use millstream_proto::spec::tree::{self, Key, Node, Value};

/// The clock of a test that sets none: 2100-01-01 00:00:00 UTC, so that no row is from the future.
const CLOCK_US: i64 = 4_102_444_800_000_000;

const FILE_FIELDS: [&str; 5] = ["pipeline", "variables", "clock", "modes", "tests"];
const TEST_FIELDS: [&str; 9] = [
    "name", "modes", "clock", "rows", "steps", "end", "expect", "error", "counts",
];
const STEP_FIELDS: [&str; 3] = ["rows", "payload", "clock"];
const EXPECT_FIELDS: [&str; 3] = ["rows", "changelog", "ordered"];
const COUNT_FIELDS: [&str; 2] = ["late_rows", "bad_rows"];
const KINDS: [RowKind; 4] = [
    RowKind::Insert,
    RowKind::UpdateBefore,
    RowKind::UpdateAfter,
    RowKind::Delete,
];

/// A file of tests.
pub struct TestFile {
    /// The pipeline, relative to the working folder.
    pub pipeline: PathBuf,
    /// Values of the variables that the pipeline names as `${NAME}`.
    pub variables: Vec<(String, String)>,
    /// The tests.
    pub tests: Vec<Test>,
}

/// A test, and how it runs.
pub struct Test {
    /// Its name.
    pub name: String,
    /// Modes to run it in; empty: that of the pipeline.
    pub modes: Vec<Mode>,
    /// Its content.
    pub case: Case,
}

/// Mistakes of a file, each with its line and column.
pub type Mistakes = Vec<String>;

/// Parses the text of a file.
pub fn parse(path: &Path, text: &str) -> Result<TestFile, Mistakes> {
    let mut errors = Vec::new();
    let root = tree::read(text, &mut errors).map_err(|error| vec![format!("{}: {error}", path.display())])?;
    let mut reader = Reader {
        file: path.display().to_string(),
        mistakes: Vec::new(),
    };
    let duplicates = errors.iter().map(|error| format!("{}: {error}", path.display()));
    reader.mistakes.extend(duplicates);
    let file = match &root {
        Some(root) => reader.file(path, root),
        None => {
            reader.mistakes.push(format!("{}: the file is empty", path.display()));
            None
        }
    };
    match file {
        Some(file) if reader.mistakes.is_empty() => Ok(file),
        _ => Err(reader.mistakes),
    }
}

/// Reads the tree of a file, and collects all mistakes.
struct Reader {
    file: String,
    mistakes: Mistakes,
}

impl Reader {
    fn mistake(&mut self, node: &Node, message: &str) {
        let position = node.position;
        let message = format!("{}:{}:{}: {message}", self.file, position.line, position.column);
        self.mistakes.push(message);
    }

    /// Returns the entries of a map, whose keys must be among `fields`.
    fn fields<'a>(&mut self, node: &'a Node, what: &str, fields: &[&str]) -> &'a [(Key, Node)] {
        let entries = self.map(node, what);
        for (key, _) in entries {
            if !fields.contains(&key.name.as_str()) {
                let near = did_you_mean(&key.name, fields.iter().copied());
                let position = key.position;
                self.mistakes.push(format!(
                    "{}:{}:{}: `{}` is not a field of {what}{near}; its fields are {}",
                    self.file,
                    position.line,
                    position.column,
                    key.name,
                    fields.join(", ")
                ));
            }
        }
        entries
    }

    fn map<'a>(&mut self, node: &'a Node, what: &str) -> &'a [(Key, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            _ => {
                self.mistake(node, &format!("{what} is a map, but this is {}", node.kind()));
                &[]
            }
        }
    }

    fn list<'a>(&mut self, node: &'a Node, what: &str) -> &'a [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.mistake(node, &format!("{what} is a list, but this is {}", node.kind()));
                &[]
            }
        }
    }

    fn text(&mut self, node: &Node, what: &str) -> String {
        match &node.value {
            Value::Scalar { text, .. } => text.clone(),
            _ => {
                self.mistake(node, &format!("{what} is a single value, but this is {}", node.kind()));
                String::new()
            }
        }
    }

    fn boolean(&mut self, node: &Node, what: &str) -> bool {
        match self.text(node, what).as_str() {
            "true" => true,
            "false" => false,
            other => {
                self.mistake(node, &format!("{what} is true or false, but this is `{other}`"));
                false
            }
        }
    }

    fn clock(&mut self, node: &Node) -> i64 {
        let text = self.text(node, "`clock`");
        parse_timestamp(text.as_bytes()).unwrap_or_else(|| {
            self.mistake(
                node,
                &format!("`{text}` is not a time; write one like \"2026-01-31 12:00:00\", in UTC"),
            );
            0
        })
    }

    fn modes(&mut self, node: &Node) -> Vec<Mode> {
        let mut modes = Vec::new();
        for item in self.list(node, "`modes`") {
            match self.text(item, "a mode").as_str() {
                "stream" => modes.push(Mode::Stream),
                "batch" => modes.push(Mode::Batch),
                "serve" => modes.push(Mode::Serve),
                other => {
                    let near = did_you_mean(other, ["stream", "batch", "serve"]);
                    self.mistake(
                        item,
                        &format!("`{other}` is not a mode{near}; use stream, batch or serve"),
                    );
                }
            }
        }
        modes
    }

    fn file(&mut self, path: &Path, root: &Node) -> Option<TestFile> {
        let mut pipeline = None;
        let mut variables = Vec::new();
        let mut clock_us = CLOCK_US;
        let mut modes = Vec::new();
        let mut tests = None;
        for (key, node) in self.fields(root, "a file of tests", &FILE_FIELDS) {
            match key.name.as_str() {
                "pipeline" => pipeline = Some(self.text(node, "`pipeline`")),
                "variables" => {
                    for (name, value) in self.map(node, "`variables`") {
                        variables.push((name.name.clone(), self.text(value, "the value of a variable")));
                    }
                }
                "clock" => clock_us = self.clock(node),
                "modes" => modes = self.modes(node),
                "tests" => tests = Some(node),
                _ => {}
            }
        }
        let Some(pipeline) = pipeline else {
            self.mistake(
                root,
                "`pipeline` is missing; it is the path of the pipeline, relative to this file",
            );
            return None;
        };
        let Some(tests) = tests else {
            self.mistake(root, "`tests` is missing; it is the list of tests");
            return None;
        };
        let tests = self.list(tests, "`tests`");
        let tests: Vec<Test> = tests.iter().map(|node| self.test(node, clock_us, &modes)).collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        Some(TestFile {
            pipeline: folder.join(pipeline),
            variables,
            tests,
        })
    }

    fn test(&mut self, node: &Node, clock_us: i64, modes: &[Mode]) -> Test {
        let mut test = Test {
            name: String::new(),
            modes: modes.to_vec(),
            case: Case {
                clock_us,
                steps: Vec::new(),
                end: true,
                expected: Vec::new(),
                error: None,
                late_rows: None,
                bad_rows: None,
            },
        };
        for (key, value) in self.fields(node, "a test", &TEST_FIELDS) {
            let case = &mut test.case;
            match key.name.as_str() {
                "name" => test.name = self.text(value, "`name`"),
                "modes" => test.modes = self.modes(value),
                "clock" => case.clock_us = self.clock(value),
                "rows" => {
                    let steps = self.step_rows(value);
                    case.steps.splice(0..0, steps);
                }
                "steps" => {
                    for step in self.list(value, "`steps`") {
                        let steps = self.step(step);
                        case.steps.extend(steps);
                    }
                }
                "end" => case.end = self.boolean(value, "`end`"),
                "expect" => {
                    for (sink, expected) in self.map(value, "`expect`") {
                        case.expected.push(self.expected(&sink.name, expected));
                    }
                }
                "error" => case.error = Some(self.text(value, "`error`")),
                "counts" => {
                    for (name, count) in self.fields(value, "`counts`", &COUNT_FIELDS) {
                        let number = self.text(count, "a count").parse().ok();
                        if number.is_none() {
                            self.mistake(count, "this is not a number of rows");
                        }
                        match name.name.as_str() {
                            "late_rows" => case.late_rows = number,
                            _ => case.bad_rows = number,
                        }
                    }
                }
                _ => {}
            }
        }
        if test.name.is_empty() {
            self.mistake(node, "the test has no `name`");
        }
        test
    }

    fn step(&mut self, node: &Node) -> Vec<Step> {
        let mut steps = Vec::new();
        for (key, value) in self.fields(node, "a step", &STEP_FIELDS) {
            match key.name.as_str() {
                "rows" => steps.extend(self.step_rows(value)),
                "payload" => {
                    for (source, records) in self.map(value, "`payload`") {
                        let records = self.list(records, "the records of a source");
                        let records = records.iter().map(|record| self.text(record, "a record")).collect();
                        steps.push(Step::Payload {
                            source: source.name.clone(),
                            records,
                        });
                    }
                }
                "clock" => steps.push(Step::Clock(self.clock(value))),
                _ => {}
            }
        }
        steps
    }

    fn step_rows(&mut self, node: &Node) -> Vec<Step> {
        let mut steps = Vec::new();
        for (source, rows) in self.map(node, "`rows`") {
            let rows = self.rows(rows);
            steps.push(Step::Rows {
                source: source.name.clone(),
                rows,
            });
        }
        steps
    }

    fn rows(&mut self, node: &Node) -> Vec<Row> {
        let items = self.list(node, "the rows of a table");
        items.iter().map(|item| self.row(item)).collect()
    }

    /// Reads a row: its columns, or the kind of the change with its columns (`+I: {...}`).
    fn row(&mut self, node: &Node) -> Row {
        let entries = self.map(node, "a row");
        let (kind, node) = match entries {
            [(key, value)] => match KINDS.iter().find(|kind| kind.symbol() == key.name) {
                Some(kind) => (*kind, value),
                None => (RowKind::Insert, node),
            },
            _ => (RowKind::Insert, node),
        };
        let columns = self.map(node, "a row");
        Row {
            kind,
            json: node.to_json(),
            names: columns.iter().map(|(key, _)| key.name.clone()).collect(),
        }
    }

    fn expected(&mut self, sink: &str, node: &Node) -> Expected {
        let mut expected = Expected {
            sink: sink.to_owned(),
            rows: Vec::new(),
            is_changelog: false,
            is_ordered: false,
        };
        if let Value::List(_) = node.value {
            expected.rows = self.rows(node);
            return expected;
        }
        for (key, value) in self.fields(node, "the expected rows of a sink", &EXPECT_FIELDS) {
            match key.name.as_str() {
                "ordered" => expected.is_ordered = self.boolean(value, "`ordered`"),
                "rows" | "changelog" => {
                    expected.rows = self.rows(value);
                    expected.is_changelog = key.name == "changelog";
                }
                _ => {}
            }
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        let Err(mistakes) = parse(Path::new("dir/a.tests.yaml"), text) else {
            return String::new();
        };
        mistakes.join("\n")
    }

    #[test]
    fn a_file_has_steps_and_expected_rows() {
        let text = "
pipeline: a.yaml
clock: '2026-01-01 00:00:00'
tests:
  - name: first
    modes: [batch]
    steps:
      - rows: { a: [{ x: 1.50, y: text }] }
      - clock: '2026-01-01 00:01:00'
      - payload: { a: ['{'] }
    end: false
    expect:
      out: { changelog: [{ +I: { x: 1 } }, { -D: { x: 1 } }], ordered: true }
    counts: { bad_rows: 1 }
";
        let file = parse(Path::new("dir/a.tests.yaml"), text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        assert_eq!(file.pipeline, Path::new("dir/a.yaml"));
        let test = &file.tests[0];
        assert_eq!(test.modes, [Mode::Batch]);
        assert!(!test.case.end);
        assert_eq!(test.case.bad_rows, Some(1));
        let Step::Rows { rows, .. } = &test.case.steps[0] else {
            panic!("{:?}", test.case.steps);
        };
        assert_eq!(rows[0].json, r#"{"x":1.50,"y":"text"}"#);
        assert!(matches!(test.case.steps[1], Step::Clock(1_767_225_660_000_000)));
        let expected = &test.case.expected[0];
        assert!(expected.is_changelog && expected.is_ordered);
        assert_eq!(expected.rows[1].kind, RowKind::Delete);
    }

    #[test]
    fn mistakes_have_their_place_and_a_suggestion() {
        let text = "pipeline: a.yaml\ntests:\n  - name: x\n    expct: {}\n    modes: [strem]\n";
        let found = mistakes(text);
        assert!(
            found.contains("dir/a.tests.yaml:4:5: `expct` is not a field of a test; did you mean `expect`?"),
            "{found}"
        );
        assert!(
            found.contains("`strem` is not a mode; did you mean `stream`?"),
            "{found}"
        );
        assert!(mistakes("tests: []").contains("`pipeline` is missing"));
        assert!(mistakes("").contains("the file is empty"));
    }
}
