// SPDX-License-Identifier: Apache-2.0

// Package provider runs a real OpenID provider on a machine of the lab, in the
// shape of one tenant of Entra ID: npm's oidc-provider with Entra's issuer,
// paths, claims and account picker.
//
// It proves that our side speaks the protocol; what Microsoft does beyond it, no
// stand-in proves.
package provider

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/node"
)

//go:embed provider.mjs
var script []byte

// A Person can sign in.
type Person struct {
	UPN      string `json:"upn"`
	Password string `json:"password"`
	OID      string `json:"oid"`
	Name     string `json:"name"`
	Guest    bool   `json:"guest,omitempty"`
}

// Settings say which tenant it is.
type Settings struct {
	Tenant       string   `json:"tenant"` // a GUID
	Client       string   `json:"client"` // a GUID
	Secret       string   `json:"secret,omitempty"`
	RedirectURIs []string `json:"redirectURIs"`
	People       []Person `json:"people"`
	FrontChannel string   `json:"frontChannel,omitempty"` // the app's address for front-channel sign-out
	Port         int      `json:"port"`
}

// Layer is what the machine has to be started with.
func Layer() *lab.LayerSpec { return &node.Layer }

// Authority is the issuer, with {tenant} for the tenant's id. It is on the
// machine's loopback: no other machine reaches it.
func (s Settings) Authority() string { return fmt.Sprintf("http://127.0.0.1:%d/{tenant}/v2.0", s.Port) }

// Start runs the provider until ctx ends; detach lets it outlive this process.
func Start(ctx context.Context, m *lab.Machine, s Settings, detach bool) (*lab.Process, error) {
	const dir = lab.NodeDir + "/provider/"
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(m.WriteFile(ctx, dir+"provider.mjs", script, 0o644), m.WriteFile(ctx, dir+"settings.json", text, 0o600)); err != nil {
		return nil, err
	}
	c := m.Command("node", dir+"provider.mjs", dir+"settings.json")
	c.Log, c.Detach = "/var/log/provider.log", detach
	p, err := c.Start(ctx)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	address := fmt.Sprintf("http://127.0.0.1:%d/%s/v2.0/.well-known/openid-configuration", s.Port, s.Tenant)
	for {
		if r, err := m.Run(wait, "curl", "-fs", "-o", "/dev/null", address); err == nil && r.Ok() {
			return p, nil
		}
		select {
		case <-wait.Done():
			log, _ := m.ReadFile(context.WithoutCancel(ctx), "/var/log/provider.log")
			return nil, fmt.Errorf("the OpenID provider does not answer; its log:\n%s", log)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
