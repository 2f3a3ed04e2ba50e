#!/usr/bin/env bash
# Installs missing dependencies on Debian or Ubuntu, and builds RocksDB once.
#
# Usage: setup.sh [packages|build|lint|test]
#   packages         the distribution's packages that compiling needs, no more
#   build (default)  what compiling and running needs
#   lint             also what the checks of deploy/ need
#   test             also what the tests need
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

goal=${1:-build}

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    echo "error: needs root to run: $*; run that yourself, then again" >&2
    exit 1
  fi
}

# Debian packages: a C and C++ compiler, libclang (bindgen reads RocksDB's header with it), OpenSSL for Kafka over TLS.
packages=(gcc g++ make libc6-dev pkg-config libssl-dev python3)
if command -v apt-get >/dev/null; then
  if ! ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || ! ls -d /usr/lib/llvm-*/lib/clang/*/include >/dev/null 2>&1; then
    packages+=(libclang-dev)
  fi
  if [ "$goal" = test ]; then
    command -v java >/dev/null || packages+=(default-jre-headless)
    command -v mvn >/dev/null || packages+=(maven)
  fi
  if [ "$goal" = test ] || [ "$goal" = lint ]; then
    python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
  fi
  if [ "$goal" = lint ] && ! command -v go >/dev/null; then
    # Go from 1.21 on fetches the newer one that a tool wants; an older one is of no use.
    offered=$(apt-cache policy golang-go | sed -n 's/^  Candidate: [0-9]*://p')
    if [ -n "$offered" ] && dpkg --compare-versions "$offered" ge 1.21; then packages+=(golang-go); fi
  fi
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
else
  echo "note: not a Debian or Ubuntu machine; the build needs the equivalents of: ${packages[*]} libclang-dev" >&2
fi
if [ "$goal" = packages ]; then
  exit 0
fi

# Rust, from the distribution's rustup where cargo is missing.
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null; then
  if apt-cache show rustup >/dev/null 2>&1; then
    say "installing Rust with the distribution's rustup"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustup >/dev/null
    rustup default stable
  else
    echo "error: no cargo; install Rust $wanted or newer from https://rustup.rs, then run this again" >&2
    exit 1
  fi
fi
have=$(rustc --version | sed 's/rustc \([0-9.]*\).*/\1/')
if [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" != "$wanted" ]; then
  echo "error: Rust $have is older than $wanted; run: rustup update stable" >&2
  exit 1
fi

if [ "${ROCKSDB_LIB_DIR}" = "${MILLSTREAM_ROCKSDB:-}" ]; then
  cargo fetch --locked --quiet
  case "${MILLSTREAM_PROFILE:-dev}" in
    release) scripts/build-rocksdb.sh "$ROCKSDB_LIB_DIR" -O3 ;;
    *)
      # The optimised library serves as well, where there is one.
      if [ ! -e "$ROCKSDB_LIB_DIR" ] && [ -f "$MILLSTREAM_CACHE/rocksdb/librocksdb.a" ]; then
        cp -r "$MILLSTREAM_CACHE/rocksdb" "$ROCKSDB_LIB_DIR"
      fi
      scripts/build-rocksdb.sh "$ROCKSDB_LIB_DIR" -O1
      ;;
  esac
fi

if [ "$goal" = lint ]; then
  machete=0.9.2 # the version of cargo-machete, which scripts/lint-dependencies.sh runs
  if [ "$("$MILLSTREAM_CACHE/tools/bin/cargo-machete" --version 2>/dev/null)" != "$machete" ]; then
    say "installing cargo-machete $machete into $MILLSTREAM_CACHE/tools"
    cargo install --quiet --locked --root "$MILLSTREAM_CACHE/tools" "cargo-machete@$machete"
  fi
fi

if [ "$goal" = test ]; then
  scripts/kafka.sh fetch
  if [ ! -x "$MILLSTREAM_CACHE/venv/bin/python" ] || ! "$MILLSTREAM_CACHE/venv/bin/python" -c 'import duckdb' 2>/dev/null; then
    say "installing DuckDB (the tests' independent second opinion) into $MILLSTREAM_CACHE/venv"
    python3 -m venv "$MILLSTREAM_CACHE/venv"
    "$MILLSTREAM_CACHE/venv/bin/pip" install --quiet "duckdb>=1.3,<3"
  fi
fi
