// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// maxPlainHead bounds what is read of a request by plain http.
const maxPlainHead = 16 << 10

// sendsToHTTPS is a connection that is to speak TLS. A browser that was given
// the machine's name and port alone may begin with plain http there: it is told,
// once, that the same place is to be had by https. Nothing else is said on such a
// connection, and what its request carries is not looked at.
type sendsToHTTPS struct {
	net.Conn
	begun bool
}

// Read is what TLS reads, from the first byte on. io.EOF: it was plain http.
func (c *sendsToHTTPS) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.begun || n == 0 {
		return n, err
	}
	c.begun = true
	// A handshake begins with 22 (RFC 8446 5.1).
	if err != nil || p[0] != 'G' && p[0] != 'H' {
		return n, err
	}
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(io.MultiReader(bytes.NewReader(p[:n]), c.Conn), maxPlainHead)))
	if err == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.RequestURI[0] == '/' && hostName(r.Host) {
		_, _ = fmt.Fprintf(c.Conn, "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://%s%s\r\nCache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", r.Host, r.URL.RequestURI())
	}
	return 0, io.EOF
}

// hostName says whether a text is a name or address, with or without a port, and
// nothing that would break a header.
func hostName(host string) bool {
	return host != "" && len(host) <= 300 && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") == ""
}
