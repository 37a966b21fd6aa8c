// SPDX-License-Identifier: Apache-2.0

// Package nas is a box of the lab with latchkey on it: what `make install`
// installs, the daemon running, the domain joined, and its command line at
// hand. Tests, the demo and the benchmark start from here.
//
// It never reaches into the product: everything it does, an administrator could
// type.
package nas

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// Tree is where `make root` puts the installed product, below the top of the
// source tree.
const Tree = "build/root"

// Module is where the NSS module is installed.
const Module = "/usr/lib/x86_64-linux-gnu/libnss_latchkey.so.2"

// A NAS is a box with latchkey installed.
type NAS struct {
	*lab.Box
	daemon *lab.Process
}

// Install copies the product into a box. The tree must have been made before
// (`make root`).
func Install(ctx context.Context, box *lab.Box) (*NAS, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "../../..", Tree)
	if top := os.Getenv("LATCHKEY_TOP"); top != "" {
		root = filepath.Join(top, Tree)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/sbin/latchkeyd")); err != nil {
		return nil, fmt.Errorf("the product is not built: %w; run make root", err)
	}
	tar := exec.CommandContext(ctx, "tar", "-C", root, "--owner=0", "--group=0", "--numeric-owner", "-cf", "-", ".")
	var trouble bytes.Buffer
	tar.Stderr = &trouble
	archive, err := tar.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := tar.Start(); err != nil {
		return nil, err
	}
	unpack := box.Command("tar", "-C", "/", "--keep-directory-symlink", "-xf", "-")
	unpack.Stdin = archive
	_, err = unpack.Output(ctx)
	if werr := tar.Wait(); werr != nil && err == nil {
		err = fmt.Errorf("pack %s: %w: %s", root, werr, &trouble)
	}
	if err != nil {
		return nil, fmt.Errorf("install latchkey in %s: %w", box.Name(), err)
	}
	return &NAS{Box: box}, nil
}

// Attach takes a box on which the product is installed already.
func Attach(box *lab.Box) *NAS { return &NAS{Box: box} }

// Start runs the daemon and waits until it answers. detach lets it outlive this
// process; its log is /var/log/latchkeyd.log in either case.
func (n *NAS) Start(ctx context.Context, detach bool) error {
	c := n.Command("/usr/sbin/latchkeyd", "run")
	c.Log = "/var/log/latchkeyd.log"
	c.Detach = detach
	p, err := c.Start(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	n.daemon = p
	return n.WaitAnswer(ctx)
}

// WaitAnswer waits until the daemon answers on admin.sock.
func (n *NAS) WaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		r, err := n.CLI(ctx, "status", "--json")
		if err == nil && r.Exit != 5 {
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := n.ReadFile(context.WithoutCancel(ctx), "/var/log/latchkeyd.log")
			return fmt.Errorf("latchkeyd in %s does not answer; its log:\n%s", n.Name(), log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// CLI runs `latchkey ARGS`. An exit status other than 0 is no error.
func (n *NAS) CLI(ctx context.Context, args ...string) (*lab.Result, error) {
	return n.Run(ctx, append([]string{"/usr/bin/latchkey"}, args...)...)
}

// JSON runs `latchkey ARGS --json` and decodes what it prints.
func (n *NAS) JSON(ctx context.Context, into any, args ...string) error {
	r, err := n.CLI(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	if !r.Ok() {
		return fmt.Errorf("latchkey %s: %s", strings.Join(args, " "), r)
	}
	return json.Unmarshal([]byte(r.Stdout), into)
}

// Join joins the domain as the lab's ordinary user; more goes to the command
// line as it is. The box's resolver need not know the domain.
func (n *NAS) Join(ctx context.Context, d *lab.Domain, more ...string) (*lab.Result, error) {
	args := []string{"/usr/bin/latchkey", "join", d.DNS, "--user", lab.JoinUser, "--password-stdin", "--dns", d.DC.IP()}
	c := n.Command(append(args, more...)...)
	c.Stdin = strings.NewReader(lab.JoinPassword + "\n")
	return c.Run(ctx)
}

// MustJoin is Join for those who cannot go on without, and waits until the
// mirror is complete.
func (n *NAS) MustJoin(ctx context.Context, d *lab.Domain, more ...string) error {
	r, err := n.Join(ctx, d, more...)
	if err != nil {
		return err
	}
	if !r.Ok() {
		return fmt.Errorf("latchkey join: %s", r)
	}
	return n.WaitMirror(ctx)
}

// WaitMirror waits until the mirror is complete, as long as ctx lasts.
func (n *NAS) WaitMirror(ctx context.Context) error {
	for {
		r, err := n.CLI(ctx, "status", "--json")
		if err != nil {
			return err
		}
		if r.Ok() && strings.Contains(strings.ReplaceAll(r.Stdout, " ", ""), `"mirror_complete":true`) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the mirror of %s is not complete: %w: %s", n.Name(), ctx.Err(), r)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// UseNSS names the module in nsswitch.conf, as an administrator would.
func (n *NAS) UseNSS(ctx context.Context) error {
	_, err := n.Output(ctx, "sed", "-i", "-E",
		`s/^(passwd|group):.*/\1: files latchkey/`, "/etc/nsswitch.conf")
	return err
}
