// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// A check of the domain that the machine is in says whether the membership still
// works: the key beside the domain's, the name beside its DNS.
func TestCheckOfAMember(t *testing.T) {
	const fqdn = "nas." + testDomain
	for what, tc := range map[string]struct {
		harm  func(*testing.T, *world, *Joiner)
		fails bool // the check
		id    string
		want  Step
	}{
		"healthy":      {nil, false, StepVerify, Step{State: Done, Detail: "opens a ticket of dc1." + testDomain + ", version 1"}},
		"healthy, DNS": {nil, false, StepRegister, Step{State: Done, Detail: "192.168.1.7"}},
		"the domain has another key": {func(_ *testing.T, w *world, _ *Joiner) { w.accounts["NAS$"].Password = "somebody else's" }, true, StepVerify,
			Step{State: Failed, Detail: "does not take the key of NAS$", Remedy: "latchkey machine rotate"}},
		"a domain controller that lags": {func(t *testing.T, _ *world, j *Joiner) {
			update(t, j, func(m *store.Machine) {
				m.PreviousPassword, m.Password = m.Password, secret.FromString("not there yet")
			})
		}, false, StepVerify, Step{State: Warning, Detail: "has not heard of the last change"}},
		"a keytab without the key": {func(_ *testing.T, w *world, _ *Joiner) { w.accounts["NAS$"].KVNO = 7 }, true, StepVerify,
			Step{State: Failed, Detail: "open a ticket for host/" + fqdn, Remedy: "latchkey machine rotate"}},
		"no keytab": {func(_ *testing.T, _ *world, j *Joiner) { _ = os.Remove(j.cfg.KeytabPath) }, true, StepVerify,
			Step{State: Failed, Detail: "no such file", Remedy: "latchkey machine rotate"}},
		"no name": {func(_ *testing.T, w *world, _ *Joiner) { delete(w.names, fqdn) }, false, StepRegister,
			Step{State: Warning, Detail: "dc1." + testDomain + " does not know it", Remedy: fqdn + " = 192.168.1.7"}},
		"another's address": {func(_ *testing.T, w *world, _ *Joiner) {
			w.names[fqdn] = []netip.Addr{netip.MustParseAddr("192.168.1.9")}
		}, false, StepRegister,
			Step{State: Warning, Detail: "it is 192.168.1.9 there, and this machine is 192.168.1.7"}},
	} {
		w := newWorld()
		j, _ := w.joiner(t)
		mustJoinHere(t, j, request())
		if tc.harm != nil {
			tc.harm(t, w, j)
		}
		var s steps
		err := j.Check(t.Context(), Request{Domain: testDomain}, s.tell)
		if tc.fails != (err != nil) {
			t.Errorf("%s: %v, want a failure: %v", what, err, tc.fails)
		}
		got := s.last(tc.id)
		if got.State != tc.want.State || !strings.Contains(got.Detail, tc.want.Detail) || !strings.Contains(got.Remedy, tc.want.Remedy) {
			t.Errorf("%s: %+v, want %+v", what, got, tc.want)
		}
	}
}

func update(t *testing.T, j *Joiner, fn func(*store.Machine)) {
	t.Helper()
	m, err := j.cfg.Memory.Machine(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	fn(m)
	if err := j.cfg.Memory.PutMachine(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}
