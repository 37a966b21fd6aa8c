// SPDX-License-Identifier: Apache-2.0

// Package oidc has people sign in at one tenant of Microsoft Entra ID: OpenID
// Connect's authorization code flow with PKCE (RFC 7636), state and nonce.
//
// It asks for a code and changes it for an id_token over its own connection; a
// token that comes through the browser is refused. Of the token only tid and oid
// say who somebody is. The package never finds anybody by e-mail, UPN or name,
// never takes groups from a token, never follows a redirect, remembers nobody
// and decides nothing: packages session and login do.
package oidc

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// DefaultAuthority is the issuer of Entra ID's public cloud; national clouds
// have hosts of their own.
const DefaultAuthority = "https://login.microsoftonline.com/{tenant}/v2.0"

// QNAPCallback is the path that QNAP has its customers register as redirect URI.
// It is accepted as ours, so that an app registration made for it keeps working.
const QNAPCallback = "/cgi-bin/loginTheme/sso/azure/main.html"

// Callback is the path of our own redirect URI.
const Callback = "/auth/oidc/callback"

// How the code comes back.
const (
	FormPost = "form_post" // a POST of the browser; nothing is left in a log or a history
	Query    = "query"
)

// Config says which tenant, as which app. Authority, Tenant, Client and
// RedirectURI are required.
type Config struct {
	// Authority is the issuer; {tenant} stands for the tenant's id. https, or
	// http to a loopback address.
	Authority   string
	Tenant      identity.GUID
	Client      identity.GUID
	RedirectURI string // exactly as it is registered
	// ResponseMode is FormPost or Query; empty: FormPost.
	ResponseMode string
	// Credential is what the app proves itself by; nil: a public client, with
	// PKCE alone.
	Credential *Credential
	// CAFile has certificates that are trusted besides the machine's own.
	CAFile string
	Log    *slog.Logger // nil: slog.Default()
	Now    func() time.Time
	// Transport replaces the network, for tests. nil: the machine's, through the
	// proxies that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name.
	Transport http.RoundTripper
}

// The limits of one conversation with the provider.
const (
	askTime   = 5 * time.Second // for one answer
	maxAnswer = 1 << 20         // bytes of one answer
	maxToken  = 64 << 10        // bytes of one id_token
	skew      = 5 * time.Minute // between the provider's clock and ours
)

// Client speaks with the tenant. Safe for concurrent use.
type Client struct {
	c      Config
	issuer string
	http   *http.Client
	keys   *keySet
	ahead  atomic.Int64 // of the provider's clock

	mu     sync.Mutex
	found  *metadata // nil: not asked yet
	asking chan struct{}
	health error // of the last look; ErrNotAsked before
	looked time.Time
}

// New returns a client that has not asked anybody yet. fault.Malformed: a field
// of the configuration makes no sense; the text names it.
func New(c Config) (*Client, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ResponseMode == "" {
		c.ResponseMode = FormPost
	}
	issuer, err := Issuer(c.Authority, c.Tenant)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Client.IsZero():
		return nil, fault.New(fault.Malformed, "client: is empty")
	case c.ResponseMode != FormPost && c.ResponseMode != Query:
		return nil, fault.Errorf(fault.Malformed, "response mode: %q is neither %s nor %s", c.ResponseMode, FormPost, Query)
	}
	if err := CheckRedirect(c.RedirectURI); err != nil {
		return nil, err
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	k := &Client{c: c, issuer: issuer, health: ErrNotAsked}
	k.http = &http.Client{Transport: dated{transport, &k.ahead, c.Now}, Timeout: 2 * askTime,
		// An answer that sends us elsewhere would take the client's secret along.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	k.keys = &keySet{client: k}
	return k, nil
}

// ErrNotAsked is the health of a client that has just been made.
var ErrNotAsked = fault.New(fault.Unreachable, "the tenant has not been asked yet")

// Issuer returns the issuer of a tenant, which is also where its discovery
// document is found.
func Issuer(authority string, tenant identity.GUID) (string, error) {
	if tenant.IsZero() {
		return "", fault.New(fault.Malformed, "tenant: is empty")
	}
	issuer := strings.TrimSuffix(strings.ReplaceAll(authority, "{tenant}", tenant.String()), "/")
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fault.Errorf(fault.Malformed, "authority: %.200q is no issuer's URL", authority)
	case !safe(u):
		return "", fault.Errorf(fault.Malformed, "authority: %.200q is not https", authority)
	}
	return issuer, nil
}

// safe says whether a URL may be trusted with a code: https, or http that never
// leaves the machine.
func safe(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && addr.IsLoopback())
}

// CheckRedirect says why Entra ID would not take a redirect URI: fault.Malformed.
func CheckRedirect(uri string) error {
	fail := func(why string) error { return fault.Errorf(fault.Malformed, "redirect URI: %.300q %s", uri, why) }
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fail("is no URL with a host")
	case !safe(u):
		return fail("is not https")
	case u.User != nil || u.Fragment != "" || strings.Contains(uri, "#"):
		return fail("has a user or a fragment")
	case len(uri) > 256:
		return fail("is longer than 256 characters")
	case strings.ContainsAny(uri, "!$'(),;*"):
		return fail("has one of ! $ ' ( ) , ; *")
	case u.Path == "":
		return fail("has no path")
	}
	return nil
}

// Flight is one sign-in on its way: what we sent, to be compared with what comes
// back. It belongs to one browser and is a secret of it.
type Flight struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // of PKCE
	Silent   bool   `json:"q,omitempty"`
}

// random returns 256 random bits as 43 characters.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Begin returns where to send the browser, and what to remember of it. silent
// asks the tenant to answer without a page; otherwise an account is picked.
// fault.Unreachable: the tenant's discovery document cannot be had.
func (c *Client) Begin(ctx context.Context, silent bool) (string, Flight, error) {
	m, err := c.metadata(ctx)
	if err != nil {
		return "", Flight{}, err
	}
	f := Flight{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Silent: silent}
	prompt := "select_account"
	if silent {
		prompt = "none"
	}
	o := c.oauth(m)
	return o.AuthCodeURL(f.State, oauth2.S256ChallengeOption(f.Verifier), oauth2.SetAuthURLParam("nonce", f.Nonce),
		oauth2.SetAuthURLParam("response_mode", c.c.ResponseMode), oauth2.SetAuthURLParam("prompt", prompt)), f, nil
}

func (c *Client) oauth(m *metadata) *oauth2.Config {
	return &oauth2.Config{ClientID: c.c.Client.String(), RedirectURL: c.c.RedirectURI, Scopes: []string{"openid", "profile"},
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorize, TokenURL: m.Token, AuthStyle: oauth2.AuthStyleInParams}}
}

// SignOutURL is where the tenant ends its own session of the browser; empty
// where it is not known. after is a registered redirect URI, or empty.
func (c *Client) SignOutURL(after string) string {
	c.mu.Lock()
	m := c.found
	c.mu.Unlock()
	if m == nil || m.EndSession == "" {
		return ""
	}
	u, err := url.Parse(m.EndSession)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", c.c.Client.String())
	if after != "" {
		q.Set("post_logout_redirect_uri", after)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Issuer returns whose tokens are taken.
func (c *Client) Issuer() string { return c.issuer }

// Tenant returns the tenant's id.
func (c *Client) Tenant() identity.GUID { return c.c.Tenant }

// ResponseMode returns how codes come back.
func (c *Client) ResponseMode() string { return c.c.ResponseMode }

// Credential returns what the app proves itself by; nil for a public client.
func (c *Client) Credential() *Credential { return c.c.Credential }
