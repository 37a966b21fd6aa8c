// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

const (
	systemPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	accountRemedy = "install the package's sysusers file and run systemd-sysusers, or make them by hand: " +
		"useradd --system --user-group --no-create-home --home-dir /var/lib/latchkey --shell /usr/sbin/nologin latchkey; " +
		"groupadd --system latchkey-admin; groupadd --system latchkey-login"
)

// accountIDs are the numbers of the system accounts. A group that is missing
// has gid 0: root alone is in.
type accountIDs struct {
	worker  struct{ uid, gid uint32 }
	admin   identity.GID
	winbind identity.GID
}

// prepareAccounts finds the system accounts in /etc/passwd and /etc/group, and
// makes those that are missing. Without the worker's user nothing can start;
// without a group, what it opens is root's alone, and the log says so.
func prepareAccounts(log *slog.Logger) (accountIDs, error) {
	var ids accountIDs
	have, err := accounts.Source{}.Read()
	if err != nil {
		return ids, err
	}
	var trouble []error
	made := false
	add := func(missing bool, program string, args ...string) {
		if !missing {
			return
		}
		made = true
		if err := runTool(program, args...); err != nil {
			trouble = append(trouble, err)
			return
		}
		log.Info("a system account was missing and has been made", "name", args[len(args)-1])
	}
	_, userThere := have.Users[config.WorkerUser]
	if _, groupThere := have.Groups[config.WorkerUser]; !userThere && groupThere {
		add(true, "useradd", "--system", "--gid", config.WorkerUser, "--no-create-home", "--home-dir", config.StateDir, "--shell", "/usr/sbin/nologin", config.WorkerUser)
	} else {
		add(!userThere, "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", config.StateDir, "--shell", "/usr/sbin/nologin", config.WorkerUser)
	}
	for _, group := range []string{config.AdminGroup, config.LoginGroup, config.WinbindGroup} {
		_, there := have.Groups[group]
		add(!there, "groupadd", "--system", group)
	}
	if made {
		if have, err = (accounts.Source{}).Read(); err != nil {
			return ids, err
		}
	}
	uid, userThere := have.Users[config.WorkerUser]
	gid, groupThere := have.Groups[config.WorkerUser]
	if !userThere || !groupThere || uid == 0 || gid == 0 {
		return ids, &fault.Error{Kind: fault.Conflict, Op: "find the system user " + config.WorkerUser,
			Err: errors.Join(append(trouble, errors.New("there is no such user with a group of its own"))...), Remedy: accountRemedy}
	}
	for _, err := range trouble {
		log.Warn("a system account is missing; what it may open is root's alone", "error", err, "remedy", accountRemedy)
	}
	ids.worker.uid, ids.worker.gid = uid, gid
	ids.admin = identity.GID(have.Groups[config.AdminGroup])
	ids.winbind = identity.GID(have.Groups[config.WinbindGroup])
	return ids, nil
}

// runTool runs one of the system's own programs with a plain environment.
func runTool(program string, args ...string) error {
	path := ""
	for _, dir := range filepath.SplitList(systemPath) {
		if info, err := os.Stat(dir + "/" + program); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			path = dir + "/" + program
			break
		}
	}
	if path == "" {
		return fmt.Errorf("%s is not installed", program)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + systemPath, "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %s (%w)", program, strings.Join(args, " "), strings.TrimSpace(string(out)), err)
	}
	return nil
}

// prepareDirectories makes the directories of the contract, and gives those
// that are there their owner and mode.
func prepareDirectories(ids accountIDs) error {
	for _, d := range []struct {
		path     string
		uid, gid uint32
		mode     fs.FileMode
	}{
		{config.StateDir, ids.worker.uid, ids.worker.gid, 0o711},
		{config.SnapshotDir, 0, 0, 0o755},
		{config.LogDir, ids.worker.uid, uint32(ids.admin), 0o750},
	} {
		if err := ownDirectory(d.path, d.uid, d.gid, d.mode); err != nil {
			return fault.WithRemedy(fault.Wrap(fault.Internal, "prepare "+d.path, err),
				"see that it is a directory, no link, on a file system that can be written")
		}
	}
	return nil
}

// ownDirectory makes a directory, or takes the one that is there, never through
// a link in the last place. Its parents are root's.
func ownDirectory(path string, uid, gid uint32, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != uid || st.Gid != gid {
		if err := unix.Fchown(fd, int(uid), int(gid)); err != nil {
			return err
		}
	}
	if fs.FileMode(st.Mode).Perm() != mode {
		return unix.Fchmod(fd, uint32(mode))
	}
	return nil
}
