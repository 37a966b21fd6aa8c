// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
)

// A rule that is made is an event, and so is a call that makes none.
func TestRulesInTheAudit(t *testing.T) {
	w := newWorld(t)
	set := func(service string, effect access.Effect, who ...string) {
		_, _ = w.login.SetRules(t.Context(), "uid 0, pid 1", service, effect, who...)
	}
	set("sshd", access.Allow, "alice", "%Domain Users")
	set("sshd", access.Allow, "alice", "nobody-at-all")
	set("su", 0, "alice")
	set("", access.Allow, "alice")
	var got []string
	for _, e := range w.events() {
		if e.Action != audit.Rule || e.Caller != "uid 0, pid 1" || (e.Outcome != audit.Allowed) != (e.Detail != "") {
			t.Errorf("event %+v", e)
		}
		got = append(got, strings.Join([]string{string(e.Outcome), e.Reason, e.Service, e.Asked, e.Rule}, "|"))
	}
	want := []string{"allowed||sshd||allow sshd alice", "allowed||sshd||allow sshd %domain users",
		"refused|not found|sshd|alice, nobody-at-all|", "refused|not found|su|alice|", "refused|malformed||alice|"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
