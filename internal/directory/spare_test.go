// SPDX-License-Identifier: Apache-2.0

package directory

import "testing"

// Another connection goes to the other DC, is kept, and takes the place of the
// first when that breaks.
func TestAnotherConnectionTakesOver(t *testing.T) {
	net, dcs := newNetwork(t, 2)
	l := net.locator(t, dcs[0].addr.String(), dcs[1].addr.String())
	if _, err := l.Discover(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	l.Good(dcs[0].addr)
	c := net.client(t, l)
	first, err := c.Conn(ctxFor(t))
	if err != nil || first.DC().Host != dcs[0].host {
		t.Fatalf("%+v, %v", first, err)
	}
	other, err := c.Another(ctxFor(t), first)
	if err != nil || other.DC().Host != dcs[1].host {
		t.Fatalf("another is %+v, %v", other, err)
	}
	if again, err := c.Another(ctxFor(t), first); err != nil || again != other {
		t.Errorf("another one each time: %v", err)
	}
	if now, err := c.Conn(ctxFor(t)); err != nil || now != first {
		t.Errorf("the first is not in use any more: %v", err)
	}
	if !c.Doubted(first) || c.Doubted(other) {
		t.Error("whoever asks for another one doubts the first, and Kerberos is to know")
	}
	l.Good(dcs[0].addr)
	if c.Doubted(first) {
		t.Error("doubted although it answers")
	}
	_ = first.Close()
	if now, err := c.Conn(ctxFor(t)); err != nil || now != other {
		t.Errorf("the other does not take over: %v", err)
	}
	if err := c.Close(); err != nil || other.Alive() {
		t.Errorf("close: %v, alive %v", err, other.Alive())
	}
}

// With one DC another connection is one more to it.
func TestAnotherConnectionToTheOnlyDC(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	c := net.client(t, net.locator(t, dcs[0].addr.String()))
	first, err := c.Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.Another(ctxFor(t), first)
	if err != nil || other == first || !first.Alive() {
		t.Fatalf("%v", err)
	}
	if err := c.Close(); err != nil || first.Alive() || other.Alive() {
		t.Errorf("close: %v, %v and %v are alive", err, first.Alive(), other.Alive())
	}
}
