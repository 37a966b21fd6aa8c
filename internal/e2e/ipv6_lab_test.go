// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// A machine that has IPv6 and nothing else joins, knows people, signs them in by
// password and NTLM, and serves the web; whether it was told the domain controller
// or a name server.
func TestIPv6Only(t *testing.T) {
	s := begin(t, lab.Population{Users: 3, Groups: 1})
	const dc, own = "fd00:77::10", "fd00:77::20"
	r, err := s.domain.DC.Run(s.ctx, "ip", "-6", "addr", "add", dc+"/64", "dev", "eth0", "nodad")
	if err != nil || !r.Ok() {
		t.Fatalf("an address for the domain controller: %v\n%s", err, r)
	}
	s.try(s.domain.DC.Restart(s.ctx)) // Samba listens on the addresses that it finds at its start
	r, err = s.domain.DC.Run(s.ctx, "samba-tool", "dns", "add", "127.0.0.1", s.domain.DNS, "dc1", "AAAA", dc, "-U", lab.AdminUser+"%"+lab.AdminPassword)
	if err != nil || !r.Ok() {
		t.Fatalf("the name of the domain controller: %v\n%s", err, r)
	}
	s.sh("ip -6 addr add " + own + "/64 dev eth0 nodad && ip -4 addr flush dev eth0")
	for _, where := range []string{"--dc [" + dc + "]", "--dns " + dc} {
		join := s.nas.Command(append([]string{"/usr/bin/latchkey", "join", s.domain.DNS, "--user", lab.JoinUser, "--password-stdin"}, strings.Fields(where)...)...)
		join.Stdin = strings.NewReader(lab.JoinPassword + "\n")
		if r, err := join.Run(s.ctx); err != nil || !r.Ok() {
			t.Fatalf("join %s: %v\n%s", where, err, r)
		}
		s.try(s.nas.WaitMirror(s.ctx))
		s.try(s.nas.UseNSS(s.ctx))
		if got := s.sh("id -un user00001"); got != "user00001" {
			t.Errorf("%s: id says %q", where, got)
		}
		s.cli(0, "access", "allow", "sshd", "user00001")
		s.login(0, "user00001", lab.UserPassword(1))
		if r := s.cli(0, "doctor"); strings.Contains(r.Stdout, "✗") || strings.Contains(r.Stdout, "no route") || !strings.Contains(r.Stdout, own) {
			t.Errorf("%s: doctor:\n%s", where, r.Stdout)
		}
		if where[:4] == "--dc" {
			s.cli(0, "samba", "enable")
			s.sh("wbinfo -a 'user00001%" + lab.UserPassword(1) + "'")
			s.cli(0, "samba", "disable")
			s.cli(0, "leave", "--keep-account")
		}
	}
	for listen, at := range map[string]string{"[::]:8443": "[" + own + "]:8443", "[::1]:9443": "[::1]:9443"} {
		s.cli(0, "config", "set", "web.listen", listen)
		s.waitFor("the web on "+listen, func() bool {
			r, err := s.nas.Run(s.ctx, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://"+at+"/")
			return err == nil && r.Stdout == "303"
		})
	}
}
