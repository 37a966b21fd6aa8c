// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/lab"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// converse answers the questions of one sign-in, and returns what was asked and
// told, and who is let in.
func (s *story) converse(c latchkeyv1.LoginServiceClient, name, service string, answers ...string) (said []string, in *latchkeyv1.Session, err error) {
	s.t.Helper()
	stream, err := c.Converse(s.ctx)
	if err != nil {
		return nil, nil, err
	}
	next := &latchkeyv1.ConverseRequest{Step: &latchkeyv1.ConverseRequest_Begin_{Begin: &latchkeyv1.ConverseRequest_Begin{Name: name, Service: service, RemoteHost: "192.0.2.8"}}}
	for {
		if err := stream.Send(next); err != nil {
			_, err = stream.Recv()
			return said, nil, err
		}
		r, err := stream.Recv()
		if err != nil {
			return said, nil, err
		}
		said = append(said, r.GetTell()...)
		if r.GetDone() != nil {
			return said, r.GetDone(), nil
		}
		if r.GetAsk() == nil { // texts before a status
			_, err := stream.Recv()
			return said, nil, err
		}
		said = append(said, r.GetAsk().GetText())
		if len(answers) == 0 {
			s.t.Fatalf("%s: %q is asked, and there are no more answers", name, r.GetAsk().GetText())
		}
		next = &latchkeyv1.ConverseRequest{Step: &latchkeyv1.ConverseRequest_Reply{Reply: []byte(answers[0])}}
		answers = answers[1:]
	}
}

// message is what a refusal has for the person to read.
func message(err error) string {
	for _, d := range grpcstatus.Convert(err).Details() {
		if m, ok := d.(*errdetails.LocalizedMessage); ok {
			return m.GetMessage()
		}
	}
	return ""
}

// An app with a person at hand signs them in by questions and answers, a password
// that has to be changed included, and can tell them why not.
func TestLoginServiceOfApps(t *testing.T) {
	s := begin(t, lab.Population{Users: 200, Groups: 40})
	api := latchkeyv1.NewLoginServiceClient(s.dial("api.sock"))
	_, _, err := s.converse(api, "user00001", "photos", "x")
	s.wantCode("before the join", err, codes.Unavailable)
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	const old, renewed = "Passw0rd!Lab", "N3w-Passw0rd!"
	ordinary := map[string][][]byte{"userAccountControl": lab.Text("512")} // without "never expires"
	for _, u := range []lab.User{{Name: "stale", Mail: "Stale.Bread@wonder.test", Nick: "bread", Password: old, Attrs: ordinary}, {Name: "off", Password: old, Disabled: true}} {
		if _, err := s.domain.AddUser(s.ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	s.try(s.domain.MustChange(s.ctx, "stale"))
	s.cli(0, "sync")

	_, _, err = s.converse(api, "user00001", "photos", lab.UserPassword(1))
	s.wantCode("a service that nobody opened", err, codes.PermissionDenied)
	s.cli(0, "access", "allow", "photos", "*")
	said, in, err := s.converse(api, "USER00001@contoso.test", "photos", lab.UserPassword(1))
	if err != nil || in.GetUser().GetUsername() != "user00001" || in.GetHow() != latchkeyv1.Session_HOW_KERBEROS || strings.Join(said, "|") != "Password: " {
		t.Errorf("%q, %v, %v", said, in, err)
	}
	for _, who := range []struct{ name, password string }{{"user00001", "wrong"}, {"nobody-at-all", "x"}, {"off", "wrong"}} {
		_, _, err := s.converse(api, who.name, "photos", who.password)
		s.wantCode(who.name, err, codes.Unauthenticated)
	}

	said, in, err = s.converse(api, "stale", "photos", old, renewed, renewed)
	if err != nil || in.GetUser().GetUsername() != "stale" || !strings.Contains(strings.Join(said, "|"), "Your password must be changed.|New password: |Retype new password: |The password is changed.") {
		t.Errorf("a password that has to be changed: %q, %v, %v", said, in, err)
	}
	if _, err := api.Authenticate(s.ctx, &latchkeyv1.AuthenticateRequest{Name: "stale", Password: []byte(renewed), Service: "photos"}); err != nil {
		t.Errorf("with the new password: %v", err)
	}

	// By the name at the tenant's first domain always, by the mail address where
	// the configuration says so.
	as := func(name string) error {
		r, err := api.Authenticate(s.ctx, &latchkeyv1.AuthenticateRequest{Name: name, Password: []byte(renewed), Service: "photos"})
		if err == nil && r.GetSession().GetUser().GetUsername() != "stale" {
			t.Errorf("%s is %v", name, r.GetSession().GetUser())
		}
		return err
	}
	s.wantCode("the first domain", as("Bread@contoso.onmicrosoft.com"), codes.OK)
	s.wantCode("the mail address", as("stale.bread@wonder.test"), codes.Unauthenticated)
	s.cli(0, "config", "set", "login.alternate_id", "true")
	s.wantCode("the mail address, now", as("stale.bread@wonder.test"), codes.OK)

	_, err = api.ChangePassword(s.ctx, &latchkeyv1.ChangePasswordRequest{Name: "stale", OldPassword: []byte("wrong"), NewPassword: []byte(old)})
	s.wantCode("a wrong old password", err, codes.Unauthenticated)
	var changed *latchkeyv1.ChangePasswordResponse
	if changed, err = api.ChangePassword(s.ctx, &latchkeyv1.ChangePasswordRequest{Name: "user00002", OldPassword: []byte(lab.UserPassword(2)), NewPassword: []byte(renewed)}); err == nil {
		t.Errorf("the password of a person of Entra ID was changed: %v", changed)
	}
	s.wantCode("a person of Entra ID", err, codes.PermissionDenied)
	if text := message(err); !strings.Contains(text, "kept in Microsoft Entra ID") {
		t.Errorf("a person of Entra ID reads %q", text)
	}
	_, err = api.ChangePassword(s.ctx, &latchkeyv1.ChangePasswordRequest{Name: "stale", OldPassword: []byte(renewed), NewPassword: []byte("short")})
	s.wantCode("a password that the domain refuses", err, codes.PermissionDenied)
	if message(err) == "" {
		t.Error("nobody reads what the domain asks of a password")
	}

	// Why not: everything with the right password, nothing without.
	explain := func(name, password string) *latchkeyv1.ExplainResponse {
		t.Helper()
		r, err := api.Explain(s.ctx, &latchkeyv1.ExplainRequest{Name: name, Service: "sshd", Password: []byte(password)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if one, two := explain("off", "wrong").String(), explain("nobody-at-all", "wrong").String(); one != two {
		t.Errorf("strangers can tell them apart: %s and %s", one, two)
	}
	var text string
	for _, step := range explain("stale", renewed).GetSteps() {
		text += step.GetText() + "\n"
	}
	if !strings.Contains(text, "sshd is closed to every domain user") {
		t.Errorf("explained as\n%s", text)
	}

	// Twenty wrong ones of a name, and the app has to wait; another one goes on.
	for range 25 {
		_, err = api.Authenticate(s.ctx, &latchkeyv1.AuthenticateRequest{Name: "user00003", Password: []byte("wrong"), Service: "photos"})
	}
	s.wantCode("the 25th wrong password", err, codes.ResourceExhausted)
	if n := s.count("user00003"); n != "1" {
		t.Errorf("the domain counted %s, want 1", n)
	}
	if _, err = api.Authenticate(s.ctx, &latchkeyv1.AuthenticateRequest{Name: "user00004", Password: []byte(lab.UserPassword(4)), Service: "photos"}); err != nil {
		t.Errorf("another person: %v", err)
	}
	for _, file := range []string{"/var/log/latchkey/audit.jsonl", "/var/log/latchkeyd.log", "/var/lib/latchkey/latchkey.db"} {
		if n := s.sh("grep -c -a -F -e '" + old + "' -e '" + renewed + "' " + file + " || true"); n != "0" {
			t.Errorf("%s lines of %s hold a password", n, file)
		}
	}
}
