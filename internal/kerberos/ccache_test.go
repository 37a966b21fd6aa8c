// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Byte for byte what MIT's page of the format says; that its klist reads it is
// for the lab.
func TestCCache(t *testing.T) {
	at := time.Unix(0x60000000, 0)
	alice := Account("alice", "R.TEST")
	key := testKey(6, AES128)
	c := &CCache{Client: alice, Tickets: []*Ticket{{Client: alice, Service: Service("host", "nas", "R.TEST"), Key: key, Flags: FlagPreAuth | FlagInitial,
		AuthTime: at, StartTime: at.Add(time.Second), EndTime: at.Add(16 * time.Second), Raw: []byte("ticket")}}}
	text := func(s string) string { return fmt.Sprintf("\x00\x00\x00%c%s", len(s), s) }
	client := "\x00\x00\x00\x01" + "\x00\x00\x00\x01" + text("R.TEST") + text("alice")
	want := "\x05\x04\x00\x00" + client + // no header fields
		client + "\x00\x00\x00\x02" + "\x00\x00\x00\x02" + text("R.TEST") + text("host") + text("nas") +
		"\x00\x11" + text(string(key.Value.Reveal())) +
		"\x60\x00\x00\x00" + "\x60\x00\x00\x01" + "\x60\x00\x00\x10" + "\x00\x00\x00\x00" + // not renewable
		"\x00" + "\x00\x60\x00\x00" + // no user-to-user ticket; initial, pre-authent
		"\x00\x00\x00\x00" + "\x00\x00\x00\x00" + text("ticket") + text("")
	if got, err := c.Marshal(); err != nil || string(got) != want {
		t.Errorf("%v\n got %x\nwant %x", err, got, want)
	}
	c.Tickets[0].EndTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := c.Marshal(); !fault.Is(err, fault.Malformed) {
		t.Errorf("a time past 2106: %v, want malformed", err)
	}
}
