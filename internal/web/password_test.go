// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"html"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/session"
)

func TestPasswordForm(t *testing.T) {
	s := open(t)
	v := s.visitor()
	if a := v.get("/"); a.StatusCode != 303 || a.Header.Get("Location") != "/auth/account" {
		t.Errorf("the first page: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	a := v.get("/auth/account")
	if a.StatusCode != 303 || !strings.HasPrefix(a.Header.Get("Location"), "/auth/sign-in?") {
		t.Fatalf("the account of nobody: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	a = v.get(a.Header.Get("Location"))
	if a.StatusCode != 200 || !strings.Contains(a.text, `action="/auth/password"`) || strings.Contains(a.text, `id="entra"`) {
		t.Errorf("the sign-in: %d\n%s", a.StatusCode, a.text)
	}
	if a := v.signIn("ada", "right", "return", "/auth/account"); a.StatusCode != 303 || a.Header.Get("Location") != "/auth/account" || len(v.jar[session.Cookie]) != 43 {
		t.Fatalf("the right password: %d %v\n%s", a.StatusCode, v.jar, a.text)
	}
	if a := v.get("/auth/account"); a.StatusCode != 200 || !strings.Contains(a.text, `data-fact="uid">1000<`) {
		t.Errorf("the account: %d\n%s", a.StatusCode, a.text)
	}
	if a := v.get("/auth/sign-in?return=/auth/account"); a.StatusCode != 303 {
		t.Errorf("the sign-in of somebody who is in: %d", a.StatusCode)
	}
	if a := v.do(http.MethodPost, "/auth/sign-out", nil); a.StatusCode != 303 || v.jar[session.Cookie] != "" || s.sessions.Count() != 0 {
		t.Errorf("the sign-out: %d, %v, %d sessions are left", a.StatusCode, v.jar, s.sessions.Count())
	}
}

// What cannot be decided, and what a right password alone does not open, is told
// with what to do.
func TestPasswordOutcomes(t *testing.T) {
	s := open(t)
	for name, want := range map[string]struct {
		status int
		text   string
	}{
		"locked": {403, "error.locked"}, "away": {503, "error.away"}, "old": {403, "error.must-change"}, "old-here": {403, "error.must-change"}, "old-odd": {403, "error.must-change"}, "closed": {403, "error.denied"},
	} {
		a := s.visitor().signIn(name, "right")
		why := s.server.pages.languages.named("en").text(want.text)
		if a.StatusCode != want.status || !strings.Contains(html.UnescapeString(a.text), why) || !strings.Contains(a.text, `id="do"`) {
			t.Errorf("%s: %d\n%s", name, a.StatusCode, a.text)
		}
		if link := strings.Contains(a.text, `<a id="change" href="https://account.contoso.test/?a=b&amp;c" rel="noreferrer">`); link != (name == "old") || strings.Contains(a.text, "javascript") {
			t.Errorf("%s: a link to where the password is changed: %v\n%s", name, link, a.text)
		}
	}
}

// Who cannot be helped by another password is not slowed down for having tried,
// and whose guesses failed before is not forgiven for it.
func TestOnlyWrongPasswordsAreCounted(t *testing.T) {
	s := open(t)
	v := s.visitor()
	for range 2 * failuresNamed {
		for _, name := range []string{"locked", "away", "old", "closed"} {
			if a := v.signIn(name, "right"); a.StatusCode == 429 {
				t.Fatalf("%s is told to wait", name)
			}
		}
	}
	for range failuresNamed - 1 {
		v.signIn("ada", "guess")
		v.signIn("away", "guess")
	}
	v.signIn("ada", "guess")
	if a := v.signIn("ada", "right"); a.StatusCode != 429 {
		t.Errorf("after %d guesses: %d", failuresNamed, a.StatusCode)
	}
}

// A right password is answered at once and a wrong one late: whoever goes away
// before the answer has guessed.
func TestAGuessCountsWhoeverDoesNotWaitForTheAnswer(t *testing.T) {
	s := open(t)
	for i := range failuresNamed {
		ctx, leave := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/auth/password", strings.NewReader("name=pam&password=guess"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.RemoteAddr = "192.0.2.1:1"
		done := make(chan struct{})
		go func() { defer close(done); s.server.ServeHTTP(httptest.NewRecorder(), r) }()
		for s.stack.asked.Load() == int64(i) {
			time.Sleep(time.Millisecond)
		}
		leave()
		<-done
	}
	if s.server.throttle.wait(netip.MustParseAddr("192.0.2.1"), "pam") == 0 {
		t.Errorf("%d guesses whose answers nobody waited for cost nothing", failuresNamed)
	}
}

// An office behind one address may sign in, however many they are.
func TestRightPasswordsAreNotCounted(t *testing.T) {
	s := open(t)
	for range failuresEach {
		if a := s.visitor().signIn("ada", "right"); a.StatusCode != 303 {
			t.Fatalf("the right password: %d", a.StatusCode)
		}
	}
	if a := s.visitor().signIn("ada", "right"); a.StatusCode != 303 {
		t.Errorf("after %d right passwords: %d", failuresEach, a.StatusCode)
	}
	// Right ones buy no guesses at others.
	for i := range failuresEach {
		s.visitor().signIn("user"+string(rune('a'+i)), "guess")
		s.visitor().signIn("ada", "right")
	}
	if a := s.visitor().signIn("userx", "guess"); a.StatusCode != 429 {
		t.Errorf("after %d guesses among right passwords: %d", failuresEach, a.StatusCode)
	}
}

// Nobody learns from the form which names there are.
func TestUnknownNameAndWrongPasswordAreTheSame(t *testing.T) {
	s := open(t)
	page := func(name, password string) string {
		a := s.visitor().signIn(name, password)
		if a.StatusCode != 401 || len(a.Cookies()) != 0 {
			t.Errorf("%s: %d, cookies %v", name, a.StatusCode, a.Cookies())
		}
		return strings.ReplaceAll(a.text, `value="`+name+`"`, "")
	}
	want := page("ada", "wrong")
	for _, name := range []string{"nobody", "locked", "old", strings.Repeat("n", 300)} {
		if got := page(name, "wrong"); name != strings.Repeat("n", 300) && got != want {
			t.Errorf("the page for %.20s is another one:\n%s", name, got)
		}
	}
}

func TestBruteForceIsSlowedDown(t *testing.T) {
	s := open(t)
	v := s.visitor()
	last := 0
	for range failuresNamed + 4 {
		last = v.signIn("ada", "guess").StatusCode
	}
	if last != 429 || s.stack.asked.Load() != failuresNamed {
		t.Errorf("after %d guesses: %d, and the stack was asked %d times", failuresNamed+4, last, s.stack.asked.Load())
	}
	a := v.signIn("ada", "right")
	if a.StatusCode != 429 || a.Header.Get("Retry-After") == "" || v.jar[session.Cookie] != "" {
		t.Errorf("the right password among guesses: %d", a.StatusCode)
	}
	// Another name from the same address may still try, but not without end.
	for i := range failuresEach {
		last = v.signIn("user"+string(rune('a'+i)), "guess").StatusCode
	}
	if last != 429 || s.stack.asked.Load() != failuresEach {
		t.Errorf("many names: %d, and the stack was asked %d times", last, s.stack.asked.Load())
	}
	s.clock.Store(int64(window/time.Second) + 1)
	if a := v.signIn("ada", "right"); a.StatusCode != 303 {
		t.Errorf("after the window: %d", a.StatusCode)
	}
}
