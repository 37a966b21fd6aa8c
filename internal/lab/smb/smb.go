// SPDX-License-Identifier: Apache-2.0

// Package smb serves and uses shares in the lab: a real smbd on a box, and a
// client of it on another one, with passwords (NTLM) and with tickets
// (Kerberos). Which identity service the smbd asks is the box's own affair, so
// that latchkey and its peers are tried and measured alike.
//
// It never ships. The lab's passwords are no secrets: they go by argv.
package smb

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// Log is where smbd writes on the server, one file for each client machine.
const Log = "/var/log/samba"

// A Server is a box whose smbd serves shares.
type Server struct {
	*lab.Box
	FQDN string // as clients ask for it, also for tickets
}

// Serve starts smbd on a box that has an smb.conf, and waits until it listens.
func Serve(ctx context.Context, box *lab.Box, fqdn string) (*Server, error) {
	s := &Server{Box: box, FQDN: fqdn}
	return s, s.Start(ctx)
}

// Start starts smbd and waits until it listens.
func (s *Server) Start(ctx context.Context) error {
	if _, err := s.Output(ctx, "install", "-d", "/run/samba"); err != nil {
		return err
	}
	c := s.Command("smbd", "-F", "--no-process-group")
	c.Log, c.Detach = Log+"/out", true
	if _, err := c.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := s.Dial(ctx, "tcp", "127.0.0.1:445")
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			log, _ := s.Output(context.WithoutCancel(ctx), "sh", "-c", "tail -n 30 "+Log+"/out "+Log+"/log.smbd")
			return fmt.Errorf("smbd on %s does not listen: %w\n%s", s.Name(), err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends smbd and its children.
func (s *Server) Stop(ctx context.Context) error {
	_, err := s.Output(ctx, "sh", "-c", "kill $(cat /run/samba/smbd.pid); for i in $(seq 200); do pgrep -x smbd >/dev/null || exit 0; sleep 0.02; done; pkill -9 -x smbd")
	return err
}

// A Client is a box from which shares of a server are used. It must use the
// domain's DNS and have its krb5.conf.
type Client struct {
	*lab.Box
	Server  *Server
	NetBIOS string // of the domain
}

// Connect makes box a client of the server, which need not be in DNS.
func Connect(ctx context.Context, box *lab.Box, server *Server, d *lab.Domain) (*Client, error) {
	line := server.IP() + " " + server.FQDN + " " + server.Hostname() + "\n"
	if _, err := box.Output(ctx, "sh", "-c", "echo '"+strings.TrimSpace(line)+"' >>/etc/hosts"); err != nil {
		return nil, err
	}
	return &Client{Box: box, Server: server, NetBIOS: d.NetBIOS}, nil
}

// A Who is somebody who signs in. A bare Name is of the domain; one with @ goes
// as it is, with no domain beside it.
type Who struct {
	Name, Password string
	Ticket         bool // by Kerberos, with the tickets of Kinit
}

// Cache is the credential cache of a user of the client box.
func Cache(name string) string {
	return "FILE:/tmp/cc_" + strings.NewReplacer(`\`, "_", "@", "_", "/", "_", " ", "_").Replace(name)
}

// Kinit gets tickets for a user, by account name.
func (c *Client) Kinit(ctx context.Context, name, password string) error {
	kinit := c.Command("kinit", "-c", Cache(name), name)
	kinit.Stdin = strings.NewReader(password + "\n")
	_, err := kinit.Output(ctx)
	return err
}

// options are the arguments of Samba's clients that say who somebody is.
func (c *Client) options(w Who) (args, env []string) {
	if w.Ticket {
		return []string{"--use-kerberos=required", "--use-krb5-ccache=" + Cache(w.Name), "-N"}, []string{"KRB5CCNAME=" + Cache(w.Name)}
	}
	name := w.Name
	if !strings.ContainsAny(name, `@\`) {
		name = c.NetBIOS + `\` + name
	}
	return []string{"--use-kerberos=off", "-U", name + "%" + w.Password}, nil
}

// Do runs commands of smbclient(1) on a share; more goes to its command line.
func (c *Client) Do(ctx context.Context, w Who, share, commands string, more ...string) (*lab.Result, error) {
	args, env := c.options(w)
	cmd := c.Command(append(append([]string{"smbclient", "//" + c.Server.FQDN + "/" + share, "-c", commands}, args...), more...)...)
	cmd.Env, cmd.Dir = env, "/tmp"
	return cmd.Run(ctx)
}

// ACL runs smbcacls(1) on a file of a share.
func (c *Client) ACL(ctx context.Context, w Who, share, file string, more ...string) (*lab.Result, error) {
	args, env := c.options(w)
	cmd := c.Command(append(append([]string{"smbcacls", "//" + c.Server.FQDN + "/" + share, file}, args...), more...)...)
	cmd.Env = env
	return cmd.Run(ctx)
}

// A Session is a smbclient that stays connected.
type Session struct {
	client  *Client
	process *lab.Process
	input   *io.PipeWriter
	log     string
	n       int
}

// Open connects to a share and stays connected until Close. One Session may be
// open for each name of a log file.
func (c *Client) Open(ctx context.Context, w Who, share, log string) (*Session, error) {
	args, env := c.options(w)
	read, write := io.Pipe()
	cmd := c.Command("sh", "-c", `exec stdbuf -oL smbclient "$@" >`+log+` 2>&1`, "sh")
	cmd.Args = append(append(cmd.Args, "//"+c.Server.FQDN+"/"+share), args...)
	cmd.Env, cmd.Dir, cmd.Stdin = env, "/tmp", read
	p, err := cmd.Start(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	s := &Session{client: c, process: p, input: write, log: log}
	if out, err := s.Do(ctx, "pwd"); err != nil {
		return nil, fmt.Errorf("open a session: %w: %s", err, out)
	}
	return s, nil
}

// Do runs a command and returns all that was printed so far.
func (s *Session) Do(ctx context.Context, command string) (string, error) {
	s.n++
	mark := fmt.Sprintf("done-%d", s.n)
	// It waits for more input although it holds a line already: one at a time.
	for _, line := range []string{command, "!echo " + mark} {
		if _, err := fmt.Fprintln(s.input, line); err != nil {
			return "", err
		}
		time.Sleep(150 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	again := time.NewTicker(2 * time.Second)
	defer again.Stop()
	for {
		out, err := s.client.ReadFile(ctx, s.log)
		if err == nil && strings.Contains(string(out), mark) {
			return string(out), nil
		}
		select {
		case <-ctx.Done():
			return string(out), fmt.Errorf("%s: %w", command, ctx.Err())
		case <-again.C: // on a busy machine it got both lines in one, and holds the second
			if _, err := fmt.Fprintln(s.input, "!echo "+mark); err != nil {
				return string(out), err
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Close ends the session.
func (s *Session) Close() error {
	_ = s.input.Close()
	_, err := s.process.Wait()
	return err
}
