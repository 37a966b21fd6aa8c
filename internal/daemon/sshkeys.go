// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/mirror"
)

// noteMirror is the topic, and noteSSHKeys the key, under which the store has the
// attribute of SSH keys that all rows were read with.
const noteMirror, noteSSHKeys = "mirror", "ssh-keys"

// readKeys has everything read again where the rows were read with another
// attribute of SSH keys than the configuration names now: a pass of what changed
// would never see them.
func (d *Daemon) readKeys(ctx context.Context, m *mirror.Mirror, attribute string) {
	for {
		read, err := d.store.Note(ctx, noteMirror, noteSSHKeys)
		if err == nil && string(read) == attribute {
			return
		}
		if err == nil {
			if _, err = m.Sync(ctx, mirror.Request{Full: true}, nil); err == nil {
				err = d.store.SetNotes(ctx, noteMirror, map[string][]byte{noteSSHKeys: []byte(attribute)})
			}
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Minute):
		}
	}
}
