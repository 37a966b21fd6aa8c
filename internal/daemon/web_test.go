// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
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
