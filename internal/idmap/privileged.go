// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"strings"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// shipped are names that mean privilege on some machine, if not on this one: a
// rule in sudoers, polkit or an application that names them must never meet a
// namesake from the domain. base-passwd of Debian 12 and its usual packages,
// the NAS makers' administrators, and ours.
const shipped = `
root toor daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats _apt nobody nogroup
adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users
wheel admin admins sudoers ssh _ssh sshd sshusers ssh-users
input sgx kvm render crontab netdev bluetooth lpadmin sambashare scanner pulse pulse-access avahi rtkit colord saned geoclue
systemd systemd-journal systemd-network systemd-resolve systemd-timesync systemd-coredump systemd-oom systemd-bus-proxy
messagebus polkitd polkituser dnsmasq ntp ntpsec chrony statd rpc _rpc rpcuser uuidd tcpdump tss usbmux
docker podman lxd lxc incus incus-admin libvirt libvirtd libvirt-qemu libvirt-dnsmasq kubernetes containerd microk8s
vboxusers vboxsf wireshark fuse nvram mysql mariadb postgres redis mongodb nginx apache httpd postfix postdrop dovecot dovenull exim debian-exim
ftp ftpd nfs nfsnobody smbd samba winbindd_priv ntlmaudit sssd realmd krb5 kadmin
latchkey latchkey-admin latchkey-login
truenas_admin builtin_administrators builtin_users builtin_guests
superuser sysadmin sysop halt shutdown reboot rfkill
_ldap openldap nslcd nscd named bind unbound pdns cups cupsd ceph gluster lxcfs nixbld
`

// Privileged returns the shipped names and the given ones, folded.
func Privileged(more ...string) map[string]struct{} {
	words := append(strings.Fields(shipped), more...)
	set := make(map[string]struct{}, len(words))
	for _, w := range words {
		if w != "" {
			set[identity.Fold(w)] = struct{}{}
		}
	}
	return set
}
