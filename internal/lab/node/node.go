// SPDX-License-Identifier: Apache-2.0

// Package node is the lab's layer for the web: Chromium, Node with an OpenID
// provider and the browser's driver, and the reverse proxies that NAS boxes
// have. The versions of what comes from npm are in package-lock.json, which
// names no registry.
//
// It never gets into the product, nor into the base of the other tests.
package node

import (
	_ "embed"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

//go:embed package.json
var manifest []byte

//go:embed package-lock.json
var lock []byte

// Layer is what the boxes of web tests have on top of the base.
var Layer = lab.LayerSpec{
	Name:     "web",
	Packages: strings.Fields(`caddy chromium chromium-sandbox fonts-dejavu-core fonts-droid-fallback nginx-light nodejs npm`),
	Manifest: manifest,
	Lock:     lock,
}

// Provider is the part of Layer that the OpenID provider needs: what the demo
// shows a person needs no browser of the lab's.
var Provider = lab.LayerSpec{Name: "provider", Packages: strings.Fields(`nodejs npm`), Manifest: manifest, Lock: lock}
