// SPDX-License-Identifier: Apache-2.0

// Package control is what the monitor and the worker say to each other over
// the socketpair between them: a closed list of messages, each with its type.
//
// The worker is not trusted: it parses what comes from the network, and the
// monitor is root. So a message is small, has one form only, and is refused as
// a whole where a byte of it is not as it should be. The package decides
// nothing and touches no file; what a message causes is the receiver's affair.
//
// The socketpair is SOCK_SEQPACKET (unix(7)): one packet is one message.
// Numbers are little-endian, texts are a 32-bit length and bytes:
//
//	0  version, 1
//	1  verb
//	2  number of the request (u32); an Answer bears that of its request
//	6  the verb's own fields
package control

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Limits of a message, in bytes. A keytab is the longest thing that is said.
const (
	MaxMessage = MaxKeytab + 8<<10
	MaxKeytab  = 64 << 10
	maxText    = 1 << 10

	MaxAdmitted = 512 // users and groups in an Admit, together
)

const version = 1

// Verb is the kind of a message.
type Verb uint8

// The closed list.
const (
	verbWelcome Verb = iota + 1
	verbReload
	verbStop
	verbAnswer
	verbHeartbeat
	verbReady
	verbPublish
	verbInstallKeys
	verbRemoveKeys
	verbReconfigured
	verbWithdraw
	verbCheckPassword
	verbAdmit
	verbServeWeb
	verbLeaveWeb
)

// String names the verb for logs.
func (v Verb) String() string {
	names := [...]string{"", "welcome", "reload", "stop", "answer", "heartbeat", "ready",
		"publish-snapshot", "install-host-keys", "remove-host-keys", "reconfigured", "withdraw-snapshot", "check-password", "admit-administrators", "serve-web", "leave-web"}
	if v == 0 || int(v) >= len(names) {
		return fmt.Sprintf("verb %d", uint8(v))
	}
	return names[v]
}

// Message is one of the types of this package.
type Message interface {
	Verb() Verb
	append(b []byte) []byte
	read(r *reader)
}

// The monitor tells the worker.
type (
	// Welcome is the first thing a worker hears.
	Welcome struct {
		Started  time.Time // of the monitor, in whole seconds
		Restarts uint32    // workers that ended before this one
		LastEnd  string    // how the one before ended; empty: this is the first
	}
	// Reload asks the worker to read the configuration again.
	Reload struct{}
	// Stop asks the worker to end in good order.
	Stop struct{}
	// ServeWeb gives the worker one more listener for the web, the attached one.
	ServeWeb struct{}
	// LeaveWeb asks the worker to close the listeners that it has for the web; what
	// was accepted at them goes on.
	LeaveWeb struct{}
	// Answer says how a request went. The zero Kind is success.
	Answer struct {
		Kind   fault.Kind
		Failed bool
		Text   string
		Remedy string
	}
)

// The worker tells or asks the monitor.
type (
	// Heartbeat says that the worker lives.
	Heartbeat struct{}
	// Ready says that its doors are open.
	Ready struct{}
	// Publish asks for the snapshot in the attached memfd to be published.
	// It is answered.
	Publish struct{}
	// InstallKeys asks for root's copy of the host keys. It is answered.
	InstallKeys struct {
		Host
		Keytab secret.Bytes // MIT keytab file
	}
	// RemoveKeys asks for root's copy of the host keys to go. It is answered.
	RemoveKeys struct{ Host }
	// Reconfigured says that conf.d has changed. It is answered, when the
	// monitor has read the configuration again.
	Reconfigured struct{}
	// Withdraw asks for the published snapshot to go: the machine is in no
	// domain any more. It is answered.
	Withdraw struct{}
	// CheckPassword asks for a process that tries one password with the PAM stack
	// of the machine and speaks on the attached socket (package pamcheck), which
	// the monitor does not read. It is answered when the process has started.
	CheckPassword struct{}
	// Admit says which users and groups of the domain may connect to admin.sock,
	// besides root and the group latchkey-admin: all of them. It is answered.
	Admit struct{ UIDs, GIDs []uint32 }
)

// Host names the machine whose keys are meant.
type Host struct {
	Realm   string // "AADDS.CONTOSO.TEST"
	Account string // "NAS$"
	FQDN    string // "nas.aadds.contoso.test"
}

// Verb returns the message's kind.
func (*Welcome) Verb() Verb       { return verbWelcome }
func (*Reload) Verb() Verb        { return verbReload }
func (*Stop) Verb() Verb          { return verbStop }
func (*Answer) Verb() Verb        { return verbAnswer }
func (*Heartbeat) Verb() Verb     { return verbHeartbeat }
func (*Ready) Verb() Verb         { return verbReady }
func (*Publish) Verb() Verb       { return verbPublish }
func (*InstallKeys) Verb() Verb   { return verbInstallKeys }
func (*RemoveKeys) Verb() Verb    { return verbRemoveKeys }
func (*Reconfigured) Verb() Verb  { return verbReconfigured }
func (*Withdraw) Verb() Verb      { return verbWithdraw }
func (*CheckPassword) Verb() Verb { return verbCheckPassword }
func (*Admit) Verb() Verb         { return verbAdmit }
func (*ServeWeb) Verb() Verb      { return verbServeWeb }
func (*LeaveWeb) Verb() Verb      { return verbLeaveWeb }

// blank returns an empty message of the kind, nil for one that is not listed.
func blank(v Verb) Message {
	switch v {
	case verbWelcome:
		return &Welcome{}
	case verbReload:
		return &Reload{}
	case verbStop:
		return &Stop{}
	case verbAnswer:
		return &Answer{}
	case verbHeartbeat:
		return &Heartbeat{}
	case verbReady:
		return &Ready{}
	case verbPublish:
		return &Publish{}
	case verbInstallKeys:
		return &InstallKeys{}
	case verbRemoveKeys:
		return &RemoveKeys{}
	case verbReconfigured:
		return &Reconfigured{}
	case verbWithdraw:
		return &Withdraw{}
	case verbCheckPassword:
		return &CheckPassword{}
	case verbAdmit:
		return &Admit{}
	case verbServeWeb:
		return &ServeWeb{}
	case verbLeaveWeb:
		return &LeaveWeb{}
	}
	return nil
}

// CarriesFile says whether a message of this kind comes with exactly one
// descriptor; all others come with none.
func CarriesFile(m Message) bool {
	return m.Verb() == verbPublish || m.Verb() == verbCheckPassword || m.Verb() == verbServeWeb
}

// Encode returns the packet of a message. Texts that are too long are cut,
// a keytab that is too long is fault.Malformed.
func Encode(number uint32, m Message) ([]byte, error) {
	b := append(make([]byte, 0, 64), version, byte(m.Verb()))
	b = binary.LittleEndian.AppendUint32(b, number)
	b = m.append(b)
	if len(b) > MaxMessage {
		return nil, fault.Errorf(fault.Malformed, "%s message of %d bytes", m.Verb(), len(b))
	}
	return b, nil
}

// Decode reads one packet. Everything that Encode would not have written is
// fault.Malformed.
func Decode(b []byte) (number uint32, m Message, err error) {
	if len(b) < 6 || len(b) > MaxMessage || b[0] != version {
		return 0, nil, fault.Errorf(fault.Malformed, "control message of %d bytes", len(b))
	}
	if m = blank(Verb(b[1])); m == nil {
		return 0, nil, fault.Errorf(fault.Malformed, "control message of an unknown kind, %d", b[1])
	}
	r := &reader{rest: b[6:]}
	m.read(r)
	if r.bad || len(r.rest) != 0 {
		return 0, nil, fault.Errorf(fault.Malformed, "%s message is not as it should be", m.Verb())
	}
	return binary.LittleEndian.Uint32(b[2:]), m, nil
}

func (m *Welcome) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Started.Unix()))
	b = binary.LittleEndian.AppendUint32(b, m.Restarts)
	return appendText(b, m.LastEnd)
}

func (m *Welcome) read(r *reader) {
	m.Started = time.Unix(int64(r.u64()), 0)
	m.Restarts = r.u32()
	m.LastEnd = r.text()
}

func (m *Answer) append(b []byte) []byte {
	failed := byte(0)
	if m.Failed {
		failed = 1
	}
	return appendText(appendText(append(b, failed, byte(m.Kind)), m.Text), m.Remedy)
}

func (m *Answer) read(r *reader) {
	failed, kind := r.byte(), r.byte()
	m.Failed, m.Kind = failed == 1, fault.Kind(kind)
	if failed > 1 || int(kind) >= len(fault.Kinds()) {
		r.bad = true
	}
	m.Text, m.Remedy = r.text(), r.text()
}

// Of fills an answer from what a request came to.
func (m *Answer) Of(err error) *Answer {
	if err != nil {
		*m = Answer{Kind: fault.KindOf(err), Failed: true, Text: err.Error(), Remedy: fault.Remedy(err)}
	}
	return m
}

// Err returns the failure that the answer tells of, nil for success.
func (m *Answer) Err() error {
	if !m.Failed {
		return nil
	}
	return &fault.Error{Kind: m.Kind, Op: m.Text, Remedy: m.Remedy}
}

func (m *InstallKeys) append(b []byte) []byte {
	b = m.Host.append(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.Keytab.Len()))
	return append(b, m.Keytab.Reveal()...)
}

func (m *InstallKeys) read(r *reader) {
	m.Host.read(r)
	m.Keytab = secret.Own(append([]byte(nil), r.bytes(MaxKeytab)...))
}

func (m *Admit) append(b []byte) []byte {
	for _, ids := range [][]uint32{m.UIDs, m.GIDs} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(ids)))
		for _, id := range ids {
			b = binary.LittleEndian.AppendUint32(b, id)
		}
	}
	return b
}

func (m *Admit) read(r *reader) { m.UIDs, m.GIDs = r.ids(), r.ids() }

// ids reads a list of numbers.
func (r *reader) ids() []uint32 {
	n := r.u32()
	if n > MaxAdmitted {
		r.bad = true
		return nil
	}
	var ids []uint32
	for range n {
		ids = append(ids, r.u32())
	}
	return ids
}

func (h *Host) append(b []byte) []byte {
	return appendText(appendText(appendText(b, h.Realm), h.Account), h.FQDN)
}

func (h *Host) read(r *reader) { h.Realm, h.Account, h.FQDN = r.text(), r.text(), r.text() }

func (*Reload) append(b []byte) []byte        { return b }
func (*Reload) read(*reader)                  {}
func (*Stop) append(b []byte) []byte          { return b }
func (*Stop) read(*reader)                    {}
func (*Heartbeat) append(b []byte) []byte     { return b }
func (*Heartbeat) read(*reader)               {}
func (*Ready) append(b []byte) []byte         { return b }
func (*Ready) read(*reader)                   {}
func (*Publish) append(b []byte) []byte       { return b }
func (*Publish) read(*reader)                 {}
func (*Reconfigured) append(b []byte) []byte  { return b }
func (*Reconfigured) read(*reader)            {}
func (*CheckPassword) append(b []byte) []byte { return b }
func (*CheckPassword) read(*reader)           {}
func (*Withdraw) append(b []byte) []byte      { return b }
func (*Withdraw) read(*reader)                {}
func (*ServeWeb) append(b []byte) []byte      { return b }
func (*ServeWeb) read(*reader)                {}
func (*LeaveWeb) append(b []byte) []byte      { return b }
func (*LeaveWeb) read(*reader)                {}

// reader takes fields off the front. After the first thing that is not there,
// or not as it should be, everything it returns is empty and bad is set.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return nil
	}
	head := r.rest[:n]
	r.rest = r.rest[n:]
	return head
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) bytes(limit int) []byte {
	n := r.u32()
	if n > uint32(limit) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

func (r *reader) text() string {
	b := r.bytes(maxText)
	if !utf8.Valid(b) {
		r.bad = true
		return ""
	}
	return string(b)
}

// appendText adds a text, cut to maxText at the end of a rune, what is not
// UTF-8 replaced.
func appendText(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	if len(s) > maxText {
		cut := maxText
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
