#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# Who is that? Prints a person of the domain and their groups:
#
#     apt install python3-grpcio protobuf-compiler-grpc libprotobuf-dev
#     protoc -I /usr/share/latchkey/proto --python_out=. --grpc_python_out=. \
#         --plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin \
#         /usr/share/latchkey/proto/latchkey/v1/identity.proto
#     python3 whois.py alice
#
# The generated package, ./latchkey, has to be beside this file.

import sys

import grpc

from latchkey.v1 import identity_pb2, identity_pb2_grpc


def main(name):
    # One channel for the life of a program: it connects anew by itself.
    with grpc.insecure_channel("unix:///run/latchkey/api.sock") as channel:
        identity = identity_pb2_grpc.IdentityServiceStub(channel)
        key = identity_pb2.Key(name=name)  # or uid=, gid=, sid=, oid=, resource=
        try:
            user = identity.GetUser(identity_pb2.GetUserRequest(key=key), timeout=5)
            print(f"{user.username}: {user.display_name}, uid {user.uid}, {user.sid}")
            page = ""
            while True:  # an answer has at most 1,000 groups
                answer = identity.ListUserGroups(
                    identity_pb2.ListUserGroupsRequest(user=key, page_token=page), timeout=5)
                for group in answer.groups:
                    print(f"  {group.groupname or group.qualified_name}")
                page = answer.next_page_token
                if not page:
                    return 0
        except grpc.RpcError as e:
            # NOT_FOUND: there is nobody of that name. UNAVAILABLE: nobody knows yet.
            reason = dict(e.trailing_metadata() or ()).get("latchkey-reason", "")
            print(f"{name}: {e.details()} ({e.code().name} {reason})", file=sys.stderr)
            return 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: whois.py NAME")
    sys.exit(main(sys.argv[1]))
