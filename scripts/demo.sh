#!/usr/bin/env bash
# Runs the toll-booth example: generates its data with the engine itself, runs the pipeline, shows the result.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

scripts/setup.sh build
engine="$CARGO_TARGET_DIR/debug/engine"
if [ ! -x "$engine" ]; then
  say "building the engine for development (the first time this compiles Arrow and DataFusion: 5 minutes on 2 cores)"
fi
cargo build --workspace --bins --locked

here=examples/toll-booth
if ! ls "$here"/data/entries/part-* >/dev/null 2>&1; then
  say "making 300,000 toll-booth entries in $here/data"
  "$engine" run "$here/generate.sql" --fresh
fi

say "engine run $here/pipeline.yaml"
"$engine" run "$here/pipeline.yaml" --fresh --remove-output

say "the first rows of the result (booth, minute, cars, different plates, takings)"
cat "$here"/output/stats/part-* | sort -t, -k2,2 -k1,1n | sed -n 1,12p
rows=$(cat "$here"/output/stats/part-* | wc -l)
say "$rows rows are in $here/output/stats; the same pipeline as SQL is $here/pipeline.sql"
say "the binaries are $engine and engine-cli beside it; optimised ones on the PATH: make install"
