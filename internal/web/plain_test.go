// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// asked is what comes back on a connection to the pages' port that begins with
// these bytes.
func (s *site) asked(ln net.Listener, bytes string) string {
	s.t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(c, bytes); err != nil {
		s.t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	text, _ := io.ReadAll(c) // a reset is an end as well
	return string(text)
}

// Plain http on the port is sent to https, and gets nothing else.
func TestPlainHTTPIsSentToHTTPS(t *testing.T) {
	s := open(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ln) }()
	for _, c := range []struct{ request, to string }{
		{"GET / HTTP/1.1\r\nHost: nas:8443\r\n\r\n", "https://nas:8443/"},
		{"GET /auth/account?x=%0d%0ay HTTP/1.1\r\nHost: nas.contoso.test:8443\r\nCookie: __Host-latchkey=x\r\n\r\n", "https://nas.contoso.test:8443/auth/account?x=%0d%0ay"},
		{"HEAD / HTTP/1.0\r\nHost: [fd00::1]:8443\r\n\r\n", "https://[fd00::1]:8443/"},
		{"GET //evil.test/ HTTP/1.1\r\nHost: nas:8443\r\n\r\n", "https://nas:8443//evil.test/"},
		{"GET x:.evil.test/ HTTP/1.1\r\nHost: nas\r\n\r\n", ""},
		{"GET * HTTP/1.1\r\nHost: nas\r\n\r\n", ""},
		{"GET http://evil.test/ HTTP/1.1\r\nHost: nas:8443\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: nas/@evil.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: \r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: nas\r\nX: " + strings.Repeat("x", 2*maxPlainHead) + "\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n", ""},
		{"HELLO\r\n\r\n", ""},
		{"POST /auth/password HTTP/1.1\r\nHost: nas:8443\r\nContent-Length: 0\r\n\r\n", ""},
		{"G", ""},
	} {
		text := s.asked(ln, c.request)
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
		switch {
		case c.to == "" && (strings.Contains(text, "Location") || strings.Contains(text, "Set-Cookie")):
			t.Errorf("%.60q is answered %q", c.request, text)
		case c.to != "" && (err != nil || resp.StatusCode != 307 || resp.Header.Get("Location") != c.to || len(resp.Cookies()) != 0 || strings.Count(text, "HTTP/1.") != 1):
			t.Errorf("%.60q is answered %q, want to be sent to %s", c.request, text, c.to)
		}
	}
	s.server.Stop(t.Context())
	if err := <-done; err != nil {
		t.Error(err)
	}
}
