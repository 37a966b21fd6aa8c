// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/peers"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// bareServer is the argument that makes this program the other end of a bare
// round trip: as many bytes as a winbind request, as many as an answer, and
// nothing in between.
const bareServer = "serve-bare"

// serveBare serves until it fails.
func serveBare(socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			in, out := make([]byte, wire.RequestSize), make([]byte, wire.ResponseSize)
			binary.LittleEndian.PutUint32(out, wire.ResponseSize)
			for {
				if _, err := io.ReadFull(conn, in); err != nil {
					return
				}
				if _, err := conn.Write(out); err != nil {
					return
				}
			}
		}()
	}
}

// pipeEnd is one server that the round trips are asked of.
type pipeEnd struct {
	name, socket string
}

// talk is one connection to it, with the memory that a round trip needs.
type talk struct {
	net.Conn
	answer []byte
}

func (e *pipeEnd) dial() (*talk, error) {
	conn, err := net.Dial("unix", e.socket)
	if err != nil {
		return nil, err
	}
	return &talk{conn, make([]byte, 64<<10)}, nil
}

// ask sends a request in one write, as Samba's library does where there is no
// extra data, and reads the answer to its end.
func (t *talk) ask(request []byte) ([]byte, error) {
	if _, err := t.Write(request); err != nil {
		return nil, err
	}
	n, want := 0, wire.ResponseSize
	for n < want {
		m, err := t.Read(t.answer[n:])
		if err != nil {
			return nil, err
		}
		if n += m; n >= 4 {
			want = int(binary.LittleEndian.Uint32(t.answer))
		}
		if want > len(t.answer) {
			return nil, fmt.Errorf("an answer of %d bytes", want)
		}
	}
	return t.answer[:n], nil
}

// question is one kind of request, asked about different people in turn.
type question struct {
	name     string
	requests [][]byte
}

const pipePeople = 200

// questions asks about the first people of the domain; their SIDs are asked for
// over the pipe itself.
func (e *pipeEnd) questions(domain string) ([]question, error) {
	t, err := e.dial()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	all := []question{{name: "PING"}, {name: "GETPWNAM"}, {name: "LOOKUPNAME"}, {name: "SIDS_TO_XIDS"}}
	add := func(at int, cmd wire.Command, fill func(*wire.Request)) ([]byte, error) {
		r, err := wire.NewRequest(wire.V32, cmd)
		if err != nil {
			return nil, err
		}
		if fill != nil {
			fill(r)
		}
		b := r.Append(nil)
		all[at].requests = append(all[at].requests, b)
		return b, nil
	}
	for i := range pipePeople {
		name := lab.UserName(i)
		if _, err := add(0, wire.Ping, nil); err != nil {
			return nil, err
		}
		if _, err := add(1, wire.GetPwNam, func(r *wire.Request) { r.SetText(name) }); err != nil {
			return nil, err
		}
		b, err := add(2, wire.LookupName, func(r *wire.Request) { r.SetLookupName(domain, name) })
		if err != nil {
			return nil, err
		}
		got, err := t.ask(b)
		if err != nil {
			return nil, err
		}
		answer, err := wire.ReadResponse(append([]byte(nil), got...))
		if err != nil || !answer.Succeeded() {
			return nil, fmt.Errorf("%s does not know %s: %w", e.name, name, err)
		}
		sid, _ := answer.SID()
		if _, err := add(3, wire.SIDsToXIDs, func(r *wire.Request) { r.SetExtra([]byte(sid + "\n\x00")) }); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// rounds is how long each side is asked in one turn, and how often.
const (
	roundTime  = 700 * time.Millisecond
	roundTurns = 5
)

func (t *talk) rounds(ctx context.Context, requests [][]byte, into *sample) error {
	for _, b := range requests { // warm
		if _, err := t.ask(b); err != nil {
			return err
		}
	}
	began := time.Now()
	for i := 0; ; i++ {
		at := time.Now()
		if at.Sub(began) > roundTime || ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := t.ask(requests[i%len(requests)]); err != nil {
			return err
		}
		*into = append(*into, time.Since(at))
	}
}

func benchPipe(ctx context.Context, s *stage, r *report) error {
	dir, err := os.MkdirTemp("", "latchkey-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bare := &pipeEnd{"bare round trip", filepath.Join(dir, "bare.sock")}
	program := serve(ctx, bareServer, bare.socket)
	if err := program.Start(); err != nil {
		return err
	}
	defer func() { _ = program.Process.Kill(); _ = program.Wait() }()

	if _, err := s.nas.CLI(ctx, "config", "set", "samba.pipes", "true"); err != nil {
		return err
	}
	ours := &pipeEnd{"latchkey", fmt.Sprintf("/proc/%d/root/run/samba/winbindd/pipe", s.nas.PID())}
	box, err := s.lab.Box(ctx, "pipewb", lab.BoxOptions{UseDNS: true})
	if err != nil {
		return err
	}
	peer, err := peers.Winbind(ctx, box, s.domain, false)
	if err != nil {
		return err
	}
	theirs := &pipeEnd{peer.Name, fmt.Sprintf("/proc/%d/root/run/samba/winbindd/pipe", box.PID())}
	for _, e := range []*pipeEnd{bare, ours, theirs} {
		if err := e.wait(ctx); err != nil {
			return err
		}
	}
	if err := roundTrips(ctx, s.domain.NetBIOS, bare, ours, theirs, r); err != nil {
		return err
	}
	return idleConnections(ctx, s, ours, r)
}

// wait waits until the server answers a name.
func (e *pipeEnd) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := wire.NewRequest(wire.V32, wire.GetPwNam)
	if err != nil {
		return err
	}
	r.SetText(lab.UserName(0))
	for {
		if t, err := e.dial(); err == nil {
			b, err := t.ask(r.Append(nil))
			_ = t.Close()
			if err == nil && (binary.LittleEndian.Uint32(b[4:]) == 2 || filepath.Base(e.socket) == "bare.sock") {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer on %s", e.name, e.socket)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func roundTrips(ctx context.Context, domain string, bare, ours, theirs *pipeEnd, r *report) error {
	ask, err := ours.questions(domain)
	if err != nil {
		return err
	}
	askTheirs, err := theirs.questions(domain)
	if err != nil {
		return err
	}
	rows := [][]string{{"request", "latchkey", bare.name, theirs.name, "latchkey / bare", "latchkey / winbindd"}}
	for i, q := range ask {
		var a, b, c sample
		ends := []struct {
			end      *pipeEnd
			requests [][]byte
			into     *sample
		}{{bare, ask[0].requests, &b}, {ours, q.requests, &a}, {theirs, askTheirs[i].requests, &c}}
		var talks []*talk
		for _, e := range ends {
			t, err := e.end.dial()
			if err != nil {
				return err
			}
			defer t.Close()
			talks = append(talks, t)
		}
		for range roundTurns { // in turn, so that the machine's moods fall on all
			for k, e := range ends {
				if err := talks[k].rounds(ctx, e.requests, e.into); err != nil {
					return fmt.Errorf("%s, %s: %w", e.end.name, q.name, err)
				}
			}
		}
		show := func(s sample) string { return short(s.median()) + " / " + short(s.quantile(0.99)) }
		rows = append(rows, []string{q.name, show(a), show(b), show(c), ratio(a.median(), b.median()), ratio(a.median(), c.median())})
	}
	r.table("One request on winbind's pipe, p50 / p99", rows...)
	return nil
}

// manyConnections is what smbd has with five hundred clients.
const manyConnections = 1000

func idleConnections(ctx context.Context, s *stage, ours *pipeEnd, r *report) error {
	worker := func() (int64, error) {
		processes, err := s.nas.Processes(ctx)
		if err != nil {
			return 0, err
		}
		for _, p := range processes {
			if p.Name == "latchkeyd" && len(p.Args) > 1 && p.Args[1] == "worker" {
				m, err := rollup(fmt.Sprintf("/proc/%d/root/proc/%d/smaps_rollup", s.nas.PID(), p.PID))
				return m.private, err
			}
		}
		return 0, fmt.Errorf("no worker runs in %s", s.nas.Name())
	}
	before, err := worker()
	if err != nil {
		return err
	}
	ping, err := wire.NewRequest(wire.V32, wire.Ping)
	if err != nil {
		return err
	}
	b := ping.Append(nil)
	for range manyConnections {
		t, err := ours.dial()
		if err != nil {
			return err
		}
		defer t.Close()
		if _, err := t.ask(b); err != nil {
			return err
		}
	}
	after, err := worker()
	if err != nil {
		return err
	}
	r.table("Memory of the worker with 1,000 connections on the pipe",
		[]string{"connections", "private"}, []string{"0", megabytes(before)}, []string{fmt.Sprint(manyConnections), megabytes(after)})
	return nil
}
