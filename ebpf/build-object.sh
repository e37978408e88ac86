#!/usr/bin/env bash
# Rebuilds the committed BPF objects (ebpf/object/*.bpf.o) and the hash of their sources.
#
# Installs nothing. Needs bpf-linker in PATH and a compiler that can build `core` itself:
#   (a) a nightly toolchain with rust-src:   rustup toolchain install nightly -c rust-src
#   (b) or Debian's packages rustc-web, cargo-web and rust-web-src (a stable compiler, told by
#       RUSTC_BOOTSTRAP to accept nightly flags).
# bpf-linker:  cargo install bpf-linker --version 0.13.0
#
#   ebpf/build-object.sh            rebuild
#   ebpf/build-object.sh --check    rebuild elsewhere and compare with what is committed
#   ebpf/build-object.sh --hash     print the hash of the sources only
#
# CARGO and RUSTC choose another compiler. One source tree gives the same bytes with one compiler;
# `--check` therefore compares only where the compiler is the one named in object/built-with.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
object=$here/object
programs="fragscope-probe fragscope-tracer"

# Everything that decides the objects' bytes, but for the compiler.
source_hash() {
    (cd "$here" && find src Cargo.toml build-object.sh -type f | sort | xargs sha256sum |
        sha256sum | cut -d' ' -f1)
}

missing() {
    echo "build-object.sh: $1" >&2
    exit 1
}

# Whether the compiler $1 comes with the sources of core.
has_core() {
    [ -e "$("$1" --print sysroot)/lib/rustlib/src/rust/library/core/Cargo.toml" ]
}

# Sets CARGO, RUSTC and RUSTC_BOOTSTRAP for the first compiler that has the sources of core.
choose_compiler() {
    local nightly
    nightly=$(rustup which --toolchain nightly rustc 2>/dev/null || true)
    if [ -z "${RUSTC:-}" ] && [ -n "$nightly" ] && has_core "$nightly"; then
        RUSTC=$nightly CARGO=$(dirname "$nightly")/cargo
    elif [ -z "${RUSTC:-}" ]; then
        RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo
    fi
    CARGO=${CARGO:-cargo}
    command -v "$RUSTC" >/dev/null && has_core "$RUSTC" ||
        missing "found no compiler with the sources of core: rustup toolchain install nightly -c rust-src, or apt-get install rustc-web cargo-web rust-web-src"
    command -v bpf-linker >/dev/null ||
        missing "bpf-linker is not in PATH: cargo install bpf-linker --version 0.13.0"
    "$RUSTC" --version | grep -q nightly || export RUSTC_BOOTSTRAP=1
    export RUSTC
}

# Flags: BTF for the maps; v3 for atomics that return a value; no path of this machine inside.
build() {
    local flags sysroot cargo_home
    sysroot=$("$RUSTC" --print sysroot)
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    flags=(--cfg 'bpf_target_arch="x86_64"' -Cdebuginfo=2 -Clink-arg=--btf -Ctarget-cpu=v3
        "--remap-path-prefix=$root=." "--remap-path-prefix=$cargo_home=cargo"
        "--remap-path-prefix=$sysroot=rust")
    local joined
    joined=$(printf '%s\x1f' "${flags[@]}")
    CARGO_ENCODED_RUSTFLAGS=${joined%$'\x1f'} "$CARGO" build --quiet --release --locked \
        --manifest-path "$here/Cargo.toml" --target-dir "$here/target" \
        --features bpf -Z build-std=core --target bpfel-unknown-none
}

built_with() {
    printf '%s\n%s\n' "$("$RUSTC" --version)" "$(bpf-linker --version)"
}

check() {
    local program
    [ "$(built_with)" = "$(cat "$object/built-with")" ] ||
        missing "the committed objects were built with: $(tr '\n' ';' <"$object/built-with")"
    for program in $programs; do
        cmp "$here/target/bpfel-unknown-none/release/$program" "$object/$program.bpf.o"
    done
    echo "the committed objects are what these sources give"
}

keep() {
    local program
    mkdir -p "$object"
    for program in $programs; do
        cp "$here/target/bpfel-unknown-none/release/$program" "$object/$program.bpf.o"
        chmod 644 "$object/$program.bpf.o"
    done
    built_with >"$object/built-with"
    source_hash >"$object/source.sha256"
}

case "${1:-}" in
--hash) source_hash ;;
--check) choose_compiler && build && check ;;
"") choose_compiler && build && keep ;;
*) missing "unknown argument $1" ;;
esac
