// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// BeatInterval is how often the worker says that it lives, and Silence how long
// the monitor waits for it.
const (
	BeatInterval = time.Second
	Silence      = 3 * time.Second
)

// Client is the worker's side: it asks and waits for answers, says that it
// lives, and hears what the monitor wants.
type Client struct {
	conn    *Conn
	welcome Welcome

	mu      sync.Mutex
	last    uint32
	waiting map[uint32]chan *Answer
}

// Handlers are what the worker does when the monitor wants something. They are
// called one after the other and return soon.
type Handlers struct {
	Reload   func()
	Stop     func()
	ServeWeb func(listener *os.File) // who gets it closes it
	LeaveWeb func()
}

// NewClient waits for the monitor's welcome.
func NewClient(conn *Conn) (*Client, error) {
	_, m, _, err := conn.Receive()
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "hear the monitor's welcome", err)
	}
	w, ok := m.(*Welcome)
	if !ok {
		return nil, fault.Errorf(fault.Malformed, "the monitor began with %s", m.Verb())
	}
	return &Client{conn: conn, welcome: *w, waiting: map[uint32]chan *Answer{}}, nil
}

// Welcome returns what the monitor said first.
func (c *Client) Welcome() Welcome { return c.welcome }

// Run hears the monitor and sends heartbeats until ctx ends or the monitor is
// gone; then every call that waits fails. It returns nil when ctx ended.
func (c *Client) Run(ctx context.Context, h Handlers) error {
	heard := make(chan error, 1)
	go func() { heard <- c.hear(h) }()
	tick := time.NewTicker(BeatInterval)
	defer tick.Stop()
	defer c.abandon()
	for {
		if err := c.conn.Send(0, &Heartbeat{}, nil); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-heard:
			return err
		case <-tick.C:
		}
	}
}

func (c *Client) hear(h Handlers) error {
	for {
		number, m, file, err := c.conn.Receive()
		if err != nil {
			return fault.Wrap(fault.Unreachable, "hear the monitor", err)
		}
		switch m := m.(type) {
		case *Reload:
			h.Reload()
		case *Stop:
			h.Stop()
		case *ServeWeb:
			h.ServeWeb(file)
		case *LeaveWeb:
			h.LeaveWeb()
		case *Answer:
			c.mu.Lock()
			if answer := c.waiting[number]; answer != nil {
				answer <- m // never blocks: room for one, and only one is sent
				delete(c.waiting, number)
			}
			c.mu.Unlock()
		default:
			if file != nil {
				_ = file.Close()
			}
			return fault.Errorf(fault.Malformed, "the monitor sent %s", m.Verb())
		}
	}
}

// abandon fails the calls that still wait.
func (c *Client) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, answer := range c.waiting {
		answer <- (&Answer{}).Of(fault.New(fault.Unreachable, "the monitor is gone"))
		delete(c.waiting, number)
	}
	c.waiting = nil
}

// Ready says that the doors are open.
func (c *Client) Ready() error { return c.conn.Send(0, &Ready{}, nil) }

// Call asks the monitor for something and returns how it went: the monitor's
// own error, or fault.Unreachable where no answer came before ctx ended.
func (c *Client) Call(ctx context.Context, m Message, file *os.File) error {
	answer := make(chan *Answer, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return fault.New(fault.Unreachable, "the monitor is gone")
	}
	c.last++
	number := c.last
	c.waiting[number] = answer
	c.mu.Unlock()
	if err := c.conn.Send(number, m, file); err != nil {
		c.forget(number)
		return err
	}
	select {
	case a := <-answer:
		return a.Err()
	case <-ctx.Done():
		c.forget(number)
		return fault.Wrap(fault.Unreachable, "wait for the monitor", ctx.Err())
	}
}

func (c *Client) forget(number uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, number)
}
