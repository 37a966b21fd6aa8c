// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The owner of a lab and the inits of its machines speak over a unix
// SOCK_SEQPACKET socket: one JSON message per packet, with file descriptors
// beside it (unix(7), SCM_RIGHTS). A connection carries one request.

const maxPacket = 256 << 10

// A request asks an init to do one thing.
type request struct {
	Op string `json:"op"` // run, open, processes, signal, reboot, poweroff, delay

	// run; descriptors: stdin, stdout, stderr unless PTY or Log
	Args   []string `json:"args,omitempty"`
	Env    []string `json:"env,omitempty"`
	Dir    string   `json:"dir,omitempty"`
	User   string   `json:"user,omitempty"` // a name in the machine's /etc/passwd
	UID    uint32   `json:"uid,omitempty"`
	GID    uint32   `json:"gid,omitempty"`
	Groups []uint32 `json:"groups,omitempty"`
	PTY    bool     `json:"pty,omitempty"`
	Rows   uint16   `json:"rows,omitempty"`
	Cols   uint16   `json:"cols,omitempty"`
	Log    string   `json:"log,omitempty"`    // output goes to this file of the machine
	Detach bool     `json:"detach,omitempty"` // survives the end of the connection

	// open; the reply carries the descriptor
	Path  string `json:"path,omitempty"`
	Flags int    `json:"flags,omitempty"`
	Perm  uint32 `json:"perm,omitempty"`

	// delay, of the switch: Path is the port
	Delay time.Duration `json:"delay,omitempty"`

	// signal: one process, processes by name, or every process
	Signal int      `json:"signal,omitempty"`
	PID    int      `json:"pid,omitempty"`
	Names  []string `json:"names,omitempty"`
}

// A reply is what an init answers; run sends one when the process started
// and one when it ended.
type reply struct {
	PID       int           `json:"pid,omitempty"`
	Ended     bool          `json:"ended,omitempty"`
	Status    uint32        `json:"status,omitempty"` // as of wait(2)
	Count     int           `json:"count,omitempty"`
	Processes []ProcessInfo `json:"processes,omitempty"`
	Error     string        `json:"error,omitempty"`
	Errno     int           `json:"errno,omitempty"`
}

func (r *reply) err() error {
	switch {
	case r.Errno != 0:
		return fmt.Errorf("%s: %w", r.Error, syscall.Errno(r.Errno))
	case r.Error != "":
		return fmt.Errorf("%s", r.Error)
	}
	return nil
}

func sendMessage(conn *net.UnixConn, message any, files ...*os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > maxPacket {
		return fmt.Errorf("message of %d bytes is over %d", len(data), maxPacket)
	}
	var rights []byte
	if len(files) > 0 {
		numbers := make([]int, len(files))
		for i, file := range files {
			numbers[i] = int(file.Fd())
		}
		rights = unix.UnixRights(numbers...)
	}
	_, _, err = conn.WriteMsgUnix(data, rights, nil)
	return err
}

// receiveMessage reads one packet into message. The caller owns the files.
func receiveMessage(conn *net.UnixConn, message any) ([]*os.File, error) {
	data := make([]byte, maxPacket)
	rights := make([]byte, unix.CmsgSpace(8*4))
	n, rn, _, _, err := conn.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	if rn > 0 {
		controls, err := unix.ParseSocketControlMessage(rights[:rn])
		if err != nil {
			return nil, err
		}
		for _, control := range controls {
			numbers, err := unix.ParseUnixRights(&control)
			if err != nil {
				continue
			}
			for _, number := range numbers {
				unix.CloseOnExec(number)
				files = append(files, os.NewFile(uintptr(number), "passed"))
			}
		}
	}
	if n == 0 {
		closeAll(files)
		return nil, net.ErrClosed
	}
	if err := json.Unmarshal(data[:n], message); err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}
