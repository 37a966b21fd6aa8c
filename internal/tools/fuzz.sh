#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Run every fuzz test for a while: fuzz.sh TIME, as 10m. GO names the go to use.
set -euo pipefail

time=$1
go=${GO:-go}
bad=0
while IFS=: read -r file name; do
	pkg=./$(dirname "$file")
	printf 'fuzz %s %s for %s\n' "$pkg" "$name" "$time"
	"$go" test "$pkg" -run '^$' -fuzz "^$name\$" -fuzztime "$time" >/tmp/fuzz.$$ 2>&1 ||
		{ bad=$((bad + 1)); cat /tmp/fuzz.$$; }
done < <(grep -roHE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' internal nss pam 2>/dev/null | sed 's/:func /:/')
rm -f /tmp/fuzz.$$
printf 'fuzz: %d targets failed\n' "$bad"
[ "$bad" = 0 ]
