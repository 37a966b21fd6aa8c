// SPDX-License-Identifier: Apache-2.0

// Package krbtest is a KDC in memory for the tests of everything that speaks
// Kerberos. It answers as Active Directory does, keeps account of what it was
// asked, and refuses or misbehaves on demand. It proves what our side does
// with an answer, never what a domain controller answers: that is for the lab.
//
// It never opens a socket and is of no use outside tests.
package krbtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Account is one principal of the realm. Change it only before the KDC is
// asked, or under KDC.Change.
type Account struct {
	Name     []string // as {"alice"} or {"host", "nas.example.com"}
	UPN      string   // enterprise name; may be empty
	Password string
	Salt     string // empty: realm and name, as for a user of Active Directory
	KVNO     int
	ETypes   []kerberos.EType // empty: AES256, AES128
	Aliases  [][]string       // other names with the same key, as SPNs

	Code      int32  // refuse with this code, once the password was right (or not asked for)
	Status    uint32 // NTSTATUS beside it
	NoPreAuth bool   // tickets for the asking
	DC        bool   // trusted for delegation: tickets to it say ok-as-delegate
	PAC       *PAC   // put into tickets of this client; nil for none
	Expires   time.Time

	BadPasswords int // how many proofs were wrong
}

// Request is what the KDC was asked.
type Request struct {
	Kind    string // "AS" or "TGS"
	Client  string // of an AS
	Service string
	Proof   bool // an AS with an encrypted timestamp
}

// KDC is a realm. Use New.
type KDC struct {
	Realm string
	// Now is the KDC's clock; nil is the machine's.
	Now func() time.Time
	// Answer, when set, sees every request first; ok false lets the KDC answer
	// as usual, nil bytes with ok true hang up.
	Answer func(request []byte) (reply []byte, ok bool)
	// Edit, when set, may change an encrypted part before it is sealed, in the
	// DER of EncKDCRepPart.
	Edit func(part *Part)

	mu       sync.Mutex
	accounts []*Account
	requests []Request
	krbtgt   kerberos.Key
}

// Part is what Edit may change.
type Part struct {
	Nonce   int
	Service kerberos.Principal
	Client  kerberos.Principal
}

// New returns a KDC without accounts.
func New(realm string) *KDC {
	return &KDC{Realm: strings.ToUpper(realm), krbtgt: randomKey(kerberos.AES256)}
}

// Add adds an account and returns it.
func (k *KDC) Add(a Account) *Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.KVNO == 0 {
		a.KVNO = 1
	}
	if len(a.ETypes) == 0 {
		a.ETypes = []kerberos.EType{kerberos.AES256, kerberos.AES128}
	}
	if a.Salt == "" {
		a.Salt = k.Realm + strings.Join(a.Name, "")
	}
	k.accounts = append(k.accounts, &a)
	return &a
}

// Change runs do while no request is answered.
func (k *KDC) Change(do func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	do()
}

// Requests returns what was asked so far, and forgets it.
func (k *KDC) Requests() []Request {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.requests
	k.requests = nil
	return r
}

// Key returns the long-term key of an account.
func (k *KDC) Key(a *Account, e kerberos.EType) kerberos.Key {
	key, err := kerberos.DeriveKey(secret.FromString(a.Password), kerberos.KeyInfo{EType: e, Salt: a.Salt})
	if err != nil {
		panic(err)
	}
	return key
}

// Keytab returns the keys of an account under all its names.
func (k *KDC) Keytab(a *Account) *kerberos.Keytab {
	kt := &kerberos.Keytab{}
	for _, name := range append([][]string{a.Name}, a.Aliases...) {
		p := kerberos.Principal{Type: kerberos.NTPrincipal, Name: name, Realm: k.Realm}
		for _, e := range a.ETypes {
			kt.Add(kerberos.MachineEntries([]kerberos.Principal{p}, []kerberos.Key{k.Key(a, e)}, uint32(a.KVNO), time.Now())...)
		}
	}
	return kt
}

// Dial is a kerberos.Config.Dial that ends at this KDC, whatever the address.
func (k *KDC) Dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go k.Serve(ours)
	return theirs, nil
}

// Serve answers one connection (RFC 4120 7.2.2) and closes it.
func (k *KDC) Serve(conn net.Conn) {
	defer conn.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		req := make([]byte, min(binary.BigEndian.Uint32(head[:]), 1<<20))
		if _, err := io.ReadFull(conn, req); err != nil {
			return
		}
		reply := k.Reply(req)
		if reply == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (k *KDC) now() time.Time {
	if k.Now != nil {
		return k.Now().UTC()
	}
	return time.Now().UTC()
}

func randomKey(e kerberos.EType) kerberos.Key {
	b := make([]byte, 32)
	if e == kerberos.AES128 {
		b = b[:16]
	}
	if _, err := rand.Read(b); err != nil {
		panic(err)
	}
	return kerberos.Key{EType: e, Value: secret.Own(b)}
}
