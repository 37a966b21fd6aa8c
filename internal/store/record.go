// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Fields of a record: a protobuf message, written and read by hand because a
// lookup is mostly this. A number is never used for anything else again; fields
// that are not known are carried along.
const (
	recKind           protowire.Number = 1 // varint
	recOID            protowire.Number = 2
	recSID            protowire.Number = 3
	recObjectGUID     protowire.Number = 4
	recPastSID        protowire.Number = 5 // repeated
	recHistorySID     protowire.Number = 6 // repeated
	recName           protowire.Number = 7
	recAccount        protowire.Number = 8
	recAlias          protowire.Number = 9 // repeated
	recDisplayName    protowire.Number = 10
	recMail           protowire.Number = 11
	recMailNickname   protowire.Number = 12
	recDN             protowire.Number = 13
	recUnpublished    protowire.Number = 14
	recState          protowire.Number = 15 // varint
	recCreated        protowire.Number = 16 // varint, all times: milliseconds since 1970, zigzag
	recChanged        protowire.Number = 17 // varint
	recID             protowire.Number = 18 // varint
	recMoved          protowire.Number = 19 // varint
	recMissed         protowire.Number = 20 // varint
	recUPN            protowire.Number = 22
	recGivenName      protowire.Number = 23
	recSurname        protowire.Number = 24
	recGID            protowire.Number = 25 // varint, of the primary group
	recPrimaryGroup   protowire.Number = 26
	recPasswordSet    protowire.Number = 27 // varint
	recAccountExpires protowire.Number = 28 // varint
	recScope          protowire.Number = 29 // varint
	recSecurity       protowire.Number = 30 // varint
	recForeignMember  protowire.Number = 31 // repeated
	recSSHKey         protowire.Number = 32 // repeated
)

var errRecord = errors.New("a record cannot be read")

// appendRecord writes a row. Equal rows give equal bytes.
func appendRecord(b []byte, r *Row) []byte {
	c := r.Common()
	b = putNum(b, recKind, uint64(r.Kind()))
	b = putGUID(b, recOID, c.OID)
	b = putSID(b, recSID, c.SID)
	b = putGUID(b, recObjectGUID, c.ObjectGUID)
	b = putSIDs(b, recPastSID, c.PastSIDs)
	b = putSIDs(b, recHistorySID, c.HistorySIDs)
	b = putText(b, recName, c.Name)
	b = putText(b, recAccount, c.Account)
	for _, a := range c.Aliases {
		b = protowire.AppendTag(b, recAlias, protowire.BytesType)
		b = protowire.AppendString(b, a)
	}
	b = putText(b, recDisplayName, c.DisplayName)
	b = putText(b, recMail, c.Mail)
	b = putText(b, recMailNickname, c.MailNickname)
	b = putText(b, recDN, c.DN)
	b = putText(b, recUnpublished, string(c.Unpublished))
	b = putNum(b, recState, uint64(c.State))
	b = putTime(b, recCreated, c.Created)
	b = putTime(b, recChanged, c.Changed)
	b = putNum(b, recID, uint64(r.ID))
	b = putFlag(b, recMoved, r.Moved)
	b = putNum(b, recMissed, uint64(r.Missed))
	if u := r.User; u != nil {
		b = putText(b, recUPN, u.UPN)
		b = putText(b, recGivenName, u.GivenName)
		b = putText(b, recSurname, u.Surname)
		b = putNum(b, recGID, uint64(u.GID))
		b = putSID(b, recPrimaryGroup, u.PrimaryGroup)
		b = putTime(b, recPasswordSet, u.PasswordLastSet)
		b = putTime(b, recAccountExpires, u.AccountExpires)
		for _, k := range u.SSHKeys {
			b = protowire.AppendTag(b, recSSHKey, protowire.BytesType)
			b = protowire.AppendString(b, k)
		}
	}
	if g := r.Group; g != nil {
		b = putNum(b, recScope, uint64(g.Scope))
		b = putFlag(b, recSecurity, g.Security)
		b = putSIDs(b, recForeignMember, g.ForeignMembers)
	}
	return append(b, r.unknown...)
}

// readRecord reads a row. The bytes may be reused afterwards.
func readRecord(id identity.RowID, data []byte) (*Row, error) {
	// One copy holds every text of the row.
	all := string(data)
	var r Row
	var c *identity.Common
	var n uint64 // the last number
	for at := 0; at < len(data); {
		num, typ, size := protowire.ConsumeTag(data[at:])
		if size < 0 {
			return nil, errRecord
		}
		start := at
		at += size
		var text string
		switch typ {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(data[at:])
			if size < 0 {
				return nil, errRecord
			}
			at += size
		case protowire.BytesType:
			length, size := protowire.ConsumeVarint(data[at:])
			if size < 0 || length > uint64(len(data)-at-size) {
				return nil, errRecord
			}
			at += size
			text = all[at : at+int(length)]
			at += int(length)
		default:
			if size = protowire.ConsumeFieldValue(num, typ, data[at:]); size < 0 {
				return nil, errRecord
			}
			at += size
		}
		if c == nil {
			if num != recKind || typ != protowire.VarintType {
				return nil, errRecord
			}
			switch identity.Kind(n) {
			case identity.KindUser:
				r.User = &identity.User{}
				c = &r.User.Common
			case identity.KindGroup:
				r.Group = &identity.Group{}
				c = &r.Group.Common
			default:
				return nil, errRecord
			}
			c.Row = id
			continue
		}
		known, err := r.field(c, num, typ, n, text)
		if err != nil {
			return nil, err
		}
		if !known {
			r.unknown = append(r.unknown, data[start:at]...)
		}
	}
	if c == nil {
		return nil, errRecord
	}
	r.show()
	return &r, nil
}

// field takes one field in; false when it is not known.
func (r *Row) field(c *identity.Common, num protowire.Number, typ protowire.Type, n uint64, text string) (known bool, err error) {
	if typ == protowire.VarintType {
		switch num {
		case recState:
			c.State = identity.State(n)
		case recCreated:
			c.Created = asTime(n)
		case recChanged:
			c.Changed = asTime(n)
		case recID:
			r.ID = uint32(n)
		case recMoved:
			r.Moved = n != 0
		case recMissed:
			r.Missed = uint32(n)
		case recGID:
			if r.User == nil {
				return false, nil
			}
			r.User.GID = identity.GID(n)
		case recPasswordSet:
			if r.User == nil {
				return false, nil
			}
			r.User.PasswordLastSet = asTime(n)
		case recAccountExpires:
			if r.User == nil {
				return false, nil
			}
			r.User.AccountExpires = asTime(n)
		case recScope:
			if r.Group == nil {
				return false, nil
			}
			r.Group.Scope = identity.Scope(n)
		case recSecurity:
			if r.Group == nil {
				return false, nil
			}
			r.Group.Security = n != 0
		default:
			return false, nil
		}
		return true, nil
	}
	if typ != protowire.BytesType {
		return false, nil
	}
	switch num {
	case recOID:
		return true, asGUID(&c.OID, text)
	case recSID:
		return true, asSID(&c.SID, text)
	case recObjectGUID:
		return true, asGUID(&c.ObjectGUID, text)
	case recPastSID:
		return true, addSID(&c.PastSIDs, text)
	case recHistorySID:
		return true, addSID(&c.HistorySIDs, text)
	case recName:
		c.Name = text
	case recAccount:
		c.Account = text
	case recAlias:
		if c.Aliases == nil {
			c.Aliases = make([]string, 0, 3)
		}
		c.Aliases = append(c.Aliases, text)
	case recDisplayName:
		c.DisplayName = text
	case recMail:
		c.Mail = text
	case recMailNickname:
		c.MailNickname = text
	case recDN:
		c.DN = text
	case recUnpublished:
		c.Unpublished = identity.Unpublished(text)
	case recUPN, recGivenName, recSurname, recPrimaryGroup:
		u := r.User
		switch {
		case u == nil:
			return false, nil
		case num == recUPN:
			u.UPN = text
		case num == recGivenName:
			u.GivenName = text
		case num == recSurname:
			u.Surname = text
		default:
			return true, asSID(&u.PrimaryGroup, text)
		}
	case recSSHKey:
		if r.User == nil {
			return false, nil
		}
		r.User.SSHKeys = append(r.User.SSHKeys, text)
	case recForeignMember:
		if r.Group == nil {
			return false, nil
		}
		return true, addSID(&r.Group.ForeignMembers, text)
	default:
		return false, nil
	}
	return true, nil
}

// show sets the fields of the entry that follow from those of the row.
func (r *Row) show() {
	if r.User != nil {
		r.User.UID = identity.UID(r.ID)
	}
	if r.Group != nil {
		r.Group.GID = 0
		if r.isUnix() {
			r.Group.GID = identity.GID(r.ID)
		}
	}
}

func putNum(b []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), n)
}

func putFlag(b []byte, num protowire.Number, on bool) []byte {
	return putNum(b, num, protowire.EncodeBool(on))
}

func putText(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func putBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func putGUID(b []byte, num protowire.Number, g identity.GUID) []byte {
	if g.IsZero() {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), g[:])
}

func putSID(b []byte, num protowire.Number, s identity.SID) []byte {
	return putBytes(b, num, s.Bytes())
}

func putSIDs(b []byte, num protowire.Number, sids []identity.SID) []byte {
	for _, s := range sids {
		b = putSID(b, num, s)
	}
	return b
}

func putTime(b []byte, num protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), protowire.EncodeZigZag(t.UnixMilli()))
}

func asTime(n uint64) time.Time { return time.UnixMilli(protowire.DecodeZigZag(n)).UTC() }

func asGUID(g *identity.GUID, text string) error {
	if len(text) != len(g) {
		return errRecord
	}
	copy(g[:], text)
	return nil
}

func asSID(s *identity.SID, text string) (err error) {
	*s, err = identity.SIDFromBytes([]byte(text))
	return err
}

func addSID(all *[]identity.SID, text string) error {
	s, err := identity.SIDFromBytes([]byte(text))
	if err == nil {
		*all = append(*all, s)
	}
	return err
}
