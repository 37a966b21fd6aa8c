// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/session"
)

// A proxy asks before every request of every browser, always in the same words.
// This file reads and answers that plain question by itself: net/http would take
// twice as long as everything else together. Whatever is not the plain question,
// to the letter, goes on to net/http with the bytes that were read.

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

// append writes the verdict as an answer of HTTP/1.1, as of now.
func (v *verdict) append(b []byte, now time.Time) []byte {
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
	b = append(b, date(now)...)
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
