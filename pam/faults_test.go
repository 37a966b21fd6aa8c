// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	libpam "github.com/msteinert/pam/v2"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/containerd/ttrpc"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// frame is a ttrpc message.
func frame(stream uint32, kind byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(append(b, kind, 0), payload...)
}

// answer is a good answer to the first call.
func answer(t testing.TB, m proto.Message) []byte {
	return frame(1, 2, marshal(t, &ttrpc.Response{Payload: marshal(t, m)}))
}

func letIn() *latchkeyv1.Turn {
	return &latchkeyv1.Turn{Lines: []*latchkeyv1.Line{{Kind: latchkeyv1.Line_KIND_INFO, Text: "welcome"}},
		Done: &latchkeyv1.Done{Outcome: latchkeyv1.Outcome_OUTCOME_SUCCESS, Name: "alice", Uid: uint32(alice.UID), Gid: uint32(alice.GID), Ccache: []byte("tickets")}}
}

// say answers whatever is asked first with b, and closes, or hangs until the
// other end does. It returns how many bytes came in, in all connections.
func (b *box) say(t testing.TB, next func() (answer []byte, hang bool)) (came func() int) {
	t.Helper()
	ln := b.listen(t)
	total, ended := 0, make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			header := make([]byte, 10)
			if n, err := io.ReadFull(conn, header); err != nil {
				total += n
				_ = conn.Close()
				continue
			}
			n, _ := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(header)))
			total += len(header) + int(n)
			answer, hang := next()
			_, _ = conn.Write(answer)
			if hang {
				_, _ = io.Copy(io.Discard, conn)
			}
			_ = conn.Close()
		}
	}()
	return func() int { _ = ln.Close(); <-ended; return total }
}

func TestDaemonsThatMisbehave(t *testing.T) {
	good := answer(t, letIn())
	code := func(c int32) []byte {
		return frame(1, 2, marshal(t, &ttrpc.Response{Status: &status.Status{Code: c}}))
	}
	local := letIn()
	local.Done.Uid = 999
	nameless := letIn()
	nameless.Done.Name = ""
	for name, tc := range map[string]struct {
		answer []byte
		hang   bool
		want   error
	}{
		"as it should be":       {good, false, nil},
		"no answer":             {nil, true, libpam.ErrAuthinfoUnavail},
		"hangs up":              {nil, false, libpam.ErrAuthinfoUnavail},
		"half a header":         {good[:5], true, libpam.ErrAuthinfoUnavail},
		"half an answer":        {good[:len(good)-1], true, libpam.ErrAuthinfoUnavail},
		"dies in the middle":    {good[:len(good)/2], false, libpam.ErrAuthinfoUnavail},
		"speaks HTTP":           {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), false, libpam.ErrSystem},
		"another stream":        {frame(3, 2, good[10:]), false, libpam.ErrSystem},
		"another type":          {frame(1, 3, good[10:]), false, libpam.ErrSystem},
		"nothing in it":         {frame(1, 2, nil), false, libpam.ErrAuthinfoUnavail},
		"four gigabytes":        {[]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 2, 0}, true, libpam.ErrSystem},
		"no protobuf":           {frame(1, 2, bytes.Repeat([]byte{0xff}, 50)), false, libpam.ErrSystem},
		"unimplemented":         {code(12), false, libpam.ErrSystem},
		"unavailable":           {code(14), false, libpam.ErrAuthinfoUnavail},
		"deadline":              {code(4), false, libpam.ErrAuthinfoUnavail},
		"no outcome":            {answer(t, &latchkeyv1.Turn{Done: &latchkeyv1.Done{}}), false, libpam.ErrSystem},
		"a uid of the system's": {answer(t, local), false, libpam.ErrSystem},
		"nobody's name":         {answer(t, nameless), false, libpam.ErrSystem},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.set("PATIENCE", "200")
			b.service(t, testModule(t, plain))
			b.say(t, func() ([]byte, bool) { return tc.answer, tc.hang })
			if got := statusOf(b.start(t, "alice", &user{}).Authenticate(0)); got != tc.want {
				t.Errorf("authenticate: %v, want %v", got, tc.want)
			}
			if got := files(t, b.path("stash")); tc.want != nil && len(got) > 0 {
				t.Errorf("in the stash: %q", got)
			}
		})
	}
}

// Nobody but root is believed: not a byte is sent, no question asked.
func TestPeerIsNotRoot(t *testing.T) {
	b := newBox(t)
	b.set("PEER", "4711")
	b.service(t, testModule(t, plain))
	came := b.say(t, func() ([]byte, bool) { return answer(t, letIn()), false })
	tx := b.start(t, "alice", &user{answers: []string{password}})
	for name, got := range map[string]error{"authenticate": tx.Authenticate(0), "account": tx.AcctMgmt(0)} {
		if statusOf(got) != libpam.ErrSystem {
			t.Errorf("%s: %v", name, got)
		}
	}
	if n := came(); n != 0 {
		t.Errorf("%d bytes were sent to a stranger", n)
	}
}

func TestNobodyListens(t *testing.T) {
	for _, left := range []string{"no socket", "a socket that was left behind", "a file", "a queue that is full"} {
		t.Run(left, func(t *testing.T) {
			b := newBox(t)
			b.set("PATIENCE", "200")
			switch left {
			case "a socket that was left behind":
				ln := b.listen(t).(*net.UnixListener)
				ln.SetUnlinkOnClose(false)
				_ = ln.Close()
			case "a file":
				b.write(t, "s", "")
			case "a queue that is full":
				b.fill(t)
			}
			b.service(t, testModule(t, plain))
			tx := b.start(t, "alice", &user{})
			if got := statusOf(tx.Authenticate(0)); got != libpam.ErrAuthinfoUnavail {
				t.Errorf("authenticate: %v", got)
			}
			if got := statusOf(tx.AcctMgmt(0)); got != libpam.ErrAuthinfoUnavail {
				t.Errorf("account: %v", got)
			}
			if got := statusOf(tx.ChangeAuthTok(0)); got != libpam.ErrTryAgain {
				t.Errorf("password: %v", got)
			}
			for name, got := range map[string]error{"open": tx.OpenSession(0), "close": tx.CloseSession(0)} {
				if got != nil {
					t.Errorf("%s: %v", name, got)
				}
			}
		})
	}
}

// Whatever comes, the sanitizer finds nothing, and what is not well said lets
// nobody in.
func TestGarbage(t *testing.T) {
	b := newBox(t)
	b.set("PATIENCE", "2000")
	b.service(t, testModule(t, address))
	good := answer(t, letIn())
	seed := uint64(os.Getpid())
	r := rand.New(rand.NewPCG(seed, 1))
	b.say(t, func() ([]byte, bool) {
		bad := bytes.Clone(good)
		for range 1 + r.IntN(4) {
			bad[r.IntN(len(bad))] = byte(r.IntN(256))
		}
		return bad[:r.IntN(len(bad)+1)], false
	})
	cmd := exec.Command(compile(t, "drive", address, "testdata/drive.c"), b.dir, "test", "2000", "alice")
	cmd.Env = b.environ()
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "ERROR") {
		t.Errorf("seed %d: %v\n%s", seed, err, out)
	}
}
