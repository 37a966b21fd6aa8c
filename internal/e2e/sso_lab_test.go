// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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

// call makes one gRPC call on api.sock as an account of the machine, with no
// library of gRPC: a message is five bytes (not compressed, its length) before
// it, and the status comes in a header or trailer (gRPC over HTTP2).
func (s *story) call(account, method string, req, resp proto.Message) codes.Code {
	s.t.Helper()
	body, err := proto.Marshal(req)
	s.try(err)
	c := s.nas.Command("setpriv", "--reuid="+account, "--regid="+s.sh("id -g "+account), "--init-groups", "--", "curl", "-sS", "--http2-prior-knowledge", "--unix-socket", "/run/latchkey/api.sock",
		"-H", "content-type: application/grpc", "-H", "te: trailers", "-D", "/dev/stderr", "--data-binary", "@-", "http://localhost"+method)
	c.Stdin = bytes.NewReader(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...))
	r, err := c.Run(s.ctx)
	s.try(err)
	status := regexp.MustCompile(`(?mi)^grpc-status: (\d+)`).FindStringSubmatch(r.Stderr)
	if status == nil {
		s.t.Fatalf("%s as %s: no status: %s", method, account, r)
	}
	n, err := strconv.Atoi(status[1])
	s.try(err)
	if codes.Code(n) == codes.OK {
		if len(r.Stdout) < 5 {
			s.t.Fatalf("%s as %s: no message: %s", method, account, r)
		}
		s.try(proto.Unmarshal([]byte(r.Stdout[5:]), resp))
	}
	return codes.Code(n)
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
	s.sh(`mkdir -p /etc/latchkey && printf 'version = 1\n[api]\nauthenticators = ["games"]\n[[sso.app]]\nname = "photos"\nuser = "www-data"\nredirect = "https://photos.contoso.test/in"\n' >/etc/latchkey/latchkey.toml`)
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	s.try(s.nas.UseNSS(s.ctx))
	set := []string{"sso", "set", "--tenant", oidctest.Tenant.String(), "--client", oidctest.Client.String(), "--authority", issuer.Authority()}
	s.cli(1, "sso", "status")
	if r := s.cli(2, append(set[:3:3], "8b0f2a6e", "--client", "x")...); !strings.Contains(r.Stderr, "8 characters") {
		t.Errorf("a short tenant: %s", r)
	}
	if r := s.cli(4, set...); !strings.Contains(r.Stderr, "AADSTS7000218") { // the tenant wants a secret
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

	// The app is an account of its own. One that nobody registered is refused, and
	// so is one that may ask, but is another app.
	begin, begun := &latchkeyv1.BeginSignInRequest{App: "photos", RedirectUri: "https://photos.contoso.test/in", State: "the-state"}, &latchkeyv1.BeginSignInResponse{}
	for account, want := range map[string]codes.Code{"www-data": codes.OK, "games": codes.PermissionDenied, "nobody": codes.PermissionDenied, "daemon": codes.PermissionDenied} {
		if got := s.call(account, latchkeyv1.SsoService_BeginSignIn_FullMethodName, begin, begun); got != want {
			t.Errorf("%s begins a sign-in of the app of www-data: %s, want %s", account, got, want)
		}
	}
	// Who is registered as an app may not bring passwords for that.
	if got := s.call("www-data", latchkeyv1.LoginService_Authenticate_FullMethodName, &latchkeyv1.AuthenticateRequest{Name: name, Password: []byte(lab.UserPassword(1)), Service: "web"},
		&latchkeyv1.AuthenticateResponse{}); got != codes.PermissionDenied {
		t.Errorf("an app brings a password to LoginService: %s, want %s", got, codes.PermissionDenied)
	}
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
	in := &latchkeyv1.ExchangeCodeResponse{}
	for _, account := range []string{"games", "nobody"} { // and the code stays good
		if got := s.call(account, latchkeyv1.SsoService_ExchangeCode_FullMethodName, exchange, in); got != codes.PermissionDenied {
			t.Errorf("%s takes the code of the app of www-data: %s", account, got)
		}
	}
	if got := s.call("www-data", latchkeyv1.SsoService_ExchangeCode_FullMethodName, exchange, in); got != codes.OK {
		t.Fatalf("the app takes its code: %s", got)
	}
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
	for account, want := range map[string]codes.Code{"www-data": codes.OK, "games": codes.PermissionDenied, "nobody": codes.PermissionDenied} {
		seen := &latchkeyv1.GetSessionResponse{}
		got := s.call(account, latchkeyv1.SsoService_GetSession_FullMethodName, &latchkeyv1.GetSessionRequest{App: "photos", SessionToken: in.GetSessionToken()}, seen)
		if got != want || (got == codes.OK) != (seen.GetPerson().GetUsername() == name) {
			t.Errorf("%s asks for the session of the app of www-data: %s, %v, want %s", account, got, seen.GetPerson(), want)
		}
	}
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
	s.changesAreRecorded()
}

// changesAreRecorded changes one thing of each kind, and finds it in the audit
// with who did it, beside the sign-in that was set up before.
func (s *story) changesAreRecorded() {
	s.t.Helper()
	s.cli(0, "access", "allow", "photos", "user00002")
	s.cli(0, "access", "deny", "photos", "user00003")
	s.cli(0, "access", "remove", "photos", "user00002")
	s.cli(0, "machine", "rotate")
	kvno := s.status().Key
	s.cli(0, "session", "revoke", "--user", "user00002")
	s.cli(2, "config", "set", "samba.pipes", "Pasted-S3cret")
	s.cli(0, "config", "set", "samba.pipes", "true") // as `samba enable` does
	var got []string
	s.waitFor("the last change is recorded", func() bool {
		return strings.Contains(s.cli(0, "audit", "--json", "--last", "0").Stdout, "samba.pipes = true")
	})
	for line := range strings.Lines(s.cli(0, "audit", "--json", "--last", "0").Stdout) {
		var e struct{ Action, Outcome, Detail, Rule, Asked, Caller string }
		s.try(json.Unmarshal([]byte(line), &e))
		switch e.Action {
		case "sign-in", "account", "change-password":
			continue
		}
		if !strings.HasPrefix(e.Caller, "uid 0, pid ") {
			s.t.Errorf("%s: by %q", e.Action, e.Caller)
		}
		got = append(got, strings.TrimSpace(strings.Join([]string{e.Action, e.Outcome, e.Detail, e.Rule, e.Asked}, " ")))
	}
	want := []string{"join allowed " + s.domain.DNS + ", by ", "etc-files allowed join: /etc/krb5.conf.d/latchkey.conf", "sso-set refused", "sso-set refused", "sso-set allowed tenant " + oidctest.Tenant.String() + ", client " + oidctest.Client.String(),
		"access-rule allowed  allow photos user00002", "access-rule allowed  deny photos user00003", "access-rule allowed  remove photos user00002",
		fmt.Sprintf("machine-rotate allowed key version %d", kvno), "session-revoke allowed 0 ended  user00002",
		"config-set refused samba.pipes", "config-set allowed samba.pipes = true"}
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		s.t.Errorf("the audit has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	s.sh("! grep -qF -e Pasted-S3cret -e '" + oidctest.Secret + "' /var/log/latchkey/audit.jsonl")
	if text := s.cli(0, "audit").Stdout; !strings.Contains(text, "uid 0") || !strings.Contains(text, "config-set") {
		s.t.Errorf("the audit is shown as\n%s", text)
	}
}
