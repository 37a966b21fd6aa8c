// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/browser"
)

// reads signs somebody in by the form, in a window of their own, and checks what
// they read instead of their account, and that there is a way back.
func (s *website) reads(what, name, password, want string) {
	s.t.Helper()
	p := s.page(browser.PageOptions{})
	defer p.Close()
	s.byForm(p, name, password)
	if got := s.text(p, "#why, #wrong"); !strings.HasPrefix(got, want) {
		s.t.Errorf("%s: %s reads %q, want %q: %s", what, name, got, want, s.text(p, "main"))
	}
	if must(p.Count("#why")) == 1 {
		s.try(p.Click("main a.button"))
		if must(p.Count("#submit")) != 1 {
			s.t.Errorf("%s: the way back leads to %s", what, must(p.URL()))
		}
	}
}

// gets signs somebody in by the form, in a window of their own.
func (s *website) gets(what, name, password string) *browser.Page {
	s.t.Helper()
	p := s.page(browser.PageOptions{})
	s.byForm(p, name, password)
	if at := must(p.URL()); !strings.HasSuffix(at, "/auth/account") {
		s.t.Errorf("%s: %s is at %s and reads %s", what, name, at, s.text(p, "main"))
	}
	return p
}

const (
	readsWrong  = "The user name or the password is wrong."
	readsChange = "Your password has to be changed before you can use it here."
	readsLocked = "Your account is locked for a while because of wrong passwords."
	readsUnfit  = "Your account cannot be used: it is disabled, has expired, or has no number on this server."
	readsDenied = "You may not use this service."
	readsAway   = "The server cannot check your sign-in at the moment:"
)

// What people meet at the form whose password is right and does not open: they
// read what it is, and who only guesses reads nothing of it. With no domain
// controller the last good password counts, and others read that nobody can say.
func TestWebPeople(t *testing.T) {
	s := beginWeb(t, "")
	s.chromium()
	s.sh("sed -i 's/pam_unix.so nullok/& nodelay/' /etc/pam.d/common-auth") // three seconds after each of many refusals
	right := lab.UserPassword
	for i, name := range map[int]string{5: "user00005", 6: "user00006", 7: "user00007"} {
		s.try(s.gets("at first", name, right(i)).Close()) // their password is known to be right
	}
	s.try(s.domain.SetAttr(s.ctx, "user00004", "userAccountControl", []byte("512"))) // without "never expires"
	s.try(s.domain.MustChange(s.ctx, "user00004"))
	s.try(s.domain.Expire(s.ctx, "user00005", time.Now().Add(-time.Hour)))
	s.try(s.domain.Disable(s.ctx, "user00006", true))
	s.try(s.domain.Disable(s.ctx, "user00009", true))
	s.cli(0, "sync")
	s.try(s.domain.Lock(s.ctx, "user00007"))
	s.cli(0, "access", "deny", "web", "user00008")
	for _, c := range []struct{ what, name, password, reads string }{
		{"to be changed", "user00004", right(4), readsChange},
		{"to be changed, a guess", "user00004", "guess", readsWrong},
		{"expired", "user00005", right(5), readsUnfit},
		{"disabled", "user00006", right(6), readsUnfit},
		{"disabled, never seen", "user00009", right(9), readsWrong}, // nobody can know that it is right
		{"locked", "user00007", right(7), readsLocked},
		{"locked, a guess", "user00007", "guess", readsWrong},
		{"denied", "user00008", right(8), readsDenied},
	} {
		s.reads(c.what, c.name, c.password, c.reads)
	}

	p := s.page(browser.PageOptions{})
	s.byForm(p, "user00004", right(4))
	if got := s.text(p, "#change"); !strings.HasPrefix(got, "https://mysignins.microsoft.com/") {
		t.Errorf("the page says that the password is changed at %q", got)
	}
	inside := s.gets("before the cut", "user00002", right(2))
	s.try(s.domain.DC.Blackhole(s.ctx))
	s.reads("no domain controller, never seen", "user00003", right(3), readsAway)
	s.try(s.gets("no domain controller", "user00002", right(2)).Close())
	s.try(s.gets("no domain controller", "localadmin", "Local-Passw0rd").Close())
	p = s.page(browser.PageOptions{})
	s.byEntra(p, "user00001@contoso.test", "Entra-1") // which needs none
	s.isAccountOf(p, "user00001")
	s.goTo(inside, "/auth/account", 200)
	s.try(s.domain.DC.Heal(s.ctx))
	s.waitFor("the domain answers again", func() bool {
		c := s.nas.Command("latchkey", "login", "user00003", "--service", "web", "--password-stdin")
		c.Stdin = strings.NewReader(right(3) + "\n")
		r, err := c.Run(s.ctx)
		return err == nil && r.Ok()
	})
	s.try(s.gets("after the cut", "user00003", right(3)).Close())
}

// What people do with a browser in the middle of things: two tabs, back, an end
// of the session from another place; and a daemon that is killed meanwhile.
func TestWebHabits(t *testing.T) {
	s := beginWeb(t, "")
	s.chromium()
	const upn, password, name = "user00001@contoso.test", "Entra-1", "user00001"
	at := func(p *browser.Page) {
		t.Helper()
		s.try(p.Fill("input[name=upn]", upn))
		s.try(p.Fill("input[name=password]", password))
		s.try(p.Click("#in"))
		s.try(p.WaitURL(s.host))
		s.isAccountOf(p, name)
	}

	// Two tabs of one window, both on their way to the tenant; the worker dies
	// meanwhile.
	one := s.page(browser.PageOptions{})
	two := s.page(browser.PageOptions{Beside: one})
	for _, p := range []*browser.Page{one, two} {
		s.goTo(p, "/auth/sign-in?stay=1", 200)
		s.try(p.Click("#entra"))
		s.try(p.WaitURL("/interaction/"))
	}
	s.sh("kill -9 " + s.worker())
	at(two)
	at(one)
	s.goTo(two, "/auth/account", 200)

	// Back to the answer of the tenant, which was used: nothing breaks, and the
	// session goes on.
	s.try(one.Back())
	s.goTo(one, "/auth/account", 200)

	// A second browser, ended from the first; and by an administrator.
	other := s.page(browser.PageOptions{})
	s.byForm(other, name, lab.UserPassword(1))
	s.isAccountOf(other, name)
	s.goTo(one, "/auth/account", 200)
	s.try(one.Click("#end-others"))
	if n := must(one.Count(".cards li")); n != 1 {
		t.Errorf("after the end of the others %d sessions are listed", n)
	}
	_, err := other.Goto(s.base + "/auth/account")
	s.try(err)
	if must(other.Count("#submit")) != 1 {
		t.Errorf("the ended session shows %s", s.text(other, "main"))
	}
	s.byForm(other, name, lab.UserPassword(1))
	s.isAccountOf(other, name)
	s.cli(0, "session", "revoke", "--user", name)
	s.try(other.Click("#sign-out")) // a page that was open when the session ended
	if must(other.Count("#submit")) != 1 {
		t.Errorf("to sign out of a session that is over shows %s", s.text(other, "main"))
	}

	// Signed out, and back: the account is not shown again, and no tab is in.
	s.byForm(one, name, lab.UserPassword(1))
	s.isAccountOf(one, name)
	s.try(one.Click("#sign-out"))
	s.try(one.WaitURL("notice=out"))
	s.try(one.Back())
	if must(one.Count(`[data-fact="uid"]`)) != 0 {
		t.Errorf("back after the sign-out shows %s", s.text(one, "main"))
	}
	_, err = two.Goto(s.base + "/auth/account")
	s.try(err)
	if must(two.Count(`[data-fact="uid"]`)) != 0 {
		t.Errorf("another tab after the sign-out shows %s", s.text(two, "main"))
	}

	// Monitor and worker die; whoever was in is in.
	s.byForm(one, name, lab.UserPassword(1))
	s.isAccountOf(one, name)
	s.sh("kill -9 $(pgrep -x latchkeyd)")
	s.try(s.nas.Start(s.ctx, false))
	s.waitFor("the pages are served again", func() bool { r, err := one.Goto(s.base + "/auth/account"); return err == nil && r.Status == 200 })
	s.isAccountOf(one, name)

	// A tenant that does not answer any longer keeps nobody from the form.
	s.sh("kill -STOP $(pgrep -f '[p]rovider.mjs')")
	s.sh("kill -9 " + s.worker())
	s.waitFor("the sign-in page is there without the button", func() bool {
		r, err := s.nas.Run(s.ctx, "curl", "-ks", "--max-time", "10", s.base+"/auth/sign-in?stay=1")
		return err == nil && r.Ok() && strings.Contains(r.Stdout, `id="away"`) && !strings.Contains(r.Stdout, `id="entra"`)
	})
	s.try(s.gets("a silent tenant", name, lab.UserPassword(1)).Close())
	s.sh("kill -CONT $(pgrep -f '[p]rovider.mjs')")
	s.waitFor("the button is back", func() bool {
		r, err := s.nas.Run(s.ctx, "curl", "-ks", s.base+"/auth/sign-in?stay=1")
		return err == nil && strings.Contains(r.Stdout, `id="entra"`)
	})
}
