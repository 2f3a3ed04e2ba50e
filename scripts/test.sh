#!/usr/bin/env bash
# Runs all tests: unit, property, SQL cases against an independent engine, whole processes, a real Kafka broker.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh test
"$MILLSTREAM_CACHE/venv/bin/python" integration-tests/sql/expected.py --check
cargo build --workspace --locked --bins
"${CARGO_TARGET_DIR:-target}/debug/engine" test examples/*/*.tests.yaml
SEEDS="${SEEDS:-200}" cargo test --workspace --locked "$@"
