// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
)

// DialInto connects to an address inside a machine of a running lab without
// taking part in the lab: it keeps nothing of it alive. The address is an IP and
// a port, as the machine sees them; its loopback is its own.
func DialInto(ctx context.Context, lab, machine, network, address string) (net.Conn, error) {
	if !Runs(lab) {
		return nil, fmt.Errorf("no lab %q is running", lab)
	}
	l := &Lab{Name: lab, dir: filepath.Join(RunDir(), lab)}
	m, err := l.Machine(machine)
	if err != nil {
		return nil, err
	}
	return m.Dial(ctx, network, address)
}

// Runs says whether a lab of this name is running.
func Runs(name string) bool {
	return labName.MatchString(name) && alive(filepath.Join(RunDir(), name))
}
