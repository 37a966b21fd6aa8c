// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab/browser"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Every page, in every language and both themes, at 360 pixels: no rule of
// axe-core is broken, nothing overflows, nothing is loaded from elsewhere, and
// the keyboard alone is enough.
func TestWebPages(t *testing.T) {
	s := beginWeb(t, "[web]\nnegotiate_from = [\"192.0.2.0/24\"]\n[[sso.app]]\nname = \"photos\"\nuser = \"root\"\nredirect = [\"https://nas1.aadds.contoso.test:9443/in\"]\n")
	s.chromium()
	// A name as long as the directory takes it, without a place to break it, in
	// both directions, and with what a page must not take for its own.
	strange := strings.Repeat("Wolfeschlegelsteinhausenbergerdorff", 5) + "</dd><script>document.title='taken'</script>\u202e\u05e9\u05dc\u05d5\u05dd"
	s.try(s.domain.SetAttr(s.ctx, "user00001", "displayName", []byte(strange)))
	s.cli(0, "sync")
	// An app that has no page (204): the one that hands over to it stays.
	there := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	_ = there.Listener.Close()
	ln, err := s.nas.Listen("tcp", "0.0.0.0:9443")
	s.try(err)
	there.Listener, there.Config.ErrorLog = ln, log.New(io.Discard, "", 0) // Chromium complains of its certificate first
	there.StartTLS()
	defer there.Close()
	apps := latchkeyv1.NewSsoServiceClient(s.dial("api.sock"))
	elsewhere := s.page(browser.PageOptions{}) // a second session of the same person
	s.byForm(elsewhere, "localadmin", "Local-Passw0rd")
	s.isAccountOf(elsewhere, "localadmin")
	pictures := os.Getenv("LATCHKEY_PICTURES")
	for _, locale := range []string{"en-US", "zh-TW", "hu-HU"} {
		lang := map[string]string{"en-US": "en", "zh-TW": "zh-Hant", "hu-HU": "hu"}[locale]
		for _, dark := range []bool{false, true} {
			p := s.page(browser.PageOptions{Locale: locale, Dark: dark, Width: 360})
			look := func(name string) {
				t.Helper()
				found, err := p.Axe()
				s.try(err)
				for _, v := range found {
					t.Errorf("%s, %s, dark %v: %s: %s\n%s", name, locale, dark, v.ID, v.Help, strings.Join(v.Nodes, "\n"))
				}
				var wide bool
				s.try(p.Eval("document.documentElement.scrollWidth > document.documentElement.clientWidth", &wide))
				if wide {
					t.Errorf("%s, %s: wider than 360 pixels", name, locale)
				}
				var got string
				s.try(p.Eval("document.documentElement.lang", &got))
				if got != lang {
					t.Errorf("%s: in %s, want %s", name, got, lang)
				}
				if pictures != "" {
					shot, err := p.Shot()
					s.try(err)
					s.try(os.WriteFile(filepath.Join(pictures, fmt.Sprintf("%s-%s-dark-%v.png", name, lang, dark)), shot, 0o644))
				}
			}
			s.goTo(p, "/auth/sign-in", 200)
			look("sign-in")
			s.try(p.Fill("#name", "user00001"))
			s.try(p.Fill("#password", "wrong"))
			if dark { // one wrong password for each language is enough
				s.goTo(p, "/nowhere", 404)
				look("not-found")
			} else {
				s.try(p.Click("#submit"))
				look("wrong")
			}
			s.goTo(p, "/auth/negotiate/test", 200)
			look("test")
			s.byForm(p, "localadmin", "Local-Passw0rd")
			s.try(p.WaitURL("/auth/account"))
			if n := must(p.Count(".cards li")); n < 2 || must(p.Count("#end-others")) != 1 {
				t.Errorf("the account page of somebody with two sessions lists %d", n)
			}
			look("account-local")
			s.try(p.Click("#sign-out"))
			look("signed-out")
			begun, err := apps.BeginSignIn(s.ctx, &latchkeyv1.BeginSignInRequest{App: "photos", RedirectUri: "https://" + s.host + ":9443/in", State: "x"})
			s.try(err)
			_, err = p.Goto(begun.GetUrl())
			s.try(err)
			s.try(p.Fill("#name", "localadmin"))
			s.try(p.Fill("#password", "Local-Passw0rd"))
			s.try(p.Click("#submit"))
			if n := must(p.Count("#continue")); n != 1 {
				t.Errorf("after the sign-in for an app the browser is at %s: %s", must(p.URL()), s.text(p, "body"))
			}
			look("hand-over")
			s.goTo(p, "/auth/account", 200)
			s.try(p.Click("#sign-out"))
			s.goTo(p, "/auth/oidc/callback?code=x&state=y", 400)
			look("error")
			if locale == "en-US" {
				s.byEntra(p, "user00001@contoso.test", "Entra-1")
				s.isAccountOf(p, "user00001")
				look("account")
				if got := s.text(p, `[data-fact="display"]`); got != strange {
					t.Errorf("the page shows the name as %q, want %q", got, strange)
				}
				var title string
				if s.try(p.Eval("document.title", &title)); strings.Contains(title, "taken") {
					t.Error("a name is taken for a script")
				}
			}
			for _, u := range must(p.Requests()) {
				if !strings.HasPrefix(u, s.base+"/") && !strings.HasPrefix(u, "https://"+s.host+":9443/in?code=") && !strings.HasPrefix(u, "http://127.0.0.1:9480/") && !strings.HasPrefix(u, "data:") {
					t.Errorf("a page asks for %s", u)
				}
			}
			s.try(p.Close())
		}
	}

	// The keyboard: the first stop leads past the header, and the form goes off
	// by Enter.
	p := s.page(browser.PageOptions{})
	s.goTo(p, "/auth/sign-in", 200)
	s.try(p.Press("Tab"))
	var here string
	s.try(p.Eval("document.activeElement.className", &here))
	if here != "skip" {
		t.Errorf("the first stop of the keyboard is %q, want the way to the content", here)
	}
	s.try(p.Press("Enter"))
	for range 10 {
		s.try(p.Press("Tab"))
		s.try(p.Eval("document.activeElement.id", &here))
		if here == "name" {
			break
		}
	}
	if here != "name" {
		t.Fatal("the keyboard does not reach the field of the name")
	}
	s.try(p.Fill("#name", "localadmin"))
	s.try(p.Press("Tab"))
	s.try(p.Fill("#password", "Local-Passw0rd"))
	s.try(p.Press("Enter"))
	s.isAccountOf(p, "localadmin")
}
