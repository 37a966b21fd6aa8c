// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"os"
	"syscall"
)

// inode returns the file's inode number; 0 where the file system has none.
func inode(fi os.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
