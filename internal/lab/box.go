// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// BoxOptions say how a box is to be. The zero value is a bare NAS: no
// krb5.conf, a resolver that knows nothing of the domain, names and sign-ins
// from its own files.
type BoxOptions struct {
	Hostname string            // the box's name when empty
	UseDNS   bool              // resolv.conf points at the domain controllers, and searches the domain
	Krb5Conf bool              // there is an /etc/krb5.conf for the domain
	DiskSize string            // of the disk, as mount(8) size= of tmpfs; "4g" when empty
	DiskDir  string            // keep the disk in this directory instead of memory; overlayfs must accept it
	Binds    []Bind            // parts of the host that the box sees
	Files    map[string]string // files to write before anything runs
	Suite    string            // another Debian release than the lab's
	Layer    *LayerSpec        // programs on top of the base's
}

// A Box is a machine that could be a NAS.
type Box struct{ *Machine }

var boxName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,31}$`)

// Box starts a box. It knows nothing of the domain unless asked to.
func (l *Lab) Box(ctx context.Context, name string, options BoxOptions) (*Box, error) {
	if !boxName.MatchString(name) {
		return nil, fmt.Errorf("box name %q: letters, digits and dashes, 32 at most", name)
	}
	host := options.Hostname
	if host == "" {
		host = name
	}
	baseDir, spec := l.baseDir, l.base
	if options.Suite != "" && options.Suite != l.base.suite() {
		spec.Suite = options.Suite
		var err error
		if baseDir, err = Base(ctx, spec, l.progress); err != nil {
			return nil, err
		}
	}
	lower := []string{baseDir}
	if options.Layer != nil {
		layer, err := Layer(ctx, spec, *options.Layer, l.progress)
		if err != nil {
			return nil, err
		}
		lower = []string{layer, baseDir}
	}
	st, err := l.load()
	if err != nil {
		return nil, err
	}
	info, err := l.reserve(machineInfo{Name: name, Kind: "box", Hostname: host}, firstBox)
	if err != nil {
		return nil, err
	}
	conf := initConfig{
		Lower: lower, Size: options.DiskSize, Disk: options.DiskDir, Binds: options.Binds,
		Files: map[string]string{
			"/etc/hostname": host + "\n", "/etc/hosts": "127.0.0.1 localhost\n" + info.IP + " " + host + "\n",
			// The switch is no name server and says so at once, like a
			// router that does not know the domain.
			"/etc/resolv.conf": "nameserver " + GatewayIP + "\n",
			"/etc/machine-id":  machineID() + "\n",
		},
	}
	if conf.Size == "" {
		conf.Size = "4g"
	}
	if st.Domain != nil && options.UseDNS {
		servers := ""
		for _, dc := range []string{"dc1", "dc2"} {
			if other, ok := st.Machines[dc]; ok {
				servers += "nameserver " + other.IP + "\n"
			}
		}
		conf.Files["/etc/resolv.conf"] = "search " + st.Domain.DNS + "\n" + servers
		conf.Files["/etc/hosts"] = fmt.Sprintf("127.0.0.1 localhost\n%s %s.%s %s\n", info.IP, host, st.Domain.DNS, host)
	}
	if st.Domain != nil && options.Krb5Conf {
		conf.Files["/etc/krb5.conf"] = krb5Conf(*st.Domain)
	}
	for path, content := range options.Files {
		conf.Files[path] = content
	}
	var box *Box
	err = l.progress.step("starting the box "+name, 300*time.Millisecond, func() error {
		m, err := l.startMachine(ctx, info, conf)
		if err != nil {
			l.forget(name)
			return err
		}
		box = &Box{m}
		return l.plug(m)
	})
	return box, err
}

// OpenBox returns a box that runs already.
func (l *Lab) OpenBox(name string) (*Box, error) {
	m, err := l.Machine(name)
	if err != nil {
		return nil, err
	}
	return &Box{m}, nil
}

// machineID is an id of machine-id(5).
func machineID() string {
	id := uuid.New()
	return fmt.Sprintf("%x", id[:])
}
