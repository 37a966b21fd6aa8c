// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// A proxy asks before every request of every browser, always in the same words.
// This file answers that plain question by itself: net/http would take twice as
// long as everything else together. Whatever is not the plain question, to the
// letter, goes on to net/http with the bytes that were read.

// The times of a connection.
const (
	headersTime = 5 * time.Second
	keptTime    = 2 * time.Minute
)

// maxPlain bounds a plain question; cookies can make it long.
const maxPlain = 16 << 10

const plainLine = "GET " + CheckPath + " HTTP/1.1\r\n"

// plain is what a plain question says.
type plain struct {
	host, uri string
	token     string // of the one cookie of ours
}

// errMore wants more bytes, errOther is not the plain question.
var (
	errMore  = errors.New("more")
	errOther = errors.New("other")
)

// parsePlain reads a plain question from the beginning of b, and says how long it
// is. It takes nothing that net/http would read in another way.
func parsePlain(b []byte) (q plain, n int, err error) {
	if !bytes.HasPrefix(b, []byte(plainLine)) {
		if len(b) < len(plainLine) && strings.HasPrefix(plainLine, string(b)) {
			return q, 0, errMore
		}
		return q, 0, errOther
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= maxPlain {
			return q, 0, errOther
		}
		return q, 0, errMore
	}
	q.uri = "/"
	var host, forwarded, uri, original, cookies string
	var seen [5]bool
	lines := b[len(plainLine) : end+2]
	for len(lines) > 0 {
		at := bytes.IndexByte(lines, '\n')
		if at < 1 || lines[at-1] != '\r' {
			return q, 0, errOther
		}
		line := lines[:at-1]
		lines = lines[at+1:]
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || !isToken(line[:colon]) || !isText(line[colon+1:]) {
			return q, 0, errOther
		}
		value := bytes.Trim(line[colon+1:], " ")
		which := -1
		switch name := line[:colon]; {
		case is(name, "host"):
			which, host = 0, string(value)
		case is(name, "x-forwarded-host"):
			which, forwarded = 1, string(value)
		case is(name, "x-forwarded-uri"):
			which, uri = 2, string(value)
		case is(name, "x-original-uri"):
			which, original = 3, string(value)
		case is(name, "cookie"):
			which, cookies = 4, string(value)
		case is(name, "content-length"), is(name, "transfer-encoding"), is(name, "connection"), is(name, "upgrade"), is(name, "expect"), is(name, "trailer"), is(name, "te"):
			return q, 0, errOther
		}
		if which >= 0 {
			if seen[which] {
				return q, 0, errOther
			}
			seen[which] = true
		}
	}
	if !seen[0] || host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:") != "" {
		return q, 0, errOther
	}
	q.host = host
	if seen[1] {
		q.host = forwarded
	}
	if seen[3] {
		q.uri = original
	}
	if seen[2] {
		q.uri = uri
	}
	q.token = ownCookie(cookies)
	return q, end + 4, nil
}

// is compares a header's name, given in small letters.
func is(name []byte, small string) bool {
	if len(name) != len(small) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != small[i] {
			return false
		}
	}
	return true
}

func isToken(name []byte) bool {
	for _, c := range name {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

func isText(value []byte) bool {
	for _, c := range value {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// ownCookie is the value of the one session cookie; empty where there is none,
// where there are two, or where it has a character that no token has.
func ownCookie(header string) (token string) {
	found := 0
	for header != "" {
		var one string
		one, header, _ = strings.Cut(header, ";")
		name, value, _ := strings.Cut(strings.Trim(one, " "), "=")
		if strings.Trim(name, " ") == session.Cookie {
			found++
			token = value
		}
	}
	if found != 1 || strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return ""
	}
	return token
}

// Serve answers on a Unix socket until Stop; nil then.
func (f *Forward) Serve(ln net.Listener) error {
	gated := f.gate.Listen(ln)
	defer gated.Close()
	f.mu.Lock()
	if f.stopped {
		f.mu.Unlock()
		return nil
	}
	f.conns[closer{gated}] = struct{}{}
	f.mu.Unlock()
	f.slow.once.Do(func() { go func() { _ = f.http.Serve(f.slow) }() })
	for {
		conn, err := gated.Accept()
		if err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.stopped {
				return nil
			}
			return fault.Wrap(fault.Internal, "serve auth", err)
		}
		c := conn.(*peer.Conn) // a gate's
		f.mu.Lock()
		if f.stopped {
			_ = c.Close()
		} else {
			f.conns[c] = struct{}{}
			go f.plain(c)
		}
		f.mu.Unlock()
	}
}

// closer lets a listener be among the things that Stop closes.
type closer struct{ net.Listener }

func (closer) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (closer) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (closer) LocalAddr() net.Addr              { return nil }
func (closer) RemoteAddr() net.Addr             { return nil }
func (closer) SetDeadline(time.Time) error      { return nil }
func (closer) SetReadDeadline(time.Time) error  { return nil }
func (closer) SetWriteDeadline(time.Time) error { return nil }

// Stop ends the door. Requests of net/http that are under way may go on until
// ctx ends; a plain question that is being answered is asked again by the proxy.
func (f *Forward) Stop(ctx context.Context) {
	f.mu.Lock()
	f.stopped = true
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	if f.http.Shutdown(ctx) != nil {
		_ = f.http.Close()
	}
	_ = f.slow.Close()
}

// plain answers the plain questions of one connection until something else comes.
func (f *Forward) plain(c *peer.Conn) {
	kept := true
	defer func() {
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
		if kept {
			_ = c.Close()
		}
	}()
	caller := callerOf(c)
	buf, n := make([]byte, 4<<10), 0
	var out []byte
	for {
		wait := keptTime
		if n > 0 {
			wait = headersTime
		}
		if c.SetDeadline(time.Now().Add(wait)) != nil {
			return
		}
		q, used, err := parsePlain(buf[:n])
		switch {
		case f.c.Sessions == nil || err == errOther:
			kept = !f.slow.take(&handed{Conn: c, before: bytes.Clone(buf[:n])})
			return
		case err == errMore:
			if n == len(buf) {
				buf = append(buf, make([]byte, min(len(buf), maxPlain-len(buf)))...)
			}
			more, err := c.Read(buf[n:])
			if n += more; err != nil {
				return
			}
			continue
		}
		n = copy(buf, buf[used:n])
		p, ok := f.placeAt(place{host: q.host, path: q.uri, caller: caller})
		v := verdict{status: http.StatusForbidden}
		if ok {
			v = f.decide(context.Background(), p, q.token)
		} else {
			f.notOurs(p)
		}
		out = v.append(out[:0])
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// append writes the verdict as an answer of HTTP/1.1.
func (v *verdict) append(b []byte) []byte {
	b = append(b, "HTTP/1.1 "...)
	switch v.status {
	case http.StatusOK:
		b = append(b, "200 OK\r\n"...)
		b = append(b, HeaderUser+": "...)
		b = append(b, v.user...)
		b = append(b, "\r\n"+HeaderUID+": "...)
		b = append(b, v.uid...)
		b = append(b, "\r\n"+HeaderGroups+": "...)
		b = append(b, v.groups...)
		b = append(b, "\r\n"...)
	case http.StatusUnauthorized:
		b = append(b, "401 Unauthorized\r\n"+HeaderSignIn+": "...)
		b = append(b, v.signIn...)
		b = append(b, "\r\n"...)
	case http.StatusForbidden:
		b = append(b, "403 Forbidden\r\n"...)
	case http.StatusServiceUnavailable:
		b = append(b, "503 Service Unavailable\r\n"...)
	default:
		b = append(b, "500 Internal Server Error\r\n"...)
	}
	b = append(b, "Cache-Control: no-store\r\nContent-Length: 0\r\nDate: "...)
	b = append(b, date(time.Now())...)
	return append(b, "\r\n\r\n"...)
}

// date is the time as HTTP writes it; it is made once a second.
func date(now time.Time) string {
	if d := lastDate.Load(); d != nil && d.unix == now.Unix() {
		return d.text
	}
	d := &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}

type dated struct {
	unix int64
	text string
}

var lastDate atomic.Pointer[dated]

// handed is a connection with the bytes of it that were read already.
type handed struct {
	*peer.Conn
	before []byte
}

// Read gives the bytes again, and then what comes.
func (h *handed) Read(p []byte) (int, error) {
	if len(h.before) > 0 {
		n := copy(p, h.before)
		h.before = h.before[n:]
		return n, nil
	}
	return h.Conn.Read(p)
}

// handover is a listener whose connections were accepted elsewhere.
type handover struct {
	once  sync.Once
	conns chan net.Conn
	done  chan struct{}
	shut  sync.Once
}

func newHandover() *handover { return &handover{conns: make(chan net.Conn), done: make(chan struct{})} }

// take hands a connection over; false: nobody takes it any longer.
func (h *handover) take(c net.Conn) bool {
	_ = c.SetDeadline(time.Time{})
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept waits for a connection.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends it. Safe to call twice.
func (h *handover) Close() error {
	h.shut.Do(func() { close(h.done) })
	return nil
}

// Addr is nobody's.
func (*handover) Addr() net.Addr { return &net.UnixAddr{Name: "auth", Net: "unix"} }
