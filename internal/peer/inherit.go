// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// firstFD is the first inherited descriptor (sd_listen_fds(3)).
const firstFD = 3

// Listeners are open listeners by name. A name may have several (the web on
// two addresses), most have one.
type Listeners map[Name][]*Listener

// First returns the first listener of that name, or nil.
func (l Listeners) First(n Name) *Listener {
	if len(l[n]) == 0 {
		return nil
	}
	return l[n][0]
}

// Close closes all of them.
func (l Listeners) Close() error {
	var all error
	for _, some := range l {
		for _, ln := range some {
			all = errors.Join(all, ln.Close())
		}
	}
	return all
}

// Inherited takes over the listeners that the parent left us, by the protocol
// of sd_listen_fds(3) with names. LISTEN_PID must be ours where it is set; it
// may be absent, because our own monitor cannot know the worker's pid before it
// starts it. The variables are removed, so that no child takes them for its
// own. A name that is not of the contract, a descriptor that is no listening
// stream socket, and a Unix name on another kind of socket are fault.Malformed.
// Without the variables the answer is empty.
func Inherited() (Listeners, error) {
	defer func() {
		for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			_ = os.Unsetenv(v)
		}
	}()
	count, fdnames := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	if pid := os.Getenv("LISTEN_PID"); count == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return Listeners{}, nil
	}
	list, err := parseNames(count, fdnames)
	if err != nil {
		return nil, err
	}
	all := Listeners{}
	for i, name := range list {
		ln, err := takeOver(firstFD+i, name)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all[name] = append(all[name], ln)
	}
	return all, nil
}

// parseNames reads LISTEN_FDS and LISTEN_FDNAMES.
func parseNames(count, fdnames string) ([]Name, error) {
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 256 {
		return nil, fault.Errorf(fault.Malformed, "LISTEN_FDS=%.40q is not a number of listeners", count)
	}
	if n == 0 {
		return nil, nil
	}
	words := strings.Split(fdnames, ":")
	if len(words) != n {
		return nil, fault.WithRemedy(
			fault.Errorf(fault.Malformed, "%d inherited listeners have %d names (LISTEN_FDNAMES=%.200q)", n, len(words), fdnames),
			"give each socket unit its FileDescriptorName=")
	}
	list := make([]Name, n)
	for i, w := range words {
		if list[i] = Name(w); !list[i].Known() {
			return nil, fault.WithRemedy(fault.Errorf(fault.Malformed, "an inherited listener is named %.200q", w),
				fmt.Sprintf("the names are %v", names))
		}
	}
	return list, nil
}

// TakeOver makes a listener of a descriptor that another process of ours sent, on
// the same terms as Inherited. The file is closed.
func TakeOver(f *os.File, name Name) (*Listener, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, firstFD)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "take over the listener "+string(name), err)
	}
	return takeOver(fd, name)
}

func takeOver(fd int, name Name) (*Listener, error) {
	unix.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), string(name))
	if file == nil {
		return nil, fault.Errorf(fault.Malformed, "inherited descriptor %d (%s) is not open", fd, name)
	}
	defer file.Close()
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listening == 0 {
		return nil, fault.Errorf(fault.Malformed, "inherited descriptor %d (%s) is not a listening socket", fd, name)
	}
	ln, err := net.FileListener(file)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "take over the listener "+string(name), err)
	}
	if _, ok := ln.(*net.UnixListener); !ok && name != Web {
		_ = ln.Close()
		return nil, fault.Errorf(fault.Malformed, "the listener %s must be a Unix stream socket", name)
	}
	return &Listener{Listener: ln, name: name}, nil
}

// HandOver makes cmd start with these listeners, so that Inherited finds them
// there. It must be the first to fill cmd.ExtraFiles, and cmd.Env must be set.
// The caller calls done after cmd.Start, whatever that returned.
func (l Listeners) HandOver(cmd *exec.Cmd) (done func(), err error) {
	if len(cmd.ExtraFiles) != 0 || cmd.Env == nil {
		return nil, fault.New(fault.Internal, "listeners come first, in an environment of their own")
	}
	var files []*os.File
	done = func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	var list []string
	for _, name := range names {
		for _, ln := range l[name] {
			f, err := ln.File()
			if err != nil {
				done()
				return nil, err
			}
			files = append(files, f)
			list = append(list, string(name))
		}
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, files...)
	cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(list)), "LISTEN_FDNAMES="+strings.Join(list, ":"))
	return done, nil
}
