// SPDX-License-Identifier: Apache-2.0

package krbtest

import (
	"encoding/binary"
	"time"
	"unicode/utf16"

	"github.com/jcmturner/gokrb5/v8/crypto"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// PAC is what tickets of an account say about it (MS-PAC).
type PAC struct {
	User      identity.SID
	Primary   uint32   // RID of the primary group
	Groups    []uint32 // RIDs in the user's domain
	Extra     []identity.SID
	Resource  []identity.SID // domain-local groups, all of one domain
	FullName  string
	Domain    string // NetBIOS name
	DNSDomain string
	UPN       string
}

// Marshal builds the PAC for a sign-in of client at the given time and signs it
// with the service's key. The KDC's own signature is noise: nobody but a KDC
// can check it.
func (p *PAC) Marshal(client kerberos.Principal, at time.Time, key kerberos.Key) []byte {
	name := client.Name[0]
	buffers := []struct {
		kind uint32
		data []byte
	}{{1, p.logonInfo(name)}, {10, clientInfo(name, at)}, {12, p.upnInfo(name)}, {6, signature(key.EType)}, {7, signature(key.EType)}}
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(buffers)))
	head = binary.LittleEndian.AppendUint32(head, 0)
	body := []byte{}
	start := 8 + 16*len(buffers)
	server := 0
	for _, b := range buffers {
		head = binary.LittleEndian.AppendUint32(head, b.kind)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(b.data)))
		head = binary.LittleEndian.AppendUint64(head, uint64(start+len(body)))
		if b.kind == 6 {
			server = start + len(body) + 4
		}
		body = append(body, b.data...)
		body = append(body, make([]byte, -len(body)&7)...)
	}
	raw := append(head, body...)
	et := must(crypto.GetEtype(int32(key.EType)))
	copy(raw[server:server+12], must(et.GetChecksumHash(key.Value.Reveal(), raw, 17)))
	return raw
}

func signature(e kerberos.EType) []byte {
	kind := uint32(16) // hmac-sha1-96-aes256
	if e == kerberos.AES128 {
		kind = 15
	}
	return append(binary.LittleEndian.AppendUint32(nil, kind), make([]byte, 12)...)
}

func utf16LE(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func fileTime(t time.Time) uint64 {
	return uint64(t.Unix()+11644473600)*1e7 + uint64(t.Nanosecond())/100
}

func clientInfo(name string, at time.Time) []byte {
	out := binary.LittleEndian.AppendUint64(nil, fileTime(at))
	text := utf16LE(name)
	return append(binary.LittleEndian.AppendUint16(out, uint16(len(text))), text...)
}

func (p *PAC) upnInfo(name string) []byte {
	upn, flags := p.UPN, uint32(2)
	if upn == "" {
		upn, flags = name+"@"+p.DNSDomain, 3
	}
	fields := [][]byte{utf16LE(upn), utf16LE(p.DNSDomain), utf16LE(name), p.User.Bytes()}
	var head, body []byte
	for i, f := range fields {
		if i == 2 {
			head = binary.LittleEndian.AppendUint32(head, flags)
		}
		head = binary.LittleEndian.AppendUint16(head, uint16(len(f)))
		head = binary.LittleEndian.AppendUint16(head, uint16(20+len(body)))
		body = append(body, f...)
	}
	return append(head, body...)
}

// ndr writes NDR 2.0, little-endian.
type ndr struct{ b, deferred []byte }

func (w *ndr) u16(v uint16) { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *ndr) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *ndr) later(v uint32) {
	w.deferred = binary.LittleEndian.AppendUint32(w.deferred, v)
}

// pointer writes a pointer, null where nothing follows.
func (w *ndr) pointer(there bool) {
	v := uint32(0)
	if there {
		v = 0x20000 + uint32(len(w.b))
	}
	w.u32(v)
}

func (w *ndr) text(s string) {
	b := utf16LE(s)
	w.u16(uint16(len(b)))
	w.u16(uint16(len(b)))
	w.pointer(len(b) > 0)
	if len(b) > 0 {
		n := uint32(len(b) / 2)
		w.later(n)
		w.later(0)
		w.later(n)
		w.deferred = append(w.deferred, b...)
		w.deferred = append(w.deferred, make([]byte, -len(b)&3)...)
	}
}

func (w *ndr) memberships(rids []uint32) {
	w.u32(uint32(len(rids)))
	w.pointer(len(rids) > 0)
	if len(rids) > 0 {
		w.later(uint32(len(rids)))
		for _, r := range rids {
			w.later(r)
			w.later(7)
		}
	}
}

func (w *ndr) sid(s identity.SID) {
	b := s.Bytes()
	w.later(uint32(b[1]))
	w.deferred = append(w.deferred, b...)
}

// logonInfo is KERB_VALIDATION_INFO (MS-PAC 2.5).
func (p *PAC) logonInfo(name string) []byte {
	w := &ndr{}
	for range 6 {
		w.u32(0xffffffff)
		w.u32(0x7fffffff)
	}
	w.text(name)
	w.text(p.FullName)
	for range 4 {
		w.text("")
	}
	w.u32(0)
	rid, _ := p.User.RID()
	w.u32(rid)
	w.u32(p.Primary)
	w.memberships(p.Groups)
	w.u32(0x20)
	w.b = append(w.b, make([]byte, 16)...)
	w.text("DC1")
	w.text(p.Domain)
	w.pointer(true)
	w.sid(p.User.Domain())
	w.b = append(w.b, make([]byte, 8)...)
	w.u32(0x10)
	w.b = append(w.b, make([]byte, 28)...)
	w.u32(uint32(len(p.Extra)))
	w.pointer(len(p.Extra) > 0)
	if len(p.Extra) > 0 {
		w.later(uint32(len(p.Extra)))
		for i := range p.Extra {
			w.later(0x30000 + uint32(i))
			w.later(7)
		}
		for _, s := range p.Extra {
			w.sid(s)
		}
	}
	var resource []uint32
	for _, s := range p.Resource {
		r, _ := s.RID()
		resource = append(resource, r)
	}
	w.pointer(len(resource) > 0)
	if len(resource) > 0 {
		w.sid(p.Resource[0].Domain())
	}
	w.memberships(resource)
	all := append(w.b, w.deferred...)
	out := []byte{1, 0x10, 8, 0, 0xcc, 0xcc, 0xcc, 0xcc}
	out = binary.LittleEndian.AppendUint32(out, uint32(len(all)+4))
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.LittleEndian.AppendUint32(out, 0x20000)
	return append(out, all...)
}
