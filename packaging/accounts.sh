#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Make the accounts of sysusers.conf where systemd-sysusers is not there to do
# it. Run by `make install` on a live system and by the package; safe to repeat.
set -eu

if command -v systemd-sysusers >/dev/null && [ -e /usr/lib/sysusers.d/latchkey.conf ]; then
	exec systemd-sysusers /usr/lib/sysusers.d/latchkey.conf
fi
for group in latchkey latchkey-admin latchkey-login winbindd_priv; do
	grep -q "^$group:" /etc/group || groupadd --system "$group"
done
grep -q '^latchkey:' /etc/passwd ||
	useradd --system --gid latchkey --home-dir /var/lib/latchkey --no-create-home \
		--shell /usr/sbin/nologin --comment 'latchkey identity service' latchkey
