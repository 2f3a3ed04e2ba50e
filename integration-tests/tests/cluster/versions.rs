//! The commit in the version of the binaries: runs their build script (`engine/commit.rs`) in temporary repositories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder with the source files of `engine-cli`.
struct Source {
    folder: TempDir,
    script: PathBuf,
}

impl Source {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let script = folder.path().join("build-script");
        let built = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
            .args(["--edition", "2024", "-o"])
            .arg(&script)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/commit.rs"))
            .status();
        assert!(built.expect("rustc runs").success());
        let source = Self { folder, script };
        fs::create_dir_all(source.root().join("engine/cli")).expect("a writable folder");
        fs::write(source.root().join("engine/cli/main.rs"), "fn main() {}").expect("a writable folder");
        fs::write(source.root().join("README.md"), "").expect("a writable folder");
        source
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    #[track_caller]
    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.root())
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments);
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a commit"]);
        self.git(&["rev-parse", "--short", "HEAD"])
    }

    /// Runs the script in a checkout; returns the version and the files of git that it watches.
    fn said(&self, root: &Path, commit: &str) -> (String, Vec<PathBuf>) {
        let output = Command::new(&self.script)
            .env("CARGO_PKG_VERSION", "0.1.0")
            .env("CARGO_PKG_NAME", "millstream-cli")
            .env("CARGO_MANIFEST_DIR", root.join("engine/cli"))
            .env("MILLSTREAM_COMMIT", commit)
            .output()
            .expect("the script runs");
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = lines
            .lines()
            .find_map(|line| line.strip_prefix("cargo:rustc-env=MILLSTREAM_VERSION="));
        let changed = lines
            .lines()
            .filter_map(|line| line.strip_prefix("cargo:rerun-if-changed="));
        let of_git = changed
            .map(PathBuf::from)
            .filter(|path| path.components().any(|part| part.as_os_str() == ".git"));
        (version.expect("a version").to_string(), of_git.collect())
    }

    #[track_caller]
    fn check(&self, root: &Path, expected: &str) {
        assert_eq!(self.said(root, "").0, expected);
    }
}

#[test]
fn a_version_names_the_commit_it_was_built_from() {
    let source = Source::new();
    let root = source.root();
    source.check(&root, "0.1.0");
    assert_eq!(source.said(&root, "given").0, "0.1.0 (given)");

    source.git(&["init", "--quiet", "--initial-branch", "main"]);
    // Nothing is committed yet.
    source.check(&root, "0.1.0");
    let commit = source.commit();
    source.check(&root, &format!("0.1.0 ({commit})"));
    assert_eq!(source.said(&root, "given").0, "0.1.0 (given)");
    // A file that is not a source of the binary.
    fs::write(root.join("README.md"), "edited").expect("a writable folder");
    source.check(&root, &format!("0.1.0 ({commit})"));
    fs::write(root.join("engine/cli/main.rs"), "fn main() { }").expect("a writable folder");
    source.check(&root, &format!("0.1.0 ({commit}-dirty)"));
    let commit = source.commit();
    source.check(&root, &format!("0.1.0 ({commit})"));

    // A copy inside another repository does not have its commit.
    let copy = root.join("copy");
    fs::create_dir_all(copy.join("engine/cli")).expect("a writable folder");
    source.check(&copy, "0.1.0");
}

/// The script runs again when a commit is made: one of the files of git that it watches changes.
#[test]
fn a_commit_changes_a_file_that_the_build_script_watches() {
    let source = Source::new();
    source.git(&["init", "--quiet", "--initial-branch", "main"]);
    source.commit();
    let worktree = source.folder.path().join("worktree");
    source.git(&["worktree", "add", "--quiet", worktree.to_str().expect("UTF-8")]);
    let in_worktree = Source {
        folder: TempDir::new().expect("a folder"),
        script: source.script.clone(),
    };
    std::os::unix::fs::symlink(&worktree, in_worktree.root()).expect("a link");
    let contents = |files: &[PathBuf]| -> Vec<Vec<u8>> {
        let contents = files
            .iter()
            .map(|file| fs::read(file).expect("every watched file exists"));
        contents.collect()
    };
    let check = |of: &Source| {
        let root = of.root().canonicalize().expect("it exists");
        let (_, watched) = of.said(&root, "");
        let before = contents(&watched);
        let commit = of.commit();
        assert_ne!(contents(&watched), before, "{watched:?}");
        assert_eq!(of.said(&root, "").0, format!("0.1.0 ({commit})"));
    };
    check(&source);
    check(&in_worktree);
    // A packed branch has no file of its own until its next commit.
    source.git(&["pack-refs", "--all"]);
    check(&source);
    source.git(&["pack-refs", "--all"]);
    check(&in_worktree);
    source.git(&["checkout", "--quiet", "--detach"]);
    check(&source);
}
