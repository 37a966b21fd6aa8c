// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/peers"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

const oldShares = `[data]
   path = /srv/data
   read only = no
`

// oldNAS is a box that winbindd has served so far, with its smbd running and its
// cache of ids filled.
func oldNAS(t *testing.T, name string) *smbStory {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	s := &smbStory{story: &story{t: t, ctx: ctx, domain: lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 40, Groups: 20}})}}
	box := s.domain.StartBox(t, name, lab.BoxOptions{UseDNS: true, Krb5Conf: true})
	s.story.nas = nas.Attach(box)
	if _, err := peers.Winbind(ctx, box, s.domain, false); err != nil {
		t.Fatal(err)
	}
	s.sh("printf '" + strings.ReplaceAll(oldShares, "\n", `\n`) + "' >>/etc/samba/smb.conf; install -d -m 1777 /srv/data")
	var err error
	s.server, err = smb.Serve(ctx, box, box.Hostname()+"."+s.domain.DNS)
	s.try(err)
	client := s.domain.StartBox(t, "client", lab.BoxOptions{UseDNS: true, Krb5Conf: true})
	s.client, err = smb.Connect(ctx, client, s.server, s.domain)
	s.try(err)
	s.kinit(1)
	for _, ticket := range both {
		s.use(person(1, ticket), "data", fmt.Sprintf("put /etc/hostname old-%v", ticket), "")
	}
	return s
}

// install puts latchkey on the box and joins; more goes to the command line.
func (s *smbStory) install(more ...string) {
	s.t.Helper()
	var err error
	s.story.nas, err = nas.Install(s.ctx, s.nas.Box)
	s.try(err)
	s.try(s.nas.Start(s.ctx, false))
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("the daemon's log:\n%s", s.log())
		}
	})
	join := s.nas.Command(append([]string{"/usr/bin/latchkey", "join", s.domain.DNS, "--user", lab.AdminUser, "--password-stdin", "--dns", s.domain.DC.IP()}, more...)...)
	join.Stdin = strings.NewReader(lab.AdminPassword + "\n")
	r, err := join.Run(s.ctx)
	s.try(err)
	if !r.Ok() {
		s.t.Fatalf("join: %s", r)
	}
	s.try(s.nas.WaitMirror(s.ctx))
}

// A box that winbindd has served: its secrets, its SIDs and its cache of ids, in
// which everybody has another number, are taken over, and given back.
func TestSMBTakeover(t *testing.T) {
	s := oldNAS(t, "oldnas")
	old := s.owner("/srv/data/old-false")
	// As where latchkey is given the range that winbindd had: the two overlap.
	s.sh("sed -i 's/range = 2000000-2999999/range = 2000000-200000000/' /etc/samba/smb.conf")
	before := s.sh("cat /etc/samba/smb.conf")
	if !strings.HasPrefix(old, "2001") || s.sh("net cache list | grep -c IDMAP/SID2XID") == "0" {
		t.Fatalf("the old winbindd left no numbers of its own: %s", old)
	}
	s.install()
	if r := s.cli(4, "samba", "enable"); !strings.Contains(r.Stderr, "winbindd runs") || !strings.Contains(r.Stderr, "systemctl mask winbind") {
		t.Errorf("while winbindd runs: %s", r)
	}
	if s.sh("cat /etc/samba/smb.conf") != before {
		t.Error("a refusal changed smb.conf")
	}
	s.try(s.server.Stop(s.ctx))
	s.sh("kill $(cat /run/samba/winbindd.pid); for i in $(seq 100); do pgrep -x winbindd >/dev/null || break; sleep 0.05; done; ! pgrep -x winbindd; systemctl mask winbind.service")
	s.try(s.nas.UseNSS(s.ctx))
	s.cli(0, "samba", "enable")
	s.try(s.server.Start(s.ctx))
	s.cli(0, "samba", "check")
	var u user
	s.try(s.nas.JSON(s.ctx, &u, "user", "get", lab.UserName(1)))
	s.try(s.client.Kinit(s.ctx, lab.UserName(1), lab.UserPassword(1)))
	for _, ticket := range both {
		file := fmt.Sprintf("new-%v", ticket)
		s.use(person(1, ticket), "data", "put /etc/hostname "+file, "")
		if got, want := s.owner("/srv/data/"+file), fmt.Sprintf("%d %d user00001 domain users", u.UID, u.GID); got != want {
			t.Errorf("after the takeover %s is owned by %s, want %s", file, got, want)
		}
	}
	// An old entry comes back to the cache, as from a backup of Samba's files:
	// check finds it.
	s.sh("net cache add IDMAP/SID2XID/" + u.SID + " 2001107:U 1h || net cache set IDMAP/SID2XID/" + u.SID + " 2001107:U")
	if r := s.cli(1, "samba", "check"); !strings.Contains(r.Stdout, "net cache flush") {
		t.Errorf("check does not find the old entry: %s", r)
	}
	s.try(s.server.Stop(s.ctx))
	s.cli(0, "samba", "disable")
	if got := s.sh("cat /etc/samba/smb.conf"); got != before {
		t.Errorf("after disable smb.conf is\n%s", got)
	}
}

// Where winbindd has to stay, its idmap backend "nss" over our module gives
// the same numbers.
func TestSMBBesideWinbindd(t *testing.T) {
	s := oldNAS(t, "vendor")
	s.install("--hostname", "vendor-lk")
	s.try(s.server.Stop(s.ctx))
	s.sh("kill $(cat /run/samba/winbindd.pid); for i in $(seq 100); do pgrep -x winbindd >/dev/null || break; sleep 0.05; done; rm -f /var/lib/samba/winbindd_cache.tdb")
	s.try(s.nas.UseNSS(s.ctx))
	s.sh(`sed -i -e '/idmap config AADDSCONTOSO : backend/s/= .*/= nss/' -e '/idmap config AADDSCONTOSO : range/s/= .*/= 100000001-200000000/' /etc/samba/smb.conf; net cache flush`)
	c := s.nas.Command("winbindd", "-D")
	c.Log, c.Detach = "/var/log/winbindd.out", true
	_, err := c.Start(context.WithoutCancel(s.ctx))
	s.try(err)
	var u user
	s.try(s.nas.JSON(s.ctx, &u, "user", "get", lab.UserName(1)))
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := s.nas.Output(context.WithoutCancel(s.ctx), "sh", "-c", "tail -n 30 /var/log/samba/log.w* /var/log/winbindd.out; testparm -s 2>/dev/null | head -30; wbinfo -S "+u.SID+" 2>&1; wbinfo -t 2>&1")
			t.Logf("winbindd:\n%s", text)
		}
	})
	s.sh("for i in $(seq 200); do wbinfo -S " + u.SID + " >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1")
	if got := s.sh("wbinfo -S " + u.SID); got != fmt.Sprint(u.UID) {
		t.Errorf("winbindd says uid %s, latchkey %d", got, u.UID)
	}
	var g struct {
		GID uint32 `json:"gid"`
		SID string `json:"sid"`
	}
	s.try(s.nas.JSON(s.ctx, &g, "group", "get", "group0003"))
	if got := s.sh("wbinfo -Y " + g.SID); got != fmt.Sprint(g.GID) {
		t.Errorf("winbindd says gid %s, latchkey %d", got, g.GID)
	}
	s.try(s.server.Start(s.ctx))
	for _, ticket := range both {
		file := fmt.Sprintf("beside-%v", ticket)
		s.use(person(1, ticket), "data", "put /etc/hostname "+file, "")
		if got, want := s.owner("/srv/data/"+file), fmt.Sprintf("%d %d user00001 domain users", u.UID, u.GID); got != want {
			t.Errorf("%s is owned by %s, want %s", file, got, want)
		}
	}
}
