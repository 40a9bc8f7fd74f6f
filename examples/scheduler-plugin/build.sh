#!/usr/bin/env bash
# Builds the example with Debian's clang and lld: build.sh [plugin.wasm]
set -euo pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-plugin.wasm}

command -v wasm-ld >/dev/null || { echo "wasm-ld is missing: apt-get install lld, or tools/deps.sh test" >&2; exit 1; }
exec clang --target=wasm32-unknown-unknown -O2 -std=c11 -Wall -Wextra -Werror -ffreestanding -fno-builtin -nostdlib \
    -Wl,--no-entry -Wl,--strip-all -o "$out" "$folder/plugin.c"
