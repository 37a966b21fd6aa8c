// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
)

func TestNTLMProblem(t *testing.T) {
	now := time.Now()
	refused := fault.WithRemedy(&netlogon.Status{Code: netlogon.StatusAccessDenied}, "join again")
	silent := fault.New(fault.Unreachable, "connection refused")
	for what, tc := range map[string]struct {
		state           netlogon.State
		directory       bool
		summary, remedy string
	}{
		"none":                             {netlogon.State{}, true, "", ""},
		"refused":                          {netlogon.State{Problem: refused, Since: now}, true, "0xC0000022", "join again"},
		"refused, directory away":          {netlogon.State{Problem: refused, Since: now}, false, "0xC0000022", "join again"},
		"silent just now":                  {netlogon.State{Problem: silent, Since: now}, true, "", ""},
		"silent, as the directory is":      {netlogon.State{Problem: silent, Since: now.Add(-time.Hour)}, false, "", ""},
		"silent, and the directory is not": {netlogon.State{Problem: silent, Since: now.Add(-time.Minute)}, true, "connection refused", "49152"},
	} {
		summary, remedy := ntlmProblem(tc.state, tc.directory, now)
		if (summary == "") != (tc.summary == "") || !strings.Contains(summary, tc.summary) || !strings.Contains(remedy, tc.remedy) {
			t.Errorf("%s: %q, %q", what, summary, remedy)
		}
	}
}
