//! The shell that runs the commands of one page in a temporary folder.
//!
//! If the system permits it, the shell has a network and process ids of its own (`unshare`): pages use the ports that
//! they name, several pages run at once, and whatever a page started ends with its shell.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use millstream_integration_tests::{engine, engine_cli};
use tempfile::TempDir;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Marker that is printed after each command, with its exit code.
const DONE: &str = "-- the command has ended with";
const UNSHARE: [&str; 5] = ["--map-root-user", "--net", "--pid", "--fork", "--mount-proc"];
/// Ports that pages use.
const PORTS: [u16; 4] = [7070, 7071, 8080, 9092];

/// Returns true if the system permits shells with a network of their own.
pub fn is_isolated() -> bool {
    let status = Command::new("unshare")
        .args(UNSHARE)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

pub struct Shell {
    process: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    isolated: bool,
    /// Background processes with their logs.
    background: Vec<(i32, PathBuf)>,
    folder: TempDir,
}

impl Shell {
    /// Starts a shell in a copy of the checkout without its code.
    pub fn start(checkout: &Path, isolated: bool) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-page-")
            .tempdir()
            .expect("a folder");
        let work = folder.path().join("work");
        for part in ["README.md", "Makefile", "docs", "examples", "scripts", "deploy"] {
            copy(&checkout.join(part), &work.join(part));
        }
        let bin = folder.path().join("bin");
        fs::create_dir_all(&bin).expect("a folder");
        for program in [engine(), engine_cli()] {
            let name = program.file_name().expect("a file");
            std::os::unix::fs::symlink(&program, bin.join(name)).expect("a link");
        }
        if !isolated {
            for port in PORTS {
                std::net::TcpListener::bind(("127.0.0.1", port)).unwrap_or_else(|error| {
                    panic!("the documentation uses port {port}, and `unshare` fails here: {error}")
                });
            }
        }
        let mut command = match isolated {
            true => Command::new("unshare"),
            false => Command::new("bash"),
        };
        if isolated {
            command.args(UNSHARE).args(["--kill-child", "bash"]);
        }
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            // With the variables of an outer `make`, the `make` of a page would print its folder.
            if ["MILLSTREAM_", "AWS_", "OTEL_", "XDG_", "MAKE", "MFLAGS"]
                .iter()
                .any(|start| name_text.starts_with(start))
                && name_text != "MILLSTREAM_CACHE"
            {
                command.env_remove(&name);
            }
        }
        let cache = std::env::var_os("MILLSTREAM_CACHE")
            .or_else(|| Some(std::env::home_dir()?.join(".cache/millstream").into()))
            .expect("a home folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut process = command
            .args(["--norc", "--noprofile"])
            .current_dir(&work)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("HOME", folder.path())
            .env("MILLSTREAM_CACHE", cache)
            .env("MILLSTREAM_KAFKA", folder.path().join("kafka"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let (stdin, stdout) = (
            process.stdin.take().expect("piped"),
            process.stdout.take().expect("piped"),
        );
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let background = Vec::new();
        let mut shell = Self {
            process,
            stdin,
            lines,
            isolated,
            background,
            folder,
        };
        if isolated {
            shell.run("ip link set lo up").expect("a loopback");
        }
        shell
    }

    /// Returns the folder in which the page's commands run.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Runs a command to its end and returns its output; waits until a command that ends with `&` is ready.
    pub fn run(&mut self, command: &str) -> Result<String, String> {
        // Two spaces precede a comment after the command.
        let (bare, _) = command.split_once("  #").unwrap_or((command, ""));
        match bare.trim_end().strip_suffix('&') {
            Some(bare) => self.start_in_background(bare).map(|()| String::new()),
            None => {
                let (output, code) = self.send(&format!("{{ {command}\n}} 2>&1 </dev/null"))?;
                match code {
                    0 => Ok(output),
                    code => Err(format!("exit code {code}\n{output}")),
                }
            }
        }
    }

    fn start_in_background(&mut self, command: &str) -> Result<(), String> {
        let log = self
            .folder
            .path()
            .join(format!("background-{}.log", self.background.len()));
        let started = format!("{command} >{} 2>&1 </dev/null & echo $!", log.display());
        let (output, _) = self.send(&started)?;
        let pid = output.trim().parse().map_err(|_| format!("no process id: {output}"))?;
        self.background.push((pid, log.clone()));
        let ready = match command {
            worker if worker.contains("engine worker") || worker.contains("engine standalone") => "attached",
            leader if leader.contains("engine coordinator") => "leading",
            _ => return Ok(()),
        };
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains(ready) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("it does not become ready:\n{said}"));
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn send(&mut self, script: &str) -> Result<(String, i32), String> {
        writeln!(self.stdin, "{script}\nprintf '\\n%s %s\\n' '{DONE}' $?")
            .map_err(|error| format!("the shell: {error}"))?;
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let mut output = String::new();
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => match line.strip_prefix(DONE) {
                    Some(code) => {
                        // The marker is preceded by a line break of its own.
                        output.pop();
                        let code = code.trim().parse().map_err(|_| format!("no exit code: {line}"))?;
                        return Ok((output, code));
                    }
                    // The shell reports a process that the page has killed.
                    None if line.starts_with("bash: line ") && line.contains("Killed") => {}
                    None => writeln!(output, "{line}").map_err(|error| error.to_string())?,
                },
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!(
                        "it did not end within {} s:\n{output}",
                        COMMAND_TIMEOUT.as_secs()
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(format!("the shell ended:\n{output}")),
            }
        }
    }

    /// Returns the last log lines of the background processes.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (pid, log) in &self.background {
            let said = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            text += &format!("--- process {pid}\n{last}\n");
        }
        text
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if !self.isolated {
            let pids: Vec<String> = self.background.iter().map(|(pid, _)| pid.to_string()).collect();
            let script = format!(
                "kill -9 {} 2>&1; [ -f \"$MILLSTREAM_KAFKA/pid\" ] && kill -9 \"$(cat \"$MILLSTREAM_KAFKA/pid\")\"",
                pids.join(" ")
            );
            // Most of them have already ended.
            self.send(&script).ok();
        }
        // In its own process namespace, everything that the shell started ends with it.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Copies a file or folder without the output of examples.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().expect("inside a folder")).expect("a folder");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        return;
    }
    for entry in fs::read_dir(from)
        .expect("a folder")
        .map(|entry| entry.expect("a folder's entry"))
    {
        let name = entry.file_name();
        let is_written =
            entry.path().is_dir() && ["data", "output", ".millstream"].iter().any(|written| name == *written);
        if !is_written {
            copy(&entry.path(), &to.join(name));
        }
    }
}
