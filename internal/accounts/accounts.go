// SPDX-License-Identifier: Apache-2.0

// Package accounts knows this machine's own users and groups, so that no name
// and no number of the domain shadows one of theirs.
//
// It reads /etc/passwd and /etc/group itself. It never asks NSS (which would
// ask latchkey), never writes, and knows nothing of passwords.
package accounts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// maxLine is the longest line that is read: a group of some 60,000 members.
const maxLine = 1 << 20

// Set is what the machine has of its own. It does not change once made.
type Set struct {
	Users  map[string]uint32 // name as written -> uid
	Groups map[string]uint32 // name as written -> gid
}

// Names returns the names of users and groups, folded.
func (s Set) Names() map[string]struct{} {
	all := make(map[string]struct{}, len(s.Users)+len(s.Groups))
	for _, names := range []map[string]uint32{s.Users, s.Groups} {
		for name := range names {
			all[identity.Fold(name)] = struct{}{}
		}
	}
	return all
}

// IDs returns the uids and gids.
func (s Set) IDs() map[uint32]struct{} {
	all := make(map[uint32]struct{}, len(s.Users)+len(s.Groups))
	for _, names := range []map[string]uint32{s.Users, s.Groups} {
		for _, id := range names {
			all[id] = struct{}{}
		}
	}
	return all
}

// Equal reports whether both sets are the same.
func (s Set) Equal(o Set) bool {
	return maps.Equal(s.Users, o.Users) && maps.Equal(s.Groups, o.Groups)
}

// Source says where to look. The zero value is this machine.
type Source struct {
	Dir  string        // holds passwd and group; empty: /etc
	Poll time.Duration // how often to look whether or not anything was told; 0: 500 ms
	Log  *slog.Logger  // nil: slog.Default()
}

func (s Source) dir() string {
	if s.Dir == "" {
		return "/etc"
	}
	return s.Dir
}

// Read reads both files now. A missing file is an empty one; any other error is
// fault.Internal, and the caller goes on with the set it has.
func (s Source) Read() (Set, error) {
	users, err := readFile(filepath.Join(s.dir(), "passwd"))
	if err != nil {
		return Set{}, err
	}
	groups, err := readFile(filepath.Join(s.dir(), "group"))
	if err != nil {
		return Set{}, err
	}
	return Set{Users: users, Groups: groups}, nil
}

func readFile(path string) (map[string]uint32, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]uint32{}, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read this machine's accounts", err)
	}
	defer f.Close()
	names, err := parse(f)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Sprintf("read %s", path), err)
	}
	return names, nil
}

// parse reads lines of passwd(5) or group(5): name, password, id. As glibc does,
// it passes over comments, blank lines, NIS marks and lines that make no sense.
// Of two lines with one name the first counts.
func parse(r io.Reader) (map[string]uint32, error) {
	names := make(map[string]uint32)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line := bytes.TrimLeft(lines.Bytes(), " \t")
		fields := bytes.SplitN(line, []byte{':'}, 4)
		if len(fields) < 3 || len(fields[0]) == 0 || bytes.IndexByte([]byte("#+-"), fields[0][0]) >= 0 {
			continue
		}
		id, err := strconv.ParseUint(string(fields[2]), 10, 32)
		if err != nil {
			continue
		}
		if name := string(fields[0]); !has(names, name) {
			names[name] = uint32(id)
		}
	}
	return names, lines.Err()
}

func has(names map[string]uint32, name string) bool {
	_, ok := names[name]
	return ok
}
