// SPDX-License-Identifier: Apache-2.0

// Package oidctest is an OpenID provider shaped like an Entra ID tenant, for
// tests: it does what a tenant does, and on demand everything that a tenant never
// would. It shows no page: Answer stands for the person in front of the browser.
package oidctest

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

var b64 = base64.RawURLEncoding

// Tenant and Client are the ids that the provider knows; Person signs in.
var (
	Tenant = mustGUID("8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b")
	Client = mustGUID("1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90")
	Person = mustGUID("00000000-0000-4000-8000-000000000001")
)

// Secret is what the app proves itself by where Issuer.Confidential is set.
const Secret = "Tq8~the-client-secret"

func mustGUID(s string) identity.GUID {
	g, err := identity.ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

var (
	keysOnce sync.Once
	keys     []*rsa.PrivateKey
)

// key returns one of a few keys that all tests share: they take long to make.
func key(n int) *rsa.PrivateKey {
	keysOnce.Do(func() {
		for range 3 {
			k, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				panic(err)
			}
			keys = append(keys, k)
		}
	})
	return keys[n%len(keys)]
}

// Issuer is one provider. Its fields may be changed between requests, by SetX
// where one may be under way.
type Issuer struct {
	server *httptest.Server
	now    func() time.Time

	mu           sync.Mutex
	generation   int // of the signing key
	codes        map[string]flight
	own          bool // the app has a signing key of its own
	confidential bool
	certificate  *rsa.PublicKey
	claims       func(map[string]any)
	header       func(map[string]any)
	sign         func(signed string) string
	discovery    func(map[string]any)
	handle       func(path string, w http.ResponseWriter, r *http.Request) bool
	reads        map[string]int
	busy         time.Duration
}

type flight struct {
	nonce, challenge, redirect string
	object                     identity.GUID
}

// New starts a provider; it ends with the test.
func New(t testing.TB, now func() time.Time) *Issuer {
	t.Helper()
	if now == nil {
		now = time.Now
	}
	i := &Issuer{now: now, codes: map[string]flight{}, reads: map[string]int{}}
	i.server = httptest.NewServer(i)
	t.Cleanup(i.server.Close)
	return i
}

// NewTLS is New by https, with a certificate that no machine trusts. ca is the
// one to trust, PEM.
func NewTLS(t testing.TB, now func() time.Time) (i *Issuer, ca []byte) {
	t.Helper()
	i = New(t, now)
	i.server.Close()
	i.server = httptest.NewUnstartedServer(i)
	i.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not trust it
	i.server.StartTLS()
	t.Cleanup(i.server.Close)
	return i, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw})
}

// Serve starts a provider on a listener, for a measurement. Close ends it.
func Serve(ln net.Listener) *Issuer {
	i := &Issuer{now: time.Now, codes: map[string]flight{}, reads: map[string]int{}}
	i.server = &httptest.Server{Listener: ln, Config: &http.Server{Handler: i, ReadHeaderTimeout: 5 * time.Second}}
	i.server.Start()
	return i
}

// Busy returns how long the provider was busy with requests, all in all.
func (i *Issuer) Busy() (d time.Duration) {
	i.set(func() { d = i.busy })
	return d
}

// Authority is what an app is told.
func (i *Issuer) Authority() string { return i.server.URL + "/{tenant}/v2.0" }

// Issuer is what tokens say.
func (i *Issuer) Issuer() string { return i.server.URL + "/" + Tenant.String() + "/v2.0" }

// Close ends the provider before the test does: nobody answers any longer.
func (i *Issuer) Close() { i.server.Close() }

func (i *Issuer) set(fn func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	fn()
}

// Claims changes the claims of the tokens to come.
func (i *Issuer) Claims(fn func(map[string]any)) { i.set(func() { i.claims = fn }) }

// Header changes the header of the tokens to come.
func (i *Issuer) Header(fn func(map[string]any)) { i.set(func() { i.header = fn }) }

// Sign replaces the signature of the tokens to come: fn gets what is signed, and
// returns the third part.
func (i *Issuer) Sign(fn func(signed string) string) { i.set(func() { i.sign = fn }) }

// Discovery changes the discovery document.
func (i *Issuer) Discovery(fn func(map[string]any)) { i.set(func() { i.discovery = fn }) }

// Handle answers in the place of the provider where fn returns true. path is
// "discovery", "keys" or "token".
func (i *Issuer) Handle(fn func(path string, w http.ResponseWriter, r *http.Request) bool) {
	i.set(func() { i.handle = fn })
}

// Roll takes another signing key, and forgets the one before.
func (i *Issuer) Roll() { i.set(func() { i.generation++ }) }

// OwnKey gives the app a signing key of its own, which is shown to who asks for
// the app's keys only.
func (i *Issuer) OwnKey() { i.set(func() { i.own = true }) }

// Confidential wants the secret from the app.
func (i *Issuer) Confidential() { i.set(func() { i.confidential = true }) }

// Certificate wants a client assertion by this key from the app.
func (i *Issuer) Certificate(k *rsa.PublicKey) { i.set(func() { i.certificate = k }) }

// Reads returns how often "discovery", "keys" or "token" was asked for.
func (i *Issuer) Reads(path string) (n int) {
	i.set(func() { n = i.reads[path] })
	return n
}

// PublicKeyPEM is the signing key's public half, as one could use it for HMAC.
func (i *Issuer) PublicKeyPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(&key(i.generation).PublicKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// HS256 signs by HMAC.
func HS256(secret []byte) func(string) string {
	return func(signed string) string {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(signed))
		return b64.EncodeToString(m.Sum(nil))
	}
}

// Answer is the person at the browser: it takes the authorization request, signs
// somebody in, and returns what the browser brings back.
func (i *Issuer) Answer(request string, object identity.GUID) (url.Values, error) {
	u, err := url.Parse(request)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": Client.String(), "code_challenge_method": "S256"} {
		if q.Get(name) != want {
			return nil, fmt.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge", "redirect_uri", "prompt"} {
		if q.Get(name) == "" {
			return nil, fmt.Errorf("there is no %s", name)
		}
	}
	if scope := " " + q.Get("scope") + " "; !strings.Contains(scope, " openid ") || !strings.Contains(scope, " profile ") {
		return nil, fmt.Errorf("the scope is %q", scope)
	}
	code := make([]byte, 24)
	_, _ = rand.Read(code)
	text := b64.EncodeToString(code)
	i.set(func() {
		i.codes[text] = flight{nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), redirect: q.Get("redirect_uri"), object: object}
	})
	return url.Values{"code": {text}, "state": {q.Get("state")}, "session_state": {"s"}}, nil
}

// ServeHTTP answers as a tenant does.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := "/" + Tenant.String()
	path := map[string]string{base + "/v2.0/.well-known/openid-configuration": "discovery", base + "/discovery/v2.0/keys": "keys",
		base + "/oauth2/v2.0/token": "token"}[r.URL.Path]
	began := time.Now()
	defer i.set(func() { i.busy += time.Since(began) })
	i.mu.Lock()
	i.reads[path]++
	handle := i.handle
	i.mu.Unlock()
	if handle != nil && handle(path, w, r) {
		return
	}
	switch path {
	case "discovery":
		doc := map[string]any{"issuer": i.Issuer(), "authorization_endpoint": i.server.URL + base + "/oauth2/v2.0/authorize",
			"token_endpoint": i.server.URL + base + "/oauth2/v2.0/token", "jwks_uri": i.server.URL + base + "/discovery/v2.0/keys",
			"end_session_endpoint": i.server.URL + base + "/oauth2/v2.0/logout", "response_modes_supported": []string{"query", "fragment", "form_post"},
			"id_token_signing_alg_values_supported": []string{"RS256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"pairwise"}}
		i.set(func() {
			if i.discovery != nil {
				i.discovery(doc)
			}
		})
		write(w, http.StatusOK, doc)
	case "keys":
		write(w, http.StatusOK, map[string]any{"keys": i.jwks(r.URL.Query().Get("appid"))})
	case "token":
		i.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (i *Issuer) jwks(app string) []any {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := []any{i.jwk(fmt.Sprintf("key-%d", i.generation), key(i.generation))}
	if i.own && app == Client.String() {
		all = append(all, i.jwk("own", key(i.generation+1)))
	}
	return all
}

func (i *Issuer) jwk(kid string, k *rsa.PrivateKey) map[string]any {
	return map[string]any{"kty": "RSA", "use": "sig", "kid": kid, "n": b64.EncodeToString(k.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(k.E)).Bytes()), "issuer": i.Issuer()}
}

// signer is the key of the tokens, and its id. The caller holds mu.
func (i *Issuer) signer() (*rsa.PrivateKey, string) {
	if i.own {
		return key(i.generation + 1), "own"
	}
	return key(i.generation), fmt.Sprintf("key-%d", i.generation)
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	fail := func(code, text string) {
		write(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": text})
	}
	if err := r.ParseForm(); err != nil {
		fail("invalid_request", "no form")
		return
	}
	i.mu.Lock()
	f, known := i.codes[r.PostForm.Get("code")]
	delete(i.codes, r.PostForm.Get("code"))
	confidential, certificate := i.confidential, i.certificate
	i.mu.Unlock()
	own := r.PostForm.Get("grant_type") == "client_credentials"
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	switch {
	case r.PostForm.Get("client_id") != Client.String():
		fail("unauthorized_client", "AADSTS700016: Application was not found in the directory")
	case confidential && r.PostForm.Get("client_secret") == "":
		fail("invalid_client", "AADSTS7000218: The request body must contain: client_assertion or client_secret")
	case !own && !known && r.PostForm.Get("code") == "latchkey-asks-whether-it-is-known":
		// No code of any tenant looks like this, and nobody says which a tenant
		// looks at first.
		fail("invalid_grant", "AADSTS9002313: Invalid request. Request is malformed or invalid")
	case confidential && r.PostForm.Get("client_secret") != Secret:
		fail("invalid_client", "AADSTS7000215: Invalid client secret provided")
	case certificate != nil && !i.asserted(certificate, r):
		fail("invalid_client", "AADSTS700027: Client assertion contains an invalid signature")
	case own:
		fail("unauthorized_client", "the app may have no token of its own")
	case !known:
		fail("invalid_grant", "AADSTS54005: OAuth2 Authorization code was already redeemed")
	case r.PostForm.Get("redirect_uri") != f.redirect:
		fail("invalid_grant", "AADSTS50011: The reply URL does not match")
	case b64.EncodeToString(sum[:]) != f.challenge:
		fail("invalid_grant", "AADSTS501481: The Code_Verifier does not match the code_challenge")
	default:
		write(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": "opaque", "id_token": i.Token(f.nonce, f.object)})
	}
}

// asserted checks private_key_jwt (RFC 7523 3).
func (i *Issuer) asserted(k *rsa.PublicKey, r *http.Request) bool {
	parts := strings.Split(r.PostForm.Get("client_assertion"), ".")
	if len(parts) != 3 || r.PostForm.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return false
	}
	signature, err := b64.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPSS(k, crypto.SHA256, sum[:], signature, nil) != nil {
		return false
	}
	var head struct {
		Thumbprint string `json:"x5t#S256"`
	}
	var claims struct {
		Audience string `json:"aud"`
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Expires  int64  `json:"exp"`
		ID       string `json:"jti"`
	}
	for part, into := range map[string]any{parts[0]: &head, parts[1]: &claims} {
		text, err := b64.DecodeString(part)
		if err != nil || json.Unmarshal(text, into) != nil {
			return false
		}
	}
	return head.Thumbprint != "" && claims.Audience == i.server.URL+"/"+Tenant.String()+"/oauth2/v2.0/token" && claims.Issuer == Client.String() &&
		claims.Subject == Client.String() && claims.ID != "" && claims.Expires > i.now().Unix()
}

// Token makes an id_token as the provider would now.
func (i *Issuer) Token(nonce string, object identity.GUID) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	claims := map[string]any{"iss": i.Issuer(), "aud": Client.String(), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "nonce": nonce,
		"oid": object.String(), "tid": Tenant.String(), "sub": "pairwise", "ver": "2.0", "sid": "session-of-" + object.String(), "preferred_username": "alice@contoso.test", "name": "Alice"}
	if i.claims != nil {
		i.claims(claims)
	}
	signer, kid := i.signer()
	header := map[string]any{"alg": "RS256", "typ": "JWT", "kid": kid}
	if i.header != nil {
		i.header(header)
	}
	signed := part(header) + "." + part(claims)
	if i.sign != nil {
		return signed + "." + i.sign(signed)
	}
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, signer, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signed + "." + b64.EncodeToString(signature)
}

func part(v map[string]any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b64.EncodeToString(b)
}
