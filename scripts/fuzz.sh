#!/usr/bin/env bash
# Fuzzes every part that accepts bytes from outside (integration-tests/tests/fuzz).
#
# Usage: fuzz.sh [TARGET] [RUNS] [SEED]
# Without RUNS or SEED it runs rounds with new seeds until it is stopped or a target fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh build

export FUZZ_TARGET=${1:-} FUZZ_RUNS=${2:-} FUZZ_SEED=${3:-}
round() { cargo test --workspace --quiet --test fuzz -- --nocapture; }
if [ -n "$FUZZ_RUNS$FUZZ_SEED" ]; then
  round
else
  FUZZ_RUNS=20000
  while round; do :; done
  exit 1
fi
