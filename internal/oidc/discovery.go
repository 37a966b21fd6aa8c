// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/net/http/httpproxy"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// How long what the tenant said is believed, and how often it is asked.
const (
	keepFor      = 24 * time.Hour
	refreshAfter = time.Hour
	retryAfter   = 30 * time.Second // while it does not answer
)

// metadata is what we use of the discovery document (OpenID Connect Discovery 1.0).
type metadata struct {
	Authorize  string
	Token      string
	Keys       string
	EndSession string
	read       time.Time
}

// metadata returns the discovery document: the one at hand while it is not old,
// or a new one. Many who ask at once are one question.
func (c *Client) metadata(ctx context.Context) (*metadata, error) {
	for {
		c.mu.Lock()
		m, now := c.found, c.c.Now()
		if m != nil && now.Sub(m.read) < keepFor {
			c.mu.Unlock()
			return m, nil
		}
		if c.health != ErrNotAsked && c.asking == nil && now.Sub(c.looked) < retryAfter/10 && c.health != nil {
			err := c.health
			c.mu.Unlock()
			return nil, err // it was silent a moment ago
		}
		wait := c.asking
		if wait == nil {
			c.asking = make(chan struct{})
			c.mu.Unlock()
			return c.look(ctx)
		}
		c.mu.Unlock()
		select {
		case <-wait:
			c.mu.Lock()
			m, err := c.found, c.health
			c.mu.Unlock()
			if err != nil && m == nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unreachable, "wait for the tenant", ctx.Err())
		}
	}
}

// look asks for the discovery document. The caller holds the turn: c.asking.
func (c *Client) look(ctx context.Context) (*metadata, error) {
	// Others may wait for this answer: it does not end with who asked first.
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	m, err := c.discover(ask)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = c.c.Now()
	before := c.health
	c.health = err
	if err == nil {
		c.found = m
	}
	close(c.asking)
	c.asking = nil
	switch {
	case err != nil && (before == nil || before == ErrNotAsked):
		c.c.Log.Warn("sign-in with Entra ID is not offered: the tenant's discovery document cannot be had", "issuer", c.issuer, "error", err, "remedy", fault.Remedy(err))
	case err == nil && before != nil && before != ErrNotAsked:
		c.c.Log.Info("the tenant answers again", "issuer", c.issuer)
	}
	if c.found != nil && c.c.Now().Sub(c.found.read) < keepFor {
		return c.found, nil
	}
	return nil, err
}

// discover reads the document once.
func (c *Client) discover(ctx context.Context) (*metadata, error) {
	const op = "read the tenant's discovery document"
	p, err := gooidc.NewProvider(gooidc.ClientContext(ctx, c.http), c.issuer)
	var mismatch *gooidc.IssuerMismatchError
	switch {
	case errors.As(err, &mismatch):
		return nil, &fault.Error{Kind: fault.Conflict, Op: op, Err: fmt.Errorf("%s says that it is another issuer: %w", c.issuer, ErrIssuer),
			Remedy: "the tenant id is not this tenant's, or the authority is another cloud's"}
	case err != nil && (strings.HasPrefix(err.Error(), "404 ") || strings.HasPrefix(err.Error(), "400 ")): // go-oidc keeps the status in the text only
		return nil, &fault.Error{Kind: fault.Conflict, Op: op, Err: fmt.Errorf("tenant: %s answers %s: it knows no such tenant", c.issuer, err.Error()[:3]),
			Remedy: "copy the Directory (tenant) ID from the app registration's Overview in the portal; another cloud than the public one needs sso.authority (--authority)"}
	case err != nil:
		return nil, &fault.Error{Kind: fault.Unreachable, Op: op, Err: clipped(err), Remedy: c.remedy(err)}
	}
	var doc struct {
		Keys       string   `json:"jwks_uri"`
		EndSession string   `json:"end_session_endpoint"`
		Modes      []string `json:"response_modes_supported"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := p.Claims(&doc); err != nil {
		return nil, fault.Wrap(fault.Unreachable, op, clipped(err))
	}
	e := p.Endpoint()
	for name, address := range map[string]string{"authorization_endpoint": e.AuthURL, "token_endpoint": e.TokenURL, "jwks_uri": doc.Keys} {
		if u, err := url.Parse(address); err != nil || u.Host == "" || !safe(u) {
			return nil, fault.Errorf(fault.Unreachable, "%s: its %s is no https address", op, name)
		}
	}
	if u, err := url.Parse(doc.EndSession); err != nil || !safe(u) {
		doc.EndSession = ""
	}
	if len(doc.Modes) > 0 && !slices.Contains(doc.Modes, c.c.ResponseMode) {
		return nil, fault.WithRemedy(fault.Errorf(fault.Conflict, "%s: it does not answer by %s", op, c.c.ResponseMode), fmt.Sprintf("set sso.response_mode (--response-mode) to one of its ways: %.100q", doc.Modes))
	}
	if len(doc.Algorithms) > 0 && !slices.Contains(doc.Algorithms, gooidc.RS256) {
		return nil, fault.Errorf(fault.Conflict, "%s: it does not sign by RS256", op)
	}
	return &metadata{Authorize: e.AuthURL, Token: e.TokenURL, Keys: doc.Keys, EndSession: doc.EndSession, read: c.c.Now()}, nil
}

// remedy is what helps where the tenant could not be asked.
func (c *Client) remedy(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "its certificate is signed by nobody whom this machine trusts: name the authority's certificate by sso.ca_file (--ca-file)"
	case errors.As(err, &host), errors.As(err, &invalid):
		return "its certificate is for another name, or out of its time: see that the authority's URL and this machine's clock are right"
	}
	return "see that the tenant id is right, and that this machine reaches " + c.issuer + " (HTTPS_PROXY is honoured)"
}

// Check asks the tenant anew for its discovery document and its keys. It is for
// `sso test` and before new settings are applied.
func (c *Client) Check(ctx context.Context) error { return c.ask(ctx, 0) }

// ask is Check, but for keys that were read less than that long ago.
func (c *Client) ask(ctx context.Context, old time.Duration) error {
	c.mu.Lock()
	for c.asking != nil {
		wait := c.asking
		c.mu.Unlock()
		<-wait
		c.mu.Lock()
	}
	c.asking = make(chan struct{})
	c.mu.Unlock()
	m, err := c.look(ctx)
	if err == nil {
		err = c.Health() // what is still believed does not count here
	}
	if err != nil {
		return err
	}
	if c.keys.age() < old {
		return nil
	}
	return c.keys.refresh(ctx, m, "")
}

// Health is why nobody can be sent to the tenant now; nil: it answered when it
// was asked last. It never asks.
func (c *Client) Health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health
}

// Run keeps what is known of the tenant fresh until ctx ends.
func (c *Client) Run(ctx context.Context) {
	for {
		wait := retryAfter
		if err := c.ask(ctx, refreshAfter); err == nil {
			wait = refreshAfter / 6 // health is looked at more often than keys are due
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// transport is how the tenant is reached.
func (c *Config) transport() (http.RoundTripper, error) {
	base := c.Transport
	if base == nil {
		proxy := httpproxy.FromEnvironment().ProxyFunc()
		t := &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: askTime, ResponseHeaderTimeout: askTime, MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns: 4, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
		pool, err := trusted(c.CAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = pool
		base = t
	}
	return bounded{base}, nil
}

// systemBundle is what update-ca-certificates(8) writes.
const systemBundle = "/etc/ssl/certs/ca-certificates.crt"

// trusted are the machine's authorities, and those of a file. Of the machine's,
// x509.SystemCertPool has those of our own start; what came since is read as well.
func trusted(more string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if bundle, err := os.ReadFile(systemBundle); err == nil {
		pool.AppendCertsFromPEM(bundle)
	}
	if more == "" {
		return pool, nil
	}
	text, err := os.ReadFile(more)
	if err != nil {
		return nil, fault.WithRemedy(fault.Wrap(fault.Malformed, "ca file: read it", err), "the user latchkey must be able to read it, and the directories above it")
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fault.Errorf(fault.Malformed, "ca file: %s has no certificate", more)
	}
	return pool, nil
}

// CheckClock says whether the provider's clock, as its last answer had it, and
// ours are near enough for its tokens to count: fault.Conflict where not. Nil
// before there was an answer, and where one does not tell the time.
func (c *Client) CheckClock() error {
	ahead := time.Duration(c.ahead.Load())
	if ahead.Abs() < skew {
		return nil
	}
	return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s: the provider's is %s from ours, and from five minutes on its answers do not count", ErrClock, ahead.Round(time.Second)),
		"set this machine's clock: timedatectl says whether it is kept right")
}

// dated notes the provider's time by its answers (RFC 9110 6.6.1).
type dated struct {
	base  http.RoundTripper
	ahead *atomic.Int64 // the provider's clock minus ours
	now   func() time.Time
}

// RoundTrip asks once.
func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.base.RoundTrip(r)
	if err == nil {
		if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			d.ahead.Store(int64(at.Sub(d.now())))
		}
	}
	return resp, err
}

// bounded cuts answers that are too long.
type bounded struct{ base http.RoundTripper }

// RoundTrip asks once.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.base.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// errTooLong is an answer that nobody needs.
var errTooLong = errors.New("the answer is longer than 1 MiB")

// Read reads on while there is room.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// clipped bounds the text of an error that quotes the other side.
func clipped(err error) error {
	if text := err.Error(); len(text) > 300 {
		return errors.New(text[:300] + "…")
	}
	return err
}
