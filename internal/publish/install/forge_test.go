// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/snapshot/forge"
)

// forged returns snapshots that no builder makes: with an id in the place of
// another one, and every sum right.
func forged(t testing.TB, id uint32) map[string][]byte {
	t.Helper()
	const uid, gid, other = base + 11, base + 22, base + 33
	b, err := snapshot.NewBuilder(snapshot.Options{Generation: 5, Complete: true, Ranges: []snapshot.Range{{Low: base, High: base + 999999}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddUser(snapshot.User{Name: "mallory", UID: uid, GID: gid, Dir: "/", Shell: "/bin/sh", Groups: []identity.GID{other}}); err != nil {
		t.Fatal(err)
	}
	if err := b.AddGroup(snapshot.Group{Name: "malice", GID: gid}); err != nil {
		t.Fatal(err)
	}
	im, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for what, from := range map[string]uint32{"uid": uid, "primary gid and group": gid, "gid in the list": other} {
		data := im.Bytes()
		var old, replacement [4]byte
		binary.NativeEndian.PutUint32(old[:], from)
		binary.NativeEndian.PutUint32(replacement[:], id)
		if !bytes.Contains(data, old[:]) {
			t.Fatalf("%s is not in the snapshot", what)
		}
		out[what] = forge.Seal(bytes.ReplaceAll(data, old[:], replacement[:]))
	}
	return out
}
