// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// KeytabEntry is one long-term key of one principal.
type KeytabEntry struct {
	Principal Principal
	Time      time.Time // when it was written; whole seconds from 1970 to 2106
	KVNO      uint32
	Key       Key
}

// Keytab is a set of long-term keys in the order of the file. Not safe for
// concurrent change.
type Keytab struct {
	Entries []KeytabEntry
}

// maxKeytab bounds a keytab file; ours has some 40 entries of 100 bytes.
const maxKeytab = 1 << 20

// ParseKeytab reads the MIT format, version 5.2
// (https://web.mit.edu/kerberos/krb5-latest/doc/formats/keytab_file_format.html).
// Holes of deleted entries are skipped. Entries of other encryption types than
// AES are kept, so that a file written back loses nothing. Anything else is
// fault.Malformed.
func ParseKeytab(b []byte) (*Keytab, error) {
	if len(b) < 2 || b[0] != 5 || b[1] != 2 {
		return nil, fault.New(fault.Malformed, "not a keytab of version 5.2")
	}
	kt := &Keytab{}
	for b = b[2:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, fault.New(fault.Malformed, "the keytab ends in the middle of an entry")
		}
		n := int64(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		hole := n < 0
		if hole {
			n = -n
		}
		if n > int64(len(b)) {
			return nil, fault.New(fault.Malformed, "the keytab ends in the middle of an entry")
		}
		if n == 0 {
			break // MIT's reader stops at a zero length as well
		}
		if !hole {
			e, err := parseKeytabEntry(b[:n])
			if err != nil {
				kt.Wipe()
				return nil, err
			}
			kt.Entries = append(kt.Entries, e)
		}
		b = b[n:]
	}
	return kt, nil
}

func parseKeytabEntry(b []byte) (KeytabEntry, error) {
	r := reader{b: b}
	var e KeytabEntry
	n := int(r.uint16())
	e.Principal.Realm = string(r.counted16())
	if n == 0 || n > 32 {
		return e, fault.Errorf(fault.Malformed, "a keytab entry names %d components", n)
	}
	for range n {
		e.Principal.Name = append(e.Principal.Name, string(r.counted16()))
	}
	e.Principal.Type = int32(r.uint32())
	e.Time = time.Unix(int64(r.uint32()), 0).UTC()
	e.KVNO = uint32(r.uint8())
	e.Key.EType = EType(r.uint16())
	e.Key.Value = secret.Own(slices.Clone(r.counted16()))
	// Optional: the whole kvno, of which the byte above is the tail. MIT takes
	// zero as not there.
	if len(r.b) >= 4 {
		if v := r.uint32(); v != 0 {
			e.KVNO = v
		}
	}
	if r.short {
		return e, fault.New(fault.Malformed, "a keytab entry is cut short")
	}
	return e, nil
}

// Marshal returns the MIT file format, version 5.2. A component or key over
// 65535 bytes, or a time that does not fit, is fault.Malformed. The caller
// wipes the result.
func (k *Keytab) Marshal() ([]byte, error) {
	out := []byte{5, 2}
	for _, e := range k.Entries {
		at := len(out)
		out = append(out, 0, 0, 0, 0)
		out = binary.BigEndian.AppendUint16(out, uint16(len(e.Principal.Name)))
		var err error
		counted := func(b []byte) {
			if len(b) > 0xffff {
				err = fault.Errorf(fault.Malformed, "a keytab cannot hold %d bytes in one piece", len(b))
				b = nil
			}
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
		}
		counted([]byte(e.Principal.Realm))
		for _, n := range e.Principal.Name {
			counted([]byte(n))
		}
		t := e.Time.Unix()
		if len(e.Principal.Name) == 0 || len(e.Principal.Name) > 32 || t < 0 || t > 0xffffffff || e.Key.EType < 0 || e.Key.EType > 0xffff {
			err = fault.Errorf(fault.Malformed, "a keytab cannot hold the entry of %s", e.Principal)
		}
		out = binary.BigEndian.AppendUint32(out, uint32(e.Principal.Type))
		out = binary.BigEndian.AppendUint32(out, uint32(t))
		out = append(out, byte(e.KVNO))
		out = binary.BigEndian.AppendUint16(out, uint16(e.Key.EType))
		counted(e.Key.Value.Reveal())
		out = binary.BigEndian.AppendUint32(out, e.KVNO)
		if err != nil {
			secret.Wipe(out)
			return nil, err
		}
		binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	}
	return out, nil
}

// Add appends copies of entries; one of the same principal, kvno and etype is
// replaced.
func (k *Keytab) Add(entries ...KeytabEntry) {
	for _, e := range entries {
		e.Key = e.Key.Clone()
		k.Entries = slices.DeleteFunc(k.Entries, func(o KeytabEntry) bool {
			same := o.KVNO == e.KVNO && o.Key.EType == e.Key.EType && o.Principal.Equal(e.Principal)
			if same {
				o.Key.Value.Wipe()
			}
			return same
		})
		k.Entries = append(k.Entries, e)
	}
}

// Find returns the key of who with the given version and etype; version 0
// means the newest (highest kvno, then latest time). An entry of another
// principal never matches. fault.NotFound when there is none. The entry shares
// the keytab's memory.
func (k *Keytab) Find(who Principal, kvno uint32, e EType) (KeytabEntry, error) {
	var best *KeytabEntry
	for i := range k.Entries {
		o := &k.Entries[i]
		if o.Key.EType != e || o.Key.Value.Len() != e.size() || !o.Principal.Equal(who) || (kvno != 0 && o.KVNO != kvno) {
			continue
		}
		if best == nil || o.KVNO > best.KVNO || (o.KVNO == best.KVNO && o.Time.After(best.Time)) {
			best = o
		}
	}
	if best == nil {
		return KeytabEntry{}, fault.Errorf(fault.NotFound, "no key of %s with version %d and encryption type %d in the keytab", who, kvno, e)
	}
	return *best, nil
}

// candidates returns the keys that may open a ticket for service: the
// service's own first, then those of other names in the realm.
func (k *Keytab) candidates(service Principal, kvno uint32, e EType) []KeytabEntry {
	var out []KeytabEntry
	if e.size() == 0 {
		return nil
	}
	// A ticket without a kvno may be of any version: newest first.
	entries := slices.Clone(k.Entries)
	slices.SortStableFunc(entries, func(a, b KeytabEntry) int { return int(int64(b.KVNO) - int64(a.KVNO)) })
	for _, own := range []bool{true, false} {
		for _, o := range entries {
			if o.Key.EType == e && o.Key.Value.Len() == e.size() && (kvno == 0 || o.KVNO == kvno) &&
				sameRealm(o.Principal.Realm, service.Realm) && o.Principal.Equal(service) == own &&
				!slices.ContainsFunc(out, func(x KeytabEntry) bool { return x.Key.Value.Equal(o.Key.Value) }) {
				out = append(out, o)
			}
		}
	}
	return out
}

// Newest returns the highest kvno of who; 0 when there is no key of who.
func (k *Keytab) Newest(who Principal) uint32 {
	var n uint32
	for _, e := range k.Entries {
		if e.Principal.Equal(who) {
			n = max(n, e.KVNO)
		}
	}
	return n
}

// KeepVersions drops, for each principal, the versions older than its n newest,
// but none whose successor was written after since: a key that tickets issued
// before the rotation still need stays. It returns how many entries went.
func (k *Keytab) KeepVersions(n int, since time.Time) int {
	versions := map[string]map[uint32]time.Time{} // principal -> kvno -> when first written
	for _, e := range k.Entries {
		p := strings.ToLower(e.Principal.String())
		if versions[p] == nil {
			versions[p] = map[uint32]time.Time{}
		}
		if t, ok := versions[p][e.KVNO]; !ok || e.Time.Before(t) {
			versions[p][e.KVNO] = e.Time
		}
	}
	before := len(k.Entries)
	k.Entries = slices.DeleteFunc(k.Entries, func(e KeytabEntry) bool {
		newer := 0
		successor, at := uint32(0), time.Time{}
		for v, t := range versions[strings.ToLower(e.Principal.String())] {
			if v > e.KVNO {
				newer++
				if successor == 0 || v < successor {
					successor, at = v, t
				}
			}
		}
		gone := newer >= n && at.Before(since)
		if gone {
			e.Key.Value.Wipe()
		}
		return gone
	})
	return before - len(k.Entries)
}

// Clone returns a keytab with memory of its own.
func (k *Keytab) Clone() *Keytab {
	c := &Keytab{Entries: slices.Clone(k.Entries)}
	for i := range c.Entries {
		c.Entries[i].Key = c.Entries[i].Key.Clone()
		c.Entries[i].Principal.Name = slices.Clone(c.Entries[i].Principal.Name)
	}
	return c
}

// Wipe overwrites every key and forgets the entries.
func (k *Keytab) Wipe() {
	for _, e := range k.Entries {
		e.Key.Value.Wipe()
	}
	k.Entries = nil
}

// MachineEntries makes the entries of a computer account: for each principal
// (the account itself and its SPNs) one per key, all of one kvno and time.
// All principals of one account share the account's keys.
func MachineEntries(principals []Principal, keys []Key, kvno uint32, at time.Time) []KeytabEntry {
	var out []KeytabEntry
	for _, p := range principals {
		for _, key := range keys {
			out = append(out, KeytabEntry{Principal: p, Time: at.UTC().Truncate(time.Second), KVNO: kvno, Key: key.Clone()})
		}
	}
	return out
}

// keyFor implements Secret: the newest key of who, for the first offer that
// the keytab can meet.
func (k *Keytab) keyFor(who Principal, offers []KeyInfo) (Key, KeyInfo, error) {
	if len(offers) == 0 {
		for _, e := range preferred {
			offers = append(offers, KeyInfo{EType: e})
		}
	}
	for _, o := range offers {
		if e, err := k.Find(who, 0, o.EType); err == nil {
			return e.Key.Clone(), o, nil
		}
	}
	return Key{}, KeyInfo{}, fault.Errorf(fault.BadCredential, "the keytab has no AES key of %s", who)
}

func (k *Keytab) clone() Secret { return k.Clone() }
func (k *Keytab) wipe()         { k.Wipe() }
