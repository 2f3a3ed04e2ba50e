# Sourced by every script and by the Makefile: where builds and downloads live, outside the checkout, so that a fresh
# clone on the same machine reuses them. Each variable is kept if it is set already.
export MILLSTREAM_CACHE="${MILLSTREAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$MILLSTREAM_CACHE/target}"
# RocksDB is built once for the dev profile, with little optimisation, and once for release. A script that builds in
# release sets MILLSTREAM_PROFILE=release before it sources this.
if [ -z "${ROCKSDB_LIB_DIR:-}" ] || [ "$ROCKSDB_LIB_DIR" = "${MILLSTREAM_ROCKSDB:-}" ]; then
  case "${MILLSTREAM_PROFILE:-dev}" in
    release) MILLSTREAM_ROCKSDB="$MILLSTREAM_CACHE/rocksdb" ;;
    *) MILLSTREAM_ROCKSDB="$MILLSTREAM_CACHE/rocksdb-dev" ;;
  esac
  export MILLSTREAM_ROCKSDB ROCKSDB_LIB_DIR="$MILLSTREAM_ROCKSDB" ROCKSDB_STATIC=1
fi
# A cargo that rustup installed for this user may not be on the PATH of this shell yet.
if [ -d "$HOME/.cargo/bin" ]; then
  case ":$PATH:" in *":$HOME/.cargo/bin:"*) ;; *) export PATH="$HOME/.cargo/bin:$PATH" ;; esac
fi
