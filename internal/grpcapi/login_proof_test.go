// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// talk plays a conversation: a password, and where it is "old" a new one twice.
type talk struct {
	s     *signer
	heard []string
}

func (s *signer) Converse(r login.Request) grpcapi.Conversation {
	s.asked = r
	s.talk = &talk{s: s}
	return s.talk
}

func (c *talk) Next(_ context.Context, answer secret.Bytes) (login.Step, error) {
	if len(c.heard) == 0 && answer.Len() == 0 {
		c.heard = append(c.heard, "")
		return login.Step{Ask: &login.Prompt{Text: "Password: ", Password: true}}, nil
	}
	c.heard = append(c.heard, string(answer.Reveal()))
	switch word := c.heard[len(c.heard)-1]; word {
	case "old":
		return login.Step{Tell: []string{"It must be changed."}, Ask: &login.Prompt{Text: "New password: ", New: true}}, nil
	case "wrong":
		return login.Step{Tell: []string{"Sorry."}}, fault.New(fault.BadCredential, "the truth of it")
	}
	return login.Step{Tell: []string{"soon"}, Done: c.s.result()}, nil
}

func (c *talk) Close() { c.s.closed.Add(1) }

func (s *signer) Explain(_ context.Context, r login.Request, p secret.Bytes) (*login.Explanation, error) {
	s.asked, s.password = r, string(p.Reveal())
	if s.err != nil {
		return nil, s.err
	}
	e := &login.Explanation{Steps: []login.ExplainStep{{Topic: login.TopicName, Verdict: login.VerdictOK, Text: "Alice is alice"},
		{Topic: login.TopicAccount, Verdict: login.VerdictRefused, Text: "disabled", Remedy: "enable it"}}, Proved: s.password == "pw"}
	if e.Proved {
		e.Result = s.result()
	}
	return e, nil
}

func (s *signer) VerifyNTLM(_ context.Context, r login.NTLMRequest) (*login.NTLMResult, error) {
	s.ntlm = r
	if s.err != nil {
		return nil, s.err
	}
	return &login.NTLMResult{Result: s.result(), Validation: &login.Validation{SessionKey: secret.FromString("0123456789abcdef")}}, nil
}

func (s *signer) AcceptNegotiate(_ context.Context, r login.Request, token []byte) (*login.NegotiateResult, error) {
	s.asked, s.password = r, string(token)
	if s.err != nil {
		return &login.NegotiateResult{Mechanism: "ntlm"}, s.err
	}
	return &login.NegotiateResult{Result: s.result(), Reply: []byte("reply"), Mechanism: "kerberos", SPN: "HTTP/nas", KVNO: 3, EType: 18, Skew: time.Second}, nil
}

func TestConverse(t *testing.T) {
	b := open(t, peer.Limits{})
	begin := func(password string) *latchkeyv1.ConverseRequest {
		return &latchkeyv1.ConverseRequest{Step: &latchkeyv1.ConverseRequest_Begin_{Begin: &latchkeyv1.ConverseRequest_Begin{Name: "alice", Service: "login",
			RemoteHost: "192.0.2.1", Tty: "tty1", Password: []byte(password)}}}
	}
	reply := func(s string) *latchkeyv1.ConverseRequest {
		return &latchkeyv1.ConverseRequest{Step: &latchkeyv1.ConverseRequest_Reply{Reply: []byte(s)}}
	}
	for name, tc := range map[string]struct {
		say   []*latchkeyv1.ConverseRequest
		kinds []latchkeyv1.ConverseResponse_Question_Kind // of the questions
		tell  string
		code  codes.Code
	}{
		"asked": {[]*latchkeyv1.ConverseRequest{begin(""), reply("good")},
			[]latchkeyv1.ConverseResponse_Question_Kind{latchkeyv1.ConverseResponse_Question_KIND_PASSWORD}, "soon", codes.OK},
		"known": {[]*latchkeyv1.ConverseRequest{begin("good")}, nil, "soon", codes.OK},
		"changed": {[]*latchkeyv1.ConverseRequest{begin("old"), reply("new")},
			[]latchkeyv1.ConverseResponse_Question_Kind{latchkeyv1.ConverseResponse_Question_KIND_NEW_PASSWORD}, "It must be changed. soon", codes.OK},
		"wrong": {[]*latchkeyv1.ConverseRequest{begin(""), reply("wrong")},
			[]latchkeyv1.ConverseResponse_Question_Kind{latchkeyv1.ConverseResponse_Question_KIND_PASSWORD}, "Sorry.", codes.Unauthenticated},
		"no begin":  {[]*latchkeyv1.ConverseRequest{reply("x")}, nil, "", codes.InvalidArgument},
		"two":       {[]*latchkeyv1.ConverseRequest{begin(""), begin("")}, []latchkeyv1.ConverseResponse_Question_Kind{latchkeyv1.ConverseResponse_Question_KIND_PASSWORD}, "", codes.InvalidArgument},
		"long":      {[]*latchkeyv1.ConverseRequest{begin(""), reply(strings.Repeat("x", 1025))}, []latchkeyv1.ConverseResponse_Question_Kind{latchkeyv1.ConverseResponse_Question_KIND_PASSWORD}, "", codes.InvalidArgument},
		"gone away": {[]*latchkeyv1.ConverseRequest{begin("")}, []latchkeyv1.ConverseResponse_Question_Kind{latchkeyv1.ConverseResponse_Question_KIND_PASSWORD}, "", codes.InvalidArgument},
	} {
		before := b.signer.closed.Load()
		stream, err := latchkeyv1.NewLoginServiceClient(b.dial(peer.API, root)).Converse(bg(t))
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		var kinds []latchkeyv1.ConverseResponse_Question_Kind
		var done *latchkeyv1.Session
		for i := 0; ; i++ {
			if i < len(tc.say) {
				_ = stream.Send(tc.say[i])
			} else {
				_ = stream.CloseSend()
			}
			var resp *latchkeyv1.ConverseResponse
			if resp, err = stream.Recv(); err != nil {
				break
			}
			told = append(told, resp.GetTell()...)
			if resp.GetAsk() != nil {
				kinds = append(kinds, resp.GetAsk().GetKind())
			} else if resp.GetDone() == nil { // texts before a status
				_, err = stream.Recv()
				break
			}
			if done = resp.GetDone(); done != nil {
				err = nil
				break
			}
		}
		if status.Code(err) != tc.code || strings.Join(told, " ") != tc.tell || len(kinds) != len(tc.kinds) || (done.GetUser().GetUsername() == "alice") != (tc.code == codes.OK) {
			t.Errorf("%s: %v, told %q, asked %v, done %v", name, err, told, kinds, done)
			continue
		}
		for i := range kinds {
			if kinds[i] != tc.kinds[i] {
				t.Errorf("%s: question %d is of kind %v, want %v", name, i, kinds[i], tc.kinds[i])
			}
		}
		if tc.code == codes.Unauthenticated && strings.Contains(status.Convert(err).Message(), "truth") {
			t.Errorf("%s: a stranger reads %v", name, err)
		}
		if name == "no begin" {
			continue
		}
		if a := b.signer.asked; a.Name != "alice" || a.Service != "login" || a.TTY != "tty1" || a.RemoteHost != "192.0.2.1" {
			t.Errorf("%s: the work was asked %+v", name, a)
		}
		for deadline := time.Now().Add(5 * time.Second); b.signer.closed.Load() != before+1 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if b.signer.closed.Load() != before+1 {
			t.Errorf("%s: the conversation was not closed", name)
		}
	}
}

func TestExplain(t *testing.T) {
	b := open(t, peer.Limits{})
	api, admin := latchkeyv1.NewLoginServiceClient(b.dial(peer.API, root)), latchkeyv1.NewLoginServiceClient(b.dial(peer.Admin, root))
	ask := func(c latchkeyv1.LoginServiceClient, name, password string) *latchkeyv1.ExplainResponse {
		t.Helper()
		resp, err := c.Explain(bg(t), &latchkeyv1.ExplainRequest{Name: name, Service: "sshd", Password: []byte(password)})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	truth := ask(admin, "Alice", "")
	if s := truth.GetSteps(); len(s) != 2 || s[0].GetTopic() != latchkeyv1.ExplainResponse_Step_TOPIC_NAME || s[0].GetVerdict() != latchkeyv1.ExplainResponse_Step_VERDICT_OK ||
		s[1].GetText() != "disabled" || s[1].GetRemedy() != "enable it" || s[1].GetVerdict() != latchkeyv1.ExplainResponse_Step_VERDICT_REFUSED {
		t.Errorf("an administrator is told %v", truth)
	}
	// Strangers: the same for everybody who did not prove the password.
	one, two := ask(api, "alice", ""), ask(api, "nobody", "guess")
	if one.String() != two.String() || len(one.GetSteps()) != 1 || strings.Contains(one.String(), "disabled") {
		t.Errorf("strangers are told %v and %v", one, two)
	}
	if proved := ask(api, "alice", "pw"); len(proved.GetSteps()) != 2 || proved.GetSession().GetUser().GetUsername() != "alice" {
		t.Errorf("who proved the password is told %v", proved)
	}
	if _, err := api.Explain(bg(t), &latchkeyv1.ExplainRequest{Name: "alice"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without a service: %v", err)
	}
}

func TestEveryTopicAndVerdictHasANumber(t *testing.T) {
	for _, topic := range []login.Topic{login.TopicName, login.TopicAccount, login.TopicAccess, login.TopicPassword, login.TopicBudget, login.TopicKDC,
		login.TopicOffline, login.TopicNTLM, login.TopicSignIn} {
		if grpcapi.TopicNumber(topic) == 0 {
			t.Errorf("topic %s has no number", topic)
		}
	}
	for _, verdict := range []login.Verdict{login.VerdictOK, login.VerdictWarning, login.VerdictRefused, login.VerdictUnknown, login.VerdictSkipped} {
		if grpcapi.VerdictNumber(verdict) == 0 {
			t.Errorf("verdict %s has no number", verdict)
		}
	}
}

func TestVerifyNTLM(t *testing.T) {
	b := open(t, peer.Limits{})
	c := latchkeyv1.NewLoginServiceClient(b.dial(peer.API, root))
	req := func() *latchkeyv1.VerifyNTLMRequest {
		return &latchkeyv1.VerifyNTLMRequest{Domain: "CONTOSO", Name: "Alice", Workstation: "PC", Challenge: []byte("12345678"), NtResponse: []byte("response"),
			LmResponse: []byte("lm"), Parameters: 7, RemoteHost: "192.0.2.1"}
	}
	got, err := c.VerifyNTLM(bg(t), req())
	if err != nil || string(got.GetSessionKey()) != "0123456789abcdef" || got.GetSession().GetUser().GetUsername() != "alice" {
		t.Fatalf("%v, %v", got, err)
	}
	n := b.signer.ntlm
	if n.Domain != "CONTOSO" || n.Name != "Alice" || n.Workstation != "PC" || n.Service != "samba" || n.RemoteHost != "192.0.2.1" || string(n.Challenge[:]) != "12345678" || n.Parameters != 7 {
		t.Errorf("the work was asked %+v", n)
	}
	for what, change := range map[string]func(*latchkeyv1.VerifyNTLMRequest){
		"short challenge": func(r *latchkeyv1.VerifyNTLMRequest) { r.Challenge = []byte("1234567") },
		"no response":     func(r *latchkeyv1.VerifyNTLMRequest) { r.NtResponse = nil },
		"long response":   func(r *latchkeyv1.VerifyNTLMRequest) { r.NtResponse = make([]byte, 64<<10+1) },
		"long domain":     func(r *latchkeyv1.VerifyNTLMRequest) { r.Domain = strings.Repeat("x", 256) },
		"a path":          func(r *latchkeyv1.VerifyNTLMRequest) { r.Service = "../x" },
		"no name":         func(r *latchkeyv1.VerifyNTLMRequest) { r.Name = "" },
	} {
		r := req()
		change(r)
		if _, err := c.VerifyNTLM(bg(t), r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.signer.err = fault.New(fault.NotFound, "the truth of it")
	if _, err := c.VerifyNTLM(bg(t), req()); status.Code(err) != codes.Unauthenticated || strings.Contains(err.Error(), "truth") {
		t.Errorf("a stranger is told %v", err)
	}
}

func TestAcceptNegotiate(t *testing.T) {
	b := open(t, peer.Limits{})
	c := latchkeyv1.NewLoginServiceClient(b.dial(peer.API, root))
	got, err := c.AcceptNegotiate(bg(t), &latchkeyv1.AcceptNegotiateRequest{Token: []byte("token"), RemoteHost: "192.0.2.1"})
	if err != nil || string(got.GetReply()) != "reply" || got.GetServicePrincipal() != "HTTP/nas" || got.GetKeyVersion() != 3 || got.GetEncryptionType() != 18 ||
		got.GetClockSkew().AsDuration() != time.Second || got.GetSession().GetUser().GetUsername() != "alice" || got.GetMechanism() != "kerberos" {
		t.Errorf("%v, %v", got, err)
	}
	if b.signer.asked.Service != "web" || b.signer.password != "token" {
		t.Errorf("the work was asked %+v, %q", b.signer.asked, b.signer.password)
	}
	for what, token := range map[string][]byte{"empty": nil, "long": make([]byte, 64<<10+1)} {
		if _, err := c.AcceptNegotiate(bg(t), &latchkeyv1.AcceptNegotiateRequest{Token: token}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.signer.err = fault.New(fault.BadCredential, "the truth of it")
	if _, err := c.AcceptNegotiate(bg(t), &latchkeyv1.AcceptNegotiateRequest{Token: []byte("token")}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("refused: %v", err)
	}
}

func TestWrongPasswordsAreBoundedByCallerAndTarget(t *testing.T) {
	b := open(t, peer.Limits{})
	api, admin := latchkeyv1.NewLoginServiceClient(b.dial(peer.API, root)), latchkeyv1.NewLoginServiceClient(b.dial(peer.Admin, root))
	try := func(c latchkeyv1.LoginServiceClient, name string) codes.Code {
		_, err := c.Authenticate(bg(t), &latchkeyv1.AuthenticateRequest{Name: name, Service: "sshd", Password: []byte("x")})
		return status.Code(err)
	}
	for range 50 { // successes are not bounded
		if code := try(api, "alice"); code != codes.OK {
			t.Fatal(code)
		}
	}
	b.signer.err = fault.New(fault.BadCredential, "no")
	for i := range 25 {
		want := codes.Unauthenticated
		if i >= 20 {
			want = codes.ResourceExhausted
		}
		if code := try(api, []string{"alice", "ALICE"}[i%2]); code != want {
			t.Fatalf("try %d: %v, want %v", i, code, want)
		}
	}
	if code := try(api, "bob"); code != codes.Unauthenticated {
		t.Errorf("another name: %v", code)
	}
	if code := try(admin, "alice"); code != codes.Unauthenticated {
		t.Errorf("an administrator: %v", code)
	}
	for i := range 400 {
		_ = try(api, "name"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	if code := try(api, "fresh"); code != codes.ResourceExhausted {
		t.Errorf("after 300 of one caller: %v", code)
	}
}
