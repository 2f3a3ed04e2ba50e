//! The benchmarks, nearly all from outside: they start the release `engine` as a user would and account for the whole
//! process.
//!
//! `bench [startup] [nexmark [QUERY...]] [kafka] [exactly-once] [latency] [state] [sessions] [recovery] [jobs] [exchange]`; without
//! a name, all of them. Results are printed as they come and written as JSON to `bench-results.json` in the target folder.
//! `BENCH_EVENTS` sets the number of Nexmark events of a run.

mod exactly_once;
mod exchange;
mod jobs;
mod kafka;
mod latency;
mod measure;
mod nexmark;
mod recovery;
mod sessions;
mod startup;
mod state;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

const BENCHMARKS: [&str; 10] = [
    "startup",
    "nexmark",
    "kafka",
    "exactly-once",
    "latency",
    "state",
    "sessions",
    "recovery",
    "jobs",
    "exchange",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&str> = BENCHMARKS
        .into_iter()
        .filter(|name| arguments.iter().any(|a| a == name))
        .collect();
    let rest: Vec<String> = arguments
        .iter()
        .filter(|a| !BENCHMARKS.contains(&a.as_str()))
        .cloned()
        .collect();
    let chosen = match (named.is_empty(), rest.is_empty()) {
        (false, _) => named,
        // Query names alone mean Nexmark.
        (true, false) => vec!["nexmark"],
        (true, true) => BENCHMARKS.to_vec(),
    };
    let mut results = Map::new();
    for name in chosen {
        println!("\n== {name}");
        let value = match name {
            "startup" => startup::run()?,
            "nexmark" => nexmark::run(&rest)?,
            "kafka" => kafka::run()?,
            "exactly-once" => exactly_once::run()?,
            "latency" => latency::run()?,
            "state" => state::run()?,
            "sessions" => sessions::run()?,
            "jobs" => jobs::run()?,
            "recovery" => recovery::run()?,
            _ => exchange::run()?,
        };
        results.insert(name.to_owned(), value);
    }
    let folder = millstream_integration_tests::engine()
        .parent()
        .map(|p| p.to_path_buf())
        .unwrap_or_default();
    let file = folder.join("bench-results.json");
    std::fs::write(&file, serde_json::to_string_pretty(&Value::Object(results))?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nresults: {}", file.display());
    Ok(())
}
