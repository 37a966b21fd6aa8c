// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Machine is what this machine is in its domain: one record, written by the
// join, read by whoever needs to know. Fields that a join does not know are
// zero.
type Machine struct {
	Domain          identity.Domain
	ComputerAccount string // "NAS$"
	ComputerDN      string
	ComputerSID     identity.SID
	FQDN            string // lower case
	// Password is the computer account's, UTF-8; PreviousPassword the one
	// before, which tickets in flight may still need.
	Password, PreviousPassword secret.Bytes
	KVNO                       uint32
	KeyTime                    time.Time // when Password was set
	Tenant                     identity.GUID
	People                     People
	DomainControllers          []string // as the administrator gave them; empty: found by DNS
	DNSServers                 []string // as the administrator gave them; empty: the machine's own
	Joined                     time.Time
}

// People says where the people's passwords come from.
type People uint8

// The numbers are those of latchkey.v1.People.
const (
	PeopleUnknown   People = 0
	PeopleCloudOnly People = 1
	PeopleHybrid    People = 2
)

// Machine returns the record; fault.NotFound when the machine is in no domain.
// The caller wipes the passwords when done.
func (s *Store) Machine(ctx context.Context) (*Machine, error) { return nil, errUnbuilt }

// PutMachine writes the record, durably, in one transaction.
func (s *Store) PutMachine(ctx context.Context, m *Machine) error { return errUnbuilt }

// UpdateMachine changes the record in one transaction; fn's error leaves it as
// it was and is returned as it is. fault.NotFound when there is none.
func (s *Store) UpdateMachine(ctx context.Context, fn func(*Machine) error) error { return errUnbuilt }

// DeleteMachine forgets the record. Rows and ids stay.
func (s *Store) DeleteMachine(ctx context.Context) error { return errUnbuilt }
