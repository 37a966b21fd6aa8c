// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

// everyOne are the shares of the sign-in story. Domain people stand in them by
// every form of name that administrators write.
const everyOne = `   server signing = mandatory
[data]
   path = /srv/data
   read only = no
[chosen]
   path = /srv/data
   valid users = AADDSCONTOSO\user00001, @"AADDSCONTOSO\outer"
[bare]
   path = /srv/data
   valid users = user00001 @outer
[written]
   path = /srv/data
   read only = yes
   write list = @"AADDSCONTOSO\outer"
[forced]
   path = /srv/data
   read only = no
   force group = "AADDSCONTOSO\group0005"
[asother]
   path = /srv/data
   read only = no
   force user = AADDSCONTOSO\user00007
[invalid]
   path = /srv/data
   invalid users = @"AADDSCONTOSO\outer"
[sealed]
   path = /srv/data
   read only = no
   smb encrypt = required
`

// An unmodified smbd lets people in by password and by ticket, with no
// winbindd; who they are, what they own and what they may is the same both ways,
// and the same as everywhere else on the machine.
func TestSMBSignIn(t *testing.T) {
	for _, suite := range suites() {
		t.Run("suite="+suite, func(t *testing.T) { smbSignIn(t, suite) })
	}
}

func smbSignIn(t *testing.T, suite string) {
	s := beginSMB(t, suite, lab.Population{Users: 60, Groups: 210}, everyOne, func(s *story) {
		s.groups("many", lab.UserName(9), 880)
		for _, g := range []lab.Group{{Name: "inner", Members: []string{s.domain.UserDN(lab.UserName(2))}}, {Name: "outer"}} {
			_, err := s.domain.AddGroup(s.ctx, g)
			s.try(err)
		}
		s.try(s.domain.AddMembers(s.ctx, "outer", "inner"))
	})
	s.sh("install -d -m 1777 /srv/data; ! pgrep -x winbindd")
	s.kinit(0, 1, 2, 3, 4, 5, 6, 9)

	s.owners()
	s.namesInShares()
	s.refusals()

	// With the profile of PAM, smbd's account check asks the same rules.
	s.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable latchkey")
	for _, ticket := range both {
		s.use(person(1, ticket), "data", "ls", "")
	}

	// And all of it is undone, byte for byte.
	s.try(s.server.Stop(s.ctx))
	s.cli(0, "samba", "disable")
	s.sh("test ! -e /etc/samba/latchkey.conf -a ! -e /run/samba/winbindd/pipe -a ! -e /var/lib/samba/winbindd_privileged/pipe")
	if got := s.sh("cat /etc/samba/smb.conf; ls -A /etc/samba | grep -c latchkey || true"); got != nas.SMBConf+everyOne+"0" {
		t.Errorf("after samba disable:\n%s", got)
	}
	s.cli(1, "samba", "check")
}

// owners is the same person, with the same files, whichever way in and under every
// form of the name.
func (s *smbStory) owners() {
	s.t.Helper()
	// The same person, the same owner, whichever way in.
	s.sh("touch /tmp/f")
	for _, n := range []int{0, 1, 2, 9} {
		var u user
		s.try(s.nas.JSON(s.ctx, &u, "user", "get", lab.UserName(n)))
		for _, ticket := range both {
			file := fmt.Sprintf("f%d-%v", n, ticket)
			s.use(person(n, ticket), "data", "put /etc/hostname "+file+"; ls", "")
			if got, want := s.owner("/srv/data/"+file), fmt.Sprintf("%d %d %s domain users", u.UID, u.GID, u.Username); got != want {
				s.t.Errorf("%s: owned by %s, want %s", file, got, want)
			}
		}
	}
	if n := len(strings.Fields(s.sh("id -G " + lab.UserName(9)))); n < 880 {
		s.t.Errorf("%s is in %d groups, want 880", lab.UserName(9), n)
	}

	// Other forms of the name.
	for _, name := range []string{"USER00001", "user00001@contoso.test", "user00001@" + s.domain.DNS, strings.ToLower(s.domain.NetBIOS) + `\user00001`, s.domain.DNS + `\user00001`} {
		s.use(smb.Who{Name: name, Password: lab.UserPassword(1)}, "data", "ls", "")
	}
}

// namesInShares are what smb.conf says about domain people.
func (s *smbStory) namesInShares() {
	s.t.Helper()
	for _, ticket := range both {
		for share, want := range map[string][4]string{ // of user00001, user00002 (in outer by way of inner), user00003
			"chosen":  {"", "", "NT_STATUS_ACCESS_DENIED"},
			"bare":    {"", "", "NT_STATUS_ACCESS_DENIED"},
			"invalid": {"", "NT_STATUS_ACCESS_DENIED", ""},
		} {
			for i, word := range want[:3] {
				s.use(person(i+1, ticket), share, "ls", word)
			}
		}
		file := fmt.Sprintf("w-%v", ticket)
		s.use(person(2, ticket), "written", "put /etc/hostname "+file, "")
		s.use(person(3, ticket), "written", "put /etc/hostname "+file, "NT_STATUS_ACCESS_DENIED")
		s.use(person(3, ticket), "forced", "put /etc/hostname forced-"+file, "")
		if got := s.sh("stat -c '%U %G' /srv/data/forced-" + file); got != "user00003 group0005" {
			s.t.Errorf("force group: owned by %s", got)
		}
		s.use(person(3, ticket), "asother", "put /etc/hostname asother-"+file, "")
		if got := s.sh("stat -c %U /srv/data/asother-" + file); got != "user00007" {
			s.t.Errorf("force user: owned by %s", got)
		}
		// Encryption and signing are what the session's key is good for.
		s.use(person(1, ticket), "sealed", "put /etc/hostname sealed-"+file, "", "--client-protection=encrypt")
		s.use(person(1, ticket), "sealed", "ls", "NT_STATUS_ACCESS_DENIED", "-m", "SMB2_10") // too old to encrypt
		s.use(person(1, ticket), "data", "ls", "", "--client-protection=sign")
	}
}

// refusals are those who are not let in, each with the word that their client knows, and
// what the audit says.
func (s *smbStory) refusals() {
	s.t.Helper()
	s.use(smb.Who{Name: lab.UserName(1), Password: "wrong"}, "data", "ls", "NT_STATUS_LOGON_FAILURE")
	s.use(smb.Who{Name: "nobody.here", Password: "x"}, "data", "ls", "NT_STATUS_LOGON_FAILURE")
	s.use(smb.Who{Name: `ELSEWHERE\user00001`, Password: "x"}, "data", "ls", "NT_STATUS_LOGON_FAILURE")
	s.use(smb.Who{Name: lab.UserName(55), Password: "none"}, "data", "ls", "NT_STATUS_LOGON_FAILURE")
	s.use(person(4, true), "data", "ls", "")
	s.try(s.domain.Disable(s.ctx, lab.UserName(4), true))
	s.try(s.domain.Lock(s.ctx, lab.UserName(5)))
	s.cli(0, "sync")
	s.use(person(4, false), "data", "ls", "NT_STATUS_ACCOUNT_DISABLED")
	s.use(person(4, true), "data", "ls", "NT_STATUS_ACCOUNT_DISABLED") // the ticket is still good
	s.use(person(5, false), "data", "ls", "NT_STATUS_ACCOUNT_LOCKED_OUT")
	s.cli(0, "access", "deny", "samba", lab.UserName(6))
	for _, ticket := range both {
		s.use(person(6, ticket), "data", "ls", "NT_STATUS_ACCESS_DENIED")
	}
	s.cli(0, "access", "remove", "samba", lab.UserName(6))
	s.use(person(6, false), "data", "ls", "")

	// Never NTLMv1, whatever the client offers.
	s.use(person(1, false), "data", "ls", "NT_STATUS_", "--option=client ntlmv2 auth=no", "--option=client NTLMv2 auth=no")
	for filter, want := range map[string]string{
		`"outcome":"allowed","door":"winbind","service":"samba".*user00001.*"how":"ntlm"`:   "some",
		`"outcome":"allowed","door":"winbind","service":"samba".*user00001.*"how":"ticket"`: "some",
		`"outcome":"refused","reason":"denied".*user00006.*"how":"ntlm"`:                    "1",
		`"outcome":"refused","reason":"denied".*user00006.*"how":"ticket"`:                  "1",
		`"outcome":"refused","reason":"disabled".*user00004`:                                "2",
		`"outcome":"refused","reason":"locked".*user00005`:                                  "1",
	} {
		if n := s.audit(filter); n != want && (want != "some" || n == "0") {
			s.t.Errorf("the audit has %s lines of %s, want %s", n, filter, want)
		}
	}
}
