#!/usr/bin/env bash
# Builds RocksDB once, as one static library outside the cargo target folder.
#
# The rocksdb crate compiles its C++ anew for every cargo profile, file by file: 12 minutes each on two cores. The
# same sources in a few large translation units ("unity build"), compiled once and shared by all profiles, take 4.
# The result is a folder with librocksdb.a, to be named by ROCKSDB_LIB_DIR. A plain `cargo build` without that
# variable still works: it then takes the crate's own, slower way.
#
# Usage: build-rocksdb.sh OUT_DIR [OPTIMISATION]      (-O3 by default; does nothing if the library is there)
set -euo pipefail

out=${1:?usage: build-rocksdb.sh OUT_DIR [OPTIMISATION]}
optimisation=${2:--O3}
here=$(cd "$(dirname "$0")/.." && pwd)
units=16

source_of() { # crate name -> its unpacked source folder, as cargo sees it
  cargo metadata --manifest-path "$here/Cargo.toml" --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu 2>/dev/null |
    python3 -c 'import json,os,sys
for p in json.load(sys.stdin)["packages"]:
    if p["name"] == sys.argv[1]: print(os.path.dirname(p["manifest_path"]), p["version"])' "$1"
}

read -r crate version < <(source_of librocksdb-sys)
read -r lz4 _ < <(source_of lz4-sys)
read -r zstd _ < <(source_of zstd-sys)

if [ "$(cat "$out/version" 2>/dev/null)" = "$version" ] && [ -f "$out/librocksdb.a" ]; then
  exit 0
fi
echo "building RocksDB $version once, with $optimisation (2 to 4 minutes on 2 cores) ..."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The defines and flags of the crate's own build.rs for Linux.
flags=("$optimisation" -DNDEBUG -std=c++20 -fPIC -ffunction-sections -fdata-sections -w -include cstdint
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
  -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DLZ4=1 -DZSTD=1
  "-I$crate/rocksdb/include" "-I$crate/rocksdb" "-I$crate" "-I$lz4/liblz4/lib" "-I$zstd/zstd/lib")
if [ "$(uname -m)" = x86_64 ] && grep -qw sse4_2 /proc/cpuinfo; then
  flags+=(-msse4.2 -mpclmul)
fi

mapfile -t sources < <(grep -v -e '^util/build_version.cc' -e '^$' "$crate/rocksdb_lib_sources.txt")
per_unit=$(((${#sources[@]} + units - 1) / units))
for ((u = 0; u * per_unit < ${#sources[@]}; u++)); do
  for file in "${sources[@]:u*per_unit:per_unit}"; do
    echo "#include \"$crate/rocksdb/$file\""
  done >"$work/unit_$u.cc"
done
echo "#include \"$crate/build_version.cc\"" >"$work/unit_version.cc"

# A unit whose files do not go together (two file-local names alike) is compiled file by file instead.
cat >"$work/compile" <<'SH'
#!/usr/bin/env bash
set -u
unit=$1; shift
if ! g++ "$@" -c "$unit" -o "${unit%.cc}.o" 2>"${unit%.cc}.log"; then
  rm -f "${unit%.cc}.o"
  n=0
  sed 's/#include "\(.*\)"/\1/' "$unit" | while read -r file; do
    g++ "$@" -c "$file" -o "${unit%.cc}_$n.o" || exit 1
    n=$((n + 1))
  done || exit 1
fi
echo "  RocksDB: $(basename "${unit%.cc}") done"
SH
chmod +x "$work/compile"
printf '%s\n' "$work"/unit_*.cc | xargs -P "$(nproc)" -I{} "$work/compile" {} "${flags[@]}"

mkdir -p "$out"
rm -f "$out/librocksdb.a.tmp"
ar crs "$out/librocksdb.a.tmp" "$work"/*.o
mv "$out/librocksdb.a.tmp" "$out/librocksdb.a"
echo "$version" >"$out/version"
