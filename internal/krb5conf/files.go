// SPDX-License-Identifier: Apache-2.0

package krb5conf

import (
	"os"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
)

// Files are the files under one root; "" or "/" is the machine's own. Links
// that lead out of the root are never followed.
type Files struct{ Root string }

func (f Files) open() (*os.Root, error) { return etcfile.Files(f).Open() }

// Change is one file that would change. Before is nil for a new file, After nil
// for one that goes.
type Change = etcfile.Change
