// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// wanted are the sockets that a configuration asks for and that have a door
// behind them.
func wanted(cfg *config.Config, ids accountIDs) []peer.Socket {
	all := peer.Standard(config.RunDir, ids.admin)
	if cfg.Samba.Pipes {
		all = append(all, pipes(cfg.Samba, ids.winbind)...)
	}
	if cfg.Web.Listen != "" {
		all = append(all, peer.Socket{Name: peer.Web, Address: cfg.Web.Listen})
	}
	return all
}

// pipes are winbind's. Their mode is the same: who may use the privileged one
// is decided by the directory that it is in. Both have to belong to root, or
// Samba's client takes nobody for listening.
func pipes(s config.Samba, priv identity.GID) []peer.Socket {
	return []peer.Socket{
		{Name: peer.Winbind, Path: s.Pipe, Mode: 0o777, DirMode: 0o755},
		{Name: peer.WinbindPriv, Path: s.PrivilegedPipe, Mode: 0o777, DirMode: 0o750, DirGID: priv},
	}
}

func isPipe(n peer.Name) bool { return n == peer.Winbind || n == peer.WinbindPriv }

// comesAndGoes says whether a socket is there only while the configuration asks
// for it.
func comesAndGoes(n peer.Name) bool { return isPipe(n) || n == peer.Web }

// moved says whether a TCP listener is on another address than s wants.
func moved(ln *peer.Listener, s peer.Socket) bool {
	if s.Address == "" {
		return false
	}
	want, err := net.ResolveTCPAddr("tcp", s.Address)
	have, ok := ln.Addr().(*net.TCPAddr)
	if err != nil || !ok {
		return err == nil
	}
	anywhere := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return want.Port != have.Port || !want.IP.Equal(have.IP) && !(anywhere(want.IP) && anywhere(have.IP))
}

// openListeners takes over the sockets that are open already and opens the
// others. Without winbind's the machine does everything but SMB, without the
// web's all but sign-in by a browser: that one cannot be opened, since another
// program holds it, is logged.
func openListeners(log *slog.Logger, sockets []peer.Socket) (peer.Listeners, error) {
	have, err := peer.Inherited()
	if err != nil {
		return nil, err
	}
	for name, kept := range have { // by systemd, from before the configuration changed
		if isPipe(name) && !slices.ContainsFunc(sockets, func(s peer.Socket) bool { return s.Name == name }) {
			for _, ln := range kept {
				_ = ln.Close()
			}
			delete(have, name)
		}
	}
	for _, s := range sockets {
		if have.First(s.Name) != nil {
			continue
		}
		ln, err := openPatiently(s)
		if err != nil && isPipe(s.Name) {
			log.Error("a pipe of winbind cannot be opened; smbd is not served", "error", err, "remedy", "stop and mask winbind.service, then start latchkeyd again")
			continue
		}
		if err != nil && comesAndGoes(s.Name) {
			log.Error("the web sign-in cannot be reached", "error", err, "remedy", "`latchkey config set web.listen :PORT` with a port that is free")
			continue
		}
		if err != nil {
			return nil, errors.Join(err, have.Close())
		}
		have[s.Name] = append(have[s.Name], ln)
	}
	return have, nil
}

// dying is how long the worker of a monitor that was killed may take to end; it
// holds the sockets as long.
const dying = 3 * time.Second

// openPatiently opens a socket. One that another process listens on is waited
// for: a supervisor that starts us at once after a kill meets the old worker.
func openPatiently(s peer.Socket) (*peer.Listener, error) {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ln, err := peer.Open(s)
		if !fault.Is(err, fault.Conflict) || time.Since(began) > dying {
			return ln, err
		}
	}
}

// arrange opens the sockets that cfg asks for and closes those of winbind and the
// web that it no longer does. The worker goes on: it is given the web's listener,
// and the connections of winbind's pipes one by one. What systemd opened is
// systemd's to close. A socket that before asked for as well and that cannot be
// opened still is logged and no error: the change is about something else.
func (m *Monitor) arrange(cfg, before *config.Config) error {
	if m.wanted == nil {
		return nil
	}
	m.arranging.Lock()
	defer m.arranging.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	var trouble []error
	want, old := map[peer.Name]bool{}, m.wanted(before)
	for _, s := range m.wanted(cfg) {
		want[s.Name] = true
		err := m.arrangeOne(s)
		if err != nil && slices.Contains(old, s) {
			m.log.Error("a socket still cannot be opened", "name", string(s.Name), "error", err)
			continue
		}
		trouble = append(trouble, err)
	}
	for name := range m.listeners {
		if !want[name] && comesAndGoes(name) {
			trouble = append(trouble, m.leave(name))
		}
	}
	return errors.Join(trouble...)
}

// arrangeOne opens a socket that is not open yet. The caller holds mu.
func (m *Monitor) arrangeOne(s peer.Socket) error {
	if s.Name == peer.Web {
		return m.arrangeWeb(s)
	}
	if m.listeners.First(s.Name) != nil {
		return nil
	}
	ln, err := peer.Open(s)
	if err != nil {
		return fault.Wrap(fault.Unknown, "open the sockets of the new configuration in "+filepath.Dir(s.Path), err)
	}
	m.log.Info("a socket has been opened", "name", string(s.Name), "at", s.Path)
	m.listeners[s.Name] = append(m.listeners[s.Name], ln)
	if isPipe(s.Name) { // its connections go to the worker that there is
		m.keep(ln)
	}
	return nil
}

// leave closes the listeners of a name for good. The caller holds mu.
func (m *Monitor) leave(name peer.Name) error {
	var trouble []error
	if name == peer.Web {
		m.tell(&control.LeaveWeb{}, nil)
	}
	for _, ln := range m.listeners[name] {
		at := ln.Addr().String()
		trouble = append(trouble, ln.Close())
		if isPipe(name) { // the file stays where systemd holds the socket
			if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
				trouble = append(trouble, err)
			}
		}
	}
	m.log.Info("a socket has been closed", "name", string(name))
	delete(m.listeners, name)
	if isPipe(name) { // the worker ends what is open
		m.keeper.Forget(name)
		m.withdraw(name)
	}
	return errors.Join(trouble...)
}

// webPatience is how long the worker may take to close the web's listener, where
// the new one wants the same port.
const webPatience = time.Second

// arrangeWeb has the web listen where s says: there before it leaves where it was,
// if that can be; if not at all, it stays where it was. The caller holds mu.
func (m *Monitor) arrangeWeb(s peer.Socket) error {
	old := m.listeners.First(peer.Web)
	if old != nil && !moved(old, s) {
		return nil
	}
	ln, err := peer.Open(s)
	if old != nil && (err == nil || fault.Is(err, fault.Conflict)) {
		before := peer.Socket{Name: peer.Web, Address: old.Addr().String()}
		err = errors.Join(err, m.leave(peer.Web))
		if ln == nil {
			for began := time.Now(); ln == nil && time.Since(began) < webPatience; time.Sleep(5 * time.Millisecond) {
				ln, err = peer.Open(s)
			}
		}
		if ln == nil {
			var back error
			if ln, back = peer.Open(before); back != nil {
				return errors.Join(err, back)
			}
		}
	}
	if ln == nil {
		return err
	}
	m.log.Info("a socket has been opened", "name", string(peer.Web), "at", ln.Addr().String())
	m.listeners[peer.Web] = append(m.listeners[peer.Web], ln)
	m.tell(&control.ServeWeb{}, ln)
	return err
}

// tell gives the worker a message, with a listener or without. One that is gone
// does not matter: the next gets what is open then.
func (m *Monitor) tell(what control.Message, ln *peer.Listener) {
	if m.life == nil {
		return
	}
	var file *os.File
	if ln != nil {
		f, err := ln.File()
		if err != nil {
			m.log.Error("a socket cannot be handed to the worker", "error", err)
			return
		}
		defer f.Close()
		file = f
	}
	if err := m.life.conn.Send(0, what, file); err != nil {
		m.log.Debug("the worker was not told", "what", what.Verb().String(), "error", err)
	}
}

// keep accepts at a pipe of winbind. Smbd's client does not ask a second time when
// a connection breaks: these outlive the worker, with what is asked on them.
func (m *Monitor) keep(ln *peer.Listener) {
	m.deposit(ln)
	go func() {
		if err := m.keeper.Serve(ln); err != nil {
			m.log.Error("a pipe of winbind is not served", "name", string(ln.Name()), "error", err)
		}
	}()
}

// handedOver are the listeners that a worker gets: those at which it accepts
// itself.
func (m *Monitor) handedOver() peer.Listeners {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(m.listeners)
	maps.DeleteFunc(all, func(n peer.Name, _ []*peer.Listener) bool { return isPipe(n) })
	return all
}
