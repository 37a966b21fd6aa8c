// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The file "lock" of a lab is held, shared, by its owner and by every init.
// Who can lock it exclusively knows that nobody is left.

// claim makes the lab's directory and takes its name.
func (l *Lab) claim(ctx context.Context) error {
	door, err := lockRunDir(ctx)
	if err != nil {
		return err
	}
	defer door.Close()
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(l.dir, "lock")
	if l.lock, err = tryLockFile(path); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("a lab %q is running already", l.Name)
	}
	if err != nil {
		return err
	}
	if err := unix.Flock(int(l.lock.Fd()), unix.LOCK_SH); err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	return nil
}

// shareLock joins those who hold a lab. It waits for one who is just looking.
func shareLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return file, nil
}

// alive tells whether anybody holds the lab in dir.
func alive(dir string) bool {
	lock, err := tryLockFile(filepath.Join(dir, "lock"))
	if err == nil {
		lock.Close()
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

// lockRunDir keeps labs from being made and swept at the same time.
func lockRunDir(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(RunDir(), 0o700); err != nil {
		return nil, err
	}
	return lockFile(ctx, filepath.Join(RunDir(), ".lock"))
}

// labDirs lists the directories of labs, running or not.
func labDirs() ([]string, error) {
	entries, err := os.ReadDir(RunDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var dirs []string
	for _, entry := range entries {
		if entry.IsDir() {
			dirs = append(dirs, filepath.Join(RunDir(), entry.Name()))
		}
	}
	return dirs, nil
}

// Sweep removes what labs left behind whose owner is dead, and returns their
// names. Labs that run are not touched.
func Sweep(ctx context.Context) ([]string, error) {
	door, err := lockRunDir(ctx)
	if err != nil {
		return nil, err
	}
	defer door.Close()
	dirs, err := labDirs()
	if err != nil {
		return nil, err
	}
	var swept []string
	for _, dir := range dirs {
		if alive(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return swept, err
		}
		swept = append(swept, filepath.Base(dir))
	}
	return swept, nil
}

// List names the labs that run now.
func List() ([]string, error) {
	dirs, err := labDirs()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, dir := range dirs {
		if alive(dir) {
			names = append(names, filepath.Base(dir))
		}
	}
	return names, nil
}

// lockFile takes an exclusive flock(2) on path, waiting until ctx ends. The
// lock is given up when every copy of the returned file is closed, also those
// that child processes inherited.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		file, err := tryLockFile(path)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return file, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s, held by another process: %w", path, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLockFile is lockFile without the wait: it fails with EWOULDBLOCK when
// somebody else holds the lock.
func tryLockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return file, nil
}
