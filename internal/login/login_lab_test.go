// SPDX-License-Identifier: Apache-2.0

//go:build lab

package login_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

const labWord = "Passw0rd!Lab"

// A whole domain for every subject would take minutes; the subjects use people
// of their own.
func TestLabSignIn(t *testing.T) {
	g := newGround(t)
	ctx := t.Context()
	// Not with "password never expires", which a DC puts before it.
	ordinary := map[string][][]byte{"userAccountControl": lab.Text("512")}
	for _, u := range []lab.User{{Name: "jörg.müller", UPN: "Jörg.Müller@contoso.test", Mail: "joerg@wonder.test", Nick: "joergm", Password: "Grüße-42-€uro"},
		{Name: "wrong", Password: labWord}, {Name: "disabled", Password: labWord, Disabled: true}, {Name: "expired", Password: labWord}, {Name: "locked", Password: labWord},
		{Name: "must.change", Password: labWord, Attrs: ordinary}, {Name: "changes", Password: labWord}, {Name: "lost", Password: labWord}, {Name: "rotated", Password: labWord},
		{Name: "clock", Password: labWord}, {Name: "revoked", Password: labWord}, {Name: "nohash", Password: labWord}, {Name: "guessed", Password: labWord},
		{Name: "synced", Password: labWord, OID: "0b000000-0000-4000-8000-00000000abcd", Attrs: ordinary}} {
		if _, err := g.AddUser(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	g.must(g.MustChange(ctx, "must.change"), g.MustChange(ctx, "synced"), g.Expire(ctx, "expired", time.Now().Add(-time.Hour)), g.Lock(ctx, "locked"), g.RandomNTHash(ctx, "nohash"),
		g.AddMembers(ctx, "group0007", "revoked"))
	g.sync()
	for _, sub := range []struct {
		name string
		run  func(*testing.T, *ground)
	}{{"EveryFormOfName", labNames}, {"PasswordsThatAreWrong", labWrong}, {"StatesOfTheAccount", labStates}, {"MustChangeAtSignIn", labMustChange}, {"ChangePassword", labChange},
		{"KDCNeverAnswers", labSilent}, {"LostBetweenASAndTGS", labLost}, {"ClockOffByTenMinutes", labClock}, {"KeytabRotatedInTheMiddle", labRotated},
		{"GroupRevokedAMinuteAgo", labRevoked}, {"NTLM", labNTLM}, {"ShortOfTheLockout", labLockout}, {"TwoHundredInParallel", labParallel}} {
		t.Run(sub.name, func(t *testing.T) {
			old := g.t
			g.t = t
			defer func() { g.t = old }()
			g.set.Store(&login.Settings{PasswordURL: "https://password.example.test"})
			sub.run(t, g)
		})
	}
}

func labNames(t *testing.T, g *ground) {
	g.set.Store(&login.Settings{AlternateID: true})
	for _, name := range []string{"jörg.müller", "JÖRG.MÜLLER", g.NetBIOS + `\Jörg.Müller`, "jörg.müller@contoso.test", "Jörg.Müller@" + g.DNS, "joerg@wonder.test", "JoergM@contoso.onmicrosoft.com"} {
		r, err := g.try(name, "Grüße-42-€uro")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.User.Account != "jörg.müller" || r.How != login.ByKerberos || r.CCache.Len() == 0 || !strings.HasPrefix(r.Principal, "jörg.müller@") {
			t.Errorf("%s: %+v", name, r)
		}
		r.Wipe()
	}
}

func labWrong(t *testing.T, g *ground) {
	for what, tc := range map[string]struct {
		password string
		counted  bool
	}{"wrong": {"not it", true}, "empty": {"", false}, "1,000 bytes": {strings.Repeat("x", 1000), true}, "too long": {strings.Repeat("x", 1025), false},
		"not UTF-8": {labWord + "\xff", false}, "with NUL": {labWord + "\x00", false}} {
		g.must(g.SetAttr(t.Context(), "wrong", "badPwdCount", []byte("0")))
		_, err := g.try("wrong", tc.password)
		wantKind(t, what, err, fault.BadCredential)
		if n := g.attr("wrong", "badPwdCount"); n != map[bool]string{true: "1", false: "0"}[tc.counted] {
			t.Errorf("%s: the domain counted %s", what, n)
		}
	}
	if _, err := g.try("wrong", labWord); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

func labStates(t *testing.T, g *ground) {
	for who, tc := range map[string]struct{ truth, stranger fault.Kind }{
		"nobody-at-all": {fault.NotFound, fault.BadCredential}, "disabled": {fault.Disabled, fault.BadCredential}, "expired": {fault.Expired, fault.BadCredential},
		"locked": {fault.Locked, fault.BadCredential}, "must.change": {fault.MustChange, fault.MustChange},
		// The directory has nobody's password of these people.
		lab.UserName(60): {fault.BadCredential, fault.BadCredential},
	} {
		_, err := g.try(who, labWord)
		wantKind(t, who, err, tc.truth)
		wantKind(t, who+", to a stranger", login.ForStranger(err), tc.stranger)
	}
	for who, want := range map[string]fault.Kind{"disabled": fault.Disabled, "expired": fault.Expired, "must.change": fault.MustChange} {
		_, err := g.login.Account(t.Context(), login.Request{Name: who, Service: "sshd"})
		wantKind(t, who+", by key", err, want)
	}
}

// answer talks with a conversation and returns the last step.
func answer(t *testing.T, c *login.Conversation, answers ...string) (s login.Step, texts []string, err error) {
	t.Helper()
	for i, a := range answers {
		if s, err = c.Next(t.Context(), secret.FromString(a)); err != nil {
			return s, append(texts, s.Tell...), err
		}
		texts = append(texts, s.Tell...)
		if i+1 < len(answers) && s.Ask == nil {
			t.Fatalf("after %d answers nothing is asked: %+v", i+1, s)
		}
	}
	return s, texts, err
}

func labMustChange(t *testing.T, g *ground) {
	req := login.Request{Name: "must.change", Service: "sshd", Door: "pam", RemoteHost: "192.0.2.10"}
	c := g.login.Begin(req)
	_, texts, err := answer(t, c, labWord, "short", "short") // the domain wants seven characters of three kinds
	c.Close()
	if fault.KindOf(err) != fault.Denied || len(texts) < 2 {
		t.Errorf("a password that the domain refuses: %v, told %q", err, texts)
	}
	c = g.login.Begin(req)
	s, texts, err := answer(t, c, labWord, "N3w-Passw0rd!", "N3w-Passw0rd!")
	c.Close()
	if err != nil || s.Done == nil || s.Done.User.Name != "must.change" || s.Done.How != login.ByKerberos || s.Done.CCache.Len() == 0 {
		t.Fatalf("%+v, %v, told %q", s, err, texts)
	}
	if r, err := g.try("must.change", "N3w-Passw0rd!"); err != nil {
		t.Errorf("with the new one: %v", err)
	} else {
		r.Wipe()
	}
	_, err = g.try("must.change", labWord)
	wantKind(t, "with the old one", err, fault.BadCredential)

	// Where Entra ID keeps the password, nothing is asked but told.
	c = g.login.Begin(login.Request{Name: "synced", Service: "sshd", Door: "pam"})
	s, texts, err = answer(t, c, labWord)
	c.Close()
	if fault.KindOf(err) != fault.MustChange || s.Ask != nil || !strings.Contains(strings.Join(texts, " "), "https://password.example.test") {
		t.Errorf("a person of Entra ID: %+v, %v, told %q", s, err, texts)
	}
}

func labChange(t *testing.T, g *ground) {
	change := func(old, new string) ([]string, error) {
		return g.login.ChangePassword(t.Context(), login.Request{Name: "changes", Door: "pam", RemoteHost: "192.0.2.11"}, secret.FromString(old), secret.FromString(new))
	}
	_, err := change("not it", "N3w-Passw0rd!")
	wantKind(t, "a wrong old password", err, fault.BadCredential)
	texts, err := change(labWord, "short")
	wantKind(t, "one that the domain refuses", err, fault.Denied)
	if len(texts) == 0 {
		t.Error("nobody is told why the domain refuses it")
	}
	before := g.attr("changes", "pwdLastSet")
	if texts, err = change(labWord, "N3w-Passw0rd!"); err != nil || len(texts) == 0 {
		t.Fatalf("%q, %v", texts, err)
	}
	if g.attr("changes", "pwdLastSet") == before {
		t.Error("the domain has the old password still")
	}
	if r, err := g.try("changes", "N3w-Passw0rd!"); err != nil {
		t.Errorf("with the new one: %v", err)
	} else {
		r.Wipe()
	}
	texts, err = g.login.ChangePassword(t.Context(), login.Request{Name: "synced"}, secret.FromString(labWord), secret.FromString("N3w-Passw0rd!"))
	wantKind(t, "a person of Entra ID", err, fault.Denied)
	if !strings.Contains(strings.Join(texts, " "), "https://password.example.test") {
		t.Errorf("told %q", texts)
	}
}

func labSilent(t *testing.T, g *ground) {
	g.set.Store(&login.Settings{Offline: true})
	if _, err := g.try("lost", labWord); err != nil {
		t.Fatal(err)
	}
	g.login.Close() // the verifier is written after the answer
	g.wire.silent.Store(true)
	defer g.wire.silent.Store(false)
	r, err := g.try("lost", labWord)
	if err != nil || r.How != login.ByOffline {
		t.Errorf("who signed in before: %+v, %v", r, err)
	}
	_, err = g.try("lost", "not it")
	wantKind(t, "who signed in before, wrong", err, fault.BadCredential)
	_, err = g.try(lab.UserName(2), lab.UserPassword(2))
	wantKind(t, "who never did", err, fault.Unreachable)
	wantKind(t, "who never did, to a stranger", login.ForStranger(err), fault.Unreachable)
}

func labLost(t *testing.T, g *ground) {
	defer g.wire.tgs.Store(nil)
	for what, f := range map[string]func() (bool, error){"silently": func() (bool, error) { return false, nil }, "by link": func() (bool, error) { return false, errLink }} {
		g.set.Store(&login.Settings{})
		g.wire.tgs.Store(&f)
		before := g.attr("lost", "badPwdCount")
		_, err := g.try("lost", labWord)
		wantKind(t, what+", without a verifier", err, fault.Unreachable)
		g.set.Store(&login.Settings{Offline: true})
		r, err := g.try("lost", labWord)
		if err != nil || r.How != login.ByOffline || r.CCache.Len() != 0 {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
		_, err = g.try("lost", "not it either"+what)
		wantKind(t, what+", a wrong password", err, fault.BadCredential)
		g.wire.tgs.Store(nil)
		if r, err = g.try("lost", labWord); err != nil || r.How != login.ByKerberos {
			t.Errorf("%s, afterwards: %+v, %v", what, r, err)
		}
		if before != "0" && before != "" {
			t.Errorf("%s: %s wrong passwords before", what, before)
		}
	}
}

func labClock(t *testing.T, g *ground) {
	g.set.Store(&login.Settings{Offline: true})
	if _, err := g.try("clock", labWord); err != nil {
		t.Fatal(err)
	}
	g.login.Close()
	defer g.skew.Store(0)
	for _, off := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		g.skew.Store(int64(off))
		r, err := g.try("clock", labWord)
		wantKind(t, off.String(), err, fault.Unreachable)
		if r != nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("%s: %+v, %v", off, r, err)
		}
	}
	g.skew.Store(0)
	if _, err := g.try("clock", labWord); err != nil {
		t.Errorf("with the clock right: %v", err)
	}
	if n := g.attr("clock", "badPwdCount"); n != "0" && n != "" {
		t.Errorf("the domain counted %s", n)
	}
}

func labRotated(t *testing.T, g *ground) {
	g.set.Store(&login.Settings{})
	var once sync.Once
	rotate := func() (bool, error) { once.Do(func() { g.rotate(nil) }); return true, nil }
	g.wire.tgs.Store(&rotate)
	defer g.wire.tgs.Store(nil)
	r, err := g.try("rotated", labWord)
	if err != nil || r.How != login.ByKerberos {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = g.try("rotated", labWord); err != nil {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

func labRevoked(t *testing.T, g *ground) {
	ctx := t.Context()
	groups := func(what string) (names []string) {
		t.Helper()
		r, err := g.try("revoked", labWord)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, o := range r.Groups {
			names = append(names, o.Name)
		}
		return names
	}
	if got := strings.Join(groups("before"), " "); !strings.Contains(got, "group0007") {
		t.Fatalf("before: %s", got)
	}
	g.must(g.RemoveMembers(ctx, "group0007", "revoked"))
	if got := strings.Join(groups("revoked"), " "); strings.Contains(got, "group0007") {
		t.Errorf("a group that was revoked a moment ago is still there: %s", got)
	}
	g.must(g.AddMembers(ctx, "group0008", "revoked"))
	r, err := g.respond("revoked", labWord)
	if err != nil {
		t.Fatal(err)
	}
	has := false
	for _, o := range r.Groups {
		has = has || o.Name == "group0008"
	}
	if !has {
		t.Errorf("by NTLM: a group that was given a moment ago is not there: %v", r.GIDs)
	}
	r.Wipe()
}

func labParallel(t *testing.T, g *ground) {
	g.set.Store(&login.Settings{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	var in, out atomic.Int32
	seen := make([]atomic.Pointer[identity.SID], 50)
	for i := range 200 {
		n := 10 + i%40
		all.Go(func() {
			r, err := g.login.Authenticate(ctx, login.Request{Name: lab.UserName(n), Service: "sshd", Door: "test", RemoteHost: fmt.Sprint("192.0.2.", i)}, secret.FromString(lab.UserPassword(n)))
			if err != nil {
				out.Add(1)
				t.Errorf("%s: %v", lab.UserName(n), err)
				return
			}
			if r.User.Name != lab.UserName(n) {
				t.Errorf("%s signed in as %s", lab.UserName(n), r.User.Name)
			}
			seen[n].Store(&r.User.SID)
			in.Add(1)
			r.Wipe()
		})
	}
	all.Wait()
	if in.Load() != 200 {
		t.Errorf("%d of 200 got in, %d did not", in.Load(), out.Load())
	}
}
