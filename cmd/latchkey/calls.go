// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
)

// lookupTimeout bounds one lookup; lists have it for each page.
const lookupTimeout = 15 * time.Second

// lookupTries is how often a lookup whose connection is lost is made.
const lookupTries = 3

// adminTimeout bounds the short questions to the daemon.
const adminTimeout = 15 * time.Second

// withAPI runs one short lookup on the socket for everybody. When the
// connection is lost in the middle of it, as when the worker is replaced, it is
// made again: fn prints only what it has all of.
func (a *app) withAPI(ctx context.Context, fn func(context.Context, *client.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	for try := 1; ; try++ {
		conn, err := a.api(ctx)
		if err != nil {
			return err
		}
		err = fn(ctx, conn)
		_ = conn.Close()
		if !client.NotReachable(err) || ctx.Err() != nil || try == lookupTries {
			return err
		}
	}
}

// withAdmin makes one short call on the socket for administrators. Nothing is
// made twice: it may change something.
func (a *app) withAdmin(ctx context.Context, limit time.Duration, fn func(context.Context, *client.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return fn(ctx, conn)
}
