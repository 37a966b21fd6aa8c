# SPDX-License-Identifier: Apache-2.0
#
# One phase of building a lab base, read from stdin: sh -eu -s ROOT PHASE ARGS.
# It runs in mount, pid, uts and ipc namespaces of its own.
#
#   unpack SUITE MIRROR KEYRING   a minimal Debian
#   install PACKAGES...           everything else, with no service started
#   bare                          take back what the packages switched on

root=$1 phase=$2
shift 2
mount --make-rprivate /
hostname base
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

inside() {
	mountpoint -q "$root/proc" || {
		mount -t proc proc "$root/proc"
		mount -t sysfs -o ro sysfs "$root/sys"
		mount -t tmpfs tmpfs "$root/run"
		mkdir -p "$root/run/lock"
		mountpoint -q "$root/dev" || mount --rbind /dev "$root/dev"
	}
	chroot "$root" "$@" </dev/null
}

case $phase in
unpack)
	debootstrap --variant=minbase --include=ca-certificates,gpgv --keyring="$3" "$1" "$root" "$2" </dev/null
	# No maintainer script ever starts a service here, nor in a box.
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	;;
install)
	inside apt-get -q update
	inside apt-get -q -y --no-install-recommends -o APT::Sandbox::User=root install "$@"
	;;
bare)
	# Peers are installed but not in use: names and sign-ins are local files.
	sed -i -E '/^(passwd|group|shadow|gshadow|initgroups|netgroup|services):/{s/ (sss|winbind|systemd)\b//g;s/ \[[^]]*\]//g};/^(sudoers|automount):/d' "$root/etc/nsswitch.conf"
	inside pam-auth-update --package --disable sss winbind krb5 mkhomedir
	# A bare NAS knows no realm, and carries no identity of the machine that built it.
	rm -rf "$root/etc/krb5.conf.d"
	rm -f "$root/etc/krb5.conf" "$root/etc/krb5.keytab" "$root/etc/apt/apt.conf.d/00lab" "$root/etc/apt/auth.conf" \
		"$root"/etc/apt/keyrings/lab-* "$root/etc/apt/sources.list"
	: >"$root/etc/resolv.conf"
	: >"$root/etc/machine-id"
	printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
		"$root"/var/lib/samba/private/* "$root"/var/log/*.log "$root"/usr/share/doc/*
	;;
esac
