#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Install the Debian packages that are missing: need.sh PACKAGE...
# Nothing happens, and no root is needed, when all are there.
set -eu

missing=
for p in "$@"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "missing:$missing; run as root: apt-get install$missing" >&2
	exit 1
fi
echo "installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "apt-get could not install$missing; see above" >&2
	exit 1
fi
