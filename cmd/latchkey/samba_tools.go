// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	wb "github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// toolTime bounds one run of a program of Samba's.
const toolTime = 20 * time.Second

// runTool runs a program of Samba's and returns its standard output. Programs
// are found where Debian has them, whatever the caller's PATH says.
// fault.NotFound: it is not installed.
func runTool(ctx context.Context, name string, args ...string) (string, error) {
	path := ""
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/samba/sbin", "/usr/local/samba/bin", "/sbin", "/bin"} {
		if info, err := os.Stat(dir + "/" + name); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			path = dir + "/" + name
			break
		}
	}
	if path == "" {
		return "", fault.Errorf(fault.NotFound, "%s is not installed", name)
	}
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.String(), fault.Errorf(fault.Internal, "%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(trouble.String()))
	}
	return out.String(), nil
}

// running counts the processes of a name that see the files we see, and says
// since when the oldest runs (proc(5)). A container's are not ours: its smbd and
// winbindd have sockets and databases of their own.
func (c *console) running(name string) (since time.Time, n int, err error) {
	entries, err := filepath.Glob(c.proc + "/[0-9]*/stat")
	if err != nil || len(entries) == 0 {
		return since, 0, fault.New(fault.Unreachable, "the list of processes cannot be read")
	}
	boot := bootTime(c.proc)
	for _, entry := range entries {
		text, err := os.ReadFile(entry)
		if err != nil {
			continue // gone meanwhile
		}
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if open < 0 || end < open || string(text[open+1:end]) != name {
			continue
		}
		if !c.sameRoot(filepath.Dir(entry)) {
			continue
		}
		fields := strings.Fields(string(text[end+1:]))
		if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
			continue // it has ended, and nobody has fetched its status
		}
		n++
		ticks, err := strconv.ParseInt(fields[19], 10, 64) // starttime, in hundredths of a second since boot
		if began := boot.Add(time.Duration(ticks) * 10 * time.Millisecond); err == nil && (since.IsZero() || began.Before(since)) {
			since = began
		}
	}
	return since, n, nil
}

// sameRoot reports whether a process has our root directory; where it cannot be
// seen, it is taken for ours.
func (c *console) sameRoot(process string) bool {
	own, err := os.Stat(c.proc + "/self/root/.")
	if err != nil {
		return true
	}
	its, err := os.Stat(process + "/root/.")
	return err != nil || os.SameFile(own, its)
}

func bootTime(proc string) time.Time {
	text, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
}

func ownerOf(info os.FileInfo) uint32 {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return sys.Uid
	}
	return 1<<32 - 1
}

// pipe is one connection to a pipe of winbind's.
type pipe struct {
	net.Conn
	version wb.Version
}

// openPipe connects as Samba's client does: it believes only what belongs to
// root, and it asks for the version first.
func (s *samba) openPipe(ctx context.Context, path string) (*pipe, error) {
	for _, name := range []string{filepath.Dir(path), path} {
		info, err := os.Lstat(name)
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, "look at the pipe", err)
		}
		if !s.ours(info) {
			return nil, fault.Errorf(fault.Conflict, "%s belongs to uid %d: Samba believes only what is root's", name, ownerOf(info))
		}
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "connect to "+path, err)
	}
	return &pipe{Conn: conn, version: s.protocol}, nil
}

// ask sends one request and reads the answer.
func (p *pipe) ask(command wb.Command, fill func(*wb.Request)) (*wb.Response, error) {
	if err := p.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	req, err := wb.NewRequest(p.version, command)
	if err != nil {
		return nil, err
	}
	req.SetPID(uint32(os.Getpid()))
	req.SetClient("latchkey")
	if fill != nil {
		fill(req)
	}
	if _, err := p.Write(req.Append(nil)); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "ask the pipe", err)
	}
	answer := make([]byte, wb.ResponseSize)
	if _, err := io.ReadFull(p, answer); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "hear the pipe", err)
	}
	length := int(binary.LittleEndian.Uint32(answer))
	if length < len(answer) || length > 16<<20 {
		return nil, fault.Errorf(fault.Malformed, "an answer of %d bytes", length)
	}
	answer = append(answer, make([]byte, length-len(answer))...)
	if _, err := io.ReadFull(p, answer[wb.ResponseSize:]); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "hear the pipe", err)
	}
	return wb.ReadResponse(answer)
}

// askPipe asks the public pipe what Samba's client asks first.
func (s *samba) askPipe(ctx context.Context, path string) error {
	p, err := s.openPipe(ctx, path)
	if err != nil {
		return err
	}
	defer p.Close()
	resp, err := p.ask(wb.InterfaceVersion, func(r *wb.Request) { r.SetWBFlags(wb.FlagRecurse) })
	if err != nil {
		return err
	}
	if !resp.Succeeded() {
		return errors.New("the pipe does not tell its version")
	}
	if got := resp.Number(); got != uint32(s.protocol) {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "the pipe speaks version %d, and Samba %s wants %d", got, s.version, s.protocol),
			"restart latchkeyd after an upgrade of Samba: systemctl restart latchkeyd")
	}
	return nil
}
