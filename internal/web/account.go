// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/latchkey-nas/latchkey/internal/session"
)

// accountPage is data of the account page.
type accountPage struct {
	Notice        string
	Facts         []fact
	Groups        []groupLine
	Sessions      []sessionCard
	Entra, Others bool
}

type groupLine struct{ Name, Number string }

type sessionCard struct {
	ID, Title, Label string
	This             bool
	Facts            []fact
}

// who returns whose page is asked for; false: the visitor was sent elsewhere.
func (s *Server) who(w http.ResponseWriter, r *http.Request) (*session.Session, *session.Person, bool) {
	if s.c.Sessions == nil {
		s.fail(w, r, http.StatusServiceUnavailable, "away", nil)
		return nil, nil, false
	}
	token := cookie(r, session.Cookie)
	in, p, err := s.c.Sessions.Get(r.Context(), token, "")
	switch session.ReasonOf(err) {
	case session.None:
		return in, p, true
	case session.Token: // there is none
		if token != "" {
			setSession(w, "")
		}
		http.Redirect(w, r, goal{path: "/auth/account"}.to("/auth/sign-in"), http.StatusSeeOther)
	default:
		s.failFor(w, r, err)
	}
	return nil, nil, false
}

// filterOf finds the sessions of the one whose session it is.
func filterOf(in *session.Session) session.Filter {
	if in.Who.Local != nil {
		return session.Filter{Local: in.Who.Local.Name}
	}
	return session.Filter{Row: in.Who.Row}
}

// account shows who the machine takes the visitor for.
func (s *Server) account(w http.ResponseWriter, r *http.Request) {
	in, person, ok := s.who(w, r)
	if !ok {
		return
	}
	c := s.pages.languages.of(r)
	p := accountPage{Entra: in.How == "oidc" || in.How == "federated"}
	switch r.URL.Query().Get("notice") {
	case "ended":
		p.Notice = c.text("account.session.ended")
	case "others":
		p.Notice = c.text("account.sessions.others.ended")
	}
	p.Facts, p.Groups = s.facts(c, person)
	for _, other := range s.c.Sessions.List(filterOf(in)) {
		card := s.card(c, other, other.ID == in.ID)
		p.Others = p.Others || !card.This
		if card.This {
			p.Sessions = append([]sessionCard{card}, p.Sessions...)
		} else {
			p.Sessions = append(p.Sessions, card)
		}
	}
	s.render(w, r, http.StatusOK, "account", "account.title", p, frame{}, "/auth/account")
}

// facts are what is known of somebody, as far as there is something.
func (s *Server) facts(c *catalogue, p *session.Person) (all []fact, groups []groupLine) {
	add := func(id, value string) {
		if value != "" && value != "0" {
			all = append(all, fact{id, c.text("account." + id), value})
		}
	}
	number := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	add("name", p.Name())
	if u := p.User; u != nil {
		add("display", u.DisplayName)
		add("kind", c.text("account.kind.domain"))
		all = append(all, fact{"uid", c.text("account.uid"), number(uint32(p.UID()))})
		add("gid", number(uint32(u.GID)))
		add("upn", u.UPN)
		add("sam", u.Account)
		add("home", u.Home)
		if !u.OID.IsZero() {
			add("oid", u.OID.String())
		}
		add("sid", u.SID.String())
		for _, g := range p.Groups {
			if g.GID == 0 { // no group of this machine's: a distribution list, or one of the domain controller's own
				continue
			}
			name := g.Name
			if name == "" {
				name = g.Account
			}
			groups = append(groups, groupLine{name, number(uint32(g.GID))})
		}
		return all, groups
	}
	add("kind", c.text("account.kind.local"))
	all = append(all, fact{"uid", c.text("account.uid"), number(uint32(p.UID()))})
	for i, name := range p.Local.Groups {
		line := groupLine{Name: name}
		if i < len(p.Local.GIDs) {
			line.Number = number(uint32(p.Local.GIDs[i]))
		}
		groups = append(groups, line)
	}
	return all, groups
}

const timeForm = "2006-01-02 15:04 MST"

func (s *Server) card(c *catalogue, o *session.Session, this bool) sessionCard {
	card := sessionCard{ID: o.ID, This: this, Title: c.text("account.session.browser")}
	switch {
	case this:
		card.Title = c.text("account.session.this")
	case o.App != "":
		card.Title = c.text("account.session.app", o.App)
	}
	at := func(t time.Time) string { return t.Local().Format(timeForm) }
	card.Label = c.text("account.session.end.label", o.RemoteHost, at(o.Created))
	how := o.How
	switch how {
	case "password", "negotiate":
		how = c.text("how." + how)
	case "oidc", "federated":
		how = c.text("how.oidc")
	default:
		how = c.text("how.other", how)
	}
	for _, f := range []fact{{"where", "", o.RemoteHost}, {"browser", "", o.Agent}, {"how", "", how}, {"since", "", at(o.Created)},
		{"used", "", at(o.Used)}, {"ends", "", at(o.Ends)}} {
		if f.Value == "" {
			continue
		}
		f.Label = c.text("account.session." + f.ID)
		card.Facts = append(card.Facts, f)
	}
	return card
}

// endSession ends one session of the visitor's, or all but this one.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) {
	in, _, ok := s.who(w, r)
	if !ok {
		return
	}
	if r.ParseForm() != nil {
		s.fail(w, r, http.StatusBadRequest, "malformed", nil)
		return
	}
	mine, notice := filterOf(in), "ended"
	if r.PostForm.Get("others") != "" {
		notice = "others"
		for _, other := range s.c.Sessions.List(mine) {
			if other.ID != in.ID {
				// One that has ended meanwhile is what was asked for.
				_ = s.c.Sessions.Revoke(r.Context(), other.ID, mine)
			}
		}
	} else if err := s.c.Sessions.Revoke(r.Context(), r.PostForm.Get("id"), mine); err != nil {
		s.fail(w, r, http.StatusNotFound, "not-found", nil)
		return
	}
	http.Redirect(w, r, "/auth/account?notice="+notice, http.StatusSeeOther)
}

// signOut ends the session, and the one at Entra ID where that is asked for.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	if s.c.Sessions == nil {
		s.fail(w, r, http.StatusServiceUnavailable, "away", nil)
		return
	}
	_ = r.ParseForm()
	tenant, err := s.c.Sessions.SignOut(r.Context(), cookie(r, session.Cookie))
	if err != nil {
		s.c.Log.Warn("a session that was signed out cannot be removed from the store", "error", err)
	}
	setSession(w, "")
	setCookie(w, cookieEntra, "", 0, http.SameSiteLaxMode)
	// Whoever signs out is not signed in again by the next page.
	setCookie(w, cookieTried, triedTicket+triedEntra, triedTime, http.SameSiteLaxMode)
	if r.PostForm.Get("entra") != "" && tenant != "" {
		s.leave(w, r, tenant)
		return
	}
	http.Redirect(w, r, "/auth/sign-in?stay=1&notice=out", http.StatusSeeOther)
}
