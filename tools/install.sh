#!/usr/bin/env bash
# Brings the programs that Plinth is tested against (kubectl, etcd, etcdctl, etcdutl) into .tools/bin, without
# installing anything on the machine: single packages of a newer Debian suite, fetched through an apt configuration
# of their own and unpacked in place.
#
# The mirror is the one that this machine's apt already uses. PLINTH_APT_MIRROR names another one, PLINTH_TOOLS_DIR
# another folder.
set -euo pipefail

SUITE=forky
PACKAGES=(kubectl etcd-client etcd-server)
KUBECTL_WANTED=1.36

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${PLINTH_TOOLS_DIR:-$root/.tools}
stamp=$tools/.complete

fail() {
    echo "tools/install.sh: $*" >&2
    exit 1
}

versions() {
    "$tools/bin/kubectl" version --client 2>/dev/null | sed -n 's/^Client Version: /kubectl /p'
    "$tools/bin/etcdctl" version | sed -n 's/^etcdctl version: /etcdctl /p'
    "$tools/bin/etcd" --version | sed -n 's/^etcd Version: /etcd /p'
}

# Complete means: this very list of packages was unpacked, and what it brought still starts.
wanted="$SUITE ${PACKAGES[*]}"
if [[ -f $stamp && $(cat "$stamp") == "$wanted" ]] && found=$(versions); then
    echo "$found"
    exit 0
fi

for program in apt-get dpkg dpkg-deb; do
    command -v "$program" >/dev/null || fail "$program is missing: this needs Debian or a derivative of it"
done

mirror() {
    if [[ -n ${PLINTH_APT_MIRROR:-} ]]; then
        echo "$PLINTH_APT_MIRROR"
        return
    fi
    # The suite of this release itself is on every mirror's main archive; security archives have no newer suites.
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' "Created-By: Packages" |
        awk -v name="$codename" '$1 == name && $2 == "main" { print $3; exit }'
}

uri=$(mirror)
[[ -n $uri ]] || fail "apt's sources name no Debian mirror with the component main (set PLINTH_APT_MIRROR)"

mkdir -p "$tools"
work=$(mktemp -d "$tools/apt.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,debs,sources.list.d,root}
: >"$work/status"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=
[[ -f $keyring ]] && signed="[signed-by=$keyring] "
echo "deb ${signed}${uri} $SUITE main" >"$work/sources.list"

# The machine's own settings for proxies and credentials stay in force; its sources, state and cache are not touched.
apt() {
    apt-get -qq \
        -o Dir::Etc::sourcelist="$work/sources.list" \
        -o Dir::Etc::sourceparts="$work/sources.list.d" \
        -o Dir::Etc::preferencesparts="$work/sources.list.d" \
        -o Dir::State="$work" \
        -o Dir::State::lists="$work/lists" \
        -o Dir::State::status="$work/status" \
        -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root \
        -o Acquire::Languages=none \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o Acquire::Retries=3 \
        "$@"
}

echo "fetching ${PACKAGES[*]} of Debian $SUITE" >&2
apt update >"$work/log" 2>&1 || fail "the package lists of Debian $SUITE cannot be fetched:
$(tail -n 5 "$work/log")"
# apt-get update also succeeds with old or no lists; asking for a package shows whether there are any.
(cd "$work/debs" && apt download "${PACKAGES[@]}") >"$work/log" 2>&1 || fail "the packages cannot be fetched:
$(tail -n 5 "$work/log")"

for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/root"
done

mkdir -p "$tools/bin"
for name in kubectl etcd etcdctl etcdutl; do
    source=$(find "$work/root" -type f -name "$name" -perm -u+x | head -n 1)
    if [[ -z $source ]]; then
        [[ $name == etcdutl ]] && continue
        fail "the packages of $SUITE hold no program $name"
    fi
    mv -f "$source" "$tools/bin/$name"
done

found=$(versions) || fail "a program does not start on this machine: $(for p in kubectl etcdctl etcd; do
    "$tools/bin/$p" --help 2>&1 | head -n 1
done)"
[[ $found == *"kubectl v$KUBECTL_WANTED."* ]] || fail "kubectl $KUBECTL_WANTED is wanted, but $SUITE has: $found"
echo "$wanted" >"$stamp"
echo "$found"
