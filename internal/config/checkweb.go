// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
)

// checkListen wants an address to listen on, or nothing.
func checkListen(s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("is not of the form [address]:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("has no port from 1 to 65535")
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil {
		return errors.New("has a name where an address belongs")
	}
	return nil
}

// checkNetwork wants a network as 10.0.0.0/8, or one address.
func checkNetwork(s string) error {
	_, err := ParseNetwork(s)
	return err
}

// ParseNetwork reads a network as 10.0.0.0/8, or one address.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New("is no network as 10.0.0.0/8 and no address")
	}
	if p != p.Masked() {
		return p, errors.New("has an address in it; the network is " + p.Masked().String())
	}
	return p, nil
}
