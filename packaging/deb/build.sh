#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Make the Debian package from an installed tree: build.sh TREE VERSION OUT.
set -euo pipefail

tree=$1 out=$3
here=$(dirname "$(readlink -f "$0")")
arch=$(dpkg --print-architecture)
version=$(sed 's/^v//; s/[^0-9A-Za-z.+~]/+/g' <<<"$2")
# Without a tag git says a hash, which may begin with a digit: no version to be
# upgraded from.
[[ $version =~ ^[0-9]+\. ]] || version=0.0.0+$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -a "$tree/." "$work/"
find "$work/usr/share/man" -type f ! -name '*.gz' -exec gzip -9n {} +
install -D -m 0755 "$here/../accounts.sh" "$work/usr/lib/latchkey/accounts"
mkdir -p "$work/DEBIAN"
size=$(du -sk --exclude=DEBIAN "$work" | cut -f1)
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" "$here/control" >"$work/DEBIAN/control"
for script in postinst prerm postrm; do
	install -m 0755 "$here/$script" "$work/DEBIAN/$script"
done
# What an administrator may change stays as it was changed.
find "$work/etc" -type f -printf '/etc/%P\n' >"$work/DEBIAN/conffiles"
(cd "$work" && find etc -type f -printf '/%p\n' | sort) >"$work/DEBIAN/conffiles"
mkdir -p "$out"
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$work" "$out/latchkey_${version}_$arch.deb"
