// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	libpam "github.com/msteinert/pam/v2"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// signedIn is a box in which alice has authenticated, and no more.
func signedIn(t *testing.T, p *people) (*box, *libpam.Transaction, string) {
	t.Helper()
	b := newBox(t)
	if p.tickets == nil {
		p.tickets = []byte("tickets")
	}
	b.serve(t, p)
	b.service(t, testModule(t, plain))
	tx := b.start(t, "alice", &user{answers: []string{password, password, password}})
	if err := tx.Authenticate(0); err != nil {
		t.Fatal(err)
	}
	token := tx.GetEnv("LATCHKEY_CCACHE")
	if token == "" {
		t.Fatal("there are no tickets")
	}
	return b, tx, token
}

func (b *box) nothingLeft(t *testing.T, tx *libpam.Transaction) {
	t.Helper()
	if got := append(files(t, b.path("stash")), files(t, b.path("ccaches"))...); len(got) > 0 {
		t.Errorf("there is still %q", got)
	}
	if a, b := tx.GetEnv("LATCHKEY_CCACHE"), tx.GetEnv("KRB5CCNAME"); a != "" || b != "" {
		t.Errorf("the environment has %q and %q", a, b)
	}
}

// What authenticate did in a process that is gone, setcred finds by the PAM
// environment alone, as with sshd's keyboard-interactive.
func TestTicketsCrossProcesses(t *testing.T) {
	b, tx, token := signedIn(t, &people{})
	other := b.start(t, "alice", &user{})
	if err := other.PutEnv("LATCHKEY_CCACHE=" + token); err != nil {
		t.Fatal(err)
	}
	if err := tx.PutEnv("LATCHKEY_CCACHE"); err != nil {
		t.Fatal(err)
	}
	if err := other.SetCred(libpam.EstablishCred); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(other.GetEnv("KRB5CCNAME"), "FILE:")
	if got, err := os.ReadFile(path); err != nil || string(got) != "tickets" {
		t.Errorf("%s: %q, %v", path, got, err)
	}
	if err := other.SetCred(libpam.DeleteCred); err != nil {
		t.Error(err)
	}
	b.nothingLeft(t, other)
}

// sudo asks for alice's password and goes on as root, or as bob.
func TestTicketsAreForTheirOwnerOnly(t *testing.T) {
	for _, name := range []string{"root", "bob"} {
		t.Run(name, func(t *testing.T) {
			b, tx, _ := signedIn(t, &people{})
			if err := tx.SetItem(libpam.User, name); err != nil {
				t.Fatal(err)
			}
			t.Setenv("LATCHKEY_TEST_UID", strconv.Itoa(int(alice.UID)+1))
			_ = tx.SetCred(libpam.EstablishCred)
			b.nothingLeft(t, tx)
		})
	}
}

func TestTicketsOfWhoIsNotLetIn(t *testing.T) {
	b, tx, _ := signedIn(t, &people{account: fault.New(fault.Denied, "not for you")})
	if err := tx.AcctMgmt(0); err == nil {
		t.Fatal("the account was let in")
	}
	b.nothingLeft(t, tx)
}

func TestTicketsOfASecondTry(t *testing.T) {
	b, tx, first := signedIn(t, &people{})
	if err := tx.Authenticate(0); err != nil {
		t.Fatal(err)
	}
	if second := tx.GetEnv("LATCHKEY_CCACHE"); second == first || len(files(t, b.path("stash"))) != 1 {
		t.Errorf("after %s there is %s, among %q", first, second, files(t, b.path("stash")))
	}
}

func TestForgottenTicketsAreSwept(t *testing.T) {
	b, tx, first := signedIn(t, &people{})
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(b.path("stash/"+first), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path("stash/keep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tx.PutEnv("LATCHKEY_CCACHE"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Authenticate(0); err != nil {
		t.Fatal(err)
	}
	if got := files(t, b.path("stash")); len(got) != 2 || got[0] == first || got[1] == first {
		t.Errorf("in the stash: %q", got)
	}
}

// A user can write the PAM environment (pam_env reads a file in the home
// directory), and plant what he likes where he can write.
func TestForgedTokens(t *testing.T) {
	for name, value := range map[string]string{
		"a path":       "../../../../etc/passwd",
		"absolute":     "/etc/passwd",
		"upper case":   strings.Repeat("A", 32),
		"too long":     strings.Repeat("a", 33),
		"unknown":      strings.Repeat("a", 32),
		"a link":       strings.Repeat("b", 32),
		"a FIFO":       strings.Repeat("c", 32),
		"empty":        strings.Repeat("d", 32),
		"owner only":   strings.Repeat("e", 32),
		"no token":     "",
		"another user": strings.Repeat("f", 32),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.service(t, testModule(t, plain))
			if err := os.Mkdir(b.path("stash"), 0o700); err != nil {
				t.Fatal(err)
			}
			b.write(t, "target", "12345678tickets")
			for path, plant := range map[string]func(string) error{
				strings.Repeat("b", 32): func(p string) error { return os.Symlink(b.path("target"), p) },
				strings.Repeat("c", 32): func(p string) error { return syscall.Mkfifo(p, 0o600) },
				strings.Repeat("d", 32): func(p string) error { return os.WriteFile(p, nil, 0o600) },
				strings.Repeat("e", 32): func(p string) error { return os.WriteFile(p, make([]byte, 8), 0o600) },
				strings.Repeat("f", 32): func(p string) error { return os.WriteFile(p, []byte("\x01\x02\x03\x04\x01\x02\x03\x04tickets"), 0o600) },
			} {
				if err := plant(b.path("stash/" + path)); err != nil {
					t.Fatal(err)
				}
			}
			tx := b.start(t, "alice", &user{})
			if err := tx.PutEnv("LATCHKEY_CCACHE=" + value); err != nil {
				t.Fatal(err)
			}
			if err := tx.SetCred(libpam.EstablishCred); err != nil {
				t.Error(err)
			}
			if got := files(t, b.path("ccaches")); len(got) > 0 || tx.GetEnv("KRB5CCNAME") != "" || tx.GetEnv("LATCHKEY_CCACHE") != "" {
				t.Errorf("there is %q, KRB5CCNAME=%q", got, tx.GetEnv("KRB5CCNAME"))
			}
			if got, err := os.ReadFile(b.path("target")); err != nil || string(got) != "12345678tickets" {
				t.Errorf("the link's target has %q, %v", got, err)
			}
		})
	}
}

// A stash that others may write to, or that is a link, is not used; the sign-in
// goes on without tickets.
func TestStashOfOthers(t *testing.T) {
	for name, plant := range map[string]func(string) error{
		"open to all": func(p string) error { return os.Mkdir(p, 0o755) },
		"a link": func(p string) error {
			if err := os.Mkdir(p+"2", 0o700); err != nil {
				return err
			}
			return os.Symlink(p+"2", p)
		},
		"a file": func(p string) error { return os.WriteFile(p, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			if err := plant(b.path("stash")); err != nil {
				t.Fatal(err)
			}
			b.serve(t, &people{tickets: []byte("tickets")})
			b.service(t, testModule(t, plain))
			tx := b.start(t, "alice", &user{answers: []string{password}})
			if err := tx.Authenticate(0); err != nil {
				t.Error(err)
			}
			if tx.GetEnv("LATCHKEY_CCACHE") != "" || len(files(t, b.path("stash2"))) > 0 {
				t.Error("the tickets are where others may reach them")
			}
		})
	}
}

// Where the user may not write there are no tickets, and the session goes on.
func TestNoPlaceForTickets(t *testing.T) {
	b, tx, _ := signedIn(t, &people{})
	t.Setenv("LATCHKEY_TEST_CCACHES", b.path("missing"))
	if err := tx.SetCred(libpam.EstablishCred); err != nil {
		t.Error(err)
	}
	b.nothingLeft(t, tx)
}
