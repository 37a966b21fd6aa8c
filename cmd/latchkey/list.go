// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// listing are the flags of the lists.
type listing struct {
	filter      string
	unpublished bool
}

func (l *listing) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.filter, "filter", "", "only rows with this text in a name, display name, mail address or UPN")
	cmd.Flags().BoolVar(&l.unpublished, "unpublished", false, "only rows without a bare name, with the reason")
}

func (l *listing) publication() latchkeyv1.Publication {
	if l.unpublished {
		return latchkeyv1.Publication_PUBLICATION_UNPUBLISHED
	}
	return latchkeyv1.Publication_PUBLICATION_UNSPECIFIED
}

// unpublishedHeading is that of the lists of rows without a bare name.
var unpublishedHeading = []string{"SHOWN AS", "ACCOUNT", "WHY", "DISPLAY NAME", "SID"}

// page is one answer to a call that lists.
type page interface{ GetNextPageToken() string }

// lister calls item for everything there is, in order.
type lister[T proto.Message] func(item func(T) error) error

// paged lists what ask gets, page by page, each within lookupTimeout.
func paged[T proto.Message, P page](ctx context.Context, ask func(ctx context.Context, token string) (P, error), items func(P) []T) lister[T] {
	return func(item func(T) error) error {
		for token := ""; ; {
			ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
			p, err := ask(ctx, token)
			cancel()
			if err != nil {
				return err
			}
			for _, m := range items(p) {
				if err := item(m); err != nil {
					return err
				}
			}
			if token = p.GetNextPageToken(); token == "" {
				return nil
			}
		}
	}
}

// printAll prints a list: as a table for people, under a name as JSON.
func printAll[T proto.Message](a *app, name string, all lister[T], heading []string, row func(T) []string) error {
	if a.json {
		return a.printList(name, func(item func(proto.Message) error) error {
			return all(func(m T) error { return item(m) })
		})
	}
	t, none := a.table(heading...), true
	if err := all(func(m T) error { none = false; return t.row(row(m)...) }); err != nil {
		return err
	}
	if none {
		fmt.Fprintf(a.out, "There are no such %s.\n", name)
		return nil
	}
	return t.flush()
}
