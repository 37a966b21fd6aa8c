// SPDX-License-Identifier: Apache-2.0

package join

import (
	"strings"
	"testing"
)

// TestTheNameIsFreeForTheNextAccount: a machine that left, its account deleted,
// joins again under the same name. The account is another one, and what kept the
// name in DNS was the old one's.
func TestTheNameIsFreeForTheNextAccount(t *testing.T) {
	const host = "nas." + testDomain
	for _, how := range []string{"it was taken out of DNS", "the account was deleted by somebody", "the name lives, and is somebody's"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld()
			j, _ := w.joiner(t)
			if _, err := j.Join(t.Context(), request(), func(Step) {}); err != nil {
				t.Fatal(err)
			}
			leave := LeaveRequest{User: "alice", Password: request().Password}
			registers := true
			if how != "it was taken out of DNS" {
				leave = LeaveRequest{KeepAccount: true}
				delete(w.objects, w.computer())
				if registers = how == "the account was deleted by somebody"; registers {
					_ = w.unregister(t.Context(), host, nil)
				}
			}
			if err := j.Leave(t.Context(), leave, func(Step) {}); err != nil {
				t.Fatal(err)
			}
			if _, there := w.objects[w.node(host)]; there != (how != "it was taken out of DNS") {
				t.Errorf("after the leave: the object of the name is there: %v", there)
			}
			var told steps
			if _, err := j.Join(t.Context(), request(), told.tell); err != nil {
				t.Fatal(err)
			}
			s := told.last(StepRegister)
			if (s.State == Done) != registers {
				t.Errorf("the name: %+v", s)
			}
			// It is right as it is, and says so.
			if !registers && !strings.Contains(s.Detail, "is 192.168.1.7 already") {
				t.Errorf("a name that somebody else registered: %+v", s)
			}
		})
	}
}
