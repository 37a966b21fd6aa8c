// SPDX-License-Identifier: Apache-2.0

package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// One file is one language; its name is the BCP 47 tag. Another language is
// another file.
//
//go:embed lang
var languageFiles embed.FS

// catalogue is the texts of one language.
type catalogue struct {
	Code  string
	texts map[string]string
}

// text returns a text with its gaps filled. A key that is missing shows as the
// key; a test sees to it that none is.
func (c *catalogue) text(key string, gaps ...any) string {
	text, ok := c.texts[key]
	if !ok {
		return key
	}
	if len(gaps) == 0 {
		return text
	}
	return fmt.Sprintf(text, gaps...)
}

// languages are all of them; the first one is English.
type languages struct {
	all     []*catalogue
	matcher language.Matcher
}

func loadLanguages() *languages {
	names, err := fs.Glob(languageFiles, "lang/*.json")
	if err != nil {
		panic(err)
	}
	l := &languages{}
	var tags []language.Tag
	for _, name := range names { // en comes first, by the alphabet
		text, err := languageFiles.ReadFile(name)
		if err != nil {
			panic(err)
		}
		c := &catalogue{Code: strings.TrimSuffix(strings.TrimPrefix(name, "lang/"), ".json")}
		if err := json.Unmarshal(text, &c.texts); err != nil {
			panic(name + ": " + err.Error())
		}
		l.all = append(l.all, c)
		tags = append(tags, language.MustParse(c.Code))
	}
	l.matcher = language.NewMatcher(tags)
	return l
}

func (l *languages) named(code string) *catalogue {
	for _, c := range l.all {
		if c.Code == code {
			return c
		}
	}
	return nil
}

// of returns the language of a request: the one that was chosen, else the one
// that the browser likes best.
func (l *languages) of(r *http.Request) *catalogue {
	if c := l.named(cookie(r, cookieLanguage)); c != nil {
		return c
	}
	header := r.Header.Get("Accept-Language")
	if len(header) > 500 {
		header = ""
	}
	tags, _, err := language.ParseAcceptLanguage(header)
	if err != nil || len(tags) == 0 {
		return l.all[0]
	}
	_, i, _ := l.matcher.Match(tags...)
	return l.all[i]
}

// language remembers a choice and goes back.
func (s *Server) language(w http.ResponseWriter, r *http.Request) {
	if c := s.pages.languages.named(r.URL.Query().Get("lang")); c != nil {
		setCookie(w, cookieLanguage, c.Code, 365*24*time.Hour, http.SameSiteLaxMode)
	}
	http.Redirect(w, r, localPath(r.URL.Query().Get("return")), http.StatusSeeOther)
}
