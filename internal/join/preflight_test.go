// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

func check(t *testing.T, w *world, edit func(*Request)) (steps, error) {
	t.Helper()
	j, _ := w.joiner(t)
	req := Request{Domain: testDomain}
	if edit != nil {
		edit(&req)
	}
	var s steps
	err := j.Check(t.Context(), req, s.tell)
	if _, e := os.Stat(j.cfg.KeytabPath); e == nil {
		t.Error("a check wrote a keytab")
	}
	if len(w.asked) > 0 && req.Password.Len() == 0 {
		t.Errorf("a check without a user asked the directory %q", w.asked)
	}
	return s, err
}

func TestEveryCheckIsTold(t *testing.T) {
	s, err := check(t, newWorld(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{StepRequest, StepMember, StepHostname, StepDNS, StepSRV, "port-53", "port-88", "port-135", "port-389", "port-445", "port-464", StepDC, StepClock} {
		if got := s.last(id); got.State != Done || got.Detail == "" || got.Title == "" {
			t.Errorf("step %s: %+v", id, got)
		}
	}
	running := map[string]bool{}
	for _, one := range s {
		if one.State == Running {
			running[one.ID] = true
		} else if !running[one.ID] {
			t.Errorf("step %s ended without having begun", one.ID)
		}
	}
}

// TestACheckTellsEverythingItCan has several faults at once.
func TestACheckTellsEverythingItCan(t *testing.T) {
	w := newWorld()
	w.closed["10.0.0.4:389"] = refusedPort
	w.skew = 20 * time.Minute
	s, err := check(t, w, func(r *Request) { r.Hostname = "abcdefghijklmnop" })
	if !fault.Is(err, fault.Malformed) || !strings.Contains(err.Error(), "16 characters") {
		t.Errorf("the first failure is %v", err)
	}
	for _, id := range []string{StepHostname, "port-389", StepClock} {
		if got := s.last(id); got.State != Failed || got.Remedy == "" {
			t.Errorf("step %s: %+v", id, got)
		}
	}
}

func TestCheckWithAUser(t *testing.T) {
	w := newWorld()
	s, err := check(t, w, func(r *Request) { *r = request() })
	if err != nil || s.last(StepSignIn).State != Done || s.last(StepContainer).Detail != computersOU {
		t.Errorf("Check = %v, %+v", err, s)
	}
	for _, a := range w.asked {
		if f := strings.Fields(a); f[1] != "get" && f[1] != "search" && f[1] != "domain" {
			t.Errorf("a check did %q", a)
		}
	}
}

func TestWhyNoDomainControllerAnswers(t *testing.T) {
	silent := fault.New(fault.Unreachable, "no answer to a ping")
	other := directory.DC{Host: "dc1.other.test", DNSDomain: "other.test", Addr: dcAddr}
	for name, tc := range map[string]struct {
		harm   func(*world)
		kind   fault.Kind
		say    string
		remedy string
	}{
		"silent": {func(w *world) {
			w.found = silent
			for _, p := range ports {
				w.closed[fmt.Sprintf("10.0.0.4:%d", p.number)] = context.DeadlineExceeded
			}
		}, fault.Unreachable, "dc1." + testDomain + " (10.0.0.4) cannot be reached", "VPN"},
		"no DC":          {func(w *world) { w.found = silent }, fault.NotFound, "does not answer as an Active Directory domain controller", "UDP port 389"},
		"another domain": {func(w *world) { w.found, w.pings[dcAddr] = fault.New(fault.NotFound, "no"), other }, fault.NotFound, "serves the domain other.test, not " + testDomain, "join other.test"},
		"found another":  {func(w *world) { w.dcs = []directory.DC{other} }, fault.NotFound, "serves the domain other.test", "join other.test"},
	} {
		w := newWorld()
		tc.harm(w)
		s, err := check(t, w, func(r *Request) { r.DomainControllers = []string{"10.0.0.4"} })
		got := s.last(StepDC)
		if name == "silent" {
			s, err = check(t, w, nil)
			got = s.last(StepDC)
		}
		if got.State != Failed || !strings.Contains(got.Detail, tc.say) || !strings.Contains(got.Remedy, tc.remedy) || err == nil {
			t.Errorf("%s: %+v, %v, want %q -> %q", name, got, err, tc.say, tc.remedy)
		}
		if name != "silent" && !fault.Is(err, tc.kind) {
			t.Errorf("%s: kind %v, want %v", name, fault.KindOf(err), tc.kind)
		}
	}
}

func TestPortsOnDifferentDCs(t *testing.T) {
	w := newWorld()
	w.dcs = append(w.dcs, directory.DC{Host: "dc2." + testDomain, Addr: dc2Addr, NetBIOS: "AADDSCONTOSO", DNSDomain: testDomain, Flags: directory.DCIsWritable})
	w.closed["10.0.0.4:88"], w.closed["10.0.0.5:389"] = refusedPort, refusedPort
	_, err := check(t, w, nil)
	if !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "no domain controller has ports 88 and 389 both open") {
		t.Errorf("Check = %v", err)
	}
}

func TestWhyAPortIsClosed(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "is closed (refused)"},
		{&net.OpError{Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, "cannot be reached (no route)"},
		{fmt.Errorf("dial: %w", syscall.ENETUNREACH), "cannot be reached (no route)"},
		{context.DeadlineExceeded, "does not answer (blocked on the way)"},
		{&net.OpError{Err: os.ErrDeadlineExceeded}, "does not answer (blocked on the way)"},
		{syscall.EPERM, "cannot be opened: operation not permitted"},
	} {
		if got := why(tc.err); got != tc.want {
			t.Errorf("why(%v) = %q, want %q", tc.err, got, tc.want)
		}
	}
}

func TestAMemberIsRefusedEarly(t *testing.T) {
	_, j, _ := member(t)
	for name, tc := range map[string]struct {
		edit func(*Request)
		say  string
	}{
		"the same domain": {func(*Request) {}, "is a member of " + testDomain + " already, as NAS$"},
		"another domain":  {func(r *Request) { r.Domain = "other.test" }, "is a member of " + testDomain},
	} {
		req := request()
		tc.edit(&req)
		var s steps
		if _, err := j.Join(t.Context(), req, s.tell); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), tc.say) || !strings.Contains(fault.Remedy(err), "latchkey leave") {
			t.Errorf("%s: %v -> %q", name, err, fault.Remedy(err))
		}
		if s.last(StepSignIn).ID != "" {
			t.Errorf("%s: the user's password was tried", name)
		}
	}
}
