// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// visitor is a browser as far as a sign-in needs one: it keeps the cookies of
// one host, and follows nothing by itself.
type visitor struct {
	*story
	base    string
	http    *http.Client
	cookies map[string]string
}

func (w *visitor) do(method, address string, form url.Values) *http.Response {
	w.t.Helper()
	if !strings.HasPrefix(address, "https://") {
		address = w.base + address
	}
	r, err := http.NewRequestWithContext(w.ctx, method, address, strings.NewReader(form.Encode()))
	w.try(err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range w.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	resp, err := w.http.Do(r)
	w.try(err)
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	for _, c := range resp.Cookies() {
		if w.cookies[c.Name] = c.Value; c.Value == "" || c.MaxAge < 0 {
			delete(w.cookies, c.Name)
		}
	}
	return resp
}

// An app of the machine, asked by gRPC, learns who a browser's person is: the row
// that `id` shows. Settings that the tenant does not agree with change nothing; a
// session outlives the worker and ends with the person's account.
func TestSsoForApps(t *testing.T) {
	s := begin(t, lab.Population{Users: 5, Groups: 2})
	ln, err := s.nas.Listen("tcp", "127.0.0.1:9480")
	s.try(err)
	issuer := oidctest.Serve(ln)
	defer issuer.Close()
	issuer.Confidential()
	s.sh(`mkdir -p /etc/latchkey && printf 'version = 1\n[[sso.app]]\nname = "photos"\nuser = "www-data"\nredirect = "https://photos.contoso.test/in"\n' >/etc/latchkey/latchkey.toml`)
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	s.try(s.nas.UseNSS(s.ctx))
	set := []string{"sso", "set", "--tenant", oidctest.Tenant.String(), "--client", oidctest.Client.String(), "--authority", issuer.Authority()}
	s.cli(1, "sso", "status")
	if r := s.cli(2, append(set[:3:3], "8b0f2a6e", "--client", "x")...); !strings.Contains(r.Stderr, "tenant: has 8 characters") {
		t.Errorf("a short tenant: %s", r)
	}
	if r := s.cli(4, set...); !strings.Contains(r.Stderr, "AADSTS7000215") { // the tenant wants a secret
		t.Errorf("no secret: %s", r)
	}
	s.cli(1, "sso", "status")
	s.sh("kill -HUP $(pgrep -o -x latchkeyd)") // the app in latchkey.toml
	out := s.sh("printf ' " + oidctest.Secret + "\\n' | latchkey " + strings.Join(set, " ") + " --secret-stdin")
	base := "https://nas1." + s.domain.DNS + ":8443"
	if !strings.Contains(out, base+"/auth/oidc/callback") {
		t.Errorf("sso set prints %s", out)
	}
	if kept := s.sh("ls -l /var/lib/latchkey/sso-secret-*"); !strings.HasPrefix(kept, "-rw------- 1 latchkey latchkey") || strings.Contains(s.log(), oidctest.Secret) {
		t.Errorf("the secret is kept as %s", kept)
	}
	s.cli(0, "sso", "test")
	s.waitFor("the sign-in is offered", func() bool { r, err := s.nas.CLI(s.ctx, "sso", "status"); return err == nil && r.Exit == 0 })

	api, err := grpc.NewClient(fmt.Sprintf("unix:///proc/%d/root/run/latchkey/api.sock", s.nas.PID()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	s.try(err)
	defer api.Close()
	app := latchkeyv1.NewSsoServiceClient(api)
	w := &visitor{story: s, base: base, cookies: map[string]string{}, http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // self-signed
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return s.nas.Dial(ctx, network, "127.0.0.1:8443")
			}}}}
	name := lab.UserName(1)
	o, err := s.domain.Find(s.ctx, name)
	s.try(err)
	oid, err := identity.ParseGUID(o.OID)
	s.try(err)

	begun, err := app.BeginSignIn(s.ctx, &latchkeyv1.BeginSignInRequest{App: "photos", RedirectUri: "https://photos.contoso.test/in", State: "the-state"})
	s.try(err)
	at := w.do(http.MethodGet, begun.GetUrl(), nil) // no session yet: to the sign-in page
	request := begun.GetUrl()[strings.Index(begun.GetUrl(), "request="):]
	if at.StatusCode != http.StatusSeeOther || !strings.Contains(at.Header.Get("Location"), "/auth/sign-in") {
		t.Fatalf("begin: %s to %s", at.Status, at.Header.Get("Location"))
	}
	start := w.do(http.MethodGet, "/auth/oidc/start?"+request, nil)
	answer, err := issuer.Answer(start.Header.Get("Location"), oid)
	s.try(err)
	back := w.do(http.MethodPost, "/auth/oidc/callback", answer)
	to, err := url.Parse(back.Header.Get("Location"))
	s.try(err)
	if to.Host != "photos.contoso.test" || to.Query().Get("state") != "the-state" || w.cookies["__Host-latchkey"] == "" {
		t.Fatalf("callback: %s to %s", back.Status, to)
	}
	if again := w.do(http.MethodPost, "/auth/oidc/callback", answer); again.StatusCode < 400 {
		t.Errorf("the same answer again: %s", again.Status)
	}
	exchange := &latchkeyv1.ExchangeCodeRequest{App: "photos", RedirectUri: "https://photos.contoso.test/in", Code: to.Query().Get("code")}
	in, err := app.ExchangeCode(s.ctx, exchange)
	s.try(err)
	if got, want := fmt.Sprint(in.GetPerson().GetUid()), s.sh("id -u "+name); got != want || in.GetPerson().GetUsername() != s.sh("id -un "+name) || in.GetPerson().GetUser().GetOid() != o.OID {
		t.Errorf("the app is told %v, id says %s", in.GetPerson(), want)
	}
	if _, err := app.ExchangeCode(s.ctx, exchange); grpcstatus.Code(err) != codes.Unauthenticated {
		t.Errorf("the code again: %v", err)
	}
	get := func() error {
		_, err := app.GetSession(s.ctx, &latchkeyv1.GetSessionRequest{App: "photos", SessionToken: in.GetSessionToken()})
		return err
	}
	s.try(get())
	var list struct {
		Total    int
		Sessions []struct{ Username, App, How string }
	}
	s.try(json.Unmarshal([]byte(s.cli(0, "session", "list", "--json").Stdout), &list))
	if list.Total != 2 || list.Sessions[0].How != "oidc" || list.Sessions[0].Username != name {
		t.Errorf("sessions: %+v", list)
	}

	// The worker dies, the session does not.
	s.sh(`kill -9 $(pgrep -f "latchkeyd[ ]worker")`)
	s.waitFor("the session is known again", func() bool { return get() == nil })
	if page := w.do(http.MethodGet, "/auth/account", nil); page.StatusCode != http.StatusOK {
		t.Errorf("the account's page: %s", page.Status)
	}

	// Disabled in the directory: out, here and in the app.
	s.try(s.domain.Disable(s.ctx, name, true))
	began := time.Now()
	s.waitFor("the app's session is over", func() bool { return grpcstatus.Code(get()) == codes.Unauthenticated })
	t.Logf("a disabled person was out after %v", time.Since(began).Round(time.Millisecond))
	if page := w.do(http.MethodGet, "/auth/account", nil); page.StatusCode == http.StatusOK {
		t.Errorf("the account's page of somebody who is disabled: %s", page.Status)
	}
	s.try(json.Unmarshal([]byte(s.cli(0, "session", "list", "--json").Stdout), &list))
	if list.Total != 0 {
		t.Errorf("sessions: %+v", list)
	}
	// And not in again; nor is somebody whom the domain does not know.
	for _, who := range []identity.GUID{oid, {9: 9}} {
		w.cookies = map[string]string{}
		start := w.do(http.MethodGet, "/auth/oidc/start", nil)
		answer, err := issuer.Answer(start.Header.Get("Location"), who)
		s.try(err)
		if back := w.do(http.MethodPost, "/auth/oidc/callback", answer); back.StatusCode < 400 || w.cookies["__Host-latchkey"] != "" {
			t.Errorf("%s is let in: %s", who, back.Status)
		}
	}
}
