// SPDX-License-Identifier: Apache-2.0

package lab

import "context"

// MountDisk mounts an empty disk of its own on a directory of the machine, of
// a size as mount(8) takes it for tmpfs. It is there until a reboot.
func (m *Machine) MountDisk(ctx context.Context, dir, size string) error {
	_, err := m.Output(ctx, "mount", "-t", "tmpfs", "-o", "mode=755,size="+size, "tmpfs", dir)
	return err
}

// SetReadOnly makes what is mounted on dir read-only, or writable again.
func (m *Machine) SetReadOnly(ctx context.Context, dir string, readOnly bool) error {
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	_, err := m.Output(ctx, "mount", "-o", "remount,"+mode, dir)
	return err
}
