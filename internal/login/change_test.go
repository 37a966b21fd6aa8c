// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestPasswordOfEntraIsChangedThere(t *testing.T) {
	w := newWorld(t)
	url, here, err := w.login.PasswordPlace(t.Context(), "bob")
	if here || url != "https://password.example.test" || err != nil {
		t.Errorf("bob: %q, %v, %v", url, here, err)
	}
	if _, here, err := w.login.PasswordPlace(t.Context(), "alice"); !here || err != nil {
		t.Errorf("alice: %v, %v", here, err)
	}
	texts, err := w.login.ChangePassword(t.Context(), login.Request{Name: "bob"}, secret.FromString("a"), secret.FromString("b"))
	wantKind(t, "bob", err, fault.Denied)
	if len(texts) == 0 || !strings.Contains(texts[0], "https://password.example.test") {
		t.Errorf("texts %q", texts)
	}
	if n := len(w.kdc.Requests()); n != 0 {
		t.Errorf("the KDC was asked %d times", n)
	}
}

// The old password as the new one is refused here: nothing is sent, and the user
// is told.
func TestNewPasswordThatIsTheOldOneIsRefused(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.kdc.Requests() // forgets them
	texts, err := w.login.ChangePassword(t.Context(), login.Request{Name: "alice"}, secret.FromString("wonder land"), secret.FromString("wonder land"))
	wantKind(t, "passwd", err, fault.Denied)
	if len(texts) != 1 || !strings.Contains(texts[0], "the old one") {
		t.Errorf("passwd says %q", texts)
	}
	if n := len(w.kdc.Requests()); n != 0 {
		t.Errorf("%d requests went to the KDC", n)
	}
	// As sshd's password method answers every question.
	w.kdc.Change(func() { w.alice.Code, w.alice.Status = 23, uint32(kerberos.StatusMustChange) })
	c := w.login.Converse(login.Request{Name: "alice", Service: "sshd"})
	defer c.Close()
	var step login.Step
	for range 3 {
		if step, err = c.Next(t.Context(), secret.FromString("wonder land")); err != nil {
			break
		}
	}
	wantKind(t, "a sign-in that must change the password", err, fault.Denied)
	if len(step.Tell) != 1 || !strings.Contains(step.Tell[0], "the old one") {
		t.Errorf("the sign-in says %q", step.Tell)
	}
	if n := w.bad(); n != 0 {
		t.Errorf("%d bad passwords are counted", n)
	}
}

// sshd's password method has one answer to every question. Where the directory
// itself says that the password must be changed, sshd gets as far as Account, which
// has it run passwd; nobody else does, and no other way.
func TestAChangeIsPutOffForSSHAlone(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.kdc.Change(func() { w.alice.Code, w.alice.Status = 23, uint32(kerberos.StatusMustChange) })
	blindly := func(c *login.Conversation) (step login.Step, err error) {
		defer c.Close()
		for range 3 {
			if step, err = c.Next(t.Context(), secret.FromString("wonder land")); err != nil || step.Done != nil {
				break
			}
		}
		return step, err
	}
	request := login.Request{Name: "alice", Service: "sshd", Door: "pam"}
	_, err := blindly(w.login.Begin(request))
	wantKind(t, "the KDC alone says so", err, fault.Denied)

	w.change = func(u *identity.User) { u.State |= identity.MustChange }
	other := request
	other.Service = "su"
	_, err = blindly(w.login.Begin(other))
	wantKind(t, "another program", err, fault.Denied)
	_, err = blindly(w.login.Converse(request))
	wantKind(t, "a door that never asks Account", err, fault.Denied)

	step, err := blindly(w.login.Begin(request))
	if err != nil || step.Done == nil || step.Done.CCache.Len() != 0 {
		t.Fatalf("sshd's password method: %+v, %v", step, err)
	}
	_, err = w.login.Account(t.Context(), request)
	wantKind(t, "account", err, fault.MustChange)
	w.change = func(u *identity.User) { u.State &^= identity.MustChange } // by whoever it is
	_, err = w.login.Account(t.Context(), request)
	wantKind(t, "account, once the directory says otherwise", err, fault.MustChange)

	w.kdc.Change(func() { w.alice.Code, w.alice.Status = 0, 0 })
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.login.Account(t.Context(), request); err != nil {
		t.Errorf("account, after a password that the domain took: %v", err)
	}
}

// A verifier that waits to be made is no use once the password is changed.
func TestChangeForgetsAVerifierThatWaits(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	leave := w.login.Enter()
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	w.login.ForgetVerifier(w.aliceRow())
	leave()
	w.login.KeepAll()
	if n := w.verifiers(); n != 0 {
		t.Errorf("%d verifiers of a password that is no more", n)
	}
}

func (w *world) aliceRow() identity.RowID {
	w.t.Helper()
	u, err := w.store.User(w.t.Context(), identity.Key{Kind: identity.ByName, Name: "alice"})
	if err != nil {
		w.t.Fatal(err)
	}
	return u.Row
}
