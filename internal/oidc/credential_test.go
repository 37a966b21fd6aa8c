// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func certificate(t *testing.T, notAfter time.Time) (text []byte, public *rsa.PublicKey) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nas"}, NotBefore: notAfter.Add(-time.Hour * 24 * 365), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...), &k.PublicKey
}

func TestTheAppProvesItself(t *testing.T) {
	end := newClock().now().Add(20 * 24 * time.Hour)
	text, public := certificate(t, end)
	byCertificate, err := oidc.Certificate(secret.Own(bytes.Clone(text)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("  "+oidctest.Secret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bySecret, err := oidc.ReadSecret(path, end)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := oidc.Secret(secret.FromString("wrong"), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		credential *oidc.Credential
		wants      func(*oidctest.Issuer)
		good       bool
	}{
		"public":          {nil, func(*oidctest.Issuer) {}, true},
		"secret":          {bySecret, (*oidctest.Issuer).Confidential, true},
		"wrong secret":    {wrong, (*oidctest.Issuer).Confidential, false},
		"no secret":       {nil, (*oidctest.Issuer).Confidential, false},
		"certificate":     {byCertificate, func(i *oidctest.Issuer) { i.Certificate(public) }, true},
		"another's":       {byCertificate, func(i *oidctest.Issuer) { _, other := certificate(t, end); i.Certificate(other) }, false},
		"secret for cert": {bySecret, func(i *oidctest.Issuer) { i.Certificate(public) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(c *oidc.Config) { c.Credential = tc.credential })
			tc.wants(g.issuer)
			_, err := g.signIn(oidctest.Person)
			probe := g.client.Probe(context.Background())
			if (err == nil) != tc.good || (probe == nil) != tc.good {
				t.Errorf("sign-in: %v, probe: %v, want good = %v", err, probe, tc.good)
			}
			if !tc.good && (!errors.Is(err, oidc.ErrCredential) || !errors.Is(probe, oidc.ErrCredential)) {
				t.Errorf("sign-in: %v, probe: %v", err, probe)
			}
		})
	}
	for _, c := range []*oidc.Credential{bySecret, byCertificate} {
		now := newClock().now()
		if at, soon := c.Ends(now); !soon || !at.Equal(end) {
			t.Errorf("%s: ends %v, soon %v", c.Kind, at, soon)
		}
		if _, soon := c.Ends(now.Add(-11 * 24 * time.Hour)); soon {
			t.Errorf("%s: 31 days are not soon", c.Kind)
		}
	}
}

func TestCredentialsThatAreNone(t *testing.T) {
	text, _ := certificate(t, time.Now().Add(time.Hour))
	other, _ := certificate(t, time.Now().Add(time.Hour))
	cert, rest := pem.Decode(text)
	_, otherKey := pem.Decode(other)
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("secret"), "no key": pem.EncodeToMemory(cert), "no certificate": rest,
		"another's key": append(pem.EncodeToMemory(cert), otherKey...),
		"broken":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		"passphrase":    append(pem.EncodeToMemory(cert), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})...),
	} {
		if _, err := oidc.Certificate(secret.Own(b)); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range []string{"", " ", "two words", "two\nlines", strings.Repeat("x", 2000), "caf\u00e9"} {
		if _, err := oidc.Secret(secret.FromString(s), time.Time{}); !fault.Is(err, fault.Malformed) {
			t.Errorf("secret %.20q: %v", s, err)
		}
	}
}
