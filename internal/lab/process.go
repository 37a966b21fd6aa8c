// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A ProcessInfo is one process of a machine as /proc shows it inside.
type ProcessInfo struct {
	PID  int      `json:"pid"`
	PPID int      `json:"ppid"`
	UID  int      `json:"uid"`
	Name string   `json:"name"`          // comm, 15 bytes at most
	Exe  string   `json:"exe,omitempty"` // base name of the program file
	Args []string `json:"args"`
}

// listProcesses reads /proc. The init itself is left out.
func listProcesses() []ProcessInfo {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var found []ProcessInfo
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == 1 {
			continue
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue
		}
		info := ProcessInfo{PID: pid}
		zombie := false
		for line := range strings.SplitSeq(string(status), "\n") {
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch field {
			case "Name":
				info.Name = value
			case "State":
				zombie = strings.HasPrefix(value, "Z")
			case "PPid":
				info.PPID, _ = strconv.Atoi(value)
			case "Uid":
				if fields := strings.Fields(value); len(fields) > 0 {
					info.UID, _ = strconv.Atoi(fields[0])
				}
			}
		}
		if zombie {
			continue
		}
		if exe, err := os.Readlink(dir + "/exe"); err == nil {
			info.Exe = strings.TrimSuffix(filepath.Base(exe), " (deleted)")
		}
		if cmdline, err := os.ReadFile(dir + "/cmdline"); err == nil && len(cmdline) > 0 {
			info.Args = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
		}
		found = append(found, info)
	}
	return found
}

// signalProcesses sends a signal to one process, to those with a name, or,
// with neither, to all but the init. It returns how many were sent one.
func signalProcesses(req *request) (int, error) {
	if req.PID != 0 {
		return 1, unix.Kill(req.PID, unix.Signal(req.Signal))
	}
	count := 0
	for _, process := range listProcesses() {
		if len(req.Names) > 0 && !slices.Contains(req.Names, process.Name) && !slices.Contains(req.Names, process.Exe) {
			continue
		}
		err := unix.Kill(process.PID, unix.Signal(req.Signal))
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}
