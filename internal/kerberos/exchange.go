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
	took  time.Duration // connecting included
}

// taken notes whose answer was taken.
func (c *Client) taken(a answer) {
	c.cfg.Servers.Good(a.from)
	if c.cfg.RoundTrip != nil {
		c.cfg.RoundTrip(a.took)
	}
}

// race tries the first server, and the next as well whenever the ones before fail
// or are not done within hedge. The first that is done wins; drop, which may be
// nil, has what the others come to. Those that fail, or had their time when another
// won, are said to be bad.
func race[T any](ctx context.Context, servers Servers, addrs []netip.Addr, try func(context.Context, netip.Addr) (T, error), drop func(T)) (won T, by netip.Addr, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		what T
		from netip.Addr
		err  error
	}
	ends := make(chan end, len(addrs))
	var begun []time.Time
	next := func() {
		if n := len(begun); n < len(addrs) {
			begun = append(begun, time.Now())
			go func() {
				what, err := try(ctx, addrs[n])
				ends <- end{what, addrs[n], err}
			}()
		}
	}
	var failures []error
	// leave is the end for those that are still at it; the first n had the same
	// chance as the winner.
	leave := func(n, atIt int) {
		for i, t := range begun[:n] {
			if time.Since(t) >= hedge {
				servers.Bad(addrs[i])
			}
		}
		go func() {
			for range atIt {
				if e := <-ends; e.err == nil && drop != nil {
					drop(e.what)
				}
			}
		}()
	}
	const op = "ask the domain controllers"
	next()
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	for len(failures) < len(addrs) {
		select {
		case <-ctx.Done():
			leave(len(begun), len(begun)-len(failures))
			return won, by, fault.Wrap(fault.Unreachable, op, errors.Join(append(failures, ctx.Err())...))
		case <-timer.C:
		case e := <-ends:
			if e.err == nil {
				leave(slices.Index(addrs, e.from), len(begun)-len(failures)-1)
				return e.what, e.from, nil
			}
			if fault.Is(e.err, fault.Internal) {
				leave(0, len(begun)-len(failures)-1)
				return won, by, e.err
			}
			if ctx.Err() == nil {
				servers.Bad(e.from)
			}
			failures = append(failures, e.err)
		}
		next()
		timer.Reset(hedge)
	}
	return won, by, fault.Wrap(fault.Unreachable, op, errors.Join(failures...))
}

// ask sends a message that may be sent to several KDCs; the first reply wins. build
// makes the message for the local address in use.
func (c *Client) ask(ctx context.Context, addrs []netip.Addr, build func(local netip.Addr) ([]byte, error)) (answer, error) {
	won, _, err := race(ctx, c.cfg.Servers, addrs, func(ctx context.Context, a netip.Addr) (answer, error) {
		begun, to := time.Now(), netip.AddrPortFrom(a, portKDC)
		conn, err := c.connect(ctx, to)
		if err != nil {
			return answer{}, err
		}
		reply, err := exchangeKDC(ctx, conn, to, build)
		return answer{a, reply, time.Since(begun)}, err
	}, nil)
	if err == nil {
		c.taken(won)
	}
	return won, err
}

// reach connects to one of the servers; nothing is sent to any other.
func (c *Client) reach(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, netip.AddrPort, error) {
	conn, a, err := race(ctx, c.cfg.Servers, addrs, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		return c.connect(ctx, netip.AddrPortFrom(a, port))
	}, func(late net.Conn) { _ = late.Close() })
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return conn, netip.AddrPortFrom(a, port), nil
}

// prove sends a message that counts, for it has proof of a password, to one KDC
// after the other: the first that a connection is had to, and the next only where
// that one breaks off or is silent for patience.
func (c *Client) prove(ctx context.Context, addrs []netip.Addr, build func(local netip.Addr) ([]byte, error)) (answer, error) {
	var failures []error
	for len(addrs) > 0 && ctx.Err() == nil {
		begun := time.Now()
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
		switch a := (answer{to.Addr(), reply, time.Since(begun)}); {
		case err == nil:
			c.taken(a)
			return a, nil
		case fault.Is(err, fault.Internal):
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

// without returns the addresses but one.
func without(addrs []netip.Addr, a netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(b netip.Addr) bool { return a == b })
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
