// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// App is a program of this machine that has people signed in through us.
type App struct {
	Name string
	// UIDs and GIDs are who may act as the app; root may always.
	UIDs []identity.UID
	GIDs []identity.GID
	// Redirects are its redirect URIs: compared to the letter.
	Redirects []string
}

// Caller is a process that asks, as the kernel knows it.
type Caller struct {
	UID  identity.UID
	GIDs []identity.GID // primary and supplementary
}

// nobody is the overflow id: everybody from another user namespace.
const nobody = 65534

func (a *App) allows(c Caller) bool {
	return c.UID == 0 || c.UID != nobody && (slices.Contains(a.UIDs, c.UID) ||
		slices.ContainsFunc(a.GIDs, func(g identity.GID) bool { return g != 0 && g != nobody && slices.Contains(c.GIDs, g) }))
}

// app returns a registered app that the caller may act as.
func (s *Sessions) app(name string, c Caller) (*App, error) {
	for _, a := range s.c.Settings().Apps {
		if a.Name == name && name != "" {
			if !a.allows(c) {
				return nil, fault.WithRemedy(fault.Errorf(fault.Denied, "uid %d is not the app %s", c.UID, name), "[[sso.app]] of that name says who is")
			}
			return &a, nil
		}
	}
	return nil, fault.WithRemedy(fault.Errorf(fault.NotFound, "there is no app %.100q", name), "register it: [[sso.app]] in latchkey.toml")
}

// CheckApp says whether the caller may act as a registered app: fault.NotFound or
// fault.Denied where not.
func (s *Sessions) CheckApp(name string, c Caller) error {
	_, err := s.app(name, c)
	return err
}

// AppAt returns the app that has a redirect URI with this host (and port, as in
// a URL) and path, and that the caller may act as; false where there is none.
func (s *Sessions) AppAt(host, path string, c Caller) (name, redirect string, ok bool) {
	apps := s.c.Settings().Apps
	for i := range apps {
		for _, r := range apps[i].Redirects {
			if rest, https := strings.CutPrefix(r, "https://"); https && len(rest) == len(host)+len(path) &&
				strings.EqualFold(rest[:len(host)], host) && rest[len(host):] == path && apps[i].allows(c) {
				return apps[i].Name, r, true
			}
		}
	}
	return "", "", false
}

// request is an app's wish for a code, on its way through a browser.
type request struct {
	App      string `json:"a"`
	Redirect string `json:"r"`
	State    string `json:"s,omitempty"`
}

const purposeRequest = "app request"

// BeginPath is where the door takes a browser with an app's request.
const BeginPath = "/auth/begin"

// Request returns where an app sends a browser to have it signed in. The browser
// comes back to redirect with `code` and `state`. fault.NotFound: no such app;
// fault.Denied: the caller is not that app; fault.Malformed: the redirect URI is
// not registered, to the letter, or state is longer than 512 bytes;
// fault.Unreachable: this machine does not know its own address.
func (s *Sessions) Request(c Caller, app, redirect, state string) (string, error) {
	a, err := s.app(app, c)
	if err != nil {
		return "", err
	}
	if err := a.check(redirect, state); err != nil {
		return "", err
	}
	base := s.Base()
	if base == "" {
		return "", fault.WithRemedy(fault.New(fault.Unreachable, "this machine does not know its own address for browsers"), "set sso.redirect_uri")
	}
	plain, err := json.Marshal(request{App: app, Redirect: redirect, State: state})
	if err != nil {
		return "", fault.Wrap(fault.Internal, "seal a request", err)
	}
	return base + BeginPath + "?request=" + s.sealer.seal(purposeRequest, plain, s.c.Now().Add(signInTime)), nil
}

func (a *App) check(redirect, state string) error {
	switch {
	case !slices.Contains(a.Redirects, redirect):
		return fault.WithRemedy(fault.Errorf(fault.Malformed, "%.200q is no redirect URI of %s", redirect, a.Name), "[[sso.app]] lists them; they are compared to the letter")
	case len(state) > 512:
		return fault.New(fault.Malformed, "the state is longer than 512 bytes")
	}
	return nil
}

func (s *Sessions) openRequest(text string) (*request, error) {
	plain, err := s.sealer.open(purposeRequest, text, s.c.Now())
	if err != nil {
		return nil, reason(Stale, fault.New(fault.BadCredential, "the app's request is none of ours, or too old"))
	}
	var r request
	if err := json.Unmarshal(plain, &r); err != nil {
		return nil, reason(Malformed, fault.New(fault.Malformed, "the app's request makes no sense"))
	}
	return &r, nil
}

// Pass makes a one-time code for an app of somebody who has a session, and
// returns where to send the browser with it. ErrNone: the cookie stands for no
// session: begin a sign-in with the request instead.
func (s *Sessions) Pass(ctx context.Context, token, sealed string) (string, error) {
	r, err := s.openRequest(sealed)
	if err != nil {
		return "", err
	}
	// The registration may have changed since the app asked.
	a, err := s.app(r.App, Caller{})
	if err == nil {
		err = a.check(r.Redirect, r.State)
	}
	if err != nil {
		return "", reason(Setup, err)
	}
	l, err := s.find(token)
	if err != nil || l.r.App != "" {
		return "", ErrNone
	}
	if _, err := s.person(ctx, l, false); err != nil {
		return "", err
	}
	now := s.c.Now()
	text := random(tokenBytes)
	k := code{App: r.App, Redirect: r.Redirect, Who: l.r.Who, How: l.r.How, Audit: l.r.Audit, Shown: l.r.Shown, From: l.r.ID, Remote: l.r.Remote,
		Agent: l.r.Agent, Provider: l.r.Provider, Issuer: l.r.Issuer, Absolute: l.r.Ends, Until: now.Add(codeTime)}
	note, err := json.Marshal(k)
	if err != nil {
		return "", fault.Wrap(fault.Internal, "write a code down", err)
	}
	h := hashOf(text)
	if err := s.codes.put(h, k, now); err != nil {
		return "", reason(Away, err)
	}
	if err := s.c.Store.SetNotes(ctx, topic, map[string][]byte{h.note(keyCode): note}); err != nil {
		s.codes.take(h)
		return "", fault.Wrap(fault.Unknown, "write a code down", err)
	}
	u, err := url.Parse(r.Redirect)
	if err != nil {
		return "", reason(Setup, fault.Wrap(fault.Malformed, "read the app's redirect URI", err))
	}
	q := u.Query()
	q.Set("code", text)
	if r.State != "" {
		q.Set("state", r.State)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Exchange changes a one-time code for the app's own session. A code is good
// once, for a minute, for the app that asked for it, and for its redirect URI.
// fault.BadCredential for everything that is wrong with the code; it is spent
// then, too.
func (s *Sessions) Exchange(ctx context.Context, c Caller, app, redirect, text string) (*Finished, *Person, error) {
	if _, err := s.app(app, c); err != nil {
		return nil, nil, err
	}
	refused := fault.New(fault.BadCredential, "the code is not good: it was used, is too old, or was made for another app or redirect URI")
	h, err := parseToken(text)
	if err != nil {
		return nil, nil, refused
	}
	k, ok := s.codes.take(h)
	if !ok {
		return nil, nil, refused
	}
	if k.App != app || k.Redirect != redirect || !s.c.Now().Before(k.Until) {
		_ = s.c.Store.SetNotes(ctx, topic, map[string][]byte{h.note(keyCode): nil})
		s.c.Log.Warn("a one-time code was brought by the wrong app, to the wrong place or too late", "app", app, "made for", k.App)
		return nil, nil, refused
	}
	s.mu.RLock()
	parent := s.byID[k.From]
	s.mu.RUnlock()
	if parent == nil || parent.over.Load() {
		_ = s.c.Store.SetNotes(ctx, topic, map[string][]byte{h.note(keyCode): nil})
		return nil, nil, refused // signed out meanwhile
	}
	p, err := s.lookUp(ctx, k.Who, s.c.Now())
	if err != nil {
		_ = s.c.Store.SetNotes(ctx, topic, map[string][]byte{h.note(keyCode): nil})
		return nil, nil, err
	}
	done, err := s.open(ctx, opening{who: k.Who, how: k.How, audit: k.Audit, shown: k.Shown, app: app, parent: k.From, provider: k.Provider, issuer: k.Issuer,
		code: &h, from: From{RemoteHost: k.Remote, Agent: k.Agent}, absolute: k.Absolute})
	if err != nil {
		return nil, nil, err
	}
	return done, p, nil
}
