// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	libpam "github.com/msteinert/pam/v2"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

var errWrong = fault.New(fault.BadCredential, "wrong password")

// statusOf is the PAM number of an error.
func statusOf(err error) error {
	var s libpam.Error
	if errors.As(err, &s) {
		return s
	}
	return err
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSignIn(t *testing.T) {
	b := newBox(t)
	p := &people{tickets: bytes.Repeat([]byte{5, 4, 0, 12}, 40_000), warnings: []string{"expires in 3 days"}}
	b.serve(t, p)
	b.service(t, testModule(t, plain))
	u := &user{answers: []string{password}}
	tx := b.start(t, `CONTOSO\Alice`, u)
	for item, value := range map[libpam.Item]string{libpam.Rhost: "192.0.2.7", libpam.Tty: "ssh", libpam.Ruser: "somebody"} {
		if err := tx.SetItem(item, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Authenticate(0); err != nil {
		t.Fatal(err)
	}
	if want := []string{"hello", "Password: ", "expires in 3 days"}; !slices.Equal(u.seen, want) {
		t.Errorf("the user saw %q, want %q", u.seen, want)
	}
	// sshd wants it unchanged until the account has been asked about.
	if name, err := tx.GetItem(libpam.User); err != nil || name != `CONTOSO\Alice` {
		t.Errorf("PAM_USER is %q, %v; want the name that was typed", name, err)
	}
	r := p.requests[0]
	if r.Name != `CONTOSO\Alice` || r.Service != "test" || r.RemoteHost != "192.0.2.7" || r.TTY != "ssh" || r.RemoteUser != "somebody" {
		t.Errorf("the door heard of %+v", r)
	}

	// The tickets wait where root alone gets, and the environment says under what name.
	token := tx.GetEnv("LATCHKEY_CCACHE")
	if got := files(t, b.path("stash")); len(token) != 32 || !slices.Equal(got, []string{token}) {
		t.Fatalf("in the stash: %q; the token: %q", got, token)
	}
	for path, mode := range map[string]os.FileMode{b.path("stash"): os.ModeDir | 0o700, b.path("stash/" + token): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}

	if err := tx.AcctMgmt(0); err != nil {
		t.Fatal(err)
	}
	if name, err := tx.GetItem(libpam.User); err != nil || name != "alice" {
		t.Errorf("PAM_USER is %q, %v; want the published name", name, err)
	}
	if err := tx.SetCred(libpam.EstablishCred); err != nil {
		t.Fatal(err)
	}
	if got := files(t, b.path("stash")); len(got) != 0 || tx.GetEnv("LATCHKEY_CCACHE") != "" {
		t.Errorf("left in the stash: %q, in the environment %q", got, tx.GetEnv("LATCHKEY_CCACHE"))
	}
	path, found := strings.CutPrefix(tx.GetEnv("KRB5CCNAME"), "FILE:")
	if !found || filepath.Dir(path) != b.path("ccaches") {
		t.Fatalf("KRB5CCNAME=%s", tx.GetEnv("KRB5CCNAME"))
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != 0o600 || st.Sys().(*syscall.Stat_t).Uid != uint32(alice.UID) || st.Sys().(*syscall.Stat_t).Gid != uint32(alice.GID) {
		t.Errorf("the user's tickets: %+v, %v", st, err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, p.tickets) {
		t.Errorf("the user's tickets have %d bytes, %v; want the %d of the door", len(got), err, len(p.tickets))
	}

	for name, call := range map[string]func(libpam.Flags) error{"open": tx.OpenSession, "reinitialize": func(libpam.Flags) error { return tx.SetCred(libpam.ReinitializeCred) }} {
		if err := call(0); err != nil || tx.GetEnv("KRB5CCNAME") != "FILE:"+path {
			t.Errorf("%s: %v, KRB5CCNAME=%s", name, err, tx.GetEnv("KRB5CCNAME"))
		}
	}
	if err := tx.CloseSession(0); err != nil {
		t.Error(err)
	}
	if got := files(t, b.path("ccaches")); len(got) != 0 {
		t.Errorf("after the session there is %q", got)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != 1 {
		t.Errorf("%d attempts were closed, want 1", p.closed)
	}
}

func TestOutcomes(t *testing.T) {
	cases := map[fault.Kind]struct{ auth, account, change libpam.Error }{
		fault.Unknown:       {libpam.ErrSystem, libpam.ErrSystem, libpam.ErrSystem},
		fault.NotFound:      {libpam.ErrUserUnknown, libpam.ErrUserUnknown, libpam.ErrUserUnknown},
		fault.BadCredential: {libpam.ErrAuth, libpam.ErrPermDenied, libpam.ErrAuthtokRecovery},
		fault.Locked:        {libpam.ErrMaxtries, libpam.ErrPermDenied, libpam.ErrPermDenied},
		fault.Disabled:      {libpam.ErrAuth, libpam.ErrPermDenied, libpam.ErrPermDenied},
		fault.Expired:       {libpam.ErrAuth, libpam.ErrAcctExpired, libpam.ErrPermDenied},
		fault.MustChange:    {libpam.ErrAuth, libpam.ErrNewAuthtokReqd, libpam.ErrAuthtok},
		fault.Denied:        {libpam.ErrPermDenied, libpam.ErrPermDenied, libpam.ErrPermDenied},
		fault.Unreachable:   {libpam.ErrAuthinfoUnavail, libpam.ErrAuthinfoUnavail, libpam.ErrAuthtok},
		fault.Malformed:     {libpam.ErrSystem, libpam.ErrSystem, libpam.ErrSystem},
		fault.Conflict:      {libpam.ErrSystem, libpam.ErrSystem, libpam.ErrSystem},
		fault.Exhausted:     {libpam.ErrMaxtries, libpam.ErrPermDenied, libpam.ErrPermDenied},
		fault.Internal:      {libpam.ErrSystem, libpam.ErrSystem, libpam.ErrSystem},
	}
	for _, kind := range fault.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			want, ok := cases[kind]
			if !ok {
				t.Fatal("this kind of failure has no answer here")
			}
			why := fault.New(kind, "because")
			b := newBox(t)
			b.serve(t, &people{auth: why, account: why, change: func(string, string) ([]string, error) { return []string{"no"}, why }})
			b.service(t, testModule(t, plain))
			u := &user{answers: []string{"old", "new", "new"}}
			tx := b.start(t, "alice", u)
			if got := statusOf(tx.Authenticate(0)); got != want.auth {
				t.Errorf("authenticate: %v, want %v", got, want.auth)
			}
			if got := statusOf(tx.AcctMgmt(0)); got != want.account {
				t.Errorf("account: %v, want %v", got, want.account)
			}
			if got := statusOf(tx.ChangeAuthTok(0)); got != want.change {
				t.Errorf("password: %v, want %v", got, want.change)
			}
			if seen := strings.Join(u.seen, "|"); !strings.HasPrefix(seen, "sorry|no entry|") || !strings.HasSuffix(seen, "|no") {
				t.Errorf("the user saw %q", u.seen)
			}
		})
	}
}

// A name of /etc/passwd itself is left to others in all types, and no socket is
// opened: the stack lets in on PAM_IGNORE alone.
func TestLocalNamesAreIgnored(t *testing.T) {
	b := newBox(t)
	p := &people{}
	b.serve(t, p)
	var text strings.Builder
	for _, kind := range []string{"auth", "account", "password", "session"} {
		text.WriteString(kind + " [ignore=1 default=bad] " + testModule(t, plain) + "\n" + kind + " requisite pam_deny.so\n" + kind + " required pam_permit.so\n")
	}
	b.write(t, "test", text.String())
	calls := func(tx *libpam.Transaction) map[string]error {
		return map[string]error{"authenticate": tx.Authenticate(0), "setcred": tx.SetCred(0), "account": tx.AcctMgmt(0),
			"open": tx.OpenSession(0), "close": tx.CloseSession(0), "password": tx.ChangeAuthTok(0)}
	}
	for _, name := range []string{"root", "local", "no-end"} {
		for call, err := range calls(b.start(t, name, &user{})) {
			if err != nil {
				t.Errorf("%s of %s: %v", call, name, err)
			}
		}
	}
	for _, name := range []string{"loca", "locall", "LOCAL", "local:x"} {
		if err := b.start(t, name, &user{answers: []string{"x"}}).Authenticate(0); err == nil {
			t.Errorf("%s was taken for a name of this box", name)
		}
	}
	b.set("PASSWD", b.path("missing"))
	for call, err := range calls(b.start(t, "root", &user{})) {
		if err != nil {
			t.Errorf("without a passwd file, %s of root: %v", call, err)
		}
	}
	for call, err := range calls(b.start(t, "alice", &user{answers: []string{password}})) {
		if got := statusOf(err); got != libpam.ErrSystem && got != libpam.ErrPermDenied && (call != "password" || got == nil) {
			t.Errorf("without a passwd file, %s of alice: %v", call, got)
		}
	}
	for _, r := range p.requests {
		if r.Name == "root" || r.Name == "local" || r.Name == "no-end" {
			t.Errorf("the daemon was asked for %s", r.Name)
		}
	}
}

func TestPublishedNameIsNeverLocal(t *testing.T) {
	b := newBox(t)
	b.write(t, "passwd", "alice:x:1000:1000::/:/bin/sh\n")
	b.serve(t, &people{})
	b.service(t, testModule(t, plain))
	tx := b.start(t, "alice@contoso.test", &user{answers: []string{password}})
	if got := statusOf(tx.Authenticate(0)); got != libpam.ErrSystem {
		t.Errorf("authenticate: %v", got)
	}
	if name, _ := tx.GetItem(libpam.User); name != "alice@contoso.test" {
		t.Errorf("PAM_USER became %q", name)
	}
}

func TestPasswordsOfTheStack(t *testing.T) {
	for name, tc := range map[string]struct {
		before, option string
		answers        []string
		want           error
		seen           []string
	}{
		"asked":                       {"", "", []string{password}, nil, []string{"hello", "Password: ", "authtok=" + password}},
		"asked though there is one":   {"other", "", []string{password}, nil, []string{"hello", "Password: ", "authtok=" + password}},
		"use_first_pass":              {password, "use_first_pass", nil, nil, []string{"hello", "authtok=" + password}},
		"use_first_pass, wrong":       {"other", "use_first_pass", []string{password}, libpam.ErrAuth, []string{"hello", "authtok=other"}},
		"use_first_pass without one":  {"", "use_first_pass", []string{password}, libpam.ErrAuth, []string{"authtok=none"}},
		"try_first_pass":              {password, "try_first_pass", nil, nil, []string{"hello", "authtok=" + password}},
		"try_first_pass without one":  {"", "try_first_pass", []string{password}, nil, []string{"hello", "Password: ", "authtok=" + password}},
		"one that is far too long":    {"", "", []string{strings.Repeat("x", 5000)}, libpam.ErrConv, []string{"hello", "Password: ", "authtok=none"}},
		"empty":                       {"", "", []string{""}, libpam.ErrAuth, []string{"hello", "Password: ", "authtok="}},
		"the user goes away":          {"", "", nil, libpam.ErrConv, []string{"hello", "Password: ", "authtok=none"}},
		"1000 bytes that are no UTF8": {"", "", []string{strings.Repeat("\xff", 1000)}, libpam.ErrAuth, []string{"hello", "Password: ", "authtok=" + strings.Repeat("\xff", 1000)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.serve(t, &people{})
			text := "auth required " + testModule(t, plain) + " " + tc.option + "\nauth optional " + neighbour(t) + " show\n"
			if tc.before != "" {
				text = "auth optional " + neighbour(t) + " [set=" + tc.before + "]\n" + text
			}
			b.write(t, "test", text)
			u := &user{answers: tc.answers}
			if got := statusOf(b.start(t, "alice", u).Authenticate(0)); got != tc.want {
				t.Errorf("authenticate: %v, want %v", got, tc.want)
			}
			if !reflect.DeepEqual(u.seen, tc.seen) {
				t.Errorf("the user saw %q, want %q", u.seen, tc.seen)
			}
		})
	}
}

func TestSilent(t *testing.T) {
	b := newBox(t)
	b.serve(t, &people{warnings: []string{"expires soon"}, account: fault.New(fault.Denied, "no")})
	b.service(t, testModule(t, plain))
	u := &user{answers: []string{password}}
	tx := b.start(t, "alice", u)
	if err := tx.Authenticate(libpam.Silent); err != nil {
		t.Error(err)
	}
	if got := statusOf(tx.AcctMgmt(libpam.Silent)); got != libpam.ErrPermDenied {
		t.Errorf("account: %v", got)
	}
	if want := []string{"Password: "}; !slices.Equal(u.seen, want) {
		t.Errorf("the user saw %q, want %q", u.seen, want)
	}
}

// A daemon that says "still at it" is waited for, longer than one that is silent
// would be.
func TestStillAtItIsWaitedFor(t *testing.T) {
	b := newBox(t)
	b.set("PATIENCE", "200")
	b.serve(t, &people{wait: 600 * time.Millisecond})
	b.service(t, testModule(t, plain))
	tx := b.start(t, "alice", &user{answers: []string{password}})
	if err := tx.Authenticate(0); err != nil {
		t.Errorf("authenticate: %v", err)
	}
	if err := tx.AcctMgmt(0); err != nil {
		t.Errorf("account: %v", err)
	}
	if got := statusOf(b.start(t, "alice", &user{answers: []string{"wrong"}}).Authenticate(0)); got != libpam.ErrAuth {
		t.Errorf("a wrong password: %v", got)
	}
}

func TestPasswordChange(t *testing.T) {
	for name, tc := range map[string]struct {
		answers []string
		url     string
		want    error
		calls   int
		last    string
	}{
		"changed":         {[]string{"old", "new", "new"}, "", nil, 1, "done"},
		"mistyped":        {[]string{"old", "new", "other"}, "", libpam.ErrAuthtok, 0, "The passwords are not the same; nothing was changed."},
		"changed at home": {nil, "https://contoso.test/sspr", libpam.ErrPermDenied, 0, "This password cannot be changed here. Change it at https://contoso.test/sspr"},
		"given up":        {[]string{"old"}, "", libpam.ErrConv, 0, "New password: "},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			calls := 0
			b.serve(t, &people{place: func() (string, bool, error) { return tc.url, tc.url == "", nil },
				change: func(current, next string) ([]string, error) {
					calls++
					if current != "old" || next != "new" {
						t.Errorf("changed from %q to %q", current, next)
					}
					return []string{"done"}, nil
				}})
			b.service(t, testModule(t, plain))
			u := &user{answers: tc.answers}
			if got := statusOf(b.start(t, "alice", u).ChangeAuthTok(0)); got != tc.want {
				t.Errorf("password: %v, want %v", got, tc.want)
			}
			if calls != tc.calls || u.seen[len(u.seen)-1] != tc.last {
				t.Errorf("%d calls, the user saw %q", calls, u.seen)
			}
		})
	}
}

// 1,000 sign-ins without a bad access, a leak, or a password left in memory.
func TestUnderTheSanitizerAndValgrind(t *testing.T) {
	b := newBox(t)
	b.serve(t, &people{tickets: []byte("tickets"), warnings: []string{"soon"}})
	want := "0 0 0 0 0 0\n"
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = b.environ()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	b.service(t, testModule(t, address))
	if got := run(compile(t, "drive", address, "testdata/drive.c"), b.dir, "test", "1000", "alice"); got != want {
		t.Errorf("under the sanitizer: %q", got)
	}
	b.service(t, testModule(t, plain))
	drive := compile(t, "drive", plain, "testdata/drive.c")
	for how, found := range map[string]string{"look": "found 0\n", "keep": "found 1\n"} {
		if got := run(drive, b.dir, "test", "200", "alice", how); got != want+found {
			t.Errorf("%s: %q, want %q", how, got, want+found)
		}
	}
	if got := run("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", drive, b.dir, "test", "20", "alice"); got != want {
		t.Errorf("under valgrind: %q", got)
	}
	if left := append(files(t, b.path("stash")), files(t, b.path("ccaches"))...); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
