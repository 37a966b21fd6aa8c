// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// code has an app ask, and the browser of a session pass by.
func (w *world) code(c session.Caller, app, redirect, token string) string {
	w.t.Helper()
	address, err := w.sessions.Request(c, app, redirect, "the app's state & more")
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.HasPrefix(address, base+session.BeginPath+"?request=") {
		w.t.Fatalf("the browser is sent to %s", address)
	}
	to, err := w.sessions.Pass(w.t.Context(), token, query(w.t, address).Get("request"))
	if err != nil {
		w.t.Fatal(err)
	}
	q := query(w.t, to)
	if !strings.HasPrefix(to, strings.SplitN(redirect, "?", 2)[0]+"?") || q.Get("state") != "the app's state & more" || strings.Contains(redirect, "keep") && q.Get("keep") != "1" {
		w.t.Fatalf("the app gets %s", to)
	}
	return q.Get("code")
}

func TestAnAppLearnsWhoItIs(t *testing.T) {
	w := newWorld(t)
	address, err := w.sessions.Request(www, "photos", photos.Redirects[1], "s1")
	if err != nil {
		t.Fatal(err)
	}
	// The browser has no session yet: it signs in on the way.
	request := query(t, address).Get("request")
	if _, err := w.sessions.Pass(t.Context(), "", request); err != session.ErrNone {
		t.Errorf("pass without a session: %v", err)
	}
	b := w.begin(session.Ask{Request: request})
	done, err := w.sessions.Finish(t.Context(), w.answer(b, oidctest.Person), b.Cookie, browser)
	if err != nil {
		t.Fatal(err)
	}
	q := query(t, done.Location)
	if !strings.HasPrefix(done.Location, "https://photos.contoso.test/cb?") || q.Get("state") != "s1" || q.Get("keep") != "1" {
		t.Fatalf("the browser goes to %s", done.Location)
	}
	in, p, err := w.sessions.Exchange(t.Context(), www, "photos", photos.Redirects[1], q.Get("code"))
	if err != nil || p.Name() != "alice" || in.Session.App != "photos" || in.Session.How != "oidc" || in.Session.RemoteHost != "192.0.2.7" {
		t.Fatalf("exchange: %+v, %v", in, err)
	}
	// Each token opens its own place only.
	if _, _, err := w.sessions.Get(t.Context(), in.Token, "photos"); err != nil {
		t.Error(err)
	}
	for app, token := range map[string]string{"": in.Token, "notes": in.Token, "photos": done.Token} {
		if _, err := w.sessions.Check(t.Context(), token, app); err != session.ErrNone {
			t.Errorf("another place's token opens %q: %v", app, err)
		}
	}
	if _, err := w.sessions.Pass(t.Context(), in.Token, request); err != session.ErrNone {
		t.Errorf("an app's token makes codes: %v", err)
	}
	// Who signs out here signs out there.
	if _, err := w.sessions.SignOut(t.Context(), done.Token); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.sessions.Get(t.Context(), in.Token, "photos"); err != session.ErrNone {
		t.Errorf("the app's session after the sign-out: %v", err)
	}
}

func TestCodesAreGoodOnceForTheirAppAndAMinute(t *testing.T) {
	w := newWorld(t)
	done := w.signIn(oidctest.Person)
	first := photos.Redirects[0]
	for name, tc := range map[string]struct {
		by       session.Caller
		app      string
		redirect string
		late     time.Duration
		cut      bool
		want     fault.Kind
	}{
		"another uid":          {nobody, "photos", first, 0, false, fault.Denied},
		"another app's gid":    {session.Caller{UID: 1002, GIDs: []identity.GID{44}}, "photos", first, 0, false, fault.Denied},
		"another app":          {session.Caller{UID: 1002, GIDs: []identity.GID{44}}, "notes", notes.Redirects[0], 0, false, fault.BadCredential},
		"another redirect URI": {www, "photos", photos.Redirects[1], 0, false, fault.BadCredential},
		"no such app":          {www, "none", first, 0, false, fault.NotFound},
		"a minute later":       {www, "photos", first, time.Minute, false, fault.BadCredential},
		"half a code":          {www, "photos", first, 0, true, fault.BadCredential},
	} {
		code := w.code(www, "photos", first, done.Token)
		w.pass(tc.late)
		if tc.cut {
			code = code[:20]
		}
		if in, _, err := w.sessions.Exchange(t.Context(), tc.by, tc.app, tc.redirect, code); !fault.Is(err, tc.want) {
			t.Errorf("%s: %v, %v", name, in, err)
		}
	}
	code := w.code(www, "photos", first, done.Token)
	if _, _, err := w.sessions.Exchange(t.Context(), session.Caller{UID: 1002, GIDs: []identity.GID{44}}, "notes", notes.Redirects[0], code); err == nil {
		t.Error("another app's code")
	}
	if _, _, err := w.sessions.Exchange(t.Context(), www, "photos", first, code); !fault.Is(err, fault.BadCredential) {
		t.Errorf("a code that was tried elsewhere: %v", err)
	}
	code = w.code(www, "photos", first, done.Token)
	w.restart()
	if _, _, err := w.sessions.Exchange(t.Context(), www, "photos", first, code); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	w.restart()
	if _, _, err := w.sessions.Exchange(t.Context(), www, "photos", first, code); !fault.Is(err, fault.BadCredential) {
		t.Errorf("for the second time, after a restart: %v", err)
	}
	code = w.code(www, "photos", first, done.Token)
	if _, err := w.sessions.SignOut(t.Context(), done.Token); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.sessions.Exchange(t.Context(), www, "photos", first, code); !fault.Is(err, fault.BadCredential) {
		t.Errorf("after the sign-out: %v", err)
	}
}

func TestACodeThatManyBringAtOnceIsGoodForOne(t *testing.T) {
	w := newWorld(t)
	code := w.code(www, "photos", photos.Redirects[0], w.signIn(oidctest.Person).Token)
	var all sync.WaitGroup
	var good atomic.Int32
	for range 16 {
		all.Go(func() {
			if _, _, err := w.sessions.Exchange(t.Context(), www, "photos", photos.Redirects[0], code); err == nil {
				good.Add(1)
			}
		})
	}
	all.Wait()
	if good.Load() != 1 {
		t.Errorf("%d of 16 got a session", good.Load())
	}
}

func TestWhoMayAskForWhichApp(t *testing.T) {
	w := newWorld(t)
	// Ids that a configuration may name by mistake: everybody from another user
	// namespace, and a group that is no permission.
	w.settings.Apps = append(slices.Clone(w.settings.Apps), session.App{Name: "careless", UIDs: []identity.UID{65534}, GIDs: []identity.GID{0, 65534}, Redirects: []string{"https://careless.test/cb"}})
	for name, tc := range map[string]struct {
		c             session.Caller
		app, redirect string
		want          fault.Kind
	}{
		"its uid":                     {www, "photos", photos.Redirects[0], fault.Unknown},
		"root":                        {session.Caller{}, "photos", photos.Redirects[0], fault.Unknown},
		"its gid":                     {session.Caller{UID: 5, GIDs: []identity.GID{5, 44}}, "notes", notes.Redirects[0], fault.Unknown},
		"from another user namespace": {session.Caller{UID: 65534, GIDs: []identity.GID{65534}}, "careless", "https://careless.test/cb", fault.Denied},
		"in root's group":             {session.Caller{UID: 1001, GIDs: []identity.GID{1001, 0}}, "careless", "https://careless.test/cb", fault.Denied},
		"another":                     {nobody, "photos", photos.Redirects[0], fault.Denied},
		"unregistered":                {www, "photos", "https://evil.test/", fault.Malformed},
		"a longer path":               {www, "photos", photos.Redirects[0] + "/x", fault.Malformed},
		"another case":                {www, "photos", strings.ToUpper(photos.Redirects[0]), fault.Malformed},
		"another app's":               {www, "photos", notes.Redirects[0], fault.Malformed},
		"no app":                      {www, "", photos.Redirects[0], fault.NotFound},
	} {
		if _, err := w.sessions.Request(tc.c, tc.app, tc.redirect, ""); fault.KindOf(err) != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := w.sessions.Request(www, "photos", photos.Redirects[0], strings.Repeat("x", 513)); !fault.Is(err, fault.Malformed) {
		t.Errorf("a long state: %v", err)
	}
	// A registration that is taken away in the middle counts at once.
	address, err := w.sessions.Request(www, "photos", photos.Redirects[0], "")
	if err != nil {
		t.Fatal(err)
	}
	token := w.signIn(oidctest.Person).Token
	w.settings.Apps = []session.App{notes}
	_, err = w.sessions.Pass(t.Context(), token, query(t, address).Get("request"))
	wantReason(t, "an app that is gone", err, session.Setup)
	_, err = w.sessions.Pass(t.Context(), token, "x")
	wantReason(t, "a request that is none", err, session.Stale)
}

func TestAnAppsSessionEndsWithTheOneItCameOf(t *testing.T) {
	w := newWorld(t)
	w.settings.Absolute = time.Hour
	done := w.signIn(oidctest.Person)
	w.pass(40 * time.Minute)
	in, _, err := w.sessions.Exchange(t.Context(), www, "photos", photos.Redirects[0], w.code(www, "photos", photos.Redirects[0], done.Token))
	if err != nil || in.Session.Ends.After(done.Session.Ends) {
		t.Errorf("it ends at %v, the other at %v: %v", in.Session.Ends, done.Session.Ends, err)
	}
	app := "photos"
	if all := w.sessions.List(session.Filter{App: &app}); len(all) != 1 || all[0].ID != in.Session.ID {
		t.Errorf("list: %v", all)
	}
	if n, err := w.sessions.End(t.Context(), in.Token, "notes"); n != 0 || err != nil {
		t.Errorf("another app ends it: %d, %v", n, err)
	}
	if n, err := w.sessions.End(t.Context(), in.Token, "photos"); n != 1 || err != nil {
		t.Errorf("the app ends it: %d, %v", n, err)
	}
	w.has("the one it came of", done.Token, true)
}

func TestTheAppOfAHost(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		host, path string
		c          session.Caller
		want       string
	}{
		{"photos.contoso.test", "/.latchkey/callback", www, "photos"}, {"PHOTOS.contoso.test", "/.latchkey/callback", session.Caller{}, "photos"},
		{"photos.contoso.test", "/.latchkey/callback", nobody, ""}, {"photos.contoso.test", "/other", www, ""}, {"photos.contoso.test:8443", "/.latchkey/callback", www, ""},
		{"notes.contoso.test", "/.latchkey/callback", www, ""}, {"", "/.latchkey/callback", www, ""}, {"photos.contoso.test/.latchkey/callback", "", www, ""},
	} {
		if got, _, _ := w.sessions.AppAt(tc.host, tc.path, tc.c); got != tc.want && !(tc.path == "" && got == "photos") {
			t.Errorf("%+v: %q", tc, got)
		}
	}
}
