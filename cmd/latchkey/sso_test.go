// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func ssoSettings() *latchkeyv1.SsoSettings {
	return &latchkeyv1.SsoSettings{Tenant: "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b", Client: "1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90",
		Authority: "https://login.microsoftonline.com/{tenant}/v2.0", RedirectUri: "https://nas.aadds.contoso.test:8443/auth/oidc/callback", ResponseMode: "form_post",
		Credential: "secret", CredentialExpireTime: timestamppb.New(noon.Add(20 * 24 * time.Hour))}
}

func (f *fake) SetSso(_ context.Context, r *latchkeyv1.SetSsoRequest) (*latchkeyv1.SetSsoResponse, error) {
	if len(strings.TrimSpace(r.GetTenant())) != 36 {
		return nil, fault.WithRemedy(fault.Errorf(fault.Malformed, "tenant: has %d characters, want exactly 36", len(r.GetTenant())), "copy it from the app registration's Overview in the portal")
	}
	if !filepath.IsAbs(r.GetCaFile()) && r.CaFile != nil {
		return nil, fault.Errorf(fault.Malformed, "sso.ca_file %q is no absolute path", r.GetCaFile())
	}
	return &latchkeyv1.SetSsoResponse{Settings: ssoSettings(), Warnings: []string{"The secret of the app registration ends on 2026-12-12: make a new one and `latchkey sso set` it."}}, f.fail
}

func (f *fake) TestSso(context.Context, *latchkeyv1.TestSsoRequest) (*latchkeyv1.TestSsoResponse, error) {
	resp := &latchkeyv1.TestSsoResponse{Settings: ssoSettings(), Checks: []*latchkeyv1.SsoCheck{{What: "settings", Passed: true}, {What: "discovery, issuer and signing keys", Passed: true}}}
	if f.fail != nil {
		resp.Checks[1] = &latchkeyv1.SsoCheck{What: "discovery, issuer and signing keys", Detail: f.fail.Error(), Remedy: fault.Remedy(f.fail)}
	}
	return resp, nil
}

func (f *fake) GetSso(context.Context, *latchkeyv1.GetSsoRequest) (*latchkeyv1.GetSsoResponse, error) {
	resp := &latchkeyv1.GetSsoResponse{Settings: ssoSettings(), Ready: f.fail == nil, Sessions: 3, Issuer: "https://login.microsoftonline.com/8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b/v2.0",
		Apps: []*latchkeyv1.SsoApp{{Name: "photos", Users: []string{"www-data"}, RedirectUris: []string{"https://photos.contoso.test/cb"}}}}
	if f.fail != nil {
		resp.Detail, resp.Remedy = f.fail.Error(), fault.Remedy(f.fail)
	}
	return resp, nil
}

func (f *fake) ListSessions(_ context.Context, r *latchkeyv1.ListSessionsRequest) (*latchkeyv1.ListSessionsResponse, error) {
	switch {
	case r.GetUser().GetName() == "nobody":
		return nil, nobody
	case r.GetApp() == "none":
		return &latchkeyv1.ListSessionsResponse{}, nil
	}
	return &latchkeyv1.ListSessionsResponse{Total: 3, Sessions: []*latchkeyv1.WebSession{
		{SessionId: "4fJx0w", Username: "alice", Resource: "users/1", How: "oidc", CreateTime: ago(time.Hour), UseTime: ago(time.Minute), ExpireTime: timestamppb.New(noon.Add(time.Hour)),
			IdleExpireTime: timestamppb.New(noon.Add(time.Minute)), RemoteHost: "192.0.2.7", UserAgent: "Browser \x1b[2J/1.0", AuditId: "0123456789abcdef"},
		{SessionId: "9aZq-_", Username: "admin\x1b[2J", App: "photos", How: "password", CreateTime: ago(2 * time.Hour), UseTime: ago(time.Hour), ExpireTime: timestamppb.New(noon.Add(time.Hour))}}}, nil
}

func (f *fake) RevokeSession(_ context.Context, r *latchkeyv1.RevokeSessionRequest) (*latchkeyv1.RevokeSessionResponse, error) {
	if r.GetSessionId() == "gone" {
		return nil, fault.New(fault.NotFound, "there is no such session")
	}
	return &latchkeyv1.RevokeSessionResponse{Revoked: 2}, nil
}

// golden compares what command lines print with a file.
func golden(t *testing.T, name string, b *bench, lines ...[]string) {
	t.Helper()
	var got strings.Builder
	for _, line := range lines {
		text, _ := b.run(line...)
		got.WriteString(text + "\n")
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got.String(), want)
	}
}

func TestSsoGolden(t *testing.T) {
	ids := []string{"--tenant", "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b", "--client", "1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90"}
	set := func(more ...string) []string { return append(append([]string{"sso", "set"}, ids...), more...) }
	golden(t, "sso", newBench(t), set(), set("--json"), set("--dry-run", "--expires", "June"), set("--dry-run", "--ca-file", "testdata/ca.pem"), []string{"sso", "set", "--tenant", "8b0f", "--client", "x"}, set("--certificate", "testdata/none"),
		set("--secret"), []string{"sso", "test"}, []string{"sso", "test", "--json"}, []string{"sso", "status"}, []string{"sso", "status", "--json"})
	b := newBench(t)
	b.utf8 = false
	b.daemon.fail = fault.WithRemedy(fault.New(fault.Conflict, "the tenant says that it is another issuer"), "the tenant id is not this tenant's")
	golden(t, "sso_fails", b, set(), []string{"sso", "test"}, []string{"sso", "status"})
	golden(t, "session", newBench(t), []string{"session", "list"}, []string{"session", "list", "alice", "--json"}, []string{"session", "list", "nobody"}, []string{"session", "list", "--app", "none"},
		[]string{"session", "revoke", "4fJx0w"}, []string{"session", "revoke", "--user", "alice", "--json"}, []string{"session", "revoke", "gone"}, []string{"session", "revoke"}, []string{"session", "revoke", "x", "--user", "alice"})
}

// What was typed reaches the daemon: the secret without its line end, what was
// not given not at all.
func TestSsoSetAsks(t *testing.T) {
	b := newBench(t)
	b.in = strings.NewReader("  Tq8~secret\r\n")
	text, _ := b.run("sso", "set", "--tenant", " 8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b ", "--client", "x", "--secret-stdin", "--expires", "2027-06-30", "--authority", "")
	got, ok := b.daemon.last.(*latchkeyv1.SetSsoRequest)
	if !ok || string(got.GetSecret()) != "Tq8~secret" || got.GetSecretExpireTime().AsTime().Year() != 2027 || got.Authority == nil || got.RedirectUri != nil || got.CaFile != nil || got.Certificate != nil {
		t.Errorf("asks %v", b.daemon.last)
	}
	if strings.Contains(text, "Tq8") {
		t.Errorf("the secret is printed:\n%s", text)
	}
	pem := filepath.Join(t.TempDir(), "c.pem")
	if err := os.WriteFile(pem, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("sso", "set", "--tenant", "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b", "--client", "x", "--certificate", pem)
	if got, ok = b.daemon.last.(*latchkeyv1.SetSsoRequest); !ok || string(got.GetCertificate()) != "PEM" || got.Secret != nil {
		t.Errorf("asks %v", b.daemon.last)
	}
}

// What administrators may ask of the two services can be asked by hand; the rest
// is for apps.
func TestEverySsoMethodForAdministratorsHasACommand(t *testing.T) {
	b := newBench(t)
	forApps := map[string]bool{"BeginSignIn": true, "ExchangeCode": true, "GetSession": true}
	lines := map[string][]string{"SetSso": {"sso", "set", "--tenant", "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b", "--client", "x"}, "TestSso": {"sso", "test"}, "GetSso": {"sso", "status"},
		"ListSessions": {"session", "list"}, "RevokeSession": {"session", "revoke", "x"}}
	for _, d := range []grpc.ServiceDesc{latchkeyv1.SsoService_ServiceDesc, latchkeyv1.SsoAdminService_ServiceDesc} {
		for _, m := range d.Methods {
			if forApps[m.MethodName] {
				continue
			}
			clear(b.daemon.called)
			if text, exit := b.run(lines[m.MethodName]...); exit != 0 || !b.daemon.called["/"+d.ServiceName+"/"+m.MethodName] {
				t.Errorf("%s is not called by\n%s", m.MethodName, text)
			}
		}
	}
}
