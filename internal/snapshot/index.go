// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// keySet is every key of one kind of row.
type keySet struct {
	all       []keyEntry // by row, then by key
	byHash    []int32    // indexes of all, in the order of the index, then by key
	live      int        // entries that are not dropped
	ambiguous int        // aliases that find nobody, because two rows claim them
}

type keyEntry struct {
	hash    uint64
	key     string
	row     int32
	ref     uint32 // of the row when the key is inline, else of its alias
	inline  bool   // the key is the published name itself
	strong  bool   // the key is the fold of the published name
	dropped bool
}

func (e *keyEntry) spot() uint32 { return uint32(e.hash) }
func (e *keyEntry) tag() uint32  { return uint32(e.hash >> 32) }

// keys gathers the keys of n rows and settles who owns which: the published
// name before an alias, and nobody where two rows claim an alias.
func (b *Builder) keys(kind string, n int, row func(int) (name string, aliases []string)) (*keySet, error) {
	ks := &keySet{all: make([]keyEntry, 0, 5*n)}
	var mine []string
	for i := range n {
		name, aliases := row(i)
		mine = appendKeys(mine[:0], name)
		own := mine[0]
		if b.exact {
			mine = mine[:1]
		}
		for _, a := range aliases {
			switch {
			case CheckAlias(a) != nil:
			case b.exact:
				mine = append(mine, a)
			default:
				mine = appendKeys(mine, a)
			}
		}
		slices.Sort(mine)
		for _, k := range slices.Compact(mine) {
			ks.all = append(ks.all, keyEntry{
				hash: hash(b.seed, k), key: k, row: int32(i),
				strong: k == own, inline: k == own && k == name,
			})
		}
	}
	ks.byHash = bySpot(len(ks.all), func(i int) uint32 { return ks.all[i].spot() }, func(x, y int32) int {
		a, b := &ks.all[x], &ks.all[y]
		return cmp.Or(cmp.Compare(a.tag(), b.tag()), cmp.Compare(a.key, b.key))
	})
	ks.live = len(ks.all)
	for from := 0; from < len(ks.byHash); {
		to := from + 1
		for to < len(ks.byHash) && ks.all[ks.byHash[to]].hash == ks.all[ks.byHash[from]].hash {
			to++
		}
		if to-from > 1 {
			if err := ks.settle(kind, ks.byHash[from:to]); err != nil {
				return nil, err
			}
		}
		from = to
	}
	return ks, nil
}

// settle decides among entries of one hash, which are sorted by key.
func (ks *keySet) settle(kind string, same []int32) error {
	for from := 0; from < len(same); {
		to, owner, claims := from, -1, 0
		for ; to < len(same) && ks.all[same[to]].key == ks.all[same[from]].key; to++ {
			claims++
			if e := &ks.all[same[to]]; e.strong {
				if owner >= 0 {
					return fault.Errorf(fault.Conflict, "two %s have the name %q", kind, e.key)
				}
				owner = to
			}
		}
		if claims > 1 {
			for i := from; i < to; i++ {
				if i != owner {
					ks.all[same[i]].dropped = true
					ks.live--
				}
			}
			if owner < 0 {
				ks.ambiguous++
			}
		}
		from = to
	}
	return nil
}

// bySpot returns the order in which n entries stand in an index: by spot, and
// where that is equal by the given comparison.
func bySpot(n int, spot func(int) uint32, tie func(x, y int32) int) []int32 {
	// Spots are spread evenly, so one pass of counting leaves runs of one or two
	// to sort.
	runs := uint32(max(n, 1))
	ends := make([]int32, runs+1)
	for i := range n {
		ends[home(spot(i), runs)+1]++
	}
	for r := range runs {
		ends[r+1] += ends[r]
	}
	order := make([]int32, n)
	for i := range n {
		r := home(spot(i), runs)
		order[ends[r]] = int32(i) // ends[r] grows from the run's start to its end
		ends[r]++
	}
	from := int32(0)
	for _, to := range ends[:runs] {
		if run := order[from:to]; len(run) > 1 {
			slices.SortFunc(run, func(x, y int32) int {
				if c := cmp.Compare(spot(int(x)), spot(int(y))); c != 0 {
					return c
				}
				return tie(x, y)
			})
		}
		from = to
	}
	return order
}

// place gives every entry its ref: that of its row, or of an alias laid out
// from at on. It returns where the aliases end.
func (ks *keySet) place(at uint64, rows []uint32) uint64 {
	for i := range ks.all {
		switch e := &ks.all[i]; {
		case e.dropped:
		case e.inline:
			e.ref = rows[e.row]
		default:
			e.ref = uint32(at / 8)
			at += uint64(aliasLength(len(e.key)))
		}
	}
	return at
}

func aliasLength(key int) int { return align(aliasSize+key+1, 8) }

// index is a list of entries, each at its home or the next free place.
type index struct {
	homes  uint32
	places []uint32
	slots  []Slot
}

func newIndex(entries int) *index {
	return &index{homes: homes(entries), places: make([]uint32, 0, entries), slots: make([]Slot, 0, entries)}
}

func homes(entries int) uint32 { return uint32(max(2*entries, 1)) }

// add takes the entries in the order of their spots.
func (x *index) add(spot, tag, ref uint32) {
	place := home(spot, x.homes)
	if n := len(x.places); n > 0 {
		place = max(place, x.places[n-1]+1)
	}
	x.places = append(x.places, place)
	x.slots = append(x.slots, Slot{tag, ref})
}

// length is that of the index in bytes: to its last home or beyond its last
// entry, and one empty slot.
func (x *index) length() uint64 {
	end := x.homes
	if n := len(x.places); n > 0 {
		end = max(end, x.places[n-1]+1)
	}
	return uint64(end+1) * uint64(slotSize)
}
