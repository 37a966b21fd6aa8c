// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/firefox"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
)

// A computer of the domain with Firefox, and the very file that `sso
// browser-policy` writes: without it Firefox keeps its ticket to itself, with it
// nobody is asked anything.
func TestWebFirefoxPolicy(t *testing.T) {
	s := begin(t, lab.Population{Users: 5, Groups: 2})
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	s.try(s.nas.UseNSS(s.ctx))
	s.cli(0, "config", "set", "web.negotiate_from", `["10.77.0.0/16"]`)
	s.cli(0, "sso", "browser-policy", "--write", "/tmp/policy")
	text, err := s.nas.ReadFile(s.ctx, "/tmp/policy/firefox-policies.json")
	s.try(err)

	pc := nas.Attach(s.domain.StartBox(t, "pc1", lab.BoxOptions{UseDNS: true, Krb5Conf: true, Layer: &firefox.Layer}))
	host := "nas1." + s.domain.DNS
	base := "https://" + host + ":8443"
	c := pc.Command("kinit", lab.UserName(1)+"@"+strings.ToUpper(s.domain.DNS))
	c.Stdin = strings.NewReader(lab.UserPassword(1) + "\n")
	if r, err := c.Run(s.ctx); err != nil || !r.Ok() {
		t.Fatalf("kinit: %v\n%s", err, r)
	}
	r, err := pc.Run(s.ctx, "getent", "hosts", host)
	if err != nil || !r.Ok() {
		t.Fatalf("the computer does not find the NAS by DNS: %v\n%s", err, r)
	}

	open := func() *firefox.Browser {
		t.Helper()
		b, err := firefox.Open(s.ctx, pc.Machine)
		s.try(err)
		t.Log("Firefox", b.Version)
		return b
	}
	b := open()
	s.try(b.Goto(base + "/"))
	if got := must(b.Text("#submit")); got != "Sign in" {
		t.Errorf("without a policy Firefox shows %q: %s", got, must(b.Text("body")))
	}
	b.Close()
	s.try(pc.WaitGone(s.ctx, "firefox-esr"))

	s.try(pc.WriteFile(s.ctx, firefox.Policies, text, 0o644))
	b = open()
	defer b.Close()
	s.try(b.Goto(base + "/auth/negotiate/test"))
	if got := must(b.Text(`[data-fact="spn"]`)); !strings.EqualFold(got, "HTTP/"+host+"@"+s.domain.DNS) {
		t.Errorf("the test page knows the service as %q: %s", got, must(b.Text("body")))
	}
	s.try(b.Goto(base + "/"))
	if got, want := must(b.Text(`[data-fact="uid"]`)), s.sh("id -u "+lab.UserName(1)); got != want {
		t.Errorf("with the policy Firefox shows uid %q, want %s: %s", got, want, must(b.Text("body")))
	}
	if got := must(b.Eval("return location.pathname")); got != "/auth/account" {
		t.Errorf("Firefox is at %s", got)
	}
}
