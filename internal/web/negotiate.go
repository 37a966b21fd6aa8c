// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// maxTicket is the longest token that is looked at, in bytes.
const maxTicket = 96 << 10

// negotiateTime bounds the decision about one ticket.
const negotiateTime = 10 * time.Second

// mayNegotiate says whether browsers of that address may bring a ticket.
func (s *Server) mayNegotiate(r *http.Request) bool {
	set := s.c.Settings()
	return s.c.Negotiator != nil && set.Negotiate && (len(set.NegotiateFrom) == 0 || s.silently(r))
}

// silently says whether browsers of that address are asked for one before they
// see the sign-in page.
func (s *Server) silently(r *http.Request) bool {
	set, from := s.c.Settings(), remote(r)
	return s.c.Negotiator != nil && set.Negotiate && slices.ContainsFunc(set.NegotiateFrom, func(p netip.Prefix) bool { return p.Contains(from) })
}

// token returns what the browser sent (RFC 4559 4.2); nil: nothing.
func token(r *http.Request) []byte {
	all := r.Header.Values("Authorization")
	if len(all) != 1 {
		return nil
	}
	scheme, text, _ := strings.Cut(all[0], " ")
	if !strings.EqualFold(scheme, "Negotiate") || len(text) > base64.StdEncoding.EncodedLen(maxTicket) {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

// challenge asks for a ticket. It is said once: whatever the browser sends next
// is answered with a page, never with another challenge, so that no dialog comes
// back.
func challenge(w http.ResponseWriter) { w.Header().Set("WWW-Authenticate", "Negotiate") }

// ours says whether the ticket's owner may use this way.
func (s *Server) ours(t *Ticket) bool {
	groups := s.c.Settings().NegotiateGroups
	return len(groups) == 0 || slices.ContainsFunc(t.Groups, func(g string) bool {
		return slices.ContainsFunc(groups, func(want string) bool { return identity.Fold(want) == identity.Fold(g) })
	})
}

// negotiate signs in by a ticket, or shows the buttons: as the body of the one
// 401, which a browser without a ticket shows, or after a token that is of no
// use.
func (s *Server) negotiate(w http.ResponseWriter, r *http.Request) {
	g := goalOf(r.URL.Query())
	if s.c.Sessions == nil || !s.mayNegotiate(r) {
		http.Redirect(w, r, g.to("/auth/sign-in", "stay", "1"), http.StatusSeeOther)
		return
	}
	given := token(r)
	if given == nil {
		if r.Header.Get("Authorization") == "" {
			challenge(w)
		}
		s.showSignIn(w, r, http.StatusUnauthorized, g, signInPage{})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), negotiateTime)
	defer cancel()
	t, err := s.c.Negotiator.Accept(ctx, given, remote(r).String())
	switch kind := fault.KindOf(err); {
	case err == nil && s.ours(t):
		if len(t.Reply) > 0 {
			w.Header().Set("WWW-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(t.Reply))
		}
		s.enter(w, r, &t.Proven, "negotiate", g, false)
	case kind == fault.Denied || kind == fault.Disabled || kind == fault.Expired:
		s.failFor(w, r, err)
	default:
		why := t.Why
		if err == nil {
			why = "denied" // by negotiate_groups
		}
		s.showSignIn(w, r, http.StatusOK, g, signInPage{Notice: s.noTicket(r, why), Neutral: true})
	}
}

// noTicket says above the buttons why a ticket does not sign in, in the words of
// the test page.
func (s *Server) noTicket(r *http.Request, why string) string {
	c := s.pages.languages.of(r)
	switch why {
	case "clock", "key", "replay", "person", "denied", "away":
		return c.text("test.why." + why)
	}
	return c.text("signin.noticket")
}

// testPage is data of the test page.
type testPage struct {
	Good   bool
	Result string
	Facts  []fact
}

// negotiateTest tells what became of a ticket, or why none came. It signs nobody
// in.
func (s *Server) negotiateTest(w http.ResponseWriter, r *http.Request) {
	c := s.pages.languages.of(r)
	show := func(status int, p testPage) {
		s.render(w, r, status, "test", "test.title", p, frame{}, "/auth/negotiate/test")
	}
	because := func(why string) testPage {
		text := c.text("test.why." + why)
		if strings.Contains(text, "%s") {
			text = c.text("test.why."+why, r.Host)
		}
		return testPage{Result: c.text("test.failed"), Facts: []fact{{"why", c.text("test.why"), text}}}
	}
	if !s.mayNegotiate(r) {
		show(http.StatusOK, because("off"))
		return
	}
	given := token(r)
	if given == nil {
		if r.Header.Get("Authorization") == "" {
			challenge(w)
		}
		show(http.StatusUnauthorized, because("no-ticket"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), negotiateTime)
	defer cancel()
	t, err := s.c.Negotiator.Accept(ctx, given, remote(r).String())
	p := testPage{Good: err == nil, Result: c.text("test.ok", t.Shown)}
	switch {
	case err != nil:
		p = because(t.Why)
	case !s.ours(t):
		p = because("denied")
	case len(t.Reply) > 0:
		w.Header().Set("WWW-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(t.Reply))
	}
	add := func(id, value string) {
		if value != "" {
			p.Facts = append(p.Facts, fact{id, c.text("test." + id), value})
		}
	}
	add("mechanism", t.Mechanism)
	add("spn", t.SPN)
	if t.SPN != "" {
		add("kvno", strconv.FormatUint(uint64(t.KVNO), 10))
		add("etype", t.EType)
		add("skew", c.text("test.seconds", strconv.FormatFloat(t.Skew.Seconds(), 'f', 1, 64)))
	}
	if t.Shown != "" {
		add("row", t.Shown+" (uid "+strconv.FormatUint(uint64(t.UID), 10)+")")
	}
	show(http.StatusOK, p)
}
