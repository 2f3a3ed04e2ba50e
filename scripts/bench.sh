#!/usr/bin/env bash
# Runs the benchmarks with the release build.
# Usage: bench.sh [startup] [nexmark [QUERY...]] [kafka] [exactly-once] [kafka-latency] [latency] [state] [sessions] [recovery] [silence] [jobs] [exchange]     (BENCH_EVENTS=100000000 BENCH_CHECKPOINT_INTERVAL=10s)
set -euo pipefail
cd "$(dirname "$0")/.."
export MILLSTREAM_PROFILE=release
. scripts/env.sh
scripts/setup.sh test
cargo build --release --locked --bin engine --bin engine-cli --bin bench
exec "$CARGO_TARGET_DIR/release/bench" "$@"
