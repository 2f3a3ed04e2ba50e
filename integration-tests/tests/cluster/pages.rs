//! Runs the documentation: every command and every pipeline of `README.md`, `docs/` and the examples, in the order of
//! each page, compared with the output that the page shows. `PAGE=tutorial` runs the pages whose path contains that
//! word.

mod page;
mod shell;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use page::{Located, Task};
use shell::Shell;

/// Most pages that run at once, if each has a network of its own.
const PAGES_AT_ONCE: usize = 3;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the checkout")
}

/// Returns the paths of the pages in the checkout.
fn pages(checkout: &Path) -> Vec<String> {
    let list = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(checkout.join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.map(|name| format!("{folder}/{name}")).collect()
    };
    let mut pages = vec!["README.md".to_owned()];
    pages.extend(list("docs").into_iter().filter(|path| path.ends_with(".md")));
    pages.extend(
        list("examples")
            .into_iter()
            .map(|example| format!("{example}/README.md")),
    );
    pages.sort();
    pages
}

#[test]
fn pages_say_what_commands_print() {
    let checkout = checkout();
    let wanted = std::env::var("PAGE").unwrap_or_default();
    let pages: Vec<String> = pages(&checkout)
        .into_iter()
        .filter(|path| path.contains(&wanted))
        .collect();
    assert!(!pages.is_empty(), "no page is named like PAGE={wanted}");
    let isolated = shell::is_isolated();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..if isolated { PAGES_AT_ONCE } else { 1 } {
            scope.spawn(|| {
                while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let mut of_page = run(&checkout, page, isolated);
                    eprintln!("{page}: {:.1} s", start.elapsed().as_secs_f64());
                    failures.lock().expect("no thread panics").append(&mut of_page);
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    assert!(
        failures.is_empty(),
        "{} failures:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// Runs a page up to its first command that fails, and returns the failures.
fn run(checkout: &Path, path: &str, isolated: bool) -> Vec<String> {
    let text = fs::read_to_string(checkout.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (tasks, mut wrong) = page::parse(&text);
    wrong.extend(page::unused(&tasks));
    let mut failures: Vec<String> = wrong
        .iter()
        .map(|(line, what)| format!("{path}:{line}: {what}"))
        .collect();
    if tasks.is_empty() {
        return failures;
    }
    let mut shell = Shell::start(checkout, isolated);
    for (line, task) in &tasks {
        if let Err(what) = perform(&mut shell, task) {
            failures.push(format!("{path}:{line}: {what}\n{}", shell.logs()));
            break;
        }
    }
    failures
}

fn perform(shell: &mut Shell, task: &Task) -> Result<(), String> {
    match task {
        Task::File { path, content } => write(&shell.work().join(path), path, content),
        Task::Plan { extension, content } => {
            let name = format!("planned.{extension}");
            fs::write(shell.work().join(&name), content).map_err(|error| error.to_string())?;
            shell.run(&format!("engine run {name} --explain")).map(|_| ())
        }
        Task::Run { command, expected } => {
            let output = shell.run(command).map_err(|what| format!("`{command}`: {what}"))?;
            let lines: Vec<&str> = output.trim_end_matches('\n').lines().collect();
            if expected.is_empty() || page::agrees(expected, &lines) {
                return Ok(());
            }
            let expected = expected.join("\n");
            Err(format!("`{command}` prints\n{output}--- and the page says\n{expected}"))
        }
    }
}

/// Writes a file of a page. If the checkout has the file, its content must be that of the page.
fn write(file: &Path, path: &str, content: &str) -> Result<(), String> {
    if !page::is_inside(path) {
        return Err(format!("the file `{path}` is outside of the page's folder"));
    }
    match fs::read_to_string(file) {
        Ok(there) if there == content => Ok(()),
        Ok(there) => Err(format!(
            "the file `{path}` is another one than the page shows:\n{there}"
        )),
        Err(_) => {
            let folder = file.parent().ok_or("no folder")?;
            fs::create_dir_all(folder).map_err(|error| error.to_string())?;
            fs::write(file, content).map_err(|error| error.to_string())
        }
    }
}

/// Returns the headings of a page as the anchors that GitHub makes of them.
fn anchors(text: &str) -> Vec<String> {
    let mut in_block = false;
    let headings = text.lines().filter(|line| {
        in_block ^= line.starts_with("```");
        !in_block && line.starts_with('#')
    });
    let of_heading = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|character| character.is_alphanumeric() || " -_".contains(*character));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(of_heading).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let checkout = checkout();
    let others = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md"].map(str::to_owned);
    let mut wrong = Vec::new();
    for page in pages(&checkout).into_iter().chain(others) {
        let text = fs::read_to_string(checkout.join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let there = match path {
                "" => checkout.join(&page),
                path => checkout.join(&page).parent().expect("a folder").join(path),
            };
            let leads = there.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&there).is_ok_and(|text| anchors(&text).iter().any(|one| one == anchor)));
            if !leads {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

/// A page is checked as a whole: [`Located`] keeps the line for the message.
#[test]
fn failures_name_page_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    for part in [
        "README.md",
        "Makefile",
        "docs/a.md",
        "examples/a",
        "scripts/a",
        "deploy/a",
    ] {
        let file = folder.path().join(part);
        fs::create_dir_all(file.parent().expect("inside")).expect("a folder");
        fs::write(file, "").expect("a file");
    }
    let page =
        "# A\n\n```console\n$ echo one && echo two\none\n...\n$ false; echo three\nfour\n$ echo not reached\n```\n";
    fs::write(folder.path().join("README.md"), page).expect("a file");
    let failures = run(folder.path(), "README.md", shell::is_isolated());
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        failures[0].starts_with("README.md:7: `false; echo three` prints\nthree"),
        "{failures:?}"
    );
    let located: Vec<Located> = page::parse(page).0;
    assert_eq!(located.len(), 3);
}
