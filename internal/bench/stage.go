// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// A stage is a domain and a NAS that has joined it.
type stage struct {
	lab    *lab.Lab
	domain *lab.Domain
	people int
	nas    *nas.NAS
	api    *grpc.ClientConn
	admin  *grpc.ClientConn

	beside map[bool][]*contestant // by whether the peers enumerate
}

func newStage(ctx context.Context, p lab.Population) (*stage, error) {
	l, err := lab.Up(ctx, lab.Options{Progress: lab.PrintProgress(os.Stderr)})
	if err != nil {
		return nil, err
	}
	s := &stage{lab: l, people: p.Users}
	if err := s.fill(ctx, p); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) fill(ctx context.Context, p lab.Population) (err error) {
	if s.domain, err = s.lab.Domain(ctx, lab.DomainOptions{Population: p}); err != nil {
		return err
	}
	// The peer's tools (kinit, ldapsearch) want the domain's DNS.
	box, err := s.lab.Box(ctx, "nas", lab.BoxOptions{UseDNS: true})
	if err != nil {
		return err
	}
	if s.nas, err = nas.Install(ctx, box); err != nil {
		return err
	}
	if err := s.nas.Start(ctx, false); err != nil {
		return err
	}
	if err := s.nas.MustJoin(ctx, s.domain); err != nil {
		return err
	}
	s.api, s.admin = s.dial("api.sock"), s.dial("admin.sock")
	return nil
}

// dial reaches a socket inside the box from this process.
func (s *stage) dial(socket string) *grpc.ClientConn {
	c, err := grpc.NewClient(fmt.Sprintf("unix:///proc/%d/root/run/latchkey/%s", s.nas.PID(), socket),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err) // the target is ours: it parses
	}
	return c
}

func (s *stage) identity() latchkeyv1.IdentityServiceClient {
	return latchkeyv1.NewIdentityServiceClient(s.api)
}

// sync runs one pass and returns what it did.
func (s *stage) sync(ctx context.Context, full bool) (*latchkeyv1.SyncResponse_Result, error) {
	stream, err := latchkeyv1.NewAdminServiceClient(s.admin).Sync(ctx, &latchkeyv1.SyncRequest{Full: full})
	if err != nil {
		return nil, err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if m.GetResult() != nil {
			return m.GetResult(), nil
		}
	}
}

func (s *stage) close() {
	for _, c := range []*grpc.ClientConn{s.api, s.admin} {
		if c != nil {
			_ = c.Close()
		}
	}
	_ = s.lab.Close()
}
