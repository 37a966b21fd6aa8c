# SPDX-License-Identifier: Apache-2.0
#
# Builds a layer over a base, read from stdin: sh -eu -s BASE DIR [PACKAGE...].
# It runs in mount, pid, uts and ipc namespaces of its own.
#
# DIR/upper is what the layer adds; it may hold files already. With
# DIR/upper/opt/latchkey-lab/package-lock.json, npm installs what that names.

base=$1 dir=$2
shift 2
mount --make-rprivate /
hostname layer
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
root=$dir/root
mkdir "$dir/work" "$root"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/lock"
mount --rbind /dev "$root/dev"
inside() { chroot "$root" "$@" </dev/null; }

inside apt-get -q update
inside apt-get -q -y --no-install-recommends -o APT::Sandbox::User=root install "$@"
if [ -e "$root/opt/latchkey-lab/package-lock.json" ]; then
	inside env HOME=/root NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
		npm --prefix /opt/latchkey-lab --cache /run/npm --no-audit --no-fund --no-update-notifier --ignore-scripts ci
fi
umount -R "$root/dev" "$root/run" "$root/sys" "$root/proc"
umount "$root"

# How the packages came is the affair of the machine that built this.
upper=$dir/upper
rm -rf "$upper/var/lib/apt/lists" "$upper/var/cache/apt" "$upper/etc/apt" "$upper/root/.npmrc" "$upper/root/.npm" \
	"$upper/usr/share/doc" "$upper/etc/resolv.conf" "$upper/etc/hosts" "$upper/etc/ssl/certs/ca-certificates.crt" "$dir/work" "$root"
# The base's own home of root, and its mode, show through.
rmdir --ignore-fail-on-non-empty "$upper/root" 2>/dev/null || true
