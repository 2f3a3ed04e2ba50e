#!/usr/bin/env bash
# Finds unused dependencies of each crate (with cargo-machete, which `setup.sh lint` installs) and in the workspace's list.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
failed=0

"$MILLSTREAM_CACHE/tools/bin/cargo-machete" || failed=1

declared=$(sed -n '/^\[workspace.dependencies\]/,/^\[workspace.lints/s/^\([a-zA-Z0-9_-]*\) = .*/\1/p' Cargo.toml)
members=$(sed -n '/^members = \[/,/^\]/s/^ *"\(.*\)",/\1\/Cargo.toml/p' Cargo.toml)
for name in $declared; do
  # shellcheck disable=SC2086 # paths without blanks
  if ! grep -qE "^$name(\.workspace = true| = \{ workspace = true)" $members; then
    echo "error: $name is in [workspace.dependencies] and no crate uses it: remove it from Cargo.toml" >&2
    failed=1
  fi
done
exit $failed
