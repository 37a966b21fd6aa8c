// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// goesOn is what to know when a join or a leave is interrupted.
const goesOn = "the daemon goes on with what it has begun: see `latchkey status`"

func (a *app) joinCommand() *cobra.Command {
	req := &latchkeyv1.JoinRequest{}
	var people string
	var passwordStdin bool
	cmd := &cobra.Command{
		Use:   "join DOMAIN --user NAME",
		Short: "Make this machine a member of a domain",
		Long: `Make this machine a member of a managed domain. Any user of the domain may do it;
the password is asked for at the terminal, or read from the first line of standard
input with --password-stdin. It is used once and never stored.

As root it also writes /etc/krb5.conf.d/latchkey.conf, so that the other programs
of the machine find the domain's KDCs. With --check nothing is changed.`,
		Example: `  latchkey join aadds.contoso.com --user alice@contoso.com
  latchkey join aadds.contoso.com --user alice --dns 10.0.0.4 --dns 10.0.0.5
  latchkey join aadds.contoso.com --check`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Domain = args[0]
			if err := readPeople(people, req); err != nil {
				return err
			}
			if req.GetTenantId() != "" {
				if _, err := identity.ParseGUID(req.GetTenantId()); err != nil {
					return fault.WithRemedy(fault.Wrap(fault.Malformed, "read --tenant", err), "the Entra portal shows the tenant id under Overview")
				}
			}
			if req.GetUser() == "" && !req.GetCheckOnly() {
				return &fault.Error{Kind: fault.Malformed, Op: "join", Err: errors.New("--user is missing"), Remedy: "any user of the domain will do: --user NAME"}
			}
			return a.join(cmd.Context(), req, passwordStdin)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.User, "user", "", "any user of the domain: name, DOMAIN\\name or UPN")
	f.BoolVar(&passwordStdin, "password-stdin", false, "read the password from the first line of standard input")
	f.StringSliceVar(&req.DomainControllers, "dc", nil, "a domain controller by host name or address; may be repeated")
	f.StringSliceVar(&req.DnsServers, "dns", nil, "a DNS server of the domain by address; may be repeated")
	f.StringVar(&req.OrganizationalUnit, "ou", "", "where the computer account goes, as a DN (default OU=AADDC Computers)")
	f.StringVar(&req.Hostname, "hostname", "", "the machine's short name, at most 15 characters (default its host name)")
	f.StringVar(&req.TenantId, "tenant", "", "the Entra tenant's id")
	f.StringVar(&people, "people", "", "where the passwords come from: cloud-only or hybrid")
	f.BoolVar(&req.CheckOnly, "check", false, "only look whether a join could work")
	f.BoolVar(&req.NoDnsUpdate, "no-dns-update", false, "do not register the machine's name in the domain's DNS")
	_ = cmd.RegisterFlagCompletionFunc("people", cobra.FixedCompletions([]string{"cloud-only", "hybrid"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func readPeople(people string, req *latchkeyv1.JoinRequest) error {
	switch config.People(people) {
	case config.PeopleUnknown:
	case config.PeopleCloudOnly:
		req.People = latchkeyv1.People_PEOPLE_CLOUD_ONLY
	case config.PeopleHybrid:
		req.People = latchkeyv1.People_PEOPLE_HYBRID
	default:
		return fault.Errorf(fault.Malformed, "--people is %q; allowed is cloud-only or hybrid", people)
	}
	return nil
}

func (a *app) join(ctx context.Context, req *latchkeyv1.JoinRequest, passwordStdin bool) error {
	conn, err := a.admin(ctx) // before the password is asked for
	if err != nil {
		return err
	}
	defer conn.Close()
	if req.GetUser() != "" && (passwordStdin || a.people || !req.GetCheckOnly()) {
		password, err := a.readPassword(ctx, passwordStdin, "Password of "+req.GetUser()+": ")
		if err != nil {
			return err
		}
		defer password.Wipe()
		req.Password = password.Reveal()
	}
	a.goesOn = goesOn
	stream, err := conn.Admin.Join(ctx, req)
	if err != nil {
		return err
	}
	var made *latchkeyv1.JoinResponse_Membership
	err = follow(a, stream, func(r *latchkeyv1.JoinResponse) {
		if r.GetMembership() != nil {
			made = r.GetMembership()
		}
	})
	if err != nil {
		return err
	}
	if req.GetCheckOnly() {
		if a.json {
			return nil
		}
		how := "the same command without --check"
		if req.GetUser() == "" {
			how = "the same command with --user NAME in the place of --check"
		}
		_, err = fmt.Fprintf(a.out, "\nNothing stands in the way of a join: %s.\n", how)
		return err
	}
	if made == nil {
		return fault.New(fault.Internal, "the daemon ended the join without a result")
	}
	if err := a.krb5After(ctx, made); err != nil {
		return err
	}
	if a.json {
		return a.printLine(object{{"membership", jsonOf(made)}})
	}
	fmt.Fprintf(a.out, "\n%s is a member of %s as %s.\n", made.GetFqdn(), made.GetDomain(), made.GetComputerAccount())
	if a.people {
		return a.askAfter(ctx, conn, req)
	}
	return nil
}

// krb5After writes the Kerberos files that are the administrator's. The join
// has gone through already, so what fails here is told and not an end.
func (a *app) krb5After(ctx context.Context, m *latchkeyv1.JoinResponse_Membership) error {
	step := &latchkeyv1.Step{Id: "krb5-conf", Title: "Kerberos configuration of the machine", State: latchkeyv1.Step_STATE_DONE, Percent: 100}
	if !a.root {
		step.State, step.Detail = latchkeyv1.Step_STATE_WARNING, "not written: only root may"
		step.Remedy = "other programs (kinit, sshd, smbclient) may need it: leave and join again as root"
		return a.step(step)
	}
	plan, err := a.krb5.Apply(krb5conf.Settings{Realm: m.GetRealm(), Domain: m.GetDomain(), KDCs: m.GetKdcs()})
	if err != nil {
		step.State, step.Detail, step.Remedy = latchkeyv1.Step_STATE_WARNING, "not written: "+err.Error(), fault.Remedy(err)
		return a.step(step)
	}
	a.recorded(ctx, "join", paths(plan.Changes)...)
	step.Detail = planned(plan)
	return a.step(step)
}

// planned says in a line what was done to which files.
func planned(plan *krb5conf.Plan) string {
	if len(plan.Changes) == 0 {
		return "already as it should be"
	}
	return strings.Join(append([]string{strings.Join(paths(plan.Changes), ", ")}, plan.Notes...), "; ")
}

// askAfter asks the person at the terminal what the join did not need and the
// daemon would like to know. An empty answer leaves it open.
func (a *app) askAfter(ctx context.Context, conn *client.Conn, req *latchkeyv1.JoinRequest) error {
	set := func(key, value string) error {
		_, err := conn.Admin.SetConfig(ctx, &latchkeyv1.SetConfigRequest{Key: key, Value: value})
		return err
	}
	for req.GetPeople() == latchkeyv1.People_PEOPLE_UNSPECIFIED {
		answer, err := a.ask(ctx, "Were the people's accounts made in Entra ID (c, cloud-only), or are they\nsynchronised from an on-premises AD (h, hybrid)? Enter to decide later: ")
		if err != nil {
			return err
		}
		word := map[string]string{"c": "cloud-only", "cloud-only": "cloud-only", "h": "hybrid", "hybrid": "hybrid"}[strings.ToLower(answer)]
		if word != "" {
			if err := set("directory.people", word); err != nil {
				return err
			}
		}
		if word != "" || answer == "" {
			break
		}
		fmt.Fprintln(a.out, "c or h, please.")
	}
	for req.GetTenantId() == "" {
		answer, err := a.ask(ctx, "The id of the Entra tenant (xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx), Enter to\ngive it later: ")
		if err != nil || answer == "" {
			return err
		}
		if id, err := identity.ParseGUID(answer); err == nil {
			return set("directory.tenant", id.String())
		}
		fmt.Fprintln(a.out, "That is no id: 32 hexadecimal digits in five groups.")
	}
	return nil
}

func (a *app) leaveCommand() *cobra.Command {
	req := &latchkeyv1.LeaveRequest{}
	var passwordStdin, etcOnly bool
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "End the membership",
		Long: `End the membership of this machine. With --user the computer account is deleted as
that user; without, it is disabled as far as a machine may do that to itself; with
--keep-account the domain is not asked at all. Users and groups keep their numbers:
after another join everything is as it was. As root it also takes back what the
join wrote to /etc.

With --etc-only nothing but /etc is changed: the Kerberos files of the join, root's
copy of the host keys, the right to use sudo. Neither the daemon nor the domain is
asked. The package does so before it is removed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if etcOnly {
				return a.leaveEtc(ctx)
			}
			conn, err := a.admin(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			if req.GetUser() != "" {
				var password secret.Bytes
				if password, err = a.readPassword(ctx, passwordStdin, "Password of "+req.GetUser()+": "); err != nil {
					return err
				}
				defer password.Wipe()
				req.Password = password.Reveal()
			}
			a.goesOn = goesOn
			stream, err := conn.Admin.Leave(ctx, req)
			if err != nil {
				return err
			}
			if err := follow(a, stream, func(*latchkeyv1.LeaveResponse) {}); err != nil {
				return err
			}
			if err := a.krb5Undo(ctx, true); err != nil {
				return err
			}
			return a.sambaStays()
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.User, "user", "", "who may delete the computer account")
	f.BoolVar(&passwordStdin, "password-stdin", false, "read the password from the first line of standard input")
	f.BoolVar(&req.KeepAccount, "keep-account", false, "leave the computer account in the domain as it is")
	f.BoolVar(&etcOnly, "etc-only", false, "take back what is in /etc, and ask nobody")
	cmd.MarkFlagsMutuallyExclusive("etc-only", "user")
	cmd.MarkFlagsMutuallyExclusive("etc-only", "keep-account")
	return cmd
}

// krb5Undo takes back what the join wrote to /etc; record has the daemon note it.
func (a *app) krb5Undo(ctx context.Context, record bool) error {
	step := &latchkeyv1.Step{Id: "krb5-conf", Title: "Kerberos configuration of the machine", State: latchkeyv1.Step_STATE_DONE, Percent: 100}
	if !a.root {
		step.State, step.Detail = latchkeyv1.Step_STATE_WARNING, "left as it is: only root may change it"
		step.Remedy = "remove /etc/krb5.conf.d/latchkey.conf and its include line in /etc/krb5.conf as root"
		return a.step(step)
	}
	plan, err := a.krb5.Remove()
	if err != nil {
		step.State, step.Detail, step.Remedy = latchkeyv1.Step_STATE_WARNING, "left as it is: "+err.Error(), fault.Remedy(err)
		return a.step(step)
	}
	if record {
		a.recorded(ctx, "leave", paths(plan.Changes)...)
	}
	step.Detail = planned(plan)
	return a.step(step)
}
