// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// kept is what is stored of a verifier, as far as tests look.
type kept struct {
	At   time.Time `json:"at"`
	Salt string    `json:"salt"`
	Hash string    `json:"hash"`
}

// theVerifier returns the one verifier there is, once what waits is written.
func (w *world) theVerifier() (v kept) {
	w.t.Helper()
	w.login.KeepAll()
	n := 0
	if err := w.store.Notes(w.t.Context(), "login.verifier", func(_ string, value []byte) bool {
		n++
		if err := json.Unmarshal(value, &v); err != nil {
			w.t.Fatal(err)
		}
		return true
	}); err != nil {
		w.t.Fatal(err)
	}
	if n != 1 {
		w.t.Fatalf("%d verifiers, want 1", n)
	}
	return v
}

func (w *world) in(password string) {
	w.t.Helper()
	if _, err := w.try("alice", password); err != nil {
		w.t.Fatal(err)
	}
}

// A verifier that is known to be of the password that was typed is not made
// again: only its date follows, so that the age limit counts from the last
// success.
func TestVerifierOfTheSamePasswordIsNotMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	w.in("wonder land")
	first := w.theVerifier()
	w.in("wonder land")
	if got := w.theVerifier(); got != first {
		t.Errorf("at once again: %+v, want %+v", got, first)
	}
	w.clock.Store(int64(2 * time.Hour))
	w.in("wonder land")
	later := w.theVerifier()
	if later.Salt != first.Salt || later.Hash != first.Hash || later.At.Sub(first.At) < 2*time.Hour-time.Minute {
		t.Errorf("two hours later: %+v, want the same with a new date: %+v", later, first)
	}
	w.clock.Store(int64(25 * time.Hour))
	w.in("wonder land")
	if got := w.theVerifier(); got.Salt == first.Salt || got.Hash == first.Hash {
		t.Error("a day later the verifier is still the same")
	}
	// Whoever starts knows nothing of what was made before.
	was := w.theVerifier()
	w.restart()
	w.in("wonder land")
	if got := w.theVerifier(); got.Salt == was.Salt {
		t.Error("after a restart the verifier was taken for current")
	}
}

// A changed password replaces the verifier, also while the directory does not
// tell of the change yet.
func TestChangedPasswordReplacesTheVerifierAtOnce(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	w.in("wonder land")
	first := w.theVerifier()
	w.kdc.Change(func() { w.alice.Password = "another one" }) // pwdLastSet as before
	w.in("another one")
	if got := w.theVerifier(); got.Salt == first.Salt || got.Hash == first.Hash {
		t.Fatal("the verifier of the old password is still there")
	}
	w.down.Store(true)
	w.restart()
	_, err := w.try("alice", "wonder land")
	wantKind(t, "the old password, offline", err, fault.BadCredential)
	if r, err := w.try("alice", "another one"); err != nil || r.How != login.ByOffline {
		t.Errorf("the new password, offline: %+v, %v", r, err)
	}
}

// A verifier that was deleted is made again, whatever is remembered of it.
func TestDeletedVerifierIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	w.in("wonder land")
	w.theVerifier()
	w.settings.Store(&login.Settings{})
	if err := w.login.Sweep(t.Context()); err != nil || w.verifiers() != 0 {
		t.Fatalf("%d verifiers, %v", w.verifiers(), err)
	}
	w.settings.Store(&login.Settings{Offline: true})
	w.in("wonder land")
	w.theVerifier()
}

// Who is offline the moment after a success does not wait for a calm moment
// that has yet to come.
func TestVerifierThatWaitsIsMadeWhenItIsNeeded(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	defer w.login.Enter()() // somebody signs in all the time
	w.in("wonder land")
	if n := w.verifiers(); n != 0 {
		t.Fatalf("%d verifiers while somebody signs in", n)
	}
	w.down.Store(true)
	if r, err := w.try("alice", "wonder land"); err != nil || r.How != login.ByOffline {
		t.Errorf("offline: %+v, %v", r, err)
	}
}

// A verifier that waits is not written once offline sign-in is switched off.
func TestVerifierThatWaitsIsNotWrittenOnceItIsSwitchedOff(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	leave := w.login.Enter()
	w.in("wonder land")
	w.settings.Store(&login.Settings{})
	leave()
	w.login.KeepAll()
	if n := w.verifiers(); n != 0 {
		t.Errorf("%d verifiers", n)
	}
}

// refresher plays a mirror that calls f at each read.
type refresher struct {
	*world
	f func()
}

func (r refresher) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	r.f()
	return r.world.RefreshOne(ctx, key)
}

// The row is read beside the KDC only for the password that the KDC took last.
// Another one, as a stranger's guess, has to be taken first.
func TestRowIsReadBesideTheKDCForAKnownPassword(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	var read chan struct{} // closed at a read; the KDC does not answer before
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if read != nil {
			select {
			case <-read:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return w.kdc.Dial(ctx, network, address)
	}
	w.domain.KDC = kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(netip.MustParseAddr("192.0.2.1")), Dial: dial})
	w.domain.Refresh = refresher{w, func() {
		if read != nil {
			close(read)
		}
	}}
	_, err := w.try("alice", "a guess")
	wantKind(t, "a guess", err, fault.BadCredential)
	if n := w.reads.Load(); n != 0 {
		t.Errorf("a guess made %d reads of the directory", n)
	}
	w.in("wonder land")
	if n := w.reads.Load(); n != 1 {
		t.Fatalf("%d reads of the directory, want 1", n)
	}
	read = make(chan struct{})
	w.in("wonder land") // would fail, if the KDC had to answer first
	if n := w.reads.Load(); n != 2 {
		t.Errorf("%d reads of the directory, want one for each sign-in", n)
	}
}

// However early the row is asked for, the decision waits for what is read.
func TestDecisionWaitsForTheReadThatThisAttemptBegan(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.in("wonder land")
	w.kdc.Requests() // forgets them
	asked, answer := make(chan struct{}), make(chan struct{})
	w.domain.Refresh = refresher{w, func() { close(asked); <-answer }}
	release := sync.OnceFunc(func() { close(answer) })
	defer release()
	w.change = func(u *identity.User) { u.State |= identity.Disabled }
	done := make(chan error, 1)
	go func() {
		_, err := w.login.Authenticate(context.WithoutCancel(t.Context()), login.Request{Name: "alice", Service: "sshd", Door: "test"}, secret.FromString("wonder land"))
		done <- err
	}()
	<-asked
	for asked := 0; asked < 3; asked += len(w.kdc.Requests()) { // AS twice, and TGS
		select {
		case err := <-done:
			t.Fatalf("decided before the row was read: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case err := <-done:
		t.Fatalf("decided before the row was read: %v", err)
	default:
	}
	release()
	wantKind(t, "disabled a moment ago", <-done, fault.Disabled)
}
