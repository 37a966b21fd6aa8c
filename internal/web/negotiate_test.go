// SPDX-License-Identifier: Apache-2.0

package web

import (
	"encoding/base64"
	"html"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/session"
)

func negotiate(token string) http.Header {
	return http.Header{"Authorization": {"Negotiate " + base64.StdEncoding.EncodeToString([]byte(token))}}
}

// A browser is asked once; whatever it answers, it is never asked again by the
// same visit, so that no dialog comes back.
func TestNegotiateAsksOnce(t *testing.T) {
	s := open(t)
	s.settings.NegotiateFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	v := s.visitor()
	a := v.get("/auth/sign-in")
	if a.StatusCode != 303 || !strings.HasPrefix(a.Header.Get("Location"), "/auth/negotiate?") {
		t.Fatalf("the first visit: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	there := a.Header.Get("Location")
	a = v.get(there)
	if a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != "Negotiate" || !strings.Contains(a.text, `action="/auth/password"`) {
		t.Errorf("without a ticket: %d %v\n%s", a.StatusCode, a.Header, a.text)
	}
	if a := v.get("/auth/sign-in"); a.StatusCode != 200 {
		t.Errorf("the second visit: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	for token, notice := range map[string]string{"ntlm": "signin.noticket", "used": "test.why.replay", "\xff": "test.why.replay"} {
		v.header = negotiate(token)
		if a := v.get(there); !strings.Contains(html.UnescapeString(a.text), `<p class="note" role="status">`+s.en(notice)) {
			t.Errorf("token %q: the page does not say %q:\n%s", token, s.en(notice), a.text)
		}
		if a := v.get(there); a.StatusCode != 200 || a.Header.Get("WWW-Authenticate") != "" || !strings.Contains(a.text, `action="/auth/password"`) || v.jar[session.Cookie] != "" {
			t.Errorf("token %q: %d %v", token, a.StatusCode, a.Header)
		}
	}
	for _, header := range []string{"Basic YTpi", "Negotiate", "Negotiate %%%", "Negotiate " + strings.Repeat("A", 100)} {
		v.header = http.Header{"Authorization": {header}}
		if a := v.get(there); a.Header.Get("WWW-Authenticate") != "" || v.jar[session.Cookie] != "" {
			t.Errorf("%.20s is asked again", header)
		}
	}
	v.header = negotiate("denied")
	if a := v.get(there); a.StatusCode != 403 || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("somebody who may not: %d", a.StatusCode)
	}
	v.header = negotiate("ticket")
	a = v.get(there)
	if a.StatusCode != 303 || a.Header.Get("Location") != "/auth/account" || a.Header.Get("WWW-Authenticate") != "Negotiate "+base64.StdEncoding.EncodeToString([]byte("proof")) || v.jar[session.Cookie] == "" {
		t.Errorf("with a ticket: %d %v", a.StatusCode, a.Header)
	}
	// Whoever signs out stays out.
	v.header = http.Header{}
	v.do(http.MethodPost, "/auth/sign-out", nil)
	if a := v.get("/auth/sign-in"); a.StatusCode != 200 {
		t.Errorf("after the sign-out: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
}

func TestNegotiateBySubnetAndGroup(t *testing.T) {
	s := open(t)
	for _, test := range []struct {
		from   string
		groups []string
		in     bool
	}{
		{"", nil, true}, {"10.0.0.0/8", nil, false}, {"127.0.0.1/32", nil, true}, {"127.0.0.0/8", []string{"Office"}, true},
		{"127.0.0.0/8", []string{"S-1-5-21-1-2-3-1104"}, true}, {"127.0.0.0/8", []string{"others"}, false},
	} {
		s.settings.NegotiateFrom, s.settings.NegotiateGroups = nil, test.groups
		if test.from != "" {
			s.settings.NegotiateFrom = []netip.Prefix{netip.MustParsePrefix(test.from)}
		}
		v := s.visitor()
		v.header = negotiate("ticket")
		a := v.get("/auth/negotiate")
		if in := v.jar[session.Cookie] != ""; in != test.in {
			t.Errorf("%+v: %d, signed in %v", test, a.StatusCode, in)
		}
		if denied := strings.Contains(html.UnescapeString(a.text), s.en("test.why.denied")); denied != (test.groups != nil && !test.in) {
			t.Errorf("%+v: says that the rules deny it: %v\n%s", test, denied, a.text)
		}
		if test.from == "" { // by a click only
			if a := s.visitor().get("/auth/sign-in"); a.StatusCode != 200 || !strings.Contains(a.text, `id="computer"`) {
				t.Errorf("a first visit: %d\n%s", a.StatusCode, a.text)
			}
		}
	}
	s.settings.Negotiate, s.settings.NegotiateGroups = false, nil
	v := s.visitor()
	v.header = negotiate("ticket")
	if a := v.get("/auth/negotiate"); v.jar[session.Cookie] != "" || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("switched off: %d, signed in", a.StatusCode)
	}
	if a := s.visitor().get("/auth/sign-in"); strings.Contains(a.text, `id="computer"`) {
		t.Error("switched off, and offered")
	}
}

func TestNegotiateTestPage(t *testing.T) {
	s := open(t)
	en := s.server.pages.languages.named("en")
	see := func(token string, status int, words ...string) {
		t.Helper()
		v := s.visitor()
		if token != "" {
			v.header = negotiate(token)
		}
		a := v.get("/auth/negotiate/test")
		if a.StatusCode != status {
			t.Errorf("%q: %d", token, a.StatusCode)
		}
		for _, word := range words {
			if !strings.Contains(html.UnescapeString(a.text), word) {
				t.Errorf("%q: the page does not say %q:\n%s", token, word, a.text)
			}
		}
		if v.jar[session.Cookie] != "" {
			t.Errorf("%q: the test page signs in", token)
		}
	}
	s.settings.Negotiate = false
	see("", 200, en.text("test.why.off"))
	s.settings.Negotiate = true
	s.settings.NegotiateFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	host := strings.TrimPrefix(s.URL, "https://")
	see("", 401, en.text("test.why.no-ticket", host))
	see("ntlm", 200, en.text("test.why.ntlm", host), "NTLM")
	see("used", 200, en.text("test.why.replay"), "HTTP/nas.contoso.test@CONTOSO.TEST", "AES-256 (18)", "2.0 seconds", `data-fact="kvno">4<`)
	see("ticket", 200, en.text("test.ok", "ada"), "ada (uid 1000)")
}
