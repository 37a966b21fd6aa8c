// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/winbind"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// sambaRelease finds out which Samba this machine has. Its programs are asked
// again when their files have changed: an upgrade does not restart us.
type sambaRelease struct {
	programs []string
	forced   func() int64 // samba.interface; 0: none

	mu      sync.Mutex
	file    os.FileInfo
	printed string
}

// find returns the release and its interface version, the configuration's where
// it has one. fault.Conflict: a release that is not known; fault.NotFound: no
// program says.
func (r *sambaRelease) find(ctx context.Context) (winbind.Samba, error) {
	printed, err := r.ask(ctx)
	s := winbind.Samba{Release: strings.TrimPrefix(strings.TrimSpace(printed), "Version ")}
	if v := wire.Version(r.forced()); v != 0 {
		s.Interface = v
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Interface, err = wire.ForSamba(printed)
	return s, err
}

func (r *sambaRelease) ask(ctx context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, program := range r.programs {
		file, err := os.Stat(program)
		if err != nil {
			continue
		}
		if r.file != nil && os.SameFile(file, r.file) && file.ModTime().Equal(r.file.ModTime()) && file.Size() == r.file.Size() {
			return r.printed, nil
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, "-V")
		cmd.Env, cmd.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, "/"
		out, err := cmd.Output()
		if err != nil {
			return "", fault.WithRemedy(fault.Wrap(fault.Unreachable, "run "+program+" -V", err), "see that it can be run, or set samba.interface")
		}
		r.file, r.printed = file, string(out)
		return r.printed, nil
	}
	return "", fault.WithRemedy(fault.New(fault.NotFound, "no Samba is installed that could say its release"), "install samba, or set samba.interface")
}
