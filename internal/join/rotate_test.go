// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// takes lets the domain take a change, as a domain controller does.
func (w *world) takes(to string) error {
	acc := w.accounts["NAS$"]
	w.kdcs.Change(func() { acc.Password = to; acc.KVNO++ })
	return nil
}

// settled makes sure that the record, the keytab and the domain agree.
func settled(t *testing.T, w *world, j *Joiner, kvno uint32) *store.Machine {
	t.Helper()
	m, err := j.cfg.Memory.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acc := w.accounts["NAS$"]
	if string(m.Password.Reveal()) != acc.Password || m.KVNO != kvno || acc.KVNO != int(kvno) || m.PendingPassword.Len() != 0 || !m.PendingTime.IsZero() ||
		m.RotationError != "" {
		t.Errorf("the record has version %d, the domain %d, want %d; pending %d bytes; error %q", m.KVNO, acc.KVNO, kvno, m.PendingPassword.Len(), m.RotationError)
	}
	if age := m.NextRotation.Sub(m.KeyTime); age <= 0 || age > MaxKeyAge {
		t.Errorf("the next rotation is due %s after this one", age)
	}
	kt, err := kerberos.ReadKeytab(j.cfg.KeytabPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []kerberos.Principal{kerberos.Account("NAS$", testRealm), kerberos.Service("host", "nas."+testDomain, testRealm)} {
		for _, e := range []kerberos.EType{kerberos.AES256, kerberos.AES128} {
			got, err := kt.Find(who, kvno, e)
			if err != nil || !got.Key.Value.Equal(w.kdcs.Key(acc, e).Value) {
				t.Errorf("%s, etype %d: not the key of version %d, %v", who, e, kvno, err)
			}
		}
		if n := kt.Newest(who); n != kvno {
			t.Errorf("the newest key of %s is version %d, want %d", who, n, kvno)
		}
	}
	for _, e := range kt.Entries {
		if e.Key.EType != kerberos.AES256 && e.Key.EType != kerberos.AES128 {
			t.Errorf("a key of etype %d", e.Key.EType)
		}
	}
	return m
}

func TestRotate(t *testing.T) {
	w, j, keys := member(t)
	w.kpasswd = w.takes
	before := settled0(t, j)
	ticket := w.kdcs.Ticket("alice", []string{"host", "nas." + testDomain}, w.accounts["NAS$"])
	var s steps
	done, err := j.Rotate(t.Context(), 0, s.tell)
	if err != nil {
		t.Fatal(err)
	}
	if done.KVNO != 2 || done.DC != "dc1."+testDomain || done.Resumed || s[len(s)-1].Percent != 100 {
		t.Errorf("done %+v, the last step %+v", done, s[len(s)-1])
	}
	m := settled(t, w, j, 2)
	if string(m.PreviousPassword.Reveal()) != string(before.Password.Reveal()) || m.Password.Len() != passwordLength {
		t.Error("the old password is not the previous one")
	}
	if len(keys.install) == 0 || !strings.Contains(string(keys.keytab), "HTTP") {
		t.Errorf("root's copy was asked for %d times", len(keys.install))
	}
	text, err := os.ReadFile(j.cfg.KeytabPath)
	if err != nil || string(keys.keytab) != string(text) {
		t.Errorf("root's copy is not of the last keytab: %v", err)
	}
	// Somebody with a ticket of before goes on.
	kt, err := kerberos.ReadKeytab(j.cfg.KeytabPath)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kt.Find(ticket.Service, 1, kerberos.AES256); err != nil {
		t.Errorf("the key of the old ticket: %v", err)
	}
	for _, step := range s {
		if strings.Contains(step.Title+step.Detail+step.Remedy, string(m.Password.Reveal())) {
			t.Errorf("the password is told: %+v", step)
		}
	}
}

func settled0(t *testing.T, j *Joiner) *store.Machine {
	t.Helper()
	m, err := j.cfg.Memory.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestKeytabKeepsTwoOldVersions, and more while they are younger than a day.
func TestKeytabKeepsTwoOldVersions(t *testing.T) {
	w, j, _ := member(t)
	w.kpasswd = w.takes
	at := time.Now()
	versions := func() string {
		kt, err := kerberos.ReadKeytab(j.cfg.KeytabPath)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[uint32]bool{}
		for _, e := range kt.Entries {
			seen[e.KVNO] = true
		}
		return fmt.Sprint(seen)
	}
	j.cfg.Now = func() time.Time { return at }
	rotate := func() {
		if _, err := j.Rotate(t.Context(), 0, func(Step) {}); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		at = at.Add(30 * 24 * time.Hour)
		rotate()
	}
	if got := versions(); got != "map[3:true 4:true 5:true]" {
		t.Errorf("after months: %s", got)
	}
	for range 3 {
		at = at.Add(time.Minute)
		rotate()
	}
	if got := versions(); got != "map[4:true 5:true 6:true 7:true 8:true]" {
		t.Errorf("after three within minutes: %s", got)
	}
	settled(t, w, j, 8)
}

func TestRotationThatIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		harm    func(*world)
		kind    fault.Kind
		say     string
		remedy  string
		pending bool // the new password is kept
	}{
		"policy": {func(w *world) {
			w.kpasswd = func(string) error {
				return fault.Wrap(fault.Denied, "change the password", &kerberos.PasswordError{Code: 4})
			}
			w.refuse = refuseAll("modify", ldapConstraint)
		}, fault.Denied, "the policy forbids", "SELF", false},
		"policy, and no LDAP": {func(w *world) {
			w.kpasswd = func(string) error { return fault.New(fault.Denied, "no") }
			w.refuse = refuseAll("modify", 52) // unavailable
		}, fault.Denied, "does not let NAS$ change", "SELF", false},
		"answer lost, nothing changed": {func(w *world) {
			w.kpasswd = func(string) error { return fault.New(fault.Unreachable, "the connection broke") }
			w.refuse = refuseAll("modify", 52)
		}, fault.Unknown, "", "", true},
		"no domain controller": {func(w *world) { w.found = fault.New(fault.Unreachable, "nobody answers") }, fault.Unreachable, "nobody answers", "", false},
		"account disabled": {func(w *world) {
			w.accounts["NAS$"].Code, w.accounts["NAS$"].Status = int32(kerberos.CodeClientRevoked), uint32(kerberos.StatusAccountDisabled)
		}, fault.Conflict, "refuses NAS$", "latchkey join", false},
		"account reset by somebody": {func(w *world) { w.kdcs.Change(func() { w.accounts["NAS$"].Password = "x"; w.accounts["NAS$"].KVNO++ }) },
			fault.Conflict, "none of the passwords", "latchkey join", false},
	} {
		t.Run(name, func(t *testing.T) {
			w, j, _ := member(t)
			before, err := os.ReadFile(j.cfg.KeytabPath)
			if err != nil {
				t.Fatal(err)
			}
			tc.harm(w)
			var s steps
			_, err = j.Rotate(t.Context(), 0, s.tell)
			if err == nil || (tc.kind != fault.Unknown && !fault.Is(err, tc.kind)) || !strings.Contains(fmt.Sprint(err), tc.say) || !strings.Contains(fault.Remedy(err), tc.remedy) {
				t.Errorf("Rotate = %v %q -> %q, want %v %q -> %q", fault.KindOf(err), err, fault.Remedy(err), tc.kind, tc.say, tc.remedy)
			}
			m := settled0(t, j)
			if (m.PendingPassword.Len() > 0) != tc.pending || m.KVNO != 1 || m.RotationError == "" || !m.NextRotation.After(time.Now()) {
				t.Errorf("pending %v, version %d, error %q, next %s", m.PendingPassword.Len() > 0, m.KVNO, m.RotationError, m.NextRotation)
			}
			if after, err := os.ReadFile(j.cfg.KeytabPath); !tc.pending && (err != nil || len(after) != len(before)) {
				t.Errorf("the keytab has %d bytes, had %d, %v", len(after), len(before), err)
			}
			// When the domain is itself again, it works.
			acc := w.accounts["NAS$"]
			w.kdcs.Change(func() { acc.Code, acc.Status, acc.KVNO, acc.Password = 0, 0, 1, string(m.Password.Reveal()) })
			w.refuse, w.found, w.kpasswd = nil, nil, w.takes
			if _, err := j.Rotate(t.Context(), 0, s.tell); err != nil {
				t.Fatal(err)
			}
			settled(t, w, j, 2)
		})
	}
}

func TestRotationByLDAPWhereKpasswdIsClosed(t *testing.T) {
	w, j, _ := member(t)
	var s steps
	if _, err := j.Rotate(t.Context(), 0, s.tell); err != nil {
		t.Fatal(err)
	}
	if got := s.last(StepChange).Detail; got != "by LDAP" {
		t.Errorf("it was changed %s", got)
	}
	settled(t, w, j, 2)
}

func TestChangeWhoseAnswerGotLost(t *testing.T) {
	w, j, _ := member(t)
	w.kpasswd = func(to string) error {
		_ = w.takes(to)
		return fault.New(fault.Unreachable, "the connection broke")
	}
	if _, err := j.Rotate(t.Context(), 0, func(Step) {}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, j, 2)
}

// TestTwoDomainControllersThatDisagree: the first to answer is not the one that
// took the interrupted change.
func TestTwoDomainControllersThatDisagree(t *testing.T) {
	w, j, keys := member(t)
	old := *w.accounts["NAS$"]
	// Killed right after the change.
	p := &perils{left: 1}
	w.kpasswd = func(to string) error {
		_ = w.takes(to)
		p.moment("after the change")
		return nil
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = j.Rotate(t.Context(), 0, func(Step) {})
	}()
	memory := j.cfg.Memory
	// The second domain controller has not heard of it, and answers first.
	lag := krbtest.New(testRealm)
	lag.Add(old)
	lag.Add(krbtest.Account{Name: []string{"DC2$"}, Password: "dc", DC: true, Aliases: [][]string{{"ldap", "dc2." + testDomain}}})
	w.lagging = map[netip.Addr]*krbtest.KDC{dc2Addr: lag}
	second := w.dcs[0]
	second.Host, second.Addr = "dc2."+testDomain, dc2Addr
	w.dcs = []directory.DC{second, w.dcs[0]}
	w.kpasswd = func(string) error { t.Error("it was changed again"); return nil }
	again, _ := w.joiner(t)
	again.cfg.Memory, again.cfg.KeytabPath, again.cfg.HostKeys = memory, j.cfg.KeytabPath, keys
	var s steps
	done, err := again.Rotate(t.Context(), 0, s.tell)
	if err != nil {
		t.Fatal(err)
	}
	if !done.Resumed || done.DC != "dc1."+testDomain || !strings.Contains(s.last(StepPassword).Detail, "only dc1.") {
		t.Errorf("done %+v, %q", done, s.last(StepPassword).Detail)
	}
	settled(t, w, again, 2)
	// A rotation that meets the one that still has the old password waits.
	_, err = again.Rotate(t.Context(), 0, s.tell)
	if !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "before the last change") {
		t.Errorf("with a domain controller that lags: %v", err)
	}
}

func TestNextRotation(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	seen := map[time.Time]bool{}
	for _, interval := range []time.Duration{0, -1, 90 * 24 * time.Hour, MaxKeyAge, 24 * time.Hour} {
		want := interval
		if want <= 0 || want > MaxKeyAge {
			want = MaxKeyAge
		}
		for range 50 {
			next := NextRotation(at, interval)
			if d := next.Sub(at); d > want || d < want-want/10 {
				t.Fatalf("interval %s: the next one after %s", interval, d)
			}
			seen[next] = true
		}
	}
	if len(seen) < 100 {
		t.Errorf("%d different times of 250", len(seen))
	}
}

func TestRotateOutsideOfADomain(t *testing.T) {
	w := newWorld()
	j, _ := w.joiner(t)
	if _, err := j.Rotate(t.Context(), 0, func(Step) {}); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Remedy(err), "latchkey join") {
		t.Errorf("got %v", err)
	}
}

// hurried is a world whose domain takes a new password right after the first
// sign-in that is tried.
type hurried struct {
	*world
	password string
}

func (h *hurried) kdc(realm string, dc netip.Addr) kdc { return hurriedKDC{h.world.kdc(realm, dc), h} }

type hurriedKDC struct {
	kdc
	h *hurried
}

func (k hurriedKDC) Login(ctx context.Context, who kerberos.Principal, with kerberos.Secret) (*kerberos.Login, error) {
	l, err := k.kdc.Login(ctx, who, with)
	if k.h.password != "" {
		_ = k.h.takes(k.h.password)
		k.h.password = ""
	}
	return l, err
}

// Somebody asked for a change and was killed; the domain makes it while the next
// one finds out which password counts.
func TestRotationIsMadeWhileItIsLookedFor(t *testing.T) {
	w, j, _ := member(t)
	if err := j.cfg.Memory.UpdateMachine(t.Context(), func(m *store.Machine) error {
		m.PendingPassword, m.PendingTime = secret.FromString("the new password of the machine"), time.Now()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	j.net = &hurried{w, "the new password of the machine"}
	done, err := j.Rotate(t.Context(), 0, func(Step) {})
	if err != nil {
		t.Fatal(err)
	}
	if !done.Resumed {
		t.Errorf("%+v, want the change that was made", done)
	}
	settled(t, w, j, 2)
}
