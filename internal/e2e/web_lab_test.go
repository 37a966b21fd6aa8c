// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/browser"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/provider"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// The tenant that the lab's provider is.
const (
	webTenant = "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b"
	webClient = "1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90"
	webSecret = "lab~secret.of-the-app"
)

// website is a story of a NAS in the domain with a tenant, and a browser on the
// same machine.
type website struct {
	*story
	base    string // https://nas1.DOMAIN:8443
	host    string
	browser *browser.Browser
}

// beginWeb starts all of it: one population, one tenant whose people are the
// domain's.
func beginWeb(t *testing.T, settings string) *website {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	s := &website{story: &story{t: t, ctx: ctx, domain: lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 20, Groups: 4}})}}
	n, err := nas.Install(ctx, s.domain.StartBox(t, "nas1", lab.BoxOptions{Layer: provider.Layer()}))
	if err != nil {
		t.Fatal(err)
	}
	s.nas = n
	s.host = "nas1." + s.domain.DNS
	s.base = "https://" + s.host + ":8443"
	people := []provider.Person{{UPN: "nobody@contoso.test", Password: "Entra-0", OID: "00000000-1111-4222-8333-444444444444", Name: "Not in the domain"},
		{UPN: "guest_home.test#EXT#@contoso.test", Password: "Entra-0", OID: "00000000-1111-4222-8333-555555555555", Name: "Guest", Guest: true}}
	for i := 1; i <= 3; i++ {
		o, err := s.domain.Find(ctx, lab.UserName(i))
		if err != nil {
			t.Fatal(err)
		}
		people = append(people, provider.Person{UPN: lab.UserName(i) + "@contoso.test", Password: fmt.Sprintf("Entra-%d", i), OID: o.OID, Name: fmt.Sprintf("User %d", i)})
	}
	set := provider.Settings{Tenant: webTenant, Client: webClient, Secret: webSecret, RedirectURIs: []string{s.base + "/auth/oidc/callback"}, People: people, Port: 9480,
		FrontChannel: s.base + "/auth/oidc/signed-out"}
	if _, err := provider.Start(ctx, n.Machine, set, false); err != nil {
		t.Fatal(err)
	}
	s.sh("printf '%s\n' '" + webSecret + "' >/var/lib/sso.secret; mkdir -p /etc/latchkey")
	config := fmt.Sprintf("version = 1\n[sso]\ntenant = %q\nclient = %q\nauthority = %q\nsecret_file = \"/var/lib/sso.secret\"\n%s", webTenant, webClient, set.Authority(), settings)
	s.try(n.WriteFile(ctx, "/etc/latchkey/latchkey.toml", []byte(config), 0o644))
	s.sh("chmod 644 /var/lib/sso.secret; sed -i '/nas1/d' /etc/hosts; echo '" + n.IP() + " " + s.host + " nas1' >>/etc/hosts; pam-auth-update --package --enable latchkey; useradd -m -s /bin/bash localadmin; echo 'localadmin:Local-Passw0rd' | chpasswd")
	if err := n.Start(ctx, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", s.log())
		}
	})
	if err := n.MustJoin(ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.try(n.UseNSS(ctx))
	s.waitFor("the pages are served, with the button of Entra ID", func() bool {
		r, err := n.Run(ctx, "curl", "-ks", s.base+"/auth/sign-in?stay=1")
		return err == nil && strings.Contains(r.Stdout, `id="entra"`)
	})
	return s
}

// chromium opens the browser once.
func (s *website) chromium(flags ...string) {
	s.t.Helper()
	b, err := browser.Open(s.ctx, s.nas.Machine, browser.Options{Flags: flags})
	if err != nil {
		s.t.Fatal(err)
	}
	s.browser = b
	s.t.Cleanup(b.Close)
	s.t.Log("Chromium", b.Version)
}

func (s *website) page(o browser.PageOptions) *browser.Page {
	s.t.Helper()
	p, err := s.browser.Page(o)
	s.try(err)
	return p
}

func (s *website) text(p *browser.Page, selector string) string {
	s.t.Helper()
	text, err := p.Text(selector)
	s.try(err)
	return text
}

func (s *website) goTo(p *browser.Page, path string, status int) {
	s.t.Helper()
	r, err := p.Goto(s.base + path)
	s.try(err)
	if r.Status != status {
		s.t.Errorf("%s: status %d, want %d", path, r.Status, status)
	}
}

// byForm signs in with a name and a password.
func (s *website) byForm(p *browser.Page, name, password string) {
	s.t.Helper()
	s.goTo(p, "/auth/sign-in?stay=1", 200)
	s.try(p.Fill("#name", name))
	s.try(p.Fill("#password", password))
	s.try(p.Click("#submit"))
}

// byEntra signs in at the provider.
func (s *website) byEntra(p *browser.Page, upn, password string) {
	s.t.Helper()
	s.goTo(p, "/auth/sign-in?stay=1", 200)
	s.try(p.Click("#entra"))
	s.try(p.WaitURL("/interaction/"))
	s.try(p.Fill("input[name=upn]", upn))
	s.try(p.Fill("input[name=password]", password))
	s.try(p.Click("#in"))
	s.try(p.WaitURL(s.host))
}

// isAccountOf checks that the account page is somebody's, with the uid that the
// machine itself knows.
func (s *website) isAccountOf(p *browser.Page, name string) {
	s.t.Helper()
	s.try(p.WaitURL("/auth/account"))
	if got, want := s.text(p, `[data-fact="uid"]`), s.sh("id -u "+name); got != want {
		s.t.Errorf("the page says uid %s of %s, id says %s", got, name, want)
	}
	if got := s.text(p, `[data-fact="name"]`); got != name {
		s.t.Errorf("the page says %s, want %s", got, name)
	}
}

// One person is the same row by password, by Entra ID and in id; an account of
// the machine signs in as well, and people of the domain when Entra is away.
func TestWebSignIn(t *testing.T) {
	s := beginWeb(t, "")
	s.chromium()

	p := s.page(browser.PageOptions{})
	s.byForm(p, "user00001", lab.UserPassword(1))
	s.isAccountOf(p, "user00001")
	if n, err := p.Count("#groups ~ table tbody tr"); err != nil || n != len(strings.Fields(s.sh("id -G user00001"))) {
		t.Errorf("the page lists %d groups (%v), id %s: %s", n, err, s.sh("id -Gn user00001"), s.text(p, "section:nth-of-type(2)"))
	}
	s.try(p.Click("#sign-out"))
	s.try(p.WaitURL("notice=out"))
	for _, c := range must(p.Cookies()) {
		if c.Name == "__Host-latchkey" {
			t.Error("the session's cookie outlives the sign-out")
		}
	}

	p = s.page(browser.PageOptions{NoJS: true, Width: 360})
	s.byForm(p, "localadmin", "Local-Passw0rd")
	s.isAccountOf(p, "localadmin")
	s.byFormFails(p, "localadmin", "wrong")

	p = s.page(browser.PageOptions{})
	s.byEntra(p, "user00002@contoso.test", "Entra-2")
	s.isAccountOf(p, "user00002")
	session := ""
	for _, c := range must(p.Cookies()) {
		if c.Name == "__Host-latchkey" {
			session = c.Value
			if !c.Secure || !c.HTTPOnly || c.Path != "/" || c.SameSite != "Lax" || c.Domain != s.host {
				t.Errorf("the session's cookie is %+v", c)
			}
		}
	}
	if session == "" {
		t.Error("there is no session's cookie")
	}
	for _, file := range []string{"/var/lib/latchkey/latchkey.db", "/var/log/latchkeyd.log", "/var/log/latchkey/audit.jsonl"} {
		s.sh("! grep -aqF -e '" + session + "' -e Local-Passw0rd -e '" + lab.UserPassword(1) + "' " + file)
	}

	s.silentlyAgain(p, "user00002")
	s.signedOutAtEntra(p)
	s.answerInTheQuery("user00002@contoso.test", "Entra-2")

	// Known in Entra ID, not in the domain; a guest; somebody who changes their mind.
	p = s.page(browser.PageOptions{})
	s.byEntra(p, "nobody@contoso.test", "Entra-0")
	if why := s.text(p, "#why"); why != "You exist in Entra ID but not in this domain." {
		t.Errorf("somebody who is not synchronised reads: %s", why)
	}
	p = s.page(browser.PageOptions{})
	s.goTo(p, "/auth/sign-in", 200)
	s.try(p.Click("#entra"))
	s.try(p.Click("#cancel"))
	s.try(p.WaitURL(s.host))
	if why := s.text(p, "#why"); why != "The sign-in with Microsoft Entra ID was not completed." {
		t.Errorf("somebody who cancels reads: %s", why)
	}

	// A row that is disabled is out at once, without a new sign-in.
	p = s.page(browser.PageOptions{})
	s.byEntra(p, "user00003@contoso.test", "Entra-3")
	s.isAccountOf(p, "user00003")
	s.try(s.domain.Disable(s.ctx, "user00003", true))
	s.cli(0, "sync")
	s.waitFor("the session of a disabled account has ended", func() bool {
		_, err := p.Goto(s.base + "/auth/account")
		url, err2 := p.URL()
		return err == nil && err2 == nil && strings.Contains(url, "/auth/sign-in")
	})
	s.byFormFails(p, "user00003", lab.UserPassword(3))

	// Entra ID is away: no button, and the form still works.
	s.sh("kill $(pgrep -f '[p]rovider.mjs')")
	s.sh("kill -9 " + s.worker()) // a worker that never saw the tenant
	s.waitFor("the button is gone", func() bool {
		p := s.page(browser.PageOptions{})
		defer p.Close()
		_, err := p.Goto(s.base + "/auth/sign-in")
		n, err2 := p.Count("#entra")
		away, err3 := p.Count("#away")
		return err == nil && err2 == nil && err3 == nil && n == 0 && away == 1
	})
	p = s.page(browser.PageOptions{})
	s.byForm(p, "user00001", lab.UserPassword(1))
	s.isAccountOf(p, "user00001")
}

// asked returns the addresses with a text that the page has asked for since
// there were so many.
func (s *website) asked(p *browser.Page, since int, part string) (found []string) {
	s.t.Helper()
	for _, u := range must(p.Requests())[since:] {
		if strings.Contains(u, part) {
			found = append(found, u)
		}
	}
	return found
}

// silentlyAgain ends the session of a browser that came from Entra ID, which is
// in again by the next page, with no question.
func (s *website) silentlyAgain(p *browser.Page, name string) {
	s.t.Helper()
	s.cli(0, "session", "revoke", "--user", name)
	since := len(must(p.Requests()))
	_, err := p.Goto(s.base + "/auth/account")
	s.try(err)
	s.isAccountOf(p, name)
	if n := s.asked(p, since, "prompt=none"); len(n) != 1 {
		s.t.Errorf("the tenant was asked without a page %d times, want once: %q", len(n), must(p.Requests())[since:])
	}
	if n := s.asked(p, since, "/interaction/"); len(n) != 0 {
		s.t.Errorf("the tenant asked the person: %q", n)
	}
}

// signedOutAtEntra signs out at the tenant, whose page has the browser tell us,
// and then finds that a silent try comes back to the buttons, once.
func (s *website) signedOutAtEntra(p *browser.Page) {
	s.t.Helper()
	_, err := p.Goto("http://127.0.0.1:9480/" + webTenant + "/oauth2/v2.0/logout")
	s.try(err)
	since := len(must(p.Requests()))
	s.try(p.Click("#out"))
	s.waitFor("the browser has told of the sign-out", func() bool { return len(s.asked(p, since, "/auth/oidc/signed-out?")) == 1 })
	var list struct{ Total int }
	s.waitFor("the session that came of the tenant's has ended", func() bool {
		s.try(json.Unmarshal([]byte(s.cli(0, "session", "list", "user00002", "--json").Stdout), &list))
		return list.Total == 0
	})
	since = len(must(p.Requests()))
	_, err = p.Goto(s.base + "/auth/account")
	s.try(err)
	s.try(p.WaitURL("/auth/sign-in?stay=1"))
	if n, buttons := s.asked(p, since, "prompt=none"), must(p.Count("#entra")); len(n) != 1 || buttons != 1 {
		s.t.Errorf("a browser that the tenant no longer knows: asked silently %d times, %d buttons", len(n), buttons)
	}
	since = len(must(p.Requests()))
	_, err = p.Goto(s.base + "/auth/account")
	s.try(err)
	if n := s.asked(p, since, "prompt=none"); len(n) != 0 {
		s.t.Errorf("a browser that was just refused is sent to the tenant again: %q", n)
	}
}

// answerInTheQuery signs in with the answer in the address instead of a form.
func (s *website) answerInTheQuery(upn, password string) {
	s.t.Helper()
	s.cli(0, "config", "set", "sso.response_mode", "query")
	defer s.cli(0, "config", "set", "sso.response_mode", "form_post")
	ready := func() {
		s.waitFor("the tenant is known again", func() bool { r, err := s.nas.CLI(s.ctx, "sso", "status"); return err == nil && r.Exit == 0 })
	}
	ready()
	p := s.page(browser.PageOptions{NoJS: true}) // a form would need a click
	s.byEntra(p, upn, password)
	name, _, _ := strings.Cut(upn, "@")
	s.isAccountOf(p, name)
	if n := s.asked(p, 0, "/auth/oidc/callback?"); len(n) != 1 || !strings.Contains(n[0], "code=") || !strings.Contains(n[0], "state=") {
		s.t.Errorf("the answer did not come in the query: %q", must(p.Requests()))
	}
	s.try(p.Close())
}

func (s *website) byFormFails(p *browser.Page, name, password string) {
	s.t.Helper()
	q := s.page(browser.PageOptions{})
	defer q.Close()
	s.byForm(q, name, password)
	if why := s.text(q, "#wrong"); !strings.HasPrefix(why, "The user name or the password is wrong.") {
		s.t.Errorf("%s with a wrong password reads: %s", name, why)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Every page, in every language and both themes, at 360 pixels: no rule of
// axe-core is broken, nothing overflows, nothing is loaded from elsewhere, and
// the keyboard alone is enough.
func TestWebPages(t *testing.T) {
	s := beginWeb(t, "[web]\nnegotiate_from = [\"192.0.2.0/24\"]\n[[sso.app]]\nname = \"photos\"\nuser = \"root\"\nredirect = [\"https://nas1.aadds.contoso.test:9443/in\"]\n")
	s.chromium()
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

// A ticket signs in without a question, by curl and by Chromium; it is good
// once; NTLM and browsers without a ticket get the buttons.
func TestWebNegotiate(t *testing.T) {
	s := beginWeb(t, "[web]\nnegotiate_from = [\"10.77.0.0/16\", \"127.0.0.0/8\"]\n")
	s.sh("klist -k /var/lib/latchkey/krb5.keytab | grep -qi 'HTTP/" + s.host + "'")
	if r, err := s.nas.CLI(s.ctx, "doctor"); err != nil || !strings.Contains(r.Stdout, "a key for HTTP/"+s.host+"; without a click from 10.77.0.0/16, 127.0.0.0/8") {
		t.Errorf("the doctor does not see that tickets sign in: %v\n%s", err, r)
	}
	s.kinit(1)
	curl := func(args ...string) *lab.Result {
		t.Helper()
		r, err := s.nas.Run(s.ctx, append([]string{"curl", "-ksv", "--http1.1", "--max-time", "20"}, args...)...)
		s.try(err)
		return r
	}
	r := curl("--negotiate", "-u", ":", "-c", "/tmp/jar", s.base+"/auth/negotiate")
	if !strings.Contains(r.Stderr, "__Host-latchkey=") {
		t.Fatalf("curl with a ticket: %s", r)
	}
	if page := curl("-b", "/tmp/jar", s.base+"/auth/account"); !strings.Contains(page.Stdout, `data-fact="uid">`+s.sh("id -u user00001")+"<") {
		t.Errorf("the account by curl: %s", page)
	}

	// The same header again is refused.
	used := regexp.MustCompile(`(?m)^> Authorization: Negotiate (\S+)`).FindStringSubmatch(r.Stderr)
	if used == nil {
		t.Fatalf("curl does not show what it sent: %s", r)
	}
	for range 2 {
		again := curl("-H", "Authorization: Negotiate "+used[1], s.base+"/auth/negotiate")
		if strings.Contains(again.Stderr, "__Host-latchkey=") || !strings.Contains(again.Stderr, "< HTTP/1.1 200") {
			t.Errorf("a token that was used: %s", again)
		}
	}
	test := curl("-H", "Authorization: Negotiate "+used[1], s.base+"/auth/negotiate/test")
	if !strings.Contains(test.Stdout, "This ticket was used before.") {
		t.Errorf("the test page with a token that was used: %s", test.Stdout)
	}
	s.sh("kill -9 " + s.worker()) // the next worker has seen nothing, and takes nothing older
	again := curl("-H", "Authorization: Negotiate "+used[1], s.base+"/auth/negotiate")
	if strings.Contains(again.Stderr, "__Host-latchkey=") {
		t.Errorf("a token that was used, after a restart: %s", again)
	}

	// NTLM gets the buttons, and no new question.
	ntlm := base64.StdEncoding.EncodeToString([]byte("NTLMSSP\x00\x01\x00\x00\x00\x07\x82\x08\xa2\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	r = curl("-H", "Authorization: Negotiate "+ntlm, s.base+"/auth/negotiate")
	if strings.Contains(strings.ToLower(r.Stderr), "www-authenticate") || !strings.Contains(r.Stdout, `action="/auth/password"`) {
		t.Errorf("NTLM: %s", r)
	}
	if r = curl("-H", "Authorization: Negotiate "+ntlm, s.base+"/auth/negotiate/test"); !strings.Contains(r.Stdout, "NTLM message instead of a Kerberos ticket") {
		t.Errorf("the test page with NTLM: %s", r)
	}

	// What the test page tells of a good ticket.
	r = curl("--negotiate", "-u", ":", s.base+"/auth/negotiate/test")
	kvno := s.sh("klist -k /var/lib/latchkey/krb5.keytab | awk '$2 ~ /HTTP/ { print $1; exit }'")
	for _, word := range []string{"It works: you would be signed in as user00001.", `data-fact="mechanism">Kerberos<`, `data-fact="spn">HTTP/` + s.host,
		`data-fact="kvno">` + kvno + "<", `data-fact="etype">AES-256 (18)<`, `data-fact="skew">`, "user00001 (uid " + s.sh("id -u user00001") + ")"} {
		if !strings.Contains(r.Stdout, word) {
			t.Errorf("the test page does not say %s:\n%s", word, r.Stdout)
		}
	}

	// A rule decides, and so does the state of the account.
	s.cli(0, "access", "deny", "web", "user00001")
	if r = curl("--negotiate", "-u", ":", s.base+"/auth/negotiate"); strings.Contains(r.Stderr, "__Host-latchkey=") || !strings.Contains(r.Stdout, "You may not use this service.") {
		t.Errorf("somebody who is denied: %s", r)
	}
	s.cli(0, "access", "remove", "web", "user00001")

	// Chromium: silent where it may, the buttons at once where it may not.
	var policy struct {
		Files []struct{ Name, Text string }
	}
	s.try(s.nas.JSON(s.ctx, &policy, "sso", "browser-policy"))
	for _, f := range policy.Files {
		if f.Name == "chrome-linux.json" {
			s.try(s.nas.WriteFile(s.ctx, "/etc/chromium/policies/managed/latchkey.json", []byte(f.Text), 0o644))
		}
	}
	// On Linux, Chromium loads Kerberos only at the start after the one in which a
	// server asked for it first.
	window := func() (*browser.Browser, *browser.Page) {
		b, err := browser.Open(s.ctx, s.nas.Machine, browser.Options{Profile: "/tmp/profile"})
		s.try(err)
		p, err := b.Page(browser.PageOptions{})
		s.try(err)
		_, err = p.Goto(s.base + "/")
		s.try(err)
		return b, p
	}
	first, p := window()
	if n := must(p.Count("#submit")); n != 1 {
		t.Error("a browser that has not loaded Kerberos does not see the form")
	}
	first.Close()
	s.sh("killall -q -w chromium; rm -f /tmp/profile/Singleton*")
	kept, p := window()
	defer kept.Close()
	_, err := p.Goto(s.base + "/auth/negotiate") // the cookie of the first try is still there
	s.try(err)
	s.isAccountOf(p, "user00001")
	s.try(p.Click("#sign-out"))
	if n := must(p.Count("#submit")); n != 1 {
		t.Error("whoever signs out is signed in again by the ticket")
	}
	// A private window offers none.
	s.chromium()
	q := s.page(browser.PageOptions{NoJS: true})
	_, err = q.Goto(s.base + "/")
	s.try(err)
	if n := must(q.Count("#submit")); n != 1 {
		t.Error("a browser that offers no ticket does not see the form")
	}
	url := must(q.URL())
	asked := 0
	for _, u := range must(q.Requests()) {
		if strings.Contains(u, "/auth/negotiate") {
			asked++
		}
	}
	if asked != 1 || !strings.Contains(url, "/auth/negotiate") {
		t.Errorf("a browser without a ticket was asked %d times and is at %s", asked, url)
	}
}

// kinit gets a ticket for a person, as root on the NAS.
func (s *website) kinit(i int) {
	s.t.Helper()
	c := s.nas.Command("kinit", lab.UserName(i)+"@"+strings.ToUpper(s.domain.DNS))
	c.Stdin = strings.NewReader(lab.UserPassword(i) + "\n")
	if r, err := c.Run(s.ctx); err != nil || !r.Ok() {
		s.t.Fatalf("kinit: %v\n%s", err, r)
	}
}

// What somebody who means harm sends to the real server.
func TestWebAttacks(t *testing.T) {
	s := beginWeb(t, "")
	curl := func(args ...string) string {
		t.Helper()
		r, err := s.nas.Run(s.ctx, append([]string{"curl", "-ksi", "--max-time", "70"}, args...)...)
		s.try(err)
		return r.Stdout
	}
	status := func(answer string) string { line, _, _ := strings.Cut(answer, "\r\n"); return strings.TrimSpace(line) }
	form := s.base + "/auth/password"

	// Cross-site, and without a word about where it comes from.
	for _, origin := range []string{"https://evil.test", "null", ""} {
		args := []string{"-d", "name=user00001&password=x", form}
		if origin != "" {
			args = append(args, "-H", "Origin: "+origin)
		}
		if got := status(curl(args...)); got != "HTTP/2 403" {
			t.Errorf("a form with origin %q: %s", origin, got)
		}
	}
	post := func(values url.Values) string {
		return curl("-H", "Origin: "+s.base, "-d", values.Encode(), form)
	}
	// Open redirect and header injection.
	for _, there := range []string{"https://evil.test/", "//evil.test/", "/x\r\nSet-Cookie: __Host-latchkey=evil; Path=/; Secure"} {
		got := post(url.Values{"name": {"localadmin"}, "password": {"Local-Passw0rd"}, "return": {there}})
		if !strings.Contains(got, "\r\nlocation: /auth/account\r\n") || strings.Contains(got, "evil") {
			t.Errorf("return to %q:\n%s", there, got)
		}
	}
	// Names with what ends a header or a line of the log.
	for _, name := range []string{"a\r\nX-Evil: 1", "user00001\x00", "<script>alert(1)</script>"} {
		got := post(url.Values{"name": {name}, "password": {"x"}})
		if strings.Contains(got, "\r\nX-Evil") || strings.Contains(got, "<script>") || !strings.HasPrefix(got, "HTTP/2 401") {
			t.Errorf("name %q:\n%.600s", name, got)
		}
	}
	// A form that is too long, a method that is none, a header that is endless.
	s.sh("head -c 100000 /dev/zero | tr '\\0' a >/tmp/long")
	if got := status(curl("-H", "Origin: "+s.base, "-d", "@/tmp/long", form)); got != "HTTP/2 400" {
		t.Errorf("a form of 100 kB: %s", got)
	}
	// An unknown name, a known one and one of the machine: the same page.
	clean := regexp.MustCompile(`value="[^"]*"`)
	body := func(name string) string {
		_, text, _ := strings.Cut(post(url.Values{"name": {name}, "password": {"wrong"}}), "\r\n\r\n")
		return clean.ReplaceAllString(text, "")
	}
	want := body("user00005")
	for _, name := range []string{"no-such-user", "localadmin", "root", "user00005@contoso.test"} {
		if got := body(name); got != want {
			t.Errorf("the page for %s tells it from user00005:\n%s", name, got)
		}
	}
	// Guessing ends, before the domain locks the account.
	last := ""
	for i := range 9 {
		last = status(post(url.Values{"name": {"user00006"}, "password": {fmt.Sprintf("guess-%d", i)}}))
	}
	if last != "HTTP/2 429" {
		t.Errorf("the ninth guess: %s", last)
	}
	if n := s.count("user00006"); n > "3" {
		t.Errorf("the domain counted %s wrong passwords, want at most 3", n)
	}
	// Nobody forges an answer of the tenant.
	for _, query := range []string{"code=x&state=" + strings.Repeat("A", 43), "id_token=x&state=" + strings.Repeat("A", 43), "error=access_denied&state=x"} {
		got := curl(s.base + "/auth/oidc/callback?" + query)
		if !strings.HasPrefix(got, "HTTP/2 400") || strings.Contains(got, "__Host-latchkey=") {
			t.Errorf("callback?%s:\n%.400s", query, got)
		}
	}
	// QNAP's path is taken, for registrations made for it.
	if got := curl(s.base + "/cgi-bin/loginTheme/sso/azure/main.html?code=x&state=" + strings.Repeat("A", 43)); !strings.HasPrefix(got, "HTTP/2 400") {
		t.Errorf("QNAP's callback: %.200s", got)
	}
	// The password was never an argument, nor in the environment, while PAM thought.
	c := s.nas.Command("sh", "-c", `for i in $(seq 60); do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; sleep 0.05; done | tr '\0' '\n' | grep -c 'Sec-ret-[G]uess' || true`)
	watch, err := c.Start(s.ctx)
	s.try(err)
	input := s.nas.Command("curl", "-ks", "-H", "Origin: "+s.base, "-d", "@-", form)
	input.Stdin = strings.NewReader(url.Values{"name": {"localadmin"}, "password": {"Sec-ret-Guess"}}.Encode())
	if r, err := input.Run(s.ctx); err != nil || !r.Ok() {
		t.Errorf("the form: %v %s", err, r)
	}
	if r, err := watch.Wait(); err != nil || strings.TrimSpace(r.Stdout) != "0" {
		t.Errorf("the password was seen %s times in a command line or environment (%v)", r.Stdout, err)
	}
	// The log and the audit have no password either.
	for _, file := range []string{"/var/log/latchkeyd.log", "/var/log/latchkey/audit.jsonl"} {
		s.sh("! grep -aq -e Local-Passw0rd -e Sec-ret-Guess -e guess-1 " + file)
	}
	var events []map[string]any
	for line := range strings.Lines(s.sh("cat /var/log/latchkey/audit.jsonl")) {
		e := map[string]any{}
		s.try(json.Unmarshal([]byte(line), &e))
		events = append(events, e)
	}
	if !slices.ContainsFunc(events, func(e map[string]any) bool {
		return e["service"] == "latchkey-web" && e["rhost"] != nil && e["rhost"] != ""
	}) {
		t.Errorf("no event of the form says where the browser was: %v", events)
	}
}
