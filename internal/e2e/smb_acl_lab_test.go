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

const aclShares = `[posix]
   path = /srv/posix
   read only = no
[win]
   path = /srv/win
   read only = no
   vfs objects = acl_xattr
[winonly]
   path = /srv/winonly
   read only = no
   vfs objects = acl_xattr
   acl_xattr:ignore system acls = yes
`

// ACLs name domain people and groups: those of POSIX, set on the machine, and
// those of Windows, set over the wire; either kind is shown and edited by name
// and decides the same for passwords and tickets.
func TestSMBACL(t *testing.T) {
	for _, suite := range suites() {
		t.Run("suite="+suite, func(t *testing.T) { smbACL(t, suite) })
	}
}

func smbACL(t *testing.T, suite string) {
	s := beginSMB(t, suite, lab.Population{Users: 40, Groups: 40}, aclShares, func(s *story) {
		for _, g := range []lab.Group{{Name: "inside", Members: []string{s.domain.UserDN(lab.UserName(2))}}, {Name: "Design Team"}} {
			_, err := s.domain.AddGroup(s.ctx, g)
			s.try(err)
		}
		s.try(s.domain.AddMembers(s.ctx, "Design Team", "inside"))
	})
	s.kinit(1, 2, 3, 4)
	acl := func(w smb.Who, share, file string, more ...string) string {
		t.Helper()
		r, err := s.client.ACL(s.ctx, w, share, file, more...)
		s.try(err)
		if !r.Ok() {
			t.Errorf("smbcacls %s %s %q as %s: %s", share, file, more, w.Name, r)
		}
		return r.Stdout
	}
	shows := func(what, text string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains(text, line) {
				t.Errorf("%s does not show %q:\n%s", what, line, text)
			}
		}
	}

	// POSIX ACLs, by name: a user, and a group in which people are by way of another.
	s.sh(`install -d -m 0770 -o root -g root /srv/posix /srv/posix/d &&
		setfacl -m u:user00001:rwx,u:user00003:r-x,g:'design team':rwx /srv/posix &&
		setfacl -m u:user00001:rwx,u:user00003:r-x,g:'design team':rwx -d -m u:user00001:rwx,u:user00003:r-x,g:'design team':rwx /srv/posix/d`)
	for _, ticket := range both {
		name := fmt.Sprintf("p-%v", ticket)
		s.use(person(1, ticket), "posix", "cd d; put /etc/hostname "+name, "")
		s.use(person(2, ticket), "posix", "cd d; get "+name+" /dev/null; put /etc/hostname 2"+name, "")
		s.use(person(3, ticket), "posix", "cd d; get "+name+" /dev/null", "")
		s.use(person(3, ticket), "posix", "cd d; put /etc/hostname 3"+name, "NT_STATUS_ACCESS_DENIED")
		s.use(person(4, ticket), "posix", "ls", "NT_STATUS_ACCESS_DENIED")
		shows("getfacl", s.sh("getfacl -p /srv/posix/d/"+name), "# owner: user00001", "user:user00003:", `group:design\040team:`)
		shows("smbcacls", acl(person(1, ticket), "posix", "d/"+name), `OWNER:AADDSCONTOSO\user00001`, `ACL:AADDSCONTOSO\user00003:ALLOWED/`, `ACL:AADDSCONTOSO\design team:ALLOWED/`)
	}

	// Windows ACLs, set over the wire by name.
	s.sh("install -d -m 0770 -o user00001 -g 'domain users' /srv/win /srv/winonly")
	for _, share := range []string{"win", "winonly"} {
		for _, ticket := range both {
			dir := fmt.Sprintf("d-%v", ticket)
			owner := person(1, ticket)
			s.use(owner, share, "mkdir "+dir, "")
			acl(owner, share, dir, "--set", `ACL:AADDSCONTOSO\user00001:ALLOWED/OI|CI/FULL,ACL:AADDSCONTOSO\Design Team:ALLOWED/OI|CI/CHANGE,ACL:AADDSCONTOSO\user00003:ALLOWED/OI|CI/READ`)
			acl(owner, share, dir, "--add", `ACL:AADDSCONTOSO\user00004:ALLOWED/OI|CI/READ`)
			acl(owner, share, dir, "--delete", `ACL:AADDSCONTOSO\user00004:ALLOWED/OI|CI/READ`)
			s.use(owner, share, "cd "+dir+"; put /etc/hostname f", "")
			for _, again := range both { // whoever looks, however they came
				text := acl(person(1, again), share, dir+"/f")
				shows("smbcacls", text, `OWNER:AADDSCONTOSO\user00001`, `ACL:AADDSCONTOSO\design team:ALLOWED/0x0/CHANGE`, `ACL:AADDSCONTOSO\user00003:ALLOWED/0x0/READ`)
				if strings.Contains(text, "user00004") {
					t.Errorf("an entry that was deleted is shown:\n%s", text)
				}
			}
			s.use(person(2, ticket), share, "cd "+dir+"; get f /dev/null; put /etc/hostname g", "")
			s.use(person(3, ticket), share, "cd "+dir+"; get f /dev/null", "")
			s.use(person(3, ticket), share, "cd "+dir+"; put /etc/hostname h", "NT_STATUS_ACCESS_DENIED")
			s.use(person(4, ticket), share, "cd "+dir+"; get f /dev/null", "NT_STATUS_ACCESS_DENIED")
		}
	}
	shows("getfacl", s.sh("getfacl -p /srv/win/d-true/f"), "user:user00003:", `group:design\040team:`)

	// What Windows' editor asks for: SIDs to names and back, also of those whom
	// nobody knows.
	sid := s.domain.SID() + "-" + fmt.Sprint(999999)
	acl(person(1, false), "winonly", "d-false", "--add", "ACL:"+sid+":ALLOWED/OI|CI/READ")
	shows("smbcacls", acl(person(1, false), "winonly", "d-false"), "ACL:"+sid+":ALLOWED")
	r, err := s.client.ACL(s.ctx, person(1, false), "winonly", "d-false", "--add", `ACL:AADDSCONTOSO\nobody.here:ALLOWED/0/READ`)
	s.try(err)
	if r.Ok() {
		t.Errorf("an entry for nobody is taken: %s", r)
	}
}
