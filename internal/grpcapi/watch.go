// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (s *identityService) WatchIdentities(req *latchkeyv1.WatchIdentitiesRequest, ss grpc.ServerStreamingServer[latchkeyv1.WatchIdentitiesResponse]) error {
	at, err := parsePosition(req.GetResumeToken())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	w, err := s.directory.Watch(ctx, resolve.Watch{
		Users: req.GetUsers(), Groups: req.GetGroups(), Resume: at, Heartbeat: s.limits.Heartbeat})
	if err != nil {
		return tooOld(err)
	}
	defer w.Close()
	return tooOld(s.pump(ctx, w, ss))
}

// errStalled ends a watch that nobody reads. What was sent last is lost with
// the stream; the reader goes on from the last token that it has.
var errStalled = fault.WithRemedy(fault.New(fault.Exhausted, "the watch was not read for too long"),
	"resume with the last token")

// pump sends events until one of them fails. Send waits until the reader has
// room, so no more than one event and gRPC's own 64 KiB wait for a slow reader;
// one that takes nothing for the stall timeout loses the stream.
func (s *identityService) pump(ctx context.Context, w *resolve.Watcher, ss grpc.ServerStreamingServer[latchkeyv1.WatchIdentitiesResponse]) error {
	var sending atomic.Int64 // since when a Send waits, in nanoseconds; 0: none does
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		done <- func() error {
			for {
				e, err := w.Next(ctx)
				if err != nil {
					return err
				}
				m := toEvent(e)
				sending.Store(time.Now().UnixNano())
				err = ss.Send(m)
				sending.Store(0)
				if err != nil {
					return fault.Wrap(fault.Unreachable, "send to the watcher", err)
				}
			}
		}()
	}()
	look := time.NewTicker(s.limits.StallTimeout / 4)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if since := sending.Load(); since != 0 && time.Since(time.Unix(0, since)) > s.limits.StallTimeout {
				// The goroutine ends when this returns: that ends the stream, and
				// with it the Send that waits.
				return errStalled
			}
		}
	}
}

func tooOld(err error) error {
	if errors.Is(err, resolve.ErrTooOld) {
		return rpcfault.New(codes.OutOfRange, rpcfault.ReasonTooOld, "the resume token is too old",
			"start the watch afresh, without a token", "").Err()
	}
	return err
}

func toEvent(e resolve.Event) *latchkeyv1.WatchIdentitiesResponse {
	m := &latchkeyv1.WatchIdentitiesResponse{
		Event:             events[e.Kind],
		Identity:          toIdentity(e.Entry),
		ResumeToken:       positionToken(e.At),
		MembershipChanged: e.MembershipChanged,
	}
	return m
}

var events = map[resolve.EventKind]latchkeyv1.WatchIdentitiesResponse_Event{
	resolve.Upsert:    latchkeyv1.WatchIdentitiesResponse_EVENT_UPSERT,
	resolve.Delete:    latchkeyv1.WatchIdentitiesResponse_EVENT_DELETE,
	resolve.Synced:    latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED,
	resolve.Heartbeat: latchkeyv1.WatchIdentitiesResponse_EVENT_HEARTBEAT,
}
