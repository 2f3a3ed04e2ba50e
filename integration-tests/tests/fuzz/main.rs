//! Fuzzing: no input can panic the engine. Runs every decoder, the SQL front end and the YAML parser on damaged inputs.
//!
//! Inputs are mutations of known ones ([`mutate`]) with a printed seed; each target ([`targets`], [`formats`]) checks
//! its properties. To run any number of them:
//!
//! ```text
//! make fuzz                                    # until it is stopped; every round has a seed of its own
//! make fuzz TARGET=json RUNS=1000000 SEED=7
//! FUZZ_TARGET=json FUZZ_INPUT=FILE cargo test --workspace --test fuzz      # one input again
//! ```

mod formats;
mod mutate;
mod targets;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mutate::Random;
use targets::{TARGETS, Target};

/// Longest time for one input, generous enough for a debug build on a busy machine.
const HANG: Duration = Duration::from_secs(30);

#[test]
fn no_input_panics() {
    let named = std::env::var("FUZZ_TARGET").ok().filter(|name| !name.is_empty());
    if let Some(name) = &named {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert!(known.contains(&name.as_str()), "FUZZ_TARGET is one of {known:?}");
    }
    let chosen = TARGETS
        .iter()
        .filter(|target| named.as_deref().is_none_or(|name| name == target.name));
    if let Some(file) = std::env::var_os("FUZZ_INPUT") {
        let input = std::fs::read(file).expect("a readable input");
        chosen.for_each(|target| (target.run)(&input));
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("FUZZ_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64)
    });
    let runs = number("FUZZ_RUNS");
    for target in chosen {
        fuzz(target, runs.unwrap_or(target.runs), seed);
    }
}

fn fuzz(target: &Target, runs: u64, seed: u64) {
    let start = Instant::now();
    // Not through `print`: captured output of the test is lost when the process ends.
    let say = |words: String| {
        let said = writeln!(std::io::stderr(), "fuzz: {words}");
        said.expect("standard error can be written");
    };
    say(format!("FUZZ_TARGET={} FUZZ_SEED={seed} FUZZ_RUNS={runs}", target.name));
    let seeds = (target.seeds)();
    let mut random = Random(seed);
    // Panics that a decoder turns into errors would fill the screen.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut broken = None;
    for run in 0..runs {
        let input = mutate::input(&mut random, &seeds, target.words);
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        if let Err(panic) = result {
            broken = Some((run, input, message(&*panic)));
            break;
        }
        if began.elapsed() > HANG {
            broken = Some((run, input, format!("it takes {:?}", began.elapsed())));
            break;
        }
    }
    std::panic::set_hook(hook);
    if let Some((run, input, why)) = broken {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-{seed}-{run}", target.name));
        std::fs::write(&file, &input).expect("a writable target folder");
        panic!(
            "{}: {why}; the input is in {} (repeat it with FUZZ_TARGET={} FUZZ_INPUT={})",
            target.name,
            file.display(),
            target.name,
            file.display()
        );
    }
    say(format!("{}: {runs} inputs in {:?}", target.name, start.elapsed()));
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panics").to_string()
}
