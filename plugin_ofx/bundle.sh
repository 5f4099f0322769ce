#!/bin/sh
# Builds the effect and lays it out as hosts expect it: build/Paintover.ofx.bundle.
#
#   sh plugin_ofx/bundle.sh [--glibc VERSION] [TARGET]
#
#   TARGET           a Rust target to build for, as x86_64-pc-windows-gnu; else this machine
#   --glibc VERSION  for Linux: runs with that glibc and newer ones, as 2.28 of RHEL 8; needs cargo-zigbuild and zig, which
#                    `pip install cargo-zigbuild ziglang` gives
set -eu
cd "$(dirname "$0")"

glibc=
if [ "${1:-}" = --glibc ]; then
    glibc=${2:?bundle.sh: --glibc needs a version, as 2.28}
    shift 2
fi
target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
case $target in
x86_64-*-linux-*) folder=Linux-x86-64 library=libpaintover_ofx.so ;;
aarch64-*-linux-*) folder=Linux-aarch64 library=libpaintover_ofx.so ;;
*-apple-darwin) folder=MacOS library=libpaintover_ofx.dylib ;;
x86_64-*-windows-*) folder=Win64 library=paintover_ofx.dll ;;
*) echo "bundle.sh: no host loads OpenFX effects on $target" >&2; exit 2 ;;
esac

if [ -n "$glibc" ]; then
    cargo-zigbuild zigbuild --release --locked --target "$target.$glibc"
    built=${CARGO_TARGET_DIR:-target}/$target/release/$library
    newest=$(objdump -T "$built" | sed -n 's/.*(\{0,1\}GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -n 1)
    if [ "$(printf '%s\n' "$newest" "$glibc" | sort -V | tail -n 1)" != "$glibc" ]; then
        echo "bundle.sh: the library needs glibc $newest, newer than $glibc" >&2
        exit 1
    fi
else
    cargo build --release --locked ${1:+--target "$1"}
    built=${CARGO_TARGET_DIR:-target}/${1:+$1/}release/$library
fi

contents=build/Paintover.ofx.bundle/Contents
mkdir -p "$contents/$folder" "$contents/Resources"
# Under a new name first: a host may have the one before it mapped.
cp "$built" "$contents/$folder/.Paintover.ofx.new"
mv "$contents/$folder/.Paintover.ofx.new" "$contents/$folder/Paintover.ofx"
cp Info.plist "$contents/Info.plist"
cp Resources/* "$contents/Resources/"
"${PYTHON:-python3}" ../tools/crates.py "$target" "$contents/Resources/THIRD-PARTY-NOTICES.$folder.txt"
echo "$PWD/build/Paintover.ofx.bundle"
