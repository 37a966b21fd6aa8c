// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/netlogon/ntlmtest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// dial connects to a socket of the NAS, as root.
func (s *story) dial(socket string, options ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	cc, err := grpc.NewClient(fmt.Sprintf("unix:/proc/%d/root/run/latchkey/%s", s.nas.PID(), socket),
		append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cc.Close() })
	return cc
}

// verify asks about the NTLMv2 answer of a client that typed the names.
func (s *story) verify(c latchkeyv1.LoginServiceClient, domain, name, password string) (*latchkeyv1.VerifyNTLMResponse, ntlmtest.Answer, error) {
	a := ntlmtest.New(domain, name, password, ntlmtest.Info(s.domain.NetBIOS, "NAS1"))
	r, err := c.VerifyNTLM(s.ctx, &latchkeyv1.VerifyNTLMRequest{Domain: domain, Name: name, Workstation: "DESK", Challenge: a.Challenge[:],
		NtResponse: a.NT, LmResponse: a.LM, Parameters: 0x820, RemoteHost: "192.0.2.7"})
	return r, a, err
}

func (s *story) wantCode(what string, err error, want codes.Code) {
	s.t.Helper()
	if got := grpcstatus.Code(err); got != want {
		s.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// recorded waits for the audit to say what matches of somebody: it is written
// after the answer.
func (s *story) recorded(who, pattern string) {
	s.t.Helper()
	s.waitFor("the audit says "+pattern+" of "+who, func() bool {
		r, err := s.nas.Run(s.ctx, "sh", "-c", "grep -e '"+who+"' /var/log/latchkey/audit.jsonl | grep -q -e '"+pattern+"'")
		return err == nil && r.Ok()
	})
}

// A program that speaks NTLM itself has an answer checked: the row is the one
// that everybody else knows, and the key is the client's own.
func TestVerifyNTLM(t *testing.T) {
	s := begin(t, lab.Population{Users: 200, Groups: 40})
	api := latchkeyv1.NewLoginServiceClient(s.dial("api.sock"))
	if _, _, err := s.verify(api, "AADDSCONTOSO", "user00001", lab.UserPassword(1)); grpcstatus.Code(err) == codes.OK {
		t.Error("before the join somebody was let in")
	}
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	s.try(s.nas.UseNSS(s.ctx))
	for _, u := range []lab.User{{Name: "jörg.müller", UPN: "Jörg.Müller@contoso.test", Password: "Grüße-42-€uro"}, {Name: "nohash1", Password: "Passw0rd!Lab"}, {Name: "nohash2", Password: "Passw0rd!Lab"}, {Name: "off", Password: "Passw0rd!Lab", Disabled: true}} {
		if _, err := s.domain.AddUser(s.ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	s.try(errors.Join(s.domain.RandomNTHash(s.ctx, "nohash1"), s.domain.RandomNTHash(s.ctx, "nohash2")))
	s.cli(0, "sync")

	// No NTLM hashes in the domain: refused by NTLM, taken by Kerberos, and the
	// reason is in the status and in the audit.
	for _, name := range []string{"nohash1", "nohash2"} {
		_, _, err := s.verify(api, s.domain.NetBIOS, name, "Passw0rd!Lab")
		s.wantCode("no NTLM hash", err, codes.Unauthenticated)
		s.login(0, name, "Passw0rd!Lab", "--service", "web")
	}
	if st := s.status(); len(st.Problems) != 1 || st.Problems[0].ID != "ntlm-hash" {
		t.Errorf("status: %+v, want that hashes are missing", st.Problems)
	}
	_, _, err := s.verify(api, s.domain.NetBIOS, "nohash1", "Passw0rd!Lab")
	s.wantCode("no NTLM hash", err, codes.Unauthenticated)
	s.recorded("nohash1", "ntlm-hash")

	uid := s.sh("id -u user00001")
	gids := len(strings.Fields(s.sh("id -G user00001")))
	for _, form := range [][2]string{{s.domain.NetBIOS, "user00001"}, {strings.ToLower(s.domain.NetBIOS), "USER00001"}, {"", "user00001"}, {s.domain.DNS, "user00001"}, {"", "user00001@contoso.test"}} {
		r, a, err := s.verify(api, form[0], form[1], lab.UserPassword(1))
		if err != nil {
			t.Errorf(`%s\%s: %v`, form[0], form[1], err)
			continue
		}
		in := r.GetSession()
		if strconv.Itoa(int(in.GetUser().GetUid())) != uid || len(in.GetGids()) != gids || in.GetHow() != latchkeyv1.Session_HOW_NTLM || !bytes.Equal(r.GetSessionKey(), a.Key[:]) {
			t.Errorf(`%s\%s: uid %d, %d groups, %v, want uid %s and %d groups, by NTLM, with the client's key`, form[0], form[1], in.GetUser().GetUid(), len(in.GetGids()), in.GetHow(), uid, gids)
		}
	}
	if _, _, err := s.verify(api, s.domain.NetBIOS, "jörg.müller", "Grüße-42-€uro"); err != nil {
		t.Errorf("not ASCII: %v", err)
	}

	// Wrong, unknown and of another domain are the same to a stranger.
	_, _, wrong := s.verify(api, s.domain.NetBIOS, "user00002", "wrong")
	s.wantCode("a wrong password", wrong, codes.Unauthenticated)
	_, _, unknown := s.verify(api, s.domain.NetBIOS, "nobody-of-that-name", "x")
	s.wantCode("unknown", unknown, codes.Unauthenticated)
	if grpcstatus.Convert(wrong).Message() != grpcstatus.Convert(unknown).Message() {
		t.Errorf("a stranger learns the difference between %q and %q", wrong, unknown)
	}
	if st := s.status(); len(st.Problems) > 0 {
		t.Errorf("status: %+v, though people signed in by NTLM", st.Problems)
	}
	_, _, err = s.verify(api, "ELSEWHERE", "user00001", lab.UserPassword(1))
	s.wantCode("of another domain", err, codes.Unauthenticated)
	if n := s.count("user00002"); n != "1" {
		t.Errorf("the domain counted %s wrong passwords, want 1", n)
	}
	_, _, err = s.verify(api, s.domain.NetBIOS, "off", "Passw0rd!Lab")
	if grpcstatus.Code(err) == codes.OK {
		t.Error("a disabled account was let in")
	}
	// NTLMv1 is refused before anybody is asked. The stranger learns nothing; the
	// audit knows.
	challenge, nt := ntlmtest.MSCHAPv2("user00004", lab.UserPassword(4), [16]byte{1}, [16]byte{2})
	old := &latchkeyv1.VerifyNTLMRequest{Domain: s.domain.NetBIOS, Name: "user00004", Challenge: challenge[:], NtResponse: nt}
	_, err = api.VerifyNTLM(s.ctx, old)
	s.wantCode("NTLMv1", err, codes.Unauthenticated)
	old.Parameters = 0x10000
	_, err = api.VerifyNTLM(s.ctx, old)
	s.wantCode("MS-CHAPv2, not allowed", err, codes.Unauthenticated)
	if n := s.count("user00004"); n != "0" {
		t.Errorf("the domain was asked: it counted %s", n)
	}
	s.recorded("user00004", "NTLMv1 is never allowed")
	s.recorded("user00004", "MS-CHAPv2 is not allowed")

	// The rules of the service samba hold.
	s.cli(0, "access", "deny", "samba", "user00005")
	_, _, err = s.verify(api, s.domain.NetBIOS, "user00005", lab.UserPassword(5))
	s.wantCode("denied", err, codes.PermissionDenied)
	s.recorded("user00005", `"outcome":"refused".*"how":"ntlm"`)

	// The machine's key is changed under the channel.
	change, err := latchkeyv1.NewMachineServiceClient(s.dial("admin.sock")).RotateMachineKey(s.ctx, &latchkeyv1.RotateMachineKeyRequest{})
	for err == nil {
		_, err = change.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the rotation: %v", err)
	}
	if _, _, err := s.verify(api, s.domain.NetBIOS, "user00001", lab.UserPassword(1)); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	// And the domain controller is restarted.
	s.try(s.domain.DC.Restart(s.ctx))
	if _, _, err := s.verify(api, s.domain.NetBIOS, "user00001", lab.UserPassword(1)); err != nil {
		t.Errorf("after a restart of the domain controller: %v", err)
	}
	// NTLM is switched off in the domain: said, until somebody gets in again.
	_, err = s.domain.DC.Output(s.ctx, "sed", "-i", "s/ntlm auth = .*/ntlm auth = disabled/", "/etc/samba/smb.conf")
	s.try(errors.Join(err, s.domain.DC.Restart(s.ctx)))
	_, _, err = s.verify(api, s.domain.NetBIOS, "user00001", lab.UserPassword(1))
	if grpcstatus.Code(err) == codes.OK {
		t.Error("somebody was let in by NTLM, which is switched off")
	}
	s.waitFor("the mirror goes on", func() bool { s.cli(0, "sync"); return true })
	if st := s.status(); len(st.Problems) != 1 || st.Problems[0].ID != "ntlm" || !strings.Contains(st.Problems[0].Summary, "NTLM is blocked") {
		t.Errorf("status: %+v, want that NTLM is blocked", st.Problems)
	}
	_, err = s.domain.DC.Output(s.ctx, "sed", "-i", "s/ntlm auth = .*/ntlm auth = ntlmv2-only/", "/etc/samba/smb.conf")
	s.try(errors.Join(err, s.domain.DC.Restart(s.ctx)))
	if _, _, err := s.verify(api, s.domain.NetBIOS, "user00001", lab.UserPassword(1)); err != nil {
		t.Errorf("switched on again: %v", err)
	}

	// The machine's password is changed by somebody else. The channel that is open
	// goes on; the next one cannot be opened, and the reason is said.
	s.try(s.domain.SetPassword(s.ctx, "NAS1$", "Somebody-elses-Passw0rd"))
	if _, _, err := s.verify(api, s.domain.NetBIOS, "user00001", lab.UserPassword(1)); err != nil {
		t.Errorf("over the channel that was open: %v", err)
	}
	s.try(s.domain.DC.Restart(s.ctx))
	_, _, err = s.verify(api, s.domain.NetBIOS, "user00001", lab.UserPassword(1))
	s.wantCode("with a password that is not the domain's", err, codes.Unavailable)
	if st := s.status(); !slices.ContainsFunc(st.Problems, func(p struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	}) bool {
		return p.ID == "ntlm" && strings.Contains(p.Summary, "does not accept the password of the account NAS1$")
	}) {
		t.Errorf("status: %+v, want that the machine's password is not the domain's", st.Problems)
	}

	s.try(s.domain.DC.Stop(s.ctx))
	_, _, err = s.verify(api, s.domain.NetBIOS, "user00001", lab.UserPassword(1))
	s.wantCode("no domain controller", err, codes.Unavailable)
}
