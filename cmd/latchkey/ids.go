// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// idsVersion is the version of the form of the file.
const idsVersion = 1

// idsHead is the first line of the file, idsLine each of the others.
type idsHead struct {
	Version   int    `json:"latchkey_ids"`
	Domain    string `json:"domain"`
	DomainSID string `json:"domain_sid"`
	Method    string `json:"method"`
	Base      uint32 `json:"base"`
	Size      uint32 `json:"size"`
}

type idsLine struct {
	Kind string `json:"kind"`
	ID   uint32 `json:"id"`
	SID  string `json:"sid"`
	OID  string `json:"oid,omitempty"`
	Name string `json:"name,omitempty"`
	Gone bool   `json:"gone,omitempty"`
}

const (
	maxIdsLine = 64 << 10
	idsAtOnce  = 500
)

func (a *app) idsCommand() *cobra.Command {
	cmd := family("ids", "Give several machines the same numbers")
	cmd.Long = `Give several machines the same numbers.

Machines of one domain with the same [idmap] give everybody the same number by
arithmetic, but for those whose number was taken: after a managed domain was rebuilt,
or where one machine met two people and another only one. export writes every number
that this machine has ever given; import makes another machine give the same.`
	export := &cobra.Command{
		Use: "export FILE", Short: "Write every number that was ever given; - is standard output", Args: cobra.ExactArgs(1),
		Long: `Write every number that this machine has ever given into FILE, one JSON object a line:
of users and groups, of those who are gone (their numbers stay theirs), and of the
well-known SIDs of SMB.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.idsExport(cmd.Context(), args[0]) },
	}
	dryRun := false
	read := &cobra.Command{
		Use: "import FILE", Short: "Take the numbers of another machine over; - is standard input", Args: cobra.ExactArgs(1),
		Long: `Take the numbers over that another machine has exported: all of them in one step, or
none and the reasons. A person is found by the Entra object id, else by the SID; the
number of somebody who is not known yet is kept for them.

Files on disk keep the numbers of their owners. Where a number changes, the old one is
given to nobody else; what still has it shows up as a bare number in ls -l.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.idsImport(cmd.Context(), args[0], dryRun) },
	}
	read.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "only say what would change")
	cmd.AddCommand(export, read)
	return cmd
}

func (a *app) idsExport(ctx context.Context, file string) error {
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := conn.Machine.ExportIds(ctx, &latchkeyv1.ExportIdsRequest{})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	n := 0
	if err := receive(stream, func(r *latchkeyv1.ExportIdsResponse) error {
		if h := r.GetHeader(); h != nil {
			if err := writeLine(&text, idsHead{idsVersion, h.GetDomain(), h.GetDomainSid(), h.GetMethod(), h.GetBase(), h.GetSize()}); err != nil {
				return err
			}
		}
		for _, e := range r.GetEntries() {
			n++
			if err := writeLine(&text, idsLine{enumWord(e.Kind.Descriptor(), e.Kind.Number()), e.GetId(), e.GetSid(), e.GetOid(), e.GetName(), e.GetGone()}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if file == "-" {
		_, err := a.out.Write(text.Bytes())
		return err
	}
	if err := replaceFile(file, text.Bytes()); err != nil {
		return fault.Wrap(fault.Internal, "write "+file, err)
	}
	if a.json {
		return a.printJSON(object{{"file", file}, {"entries", n}})
	}
	fmt.Fprintf(a.out, "%s in %s\n", count(int64(n), "number", "numbers"), file)
	return nil
}

func writeLine(w *bytes.Buffer, v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	w.Write(append(b, '\n'))
	return nil
}

// replaceFile writes a file that is there whole or not at all. It names people,
// so it is for the owner only.
func replaceFile(name string, text []byte) error {
	next := name + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return os.Rename(next, name)
}

// readIds reads a file; the error names the line.
func readIds(from io.Reader) (*latchkeyv1.IdsHeader, []*latchkeyv1.IdEntry, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxIdsLine)
	var header *latchkeyv1.IdsHeader
	var entries []*latchkeyv1.IdEntry
	n := 0
	bad := func(format string, args ...any) error {
		return fault.WithRemedy(fault.Errorf(fault.Malformed, "line %d: "+format, append([]any{n}, args...)...), "give a file that `latchkey ids export` has written")
	}
	for lines.Scan() {
		n++
		text := lines.Bytes()
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if header == nil {
			var h idsHead
			if err := json.Unmarshal(text, &h); err != nil || h.Version == 0 {
				return nil, nil, bad("is not the head of such a file")
			}
			if h.Version != idsVersion {
				return nil, nil, bad("the form of the file has version %d; this program reads %d", h.Version, idsVersion)
			}
			header = &latchkeyv1.IdsHeader{Domain: h.Domain, DomainSid: h.DomainSID, Method: h.Method, Base: h.Base, Size: h.Size}
			continue
		}
		var l idsLine
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, nil, bad("is no JSON object of an entry")
		}
		e := &latchkeyv1.IdEntry{Id: l.ID, Sid: l.SID, Oid: l.OID, Name: l.Name, Gone: l.Gone}
		switch l.Kind {
		case "user":
			e.Kind = latchkeyv1.IdEntry_KIND_USER
		case "group":
			e.Kind = latchkeyv1.IdEntry_KIND_GROUP
		default:
			return nil, nil, bad("is neither of a user nor of a group")
		}
		entries = append(entries, e)
	}
	if err := lines.Err(); err != nil {
		n++
		return nil, nil, bad("%v", err)
	}
	if header == nil {
		return nil, nil, bad("the file is empty")
	}
	return header, entries, nil
}

func (a *app) idsImport(ctx context.Context, file string, dryRun bool) error {
	from := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fault.Wrap(fault.Malformed, "read the numbers", err)
		}
		defer f.Close()
		from = f
	}
	header, entries, err := readIds(from)
	if err != nil {
		return err
	}
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := conn.Machine.ImportIds(ctx)
	if err != nil {
		return err
	}
	req := &latchkeyv1.ImportIdsRequest{Header: header, DryRun: dryRun}
	for first := true; first || len(entries) > 0; first = false {
		n := min(len(entries), idsAtOnce)
		req.Entries, entries = entries[:n], entries[n:]
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
			return err
		} else if err != nil {
			break // CloseAndRecv says why
		}
		req = &latchkeyv1.ImportIdsRequest{}
	}
	done, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(jsonOf(done))
	} else {
		err = a.printImport(done, dryRun)
	}
	if err == nil && done.GetConflictCount() > 0 {
		return quiet(exitRefused)
	}
	return err
}

func (a *app) printImport(done *latchkeyv1.ImportIdsResponse, dryRun bool) error {
	if n := done.GetConflictCount(); n > 0 {
		t := a.table("NUMBER", "KIND", "NAME", "SID", "WHY NOT")
		for _, c := range done.GetConflicts() {
			e := c.GetEntry()
			if err := t.row(number(e.GetId()), dash(word(e.GetKind())), dash(e.GetName()), dash(e.GetSid()), c.GetReason()); err != nil {
				return err
			}
		}
		if err := t.flush(); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "Nothing was changed: %s.\n", count(n, "entry cannot be taken over", "entries cannot be taken over"))
		return nil
	}
	if len(done.GetChanges()) > 0 {
		t := a.table("OLD", "NEW", "KIND", "NAME")
		for _, c := range done.GetChanges() {
			e := c.GetEntry()
			if err := t.row(number(c.GetOldId()), number(e.GetId()), word(e.GetKind()), dash(e.GetName())); err != nil {
				return err
			}
		}
		if err := t.flush(); err != nil {
			return err
		}
		if more := done.GetChangeCount() - int64(len(done.GetChanges())); more > 0 {
			fmt.Fprintf(a.out, "and %d more\n", more)
		}
	}
	verb := "changed"
	if dryRun {
		verb = "would change"
	}
	fmt.Fprintf(a.out, "%d as they were, %d %s, %d kept for those who are not known yet\n", done.GetSame(), done.GetChangeCount(), verb, done.GetKept())
	if done.GetChangeCount() > 0 {
		fmt.Fprintln(a.out, "Files keep the old numbers: look for them with find -uid or find -gid, and chown them.")
	}
	return nil
}
