//! Parses a page of the documentation into tasks: each fenced block is classified by its language and the comment above
//! it. `CONTRIBUTING.md` describes the convention for authors.

use std::path::Path;

/// A fenced block, or one command of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// A command and its output according to the page; without lines, the output is not compared.
    Run { command: String, expected: Vec<String> },
    /// A file that later commands of the page use.
    File { path: String, content: String },
    /// A pipeline that must have a plan.
    Plan { extension: &'static str, content: String },
}

/// A task with the line of the page it is from.
pub type Located = (usize, Task);

/// Parses a page. The errors are blocks that would not be checked.
pub fn parse(text: &str) -> (Vec<Located>, Vec<(usize, String)>) {
    let (mut tasks, mut errors) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut above = "";
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if line.trim_start().starts_with("```") {
                errors.push((number, "an indented block; begin it in the first column".to_owned()));
            }
            above = line;
            continue;
        };
        let content: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| !line.starts_with("```"))
            .collect();
        match block(language.trim(), mark(above), number, &content) {
            Ok(of_block) => tasks.extend(of_block),
            Err(message) => errors.push((number, message)),
        }
        above = "";
    }
    (tasks, errors)
}

/// Returns the content of a comment that fills a line.
fn mark(line: &str) -> Option<&str> {
    Some(line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim())
}

fn block(language: &str, mark: Option<&str>, number: usize, content: &[&str]) -> Result<Vec<Located>, String> {
    let text = || content.iter().map(|line| format!("{line}\n")).collect::<String>();
    if let Some(reason) = mark.and_then(|mark| mark.strip_prefix("not run:")) {
        return match reason.trim() {
            "" => Err("`not run:` without a reason".to_owned()),
            _ => Ok(Vec::new()),
        };
    }
    if let Some(path) = mark.and_then(|mark| mark.strip_prefix("file:")) {
        let (path, content) = (path.trim().to_owned(), text());
        return Ok(vec![(number, Task::File { path, content })]);
    }
    if let Some(command) = mark.and_then(|mark| mark.strip_prefix("output of:")) {
        let command = command.trim().to_owned();
        let expected = content.iter().map(|line| (*line).to_owned()).collect();
        return Ok(vec![(number, Task::Run { command, expected })]);
    }
    match (language, mark) {
        ("console", _) => commands(number, content),
        ("sql", Some("planned")) => Ok(vec![(
            number,
            Task::Plan {
                extension: "sql",
                content: text(),
            },
        )]),
        ("yaml", Some("planned")) => Ok(vec![(
            number,
            Task::Plan {
                extension: "yaml",
                content: text(),
            },
        )]),
        // Layouts, diagrams and messages must not contain lines that look like commands.
        ("text", _) => match content.iter().find(|line| is_command(line)) {
            Some(line) => Err(format!(
                "`{line}` is a command in a block of text; make the block `console`"
            )),
            None => Ok(Vec::new()),
        },
        _ => Err(format!(
            "a block `{language}` that is neither run nor marked; write it as `console`, or put `<!-- file: NAME -->`, \
             `<!-- planned -->`, `<!-- output of: COMMAND -->` or `<!-- not run: REASON -->` above it"
        )),
    }
}

fn is_command(line: &str) -> bool {
    ["$ ", "engine ", "engine-cli ", "make ", "cargo "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Parses commands, which begin with `$ ` and continue after `\` or up to the end of a here-document. The lines below a
/// command are its output.
fn commands(number: usize, content: &[&str]) -> Result<Vec<Located>, String> {
    let mut tasks: Vec<Located> = Vec::new();
    let mut lines = content.iter().zip(number + 1..);
    while let Some((line, number)) = lines.next() {
        if let Some(first) = line.strip_prefix("$ ") {
            let mut command = first.to_owned();
            let ends = first
                .split_once("<<")
                .map(|(_, word)| word.trim_matches(['\'', '"', ' ']));
            while ends.is_some_and(|end| command.lines().last() != Some(end)) || command.ends_with('\\') {
                let Some((more, _)) = lines.next() else {
                    return Err(format!("the command `{first}` does not end"));
                };
                command.push('\n');
                command.push_str(more);
            }
            let expected = Vec::new();
            tasks.push((number, Task::Run { command, expected }));
        } else if let Some((_, Task::Run { expected, .. })) = tasks.last_mut() {
            expected.push((*line).to_owned());
        } else {
            return Err("a block `console` begins with `$ ` and a command".to_owned());
        }
    }
    // An empty line may separate two commands.
    for (_, task) in &mut tasks {
        if let Task::Run { expected, .. } = task {
            while expected.last().is_some_and(String::is_empty) {
                expected.pop();
            }
        }
    }
    Ok(tasks)
}

/// Returns true if the output matches the page. A line `...` stands for any number of lines, `...` within a line for
/// any text.
pub fn agrees(expected: &[String], output: &[&str]) -> bool {
    match expected {
        [] => output.is_empty(),
        [first, rest @ ..] if first.trim() == "..." => {
            (0..=output.len()).any(|skipped| agrees(rest, &output[skipped..]))
        }
        [first, rest @ ..] => output
            .split_first()
            .is_some_and(|(line, others)| line_agrees(first.trim_end(), line.trim_end()) && agrees(rest, others)),
    }
}

fn line_agrees(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Returns files that no later command or file of the page names.
pub fn unused(tasks: &[Located]) -> Vec<(usize, String)> {
    let names = |task: &Task, path: &str| match task {
        Task::Run { command, .. } => command.contains(path),
        Task::File { content, .. } | Task::Plan { content, .. } => content.contains(path),
    };
    let is_used = |index: usize, path: &str| tasks[index + 1..].iter().any(|(_, task)| names(task, path));
    let files = tasks
        .iter()
        .enumerate()
        .filter_map(|(index, (number, task))| match task {
            Task::File { path, .. } if !is_used(index, path) => Some((*number, path)),
            _ => None,
        });
    files
        .map(|(number, path)| (number, format!("nothing that follows uses the file `{path}`")))
        .collect()
}

/// Returns an error for a path outside of the page's folder.
pub fn is_inside(path: &str) -> bool {
    let path = Path::new(path);
    path.components()
        .all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[test]
fn blocks_that_nothing_checks_are_errors() {
    #[track_caller]
    fn check(text: &str, tasks: usize, errors: &[usize]) {
        let (found, wrong) = parse(text);
        let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!((found.len(), lines.as_slice()), (tasks, errors), "{found:?} {wrong:?}");
    }
    check("```console\n$ a\nb\n$ c \\\n  d\n```\n", 2, &[]);
    check("```\n$ a\n```\n", 0, &[1]);
    check("text\n```yaml\nname: x\n```\n```sql\nSELECT\n```\n", 0, &[2, 5]);
    check("<!-- planned -->\n```sql\nSELECT\n```\n", 1, &[]);
    check("<!-- file: a.sql -->\n```sql\nSELECT\n```\n", 1, &[]);
    check("<!-- not run: needs a cluster -->\n```console\nhelm\n```\n", 0, &[]);
    check("<!-- not run: -->\n```console\n$ helm\n```\n", 0, &[2]);
    check("<!-- planned -->\n\n```sql\nSELECT\n```\n", 0, &[3]);
    check("```text\nfree words\n```\n```text\nengine run x\n```\n", 0, &[4]);
    check("* item\n  ```console\n  $ a\n  ```\n", 0, &[2, 4]);
}

#[test]
fn output_agrees_with_elisions() {
    #[track_caller]
    fn check(expected: &str, output: &str, result: bool) {
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        let output: Vec<&str> = output.lines().collect();
        assert_eq!(agrees(&expected, &output), result, "{expected:?} {output:?}");
    }
    check("a\nb", "a\nb", true);
    check("a\nb", "a\nb\nc", false);
    check("a\n...", "a\nb\nc", true);
    check("...\nc", "a\nb\nc", true);
    check("a\n...\nd", "a\nb\nc", false);
    check("finished (... s)", "finished (1.7 s)", true);
    check("finished (... s)", "finished (1.7 m)", false);
    check("a...b...c", "a1b2c", true);
    check("a...b...c", "a1c2b", false);
    check("a", "ab", false);
    check("", "a", false);
}
