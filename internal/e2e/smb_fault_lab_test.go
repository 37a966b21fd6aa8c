// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

const faultShares = `[data]
   path = /srv/data
   read only = no
   vfs objects = acl_xattr
`

// The daemon is killed again and again while people sign in and make files in a
// folder whose ACL is inherited: everybody gets in, and no entry is lost.
func TestSMBWhileTheDaemonIsKilled(t *testing.T) {
	s := beginSMB(t, "", lab.Population{Users: 40, Groups: 20}, faultShares, nil)
	s.kinit(1)
	s.sh(`install -d -m 0777 /srv/data /srv/data/d && chmod 1777 /srv/data &&
		setfacl -d -m u:user00003:r-x,g:group0007:rwx /srv/data/d && setfacl -m u:user00003:r-x,g:group0007:rwx /srv/data/d`)
	killer := s.nas.Command("sh", "-c", `while :; do pkill -9 -f '^latchkeyd worker'; sleep 0.4; done`)
	p, err := killer.Start(s.ctx)
	s.try(err)
	for i := range 100 {
		s.use(person(1, i%2 == 1), "data", fmt.Sprintf("cd d; put /etc/hostname f%03d", i), "")
	}
	s.try(p.Kill())
	_, _ = p.Wait()
	s.waitFor("the next worker", func() bool { return s.status().Health == "serving" })
	if n := s.status().Restarts; n < 5 {
		t.Errorf("the daemon was killed %d times only", n)
	}
	if got := s.sh(`cd /srv/data/d && for f in f*; do getfacl -p $f; done | grep -c -e '^user:user00003:' -e '^group:group0007:'`); got != "200" {
		t.Errorf("%s entries of 200 are left in the ACLs", got)
	}
	if got := s.sh(`cd /srv/data/d && stat -c %U * | sort | uniq -c | xargs`); got != "100 user00001" {
		t.Errorf("owners: %s", got)
	}
}

// Domain controllers stop, come back and stand in for each other; the machine's
// key changes while people work.
func TestSMBFaults(t *testing.T) {
	ctx := t.Context()
	s := &smbStory{story: beginWith(t, lab.DomainOptions{DCs: 2, Population: lab.Population{Users: 40, Groups: 20}})}
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	s.try(s.domain.WaitReplicated(s.ctx)) // a KDC that has not heard of the machine gives no tickets for it
	s.try(s.nas.UseNSS(s.ctx))
	s.serve(faultShares)
	s.sh("install -d -m 1777 /srv/data")
	s.kinit(1, 2, 3)
	for _, ticket := range both {
		s.use(person(1, ticket), "data", "ls", "")
		s.use(person(2, ticket), "data", "ls", "")
	}

	// Sessions that are open when the key changes go on, old tickets and new
	// ones are both taken, and passwords too.
	var sessions []*smb.Session
	for _, ticket := range both {
		session, err := s.client.Open(s.ctx, person(1, ticket), "data", fmt.Sprintf("/tmp/session-%v", ticket))
		s.try(err)
		sessions = append(sessions, session)
	}
	before := s.status().Key
	for range 2 {
		// It is refused while the controllers have not told each other of the
		// change before.
		s.waitFor("the key is changed", func() bool {
			r, err := s.nas.CLI(s.ctx, "machine", "rotate")
			s.try(err)
			return r.Ok()
		})
		s.waitFor("the key is a new one", func() bool { return s.status().Key > before })
		before = s.status().Key
		s.use(person(1, false), "data", "ls", "")
		s.use(person(2, true), "data", "ls", "") // with the ticket of before
		s.try(s.client.Kinit(s.ctx, lab.UserName(3), lab.UserPassword(3)))
		s.use(person(3, true), "data", "ls", "")
		for i, session := range sessions {
			out, err := session.Do(s.ctx, fmt.Sprintf("put /etc/hostname session-%d-%d", i, before))
			if err != nil || strings.Contains(out, "NT_STATUS") {
				t.Errorf("a session that was open at the change: %v\n%s", err, out)
			}
		}
		s.try(s.client.Kinit(s.ctx, lab.UserName(2), lab.UserPassword(2)))
		s.use(person(2, true), "data", "ls", "")
	}
	if got := s.sh("stat -c %U /srv/data/session-* | sort | uniq -c | xargs"); got != "4 user00001" {
		t.Errorf("files of the open sessions: %s", got)
	}
	s.cli(0, "samba", "check")

	// One domain controller of two is enough.
	s.try(s.domain.DCs[0].Kill(ctx))
	s.use(person(1, false), "data", "ls", "")
	s.use(person(1, true), "data", "ls", "")
	s.use(smb.Who{Name: lab.UserName(1), Password: "wrong"}, "data", "ls", "NT_STATUS_LOGON_FAILURE")

	// Without any, tickets that people have are good, and so are open sessions;
	// a password cannot be checked, which is said at once and is no wrong password.
	s.try(s.domain.DCs[1].Kill(ctx))
	s.use(person(1, false), "data", "ls", "NT_STATUS_NO_LOGON_SERVERS")
	s.use(person(1, true), "data", "put /etc/hostname without-any", "")
	for i, session := range sessions {
		if out, err := session.Do(s.ctx, fmt.Sprintf("put /etc/hostname alone-%d", i)); err != nil || strings.Contains(out, "NT_STATUS") {
			t.Errorf("an open session without a domain controller: %v\n%s", err, out)
		}
		s.try(session.Close())
	}

	// They come back.
	s.try(s.domain.DCs[0].Start(ctx))
	s.waitFor("a password is checked again", func() bool {
		r, err := s.client.Do(s.ctx, person(1, false), "data", "ls")
		return err == nil && r.Ok()
	})
}
