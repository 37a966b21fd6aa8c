// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// openFile opens or makes the file and brings it to the current schema. Nothing
// is written before the file was looked at and understood.
func openFile(ctx context.Context, s *Store, o Options) error {
	if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) {
		if err := create(s.path); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := inspectHead(s.path); err != nil {
		return err
	}
	if err := inspectMeta(s.path, o); err != nil {
		return err
	}
	db, err := boltOpen(s.path, &bolt.Options{Timeout: o.LockTimeout, FreelistType: bolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		return err
	}
	s.db = db
	if err := s.start(ctx, o); err != nil {
		_ = db.Close()
		return err
	}
	if left, err := filepath.Glob(s.path + ".*.new"); err == nil {
		for _, f := range left { // of processes killed while they made a store
			_ = os.Remove(f)
		}
	}
	return nil
}

// boltOpen is bolt.Open with its errors and panics said in our words.
func boltOpen(path string, o *bolt.Options) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, damagedFault(fmt.Errorf("%v", p))
		}
	}()
	db, err = bolt.Open(path, 0o600, o)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout), errors.Is(err, syscall.EWOULDBLOCK):
		return nil, fault.WithRemedy(fault.New(fault.Conflict, "another process has the store open"),
			"is latchkeyd running already? `systemctl status latchkeyd` tells; stop the other one")
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, damagedFault(err)
	case err != nil:
		return nil, accessFault(err)
	}
	return db, nil
}

// create makes an empty store beside path and then gives it its name, so that a
// file called path is never half made.
func create(path string) (err error) {
	tmp := fmt.Sprintf("%s.%s.new", path, rand.Text()[:8])
	defer os.Remove(tmp)
	db, err := boltOpen(tmp, &bolt.Options{FreelistType: bolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		var epoch [8]byte
		_, _ = rand.Read(epoch[:])
		meta := tx.Bucket(bucketMeta)
		if err := meta.Put(metaEpoch, epoch[:]); err != nil {
			return err
		}
		return meta.Put(metaSchema, u64(schema))
	})
	if closing := db.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return writeFault(err)
	}
	// Link does not replace: of two processes that create, one gives its name.
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EOPNOTSUPP) {
			return accessFault(err)
		}
		if err := os.Rename(tmp, path); err != nil { // a file system without links
			return accessFault(err)
		}
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return accessFault(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return writeFault(err)
	}
	return nil
}

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	pageHeader  = 16
	metaSize    = 64 // magic 4, version 4, page size 4, flags 4, root 16, freelist 8, high water mark 8, txid 8, checksum 8
)

// inspectHead reads the two meta pages of a bbolt file without mapping it and
// compares what they promise with the file's size: bbolt itself would run past
// the end of a truncated file.
func inspectHead(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return accessFault(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return accessFault(err)
	case !fi.Mode().IsRegular():
		return fault.WithRemedy(fault.New(fault.Internal, "it is not a regular file"), notOurs)
	case fi.Size() == 0:
		return damagedFault(errors.New("it is empty"))
	}
	head := make([]byte, 1<<17) // room for the second meta page of the largest page size
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return accessFault(err)
	}
	head = head[:n]
	var best struct{ txid, end uint64 }
	ours := false
	for at := 0; at <= 1<<16; {
		m, ok := readMeta(head, at)
		ours = ours || ok
		if ok && m.sound && (best.end == 0 || m.txid > best.txid) {
			best.txid, best.end = m.txid, m.end
		}
		if at == 0 {
			at = 512
		}
		at *= 2
	}
	switch {
	case !ours:
		return fault.WithRemedy(fault.New(fault.Internal, "it is no store of latchkey"),
			notOurs)
	case best.end == 0:
		return damagedFault(errors.New("both of its headers are broken"))
	case best.end > uint64(fi.Size()):
		return damagedFault(fmt.Errorf("it is truncated: %d bytes of %d", fi.Size(), best.end))
	}
	return nil
}

type boltMeta struct {
	sound     bool
	txid, end uint64
}

// readMeta reads the meta page at an offset; false when there is none.
func readMeta(head []byte, at int) (boltMeta, bool) {
	if at+pageHeader+metaSize > len(head) {
		return boltMeta{}, false
	}
	b := head[at+pageHeader:][:metaSize]
	le := binary.LittleEndian
	if le.Uint32(b) != boltMagic || le.Uint32(b[4:]) != boltVersion {
		return boltMeta{}, false
	}
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	return boltMeta{
		sound: sum.Sum64() == le.Uint64(b[56:]),
		txid:  le.Uint64(b[48:]),
		end:   le.Uint64(b[40:]) * uint64(le.Uint32(b[8:])),
	}, true
}

// inspectMeta opens the file for reading only and refuses what is not ours or
// newer than we are, before anything could write to it.
func inspectMeta(path string, o Options) (err error) {
	db, err := boltOpen(path, &bolt.Options{ReadOnly: true, Timeout: o.LockTimeout, NoStatistics: true})
	if err != nil {
		return err
	}
	defer db.Close()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damagedFault(fmt.Errorf("%v", p))
		}
	}()
	return db.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil || meta.Get(metaSchema) == nil || meta.Get(metaEpoch) == nil {
			return fault.WithRemedy(fault.New(fault.Internal, "it is a bbolt file, but no store of latchkey"),
				notOurs)
		}
		if v := num(meta.Get(metaSchema)); v > schema {
			return fault.WithRemedy(fault.Errorf(fault.Internal, "it was written by a newer latchkey (schema %d, this one knows %d)", v, schema),
				"install that version again; or, to go back for good, export the ids with it, move the file away, start, and import them")
		}
		return nil
	})
}

// fromBolt reports whether a panic is one of bbolt's about a broken page, or a
// fault on its mapping (see debug.SetPanicOnFault).
func fromBolt(p any) bool {
	if e, ok := p.(runtime.Error); ok {
		_, address := e.(interface{ Addr() uintptr })
		return address || strings.Contains(string(debug.Stack()), "go.etcd.io/bbolt")
	}
	return strings.Contains(string(debug.Stack()), "go.etcd.io/bbolt")
}

// notOurs is what to do with something in the store's place.
const notOurs = "put a backup of the file in its place, or move it away and join again"

func damagedFault(err error) error {
	return fault.WithRemedy(fault.Wrap(fault.Internal, "the store is damaged", err),
		"put a backup of the file in its place, or move it away and join again: ids come out the same but for those that `latchkey status` calls moved")
}

func accessFault(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.WithRemedy(fault.Wrap(fault.Internal, "the store cannot be opened", err),
			"all of that directory belongs to the user latchkey, also after a restore: chown -R latchkey: /var/lib/latchkey, then restart latchkeyd")
	}
	return writeFault(err)
}
