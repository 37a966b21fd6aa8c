// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// recorded has the daemon write one event into its audit: that we, root, did
// what to which files. It stops nobody: where the daemon cannot be reached, the
// person is told that nothing of it is recorded.
func (a *app) recorded(ctx context.Context, what string, files ...string) {
	if len(files) == 0 || !a.root {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminTimeout)
	defer cancel()
	conn, err := a.admin(ctx)
	if err == nil {
		defer conn.Close()
		_, err = conn.Machine.RecordFiles(ctx, &latchkeyv1.RecordFilesRequest{What: what, Files: files})
	}
	if err != nil {
		fmt.Fprintf(a.err, "latchkey: the audit has nothing of this: %s\n", brief(err))
	}
}

// paths names the files that changed.
func paths(changes []etcfile.Change) []string {
	all := make([]string, len(changes))
	for i, c := range changes {
		all[i] = c.Path
	}
	return all
}
