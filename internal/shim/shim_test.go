// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// played is a Login that follows a script of steps.
type played struct {
	mu      sync.Mutex
	request Request
	steps   []Step
	err     error // after the steps
	answers []string
	wait    chan struct{} // Next does not return before it is closed
	ended   chan error    // what Next's context said when it waited in vain
	closed  chan struct{}
	account func() (*Result, []string, error)
}

func (p *played) Begin(r Request) Conversation {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.request = r
	return p
}

func (p *played) Next(ctx context.Context, answer secret.Bytes) (Step, error) {
	if p.wait != nil {
		select {
		case <-p.wait:
		case <-ctx.Done():
			p.ended <- ctx.Err()
			return Step{}, fault.Wrap(fault.Unreachable, "wait", ctx.Err())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, string(answer.Reveal()))
	if len(p.steps) == 0 {
		return Step{}, p.err
	}
	s := p.steps[0]
	p.steps = p.steps[1:]
	return s, nil
}

func (p *played) Close() { close(p.closed) }

func (p *played) Account(context.Context, Request) (*Result, []string, error) { return p.account() }

func (p *played) PasswordPlace(context.Context, string) (string, bool, error) { return "", true, nil }

func (p *played) ChangePassword(context.Context, Request, secret.Bytes, secret.Bytes) ([]string, error) {
	return nil, p.err
}

func play(steps ...Step) *played {
	return &played{steps: steps, closed: make(chan struct{}), ended: make(chan error, 1)}
}

// dial serves a door to root and returns a way to call it on new connections.
func dial(t *testing.T, login Login, uid identity.UID, change func(*Config)) func() *caller {
	t.Helper()
	cfg := Config{Log: slog.New(slog.DiscardHandler), Login: login,
		Identify: func(*net.UnixConn) (peer.Caller, error) { return peer.Caller{UID: uid, PID: 7}, nil }}
	if change != nil {
		change(&cfg)
	}
	s := New(cfg)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop(context.Background())
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := s.gate.Connections(); n != 0 {
			t.Errorf("%d connections are still open", n)
		}
	})
	return func() *caller {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c := &caller{t, ttrpc.NewClient(conn)}
		t.Cleanup(func() { _ = c.client.Close() })
		return c
	}
}

type caller struct {
	t      *testing.T
	client *ttrpc.Client
}

func (c *caller) begin(req *latchkeyv1.BeginRequest) (*latchkeyv1.Turn, error) {
	var turn latchkeyv1.Turn
	err := c.client.Call(context.Background(), service, "Begin", req, &turn)
	return &turn, err
}

func (c *caller) tell(replies ...string) (*latchkeyv1.Turn, error) {
	var turn latchkeyv1.Turn
	req := &latchkeyv1.TellRequest{}
	for _, r := range replies {
		req.Replies = append(req.Replies, []byte(r))
	}
	err := c.client.Call(context.Background(), service, "Tell", req, &turn)
	return &turn, err
}

func authenticate(name string) *latchkeyv1.BeginRequest {
	return &latchkeyv1.BeginRequest{Purpose: latchkeyv1.Purpose_PURPOSE_AUTHENTICATE, Name: []byte(name), Service: []byte("sshd")}
}

func TestEveryFailureHasAnOutcome(t *testing.T) {
	for _, kind := range fault.Kinds() {
		if o, ok := outcomes[kind]; !ok || o <= latchkeyv1.Outcome_OUTCOME_SUCCESS {
			t.Errorf("%s becomes %s", kind, o)
		}
	}
	if got := outcomeOf(errors.New("no kind")); got != latchkeyv1.Outcome_OUTCOME_INTERNAL {
		t.Errorf("an error without a kind becomes %s", got)
	}
}

func TestConversation(t *testing.T) {
	token := []byte("a ticket")
	p := play(Step{Tell: []string{"hello\x1b[2J\xff"}, Ask: &Prompt{Text: "Password: "}},
		Step{Ask: &Prompt{Text: "Code: "}}, Step{Ask: &Prompt{Text: "New: ", New: true}}, Step{Ask: &Prompt{Text: "Mail: ", Echo: true}},
		Step{Tell: []string{"well done"}, Done: &Result{Name: "alice", UID: 5000, GID: 6000, CCache: secret.Own(token), Warnings: []string{"soon"}}})
	call := dial(t, p, 0, nil)()
	turn, err := call.begin(authenticate("al\xffice"))
	kinds := []latchkeyv1.Line_Kind{latchkeyv1.Line_KIND_ASK_PASSWORD, latchkeyv1.Line_KIND_ASK_HIDDEN, latchkeyv1.Line_KIND_ASK_NEW, latchkeyv1.Line_KIND_ASK_SHOWN}
	for i, answer := range []string{"one", "two\x00", "", "four"} {
		if err != nil {
			t.Fatal(err)
		}
		last := turn.GetLines()[len(turn.GetLines())-1]
		if last.GetKind() != kinds[i] {
			t.Errorf("question %d is %v", i, last)
		}
		if i == 0 && turn.GetLines()[0].GetText() != "hello [2J\uFFFD" {
			t.Errorf("the text is %q", turn.GetLines()[0].GetText())
		}
		turn, err = call.tell(answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	d := turn.GetDone()
	if d.GetOutcome() != latchkeyv1.Outcome_OUTCOME_SUCCESS || d.GetName() != "alice" || d.GetUid() != 5000 || d.GetGid() != 6000 || string(d.GetCcache()) != "a ticket" {
		t.Errorf("the end is %v", d)
	}
	if l := turn.GetLines(); len(l) != 2 || l[0].GetText() != "well done" || l[1].GetText() != "soon" {
		t.Errorf("the last lines are %v", l)
	}
	if p.request.Name != "al\uFFFDice" || p.request.Service != "sshd" || p.request.Caller.PID != 7 {
		t.Errorf("the request is %+v", p.request)
	}
	if want := []string{"", "one", "two\x00", "", "four"}; !slices.Equal(p.answers, want) {
		t.Errorf("the answers are %q, want %q", p.answers, want)
	}
	if _, err := call.tell(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("after the end: %v", err)
	}
	_ = call.client.Close()
	<-p.closed
}

func TestTicketsAreWipedAfterwards(t *testing.T) {
	token := []byte("a ticket")
	p := play(Step{Done: &Result{Name: "alice", UID: 5000, GID: 6000, CCache: secret.Own(token)}})
	t.Run("", func(t *testing.T) {
		call := dial(t, p, 0, nil)()
		if turn, err := call.begin(authenticate("alice")); err != nil || string(turn.GetDone().GetCcache()) != "a ticket" {
			t.Errorf("%v, %v", turn, err)
		}
		_ = call.client.Close()
	}) // which ends when the server has stopped
	if string(token) != strings.Repeat("\x00", len(token)) {
		t.Errorf("the tickets are still there: %q", token)
	}
}

func TestStillAtIt(t *testing.T) {
	p := play(Step{Done: &Result{Name: "alice", UID: 5000, GID: 6000}})
	p.wait = make(chan struct{})
	call := dial(t, p, 0, func(c *Config) { c.StillAt = time.Millisecond })()
	turn, err := call.begin(authenticate("alice"))
	for range 5 {
		if err != nil || len(turn.GetLines()) > 0 || turn.GetDone() != nil {
			t.Fatalf("%v, %v", turn, err)
		}
		turn, err = call.tell()
	}
	if _, err := call.tell("nobody asked"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an answer to no question: %v", err)
	}
	close(p.wait)
	for turn.GetDone() == nil && err == nil {
		turn, err = call.tell()
	}
	if err != nil || turn.GetDone().GetName() != "alice" {
		t.Errorf("%v, %v", turn, err)
	}
}

// Whoever hangs up ends the attempt, also while the daemon is at work.
func TestHangingUpEndsTheAttempt(t *testing.T) {
	p := play()
	p.wait = make(chan struct{})
	call := dial(t, p, 0, func(c *Config) { c.StillAt = time.Millisecond })()
	if _, err := call.begin(authenticate("alice")); err != nil {
		t.Fatal(err)
	}
	_ = call.client.Close()
	if err := <-p.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the attempt was told %v", err)
	}
	<-p.closed
}

func TestTheLongestConversation(t *testing.T) {
	p := play(Step{Ask: &Prompt{Text: "Password: "}})
	call := dial(t, p, 0, func(c *Config) { c.Longest = 50 * time.Millisecond })()
	_, _ = call.begin(authenticate("alice"))
	<-p.closed
}

func TestBadCalls(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, tc := range map[string]struct {
		call func(*caller) error
		want codes.Code
	}{
		"tell first":  {func(c *caller) error { _, err := c.tell("x"); return err }, codes.FailedPrecondition},
		"no purpose":  {func(c *caller) error { _, err := c.begin(&latchkeyv1.BeginRequest{Name: []byte("x")}); return err }, codes.InvalidArgument},
		"no name":     {func(c *caller) error { _, err := c.begin(authenticate("")); return err }, codes.InvalidArgument},
		"a long name": {func(c *caller) error { _, err := c.begin(authenticate(strings.Repeat(long, 5))); return err }, codes.InvalidArgument},
		"a long service": {func(c *caller) error {
			r := authenticate("x")
			r.Service = []byte(long)
			_, err := c.begin(r)
			return err
		}, codes.InvalidArgument},
		"begin twice": {func(c *caller) error {
			_, _ = c.begin(authenticate("x"))
			_, err := c.begin(authenticate("x"))
			return err
		}, codes.FailedPrecondition},
		"too few answers": {func(c *caller) error { _, _ = c.begin(authenticate("x")); _, err := c.tell(); return err }, codes.InvalidArgument},
		"a long answer": {func(c *caller) error {
			_, _ = c.begin(authenticate("x"))
			_, err := c.tell(strings.Repeat("x", 4097))
			return err
		}, codes.InvalidArgument},
		"no such method": {func(c *caller) error {
			return c.client.Call(context.Background(), service, "Open", &latchkeyv1.TellRequest{}, &latchkeyv1.Turn{})
		}, codes.Unimplemented},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.call(dial(t, play(Step{Ask: &Prompt{Text: "Password: "}}), 0, nil)()); status.Code(err) != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

func TestOnlyRootIsLetIn(t *testing.T) {
	p := play(Step{Ask: &Prompt{Text: "Password: "}})
	if turn, err := dial(t, p, 1000, nil)().begin(authenticate("alice")); err == nil {
		t.Errorf("uid 1000 got %v", turn)
	}
	if p.request.Name != "" {
		t.Error("the attempt was begun")
	}
}

func TestAccount(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want latchkeyv1.Outcome
		name string
	}{
		{nil, latchkeyv1.Outcome_OUTCOME_SUCCESS, "alice"},
		{fault.New(fault.Denied, "no"), latchkeyv1.Outcome_OUTCOME_DENIED, ""},
		{errors.New("odd"), latchkeyv1.Outcome_OUTCOME_INTERNAL, ""},
	} {
		p := play()
		p.account = func() (*Result, []string, error) {
			return &Result{Name: "alice", UID: 5000, GID: 6000}, []string{"text"}, tc.err
		}
		turn, err := dial(t, p, 0, nil)().begin(&latchkeyv1.BeginRequest{Purpose: latchkeyv1.Purpose_PURPOSE_ACCOUNT, Name: []byte("alice")})
		if err != nil || turn.GetDone().GetOutcome() != tc.want || turn.GetDone().GetName() != tc.name || turn.GetLines()[0].GetText() != "text" {
			t.Errorf("%v: %v, %v", tc.err, turn, err)
		}
	}
}

// Why a password is not changed is said in words, where passwd(1) has none.
func TestPasswordThatIsNotChanged(t *testing.T) {
	for kind, want := range map[fault.Kind]string{fault.BadCredential: "current password is wrong", fault.Locked: "too many", fault.Unreachable: "does not answer"} {
		p := play()
		p.err = fault.New(kind, "no")
		call := dial(t, p, 0, nil)()
		if _, err := call.begin(&latchkeyv1.BeginRequest{Purpose: latchkeyv1.Purpose_PURPOSE_PASSWORD_CHANGE, Name: []byte("alice")}); err != nil {
			t.Fatal(err)
		}
		turn, err := call.tell("old", "new", "new")
		if err != nil || len(turn.GetLines()) != 1 || !strings.Contains(turn.GetLines()[0].GetText(), want) {
			t.Errorf("%s: %v, %v", kind, turn, err)
		}
	}
}

// Two hundred people at once, each on a connection of their own.
func TestManyAtOnce(t *testing.T) {
	var many multitude
	connect := dial(t, &many, 0, nil)
	var all sync.WaitGroup
	for range 200 {
		c := connect()
		all.Go(func() {
			if turn, err := c.begin(authenticate("x")); err != nil || turn.GetLines() == nil {
				t.Errorf("begin: %v, %v", turn, err)
			}
			if turn, err := c.tell("secret"); err != nil || turn.GetDone().GetOutcome() != latchkeyv1.Outcome_OUTCOME_BAD_CREDENTIAL {
				t.Errorf("tell: %v, %v", turn, err)
			}
			_ = c.client.Close()
		})
	}
	all.Wait()
}

// multitude gives everybody an attempt of their own.
type multitude struct{ played }

func (*multitude) Begin(Request) Conversation {
	p := play(Step{Ask: &Prompt{Text: "Password: "}})
	p.err = fault.New(fault.BadCredential, "wrong")
	return p
}
