// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// admit lets the administrators of the domain, and nobody else beyond the owner
// and the group, connect to admin.sock: by an access list of the socket file, for
// the group latchkey-admin is the machine's own and the domain cannot add to it.
// The list is the whole one: who is not in it may not any more. Who may call what
// is decided by the worker at every call; this is the outer door.
func (m *Monitor) admit(r *control.Admit) error {
	if len(r.UIDs)+len(r.GIDs) > control.MaxAdmitted {
		return fault.Errorf(fault.Malformed, "%d administrators", len(r.UIDs)+len(r.GIDs))
	}
	low, high, err := m.config.Load().IDMap.Range()
	if err != nil {
		return err
	}
	for _, id := range slices.Concat(r.UIDs, r.GIDs) {
		if idmap.Refused(id) || id < low || id > high {
			return fault.Errorf(fault.Denied, "%d is no number of the domain", id)
		}
	}
	m.mu.Lock()
	ln := m.listeners.First(peer.Admin)
	m.mu.Unlock()
	if ln == nil {
		return nil
	}
	at, ok := ln.Addr().(*net.UnixAddr)
	if !ok || !filepath.IsAbs(at.Name) {
		return fault.Errorf(fault.Internal, "admin.sock is at %s", ln.Addr())
	}
	return setAccess(at.Name, r.UIDs, r.GIDs)
}

// The extended attribute of an access list, and its parts (acl(5),
// linux/posix_acl_xattr.h).
const (
	aclAttribute = "system.posix_acl_access"
	aclVersion   = 2

	aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

	aclNobody = 1<<32 - 1 // the id of entries that have none
	readWrite = 6
)

// setAccess makes the access list of a socket: owner and group as 0660 says, the
// given users and groups, nobody else. Without any there is no list.
func setAccess(path string, uids, gids []uint32) error {
	const op = "let administrators of the domain use admin.sock"
	if len(uids)+len(gids) == 0 {
		if err := unix.Lremovexattr(path, aclAttribute); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fault.Wrap(fault.Internal, op, err)
		}
		return nil
	}
	err := unix.Lsetxattr(path, aclAttribute, accessList(uids, gids), 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fault.WithRemedy(fault.Wrap(fault.Internal, op, err), "the file system of "+filepath.Dir(path)+
			" keeps no access lists: add the people to the group latchkey-admin in /etc/group instead")
	}
	return fault.Wrap(fault.Internal, op, err)
}

func accessList(uids, gids []uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	entry := func(tag, perm uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	each := func(tag uint16, ids []uint32) {
		ids = slices.Clone(ids)
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			entry(tag, readWrite, id)
		}
	}
	entry(aclUserObj, readWrite, aclNobody)
	each(aclUser, uids)
	entry(aclGroupObj, readWrite, aclNobody)
	each(aclGroup, gids)
	entry(aclMask, readWrite, aclNobody)
	entry(aclOther, 0, aclNobody)
	return b
}
