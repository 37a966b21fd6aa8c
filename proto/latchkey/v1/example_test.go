// SPDX-License-Identifier: Apache-2.0

package latchkeyv1_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// A program on the machine asks who somebody is. Any user may; no call waits
// for the network.
func Example() {
	conn, err := grpc.NewClient("unix:///run/latchkey/api.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	people := latchkeyv1.NewIdentityServiceClient(conn)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	user, err := people.GetUser(ctx, &latchkeyv1.GetUserRequest{
		Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: `CONTOSO\alice`}}})
	if err != nil {
		for _, d := range status.Convert(err).Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == "NOT_FOUND" {
				fmt.Println("nobody has that name")
			}
		}
		return
	}
	fmt.Println(user.GetUsername(), user.GetUid(), user.GetOid())
}

// A program keeps a copy of everybody and follows the changes. It stores the
// last resume token together with what it made of the event.
func Example_watch() {
	conn, err := grpc.NewClient("unix:///run/latchkey/api.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	people := latchkeyv1.NewIdentityServiceClient(conn)

	token := "" // of the last run; "" begins afresh
	follow := func() error {
		watch, err := people.WatchIdentities(context.Background(), &latchkeyv1.WatchIdentitiesRequest{Users: true, ResumeToken: token})
		if err != nil {
			return err
		}
		for {
			event, err := watch.Recv()
			if err != nil {
				return err
			}
			switch event.GetEvent() {
			case latchkeyv1.WatchIdentitiesResponse_EVENT_UPSERT:
				fmt.Println("keep", event.GetIdentity().GetUser().GetName())
			case latchkeyv1.WatchIdentitiesResponse_EVENT_DELETE:
				fmt.Println("forget", event.GetIdentity().GetUser().GetName())
			}
			token = event.GetResumeToken()
		}
	}
	for {
		switch err := follow(); status.Code(err) {
		case codes.OutOfRange: // away for too long: forget the copy, begin afresh
			token = ""
		case codes.Unavailable, codes.ResourceExhausted: // restarted, or read too slowly: go on from the token
		default:
			log.Fatal(err)
		}
		time.Sleep(time.Second)
	}
}
