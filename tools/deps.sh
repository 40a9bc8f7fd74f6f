#!/usr/bin/env bash
# Installs what is missing of Debian's packages. Groups: build (to compile), test (what tests compare with).
set -euo pipefail

packages=()
need() { # package, a file or command that proves it is there
    case "$2" in
    /*) [[ -e $2 ]] || packages+=("$1") ;;
    *) command -v "$2" >/dev/null || packages+=("$1") ;;
    esac
}

for group in "$@"; do
    case "$group" in
    build)
        need build-essential cc
        need pkg-config pkg-config
        need clang clang
        need libbpf-dev /usr/include/bpf/bpf_helpers.h
        need libseccomp-dev /usr/include/seccomp.h
        need nftables nft
        need ca-certificates /etc/ssl/certs/ca-certificates.crt
        ;;
    test)
        need busybox-static /bin/busybox
        need skopeo skopeo
        need docker-registry docker-registry
        need iproute2 ip
        need curl curl
        # Links the example of a Wasm plugin.
        need lld wasm-ld
        # Its proof is no file of one name: the folder carries the version of Python.
        python3 -c "import ensurepip, venv" 2>/dev/null || packages+=(python3-venv)
        ;;
    *)
        echo "tools/deps.sh: unknown group $group (build, test)" >&2
        exit 2
        ;;
    esac
done
((${#packages[@]})) || exit 0

if ((EUID != 0)); then
    echo "missing: ${packages[*]}" >&2
    echo "install them (sudo apt-get install -y ${packages[*]}), or run this as root" >&2
    exit 1
fi
echo "installing: ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Services that a package would start are not wanted: only the programs are.
run() { "$@" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; echo "tools/deps.sh: $* failed" >&2; exit 1; }; }
run apt-get update
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$log" "$policy"' EXIT
fi
run apt-get install -y --no-install-recommends "${packages[@]}"
