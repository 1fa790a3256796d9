#!/bin/sh
# Makes a Debian machine ready to build, test and demonstrate Terrace: installs the packages of ci/packages.txt, or of the
# list beside it that is named, that are missing (as root or through sudo), and checks for a Rust toolchain. Does
# nothing, fast, when all is there.
set -eu
cd "$(dirname "$0")"
list=${1:-packages.txt}
[ -r "$list" ] || {
    echo "setup: there is no ci/$list" >&2
    exit 2
}

if ! command -v cargo >/dev/null; then
    echo "setup: no cargo found. Debian 12's own is too old: install rustup and run this again." >&2
    exit 1
fi

missing=""
for package in $(sed 's/#.*//' "$list"); do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
    if ! command -v sudo >/dev/null; then
        echo "setup: not root, and no sudo. As root: apt-get install$missing" >&2
        exit 1
    fi
fi
echo "setup: installing$missing"

# Some of these packages (redis-server, nginx) would start a service. Debian asks this file first; 101 means no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
install() {
    # shellcheck disable=SC2086  # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}
install >/dev/null 2>&1 || {
    # Package lists that are absent or out of date are the usual reason.
    $as_root apt-get update
    install
}
