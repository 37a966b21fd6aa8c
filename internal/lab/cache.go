// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CacheDir is where bases and provisioned domains are kept between labs:
// $LATCHKEY_LAB_CACHE, or /var/cache/latchkey-lab.
func CacheDir() string {
	if dir := os.Getenv("LATCHKEY_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/latchkey-lab"
}

// cached returns the directory key of the cache, made by build when it is
// not there yet.
func cached(ctx context.Context, key string, progress Progress, build func(dir string) error) (string, error) {
	cache := CacheDir()
	if strings.ContainsAny(cache, ":,\\") {
		return "", errors.New("the cache directory " + cache + " has a colon, comma or backslash in its name, which overlayfs does not take; set LATCHKEY_LAB_CACHE to another one")
	}
	final := filepath.Join(cache, key)
	if used(key) {
		return final, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := lockFile(ctx, lockPath(key))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if used(key) {
		return final, nil
	}
	// What is left of an interrupted build belongs to nobody: the lock is ours.
	half := growing(key)
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	if err := os.Mkdir(half, 0o755); err != nil {
		return "", err
	}
	if err := build(half); err != nil {
		os.RemoveAll(half)
		return "", err
	}
	if err := os.Rename(half, final); err != nil {
		return "", err
	}
	return final, nil
}

// lockPath is the file that is locked while something in the cache is built,
// and touched when it is used.
func lockPath(key string) string { return filepath.Join(CacheDir(), "."+key+".lock") }

// used notes that something in the cache is of use, and tells whether it is
// there at all.
func used(key string) bool {
	now := time.Now()
	os.Chtimes(lockPath(key), now, now)
	_, err := os.Stat(filepath.Join(CacheDir(), key))
	return err == nil
}

// Prune removes what was not used for some time from the cache, and what
// interrupted builds left there, and returns the names. It refuses while a lab
// runs, since that stands on what is in the cache.
func Prune(ctx context.Context, unused time.Duration) ([]string, error) {
	door, err := lockRunDir(ctx)
	if err != nil {
		return nil, err
	}
	defer door.Close()
	running, err := List()
	if err != nil {
		return nil, err
	}
	if len(running) > 0 {
		return nil, errors.New("labs are running: " + strings.Join(running, ", ") + "; take them down first")
	}
	locks, err := filepath.Glob(filepath.Join(CacheDir(), ".*.lock"))
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, path := range locks {
		key := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "."), ".lock")
		info, err := os.Stat(path)
		if err != nil {
			return removed, err
		}
		lock, err := tryLockFile(path)
		if err != nil {
			continue // somebody is building it
		}
		err = os.RemoveAll(growing(key))
		if err == nil && time.Since(info.ModTime()) >= unused {
			err = os.RemoveAll(filepath.Join(CacheDir(), key))
			os.Remove(path)
			removed = append(removed, key)
		}
		lock.Close()
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// growing is where something is built.
func growing(key string) string { return filepath.Join(CacheDir(), "."+key+".growing") }
