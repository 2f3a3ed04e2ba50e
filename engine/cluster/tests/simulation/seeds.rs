//! Runs seeds, each in a process of its own, and reports how to repeat one that failed.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::mutants::Mutant;
use crate::{Report, Scenario};

/// Limit of the real time of one seed; the slowest take a few seconds.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Number of seeds by default; `scripts/test.sh` runs more.
const SEEDS_DEFAULT: u64 = 40;
const COMMAND_SEEDS_DEFAULT: u64 = 20;
/// Seeds that a mutant may survive before it counts as not found.
const MUTANT_SEEDS_MAX: u64 = 60;

const SEED: &str = "MILLSTREAM_SIMULATION_SEED";
const MUTANT: &str = "MILLSTREAM_SIMULATION_MUTANT";
const FOLDER: &str = "MILLSTREAM_SIMULATION_FOLDER";
const PRINT: &str = "MILLSTREAM_SIMULATION_PRINT";
const COMMANDS: &str = "MILLSTREAM_SIMULATION_COMMANDS";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.trim().parse().ok()
}

/// The result of the process of one seed.
struct SeedRun {
    seed: u64,
    is_fine: bool,
    text: String,
}

impl SeedRun {
    fn trace(&self) -> &str {
        self.text
            .lines()
            .find(|line| line.contains("trace "))
            .unwrap_or("no trace")
    }
}

/// Runs a seed in a process of its own.
fn run_in_process(seed: u64, scenario: Scenario, mutant: Option<Mutant>, print: bool) -> SeedRun {
    let folder = tempfile::tempdir().expect("a folder for the simulation");
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .args(["--exact", "seeds::one", "--ignored", "--nocapture", "--test-threads=1"])
        .env(SEED, seed.to_string())
        .env(FOLDER, folder.path())
        .env_remove(MUTANT)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    match print {
        true => command.env(PRINT, "1").stderr(Stdio::inherit()),
        false => command.env_remove(PRINT).stderr(Stdio::piped()),
    };
    if let Some(mutant) = mutant {
        command.env(MUTANT, mutant.name());
    }
    match scenario {
        Scenario::Faults => command.env_remove(COMMANDS),
        Scenario::Commands => command.env(COMMANDS, "1"),
    };
    let child = command.spawn().expect("this program can be started");
    let (is_fine, text) = wait(child);
    SeedRun { seed, is_fine, text }
}

fn wait(mut child: Child) -> (bool, String) {
    let deadline = Instant::now() + DEADLINE;
    let readers = [
        child.stdout.take().map(|out| read(Box::new(out))),
        child.stderr.take().map(|out| read(Box::new(out))),
    ];
    let mut late = "";
    let is_fine = loop {
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            break status.success();
        }
        if Instant::now() > deadline {
            child.kill().expect("it has not been waited for");
            child.wait().expect("it has ended");
            late = "it hung, and was ended\n";
            break false;
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    let said = readers
        .into_iter()
        .flatten()
        .map(|reader| reader.join().expect("it reads"));
    (is_fine, said.collect::<String>() + late)
}

#[expect(clippy::disallowed_methods, reason = "outside of the simulation")]
fn read(mut from: Box<dyn Read + Send>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs seeds on all cores until `go_on` returns false.
fn run_many(
    first: u64,
    count: u64,
    scenario: Scenario,
    mutant: Option<Mutant>,
    go_on: impl Fn(&SeedRun) -> bool + Sync,
) -> Vec<SeedRun> {
    let next = Mutex::new(first);
    let all = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = {
                        let mut next = next.lock().expect("nobody panics with it");
                        let seed = *next;
                        *next += 1;
                        seed
                    };
                    if seed >= first + count {
                        return;
                    }
                    let said = run_in_process(seed, scenario, mutant, false);
                    let goes_on = go_on(&said);
                    all.lock().expect("nobody panics with it").push(said);
                    if !goes_on {
                        *next.lock().expect("nobody panics with it") = first + count;
                    }
                }
            });
        }
    });
    all.into_inner().expect("nobody panics with it")
}

#[test]
fn no_seed_breaks_a_promise() {
    check(Scenario::Faults);
}

#[test]
fn no_seed_breaks_what_a_client_was_told() {
    check(Scenario::Commands);
}

fn check(scenario: Scenario) {
    if let Some(seed) = number("SEED") {
        let said = run_in_process(seed, scenario, None, true);
        println!("{}", said.text);
        assert!(said.is_fine, "seed {seed} fails");
        return;
    }
    let default = match scenario {
        Scenario::Faults => SEEDS_DEFAULT,
        Scenario::Commands => COMMAND_SEEDS_DEFAULT,
    };
    // Seeds with commands take several times as long.
    let asked = number("SEEDS").map(|count| match scenario {
        Scenario::Faults => count,
        Scenario::Commands => count.div_ceil(5),
    });
    let (first, count) = (number("FIRST").unwrap_or(0), asked.unwrap_or(default));
    let began = Instant::now();
    let said = run_many(first, count, scenario, None, |_| true);
    let failed: Vec<&SeedRun> = said.iter().filter(|said| !said.is_fine).collect();
    println!("{count} seeds in {:.1} s", began.elapsed().as_secs_f64());
    for said in failed.iter().take(10) {
        let tail: Vec<&str> = said.text.lines().filter(|line| !line.starts_with("running")).collect();
        println!("--- seed {} (make simulate SEED={})", said.seed, said.seed);
        println!("{}", tail[tail.len().saturating_sub(25)..].join("\n"));
    }
    let seeds: Vec<u64> = failed.iter().map(|said| said.seed).collect();
    assert!(failed.is_empty(), "{} of {count} seeds fail: {seeds:?}", failed.len());
}

#[test]
fn a_seed_is_the_same_twice() {
    for (seed, scenario) in [(3, Scenario::Faults), (5, Scenario::Faults), (3, Scenario::Commands)] {
        let [first, second] = [0, 0].map(|_| run_in_process(seed, scenario, None, false));
        assert_eq!(
            first.trace(),
            second.trace(),
            "seed {seed}\n{}\n{}",
            first.text,
            second.text
        );
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    for mutant in Mutant::ALL {
        let said = run_many(1, MUTANT_SEEDS_MAX, mutant.scenario(), Some(mutant), |said| {
            said.is_fine
        });
        let found = said.iter().find(|said| !said.is_fine);
        let found = found.unwrap_or_else(|| panic!("{}: no seed fails", mutant.name()));
        let why = found.text.lines().find(|line| line.contains("violated:"));
        println!("{}: seed {}: {}", mutant.name(), found.seed, why.unwrap_or("?"));
    }
}

#[test]
#[ignore = "the other tests start it, with a seed"]
#[expect(clippy::disallowed_methods, reason = "outside of the simulation")]
fn one() {
    let seed = number(SEED).expect("a seed in the environment");
    let mutant = std::env::var(MUTANT).ok().and_then(|name| Mutant::named(&name));
    let print = std::env::var(PRINT).is_ok();
    let folder = std::env::var(FOLDER).expect("a folder in the environment");
    // A new thread, which has not read the clock or random numbers yet.
    let scenario = match std::env::var(COMMANDS) {
        Ok(_) => Scenario::Commands,
        Err(_) => Scenario::Faults,
    };
    let run = move || crate::run(seed, scenario, mutant, folder.into(), print);
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(run);
    let report: Report = thread
        .expect("a thread")
        .join()
        .expect("the simulation itself does not panic");
    println!(
        "seed {seed}: {} s, {} events, trace {:016x}",
        report.simulated_s, report.events, report.trace
    );
    for violation in &report.violations {
        println!("violated: {violation}");
    }
    assert!(report.violations.is_empty(), "seed {seed} breaks a promise");
}
