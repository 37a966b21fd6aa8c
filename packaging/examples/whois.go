// SPDX-License-Identifier: Apache-2.0

// Command whois prints a person of the domain and their groups:
//
//	go mod init whois
//	go get github.com/latchkey-nas/latchkey
//	go run whois.go alice
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: whois NAME")
		os.Exit(1)
	}
	if err := whois(os.Args[1]); err != nil {
		// NOT_FOUND: there is nobody of that name. UNAVAILABLE: nobody knows yet.
		st, reason := status.Convert(err), ""
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				reason = info.GetReason()
			}
		}
		fmt.Fprintf(os.Stderr, "%s: %s (%s %s)\n", os.Args[1], st.Message(), st.Code(), reason)
		os.Exit(1)
	}
}

func whois(name string) error {
	// One connection for the life of a program: it connects anew by itself.
	conn, err := grpc.NewClient("unix:///run/latchkey/api.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	identity := latchkeyv1.NewIdentityServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	key := &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: name}} // or Key_Uid, Key_Sid, Key_Oid, …
	user, err := identity.GetUser(ctx, &latchkeyv1.GetUserRequest{Key: key})
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s, uid %d, %s\n", user.GetUsername(), user.GetDisplayName(), user.GetUid(), user.GetSid())
	for page := ""; ; { // an answer has at most 1,000 groups
		answer, err := identity.ListUserGroups(ctx, &latchkeyv1.ListUserGroupsRequest{User: key, PageToken: page})
		if err != nil {
			return err
		}
		for _, group := range answer.GetGroups() {
			name := group.GetGroupname()
			if name == "" {
				name = group.GetQualifiedName()
			}
			fmt.Printf("  %s\n", name)
		}
		if page = answer.GetNextPageToken(); page == "" {
			return nil
		}
	}
}
