// SPDX-License-Identifier: Apache-2.0

package kerberos

import "time"

// Flags are ticket flags (RFC 4120 2.1), bit 0 of the RFC as the highest bit.
type Flags uint32

// The flags that are looked at.
const (
	FlagForwardable Flags = 1 << 30
	FlagForwarded   Flags = 1 << 29
	FlagRenewable   Flags = 1 << 23
	FlagInitial     Flags = 1 << 22
	FlagPreAuth     Flags = 1 << 21
	FlagDelegateOK  Flags = 1 << 18
)

// Ticket is a ticket with the session key that goes with it.
type Ticket struct {
	Client  Principal // canonical, as the KDC gave it
	Service Principal
	Key     Key
	Flags   Flags

	AuthTime  time.Time
	StartTime time.Time
	EndTime   time.Time
	RenewTill time.Time // zero: not renewable

	Raw []byte // the DER of the Ticket, opaque to a client
}

// Wipe overwrites the session key.
func (t *Ticket) Wipe() {
	if t != nil {
		t.Key.Value.Wipe()
	}
}
