// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/browser"
)

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
