// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// kept lists what the daemon has of secrets and settings.
func (b *box) kept() (all []string) {
	b.t.Helper()
	for _, pattern := range []string{"state/sso-*", "state/conf.d/*"} {
		found, err := filepath.Glob(filepath.Join(b.dir, pattern))
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func ssoRequest(i *oidctest.Issuer) *latchkeyv1.SetSsoRequest {
	return &latchkeyv1.SetSsoRequest{Tenant: " " + oidctest.Tenant.String() + "\r\n", Client: "\u00a0" + strings.ToUpper(oidctest.Client.String()), Authority: proto.String(i.Authority()),
		RedirectUri: proto.String("https://nas.contoso.test:8443/auth/oidc/callback")}
}

// Before anything is set up, the test prints what to register, and one reason.
func TestSsoBeforeItIsSetUp(t *testing.T) {
	b := newBox(t)
	b.write("etc/latchkey.toml", "version = 1\n[web]\nhostnames = [\"nas.contoso.test\"]\n")
	_, admin, _, _ := b.start()
	got, err := admin.SsoAdmin.TestSso(t.Context(), &latchkeyv1.TestSsoRequest{})
	if err != nil || len(got.GetChecks()) != 1 || got.GetChecks()[0].GetPassed() || !strings.Contains(got.GetChecks()[0].GetRemedy(), "latchkey sso set") ||
		got.GetSettings().GetRedirectUri() != "https://nas.contoso.test:8443/auth/oidc/callback" || len(got.GetWarnings()) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

// What is wrong is named, and everything stays as it was.
func TestSsoThatIsWrongChangesNothing(t *testing.T) {
	i := oidctest.New(t, nil)
	i.Confidential()
	for name, tc := range map[string]struct {
		change func(*latchkeyv1.SetSsoRequest)
		issuer func()
		config string
		want   fault.Kind
		says   string
	}{
		"short tenant":      {func(r *latchkeyv1.SetSsoRequest) { r.Tenant = r.Tenant[:20] }, nil, "", fault.Malformed, "tenant: has 19 characters"},
		"tenant by name":    {func(r *latchkeyv1.SetSsoRequest) { r.Tenant = "contoso.onmicrosoft.com" }, nil, "", fault.Malformed, "tenant: has 23"},
		"no tenant":         {func(r *latchkeyv1.SetSsoRequest) { r.Tenant = " " }, nil, "", fault.Malformed, "tenant: is empty"},
		"36 hyphens":        {func(r *latchkeyv1.SetSsoRequest) { r.Client = strings.Repeat("-", 36) }, nil, "", fault.Malformed, "client: "},
		"a letter too many": {func(r *latchkeyv1.SetSsoRequest) { r.Client = strings.Replace(oidctest.Client.String(), "f", "g", 1) }, nil, "", fault.Malformed, "client: "},
		"digits of others":  {func(r *latchkeyv1.SetSsoRequest) { r.Client = strings.Replace(oidctest.Client.String(), "1", "１", 1) }, nil, "", fault.Malformed, "client: "},
		"zero id":           {func(r *latchkeyv1.SetSsoRequest) { r.Client = "00000000-0000-0000-0000-000000000000" }, nil, "", fault.Malformed, "client: "},
		"http redirect":     {func(r *latchkeyv1.SetSsoRequest) { r.RedirectUri = proto.String("http://nas.test/cb") }, nil, "", fault.Malformed, "redirect_uri"},
		"http authority":    {func(r *latchkeyv1.SetSsoRequest) { r.Authority = proto.String("http://login.test/{tenant}") }, nil, "", fault.Malformed, "authority"},
		"another tenant":    {func(r *latchkeyv1.SetSsoRequest) { r.Tenant = oidctest.Person.String() }, nil, "", fault.Conflict, "tenant: "},
		"another client":    {func(r *latchkeyv1.SetSsoRequest) { r.Client = oidctest.Person.String() }, nil, "", fault.Conflict, "client: the tenant does not know the app"},
		"no such CA file":   {func(r *latchkeyv1.SetSsoRequest) { r.CaFile = proto.String("/nonexistent/ca.pem") }, nil, "", fault.Malformed, "ca file: "},
		"a CA file of none": {func(r *latchkeyv1.SetSsoRequest) { r.CaFile = proto.String("/etc/passwd") }, nil, "", fault.Malformed, "ca file: "},
		"wrong secret":      {func(r *latchkeyv1.SetSsoRequest) { r.Secret = []byte("wrong") }, nil, "", fault.Conflict, "AADSTS7000215"},
		"two credentials":   {func(r *latchkeyv1.SetSsoRequest) { r.NoCredential = true }, nil, "", fault.Malformed, "only one"},
		"a broken PEM":      {func(r *latchkeyv1.SetSsoRequest) { r.Secret, r.Certificate = nil, []byte("x") }, nil, "", fault.Malformed, "certificate"},
		"another issuer": {nil, func() {
			i.Discovery(func(d map[string]any) {
				d["issuer"] = "https://login.microsoftonline.com/" + oidctest.Person.String() + "/v2.0"
			})
		}, "", fault.Conflict, "another issuer"},
		"no answer": {nil, func() {
			i.Handle(func(_ string, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true })
		}, "", fault.Unreachable, "discovery"},
		"a locked key":     {nil, nil, "version = 1\n[locked]\nkeys = [\"sso.client\"]\n", fault.Denied, "sso.client"},
		"the domain's own": {nil, nil, "version = 1\n[directory]\ntenant = \"" + oidctest.Person.String() + "\"\n", fault.Conflict, "not the tenant of this domain"},
	} {
		t.Run(name, func(t *testing.T) {
			i.Discovery(nil)
			i.Handle(nil)
			b := newBox(t)
			if tc.config != "" {
				b.write("etc/latchkey.toml", tc.config)
			}
			_, admin, _, _ := b.start()
			req := ssoRequest(i)
			req.Secret = []byte(oidctest.Secret)
			if tc.change != nil {
				tc.change(req)
			}
			if tc.issuer != nil {
				tc.issuer()
			}
			_, err := admin.SsoAdmin.SetSso(t.Context(), req)
			if fault.KindOf(err) != tc.want || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v (%v), want %v and %q", err, fault.KindOf(err), tc.want, tc.says)
			}
			if kept := b.kept(); len(kept) != 0 {
				t.Errorf("there are left: %q", kept)
			}
			got, err := admin.SsoAdmin.GetSso(t.Context(), &latchkeyv1.GetSsoRequest{})
			if err != nil || got.GetReady() || got.GetSettings().GetTenant() != "" {
				t.Errorf("status: %v, %v", got, err)
			}
			if strings.Contains(b.log.String(), oidctest.Secret) {
				t.Error("the secret is in the log")
			}
		})
	}
}

func TestSsoIsSetAndCountsAtOnceAndAfterARestart(t *testing.T) {
	i := oidctest.New(t, nil)
	i.Confidential()
	b := newBox(t)
	_, admin, _, stop := b.start()
	req := ssoRequest(i)
	req.Secret, req.SecretExpireTime = []byte(" "+oidctest.Secret+"\n"), timestamppb.New(time.Now().Add(20*24*time.Hour))
	req.DryRun = true
	if _, err := admin.SsoAdmin.SetSso(t.Context(), req); err != nil || len(b.kept()) != 0 {
		t.Fatalf("a dry run: %v, left %q", err, b.kept())
	}
	req.DryRun = false
	resp, err := admin.SsoAdmin.SetSso(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetSettings().GetRedirectUri() != "https://nas.contoso.test:8443/auth/oidc/callback" || resp.GetSettings().GetClient() != oidctest.Client.String() ||
		!slices.ContainsFunc(resp.GetWarnings(), func(w string) bool { return strings.Contains(w, "secret of the app registration ends on") }) {
		t.Errorf("got %v", resp)
	}
	var secretFile string
	for _, path := range b.kept() {
		if strings.Contains(path, "sso-secret-") {
			secretFile = path
		}
	}
	text, err := os.ReadFile(secretFile)
	info, statErr := os.Stat(secretFile)
	if err != nil || statErr != nil || info.Mode().Perm() != 0o600 || string(text) != oidctest.Secret {
		t.Errorf("the secret's file: %q, %v, %v", text, info.Mode(), err)
	}
	if !b.root.has("reconfigured") {
		t.Errorf("the monitor was asked %q", b.root.asked)
	}
	ready := func(admin latchkeyv1.SsoAdminServiceClient) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			got, err := admin.GetSso(t.Context(), &latchkeyv1.GetSsoRequest{})
			if err == nil && got.GetReady() && got.GetSettings().GetCredential() == "secret" && got.GetIssuer() == i.Issuer() {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not ready: %v, %v", got, err)
			}
		}
	}
	ready(admin.SsoAdmin)
	test, err := admin.SsoAdmin.TestSso(t.Context(), &latchkeyv1.TestSsoRequest{})
	if err != nil || len(test.GetChecks()) != 6 {
		t.Errorf("test: %v, %v", test, err)
	}
	for _, c := range test.GetChecks() {
		if !c.GetPassed() {
			t.Errorf("%s: %s", c.GetWhat(), c.GetDetail())
		}
	}
	i.Handle(func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Date", time.Now().Add(-7*time.Minute).UTC().Format(http.TimeFormat))
		return false
	})
	if test, err = admin.SsoAdmin.TestSso(t.Context(), &latchkeyv1.TestSsoRequest{}); err != nil || len(test.GetChecks()) != 6 || test.GetChecks()[5].GetPassed() ||
		!strings.Contains(test.GetChecks()[5].GetDetail(), "-7m") || !strings.Contains(test.GetChecks()[5].GetRemedy(), "timedatectl") {
		t.Errorf("a clock that is wrong: %v, %v", test, err)
	}
	i.Handle(nil)
	stop()
	d, admin, _, _ := b.start()
	ready(admin.SsoAdmin)
	if d.sso.sessions.Base() != "https://nas.contoso.test:8443" {
		t.Errorf("base %q", d.sso.sessions.Base())
	}
	// What is not given stays; an address in the place of a name is warned of; a
	// public client has no secret left on the disk.
	resp, err = admin.SsoAdmin.SetSso(t.Context(), &latchkeyv1.SetSsoRequest{Tenant: oidctest.Tenant.String(), Client: oidctest.Client.String(),
		RedirectUri: proto.String("https://10.0.0.9/cgi-bin/loginTheme/sso/azure/main.html")})
	if err != nil || resp.GetSettings().GetCredential() != "secret" || !strings.HasPrefix(resp.GetSettings().GetAuthority(), "http://127.0.0.1") ||
		!slices.ContainsFunc(resp.GetWarnings(), func(w string) bool { return strings.Contains(w, "10.0.0.9 in the place of a name") }) {
		t.Errorf("got %v, %v", resp, err)
	}
	other := oidctest.New(t, nil)
	req = ssoRequest(other)
	req.NoCredential = true
	if resp, err = admin.SsoAdmin.SetSso(t.Context(), req); err != nil || resp.GetSettings().GetCredential() != "" ||
		!slices.ContainsFunc(resp.GetWarnings(), func(w string) bool { return strings.Contains(w, "neither a client secret") }) {
		t.Errorf("got %v, %v", resp, err)
	}
	if _, err := os.Stat(secretFile); !os.IsNotExist(err) {
		t.Errorf("the old secret is still there: %v", err)
	}
	if p := d.provider(); p == nil || p.Issuer() != other.Issuer() {
		t.Errorf("the provider is %v", p)
	}
	if _, _, err := d.provider().Begin(context.Background(), false); err != nil {
		t.Error(err)
	}
	// What is wrong takes nothing of what works away.
	was, before := b.kept(), d.provider()
	req.Authority, req.NoCredential, req.Secret = proto.String("https://127.0.0.1:1/{tenant}/v2.0"), false, []byte("another")
	if _, err = admin.SsoAdmin.SetSso(t.Context(), req); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a tenant that nobody serves: %v", err)
	}
	if now := b.kept(); !slices.Equal(now, was) || d.provider() != before || before.Health() != nil {
		t.Errorf("after a set that failed: %q, were %q; %v", now, was, before.Health())
	}
	// A provider whose certificate is signed by an authority of its own.
	own, ca := oidctest.NewTLS(t, nil)
	req = ssoRequest(own)
	if _, err := admin.SsoAdmin.SetSso(t.Context(), req); !fault.Is(err, fault.Unreachable) || !strings.Contains(fault.Remedy(err), "--ca-file") {
		t.Errorf("an unknown authority: %v (%s)", err, fault.Remedy(err))
	}
	req.CaFile = proto.String(filepath.Join(b.dir, "ca.pem"))
	b.write("ca.pem", string(ca))
	if resp, err = admin.SsoAdmin.SetSso(t.Context(), req); err != nil || resp.GetSettings().GetCaFile() != req.GetCaFile() {
		t.Fatalf("with its certificate: %v, %v", resp, err)
	}
	if _, _, err := d.provider().Begin(context.Background(), false); err != nil {
		t.Error(err)
	}
}
