// SPDX-License-Identifier: Apache-2.0

// Package peer knows the product's sockets and the processes at their other
// ends: it opens listeners or takes them over by name, reads who connected from
// the kernel, bounds how much one user may take, and holds the one table that
// says who may call which method on which socket.
//
// It never reads a byte that a peer sent, never believes a name or number that
// a peer states about itself, and knows no protocol: gRPC, ttrpc and the
// winbind pipe are served by the doors above it. It never asks the name service
// switch, which may lead back to this daemon.
package peer

import (
	"fmt"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Name is a listener's name, as LISTEN_FDNAMES carries it.
type Name string

// The listeners of the contract.
const (
	API         Name = "api"          // gRPC for everybody
	Admin       Name = "admin"        // gRPC for administrators
	ShimRoot    Name = "shim-root"    // ttrpc for the PAM module
	Winbind     Name = "winbind"      // winbindd's public pipe
	WinbindPriv Name = "winbind-priv" // winbindd's privileged pipe
	Web         Name = "web"          // https
	Auth        Name = "auth"         // forward-auth for a web proxy
	Metrics     Name = "metrics"
)

var names = []Name{API, Admin, ShimRoot, Winbind, WinbindPriv, Web, Auth, Metrics}

// Names returns every listener's name.
func Names() []Name { return slices.Clone(names) }

// Known reports whether n is a name of the contract.
func (n Name) Known() bool { return slices.Contains(names, n) }

// Caller is the process at the other end of a connection, as the kernel saw it
// when it connected. Inside a container whose user namespace is the host's, uid
// 0 is the container's root: what a caller may do depends on the socket too.
type Caller struct {
	// PID is for log lines only: the process may be gone and its number taken.
	PID int32
	UID identity.UID
	GID identity.GID
	// Groups are the supplementary groups; the primary one need not be among them.
	Groups []identity.GID
}

// In reports whether the caller's primary or a supplementary group is g.
func (c Caller) In(g identity.GID) bool { return c.GID == g || slices.Contains(c.Groups, g) }

// String gives "uid 1000, pid 4711".
func (c Caller) String() string { return fmt.Sprintf("uid %d, pid %d", c.UID, c.PID) }
