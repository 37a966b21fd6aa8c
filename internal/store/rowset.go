// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// rowSet is a set of rows: ascending, each once. In the file it is the number
// of rows and then the steps between them, all varints: a byte or two each.
type rowSet []identity.RowID

func packSet(s rowSet) []byte {
	b := make([]byte, 0, 4+2*len(s))
	b = binary.AppendUvarint(b, uint64(len(s)))
	var last identity.RowID
	for _, r := range s {
		b = binary.AppendUvarint(b, uint64(r-last))
		last = r
	}
	return b
}

// readSet reads a packed set; what cannot be read ends it.
func readSet(b []byte) rowSet {
	n, b := setLen(b)
	if n == 0 {
		return nil
	}
	s := make(rowSet, 0, n)
	var last identity.RowID
	for range n {
		step, size := binary.Uvarint(b)
		if size <= 0 {
			break
		}
		b = b[size:]
		last += identity.RowID(step)
		s = append(s, last)
	}
	return s
}

// setLen returns how many rows a packed set has, and the rest of it. It never
// returns more than there could be.
func setLen(b []byte) (int, []byte) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return 0, nil
	}
	return int(n), b[size:]
}

// setHas reports whether a packed set has the row, without unpacking it.
func setHas(b []byte, row identity.RowID) bool {
	n, b := setLen(b)
	var last identity.RowID
	for range n {
		step, size := binary.Uvarint(b)
		if size <= 0 {
			return false
		}
		b = b[size:]
		if last += identity.RowID(step); last >= row {
			return last == row
		}
	}
	return false
}

// asSet sorts rows, drops doubles and returns them; the argument is used up.
func asSet(rows []identity.RowID) rowSet {
	slices.Sort(rows)
	return slices.Compact(rows)
}

// diffSets calls lost for what is in old only and gained for what is in new
// only, both ascending.
func diffSets(old, new rowSet, lost, gained func(identity.RowID)) {
	for len(old) > 0 || len(new) > 0 {
		switch {
		case len(new) == 0 || len(old) > 0 && old[0] < new[0]:
			lost(old[0])
			old = old[1:]
		case len(old) == 0 || new[0] < old[0]:
			gained(new[0])
			new = new[1:]
		default:
			old, new = old[1:], new[1:]
		}
	}
}

// changeSet returns s without the rows in del and with those in add; both
// ascending, and s stays as it is.
func changeSet(s, add, del rowSet) rowSet {
	out := make(rowSet, 0, len(s)+len(add))
	for len(s) > 0 || len(add) > 0 {
		var next identity.RowID
		switch {
		case len(add) == 0 || len(s) > 0 && s[0] < add[0]:
			next, s = s[0], s[1:]
			for len(del) > 0 && del[0] < next {
				del = del[1:]
			}
			if len(del) > 0 && del[0] == next {
				continue
			}
		default:
			if next = add[0]; len(s) > 0 && s[0] == next {
				s = s[1:]
			}
			add = add[1:]
		}
		out = append(out, next)
	}
	return out
}
