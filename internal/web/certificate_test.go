// SPDX-License-Identifier: Apache-2.0

package web

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// A certificate of our own is made once, kept, and made anew in time.
func TestOwnCertificate(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	set := Settings{Hostnames: []string{"nas.contoso.test", "10.0.0.1"}}
	fresh := func() *certificates {
		return &certificates{folder: dir, settings: func() Settings { return set }, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }}
	}
	first, err := fresh().get(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.Leaf.DNSNames, []string{"nas.contoso.test", "localhost"}) {
		t.Errorf("the names are %v", first.Leaf.DNSNames)
	}
	if info, err := os.Stat(filepath.Join(dir, ownKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	second, err := fresh().get(nil)
	if err != nil || second.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Errorf("the next start has another certificate: %v", err)
	}
	c := fresh()
	if _, err := c.get(nil); err != nil || c.trusted() {
		t.Errorf("our own is taken for the administrator's: %v", err)
	}
	now = now.Add(ownLife - renewFirst + time.Hour)
	renewed, err := c.get(nil)
	if err != nil || renewed.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Errorf("it is not renewed in time: %v", err)
	}
	set.Hostnames = []string{"other.contoso.test"}
	now = now.Add(2 * lookEvery)
	if other, err := c.get(nil); err != nil || other.Leaf.DNSNames[0] != "other.contoso.test" {
		t.Errorf("another name: %v", err)
	}
}

// The administrator's certificate is read again when it changes; one that cannot
// be read takes nothing away.
func TestCertificateOfTheAdministrator(t *testing.T) {
	dir, theirs, now := t.TempDir(), t.TempDir(), time.Now()
	set := Settings{Hostnames: []string{"a.test"}}
	c := &certificates{folder: dir, settings: func() Settings { return set }, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }}
	maker := &certificates{folder: theirs, settings: func() Settings { return Settings{Hostnames: []string{"bought.test"}} }, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }}
	if _, err := maker.get(nil); err != nil {
		t.Fatal(err)
	}
	set.Certificate, set.Key = filepath.Join(theirs, ownFile), filepath.Join(theirs, ownKeyFile)
	if got, err := c.get(nil); err != nil || got.Leaf.DNSNames[0] != "bought.test" || !c.trusted() {
		t.Errorf("the administrator's certificate: %v", err)
	}
	s := &Server{certs: c}
	if err := s.CertificateError(); err != nil {
		t.Errorf("a certificate in use is told of: %v", err)
	}
	if err := os.WriteFile(set.Certificate, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * lookEvery)
	if got, err := c.get(nil); err != nil || got.Leaf.DNSNames[0] != "bought.test" {
		t.Errorf("a file that is broken: %v", err)
	}
	if err := s.CertificateError(); err == nil || fault.Remedy(err) == "" {
		t.Errorf("a file that is broken is told of by %v, with the remedy %q", err, fault.Remedy(err))
	}
	broken := &certificates{folder: dir, settings: c.settings, log: c.log, now: c.now}
	if got, err := broken.get(nil); err != nil || got.Leaf.DNSNames[0] != "a.test" {
		t.Errorf("a start with a file that is broken: %v", err)
	}
}

// Nothing older than TLS 1.2 is spoken, and nothing but TLS.
func TestServeTLS(t *testing.T) {
	s := New(Config{Log: slog.New(slog.DiscardHandler), Settings: func() Settings { return Settings{Hostnames: []string{"nas.test"}} }, Folder: t.TempDir()})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	s.Stop(t.Context())
	if err := <-served; err != nil {
		t.Errorf("the end: %v", err)
	}
}

// One address cannot take every connection.
func TestConnectionsPerAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimited(ln, 3, 1)
	defer l.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var held []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, <-accepted)
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("one too many is served: %d", n)
	}
	_ = held[0].Close()
	_ = held[0].Close() // counted once
	again, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	<-accepted
}

// Browsers are told to come by https only where the certificate is one that lasts.
func TestHSTSWithACertificateOfTheAdministrator(t *testing.T) {
	theirs := t.TempDir()
	maker := &certificates{folder: theirs, settings: func() Settings { return Settings{Hostnames: []string{"nas.test"}} }, log: slog.New(slog.DiscardHandler), now: time.Now}
	if _, err := maker.get(nil); err != nil {
		t.Fatal(err)
	}
	for _, set := range []Settings{{}, {Certificate: filepath.Join(theirs, ownFile), Key: filepath.Join(theirs, ownKeyFile)}} {
		s := New(Config{Log: slog.New(slog.DiscardHandler), Settings: func() Settings { return set }, Folder: t.TempDir()})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Serve(ln) }()
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		resp, err := c.Get("https://" + ln.Addr().String() + "/nowhere")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Strict-Transport-Security") != ""; got != (set.Certificate != "") {
			t.Errorf("with the certificate %q: HSTS %v", set.Certificate, got)
		}
		c.CloseIdleConnections()
		s.Stop(t.Context())
	}
}

// Without a store every page says that nothing can be decided, and nothing breaks.
func TestWithoutSessions(t *testing.T) {
	s := New(Config{Log: slog.New(slog.DiscardHandler), Settings: func() Settings { return Settings{Callbacks: []string{"/auth/oidc/callback"}} }, Folder: t.TempDir()})
	for _, path := range []string{"/auth/sign-in", "/auth/account", "/auth/oidc/start", "/auth/oidc/callback?code=x&state=y"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for path, want := range map[string]int{"/auth/negotiate": 303, "/auth/negotiate/test": 200, "/auth/oidc/signed-out?iss=x&sid=y": 200} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	for _, path := range []string{"/auth/password", "/auth/sign-out", "/auth/sessions/end"} {
		r := httptest.NewRequest(http.MethodPost, path, nil)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
}
