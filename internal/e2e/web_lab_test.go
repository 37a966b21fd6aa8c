// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/browser"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/provider"
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

// kinit gets a ticket for a person, as root on the NAS.
func (s *website) kinit(i int) {
	s.t.Helper()
	c := s.nas.Command("kinit", lab.UserName(i)+"@"+strings.ToUpper(s.domain.DNS))
	c.Stdin = strings.NewReader(lab.UserPassword(i) + "\n")
	if r, err := c.Run(s.ctx); err != nil || !r.Ok() {
		s.t.Fatalf("kinit: %v\n%s", err, r)
	}
}
