// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/latchkey-nas/latchkey/internal/fault"
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
	// PendingPassword is one that the domain has been, or is about to be, told:
	// written before the change is asked for, so that after a kill one of the two
	// is right. Nil where no change is under way.
	PendingPassword secret.Bytes
	PendingTime     time.Time // when the change was begun
	KVNO            uint32
	KeyTime         time.Time // when Password was set
	// NextRotation is when the password is to be changed next; zero: not planned
	// yet. RotationError says why the last try did not work; empty where it did.
	NextRotation      time.Time
	RotationError     string
	Tenant            identity.GUID
	People            People
	DomainControllers []string // as the administrator gave them; empty: found by DNS
	DNSServers        []string // as the administrator gave them; empty: the machine's own
	Joined            time.Time
}

// People says where the people's passwords come from.
type People uint8

// The numbers are those of latchkey.v1.People.
const (
	PeopleUnknown   People = 0
	PeopleCloudOnly People = 1
	PeopleHybrid    People = 2
)

var machineRecord = []byte("record")

// Machine returns the record; fault.NotFound when the machine is in no domain.
// The caller wipes the passwords when done.
func (s *Store) Machine(ctx context.Context) (m *Machine, err error) {
	err = s.View(ctx, func(v *View) error {
		m, err = v.machine()
		return err
	})
	return m, err
}

func (v *View) machine() (*Machine, error) {
	b := v.tx.Bucket(bucketMachine).Get(machineRecord)
	if b == nil {
		return nil, fault.WithRemedy(fault.New(fault.NotFound, "this machine is in no domain"), "join one: `latchkey join DOMAIN --user NAME`")
	}
	return readMachine(b)
}

// Wipe forgets the passwords of a copy.
func (m *Machine) Wipe() {
	m.Password.Wipe()
	m.PreviousPassword.Wipe()
	m.PendingPassword.Wipe()
}

// PutMachine writes the record, durably, in one transaction.
func (s *Store) PutMachine(ctx context.Context, m *Machine) error {
	return s.Update(ctx, func(t *Tx) error { return t.putMachine(m) })
}

// UpdateMachine changes the record in one transaction; fn's error leaves it as
// it was and is returned as it is. fault.NotFound when there is none. fn must
// not keep the record, whose passwords are wiped afterwards.
func (s *Store) UpdateMachine(ctx context.Context, fn func(*Machine) error) error {
	return s.Update(ctx, func(t *Tx) error {
		m, err := t.machine()
		if err != nil {
			return err
		}
		old := [...]secret.Bytes{m.Password, m.PreviousPassword, m.PendingPassword}
		defer func() {
			for _, p := range old {
				p.Wipe()
			}
		}()
		if err := fn(m); err != nil {
			return err
		}
		return t.putMachine(m)
	})
}

// DeleteMachine forgets the record, secrets and all. Rows and ids stay.
func (s *Store) DeleteMachine(ctx context.Context) error {
	return s.Update(ctx, func(t *Tx) error {
		b := t.tx.Bucket(bucketMachine).Get(machineRecord)
		if b == nil {
			return nil
		}
		return t.del(bucketMachine, machineRecord)
	})
}

func (t *Tx) putMachine(m *Machine) error {
	b := appendMachine(nil, m)
	// bbolt keeps b until the commit has written it; the file keeps it anyway.
	return t.put(bucketMachine, machineRecord, b)
}

// Fields of the machine's record: a protobuf message.
const (
	macDomain           protowire.Number = 1
	macComputerAccount  protowire.Number = 2
	macComputerDN       protowire.Number = 3
	macComputerSID      protowire.Number = 4
	macFQDN             protowire.Number = 5
	macPassword         protowire.Number = 6
	macPreviousPassword protowire.Number = 7
	macKVNO             protowire.Number = 8
	macKeyTime          protowire.Number = 9
	macTenant           protowire.Number = 10
	macPeople           protowire.Number = 11
	macDC               protowire.Number = 12 // repeated
	macDNS              protowire.Number = 13 // repeated
	macJoined           protowire.Number = 14
	macPendingPassword  protowire.Number = 15
	macPendingTime      protowire.Number = 16
	macNextRotation     protowire.Number = 17
	macRotationError    protowire.Number = 18
)

func appendMachine(b []byte, m *Machine) []byte {
	b = putBytes(b, macDomain, appendDomain(nil, m.Domain))
	b = putText(b, macComputerAccount, m.ComputerAccount)
	b = putText(b, macComputerDN, m.ComputerDN)
	b = putSID(b, macComputerSID, m.ComputerSID)
	b = putText(b, macFQDN, m.FQDN)
	b = putBytes(b, macPassword, m.Password.Reveal())
	b = putBytes(b, macPreviousPassword, m.PreviousPassword.Reveal())
	b = putNum(b, macKVNO, uint64(m.KVNO))
	b = putTime(b, macKeyTime, m.KeyTime)
	b = putGUID(b, macTenant, m.Tenant)
	b = putNum(b, macPeople, uint64(m.People))
	for _, dc := range m.DomainControllers {
		b = putText(b, macDC, dc)
	}
	for _, dns := range m.DNSServers {
		b = putText(b, macDNS, dns)
	}
	b = putTime(b, macJoined, m.Joined)
	b = putBytes(b, macPendingPassword, m.PendingPassword.Reveal())
	b = putTime(b, macPendingTime, m.PendingTime)
	b = putTime(b, macNextRotation, m.NextRotation)
	return putText(b, macRotationError, m.RotationError)
}

func readMachine(b []byte) (*Machine, error) {
	var m Machine
	var bad error
	ok := eachField(b, func(num protowire.Number, n uint64, v []byte) {
		switch num {
		case macDomain:
			m.Domain = readDomain(v)
		case macComputerAccount:
			m.ComputerAccount = string(v)
		case macComputerDN:
			m.ComputerDN = string(v)
		case macComputerSID:
			bad = errors.Join(bad, asSID(&m.ComputerSID, string(v)))
		case macFQDN:
			m.FQDN = string(v)
		case macPassword:
			m.Password = secret.Own(v).Clone()
		case macPreviousPassword:
			m.PreviousPassword = secret.Own(v).Clone()
		case macKVNO:
			m.KVNO = uint32(n)
		case macKeyTime:
			m.KeyTime = asTime(n)
		case macTenant:
			bad = errors.Join(bad, asGUID(&m.Tenant, string(v)))
		case macPeople:
			m.People = People(n)
		case macDC:
			m.DomainControllers = append(m.DomainControllers, string(v))
		case macDNS:
			m.DNSServers = append(m.DNSServers, string(v))
		case macJoined:
			m.Joined = asTime(n)
		case macPendingPassword:
			m.PendingPassword = secret.Own(v).Clone()
		case macPendingTime:
			m.PendingTime = asTime(n)
		case macNextRotation:
			m.NextRotation = asTime(n)
		case macRotationError:
			m.RotationError = string(v)
		}
	})
	if !ok || bad != nil {
		return nil, damagedFault(errRecord)
	}
	return &m, nil
}
