// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"golang.org/x/sys/unix"
)

// maxFile is the longest file that is read.
const maxFile = 256 << 10

// source is one file as TOML sees it: values by dotted key, and where they stand.
type source struct {
	file  string
	tree  map[string]any
	lines map[string]int // line of each key and table; items of arrays as "name[0].key"
	ends  []int          // offset of each line's end, while lines are noted
}

// readSource reads one file. A file that is not there gives nil and no mistake.
// The files of conf.d belong to the worker and are read by root as well, so
// their last part is never a link, and nothing but a plain file is waited for.
func readSource(file string, follow bool) (*source, Mistakes) {
	flags := unix.O_RDONLY | unix.O_NONBLOCK
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	f, err := os.OpenFile(file, flags, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, Mistakes{{File: file, Text: "cannot be read: " + cause(err)}}
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, Mistakes{{File: file, Text: "is no plain file"}}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, Mistakes{{File: file, Text: "cannot be read: " + cause(err)}}
	}
	return parseSource(file, data)
}

// parseSource reads the text of one file.
func parseSource(file string, data []byte) (*source, Mistakes) {
	if len(data) > maxFile {
		return nil, Mistakes{{File: file, Text: fmt.Sprintf("longer than %d bytes", maxFile)}}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // which editors of Windows put there
	s := &source{file: file, tree: map[string]any{}, lines: map[string]int{}}
	if err := toml.Unmarshal(data, &s.tree); err != nil {
		m := Mistake{File: file, Text: strings.TrimPrefix(err.Error(), "toml: ")}
		var de *toml.DecodeError
		if errors.As(err, &de) {
			m.Line, _ = de.Position()
		}
		return nil, Mistakes{m}
	}
	s.place(data)
	return s, nil
}

// place notes the line of every key.
func (s *source) place(data []byte) {
	for i, c := range data {
		if c == '\n' {
			s.ends = append(s.ends, i)
		}
	}
	var p unstable.Parser
	p.Reset(data)
	section := ""
	arrays := map[string]int{} // how often each [[table]] was opened
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			section = s.note(e, "")
		case unstable.ArrayTable:
			name := s.note(e, "")
			section = fmt.Sprintf("%s[%d]", name, arrays[name])
			s.lines[section] = s.lines[name]
			arrays[name]++
		case unstable.KeyValue:
			s.placePair(e, section)
		}
	}
}

// placePair notes a key and, where its value has tables inside, theirs.
func (s *source) placePair(e *unstable.Node, section string) {
	name := s.note(e, section)
	value := e.Value()
	switch value.Kind {
	case unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			s.placePair(it.Node(), name)
		}
	case unstable.Array:
		i := 0
		for it := value.Children(); it.Next(); i++ {
			if item := it.Node(); item.Kind == unstable.InlineTable {
				for in := item.Children(); in.Next(); {
					s.placePair(in.Node(), fmt.Sprintf("%s[%d]", name, i))
				}
			}
		}
	}
}

// note records the line of e's key under section and returns its full name.
func (s *source) note(e *unstable.Node, section string) string {
	name, line := section, 0
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if name != "" {
			name += "."
		}
		name += string(n.Data)
		if line == 0 {
			line = 1 + sort.SearchInts(s.ends, int(n.Raw.Offset))
		}
		if _, seen := s.lines[name]; !seen {
			s.lines[name] = line
		}
	}
	s.lines[name] = line
	return name
}

// mistake makes a Mistake about a key of this file.
func (s *source) mistake(key, format string, args ...any) Mistake {
	return Mistake{File: s.file, Line: s.lines[key], Key: key, Text: fmt.Sprintf(format, args...)}
}

// cause returns why a file operation failed, without the path once more.
func cause(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "permission denied; the user " + WorkerUser + " has to be able to read it"
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
