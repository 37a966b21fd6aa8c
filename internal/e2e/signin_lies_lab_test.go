// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/lab"
)

// impostor answers in the place of a domain controller whose services are gone:
// serve has the connections to ports 88 and 389.
func (s *story) impostor(dc *lab.DC, serve func(net.Conn)) (leave func()) {
	s.t.Helper()
	s.try(dc.Kill(s.ctx))
	var all []net.Listener
	for _, port := range []string{"88", "389"} {
		var l net.Listener
		s.waitFor("port "+port+" is free", func() (free bool) {
			var err error
			l, err = dc.Listen("tcp", net.JoinHostPort(dc.IP(), port))
			return err == nil
		})
		all = append(all, l)
		go func() {
			for {
				conn, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					go serve(conn)
				}
			}
		}()
	}
	return func() {
		for _, l := range all {
			_ = l.Close()
		}
	}
}

// rubbish is what no client of Kerberos or LDAP expects.
func rubbish(conn net.Conn) {
	defer conn.Close()
	_, _ = conn.Read(make([]byte, 4096))
	_, _ = conn.Write([]byte("\x00\x00\x00\x20\x30\x84\xff\xff\xff\xffHTTP/1.1 418 I'm a teapot\r\n"))
}

// Domain controllers that are slow, whose clock is off, that talk rubbish, and one
// that takes every password, at a real sshd: where another one is there nobody
// notices, and where none is, whoever was here before comes in by what is
// remembered, and nobody else.
func TestSignInAtControllersThatLie(t *testing.T) {
	s := beginWith(t, lab.DomainOptions{DCs: 2, Population: lab.Population{Users: 20, Groups: 5}})
	s.openShells()
	s.sh("echo 'root:root password' | chpasswd")
	s.try(s.domain.WaitReplicated(s.ctx))
	right := lab.UserPassword
	s.cli(0, "access", "allow", "sshd", "*")
	one, other := s.domain.DCs[0], s.domain.DCs[1]
	s.in("all is well", "user00001", right(1))
	id := s.sh("id user00001")
	byKerberos := func(what string) {
		t.Helper()
		for i := range 3 {
			s.in(what, lab.UserName(i), right(i))
			if a := s.lastSignIn(); a.How != "kerberos" || a.Outcome != "allowed" {
				t.Errorf("%s: %+v", what, a)
			}
		}
		s.out(what+", a wrong password", "user00009", "not the password")
	}

	s.part("slow", func(t *testing.T) {
		for _, dc := range s.domain.DCs {
			s.try(dc.Delay(s.ctx, 300*time.Millisecond))
		}
		byKerberos("a round trip of 300 ms")
		for _, dc := range s.domain.DCs {
			s.try(dc.Delay(s.ctx, 0))
		}
	})

	s.part("another clock", func(t *testing.T) {
		s.try(one.Skew(s.ctx, 10*time.Minute))
		byKerberos("one is 10 minutes ahead")
		s.try(one.Skew(s.ctx, 0))
	})

	s.part("rubbish", func(t *testing.T) {
		defer s.impostor(one, rubbish)()
		byKerberos("one talks rubbish")
		s.cli(0, "sync")
		defer s.impostor(other, rubbish)()
		s.in("both talk rubbish", "user00001", right(1))
		if a := s.lastSignIn(); a.How != "offline" {
			t.Errorf("both talk rubbish: %+v", a)
		}
		s.out("both talk rubbish, a wrong password", "user00001", "not the password")
		s.out("both talk rubbish, somebody who was never here", "user00012", right(12))
		if got := s.sh("id user00001"); got != id {
			t.Errorf("id says %q, and said %q", got, id)
		}
		s.locals("both talk rubbish")
	})

	s.part("takes every password", func(t *testing.T) {
		const typed = "what the impostor knows"
		forged := krbtest.New(s.domain.Realm())
		for _, name := range []string{"user00013", "user00014"} {
			forged.Add(krbtest.Account{Name: []string{name}, Password: typed})
		}
		host := "nas1." + s.domain.DNS
		forged.Add(krbtest.Account{Name: []string{"NAS1$"}, Password: "guessed", KVNO: 1, Aliases: [][]string{{"host", host}, {"kadmin", "changepw"}}})
		for _, dc := range s.domain.DCs {
			defer s.impostor(dc, forged.Serve)()
		}
		for _, name := range []string{"user00013", "user00014"} {
			s.out("an impostor takes it", name, typed)
			if a := s.lastSignIn(); !strings.Contains(a.Reason, "credential") {
				t.Errorf("%s: %+v", name, a)
			}
		}
		tickets := 0
		for _, r := range forged.Requests() {
			if r.Kind == "TGS" {
				tickets++
			}
		}
		if tickets < 2 {
			t.Errorf("the impostor was asked for %d tickets: it was not believed that far", tickets)
		}
		s.locals("an impostor takes every password")
	})

	for _, dc := range s.domain.DCs {
		s.try(dc.Start(s.ctx))
	}
	s.waitFor("the domain is asked again", func() bool { s.in("back", "user00001", right(1)); return s.lastSignIn().How == "kerberos" })
	s.in("back, somebody who was never here", "user00012", right(12))
	s.nothingIsLeft("root password")
}
