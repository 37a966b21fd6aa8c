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

// ask sends a message that may be sent to several KDCs to the first, and to the
// next as well whenever the ones before fail or stay silent for hedge.
// The first reply wins. build makes the message for the local address in use.
func (c *Client) ask(ctx context.Context, addrs []netip.Addr, build func(local netip.Addr) ([]byte, error)) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(addrs))
	started := make([]time.Time, 0, len(addrs))
	next := func() {
		a := addrs[len(started)]
		started = append(started, time.Now())
		go func() {
			reply, err := c.send(ctx, netip.AddrPortFrom(a, portKDC), build)
			answers <- answer{a, reply, err}
		}()
	}
	next()
	var failures []error
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	// silent marks those before n that had their time and said nothing.
	silent := func(n int) {
		for i, t := range started[:n] {
			if time.Since(t) >= hedge {
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
				timer.Reset(hedge)
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
				timer.Reset(hedge)
			}
		}
	}
	return answer{}, fault.Wrap(fault.Unreachable, "ask the domain controllers", errors.Join(failures...))
}

// prove sends a message that counts, for it has proof of a password, to one KDC
// after the other: the first that a connection is had to, and the next only where
// that one breaks off or is silent for patience.
func (c *Client) prove(ctx context.Context, addrs []netip.Addr, build func(local netip.Addr) ([]byte, error)) (answer, error) {
	var failures []error
	for len(addrs) > 0 && ctx.Err() == nil {
		conn, to, err := c.reach(ctx, addrs, portKDC)
		if err != nil {
			failures = append(failures, err)
			break
		}
		ectx, cancel := ctx, context.CancelFunc(func() {})
		if len(addrs) > 1 {
			ectx, cancel = context.WithTimeout(ctx, patience)
		}
		reply, err := exchangeKDC(ectx, conn, to, build)
		cancel()
		if err == nil {
			c.cfg.Servers.Good(to.Addr())
			return answer{to.Addr(), reply, nil}, nil
		}
		if fault.Is(err, fault.Internal) {
			return answer{}, err
		}
		if ctx.Err() == nil {
			c.cfg.Servers.Bad(to.Addr())
		}
		failures = append(failures, err)
		addrs = without(addrs, to.Addr())
	}
	return answer{}, fault.Wrap(fault.Unreachable, "ask the domain controllers", errors.Join(append(failures, ctx.Err())...))
}

// reach connects to the first server, and to the next as well whenever the ones
// before fail or are not there within hedge. The first connection wins; nothing
// is sent over any other.
func (c *Client) reach(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, netip.AddrPort, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type link struct {
		conn net.Conn
		to   netip.AddrPort
		err  error
	}
	links := make(chan link, len(addrs))
	var begun []time.Time
	next := func() {
		if len(begun) == len(addrs) {
			return
		}
		to := netip.AddrPortFrom(addrs[len(begun)], port)
		begun = append(begun, time.Now())
		go func() {
			conn, err := c.connect(ctx, to)
			links <- link{conn, to, err}
		}()
	}
	var failures []error
	// leave closes what connects too late, and marks who had their time.
	leave := func(before int, open int) {
		for i, t := range begun[:before] {
			if time.Since(t) >= hedge {
				c.cfg.Servers.Bad(addrs[i])
			}
		}
		go func() {
			for range open {
				if l := <-links; l.conn != nil {
					_ = l.conn.Close()
				}
			}
		}()
	}
	next()
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	for len(failures) < len(addrs) {
		select {
		case <-ctx.Done():
			leave(len(begun), len(begun)-len(failures))
			return nil, netip.AddrPort{}, fault.Wrap(fault.Unreachable, "reach a domain controller", errors.Join(append(failures, ctx.Err())...))
		case <-timer.C:
		case l := <-links:
			if l.err == nil {
				leave(slices.Index(addrs, l.to.Addr()), len(begun)-len(failures)-1)
				return l.conn, l.to, nil
			}
			if ctx.Err() == nil {
				c.cfg.Servers.Bad(l.to.Addr())
			}
			failures = append(failures, l.err)
		}
		next()
		timer.Reset(hedge)
	}
	return nil, netip.AddrPort{}, fault.Wrap(fault.Unreachable, "reach a domain controller", errors.Join(failures...))
}

// without returns the addresses but one.
func without(addrs []netip.Addr, a netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(b netip.Addr) bool { return a == b })
}

// send makes one TCP exchange with one KDC.
func (c *Client) send(ctx context.Context, to netip.AddrPort, build func(local netip.Addr) ([]byte, error)) (reply []byte, err error) {
	conn, err := c.connect(ctx, to)
	if err != nil {
		return nil, err
	}
	return exchangeKDC(ctx, conn, to, build)
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

// exchangeKDC is exchange with a KDC: a reply that is none of Kerberos is a
// failure of that server, so that another is asked.
func exchangeKDC(ctx context.Context, conn net.Conn, to netip.AddrPort, build func(local netip.Addr) ([]byte, error)) ([]byte, error) {
	reply, err := exchange(ctx, conn, to, build)
	if err != nil {
		return nil, err
	}
	switch tag := appTag(reply); tag {
	case tagKRBError:
		_, err = readRefusal(reply, to.Addr())
	case tagASRep, tagTGSRep:
		err = unmarshalApp(reply, &kdcRep{}, tag)
	default:
		err = fault.New(fault.Unreachable, "the reply is none of a KDC")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "read from "+to.String(), err)
	}
	return reply, nil
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
