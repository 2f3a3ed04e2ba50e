//! Runs the binary in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

pub struct TestFolder {
    folder: TempDir,
}

impl TestFolder {
    pub fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a writable folder");
        fs::write(path, content).expect("a writable file");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("MILLSTREAM_DATA_DIR");
        command
    }

    /// Runs the binary to its end and checks the exit code.
    #[track_caller]
    pub fn run(&self, arguments: &[&str], code: i32) -> Output {
        let output = self.command(arguments).output().expect("the engine starts");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}\nstdout: {stdout}\nstderr: {stderr}"
        );
        output
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the engine starts")
    }

    pub fn checkpoints(&self) -> usize {
        manifests(&self.path(".millstream")).len()
    }

    /// Waits until the condition holds; panics if the process ends before.
    #[track_caller]
    pub fn wait(&self, child: &mut Child, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition() {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                let mut stderr = String::new();
                if let Some(mut pipe) = child.stderr.take() {
                    use std::io::Read;
                    pipe.read_to_string(&mut stderr).expect("text");
                }
                panic!("ended ({status}) before {what}: {stderr}");
            }
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns all lines of the visible files of a folder, sorted.
    pub fn lines(&self, folder: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for file in files(&self.path(folder)) {
            let name = file
                .file_name()
                .expect("a file has a name")
                .to_string_lossy()
                .into_owned();
            if !name.starts_with(['.', '_']) {
                lines.extend(
                    fs::read_to_string(&file)
                        .expect("a text file")
                        .lines()
                        .map(str::to_string),
                );
            }
        }
        lines.sort();
        lines
    }
}

pub fn manifests(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = files(folder)
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "manifest"))
        .collect();
    found.sort_by_key(|path| {
        let name = path
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned());
        name.and_then(|name| name.split('-').next()?.parse::<u64>().ok())
    });
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !entry.file_name().to_string_lossy().starts_with('.') || path.ends_with(".millstream") {
                found.extend(files(&path));
            }
        } else {
            found.push(path);
        }
    }
    found
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: the call takes no pointers; the child's id is not in use again before it is waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
