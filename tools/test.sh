#!/usr/bin/env bash
# All tests, from cheap to dear: format, tidy, clippy, unit and integration tests, the end-to-end list on the real kernel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Nobody edits between these builds: what incremental compilation keeps would only fill the disk.
export CARGO_INCREMENTAL=0

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check
step "tidy"
cargo run --quiet --locked -p xtask -- tidy
step "clippy"
cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
step "counterparts: kubectl, etcd, etcdctl"
tools/install.sh
step "counterparts: client libraries"
tools/clients.sh
step "tests"
# The end-to-end list starts whole clusters and needs the machine for itself: it comes last, alone.
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --locked --workspace --no-fail-fast
else
    cargo test --locked --workspace --exclude plinth --exclude robustness --no-fail-fast
    cargo test --locked -p plinth --bins --no-fail-fast
    cargo test --locked -p robustness --lib --no-fail-fast
fi
step "end to end"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --locked --workspace --no-fail-fast --ignore-default-filter -E 'package(plinth) & binary(e2e)'
else
    cargo test --locked -p plinth --no-fail-fast --test e2e -- --test-threads=1
fi
step "robustness: three members, faults, and a verdict over what clients saw"
# The program was built for the tests above. Without the variable, the same is done to a real etcd.
ROBUSTNESS_PROGRAM=${ROBUSTNESS_PROGRAM:-$(realpath "${CARGO_TARGET_DIR:-target}")/debug/plinth-store}
export ROBUSTNESS_PROGRAM
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --locked --workspace --no-fail-fast --ignore-default-filter -E 'binary(robustness)'
else
    cargo test --locked -p robustness --test robustness --no-fail-fast -- --test-threads=1
fi
