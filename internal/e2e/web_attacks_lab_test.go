// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

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
