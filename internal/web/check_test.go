// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/session"
)

// What parsePlain takes, net/http would have read in the same way, byte for byte;
// so nobody can ask one thing of the one and another of the other.
func FuzzPlain(f *testing.F) {
	token := strings.Repeat("A", 43)
	for _, s := range []string{
		plainLine + "Host: a\r\n\r\n", plainLine + "host: a\r\nX-Forwarded-Host: b:8443\r\nX-Forwarded-Uri: /x\r\nCookie: a=b; " + session.Cookie + "=" + token + "\r\n\r\n",
		plainLine + "Host: a\r\nX-Original-URI: /y\r\nX-Forwarded-Uri: /x\r\n\r\nGET / HTTP/1.1\r\n", plainLine + "Host: a\r\nHost: b\r\n\r\n", plainLine + "Host: a\r\n folded: b\r\n\r\n",
		plainLine + "Host: a\r\nContent-Length: 3\r\n\r\nabc", plainLine + "Host: a\nX: y\r\n\r\n", plainLine + "Host: ab\nX: yz\r\n\r\n", plainLine + "Host : a\r\n\r\n", plainLine + "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		plainLine + "Host: a\r\nCookie: " + session.Cookie + "=" + token + "; " + session.Cookie + "=" + token + "\r\n\r\n", plainLine + "Host: a\r\nCookie: " + session.Cookie + "=\"" + token + "\"\r\n\r\n",
		plainLine + "\r\n\r\n", plainLine + "Host: a\r\nX:\x00\r\n\r\n", plainLine + "Host: a/b\r\n\r\n", "GET /auth/check?x HTTP/1.1\r\nHost: a\r\n\r\n", plainLine + "Host: a\r\nCookie:" + session.Cookie + " =" + token + "\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, n, err := parsePlain(b)
		if err != nil {
			if !errors.Is(err, errMore) && !errors.Is(err, errOther) {
				t.Errorf("%v", err)
			}
			return
		}
		whole := bytes.NewReader(b)
		reader := bufio.NewReader(whole)
		r, err := http.ReadRequest(reader)
		if err != nil {
			t.Fatalf("net/http does not take %q: %v", b[:n], err)
		}
		if left := reader.Buffered() + whole.Len(); left != len(b)-n {
			t.Errorf("net/http reads %d bytes, we %d", len(b)-left, n)
		}
		if r.Method != http.MethodGet || r.URL.String() != CheckPath || r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Close {
			t.Errorf("net/http reads %+v", r)
		}
		if body, err := io.ReadAll(r.Body); len(body) > 0 || err != nil {
			t.Errorf("there is a body: %q, %v", body, err)
		}
		host, uri := r.Host, "/"
		for name, field := range map[string]*string{"X-Forwarded-Host": &host, "X-Original-Uri": &uri} {
			if v := r.Header[name]; len(v) > 0 {
				*field = v[0]
			}
		}
		if v := r.Header["X-Forwarded-Uri"]; len(v) > 0 {
			uri = v[0]
		}
		for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Uri", "X-Original-Uri", "Cookie"} {
			if len(r.Header[name]) > 1 {
				t.Errorf("%s comes twice", name)
			}
		}
		if host != q.host || uri != q.uri {
			t.Errorf("net/http reads %q and %q, we %q and %q", host, uri, q.host, q.uri)
		}
		if q.token != "" && cookie(r, session.Cookie) != q.token {
			t.Errorf("net/http reads the cookie %q, we %q", cookie(r, session.Cookie), q.token)
		}
	})
}

// Bytes come as the network has them: in pieces, and two questions at once.
func TestAPlainQuestionIsReadInAnyPieces(t *testing.T) {
	text := plainLine + "Host: latchkey\r\nX-Forwarded-Host: nas.test\r\nX-Forwarded-Uri: /a\r\nCookie: x=y; " + session.Cookie + "=abc; z\r\n\r\n"
	for i := range text {
		if _, _, err := parsePlain([]byte(text[:i])); !errors.Is(err, errMore) {
			t.Fatalf("after %d bytes: %v", i, err)
		}
	}
	want := plain{host: "nas.test", uri: "/a", token: "abc"}
	if q, n, err := parsePlain([]byte(text + text)); q != want || n != len(text) || err != nil {
		t.Errorf("got %+v, %d, %v", q, n, err)
	}
	for name, other := range map[string]string{
		"another path": "GET /auth/checks HTTP/1.1\r\nHost: a\r\n\r\n", "another method": "HEAD /auth/check HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0": "GET /auth/check HTTP/1.0\r\nHost: a\r\n\r\n",
		"a body": plainLine + "Host: a\r\nContent-Length: 1\r\n\r\nx", "close": plainLine + "Host: a\r\nConnection: close\r\n\r\n", "two cookies": plainLine + "Host: a\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
		"no host": plainLine + "X: y\r\n\r\n", "too long": plainLine + "Host: a\r\nX: " + strings.Repeat("y", maxPlain),
	} {
		if _, _, err := parsePlain([]byte(other)); !errors.Is(err, errOther) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for header, token := range map[string]string{"": "", session.Cookie + "=a": "a", session.Cookie + "=a; " + session.Cookie + "=a": "", session.Cookie + "=\"a\"": "", "x" + session.Cookie + "=a": "",
		session.Cookie + "-at=a": "", "a=" + session.Cookie + "=b": "", session.Cookie: "", "; ;" + session.Cookie + "=a;": "a"} {
		if got := ownCookie(header); got != token {
			t.Errorf("%q: %q, want %q", header, got, token)
		}
	}
}
