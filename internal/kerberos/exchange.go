// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

const (
	portKDC     = 88
	portKpasswd = 464

	// hedge is how long one KDC may be silent before the next is asked as well.
	hedge = 300 * time.Millisecond
	// patience is how long a KDC that was given proof of a password may think
	// before the next is asked: a second KDC may count a wrong password twice.
	patience = 2 * time.Second
	// maxReply bounds a reply that nobody has authenticated yet. A ticket of a
	// user in 1,000 groups is some 50 KiB.
	maxReply = 1 << 20
)

// answer is what one server made of a message.
type answer struct {
	from  netip.Addr
	reply []byte
	err   error
}

// ask sends a message that may be sent to several servers to the best one, and
// to the next as well whenever the ones before fail or stay silent for wait.
// The first reply wins. build makes the message for the local address in use.
func (c *Client) ask(ctx context.Context, port uint16, wait time.Duration, build func(local netip.Addr) ([]byte, error)) (answer, error) {
	addrs, err := c.cfg.Servers.Addrs(ctx)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(addrs))
	started := make([]time.Time, 0, len(addrs))
	next := func() {
		a := addrs[len(started)]
		started = append(started, time.Now())
		go func() {
			reply, err := c.send(ctx, netip.AddrPortFrom(a, port), build)
			answers <- answer{a, reply, err}
		}()
	}
	next()
	var failures []error
	timer := time.NewTimer(wait)
	defer timer.Stop()
	// silent marks those before n that had their time and said nothing.
	silent := func(n int) {
		for i, t := range started[:n] {
			if time.Since(t) >= wait {
				c.cfg.Servers.Bad(addrs[i])
			}
		}
	}
	for len(failures) < len(addrs) {
		select {
		case <-ctx.Done():
			silent(len(started))
			return answer{}, fault.Wrap(fault.Unreachable, "ask the domain controllers", errors.Join(append(failures, ctx.Err())...))
		case <-timer.C:
			if len(started) < len(addrs) {
				next()
				timer.Reset(wait)
			}
		case a := <-answers:
			if a.err == nil {
				first := slices.Index(addrs, a.from)
				silent(first)
				c.cfg.Servers.Good(a.from)
				if c.cfg.RoundTrip != nil {
					c.cfg.RoundTrip(time.Since(started[first]))
				}
				return a, nil
			}
			if ctx.Err() != nil {
				continue
			}
			if fault.Is(a.err, fault.Internal) {
				return answer{}, a.err
			}
			c.cfg.Servers.Bad(a.from)
			failures = append(failures, a.err)
			if len(started) < len(addrs) {
				next()
				timer.Reset(wait)
			}
		}
	}
	return answer{}, fault.Wrap(fault.Unreachable, "ask the domain controllers", errors.Join(failures...))
}

// send makes one TCP exchange with one server.
func (c *Client) send(ctx context.Context, to netip.AddrPort, build func(local netip.Addr) ([]byte, error)) (reply []byte, err error) {
	conn, err := c.connect(ctx, to)
	if err != nil {
		return nil, err
	}
	return exchange(ctx, conn, to, build)
}

func (c *Client) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	dial := c.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(to.Addr().String(), strconv.Itoa(int(to.Port()))))
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "reach "+to.String(), err)
	}
	return conn, nil
}

// exchange sends one message over a connection of its own and reads the reply
// (RFC 4120 7.2.2): length and message out, length and reply back.
func exchange(ctx context.Context, conn net.Conn, to netip.AddrPort, build func(local netip.Addr) ([]byte, error)) (reply []byte, err error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	var local netip.Addr
	if ap, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
		local = ap.Addr().Unmap()
	}
	msg, err := build(local)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "build the request", err)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(msg)), uint32(len(msg)))
	if _, err := conn.Write(append(frame, msg...)); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "send to "+to.String(), err)
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "read from "+to.String(), err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxReply {
		return nil, fault.Errorf(fault.Unreachable, "read from %s: a reply of %d bytes is refused", to, n)
	}
	// Grows with what arrives, not with what was announced.
	reply, err = io.ReadAll(io.LimitReader(conn, int64(n)))
	if err == nil && len(reply) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "read from "+to.String(), err)
	}
	return reply, nil
}

// invalidAddr stands for a peer that is not reached by address.
var invalidAddr netip.Addr
