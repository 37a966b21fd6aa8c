// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/journal"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
)

// settings is the configuration in use, and what is wrong with a newer one.
// The last good one is kept in a file: a worker that is restarted while the
// administrator's new file has a mistake goes on with what counted before.
type settings struct {
	file, folder, good string
	log                *slog.Logger
	level              *slog.LevelVar

	mu      sync.Mutex
	loaded  *config.Loaded
	trouble error // why the newest configuration is not used
	since   time.Time
}

// openSettings reads the configuration, or the last good one.
func openSettings(opt Options) (*settings, error) {
	s := &settings{file: opt.ConfigFile, folder: opt.ConfigFolder, good: opt.goodFile(), log: opt.Log, level: opt.Level}
	err := s.reload()
	if err == nil {
		return s, nil
	}
	text, readErr := os.ReadFile(s.good)
	if readErr != nil {
		return nil, err
	}
	l, parseErr := config.Parse(s.good, text)
	if parseErr != nil {
		return nil, err
	}
	s.adopt(l)
	s.refuse(err)
	s.log.Warn("the configuration has a mistake; what counted before goes on to count", "error", err)
	return s, nil
}

// now returns the configuration in use.
func (s *settings) now() *config.Loaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded
}

// problem returns why the newest configuration is not used, nil where it is,
// and since when.
func (s *settings) problem() (since time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.trouble
}

// reload reads the configuration again; a bad one changes nothing but problem.
func (s *settings) reload() error {
	l, err := config.Load(s.file, s.folder)
	if err != nil {
		s.refuse(err)
		return err
	}
	for _, w := range l.Warnings {
		s.log.Warn("a setting is not used", "why", w.Error())
	}
	s.adopt(l)
	return nil
}

// refuse notes why the newest configuration is not used.
func (s *settings) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.since = err, time.Now()
}

// set changes one key for good.
func (s *settings) set(key, value string) error { return s.setAll(map[string]string{key: value}) }

// setAll changes keys for good, all of them or none.
func (s *settings) setAll(values map[string]string) error {
	l, err := config.SetAll(s.file, s.folder, values)
	if err != nil {
		return err
	}
	s.adopt(l)
	return nil
}

// adopt makes l count, and keeps it.
func (s *settings) adopt(l *config.Loaded) {
	s.mu.Lock()
	s.loaded, s.trouble = l, nil
	s.mu.Unlock()
	if s.level != nil {
		s.level.Set(journal.Level(l.Log.Level))
	}
	if err := keep(s.good, l.Text()); err != nil {
		s.log.Warn("the configuration in use cannot be kept for a restart", "error", err)
	}
}

// keep replaces a file at once.
func keep(path, text string) error {
	next := path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return os.Rename(next, path)
}

// Reload reads the configuration again and makes it count, as SIGHUP asks. A
// bad one is logged, told by status, and changes nothing.
func (d *Daemon) Reload() {
	before := d.settings.now()
	if err := d.settings.reload(); err != nil {
		d.log.Error("the new configuration is not used, the old one stays", "error", err)
		return
	}
	d.log.Info("the configuration has been read again")
	d.apply(d.life, before)
	d.followPipes(d.life, before)
}

// SetConfig changes one setting for good and makes it count.
func (d *Daemon) SetConfig(ctx context.Context, key, value string) error {
	before := d.settings.now()
	if err := d.settings.set(key, value); err != nil {
		return err
	}
	d.log.Info("a setting has been changed", "key", key)
	d.apply(d.life, before)
	// Root's half checks ids by the same configuration, and opens what it names.
	// What it cannot do is not kept: it would fail again at the next start.
	if err := d.opt.Monitor.Call(ctx, &control.Reconfigured{}, nil); err != nil {
		d.takeBack(ctx, before, key)
		return fault.Wrap(fault.Unknown, "set "+key, err)
	}
	d.followPipes(d.life, before)
	return nil
}

// takeBack undoes what SetConfig has set.
func (d *Daemon) takeBack(ctx context.Context, before *config.Loaded, key string) {
	value := ""
	if k, ok := config.Lookup(key); ok && strings.HasPrefix(before.Origin[key], filepath.Join(d.opt.ConfigFolder, config.SetFile)+":") {
		value = k.Value(&before.Config)
	}
	after := d.settings.now()
	err := d.settings.set(key, value)
	if err == nil {
		d.apply(d.life, after)
		err = d.opt.Monitor.Call(ctx, &control.Reconfigured{}, nil)
	}
	if err != nil {
		d.log.Error("a setting that cannot be used cannot be taken back either", "key", key, "error", err)
	}
}

// apply makes what differs from before count.
func (d *Daemon) apply(ctx context.Context, before *config.Loaded) {
	d.policy.Set(d.members())
	if d.store == nil {
		return
	}
	d.wakeKeeper()
	d.wakeAdmins()
	after := d.settings.now()
	if directoryDiffers(&before.Directory, &after.Directory) {
		if err := d.restart(ctx, nil); err != nil {
			d.log.Error("the membership cannot be taken up with the new settings", "error", err)
		}
		return
	}
	if err := d.settle(ctx); err != nil {
		d.log.Error("the new settings for names and ids cannot be used", "error", err)
	}
}
