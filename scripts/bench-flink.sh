#!/usr/bin/env bash
# Compares the release build with Apache Flink on Nexmark; Flink is installed into the cache first, if it is not there.
# Usage: bench-flink.sh [--check] [--events N] [--pairs N] [--memory SIZE] [--json FILE] [QUERY...]     (--help: all options)
set -euo pipefail
cd "$(dirname "$0")/.."
export MILLSTREAM_PROFILE=release
. scripts/env.sh
scripts/setup.sh test
cargo build --release --locked --bin engine
# --check compares with DuckDB, too, which is in the environment of the tests.
exec "$MILLSTREAM_CACHE/venv/bin/python" integration-tests/benchmarks/flink/compare.py \
  --engine "$CARGO_TARGET_DIR/release/engine" --json "$CARGO_TARGET_DIR/bench-flink.json" "$@"
