#!/usr/bin/env bash
# Formatting, clippy with warnings as errors, import cycles between modules, comments, deploy/, unused dependencies, and the
# dependency policy if cargo-deny is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh lint
cargo fmt --all --check
scripts/lint-modules.py engine integration-tests proto state fail-point store-errors
scripts/lint-comments.py docs CONTRIBUTING.md engine/cli engine/server engine/graph engine/planner integration-tests proto fail-point store-errors
scripts/lint-deploy.sh
scripts/lint-dependencies.sh
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
if command -v cargo-deny >/dev/null; then
  cargo deny --offline check bans licenses sources
fi
