#!/usr/bin/env bash
# Compares the release build with DuckDB on queries of TPC-H over Parquet files; the tables are generated first.
# Usage: bench-batch.sh [--scale N] [--pairs N] [--parallelism N] [--json FILE] [QUERY...]     (--help: all options)
set -euo pipefail
cd "$(dirname "$0")/.."
export MILLSTREAM_PROFILE=release
. scripts/env.sh
scripts/setup.sh test
[ -x "$MILLSTREAM_CACHE/venv/bin/tpchgen-cli" ] || "$MILLSTREAM_CACHE/venv/bin/pip" install --quiet "tpchgen-cli>=4,<5"
cargo build --release --locked --bin engine
exec "$MILLSTREAM_CACHE/venv/bin/python" integration-tests/benchmarks/batch/compare.py \
  --engine "$CARGO_TARGET_DIR/release/engine" --json "$CARGO_TARGET_DIR/bench-batch.json" "$@"
