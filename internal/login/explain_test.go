// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func stepOf(e *login.Explanation, topic login.Topic) (s login.ExplainStep) {
	for _, s := range e.Steps {
		if s.Topic == topic {
			return s
		}
	}
	return s
}

func verdictOf(e *login.Explanation, topic login.Topic) login.Verdict {
	return stepOf(e, topic).Verdict
}

func (w *world) explain(name, service, password string) *login.Explanation {
	w.t.Helper()
	e, err := w.login.Explain(w.t.Context(), login.Request{Name: name, Service: service, Door: "cli"}, secret.FromString(password))
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// krbBob is the person of Entra ID at the KDC.
var krbBob = krbtest.Account{Name: []string{"bob"}, UPN: "bob@contoso.test", Password: "builder",
	PAC: &krbtest.PAC{User: domainSID.WithRID(1106), Primary: 513, Groups: []uint32{513}, Domain: "AADDSEX", DNSDomain: realm, UPN: "bob@contoso.test"}}

func TestExplainStepByStep(t *testing.T) {
	ok, warning, refused, unknown := login.VerdictOK, login.VerdictWarning, login.VerdictRefused, login.VerdictUnknown
	for name, tc := range map[string]struct {
		who, service, password string
		set                    func(w *world)
		want                   map[login.Topic]login.Verdict
		text                   map[login.Topic]string // a part of the text or remedy
		in                     bool
	}{
		"all is well": {"alice", "samba", "", nil, map[login.Topic]login.Verdict{login.TopicName: ok, login.TopicAccount: ok, login.TopicAccess: ok,
			login.TopicPassword: ok, login.TopicBudget: ok, login.TopicKDC: ok, login.TopicOffline: ok, login.TopicNTLM: ok, login.TopicSignIn: ""},
			map[login.Topic]string{login.TopicName: "uid", login.TopicPassword: "2023"}, true},
		"the right password": {"alice@contoso.test", "samba", "wonder land", nil, map[login.Topic]login.Verdict{login.TopicSignIn: ok},
			map[login.Topic]string{login.TopicSignIn: "proved itself"}, true},
		"a wrong password": {"alice", "samba", "x", nil, map[login.Topic]login.Verdict{login.TopicSignIn: refused}, nil, false},
		"a wrong password of Entra": {"bob", "samba", "x", func(w *world) { w.kdc.Add(krbBob) }, map[login.Topic]login.Verdict{login.TopicSignIn: refused},
			map[login.Topic]string{login.TopicSignIn: "quarter of an hour"}, false},
		"nobody": {"nobody-here", "samba", "x", nil, map[login.Topic]login.Verdict{login.TopicName: refused, login.TopicAccount: "", login.TopicKDC: ok, login.TopicSignIn: refused},
			map[login.Topic]string{login.TopicName: "nobody-here"}, false},
		"a closed service": {"alice", "sshd", "", nil, map[login.Topic]login.Verdict{login.TopicAccess: refused, login.TopicAccount: ok},
			map[login.Topic]string{login.TopicAccess: "access allow sshd"}, false},
		"denied everywhere": {"alice", "samba", "", func(w *world) {
			if _, err := w.login.SetRules(t.Context(), "test", "*", access.Deny, "alice"); err != nil {
				t.Fatal(err)
			}
		}, map[login.Topic]login.Verdict{login.TopicAccess: refused}, map[login.Topic]string{login.TopicAccess: "access remove '*' 'alice'"}, false},
		"disabled": {"alice", "samba", "", func(w *world) { w.change = func(u *identity.User) { u.State |= identity.Disabled } },
			map[login.Topic]login.Verdict{login.TopicAccount: refused, login.TopicAccess: ok}, map[login.Topic]string{login.TopicAccount: "enable it"}, false},
		"locked": {"alice", "samba", "", func(w *world) { w.change = func(u *identity.User) { u.State |= identity.LockedOut } },
			map[login.Topic]login.Verdict{login.TopicAccount: warning}, map[login.Topic]string{login.TopicAccount: "30 minutes"}, true},
		"must change": {"alice", "samba", "", func(w *world) { w.change = func(u *identity.User) { u.State |= identity.MustChange } },
			map[login.Topic]login.Verdict{login.TopicPassword: warning}, map[login.Topic]string{login.TopicPassword: "must be changed"}, true},
		"budget spent": {"alice", "samba", "", func(w *world) {
			for _, p := range []string{"a", "b", "c"} {
				_, _ = w.login.Authenticate(t.Context(), login.Request{Name: "alice", Service: "samba", Door: "cli"}, secret.FromString(p))
			}
		}, map[login.Topic]login.Verdict{login.TopicBudget: warning}, map[login.Topic]string{login.TopicBudget: "3 wrong passwords"}, true},
		"no domain controller": {"alice", "samba", "", func(w *world) { w.down.Store(true) },
			map[login.Topic]login.Verdict{login.TopicName: ok, login.TopicKDC: unknown, login.TopicOffline: ok}, map[login.Topic]string{login.TopicOffline: "switched off"}, true},
		"clocks apart": {"alice", "samba", "", func(w *world) { w.kdc.Now = func() time.Time { return time.Now().Add(10 * time.Minute) } },
			map[login.Topic]login.Verdict{login.TopicKDC: refused}, map[login.Topic]string{login.TopicKDC: "NTP"}, false},
		"in no domain": {"alice", "samba", "", func(w *world) { w.domain = nil }, map[login.Topic]login.Verdict{login.TopicName: refused, login.TopicKDC: ""}, nil, false},
	} {
		w := newWorld(t)
		if tc.set != nil {
			tc.set(w)
		}
		e := w.explain(tc.who, tc.service, tc.password)
		for topic, want := range tc.want {
			if got := stepOf(e, topic); got.Verdict != want {
				t.Errorf("%s: %s is %+v, want %q", name, topic, got, want)
			}
		}
		for topic, want := range tc.text {
			if got := stepOf(e, topic); !strings.Contains(got.Text+" "+got.Remedy, want) {
				t.Errorf("%s: %s says %+v, want %q in it", name, topic, got, want)
			}
		}
		if (e.Result != nil) != tc.in || e.Proved != (tc.password == "wonder land") {
			t.Errorf("%s: result %+v, proved %v", name, e.Result, e.Proved)
		}
		signIns, all := 0, w.events()
		for _, ev := range all {
			if ev.How == "explain" && ev.Action != audit.Account {
				t.Errorf("%s: event %+v", name, ev)
			}
			if ev.Action == audit.SignIn {
				signIns++
			}
		}
		if last := all[len(all)-1]; (tc.password != "") != (last.Action == audit.SignIn) {
			t.Errorf("%s: the last of %d events is %+v", name, len(all), last)
		}
		e.Result.Wipe()
	}
}

// What stands against signing in by password is told to administrators, and
// written into the audit; strangers hear of none of it.
func TestHints(t *testing.T) {
	for name, tc := range map[string]struct {
		who      string
		change   func(*identity.User)
		settings login.Settings
		kdc      kerberos.Code // that refuses alice
		want     string
		text     string
	}{
		"a guest":                      {"bob", func(u *identity.User) { u.State |= identity.Guest }, login.Settings{}, 0, "guest", "guest"},
		"never changed since":          {"bob", func(u *identity.User) { u.PasswordLastSet = time.Time{} }, login.Settings{}, 0, "no-hash", "not changed since"},
		"changed a minute ago":         {"bob", func(u *identity.User) { u.PasswordLastSet = time.Now().Add(-time.Minute) }, login.Settings{}, 0, "changed-lately", "1 minutes ago"},
		"changed an hour ago":          {"bob", func(u *identity.User) { u.PasswordLastSet = time.Now().Add(-time.Hour) }, login.Settings{}, 0, "not-arrived", "quarter of an hour"},
		"hybrid, never worked":         {"bob", nil, login.Settings{Hybrid: true}, 0, "no-hash", "hash synchronisation"},
		"an account of the domain":     {"alice", nil, login.Settings{Hybrid: true}, 0, "", ""},
		"the KDC has no key":           {"alice", nil, login.Settings{}, kerberos.CodeNullKey, "no-hash", "no key"},
		"the KDC has no AES key of it": {"alice", nil, login.Settings{}, kerberos.CodeETypeUnsupported, "no-hash", "no key"},
	} {
		w := newWorld(t)
		w.settings.Store(&tc.settings)
		w.kdc.Add(krbBob)
		w.change = tc.change
		if tc.kdc != 0 {
			w.kdc.Change(func() { w.alice.Code = int32(tc.kdc) })
		}
		_, _ = w.login.Account(t.Context(), login.Request{Name: tc.who, Service: "samba"}) // reads the row afresh
		_, err := w.login.Authenticate(t.Context(), login.Request{Name: tc.who, Service: "samba"}, secret.FromString(map[bool]string{true: "wonder land", false: "x"}[tc.kdc != 0]))
		if err == nil {
			t.Errorf("%s: let in", name)
			continue
		}
		if told := login.ForStranger(err).Error(); tc.text != "" && strings.Contains(told, tc.text) {
			t.Errorf("%s: a stranger is told %q", name, told)
		}
		var said string
		for _, s := range w.explain(tc.who, "samba", "y").Steps {
			said += s.Text + " " + s.Remedy + "\n"
		}
		if !strings.Contains(said, tc.text) {
			t.Errorf("%s: explained as\n%s\nwant %q in it", name, said, tc.text)
		}
		all := w.events()
		if got := all[1].Hint; got != tc.want {
			t.Errorf("%s: hint %q in %+v, want %q", name, got, all[1], tc.want)
		}
		if s := w.login.Suspicions(); s.NoKey != map[bool]int{true: 1}[tc.kdc != 0] {
			t.Errorf("%s: suspicions %+v", name, s)
		}
	}
}
