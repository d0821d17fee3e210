#!/bin/sh
# Builds total.c as a component (WASI preview 2): sh examples/total/build.sh OUT.wasm
# clang compiles; the linker and the C library are those that rustup installs for the target wasm32-wasip2.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
sysroot=$(cd "$here" && rustc --print sysroot)
host=$(cd "$here" && rustc -vV | sed -n 's/^host: //p')
tools=$sysroot/lib/rustlib/$host/bin
library=$sysroot/lib/rustlib/wasm32-wasip2/lib/self-contained
clang=${CLANG:-clang}
"$clang" --target=wasm32-wasi -Os -Wall -Wno-incompatible-library-redeclaration -c "$here/total.c" -o "$out.o"
"$tools/wasm-component-ld" --wasm-ld-path "$tools/gcc-ld/wasm-ld" \
    "$library/crt1-command.o" "$out.o" "$library/libc.a" "$library"/../libcompiler_builtins-*.rlib -o "$out"
rm "$out.o"
