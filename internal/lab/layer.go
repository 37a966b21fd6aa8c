// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// A LayerSpec says what a layer adds to a base: programs that only some tests
// need. A layer is built once for each base and kept in the cache; the base
// below it stays as it is, and so do machines without the layer.
type LayerSpec struct {
	Name     string   // lower-case letters
	Packages []string // of Debian
	// Manifest and Lock are package.json and package-lock.json, whose packages
	// are installed in NodeDir. Empty: none.
	Manifest, Lock []byte
}

// NodeDir is where the Node packages of a layer are.
const NodeDir = "/opt/latchkey-lab"

//go:embed layer.sh
var layerScript string

// Key identifies a layer over a base: the same key, the same contents.
func (s LayerSpec) Key(base string) string {
	packages := append([]string{}, s.Packages...)
	sort.Strings(packages)
	hash := sha256.New()
	fmt.Fprintln(hash, base, packages, layerScript)
	hash.Write(s.Manifest)
	hash.Write(s.Lock)
	return "layer-" + s.Name + "-" + hex.EncodeToString(hash.Sum(nil))[:12]
}

// Layer returns the directory of a layer over a base, which it builds first if
// it is not in the cache. Nobody may write to it.
func Layer(ctx context.Context, base BaseSpec, spec LayerSpec, progress Progress) (string, error) {
	below, err := Base(ctx, base, progress)
	if err != nil {
		return "", err
	}
	dir, err := cached(ctx, spec.Key(base.Key()), progress, func(dir string) error {
		return progress.step("installing the layer "+spec.Name, 150*time.Second, func() error {
			return buildLayer(ctx, base, below, dir, spec)
		})
	})
	return filepath.Join(dir, "upper"), err
}

func buildLayer(ctx context.Context, base BaseSpec, below, dir string, spec LayerSpec) error {
	conf, err := hostAptConfig()
	if err != nil {
		return err
	}
	sources := ForSuite(conf.Sources, conf.Codename, base.suite())
	if mirror := os.Getenv("LATCHKEY_LAB_MIRROR"); mirror != "" {
		sources = []AptSource{{URI: mirror, Suite: base.suite(), Components: []string{"main"}}}
	}
	upper := filepath.Join(dir, "upper")
	if err := conf.writeInto(upper, sources); err != nil {
		return err
	}
	if len(spec.Lock) > 0 {
		files := map[string][]byte{NodeDir + "/package.json": spec.Manifest, NodeDir + "/package-lock.json": spec.Lock, "/root/.npmrc": npmConfig()}
		for name, text := range files {
			if err := writeFile(filepath.Join(upper, name), text); err != nil {
				return err
			}
		}
	}
	if err := runBuildScript(ctx, layerScript, conf, append([]string{below, dir}, spec.Packages...)...); err != nil {
		return fmt.Errorf("building the layer %s: %w", spec.Name, err)
	}
	return nil
}

// npmConfig is how npm of this machine reaches its registry (npmrc(5)), for as
// long as the layer is being built.
func npmConfig() []byte {
	var all []byte
	home, _ := os.UserHomeDir()
	for _, name := range []string{"/etc/npmrc", filepath.Join(home, ".npmrc")} {
		for line := range strings.Lines(string(readOrNothing(name))) {
			key, _, _ := strings.Cut(line, "=")
			switch key = strings.TrimSpace(key); {
			case key == "registry", strings.HasPrefix(key, "//"), strings.HasPrefix(key, "@"), strings.HasSuffix(key, "proxy"), key == "noproxy", key == "strict-ssl":
				all = append(all, strings.TrimRight(line, "\n")+"\n"...)
			}
		}
	}
	return all
}

func readOrNothing(name string) []byte {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return text
}
