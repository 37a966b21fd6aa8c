// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// hardenProcess makes sure that memory with keys in it is never written to a
// core dump nor read by a debugger of another user. The limit is inherited by
// the worker; the dumpable flag is not (prctl(2)), see Harden.
func hardenProcess() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fault.Wrap(fault.Internal, "switch core dumps off", err)
	}
	return Harden()
}

// Harden is the part that every process of ours does for itself after exec.
func Harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fault.Wrap(fault.Internal, "switch core dumps off", err)
	}
	return nil
}

// hardenThread takes from this thread, and so from the child that it starts,
// every way back to privilege: exec never gives any (no_new_privs), and no
// capability is left in the bounding set. The thread is of no use afterwards.
func hardenThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fault.Wrap(fault.Internal, "set no_new_privs", err)
	}
	for c := uintptr(0); ; c++ {
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err {
		case nil:
		case unix.EINVAL: // past the last capability that this kernel knows
			return nil
		case unix.EPERM: // a container without CAP_SETPCAP; no_new_privs holds all the same
			return nil
		default:
			return fault.Wrap(fault.Internal, "drop capabilities", err)
		}
	}
}
