// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// What can be wrong with an answer. Every error of Redeem wraps one of these, or
// is fault.Unreachable.
var (
	ErrIssuer     = errors.New("the issuer is another")
	ErrTenant     = errors.New("the tenant is another")
	ErrAudience   = errors.New("it was made for another app")
	ErrNonce      = errors.New("the nonce is not the one that was sent")
	ErrExpired    = errors.New("it has expired")
	ErrEarly      = errors.New("it is not valid yet")
	ErrAlgorithm  = errors.New("it is not signed by RS256")
	ErrSignature  = errors.New("the signature is wrong")
	ErrKey        = errors.New("the key that signed it is not the tenant's")
	ErrClaims     = errors.New("a claim is missing or makes no sense")
	ErrCode       = errors.New("the code was not taken")
	ErrCredential = errors.New("the tenant does not know the app, or does not take its secret or certificate")
	ErrFront      = errors.New("a token came through the browser")
	ErrClock      = errors.New("the clocks differ")
)

// Claims is what an id_token says, after every check. Only Tenant and Object say
// who it is; the rest is for a log and for people to read.
type Claims struct {
	Tenant  identity.GUID // tid
	Object  identity.GUID // oid
	Session string        // sid: names the tenant's session, for front-channel sign-out
	Shown   string        // preferred_username: may change hands, finds nobody
	Guest   bool          // of another tenant (acct, or #EXT# in the name)
	Overage bool          // the groups did not fit; they are the mirror's anyway
}

// Redeem changes a code for an id_token and checks it: signature by RS256 with a
// key of the tenant, issuer, audience, tid, times with 5 minutes of skew, nonce.
// fault.Unreachable: the tenant did not answer. fault.BadCredential: something
// is wrong with the code or the token. fault.Conflict: the app's registration is
// not what it should be; the remedy says more.
func (c *Client) Redeem(ctx context.Context, f Flight, code string) (*Claims, error) {
	raw, err := c.exchange(ctx, f, code)
	if err != nil {
		return nil, err
	}
	claims, err := c.verify(ctx, raw, f.Nonce)
	if err != nil && fault.KindOf(err) == fault.Unknown {
		err = fault.Wrap(fault.BadCredential, "check the id_token", err)
	}
	return claims, err
}

func (c *Client) exchange(ctx context.Context, f Flight, code string) (string, error) {
	m, err := c.metadata(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, c.http), 2*askTime)
	defer cancel()
	options := []oauth2.AuthCodeOption{oauth2.VerifierOption(f.Verifier)}
	proof, err := c.c.Credential.proof(m.Token, c.c.Client.String(), c.c.Now())
	if err != nil {
		return "", err
	}
	for name, value := range proof {
		options = append(options, oauth2.SetAuthURLParam(name, value))
	}
	token, err := c.oauth(m).Exchange(ctx, code, options...)
	if err != nil {
		return "", refusal(err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok || raw == "" {
		return "", fault.Wrap(fault.BadCredential, "change the code for a token", fmt.Errorf("there is no id_token: %w", ErrClaims))
	}
	return raw, nil
}

// refusal says what an answer of the token endpoint means.
func refusal(err error) error {
	const op = "change the code for a token"
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return fault.Wrap(fault.Unreachable, op, clipped(err))
	}
	said := fmt.Errorf("the tenant says %s", Said(answer.ErrorCode, answer.ErrorDescription))
	switch {
	case answer.ErrorCode == "unauthorized_client": // Entra ID: AADSTS700016
		return &fault.Error{Kind: fault.Conflict, Op: op, Err: fmt.Errorf("client: %w: %w", ErrCredential, said),
			Remedy: "the tenant has no app of this id, or does not let it sign people in: copy the Application (client) ID of an app registration in this tenant"}
	case answer.ErrorCode == "invalid_client":
		return &fault.Error{Kind: fault.Conflict, Op: op, Err: fmt.Errorf("%w: %w", ErrCredential, said),
			Remedy: "the client id or the client secret or certificate is wrong, missing or past its date; make a new one and `latchkey sso set` it"}
	case answer.ErrorCode == "invalid_grant":
		return &fault.Error{Kind: fault.BadCredential, Op: op, Err: fmt.Errorf("%w: %w", ErrCode, said)}
	case answer.Response != nil && (answer.Response.StatusCode >= 500 || answer.Response.StatusCode == http.StatusTooManyRequests):
		return &fault.Error{Kind: fault.Unreachable, Op: op, Err: fmt.Errorf("the tenant answers %s", answer.Response.Status)}
	case answer.ErrorCode == "":
		return &fault.Error{Kind: fault.Unreachable, Op: op, Err: errors.New("the token endpoint's answer makes no sense")}
	}
	return &fault.Error{Kind: fault.Conflict, Op: op, Err: fmt.Errorf("%w: %w", ErrCode, said), Remedy: "`latchkey sso test` checks the registration"}
}

// Said is an error code and description of the provider, short and printable:
// both can come from anybody's browser.
func Said(code, description string) string {
	clean := func(s string, most int) string {
		s = strings.Map(func(r rune) rune {
			if r < ' ' || r >= 0x7f {
				return -1
			}
			return r
		}, s)
		return s[:min(len(s), most)]
	}
	code = clean(code, 64)
	if code == "" {
		code = "nothing"
	}
	if description = clean(description, 200); description != "" {
		return fmt.Sprintf("%q (%s)", code, description)
	}
	return fmt.Sprintf("%q", code)
}

// verify checks an id_token (OpenID Connect Core 1.0, 3.1.3.7).
func (c *Client) verify(ctx context.Context, raw, nonce string) (*Claims, error) {
	if len(raw) > maxToken {
		return nil, fmt.Errorf("the id_token is longer than %d bytes: %w", maxToken, ErrClaims)
	}
	if err := signedByRS256(raw); err != nil {
		return nil, err
	}
	// Issuer, audience and times are checked below: to the letter, and with a
	// word for each.
	v := gooidc.NewVerifier(c.issuer, kept{c.keys}, &gooidc.Config{SupportedSigningAlgs: []string{gooidc.RS256},
		SkipIssuerCheck: true, SkipClientIDCheck: true, SkipExpiryCheck: true})
	keep := &keptError{}
	token, err := v.Verify(context.WithValue(ctx, keptKey{}, keep), raw)
	switch {
	case keep.err != nil:
		return nil, keep.err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrClaims, clipped(err))
	}
	var more struct {
		Tenant    string          `json:"tid"`
		Object    string          `json:"oid"`
		Version   string          `json:"ver"`
		Session   string          `json:"sid"`
		Shown     string          `json:"preferred_username"`
		Account   json.RawMessage `json:"acct"`
		NotBefore *float64        `json:"nbf"`
		Expires   *float64        `json:"exp"`
		Names     map[string]any  `json:"_claim_names"`
		HasGroups json.RawMessage `json:"hasgroups"`
		Party     string          `json:"azp"`
	}
	if err := token.Claims(&more); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, clipped(err))
	}
	now := c.c.Now()
	tenant, tenantErr := identity.ParseGUID(more.Tenant)
	object, objectErr := identity.ParseGUID(more.Object)
	_, overage := more.Names["groups"]
	switch {
	case token.Issuer != c.issuer:
		return nil, fmt.Errorf("%w: %.200q", ErrIssuer, token.Issuer)
	case !slices.Equal(token.Audience, []string{c.c.Client.String()}), more.Party != "" && more.Party != c.c.Client.String():
		return nil, fmt.Errorf("%w: %.200q", ErrAudience, token.Audience)
	case tenantErr != nil || tenant != c.c.Tenant:
		return nil, fmt.Errorf("%w: %.200q", ErrTenant, more.Tenant)
	case more.Expires == nil || token.IssuedAt.IsZero():
		return nil, fmt.Errorf("%w: exp or iat", ErrClaims)
	case !now.Before(token.Expiry.Add(skew)):
		return nil, fmt.Errorf("%w at %s: %w", ErrExpired, token.Expiry.UTC().Format(time.RFC3339), ErrClock)
	case token.IssuedAt.After(now.Add(skew)), more.NotBefore != nil && time.Unix(int64(*more.NotBefore), 0).After(now.Add(skew)):
		return nil, fmt.Errorf("%w: %w", ErrEarly, ErrClock)
	case nonce == "" || subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1:
		return nil, ErrNonce
	case objectErr != nil || object.IsZero():
		return nil, fmt.Errorf("%w: oid", ErrClaims)
	case more.Version != "" && more.Version != "2.0":
		return nil, fmt.Errorf("%w: ver is %.20q", ErrClaims, more.Version)
	}
	guest := strings.Trim(string(more.Account), `"`) == "1" || strings.Contains(strings.ToUpper(more.Shown), "#EXT#")
	return &Claims{Tenant: tenant, Object: object, Session: more.Session, Shown: more.Shown, Guest: guest,
		Overage: overage || len(more.HasGroups) > 0}, nil
}

// signedByRS256 looks at the head of a token before anything else is believed.
func signedByRS256(raw string) error {
	head, _, ok := strings.Cut(raw, ".")
	if !ok || strings.Count(raw, ".") != 2 {
		return fmt.Errorf("%w: it is no signed token", ErrAlgorithm)
	}
	text, err := b64.DecodeString(head)
	if err != nil {
		return fmt.Errorf("%w: its head cannot be read", ErrAlgorithm)
	}
	var h struct {
		Algorithm string `json:"alg"`
	}
	if json.Unmarshal(text, &h) != nil || h.Algorithm != gooidc.RS256 {
		return fmt.Errorf("%w: alg is %.20q", ErrAlgorithm, h.Algorithm)
	}
	return nil
}

// kept hands the error of the key set past go-oidc, which keeps its text only.
type kept struct{ keys gooidc.KeySet }

type keptKey struct{}

type keptError struct{ err error }

// VerifySignature verifies, and notes why it failed.
func (k kept) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	payload, err := k.keys.VerifySignature(ctx, raw)
	if keep, ok := ctx.Value(keptKey{}).(*keptError); ok {
		keep.err = err
	}
	return payload, err
}

// Probe says whether the token endpoint knows the app and takes what it proves
// itself by: it brings a code that nobody made. fault.Conflict: it does not.
// fault.Unreachable: nobody can say.
//
// Where the code is looked at before the credential, that shows nothing of the
// credential; so the app then asks for a token of its own, for itself, which it
// throws away. Only that its credential is refused counts of the answer: an app
// need not be allowed to have one.
func (c *Client) Probe(ctx context.Context) error {
	_, err := c.exchange(ctx, Flight{Verifier: oauth2.GenerateVerifier()}, "latchkey-asks-whether-it-is-known")
	switch {
	case errors.Is(err, ErrCredential), fault.Is(err, fault.Unreachable):
		return err
	case err == nil:
		return fault.New(fault.Conflict, "the token endpoint takes a code that nobody made")
	case c.c.Credential == nil:
		return nil
	}
	m, err := c.metadata(ctx)
	if err != nil {
		return err
	}
	proof, err := c.c.Credential.proof(m.Token, c.c.Client.String(), c.c.Now())
	if err != nil {
		return err
	}
	with := url.Values{}
	for name, value := range proof {
		with.Set(name, value)
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, c.http), 2*askTime)
	defer cancel()
	own := clientcredentials.Config{ClientID: c.c.Client.String(), TokenURL: m.Token, Scopes: []string{c.c.Client.String() + "/.default"}, EndpointParams: with, AuthStyle: oauth2.AuthStyleInParams}
	var answer *oauth2.RetrieveError
	if _, err = own.Token(ctx); errors.As(err, &answer) && answer.ErrorCode == "invalid_client" {
		return refusal(err)
	}
	return nil
}
