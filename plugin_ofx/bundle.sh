#!/bin/sh
# Builds the effect and lays it out as hosts expect it: build/Paintover.ofx.bundle.
#
#   sh plugin_ofx/bundle.sh [TARGET]     TARGET: a Rust target to build for, as x86_64-pc-windows-gnu; else this machine
set -eu
cd "$(dirname "$0")"

target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
case $target in
x86_64-*-linux-*) folder=Linux-x86-64 library=libpaintover_ofx.so ;;
aarch64-*-linux-*) folder=Linux-aarch64 library=libpaintover_ofx.so ;;
*-apple-darwin) folder=MacOS library=libpaintover_ofx.dylib ;;
x86_64-*-windows-*) folder=Win64 library=paintover_ofx.dll ;;
*) echo "bundle.sh: no host loads OpenFX effects on $target" >&2; exit 2 ;;
esac

cargo build --release --locked ${1:+--target "$1"}
built=${CARGO_TARGET_DIR:-target}/${1:+$1/}release/$library

contents=build/Paintover.ofx.bundle/Contents
mkdir -p "$contents/$folder" "$contents/Resources"
# Under a new name first: a host may have the one before it mapped.
cp "$built" "$contents/$folder/.Paintover.ofx.new"
mv "$contents/$folder/.Paintover.ofx.new" "$contents/$folder/Paintover.ofx"
cp Info.plist "$contents/Info.plist"
cp Resources/* "$contents/Resources/"
"${PYTHON:-python3}" ../tools/crates.py "$target" "$contents/Resources/THIRD-PARTY-NOTICES.$folder.txt"
echo "$PWD/build/Paintover.ofx.bundle"
