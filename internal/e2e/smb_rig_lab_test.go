// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

// smbStory is a story with a real smbd on the NAS and a client on another box.
type smbStory struct {
	*story
	server *smb.Server
	client *smb.Client
}

// suites are the Debian releases whose Samba is tried; "" is the lab's own.
func suites() []string {
	if os.Getenv("LATCHKEY_NIGHTLY") != "" {
		return []string{"", "trixie"}
	}
	return []string{""}
}

// beginSMB joins, enables Samba and serves the shares. people are made first.
func beginSMB(t *testing.T, suite string, population lab.Population, shares string, people func(*story)) *smbStory {
	t.Helper()
	s := &smbStory{story: beginOn(t, lab.DomainOptions{Population: population}, lab.BoxOptions{Suite: suite})}
	if people != nil {
		people(s.story)
	}
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	s.try(s.nas.UseNSS(s.ctx))
	s.serve(shares)
	return s
}

// serve enables Samba on the NAS and connects a client.
func (s *smbStory) serve(shares string) {
	s.t.Helper()
	var err error
	s.server, err = s.nas.ServeSMB(s.ctx, s.domain, shares)
	s.try(err)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			for _, file := range []string{"/var/log/latchkey/audit.jsonl", smb.Log + "/log.smbd", smb.Log + "/log.client"} {
				text, _ := s.nas.Output(context.WithoutCancel(s.ctx), "tail", "-n", "40", file)
				s.t.Logf("%s:\n%s", file, text)
			}
		}
	})
	box := s.domain.StartBox(s.t, "client", lab.BoxOptions{UseDNS: true, Krb5Conf: true})
	s.client, err = smb.Connect(s.ctx, box, s.server, s.domain)
	s.try(err)
}

// person is one of the numbered people, by password or by ticket.
func person(n int, ticket bool) smb.Who {
	return smb.Who{Name: lab.UserName(n), Password: lab.UserPassword(n), Ticket: ticket}
}

// kinit gets tickets for people.
func (s *smbStory) kinit(numbers ...int) {
	s.t.Helper()
	for _, n := range numbers {
		s.try(s.client.Kinit(s.ctx, lab.UserName(n), lab.UserPassword(n)))
	}
}

// use runs commands of smbclient, which have to end well, or to fail with the
// word in what is printed.
func (s *smbStory) use(w smb.Who, share, commands, word string, more ...string) string {
	s.t.Helper()
	r, err := s.client.Do(s.ctx, w, share, commands, more...)
	s.try(err)
	out := r.Stdout + r.Stderr
	how := "by password"
	if w.Ticket {
		how = "by ticket"
	}
	if word == "" && (!r.Ok() || strings.Contains(out, "NT_STATUS_")) || word != "" && !strings.Contains(out, word) {
		s.t.Errorf("%s %s on %s, %q: want %q\n%s", w.Name, how, share, commands, word, r)
	}
	return out
}

// owner returns "uid gid user group" of a file on the NAS.
func (s *smbStory) owner(file string) string {
	s.t.Helper()
	return s.sh("stat -c '%u %g %U %G' '" + file + "'")
}

// both are the two ways to sign in.
var both = []bool{false, true}

func (s *smbStory) audit(filter string) string {
	s.t.Helper()
	return s.sh("grep -c '" + filter + "' /var/log/latchkey/audit.jsonl || true")
}

// groups makes so many groups with that one member.
func (s *story) groups(prefix, member string, n int) {
	s.t.Helper()
	who, err := s.domain.Find(s.ctx, member)
	s.try(err)
	all := make([]lab.Group, n)
	for i := range all {
		all[i] = lab.Group{Name: fmt.Sprintf("%s%04d", prefix, i), Members: []string{who.DN}}
	}
	s.try(s.domain.AddGroups(s.ctx, all))
}
