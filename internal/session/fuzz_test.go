// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// A cookie's value: no panic, and one text only for one secret.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("_", 43), random(tokenBytes), strings.Repeat("A", 42) + "B", strings.Repeat("A", 42) + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseToken(s)
		if err != nil {
			return
		}
		raw, err := b64.DecodeString(s)
		if err != nil || len(raw) != tokenBytes || b64.EncodeToString(raw) != s || h != hashOf(s) {
			t.Errorf("%q was taken and is not what it prints as", s)
		}
	})
}

// A sealed text: only what the key made opens, and it opens to what it was.
func FuzzSealed(f *testing.F) {
	s := newSealer(make([]byte, keyLength))
	now := time.Unix(1_800_000_000, 0)
	f.Add("sign-in", "", []byte("{}"))
	f.Add("x", s.seal("x", []byte("plain"), now.Add(time.Minute)), []byte{})
	f.Add("y", "AAAA", []byte{0})
	f.Fuzz(func(t *testing.T, purpose, text string, plain []byte) {
		if got, err := s.open(purpose, text, now); err == nil && s.seal(purpose, got, now.Add(time.Minute)) == text {
			t.Error("two seals are the same")
		}
		got, err := s.open(purpose, s.seal(purpose, plain, now.Add(time.Second)), now)
		if len(plain) < 2000 && (err != nil || string(got) != string(plain)) {
			t.Errorf("%q came back as %q, %v", plain, got, err)
		}
	})
}

// The query or form of a callback: no panic, and what is taken prints back the
// same.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"", "state=" + strings.Repeat("A", 43) + "&code=c", "error=access_denied&error_description=AADSTS&state=" + strings.Repeat("B", 43), "id_token=x", "state=a&state=b", "%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		a, err := ParseAnswer(v)
		if err != nil {
			if ReasonOf(err) != Malformed && ReasonOf(err) != Front {
				t.Errorf("%q: reason %q", s, ReasonOf(err))
			}
			return
		}
		again, err := ParseAnswer(url.Values{"state": {a.State}, "code": nonempty(a.Code), "error": nonempty(a.Error), "error_description": nonempty(a.Description)})
		if err != nil || again != a || !strings.HasPrefix(a.CookieName(), Cookie+"-in-") || strings.ContainsAny(a.CookieName(), "; =,\r\n") {
			t.Errorf("%+v came back as %+v, %v", a, again, err)
		}
	})
}

func nonempty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// A place to return to: whatever is taken stays on this host for a browser, which
// reads a backslash as a slash and drops tabs and line ends (WHATWG URL).
func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"", "/", "//evil.test", "/\\evil.test", "/a?b=c", "/\t/evil.test", "https://evil.test", "/%2f/x", "/..//evil.test", "/.//evil.test"} {
		f.Add(s)
	}
	base, err := url.Parse("https://nas.contoso.test/auth/sign-in")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := LocalPath(s)
		if err != nil {
			return
		}
		seen := strings.NewReplacer("\\", "/", "\t", "", "\r", "", "\n", "").Replace(got)
		u, err := base.Parse(seen)
		if err != nil || u.Host != base.Host || u.Scheme != "https" || strings.HasPrefix(seen, "//") || strings.ContainsAny(got, "\r\n") || seen != got {
			t.Errorf("%q leads to %v, %v", got, u, err)
		}
		if again, err := LocalPath(got); err != nil || again != got {
			t.Errorf("%q came back as %q, %v", got, again, err)
		}
	})
}
