// SPDX-License-Identifier: Apache-2.0

package idmap

const (
	firstID   = 1000      // below: the system's own users and groups
	noID      = 1<<32 - 1 // (uid_t)-1, "no change" to chown(2)
	no16      = 1<<16 - 1 // the same in 16 bits
	nobody    = 1<<16 - 2 // nobody and nogroup
	dynamic   = 61184     // first of systemd's dynamic users (systemd.exec(5)) …
	container = 65519     // … and last of its foreign and container ids (UIDS-GIDS of systemd)
)

// Refused reports whether no domain user or group may ever have this id,
// whatever the configuration: below 1000, 61184 to 65519, 65534, 65535,
// 4294967295.
func Refused(id uint32) bool {
	return id < firstID || (id >= dynamic && id <= container) || id == nobody || id == no16 || id == noID
}
