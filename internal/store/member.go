// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// GroupsOf returns the rows of all groups that a user is in, ascending: nested
// ones, the primary group and distribution groups included.
func (v *View) GroupsOf(user identity.RowID) []identity.RowID {
	return readSet(v.tx.Bucket(bucketAllGroups).Get(rowKey(user)))
}

// MembersOf returns the rows of all users that a group has, ascending: through
// nested groups and by primary group too.
func (v *View) MembersOf(group identity.RowID) []identity.RowID {
	return readSet(v.tx.Bucket(bucketAllMembers).Get(rowKey(group)))
}

// MemberCount is the length of MembersOf without making it.
func (v *View) MemberCount(group identity.RowID) int {
	n, _ := setLen(v.tx.Bucket(bucketAllMembers).Get(rowKey(group)))
	return n
}

// DirectMembers returns the users and groups that the directory lists as
// members, and the users whose primary group this is, ascending.
func (v *View) DirectMembers(group identity.RowID) []identity.RowID {
	direct := v.listed(group)
	r, err := v.load(group)
	if err != nil || r == nil || r.Group == nil {
		return direct
	}
	return changeSet(direct, v.primaryOf(r.Group.SID), nil)
}

// listed returns the members that the directory lists.
func (v *View) listed(group identity.RowID) rowSet {
	return readSet(v.tx.Bucket(bucketMembers).Get(rowKey(group)))
}

// primaryOf returns the users whose primary group has the SID.
func (v *View) primaryOf(sid identity.SID) rowSet {
	if sid.IsZero() {
		return nil
	}
	return readSet(v.tx.Bucket(bucketPrimary).Get(sid.Bytes()))
}

// IsMember reports whether a user is in a group, nested or not.
func (v *View) IsMember(user, group identity.RowID) bool {
	return setHas(v.tx.Bucket(bucketAllGroups).Get(rowKey(user)), group)
}

// GIDs appends to buf the gids of all unix groups a user is in, primary group
// included, ascending, each once, zero never, and returns it.
func (v *View) GIDs(user identity.RowID, buf []identity.GID) []identity.GID {
	start := len(buf)
	groups := v.GroupsOf(user)
	if v.gidCalls++; v.gidCalls == 8 { // somebody goes through all users
		v.table = v.groupTable()
	}
	for _, g := range groups {
		var info groupInfo
		if v.table != nil {
			info = v.table[g]
		} else {
			info = readGroupInfo(v.tx.Bucket(bucketGroups).Get(rowKey(g)))
		}
		if info.gid != 0 {
			buf = append(buf, identity.GID(info.gid))
		}
	}
	if r, err := v.load(user); err == nil && r != nil && r.User != nil && r.User.GID != 0 {
		buf = append(buf, r.User.GID)
	}
	gids := buf[start:]
	slices.Sort(gids)
	return buf[:start+len(slices.Compact(gids))]
}

// groupInfo is what resolving memberships has to know about a group.
type groupInfo struct {
	gid      uint32 // 0: no unix group
	security bool
}

func packGroupInfo(g groupInfo) []byte {
	b := u32(g.gid)
	if g.security {
		return append(b, 1)
	}
	return append(b, 0)
}

func readGroupInfo(b []byte) groupInfo {
	if len(b) != 5 {
		return groupInfo{}
	}
	return groupInfo{gid: binary.BigEndian.Uint32(b), security: b[4] != 0}
}

// groupTable reads what there is to know about every group.
func (v *View) groupTable() map[identity.RowID]groupInfo {
	table := make(map[identity.RowID]groupInfo)
	c := v.tx.Bucket(bucketGroups).Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		table[rowOf(k)] = readGroupInfo(b)
	}
	return table
}
