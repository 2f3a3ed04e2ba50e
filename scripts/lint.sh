#!/usr/bin/env bash
# Formatting, clippy with warnings as errors, import cycles between modules, comments, deploy/, unused dependencies, and the
# dependency policy if cargo-deny is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh lint
cargo fmt --all --check
scripts/lint-modules.py
scripts/lint-comments.py
scripts/lint-deploy.sh
scripts/lint-dependencies.sh
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
if command -v cargo-deny >/dev/null; then
  cargo deny --offline check bans licenses sources
fi
