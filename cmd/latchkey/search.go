// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) searchCommand() *cobra.Command {
	req := &latchkeyv1.SearchIdentitiesRequest{}
	cmd := &cobra.Command{
		Use: "search PREFIX", Short: "Find people and groups whose names begin with a text", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Prefix = args[0]
			return a.withAPI(cmd.Context(), func(ctx context.Context, c *client.Conn) error {
				resp, err := c.Identity.SearchIdentities(ctx, req)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(jsonOf(resp))
				}
				if len(resp.GetIdentities()) == 0 {
					fmt.Fprintln(a.out, "Nobody's name begins like that.")
					return nil
				}
				t := a.table(identityHeading...)
				for _, i := range resp.GetIdentities() {
					if err := t.row(identityRow(i.GetUser(), i.GetGroup())...); err != nil {
						return err
					}
				}
				if err := t.flush(); err != nil {
					return err
				}
				if resp.GetTruncated() {
					fmt.Fprintln(a.out, "there are more: type more of the name, or use --limit")
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&req.Users, "users", false, "only people")
	cmd.Flags().BoolVar(&req.Groups, "groups", false, "only groups")
	cmd.Flags().Int32Var(&req.PageSize, "limit", 20, "how many, at most 100")
	return cmd
}

func (a *app) resolveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resolve KEY...", Short: "Say who many names, SIDs and object ids are, people and groups alike",
		Long: "Say who many names, SIDs and object ids are, people and groups alike. A number is\ntaken for a uid; write gid:NUMBER for a group.\nExit status 3: not all of them are somebody.",
		Args: cobra.RangeArgs(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAPI(cmd.Context(), func(ctx context.Context, c *client.Conn) error { return a.resolve(ctx, c, args) })
		},
	}
}

func (a *app) resolve(ctx context.Context, c *client.Conn, texts []string) error {
	req := &latchkeyv1.ResolveIdentitiesRequest{}
	for _, text := range texts {
		kind := identity.KindUser
		if len(text) > 4 && text[:4] == "gid:" {
			kind, text = identity.KindGroup, text[4:]
		}
		keys, err := keysOf(text, kind)
		if err != nil {
			return err
		}
		req.Keys = append(req.Keys, keys[0])
	}
	resp, err := c.Identity.ResolveIdentities(ctx, req)
	if err != nil {
		return err
	}
	if len(resp.GetIdentities()) != len(texts) {
		return fault.New(fault.Internal, "the daemon answered for another number of keys")
	}
	var failures []error
	t := a.table("ASKED", "NAME", "KIND", "ID", "DISPLAY NAME", "SID")
	for i, r := range resp.GetIdentities() {
		if e := r.GetError(); e != nil {
			kind := fault.NotFound
			if e.GetReason() != "NOT_FOUND" {
				kind = fault.Unreachable
			}
			failures = append(failures, fault.Errorf(kind, "%q: %s", texts[i], e.GetMessage()))
			continue
		}
		if !a.json {
			if err := t.row(append([]string{texts[i]}, identityRow(r.GetUser(), r.GetGroup())...)...); err != nil {
				return err
			}
		}
	}
	if a.json {
		err = a.printJSON(jsonOf(resp))
	} else {
		err = t.flush()
	}
	if err != nil {
		return err
	}
	return errors.Join(failures...)
}
