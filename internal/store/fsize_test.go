// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os/signal"
	"syscall"
)

// ignoreFileSize makes a write past the limit an error instead of a signal.
func ignoreFileSize() { signal.Ignore(syscall.SIGXFSZ) }
