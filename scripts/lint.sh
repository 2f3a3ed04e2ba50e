#!/usr/bin/env bash
# Formatting, clippy with warnings as errors, deploy/, dependencies without a use, and, where cargo-deny is installed, the dependency policy.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh lint
cargo fmt --all --check
scripts/lint-deploy.sh
scripts/lint-dependencies.sh
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
if command -v cargo-deny >/dev/null; then
  cargo deny --offline check bans licenses sources
fi
