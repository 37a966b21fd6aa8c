// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/provider"
)

// The tenant that stands in for Entra ID.
const (
	tenant   = "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b"
	client   = "1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90"
	secret   = "demo~secret"
	website  = "127.0.0.1:8443"
	idp      = "127.0.0.1:9480"
	idpPort  = 9480
	redirect = "https://" + website + "/auth/oidc/callback"
)

// demoPeople are those whom the visitor may be.
var demoPeople = []string{"grace.nakamura", "juergen.mueller", "amelie.dubois"}

// web sets up the sign-in by a browser and opens it to this machine.
func (s *show) web() {
	if s.err != nil {
		return
	}
	s.say("The web UI asks Entra ID who somebody is. Here, a provider on the NAS itself stands in for it.")
	if s.err = s.startProvider(); s.err != nil {
		return
	}
	authority := provider.Settings{Port: idpPort}.Authority()
	s.enter("DEBIAN_FRONTEND=noninteractive pam-auth-update --enable latchkey")
	s.enter("echo " + secret + " | latchkey sso set --tenant " + tenant + " --client " + client +
		" --authority '" + authority + "' --redirect-uri " + redirect + " --secret-stdin")
	s.enter("latchkey sso status")
	s.enter("id grace.nakamura")
	if s.err == nil {
		s.err = forwarded(s.ctx)
	}
}

// startProvider runs the provider on the NAS, unless it runs already.
func (s *show) startProvider() error {
	if r, err := s.nas.Run(s.ctx, "curl", "-fs", "-o", "/dev/null", "http://"+idp+"/"+tenant+"/v2.0/.well-known/openid-configuration"); err == nil && r.Ok() {
		return nil
	}
	set := provider.Settings{Tenant: tenant, Client: client, Secret: secret, RedirectURIs: []string{redirect}, Port: idpPort}
	for _, name := range demoPeople {
		o, err := s.domain.Find(s.ctx, name)
		if err != nil {
			return err
		}
		set.People = append(set.People, provider.Person{UPN: name + "@contoso.test", Password: lab.DemoPassword, OID: o.OID, Name: name})
	}
	set.People = append(set.People, provider.Person{UPN: "new.colleague@contoso.test", Password: lab.DemoPassword, OID: "00000000-1111-4222-8333-444444444444", Name: "New Colleague"})
	_, err := provider.Start(context.WithoutCancel(s.ctx), s.nas.Machine, set, true)
	return err
}

// forwarded sees to it that the pages can be reached at this machine's own
// loopback: a process of ours outlives the tour and carries bytes into the box.
func forwarded(ctx context.Context) error {
	if !answers(ctx) {
		c := exec.Command(os.Args[0], "forward")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		log, err := os.Create("build/demo-forward.log")
		if err != nil {
			return err
		}
		defer log.Close()
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			return err
		}
		go func() { _ = c.Wait() }()
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for !answers(ctx) {
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile("build/demo-forward.log")
			return fmt.Errorf("the pages do not answer at https://%s: %s", website, strings.TrimSpace(string(log)))
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// answers says whether our pages are at this machine's loopback.
func answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+website+"/auth/sign-in?stay=1", nil)
	if err != nil {
		return false
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}} // a certificate of its own
	resp, err := c.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return err == nil && strings.Contains(string(page), `action="/auth/password"`)
}

// forward carries connections from this machine's loopback to the NAS's, for as
// long as the demo's lab is there. It never listens on another address.
func forward(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, address := range []string{website, idp} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("another program of this machine uses %s: %w", address, err)
		}
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go carry(ctx, conn, address)
			}
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
			if !lab.Runs(labName) {
				return nil // the demo is gone
			}
		}
	}
}

// carry carries one connection.
func carry(ctx context.Context, near net.Conn, address string) {
	defer near.Close()
	far, err := dial(ctx, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			if c, ok := way[0].(*net.TCPConn); ok {
				_ = c.CloseWrite()
			}
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := lab.DialInto(ctx, labName, "nas", "tcp", address)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("nobody listens on %s of the NAS: %w", address, err)
	}
	return conn, err
}

// invitation is what to try with a browser.
func invitation() string {
	return fmt.Sprintf(`
Sign in with a browser of this machine (the certificate is self-signed, so it will warn):

    https://%s

    "Sign in with Microsoft Entra ID" as  %s
    or with the form as                   %s
    the password of all of them is        %s
    and somebody who is in Entra ID only  new.colleague@contoso.test

The page shows the same uid as: build/labctl --name demo run nas id %s
From another computer, first:   ssh -L 8443:%s -L 9480:%s %s
`, website, strings.Join(demoPeople, "@contoso.test, ")+"@contoso.test", demoPeople[0], lab.DemoPassword, demoPeople[0], website, idp, hostname())
}

func hostname() string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "THIS-MACHINE"
}
