#!/usr/bin/env bash
# Builds engine and engine-cli in release and installs them into PREFIX/bin (~/.local by default).
set -euo pipefail
cd "$(dirname "$0")/.."
export MILLSTREAM_PROFILE=release
. scripts/env.sh
prefix=${PREFIX:-$HOME/.local}
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

scripts/setup.sh build
if [ ! -x "$CARGO_TARGET_DIR/release/engine" ]; then
  say "building in release (the first time about 25 minutes on 2 cores)"
fi
cargo build --release --locked --bin engine --bin engine-cli
mkdir -p "$prefix/bin"
for binary in engine engine-cli; do
  # A new file in the place of the old one: a process that runs the old one keeps it.
  install -m 755 "$CARGO_TARGET_DIR/release/$binary" "$prefix/bin/.$binary.new"
  mv "$prefix/bin/.$binary.new" "$prefix/bin/$binary"
done
say "installed $("$prefix/bin/engine" --version) as $prefix/bin/engine, and engine-cli beside it"
case ":$PATH:" in
  *":$prefix/bin:"*) ;;
  *) say "$prefix/bin is not on your PATH; add it: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
