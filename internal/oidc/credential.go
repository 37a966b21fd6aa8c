// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

var b64 = base64.RawURLEncoding

// WarnBefore is how long before its end a credential is spoken of.
const WarnBefore = 30 * 24 * time.Hour

// Credential is what the app proves itself by to the token endpoint: a secret,
// or the key of a certificate (private_key_jwt, RFC 7523).
type Credential struct {
	// Kind is "secret" or "certificate".
	Kind string
	// Expires is when it ends; zero where nobody said: a secret does not tell.
	Expires time.Time

	secret     secret.Bytes
	key        *rsa.PrivateKey
	thumbprint string // x5t#S256
}

// Secret returns a credential of a client secret. expires is when the portal
// says that it ends; zero where that is not known. The text is taken without the
// spaces around it. fault.Malformed: empty, or not one line of text.
func Secret(text secret.Bytes, expires time.Time) (*Credential, error) {
	b := bytes.TrimSpace(text.Reveal())
	if len(b) == 0 || len(b) > 1024 || bytes.ContainsFunc(b, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fault.New(fault.Malformed, "client secret: want one line of up to 1024 printable characters")
	}
	return &Credential{Kind: "secret", Expires: expires, secret: secret.Own(bytes.Clone(b))}, nil
}

// Certificate returns a credential of a PEM text with one RSA key, PKCS #1 or
// #8 without a passphrase, and its certificate. fault.Malformed says what is
// missing.
func Certificate(text secret.Bytes) (*Credential, error) {
	c := &Credential{Kind: "certificate"}
	var leaf *x509.Certificate
	for rest := text.Reveal(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fault.Wrap(fault.Malformed, "certificate: read it", err)
			}
			if leaf == nil {
				leaf = cert
			}
		case "RSA PRIVATE KEY", "PRIVATE KEY":
			var key any
			var err error
			if block.Type == "PRIVATE KEY" {
				key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
			} else {
				key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
			}
			secret.Wipe(block.Bytes)
			if err != nil {
				return nil, fault.New(fault.Malformed, "certificate: its key cannot be read")
			}
			c.key, _ = key.(*rsa.PrivateKey)
		case "ENCRYPTED PRIVATE KEY":
			return nil, fault.New(fault.Malformed, "certificate: its key has a passphrase")
		}
	}
	switch {
	case leaf == nil:
		return nil, fault.New(fault.Malformed, "certificate: the file has none (want PEM with a certificate and its key)")
	case c.key == nil:
		return nil, fault.New(fault.Malformed, "certificate: the file has no RSA key")
	case !c.key.PublicKey.Equal(leaf.PublicKey):
		return nil, fault.New(fault.Malformed, "certificate: the key is not the certificate's")
	case c.key.N.BitLen() < 2048:
		return nil, fault.New(fault.Malformed, "certificate: its key has less than 2048 bits")
	}
	sum := sha256.Sum256(leaf.Raw)
	c.Expires, c.thumbprint = leaf.NotAfter, b64.EncodeToString(sum[:])
	return c, nil
}

// ReadSecret and ReadCertificate read a credential from a file.
func ReadSecret(path string, expires time.Time) (*Credential, error) {
	return readCredential(path, "client secret", func(text secret.Bytes) (*Credential, error) { return Secret(text, expires) })
}

// ReadCertificate reads a certificate and its key from a PEM file.
func ReadCertificate(path string) (*Credential, error) {
	return readCredential(path, "certificate", Certificate)
}

func readCredential(path, what string, parse func(secret.Bytes) (*Credential, error)) (*Credential, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.WithRemedy(fault.Wrap(fault.Malformed, what+": read its file", err), "the user latchkey must be able to read it")
	}
	text := secret.Own(b)
	defer text.Wipe()
	return parse(text)
}

// Ends says when the credential ends and whether that is less than WarnBefore
// away. Nil, or an unknown end, is never soon.
func (c *Credential) Ends(now time.Time) (at time.Time, soon bool) {
	if c == nil || c.Expires.IsZero() {
		return time.Time{}, false
	}
	return c.Expires, c.Expires.Sub(now) < WarnBefore
}

// Wipe overwrites the secret. Safe on nil.
func (c *Credential) Wipe() {
	if c != nil {
		c.secret.Wipe()
	}
}

// proof returns the parameters by which the app proves itself to the token
// endpoint; none for a public client.
func (c *Credential) proof(endpoint, client string, now time.Time) (map[string]string, error) {
	switch {
	case c == nil:
		return nil, nil
	case c.key == nil:
		return map[string]string{"client_secret": string(c.secret.Reveal())}, nil
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: c.key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t#S256", c.thumbprint))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "sign as the app", err)
	}
	claims, err := json.Marshal(map[string]any{"aud": endpoint, "iss": client, "sub": client, "jti": random(),
		"nbf": now.Add(-time.Minute).Unix(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "sign as the app", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "sign as the app", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "sign as the app", err)
	}
	return map[string]string{"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion": text}, nil
}
