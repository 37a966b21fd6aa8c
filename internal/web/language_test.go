// SPDX-License-Identifier: Apache-2.0

package web

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/session"
)

func TestLanguages(t *testing.T) {
	s := open(t)
	for header, want := range map[string]string{"": "en", "hu-HU,hu;q=0.9": "hu", "zh-TW": "zh-Hant", "zh-Hant-HK": "zh-Hant", "de,fr": "en", "fr, hu;q=0.5": "hu", strings.Repeat("x", 600): "en"} {
		v := s.visitor()
		v.header.Set("Accept-Language", header)
		if a := v.get("/auth/sign-in"); a.Header.Get("Content-Language") != want || !strings.Contains(a.text, `<html lang="`+want+`">`) {
			t.Errorf("%.30q: %s", header, a.Header.Get("Content-Language"))
		}
	}
	v := s.visitor()
	v.header.Set("Accept-Language", "hu")
	if a := v.get("/auth/language?lang=zh-Hant&return=/auth/sign-in%3Fstay%3D1"); a.StatusCode != 303 || a.Header.Get("Location") != "/auth/sign-in?stay=1" {
		t.Errorf("the choice: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := v.get("/auth/sign-in"); a.Header.Get("Content-Language") != "zh-Hant" {
		t.Errorf("the choice does not last: %s", a.Header.Get("Content-Language"))
	}
	v.jar[cookieLanguage] = "../en"
	if a := v.get("/auth/sign-in"); a.Header.Get("Content-Language") != "hu" {
		t.Errorf("a choice that is none: %s", a.Header.Get("Content-Language"))
	}
}

// Every language has every text, with the same gaps, none is empty, and every
// text is used; every reason has its page.
func TestLanguagesAreComplete(t *testing.T) {
	l := loadLanguages()
	if len(l.all) < 3 || l.all[0].Code != "en" {
		t.Fatalf("the languages are %v", l.all)
	}
	en := l.all[0]
	for _, c := range l.all[1:] {
		for key, text := range en.texts {
			got, ok := c.texts[key]
			if !ok || strings.TrimSpace(got) == "" {
				t.Errorf("%s lacks %s", c.Code, key)
			}
			if strings.Count(got, "%s") != strings.Count(text, "%s") || strings.Count(got, "%") != strings.Count(got, "%s") {
				t.Errorf("%s: %s has other gaps than in English: %q", c.Code, key, got)
			}
			if got == text && len(text) > 30 {
				t.Errorf("%s: %s is not translated", c.Code, key)
			}
		}
		for key := range c.texts {
			if _, ok := en.texts[key]; !ok {
				t.Errorf("%s has %s, which English has not", c.Code, key)
			}
		}
	}
	for _, why := range session.Reasons() {
		if o, ok := outcomes[why]; !ok || en.texts["error."+o.text] == "" || en.texts["error."+o.text+".do"] == "" || o.status < 400 {
			t.Errorf("the reason %s has no page", why)
		}
	}
	var source strings.Builder
	names, _ := filepath.Glob("*.go")
	pages, _ := filepath.Glob("page/*.html")
	for _, name := range slices.Concat(names, pages) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	computed := []string{"error.", "test.why.", "account.session.", "how.", "account.", "test."}
	for key := range en.texts {
		if !strings.Contains(source.String(), `"`+key+`"`) && !slices.ContainsFunc(computed, func(p string) bool {
			return strings.HasPrefix(key, p) && strings.Contains(source.String(), `"`+p+`"`)
		}) {
			t.Errorf("nothing uses %s", key)
		}
	}
	for _, match := range regexp.MustCompile(`(?:\{\{t |c\.text\()"([a-z.\-]+[a-z])"`).FindAllStringSubmatch(source.String(), -1) {
		if _, ok := en.texts[match[1]]; !ok {
			t.Errorf("the text %s is used and is nowhere", match[1])
		}
	}
}
