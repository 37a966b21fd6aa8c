// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

//go:embed page asset
var files embed.FS

// pages are the templates, in every language.
type pages struct {
	languages *languages
	templates map[string]*template.Template // page, space, language
	style     string                        // path of the style sheet
	css       []byte
}

// pageNames are the files of page/ but the frame.
var pageNames = []string{"sign-in", "account", "test", "continue", "error"}

func loadPages() *pages {
	p := &pages{languages: loadLanguages(), templates: map[string]*template.Template{}}
	var err error
	if p.css, err = files.ReadFile("asset/style.css"); err != nil {
		panic(err)
	}
	sum := sha256.Sum256(p.css)
	p.style = "style-" + hex.EncodeToString(sum[:8]) + ".css"
	for _, c := range p.languages.all {
		for _, name := range pageNames {
			t := template.New(name + ".html").Funcs(template.FuncMap{"t": c.text})
			p.templates[name+" "+c.Code] = template.Must(t.ParseFS(files, "page/frame.html", "page/"+name+".html"))
		}
	}
	return p
}

// asset serves the style sheet, by a name that changes with it.
func (p *pages) asset(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("name") != p.style {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(p.css)
}

// frame is what is around every page.
type frame struct {
	Lang, Title, Product, Style, Refresh string
	Narrow                               bool
	Languages                            []otherLanguage
	Body                                 template.HTML
}

type otherLanguage struct {
	Code, Name, Link string
	Here             bool
}

// fact is one line of a list: what it is called, and what it is.
type fact struct{ ID, Label, Value string }

// render writes one page. back is where a change of language leads, a path of
// this host.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, page, title string, data any, f frame, back string) {
	c := s.pages.languages.of(r)
	t := s.pages.templates[page+" "+c.Code]
	var body, whole bytes.Buffer
	err := t.ExecuteTemplate(&body, page+".html", data)
	if err == nil {
		f.Lang, f.Title, f.Product, f.Style = c.Code, c.text(title), s.product(), "/auth/asset/"+s.pages.style
		f.Body = template.HTML(body.String()) // came out of html/template a moment ago
		for _, other := range s.pages.languages.all {
			f.Languages = append(f.Languages, otherLanguage{Code: other.Code, Name: other.text("language"), Here: other == c,
				Link: "/auth/language?" + url.Values{"lang": {other.Code}, "return": {back}}.Encode()})
		}
		err = t.ExecuteTemplate(&whole, "frame", f)
	}
	if err != nil {
		s.c.Log.Error("a page cannot be made", "page", page, "error", err)
		http.Error(w, "The page cannot be made.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", c.Code)
	h.Set("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	_, _ = w.Write(whole.Bytes())
}

// product is what the pages call this machine.
func (s *Server) product() string {
	if names := s.names(); len(names) > 0 {
		return names[0]
	}
	return "NAS"
}

// errorPage is data of the error page.
type errorPage struct{ Why, Do, Link, Number, Back string }

// fail writes a page that says why and what to do: the texts error.WHY and
// error.WHY.do. The cause is logged under a number that the page shows, where it
// is not the visitor's doing.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, status int, why string, cause error) {
	c := s.pages.languages.of(r)
	p := errorPage{Why: c.text("error." + why), Do: c.text("error." + why + ".do"), Back: goalIn(r).again()}
	if at := (*ChangeAt)(nil); errors.As(cause, &at) && strings.HasPrefix(at.URL, "https://") {
		p.Link = at.URL
	}
	if cause != nil {
		p.Number = audit.NewID()
		level := s.c.Log.Info
		if status >= 500 {
			level = s.c.Log.Warn
		}
		level("a web sign-in came to nothing", "number", p.Number, "why", why, "error", cause, "remote", remote(r), "remedy", fault.Remedy(cause))
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(60))
	}
	s.render(w, r, status, "error", "error.title", p, frame{Narrow: true}, p.Back)
}
