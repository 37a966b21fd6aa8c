// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// unknownEvery is how often, at most, an unknown key id has the keys read again:
// anybody can send a token with any key id.
const unknownEvery = 5 * time.Minute

// keySet is the tenant's signing keys (RFC 7517), RSA only. It is go-oidc's KeySet.
type keySet struct {
	client *Client

	asking sync.Mutex // held while the keys are read

	mu      sync.Mutex
	keys    map[string]*rsa.PublicKey
	read    time.Time
	unknown time.Time // when an unknown key id had them read
	own     bool      // the app has keys of its own besides the tenant's
}

// VerifySignature returns the payload of a token that one of the tenant's keys
// has signed with RS256.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(jws.Signatures) != 1 {
		return nil, ErrAlgorithm
	}
	id := jws.Signatures[0].Protected.KeyID
	if id == "" {
		return nil, fmt.Errorf("%w: it names none", ErrKey)
	}
	key, err := k.key(ctx, id)
	if err != nil {
		return nil, err
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, ErrSignature
	}
	return payload, nil
}

// key returns the key of an id. The keys at hand are good for a day, and longer
// while the tenant does not answer.
func (k *keySet) key(ctx context.Context, id string) (*rsa.PublicKey, error) {
	now := k.client.c.Now()
	k.mu.Lock()
	key, old, due := k.keys[id], now.Sub(k.read) >= keepFor, now.Sub(k.unknown) >= unknownEvery
	if key == nil && k.keys != nil && !old {
		if !due {
			k.mu.Unlock()
			return nil, ErrKey
		}
		k.unknown = now
	}
	k.mu.Unlock()
	if key != nil && !old {
		return key, nil
	}
	m, err := k.client.metadata(ctx)
	if err == nil {
		err = k.refresh(ctx, m, id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.keys[id]; key != nil {
		return key, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, ErrKey
}

// age is how long ago the keys were read.
func (k *keySet) age() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.client.c.Now().Sub(k.read)
}

// refresh reads the keys; what was read before stays where that fails. An id that
// is not among the tenant's may be of the app's own keys: Entra ID gives it such
// where claims are mapped or SAML is set up for it, and shows them to who names
// the app (entra/identity-platform/access-tokens, "Validate the signature").
func (k *keySet) refresh(ctx context.Context, m *metadata, id string) error {
	asked := k.client.c.Now()
	k.asking.Lock()
	defer k.asking.Unlock()
	k.mu.Lock()
	fresh, own := k.read.After(asked), k.own
	k.mu.Unlock()
	if fresh {
		return nil // somebody else read them meanwhile
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	keys, err := k.fetch(ctx, m.Keys)
	if err != nil {
		return &fault.Error{Kind: fault.Unreachable, Op: "read the tenant's signing keys", Err: clipped(err),
			Remedy: "see that this machine reaches " + m.Keys}
	}
	if own || id != "" && keys[id] == nil {
		// Whoever knows no such question answers as before, or with an error.
		more, err := k.fetch(ctx, k.ofApp(m.Keys))
		if err != nil {
			k.client.c.Log.Debug("the app's own signing keys cannot be had", "error", clipped(err))
		}
		for id, key := range more {
			if keys[id] == nil {
				keys[id], own = key, true
			}
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.read, k.own = keys, k.client.c.Now(), own
	return nil
}

// ofApp is where the tenant shows the keys of this app.
func (k *keySet) ofApp(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	q.Set("appid", k.client.c.Client.String())
	u.RawQuery = q.Encode()
	return u.String()
}

func (k *keySet) fetch(ctx context.Context, address string) (map[string]*rsa.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	return k.parse(body)
}

// parse takes the keys that can sign by RS256 for our issuer, and passes over
// the others: a tenant may have any.
func (k *keySet) parse(body []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, err
	}
	keys := map[string]*rsa.PublicKey{}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		var more struct {
			Issuer string `json:"issuer"` // Entra ID: whose tokens the key may sign
		}
		if json.Unmarshal(raw, &key) != nil || json.Unmarshal(raw, &more) != nil {
			continue
		}
		public, ok := key.Key.(*rsa.PublicKey)
		issuer := strings.ReplaceAll(more.Issuer, "{tenantid}", k.client.c.Tenant.String())
		if !ok || key.KeyID == "" || (key.Use != "" && key.Use != "sig") || (key.Algorithm != "" && key.Algorithm != string(jose.RS256)) ||
			public.N.BitLen() < 2048 || (issuer != "" && issuer != k.client.issuer) {
			continue
		}
		keys[key.KeyID] = public
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no RSA key among %d", len(set.Keys))
	}
	return keys, nil
}
