// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

//go:embed samdb.py
var samdbScript string

// A Change is one thing to do to the domain's database. It is done on the DC
// itself with the rights of the system: no policy is asked, as little as it is
// when Microsoft's synchronisation writes.
type Change struct {
	Op       string              `json:"op"` // add, modify, delete, rename, search, batch
	DN       string              `json:"dn,omitempty"`
	To       string              `json:"to,omitempty"`
	Tree     bool                `json:"tree,omitempty"`
	Set      map[string][][]byte `json:"set,omitempty"` // add and modify; no values: remove the attribute
	Add      map[string][][]byte `json:"add,omitempty"`
	Del      map[string][][]byte `json:"del,omitempty"`
	Base     string              `json:"base,omitempty"`
	Scope    string              `json:"scope,omitempty"` // base, one, sub
	Filter   string              `json:"filter,omitempty"`
	Attrs    []string            `json:"attrs,omitempty"`
	All      []Change            `json:"all,omitempty"`
	Bulk     bool                `json:"bulk,omitempty"`     // a batch of many additions that nothing refuses: faster
	Controls []string            `json:"controls,omitempty"` // as ldbmodify --controls takes them
}

// An Entry is an object of the directory.
type Entry struct {
	DN    string              `json:"dn"`
	Attrs map[string][][]byte `json:"attrs"`
}

// Get returns the first value of an attribute as text, or "".
func (e Entry) Get(name string) string {
	if values := e.Attrs[name]; len(values) > 0 {
		return string(values[0])
	}
	return ""
}

// A ChangeError is the database's refusal.
type ChangeError struct {
	Text string
	Code int // LDAP result code, RFC 4511 section 4.1.9; -1 when it was no LDAP error
	DN   string
}

func (e *ChangeError) Error() string {
	return fmt.Sprintf("changing %q in the domain: %s (LDAP result %d)", e.DN, e.Text, e.Code)
}

// Text makes attribute values of text.
func Text(values ...string) [][]byte {
	all := make([][]byte, len(values))
	for i, value := range values {
		all[i] = []byte(value)
	}
	return all
}

// samdb is one long-lived process on the DC that holds the database open:
// starting one for each change would cost most of a second.
type samdb struct {
	mu      sync.Mutex
	machine *Machine
	process *Process
	in      *os.File
	out     *bufio.Reader
	near    *os.File
}

// do sends one request and waits for the answer.
func (s *samdb) do(ctx context.Context, change Change) ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		if err := s.start(ctx); err != nil {
			return nil, err
		}
	}
	line, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	answer, err := s.exchange(ctx, append(line, '\n'))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("the domain's database on %s: %w", s.machine.Name(), err)
	}
	if answer.Error != "" {
		return nil, &ChangeError{Text: answer.Error, Code: answer.Code, DN: change.DN}
	}
	return answer.Found, nil
}

type samdbAnswer struct {
	Error string  `json:"error"`
	Code  int     `json:"code"`
	Found []Entry `json:"found"`
}

func (s *samdb) exchange(ctx context.Context, line []byte) (*samdbAnswer, error) {
	stop := context.AfterFunc(ctx, func() { s.process.Kill() })
	defer stop()
	if line != nil {
		if _, err := s.in.Write(line); err != nil {
			return nil, err
		}
	}
	reply, err := s.out.ReadBytes('\n')
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		log, _ := s.machine.ReadFile(context.WithoutCancel(ctx), "/var/log/samdb.err")
		return nil, fmt.Errorf("it ended: %w: %s", err, lastLines(string(log), 8))
	}
	answer := &samdbAnswer{}
	return answer, json.Unmarshal(reply, answer)
}

func (s *samdb) start(ctx context.Context) error {
	const script = "/usr/local/lib/latchkey-lab/samdb.py"
	if err := s.machine.WriteFile(ctx, script, []byte(samdbScript), 0o644); err != nil {
		return err
	}
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	command := s.machine.Command("sh", "-c", "exec python3 -B "+script+" 2>/var/log/samdb.err")
	command.Stdin, command.Stdout, command.Stderr = inRead, outWrite, io.Discard
	// It outlives the call that happened to start it.
	s.process, err = command.Start(context.WithoutCancel(ctx))
	inRead.Close()
	outWrite.Close()
	if err != nil {
		inWrite.Close()
		outRead.Close()
		return err
	}
	s.in, s.near, s.out = inWrite, outRead, bufio.NewReader(outRead)
	if _, err := s.exchange(ctx, nil); err != nil {
		s.close()
		return err
	}
	return nil
}

func (s *samdb) close() {
	if s.process == nil {
		return
	}
	s.in.Close()
	s.near.Close()
	s.process.release()
	s.process = nil
}

// Close ends the process on the DC.
func (s *samdb) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}

// SetRaw writes bytes into an attribute that the directory itself would
// refuse: no UTF-8, control characters, names that no account may have. It
// writes below Samba's checks, into the file of the partition, and then
// touches the object so that its uSNChanged moves. Without values the
// attribute is removed.
func (d *Domain) SetRaw(ctx context.Context, name, attr string, values ...[]byte) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	var ldif strings.Builder
	fmt.Fprintf(&ldif, "dn:: %s\nchangetype: modify\nreplace: %s\n", base64.StdEncoding.EncodeToString([]byte(object.DN)), attr)
	for _, value := range values {
		fmt.Fprintf(&ldif, "%s:: %s\n", attr, base64.StdEncoding.EncodeToString(value))
	}
	ldif.WriteString("-\n")
	command := d.DC.Command("ldbmodify", "-H", "tdb:///var/lib/samba/private/sam.ldb.d/"+strings.ToUpper(d.BaseDN())+".ldb")
	command.Stdin = strings.NewReader(ldif.String())
	if _, err := command.Output(ctx); err != nil {
		return err
	}
	_, err = d.Apply(ctx, Change{Op: "modify", DN: object.DN, Set: map[string][][]byte{"info": Text("written raw")}})
	return err
}
