// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// TestDomainIsBuiltAnew: an administrator deletes the managed domain and makes
// it again under its old name. Names and numbers go on, sign-ins are refused and
// status says what to do; after a join everybody is who they were, by number and
// by rule, and files with yesterday's SIDs still have an owner.
func TestDomainIsBuiltAnew(t *testing.T) {
	s := begin(t, lab.Population{Users: 30, Groups: 5})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	if err := s.nas.UseNSS(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.cli(0, "access", "allow", "sshd", "user00001")
	var was, is user
	s.try(s.nas.JSON(s.ctx, &was, "user", "get", "user00001"))
	s.waitFor("names", func() bool { r, err := s.nas.Run(s.ctx, "id", "user00001"); return err == nil && r.Ok() })
	before := s.sh("id user00001")

	s.try(s.domain.Rebuild(s.ctx, "rebuilt", lab.Population{Users: 35, Groups: 5}))
	s.sh("ip neigh flush dev eth0") // on this wire the new DC has another MAC; a router would know
	if r := s.cli(1, "sync"); !strings.Contains(r.Stderr, "latchkey join "+s.domain.DNS) {
		t.Errorf("sync does not say what to do: %s", r)
	}
	if got := s.sh("id user00001"); got != before {
		t.Errorf("while this machine is in no domain: %s, want %s", got, before)
	}
	if r := s.cli(0, "status"); !strings.Contains(r.Stdout, "latchkey join "+s.domain.DNS) {
		t.Errorf("status does not say what to do:\n%s", r.Stdout)
	}
	// That this machine is refused is nobody else's end.
	if r := s.password("user00001", lab.UserPassword(1), "sshd"); r.Ok() {
		t.Errorf("somebody came in whom nobody vouched for: %s", r)
	}
	if r := s.cli(0, "user", "get", "user00001"); strings.Contains(r.Stdout, "missing") {
		t.Errorf("the mirror took it for an answer:\n%s", r.Stdout)
	}

	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.try(s.nas.JSON(s.ctx, &is, "user", "get", "user00001"))
	if is.UID != was.UID || is.GID != was.GID || is.OID != was.OID || is.SID == was.SID {
		t.Errorf("user00001 is %+v and was %+v", is, was)
	}
	s.waitFor("the names of the new domain", func() bool { r, err := s.nas.Run(s.ctx, "id", "user00034"); return err == nil && r.Ok() })
	if b, a := strings.Fields(before)[:2], strings.Fields(s.sh("id user00001"))[:2]; !slices.Equal(a, b) { // groups are drawn anew
		t.Errorf("after the join: %v, want %v", a, b)
	}
	var old user
	s.try(s.nas.JSON(s.ctx, &old, "user", "get", was.SID))
	if old.UID != was.UID {
		t.Errorf("the SID of before is %+v", old)
	}
	if r := s.password("user00001", lab.UserPassword(1), "sshd"); !r.Ok() {
		t.Errorf("the rule of before: %s", r)
	}
	if r := s.password("user00034", lab.UserPassword(34), "sshd"); r.Ok() {
		t.Errorf("somebody without a rule: %s", r)
	}
}

// password tries a sign-in by `latchkey login`.
func (s *story) password(name, password, service string) *lab.Result {
	s.t.Helper()
	c := s.nas.Command("/usr/bin/latchkey", "login", name, "--service", service, "--password-stdin")
	c.Stdin = strings.NewReader(password + "\n")
	r, err := c.Run(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}
