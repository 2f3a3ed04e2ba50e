//! Build script of the two binaries: sets `MILLSTREAM_VERSION`, such as `0.1.0 (1a2b3c4)`.
//!
//! The commit is that of `MILLSTREAM_COMMIT`, if the environment has it (builds from a copy without history, such as an
//! image's), else git's, with `-dirty` where a file that the binary is made of differs from it. Without either it is
//! the version alone. This runs again when the commit changes or one of those files does, and not otherwise: whatever
//! changes them links the binary anew anyway.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders and files of the repository that each binary is made of.
const MADE_OF: [(&str, &[&str]); 2] = [
    (
        "millstream-cli",
        &["Cargo.lock", "Cargo.toml", "engine/cli", "engine/commit.rs", "proto"],
    ),
    (
        "millstream-server",
        &[
            "Cargo.lock",
            "Cargo.toml",
            "connectors",
            "engine/cluster",
            "engine/commit.rs",
            "engine/planner",
            "engine/runtime",
            "engine/server",
            "fail-point",
            "proto",
            "state",
        ],
    ),
];

fn main() {
    let version = variable("CARGO_PKG_VERSION");
    let package = variable("CARGO_PKG_NAME");
    // `engine/cli` and `engine/server` are two folders below the root.
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = manifest.join("../..").canonicalize().unwrap_or(manifest);
    let made_of = MADE_OF.iter().find(|(name, _)| *name == package);
    let (_, made_of) = made_of.unwrap_or_else(|| panic!("MADE_OF does not list the package {package}"));

    println!("cargo:rerun-if-env-changed=MILLSTREAM_COMMIT");
    for path in *made_of {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    let given = std::env::var("MILLSTREAM_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| of_git(&root, made_of));
    let version = commit.map_or(version.clone(), |commit| format!("{version} ({commit})"));
    println!("cargo:rustc-env=MILLSTREAM_VERSION={version}");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// The short hash of the commit that is checked out at `root`; `None` where git does not know one.
fn of_git(root: &Path, made_of: &[&str]) -> Option<String> {
    // A copy inside another repository is not that repository.
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root {
        return None;
    }
    let mut watched = vec!["HEAD".to_string()];
    match git(root, &["symbolic-ref", "--quiet", "HEAD"]) {
        // A branch is a file, or a line among the packed ones; then a commit shows in the log of HEAD first.
        Some(branch) if path(root, &branch).is_some_and(|file| file.exists()) => watched.push(branch),
        Some(_) => watched.extend(["packed-refs".to_string(), "logs/HEAD".to_string()]),
        None => {}
    }
    // A file that does not exist counts as changed each time.
    let files = watched.iter().filter_map(|name| path(root, name));
    for file in files.filter(|file| file.exists()) {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let hash = git(root, &["rev-parse", "--short", "HEAD"])?;
    let status = [&["--no-optional-locks", "status", "--porcelain", "--"], made_of].concat();
    let dirty = if git(root, &status)?.is_empty() { "" } else { "-dirty" };
    Some(format!("{hash}{dirty}"))
}

/// The place of a file of the repository: of this worktree, or common to all.
fn path(root: &Path, name: &str) -> Option<PathBuf> {
    Some(root.join(git(root, &["rev-parse", "--git-path", name])?))
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}
