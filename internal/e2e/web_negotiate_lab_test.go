// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/browser"
)

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
	// Whose key signs browsers in must not act as them elsewhere: that is told.
	if s.problem("delegation") {
		t.Error("a machine as it is joined is said to be set up for delegation")
	}
	s.try(s.domain.SetAttr(s.ctx, "nas1$", "userAccountControl", []byte("528384"))) // WORKSTATION_TRUST_ACCOUNT, TRUSTED_FOR_DELEGATION
	s.try(s.domain.SetAttr(s.ctx, "nas1$", "msDS-AllowedToDelegateTo", []byte("cifs/files."+s.domain.DNS)))
	s.sh("kill -9 " + s.worker()) // it is looked at once an hour, and at the start
	s.waitFor("delegation is told of", func() bool { return s.problem("delegation") })
	if out := s.cli(0, "status").Stdout; !strings.Contains(out, "trusted for delegation") || !strings.Contains(out, "cifs/files."+s.domain.DNS) {
		t.Errorf("the status says of delegation:\n%s", out)
	}
	if asked != 1 || !strings.Contains(url, "/auth/negotiate") {
		t.Errorf("a browser without a ticket was asked %d times and is at %s", asked, url)
	}
}
