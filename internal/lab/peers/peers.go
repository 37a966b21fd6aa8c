// SPDX-License-Identifier: Apache-2.0

// Package peers is a box of the lab with SSSD or with winbindd on it, joined to
// the domain the way their own documents say, so that latchkey is measured
// beside them in one run. It never ships and configures them for nothing but
// what a NAS would use.
package peers

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// A Peer is another identity service on a box.
type Peer struct {
	*lab.Box
	Name    string // "SSSD 2.8.2"
	Service string // in nsswitch.conf: "sss", "winbind"
	daemon  []string
}

// Module is the path of the peer's NSS module in the box.
func (p *Peer) Module() string {
	return "/lib/x86_64-linux-gnu/libnss_" + p.Service + ".so.2"
}

// SSSD joins box to the domain with adcli and runs sssd with an empty cache.
// The box must use the domain's DNS and have its krb5.conf. enumerate makes it
// list everybody.
func SSSD(ctx context.Context, box *lab.Box, d *lab.Domain, enumerate bool) (*Peer, error) {
	p := &Peer{Box: box, Service: "sss", daemon: []string{"sssd", "-i"}}
	join := box.Command("adcli", "join", "--domain="+d.DNS, "-U", lab.AdminUser, "--stdin-password",
		"--host-fqdn="+box.Hostname()+"."+d.DNS)
	join.Stdin = strings.NewReader(lab.AdminPassword)
	if _, err := join.Output(ctx); err != nil {
		return nil, fmt.Errorf("join for SSSD: %w", err)
	}
	conf := fmt.Sprintf(`[sssd]
services = nss, pam
domains = %[1]s
[domain/%[1]s]
id_provider = ad
ad_domain = %[1]s
ad_server = %[2]s
krb5_realm = %[3]s
cache_credentials = true
ldap_id_mapping = true
use_fully_qualified_names = false
dyndns_update = false
enumerate = %[4]v
fallback_homedir = /home/%%u
`, d.DNS, d.DC.FQDN(), d.Realm(), enumerate)
	if err := box.WriteFile(ctx, "/etc/sssd/sssd.conf", []byte(conf), 0o600); err != nil {
		return nil, err
	}
	version, err := box.Output(ctx, "sssd", "--version")
	if err != nil {
		return nil, err
	}
	p.Name = "SSSD " + version
	return p, p.start(ctx)
}

// Winbind joins box with `net ads join` and runs winbindd with the rid backend.
func Winbind(ctx context.Context, box *lab.Box, d *lab.Domain, enumerate bool) (*Peer, error) {
	p := &Peer{Box: box, Service: "winbind", daemon: []string{"winbindd", "-D"}}
	conf := fmt.Sprintf(`[global]
security = ads
realm = %s
workgroup = %s
kerberos method = secrets and keytab
idmap config * : backend = tdb
idmap config * : range = 900000-999999
idmap config %[2]s : backend = rid
idmap config %[2]s : range = 2000000-2999999
winbind use default domain = yes
winbind offline logon = yes
winbind enum users = %[3]s
winbind enum groups = %[3]s
winbind expand groups = 1
template homedir = /home/%%U
template shell = /bin/bash
`, d.Realm(), d.NetBIOS, map[bool]string{true: "yes", false: "no"}[enumerate])
	if err := box.WriteFile(ctx, "/etc/samba/smb.conf", []byte(conf), 0o644); err != nil {
		return nil, err
	}
	join := box.Command("net", "ads", "join", "--no-dns-updates", "-U", lab.AdminUser)
	join.Stdin = strings.NewReader(lab.AdminPassword + "\n")
	join.Env = []string{"PASSWD=" + lab.AdminPassword} // the lab's password is no secret
	if _, err := join.Output(ctx); err != nil {
		return nil, fmt.Errorf("join for winbindd: %w", err)
	}
	version, err := box.Output(ctx, "winbindd", "--version")
	if err != nil {
		return nil, err
	}
	p.Name = "winbindd " + strings.TrimPrefix(version, "Version ")
	return p, p.start(ctx)
}

func (p *Peer) start(ctx context.Context) error {
	if _, err := p.Output(ctx, "sed", "-i", "-E", `s/^(passwd|group):.*/\1: files `+p.Service+`/; /^initgroups/d`, "/etc/nsswitch.conf"); err != nil {
		return err
	}
	return p.StartDaemon(ctx)
}

// StartDaemon runs the peer's daemon and waits until it knows somebody.
func (p *Peer) StartDaemon(ctx context.Context) error {
	c := p.Command(p.daemon...)
	c.Log, c.Detach = "/var/log/"+p.Service+".out", true
	if _, err := c.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		if r, err := p.Run(ctx, "getent", "passwd", lab.JoinUser); err == nil && r.Ok() {
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := p.ReadFile(context.WithoutCancel(ctx), "/var/log/"+p.Service+".out")
			return fmt.Errorf("%s does not answer: %s", p.Name, log)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Boot makes the state of a box that was just booted for the first time: joined,
// with nothing cached, the daemon started. It returns as soon as the daemon
// knows somebody else than those a test will ask for.
func (p *Peer) Boot(ctx context.Context) error {
	if err := p.Reboot(ctx); err != nil {
		return err
	}
	caches := "rm -rf /var/lib/sss/db/* /var/lib/sss/mc/* /var/lib/samba/winbindd_cache.tdb /var/cache/samba/*.tdb; mkdir -p /run/samba"
	if _, err := p.Output(ctx, "sh", "-c", caches); err != nil {
		return err
	}
	return p.StartDaemon(ctx)
}
