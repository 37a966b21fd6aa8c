// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Every lab has the same addresses: its network ends at its own switch, so
// labs side by side do not meet, and a provisioned domain can be used again.
const (
	Network   = "10.77.0."
	GatewayIP = Network + "1" // the switch itself: answers pings, offers nothing
	bridge    = "br0"
)

// networkOf opens the network namespace of an init for netlink.
func networkOf(pid int) (netns.NsHandle, *netlink.Handle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return 0, nil, fmt.Errorf("network of process %d: %w", pid, err)
	}
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		ns.Close()
		return 0, nil, fmt.Errorf("network of process %d: %w", pid, err)
	}
	return ns, handle, nil
}

// makeSwitch turns the switch's empty network into a bridge.
func makeSwitch(pid int) error {
	ns, handle, err := networkOf(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	defer handle.Close()
	if err := linkUp(handle, "lo"); err != nil {
		return err
	}
	if err := handle.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
		return fmt.Errorf("making the bridge: %w", err)
	}
	return giveAddress(handle, bridge, GatewayIP)
}

// plugIn lays a cable from the switch to a machine and gives it its address.
func plugIn(switchPID int, m *machineInfo) error {
	switchNS, there, err := networkOf(switchPID)
	if err != nil {
		return err
	}
	defer switchNS.Close()
	defer there.Close()
	machineNS, here, err := networkOf(m.PID)
	if err != nil {
		return err
	}
	defer machineNS.Close()
	defer here.Close()
	master, err := there.LinkByName(bridge)
	if err != nil {
		return err
	}
	m.Port = "p" + m.IP[len(Network):]
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: m.Port, MasterIndex: master.Attrs().Index},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(int(machineNS)),
	}
	// The cable of a machine that had this address goes some time after the
	// machine: the kernel takes network namespaces down in its own time.
	if old, err := there.LinkByName(m.Port); err == nil {
		if err := there.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("unplugging what was at %s: %w", m.IP, err)
		}
	}
	if err := there.LinkAdd(cable); err != nil {
		return fmt.Errorf("plugging in %s: %w", m.Name, err)
	}
	if err := linkUp(there, m.Port); err != nil {
		return err
	}
	if err := linkUp(here, "lo"); err != nil {
		return err
	}
	return giveAddress(here, "eth0", m.IP)
}

func giveAddress(handle *netlink.Handle, name, ip string) error {
	link, err := handle.LinkByName(name)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(24, 32)}}
	if err := handle.AddrAdd(link, address); err != nil {
		return fmt.Errorf("giving %s to %s: %w", ip, name, err)
	}
	return handle.LinkSetUp(link)
}

func linkUp(handle *netlink.Handle, name string) error {
	link, err := handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return handle.LinkSetUp(link)
}

// SetLink pulls the machine's cable, or plugs it in again.
func (m *Machine) SetLink(up bool) error {
	info, err := m.lab.machine("switch")
	if err != nil {
		return err
	}
	ns, handle, err := networkOf(info.PID)
	if err != nil {
		return err
	}
	defer ns.Close()
	defer handle.Close()
	link, err := handle.LinkByName(m.info.Port)
	if err != nil {
		return err
	}
	if up {
		return handle.LinkSetUp(link)
	}
	return handle.LinkSetDown(link)
}

// Dial connects from inside the machine's network, so that a test can speak to
// a domain controller without leaving its own process. The address is an IP
// and a port: names would be looked up outside.
func (m *Machine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := m.inNetwork(address, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen is Dial for a listener.
func (m *Machine) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := m.inNetwork(address, func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// inNetwork runs do on a thread that is in the machine's network.
func (m *Machine) inNetwork(address string, do func() error) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host != "" && net.ParseIP(host) == nil {
		return fmt.Errorf("%q is not an IP address", host)
	}
	return onOwnThread(func() error {
		ns, err := netns.GetFromPid(m.info.PID)
		if err != nil {
			return fmt.Errorf("network of %s: %w", m.info.Name, err)
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("entering the network of %s: %w", m.info.Name, err)
		}
		return do()
	})
}

// onOwnThread runs do on a thread that may change its network namespace, and
// gives the thread back in the one it came from. It is never the first thread:
// what /proc/self/net shows is that thread's network.
func onOwnThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine sits here, another one runs elsewhere.
			done <- onOwnThread(do)
			runtime.UnlockOSThread()
			return
		}
		home, err := netns.Get()
		if err != nil {
			done <- err
			runtime.UnlockOSThread()
			return
		}
		defer home.Close()
		err = do()
		if back := netns.Set(home); back == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with the goroutine
		done <- err
	}()
	return <-done
}
