// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// One join, and a person is found by every key; without a domain controller and
// after a restart as well; and everything is gone after a leave.
func TestGround(t *testing.T) {
	s := begin(t, lab.Population{Users: 200, Groups: 40})
	if st := s.status(); st.Health != "not_joined" {
		t.Errorf("before the join: %+v", st)
	}
	s.cli(1, "status")
	s.cli(1, "user", "get", "user00001") // nobody knows yet, which is not "not found"
	s.cli(4, "sync")

	if r, err := s.nas.Join(s.ctx, s.domain, "--people", "cloud-only"); err != nil || !r.Ok() {
		t.Fatalf("join: %v\n%s", err, r)
	}
	st := s.status()
	if st.Health != "serving" || !st.Complete || st.Domain != s.domain.DNS || st.Computer != "NAS1$" || st.DC != s.domain.DC.FQDN() ||
		st.Users < 200 || st.Groups < 40 || st.People != "cloud_only" || st.Key == 0 || len(st.Problems) > 0 {
		t.Errorf("after the join: %+v", st)
	}
	s.cli(0, "status")

	who, err := s.domain.Find(s.ctx, "user00001")
	if err != nil {
		t.Fatal(err)
	}
	rid, _ := who.SID.RID()
	want := user{Username: "user00001", UID: 100000001 + rid, GID: 100000001 + 513, SID: who.SID.String(), OID: who.OID, UPN: "user00001@contoso.test",
		Home: "/home/" + s.domain.NetBIOS + "/user00001", Shell: "/bin/bash"}
	first := ""
	for _, key := range []string{"user00001", "USER00001", s.domain.NetBIOS + `\user00001`, "user00001@contoso.test", "User00001@" + strings.ToUpper(s.domain.DNS),
		strconv.Itoa(int(want.UID)), who.SID.String(), who.OID, who.GUID.String()} {
		var got user
		if err := s.nas.JSON(s.ctx, &got, "user", "get", key); err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if first == "" {
			first = got.Name
		}
		if want.Name = first; got != want {
			t.Errorf("%s: got %+v, want %+v", key, got, want)
		}
	}
	s.cli(3, "user", "get", "nobody.here")
	s.cli(3, "user", "get", "S-1-5-21-9-9-9-9999")
	s.cli(0, "group", "get", "everyone-big")
	s.cli(0, "group", "check", "user00001", "everyone-big", "domain users")
	if r := s.cli(0, "group", "members", "everyone-big"); strings.Count(r.Stdout, "\n") != 201 {
		t.Errorf("members of everyone-big: got %d lines, want a heading and 200", strings.Count(r.Stdout, "\n"))
	}
	if r := s.cli(0, "user", "list"); strings.Count(r.Stdout, "\n") < 201 {
		t.Errorf("user list: got %d lines", strings.Count(r.Stdout, "\n"))
	}

	// A change arrives with a sync, or by itself.
	if _, err := s.domain.AddUser(s.ctx, lab.User{Name: "new.person", Display: "New Person", OID: "0b0b0b0b-1111-2222-3333-444444444444"}); err != nil {
		t.Fatal(err)
	}
	s.cli(0, "sync")
	s.cli(0, "user", "get", "new.person")

	// Root's files for the rest of the machine, and root's copy of the keys.
	s.sh("grep -q " + s.domain.Realm() + " /etc/krb5.conf.d/latchkey.conf")
	s.sh("KRB5_KTNAME=/etc/krb5.keytab klist -k | grep -q 'host/nas1." + s.domain.DNS + "'")
	if owner := s.sh("stat -c '%U %a' /var/lib/latchkey/latchkey.db /var/lib/latchkey/krb5.keytab /etc/krb5.keytab | tr '\\n' ' '"); owner != "latchkey 600 latchkey 600 root 600" {
		t.Errorf("owners and modes: %s", owner)
	}

	// Without a domain controller everything known stays known.
	if err := s.domain.DC.Stop(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.cli(1, "sync")
	s.cli(0, "user", "get", "user00002")
	s.waitFor("status says that the domain controller is gone", func() bool { return s.status().Health == "degraded" })
	s.cli(0, "status")
	if err := s.domain.DC.Start(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.waitFor("the domain controller is back", func() bool { return s.status().Health == "serving" })

	// Leave as the user who joined: the account goes, and what was written to /etc.
	leave := s.nas.Command("/usr/bin/latchkey", "leave", "--user", lab.JoinUser, "--password-stdin")
	leave.Stdin = strings.NewReader(lab.JoinPassword + "\n")
	if r, err := leave.Run(s.ctx); err != nil || !r.Ok() {
		t.Errorf("leave: %v\n%s", err, r)
	}
	s.cli(1, "status")
	s.sh("! test -e /etc/krb5.conf.d/latchkey.conf && ! test -e /etc/krb5.keytab && ! test -e /var/lib/latchkey-nss/identities")
	if _, err := s.domain.Find(s.ctx, "NAS1$"); err == nil {
		t.Error("the computer account is left behind")
	}

	// Another join: everybody has the number they had.
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	var again user
	if err := s.nas.JSON(s.ctx, &again, "user", "get", "user00001"); err != nil || again.UID != want.UID || again.Name != first {
		t.Errorf("after leave and join: got %+v %v, want the row of before", again, err)
	}
}

// What an administrator can do wrong, each with its own word and status.
func TestJoinFailures(t *testing.T) {
	s := begin(t, lab.Population{Users: 10, Groups: 2})
	join := func(password string, args ...string) *lab.Result {
		t.Helper()
		c := s.nas.Command(append([]string{"/usr/bin/latchkey", "join", "--password-stdin"}, args...)...)
		c.Stdin = strings.NewReader(password + "\n")
		r, err := c.Run(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	dns := "--dns=" + s.domain.DC.IP()
	for _, test := range []struct {
		name, password string
		args           []string
		exit           int
		word           string
	}{
		{"wrong password", "wrong", []string{s.domain.DNS, dns, "--user", lab.JoinUser}, 4, "password"},
		{"no such user", "x", []string{s.domain.DNS, dns, "--user", "nobody.here"}, 3, "nobody.here"},
		{"no such OU", lab.JoinPassword, []string{s.domain.DNS, dns, "--user", lab.JoinUser, "--ou", "OU=Nowhere," + s.domain.BaseDN()}, 3, "Nowhere"},
		{"long host name", lab.JoinPassword, []string{s.domain.DNS, dns, "--user", lab.JoinUser, "--hostname", "a234567890123456"}, 2, "15"},
		{"no such domain", lab.JoinPassword, []string{"nowhere.contoso.test", dns, "--user", lab.JoinUser}, 3, "nowhere.contoso.test"},
		{"no DNS", lab.JoinPassword, []string{s.domain.DNS, "--dns=10.77.0.250", "--user", lab.JoinUser}, 1, "10.77.0.250"},
	} {
		r := join(test.password, test.args...)
		if r.Exit != test.exit || !strings.Contains(r.Stderr, test.word) || !strings.HasPrefix(r.Stderr, "latchkey: ") {
			t.Errorf("%s: exit status %d, want %d and a word of %q\n%s", test.name, r.Exit, test.exit, test.word, r)
		}
	}
	if st := s.status(); st.Health != "not_joined" {
		t.Errorf("after failed joins: %+v", st)
	}
	s.cli(0, "join", s.domain.DNS, "--check", "--dns", s.domain.DC.IP())
}
