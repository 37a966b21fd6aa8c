// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Every reason for which a ticket is refused has a word, and each word a text on
// the test page.
func TestEveryReasonOfATicketHasAText(t *testing.T) {
	file, err := os.ReadFile("../web/lang/en.json")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	if err := json.Unmarshal(file, &texts); err != nil {
		t.Fatal(err)
	}
	under := func(kind fault.Kind, err error) error { return fault.Wrap(kind, "accept", err) }
	cases := map[error]string{
		nil: "",
		under(fault.BadCredential, login.ErrClock):    "clock",
		under(fault.BadCredential, login.ErrReplay):   "replay",
		under(fault.BadCredential, login.ErrKey):      "key",
		under(fault.BadCredential, login.ErrNoTicket): "no-ticket",
		under(fault.NotFound, login.ErrOtherDomain):   "person",
		fault.New(fault.Denied, "a rule"):             "denied",
		fault.New(fault.Disabled, "disabled"):         "denied",
		fault.New(fault.Unreachable, "away"):          "away",
		fault.New(fault.Malformed, "rubbish"):         "other",
		errors.New("something else"):                  "other",
	}
	for err, want := range cases {
		if got := whyTicket(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
	for _, kind := range fault.Kinds() {
		if word := whyTicket(fault.New(kind, "x")); texts["test.why."+word] == "" {
			t.Errorf("%s has no text (%q)", kind, word)
		}
	}
	for _, word := range []string{"clock", "replay", "key", "no-ticket", "ntlm", "off", "not-joined", "person", "denied", "away", "other"} {
		if texts["test.why."+word] == "" {
			t.Errorf("the word %s has no text", word)
		}
	}
}

// A listener that the monitor sends while the daemon ends is closed, and not served.
func TestAListenerThatComesTooLateIsClosed(t *testing.T) {
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	f, err := at.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := peer.TakeOver(f, peer.Web)
	if err != nil {
		t.Fatal(err)
	}
	w := webListeners{serve: func(*peer.Listener) { t.Error("it is served") }}
	w.end()
	w.add(ln)
	if err := ln.Listener.(*net.TCPListener).SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) || !w.none() {
		t.Errorf("it is open: %v", err)
	}
}

// A web that is served nowhere though it should be is a problem that status tells,
// until there is a listener or nobody wants one.
func TestStatusTellsOfAWebThatNobodyReaches(t *testing.T) {
	b := newBox(t)
	b.joined()
	d, admin, _, _ := b.start()
	told := func() bool { return problem(status(t, admin), "web-listen") != nil }
	if !told() {
		t.Error("no listener, and nothing is said")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	d.ServeWeb(f)
	if told() {
		t.Error("a listener, and something is said")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get("https://" + ln.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the page: %s", resp.Status)
	}
	d.LeaveWeb()
	if !told() {
		t.Error("the listener is gone, and nothing is said")
	}
	if _, err := admin.Admin.SetConfig(t.Context(), &latchkeyv1.SetConfigRequest{Key: "web.listen", Value: "''"}); err != nil {
		t.Fatal(err)
	}
	if told() {
		t.Error("nobody wants a web, and something is said")
	}
}
