//! Benchmarks. Nearly all of them start the release `engine` as a user would and measure the whole process.
//!
//! `bench [NAME...] [NEXMARK QUERY...]`; without a name, all of them. Results are printed as they are measured and
//! written as JSON to `bench-results.json` in the target folder. `BENCH_EVENTS` sets the number of Nexmark events of a
//! run, `BENCH_CHECKPOINT_INTERVAL` the interval of its checkpoints (10s).

mod exactly_once;
mod exchange;
mod jobs;
mod kafka;
mod latency;
mod measure;
mod nexmark;
mod recovery;
mod serve;
mod sessions;
mod silence;
mod startup;
mod state;
mod test_cluster;
mod unordered;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// A benchmark; its arguments are the words that name no benchmark.
type Run = fn(&[String]) -> Result<Value>;

const BENCHMARKS: [(&str, Run); 14] = [
    ("startup", |_| startup::run()),
    ("nexmark", nexmark::run),
    ("kafka", |_| kafka::run()),
    ("exactly-once", |_| exactly_once::throughput()),
    ("kafka-latency", |_| exactly_once::latencies()),
    ("latency", |_| latency::run()),
    ("state", |_| state::run()),
    ("sessions", |_| sessions::run()),
    ("unordered", |_| unordered::run()),
    ("recovery", |_| recovery::run()),
    ("silence", |_| silence::run()),
    ("jobs", |_| jobs::run()),
    ("exchange", |_| exchange::run()),
    ("serve", |_| serve::run()),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((serve::REFERENCE, rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return serve::reference(rest);
    }
    let is_named = |name: &str| arguments.iter().any(|argument| argument == name);
    let named: Vec<_> = BENCHMARKS.into_iter().filter(|(name, _)| is_named(name)).collect();
    let rest: Vec<String> = arguments
        .iter()
        .filter(|argument| !BENCHMARKS.iter().any(|(name, _)| name == argument))
        .cloned()
        .collect();
    let chosen = match (named.is_empty(), rest.is_empty()) {
        (false, _) => named,
        // Query names alone mean Nexmark.
        (true, false) => BENCHMARKS.into_iter().filter(|(name, _)| *name == "nexmark").collect(),
        (true, true) => BENCHMARKS.to_vec(),
    };
    let mut results = Map::new();
    for (name, run) in chosen {
        println!("\n== {name}");
        results.insert(name.to_owned(), run(&rest)?);
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
