// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/login"
)

func TestStatusTellsWhatSignInsHaveShown(t *testing.T) {
	for name, tc := range map[string]struct {
		shown login.Suspicions
		want  string // ids
		says  string
	}{
		"nothing":                       {login.Suspicions{}, "", ""},
		"one without a key":             {login.Suspicions{NoKey: 1}, "no-password-hash", "one person"},
		"several without a key":         {login.Suspicions{NoKey: 3}, "no-password-hash", "3 people"},
		"one who may have mistyped":     {login.Suspicions{NTLM: 1}, "", ""},
		"nobody's NTLM works":           {login.Suspicions{NTLM: 2}, "ntlm-hash", "2 people"},
		"NTLM works for somebody":       {login.Suspicions{NTLM: 2, NTLMWorks: 1}, "", ""},
		"neither a key nor an NTLM one": {login.Suspicions{NoKey: 1, NTLM: 5}, "no-password-hash ntlm-hash", "5 people"},
	} {
		var ids []string
		var said string
		tellSuspicions(tc.shown, func(id, summary, remedy string, _ time.Time) {
			ids = append(ids, id)
			said += summary + "\n"
			if remedy == "" {
				t.Errorf("%s: %s has no remedy", name, id)
			}
		})
		if strings.Join(ids, " ") != tc.want || !strings.Contains(said, tc.says) {
			t.Errorf("%s: %v: %s", name, ids, said)
		}
	}
}

// Who waited in a socket's queue while the worker was replaced signs in: the
// membership is taken up before a door opens.
func TestMembershipIsTakenUpBeforeTheDoorsOpen(t *testing.T) {
	b := newBox(t)
	b.joined()
	b.atReady = func(d *Daemon) {
		if d.loginDomain() == nil {
			t.Error("the daemon is ready, and nobody can sign in")
		}
	}
	b.start()
}
