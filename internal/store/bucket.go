// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// The buckets, as drawn in the package comment.
var (
	bucketMeta       = []byte("meta")
	bucketRows       = []byte("rows")
	bucketGraves     = []byte("graves")
	bucketIDs        = []byte("ids")
	bucketOIDs       = []byte("oids")
	bucketObjects    = []byte("objects")
	bucketSIDs       = []byte("sids")
	bucketNames      = []byte("names")
	bucketOrder      = []byte("order")
	bucketGroups     = []byte("groups")
	bucketMembers    = []byte("members")
	bucketParents    = []byte("parents")
	bucketPrimary    = []byte("primary")
	bucketAllMembers = []byte("allmembers")
	bucketAllGroups  = []byte("allgroups")
	bucketWanted     = []byte("wanted")
	bucketReserved   = []byte("reserved")
	bucketLog        = []byte("log")
	bucketMachine    = []byte("machine")

	buckets = [][]byte{bucketMeta, bucketRows, bucketGraves, bucketIDs, bucketOIDs, bucketObjects, bucketSIDs, bucketNames,
		bucketOrder, bucketGroups, bucketMembers, bucketParents, bucketPrimary, bucketAllMembers, bucketAllGroups, bucketWanted,
		bucketReserved, bucketLog, bucketMachine, bucketFixed}

	// indexes follow from the records alone: see indexKeys.
	indexes = [][]byte{bucketIDs, bucketOIDs, bucketObjects, bucketSIDs, bucketNames, bucketOrder, bucketGroups}
	// memberships follow from members and the records.
	memberships = [][]byte{bucketParents, bucketPrimary, bucketAllMembers, bucketAllGroups}
)

// Keys of the bucket meta.
var (
	metaSchema  = []byte("schema")
	metaEpoch   = []byte("epoch")
	metaUnclean = []byte("unclean")
	metaDomain  = []byte("domain")
	metaSync    = []byte("sync")
	metaSeq     = []byte("seq")
)

// Classes of claims: the lowest wins.
const (
	classLive    = 0 // oids, objects: of a live row; sids: the SID of now
	classPast    = 1 // sids: of before the object was re-created
	classHistory = 2 // sids: of sIDHistory
	classGone    = 9 // oids, objects, sids: of a row that is gone

	classAccount = 1 // names: sAMAccountName
	classUPN     = 2 // names: userPrincipalName
)

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// num reads a number of 8 bytes; 0 for anything else.
func num(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func rowKey(id identity.RowID) []byte { return u64(uint64(id)) }
func rowOf(b []byte) identity.RowID   { return identity.RowID(num(b)) }

// claimKey returns prefix · class · row.
func claimKey(prefix []byte, class byte, row identity.RowID) []byte {
	k := make([]byte, 0, len(prefix)+9)
	k = append(k, prefix...)
	k = append(k, class)
	return binary.BigEndian.AppendUint64(k, uint64(row))
}

// splitClaim takes a claim apart; false when it is none.
func splitClaim(k []byte) (prefix []byte, class byte, row identity.RowID, ok bool) {
	if len(k) < 9 {
		return nil, 0, 0, false
	}
	at := len(k) - 9
	return k[:at], k[at], rowOf(k[at+1:]), true
}

// namePrefix returns the prefix of the claims on a folded name.
func namePrefix(folded string) []byte { return append([]byte(folded), 0) }
