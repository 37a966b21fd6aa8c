// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"time"
)

// KeytabEntry is one long-term key of one principal.
type KeytabEntry struct {
	Principal Principal
	Time      time.Time // when it was written; seconds
	KVNO      uint32
	Key       Key
}

// Keytab is a set of long-term keys in the order of the file. Not safe for
// concurrent change.
type Keytab struct {
	Entries []KeytabEntry
}

// ParseKeytab reads the MIT format, version 5.2 (and 5.1 never). Deleted
// entries are skipped. Entries of other encryption types than AES are kept, so
// that a file written back loses nothing. Anything else is fault.Malformed.
func ParseKeytab(b []byte) (*Keytab, error) { return nil, errUnbuilt }

// ReadKeytab reads a keytab file. A missing file is fault.NotFound.
func ReadKeytab(path string) (*Keytab, error) { return nil, errUnbuilt }

// Marshal returns the MIT file format, version 5.2. The caller wipes it.
func (k *Keytab) Marshal() ([]byte, error) { return nil, errUnbuilt }

// WriteFile replaces the file atomically (temporary file beside it, fsync,
// rename, fsync of the directory), mode 0600. The owner and group of a file
// that is there already are kept where we may.
func (k *Keytab) WriteFile(path string) error { return errUnbuilt }

// Add appends keys; one of the same principal, kvno and etype is replaced.
func (k *Keytab) Add(entries ...KeytabEntry) {}

// Find returns the key of who with the given version and etype; version 0
// means the newest (highest kvno, then latest time). An entry of another
// principal never matches. fault.NotFound when there is none.
func (k *Keytab) Find(who Principal, kvno uint32, e EType) (KeytabEntry, error) {
	return KeytabEntry{}, errUnbuilt
}

// Newest returns the highest kvno of who; 0 when there is no key of who.
func (k *Keytab) Newest(who Principal) uint32 { return 0 }

// KeepVersions drops, for each principal, all but its n newest versions whose
// replacement is older than since: a version still needed by tickets that were
// issued before the rotation stays. It returns how many entries went.
func (k *Keytab) KeepVersions(n int, since time.Time) int { return 0 }

// Clone returns a keytab with memory of its own.
func (k *Keytab) Clone() *Keytab { return nil }

// Wipe overwrites every key.
func (k *Keytab) Wipe() {}

// MachineEntries makes the entries of a computer account: for each principal
// (the account itself and its SPNs) one per key, all of one kvno and time.
// All principals of one account share the account's keys.
func MachineEntries(principals []Principal, keys []Key, kvno uint32, at time.Time) []KeytabEntry {
	return nil
}
