// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"slices"
	"sync"

	"github.com/latchkey-nas/latchkey/internal/peer"
)

// webListeners are those at which the web is served. They come and go with the
// configuration while everything else goes on.
type webListeners struct {
	ready chan struct{} // closed when serve is set

	mu    sync.Mutex
	open  []*peer.Listener
	over  bool                 // the daemon ends
	serve func(*peer.Listener) // goes on until the listener closes
}

// add serves one more.
func (w *webListeners) add(ln *peer.Listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		_ = ln.Close()
		return
	}
	w.open = append(w.open, ln)
	w.serve(ln)
}

// has says whether a listener is one of them, and was not taken out.
func (w *webListeners) has(ln *peer.Listener) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.open, ln)
}

// none says that the web is served nowhere.
func (w *webListeners) none() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.open) == 0
}

// takeOut returns all of them, for the caller to close.
func (w *webListeners) takeOut() (all []*peer.Listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, w.open = w.open, nil
	return all
}

// end lets no more begin.
func (w *webListeners) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// ServeWeb serves the web at one more listener, which the monitor sent. It waits
// for Run to begin; when that never comes, the process is about to end.
func (d *Daemon) ServeWeb(f *os.File) {
	ln, err := peer.TakeOver(f, peer.Web)
	if err != nil {
		d.log.Error("the web's new listener cannot be used", "error", err)
		return
	}
	<-d.webs.ready
	d.log.Info("the web is served", "at", ln.Addr().String())
	d.webs.add(ln)
}

// LeaveWeb closes the listeners of the web. Requests that came in there are
// answered.
func (d *Daemon) LeaveWeb() {
	<-d.webs.ready
	for _, ln := range d.webs.takeOut() {
		if err := ln.Close(); err != nil {
			d.log.Warn("a listener of the web was not closed well", "error", err)
		}
	}
}
