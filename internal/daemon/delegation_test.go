// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

// entry is a directory with one entry.
type entry struct{ directory.Entry }

func (e entry) Get(_ context.Context, dn string, _ ...string) (directory.Entry, error) {
	if dn != "<SID=S-1-5-21-1-2-3-1104>" {
		return directory.Entry{}, fault.New(fault.NotFound, "nothing there")
	}
	return e.Entry, nil
}

func TestDelegationOfTheMachinesAccountIsTold(t *testing.T) {
	const dn = "CN=NAS,OU=AADDC Computers,DC=contoso,DC=test"
	for name, tc := range map[string]struct {
		control string
		more    []directory.Attribute
		says    []string
	}{
		"as it is joined":    {"4096", nil, nil},
		"any service":        {"528384", nil, []string{"trusted for delegation"}},
		"with no ticket":     {"16781312", nil, []string{"trusted for delegation"}},
		"one service":        {"4096", []directory.Attribute{directory.Text("msDS-AllowedToDelegateTo", "cifs/files.contoso.test")}, []string{"at cifs/files.contoso.test"}},
		"some":               {"4096", []directory.Attribute{directory.Text("msDS-AllowedToDelegateTo", "cifs/a", "cifs/b", "cifs/c")}, []string{"at cifs/a and 2 more"}},
		"others, at this":    {"4096", []directory.Attribute{{Name: "msDS-AllowedToActOnBehalfOfOtherIdentity", Values: [][]byte{{1, 0}}}}, []string{"act as anybody at this machine"}},
		"everything at once": {"528384", []directory.Attribute{directory.Text("msDS-AllowedToDelegateTo", "cifs/a"), {Name: "msDS-AllowedToActOnBehalfOfOtherIdentity", Values: [][]byte{{1}}}}, []string{"trusted for delegation", "cifs/a", "anybody"}},
	} {
		e := entry{directory.Entry{DN: dn, Attributes: append([]directory.Attribute{directory.Text("userAccountControl", tc.control)}, tc.more...)}}
		found, err := readDelegation(t.Context(), e, "<SID=S-1-5-21-1-2-3-1104>")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d := &Daemon{member: &member{}}
		d.member.delegation.Store(found)
		told := ""
		d.fillDelegation(func(id, summary, remedy string, _ time.Time) {
			if told += summary; id != "delegation" || !strings.Contains(remedy, dn) {
				t.Errorf("%s: %s, %s", name, id, remedy)
			}
		})
		if (told == "") != (len(tc.says) == 0) {
			t.Errorf("%s: told %q", name, told)
		}
		for _, part := range tc.says {
			if !strings.Contains(told, part) {
				t.Errorf("%s: told %q, want %q", name, told, part)
			}
		}
		d.member = &member{} // after a leave and a join it is another account
		d.fillDelegation(func(string, string, string, time.Time) { t.Errorf("%s: told of a membership that has ended", name) })
	}
	if _, err := readDelegation(t.Context(), entry{directory.Entry{DN: dn}}, "<SID=S-1-5-21-1-2-3-1104>"); !fault.Is(err, fault.Malformed) {
		t.Errorf("an account without userAccountControl: %v", err)
	}
	if _, err := readDelegation(t.Context(), entry{}, "<SID=S-1-5-21-1-2-3-9>"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no account: %v", err)
	}
	(&Daemon{}).fillDelegation(func(string, string, string, time.Time) { t.Error("something is told of nothing") })
}
