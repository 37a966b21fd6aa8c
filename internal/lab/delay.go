// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Delay makes everything that the machine sends and receives arrive later by
// half of roundTrip each way; 0 takes the delay back. The switch's init passes
// the frames on, since not every kernel has netem.
func (m *Machine) Delay(ctx context.Context, roundTrip time.Duration) error {
	info, err := m.lab.machine("switch")
	if err != nil {
		return err
	}
	hub := &Machine{lab: m.lab, info: info}
	_, err = hub.askOnce(ctx, request{Op: "delay", Path: m.info.Port, Delay: roundTrip / 2})
	return err
}

// A slowCable stands between a machine's port and the bridge: frames go from
// the port, by a packet socket, to a tap device on the bridge, and back.
type slowCable struct {
	port    netlink.Link
	tap     *os.File
	packets *os.File
	stop    chan struct{}
}

// setDelay runs in the switch's init.
func (a *agent) setDelay(port string, oneWay time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old, ok := a.cables[port]; ok {
		delete(a.cables, port)
		if err := old.remove(); err != nil {
			return err
		}
	}
	if oneWay <= 0 {
		return nil
	}
	cable, err := newSlowCable(port, oneWay)
	if err != nil {
		return fmt.Errorf("delaying %s: %w", port, err)
	}
	a.cables[port] = cable
	return nil
}

func newSlowCable(port string, oneWay time.Duration) (*slowCable, error) {
	link, err := netlink.LinkByName(port)
	if err != nil {
		return nil, err
	}
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, err
	}
	name := "d" + port
	cable := &slowCable{port: link, stop: make(chan struct{})}
	if cable.tap, err = openTap(name); err != nil {
		return nil, err
	}
	if cable.packets, err = packetSocket(link.Attrs().Index); err != nil {
		cable.tap.Close()
		return nil, err
	}
	tap, err := netlink.LinkByName(name)
	if err == nil {
		err = errors.Join(netlink.LinkSetNoMaster(link), netlink.LinkSetMaster(tap, master), netlink.LinkSetUp(tap))
	}
	if err != nil {
		cable.tap.Close()
		cable.packets.Close()
		return nil, err
	}
	go cable.carry(cable.packets, cable.tap, oneWay)
	go cable.carry(cable.tap, cable.packets, oneWay)
	return cable, nil
}

// openTap makes a tap device.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w; load the kernel module tun", err)
	}
	ifreq, err := unix.NewIfreq(name)
	if err == nil {
		// With a virtio header on both ends, checksums and segments that
		// the sender left to the hardware stay right.
		ifreq.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifreq)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// Only now: a descriptor that is no device yet cannot be polled.
	return os.NewFile(uintptr(fd), name), nil
}

// packetSocket opens a packet(7) socket that sees what the port receives and
// not what is sent by it.
func packetSocket(index int) (*os.File, error) {
	const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everything)
	if err != nil {
		return nil, err
	}
	const vnetHeader, ignoreOutgoing = 15, 23 // PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, vnetHeader, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, ignoreOutgoing, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: index}))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packets"), nil
}

type lateFrame struct {
	due  time.Time
	data []byte
}

// carry moves frames, each after its delay, until the cable is removed.
func (c *slowCable) carry(from, to *os.File, oneWay time.Duration) {
	frames := make(chan lateFrame, 10000)
	go func() {
		for {
			select {
			case <-c.stop:
				return
			case frame := <-frames:
				time.Sleep(time.Until(frame.due))
				to.Write(frame.data)
			}
		}
	}()
	buffer := make([]byte, 70000)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case frames <- lateFrame{time.Now().Add(oneWay), append([]byte(nil), buffer[:n]...)}:
		default: // a full queue loses frames, as queues do
		}
	}
}

// remove puts the port back on the bridge. The tap goes with its descriptor.
func (c *slowCable) remove() error {
	close(c.stop)
	c.tap.Close()
	c.packets.Close()
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	return netlink.LinkSetMaster(c.port, master)
}
