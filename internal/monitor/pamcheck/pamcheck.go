// SPDX-License-Identifier: Apache-2.0

// Package pamcheck is what the worker and `latchkeyd pam-check` say to each
// other: one name and password, one answer, over a socket that is theirs alone.
//
// The monitor makes the process and hands it the socket; the password never
// passes through the monitor, an argument, the environment or a file. The
// service is fixed. The package knows nothing of PAM but its result codes.
package pamcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Service is the name in /etc/pam.d that every check goes by.
const Service = "latchkey-web"

// Descriptor is where the process finds its socket.
const Descriptor = 3

// Program is the file beside latchkeyd's own that is linked with libpam.
const Program = "/usr/lib/latchkey/latchkey-pam-check"

// Limits of what is said, in bytes.
const (
	maxName     = 1024
	maxPassword = 4096
	maxMessage  = 6 + 2*maxName + maxPassword
)

// Request is one password to be tried.
type Request struct {
	Name       string
	RemoteHost string // an IP address; empty: this machine
	Password   secret.Bytes
}

// Reply is how it went: a code of PAM (pam(3)), and the name that the stack
// knows the person by.
type Reply struct {
	Code Code
	// Account says that the password was right and the account was looked at.
	Account bool
	User    string
}

// Code is a result of PAM: Linux-PAM's numbers.
type Code uint8

// Those that are told apart.
const (
	Success         Code = 0
	SystemErr       Code = 4
	PermDenied      Code = 6
	AuthErr         Code = 7
	AuthInfoUnavail Code = 9
	UserUnknown     Code = 10
	MaxTries        Code = 11
	NewAuthTokReqd  Code = 12
	AcctExpired     Code = 13
)

// Pair makes the socket: our end, and the one for the process.
func Pair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, "make a socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "pam-check")
	ours := os.NewFile(uintptr(fds[0]), "pam-check")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(fault.Wrap(fault.Internal, "make a socketpair", err), theirs.Close())
	}
	return conn.(*net.UnixConn), theirs, nil
}

// Ask says the request and waits for the reply. fault.Unreachable: the process
// ended or ctx did.
func Ask(ctx context.Context, conn *net.UnixConn, r Request) (Reply, error) {
	const op = "ask the PAM stack of this machine"
	b, err := r.encode()
	if err != nil {
		return Reply{}, err
	}
	defer secret.Wipe(b)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(b); err != nil {
		return Reply{}, fault.Wrap(fault.Unreachable, op, err)
	}
	answer := make([]byte, 3+maxName+1)
	n, err := conn.Read(answer)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Reply{}, fault.Wrap(fault.Unreachable, op, err)
	}
	return ParseReply(answer[:n])
}

// Serve reads the one request of a socket, has it answered and writes the reply.
func Serve(conn *net.UnixConn, check func(Request) Reply) error {
	b := make([]byte, maxMessage+1)
	defer secret.Wipe(b)
	n, err := conn.Read(b)
	if err != nil || n == 0 {
		return fault.Wrap(fault.Unreachable, "read the request", errors.Join(err, io.EOF))
	}
	r, err := ParseRequest(b[:n])
	if err != nil {
		return err
	}
	defer r.Password.Wipe()
	_, err = conn.Write(check(r).encode())
	return fault.Wrap(fault.Unreachable, "write the reply", err)
}

func (r Request) encode() ([]byte, error) {
	if len(r.Name) > maxName || len(r.RemoteHost) > maxName || r.Password.Len() > maxPassword || r.Name == "" {
		return nil, fault.New(fault.BadCredential, "the name or password is too long, or empty")
	}
	b := make([]byte, 0, maxMessage)
	b = appendField(b, []byte(r.Name))
	b = appendField(b, []byte(r.RemoteHost))
	return appendField(b, r.Password.Reveal()), nil
}

// ParseRequest reads a request: three fields, each with its length before it
// (u16, little-endian), without a NUL, and nothing after them. fault.Malformed.
func ParseRequest(b []byte) (Request, error) {
	name, b, ok1 := field(b, maxName)
	host, b, ok2 := field(b, maxName)
	password, b, ok3 := field(b, maxPassword)
	if !ok1 || !ok2 || !ok3 || len(b) != 0 || len(name) == 0 {
		return Request{}, fault.New(fault.Malformed, "the request is not as it should be")
	}
	return Request{Name: string(name), RemoteHost: string(host), Password: secret.Own(append([]byte(nil), password...))}, nil
}

func (r Reply) encode() []byte {
	account := byte(0)
	if r.Account {
		account = 1
	}
	return appendField([]byte{byte(r.Code), account}, []byte(r.User[:min(len(r.User), maxName)]))
}

// ParseReply reads a reply. fault.Malformed.
func ParseReply(b []byte) (Reply, error) {
	if len(b) < 2 || b[1] > 1 {
		return Reply{}, fault.New(fault.Malformed, "the reply is not as it should be")
	}
	user, rest, ok := field(b[2:], maxName)
	if !ok || len(rest) != 0 || (b[0] == 0 && len(user) == 0) {
		return Reply{}, fault.New(fault.Malformed, "the reply is not as it should be")
	}
	return Reply{Code: Code(b[0]), Account: b[1] == 1, User: string(user)}, nil
}

func appendField(b, field []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(field))), field...)
}

func field(b []byte, limit int) (value, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if n > limit || n > len(b)-2 {
		return nil, nil, false
	}
	for _, c := range b[2 : 2+n] {
		if c == 0 {
			return nil, nil, false
		}
	}
	return b[2 : 2+n], b[2+n:], true
}

// Err is the reply as the doors know failures. What is told before the password
// was right is BadCredential, whoever the name belongs to.
func (r Reply) Err() error {
	switch {
	case r.Code == Success:
		return nil
	case r.Code == AuthInfoUnavail:
		return fault.WithRemedy(fault.New(fault.Unreachable, "the people's passwords cannot be checked now"), "try again later")
	case !r.Account && (r.Code == AuthErr || r.Code == UserUnknown || r.Code == MaxTries || r.Code == PermDenied):
		return fault.New(fault.BadCredential, "the name or the password is wrong")
	case r.Code == NewAuthTokReqd:
		return fault.New(fault.MustChange, "the password must be changed")
	case r.Code == AcctExpired:
		return fault.New(fault.Expired, "the account has expired")
	case r.Account && (r.Code == PermDenied || r.Code == AuthErr || r.Code == UserUnknown || r.Code == MaxTries):
		return fault.New(fault.Denied, "this person may not use this service")
	}
	return fault.WithRemedy(fault.Errorf(fault.Internal, "the PAM stack failed with code %d", r.Code), "see /etc/pam.d/"+Service+" and the journal")
}
