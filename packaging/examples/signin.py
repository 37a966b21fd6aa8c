#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# May they in? Tries a name and a password for the service "photos":
#
#     protoc -I /usr/share/latchkey/proto --python_out=. --grpc_python_out=. \
#         --plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin \
#         /usr/share/latchkey/proto/latchkey/v1/*.proto
#     python3 signin.py alice
#
# whois.py says which packages that takes. The account that this runs as has to be
# in [api] authenticators of latchkey.toml, or in the group latchkey-login; and the
# service has to be open: latchkey access allow photos '*'.

import getpass
import sys

import grpc

from latchkey.v1 import login_pb2, login_pb2_grpc

# What to tell the person. Of a wrong password and of a name that does not exist
# the daemon says the same, and so does this.
TEXTS = {
    grpc.StatusCode.UNAUTHENTICATED: "The name or the password is wrong.",
    grpc.StatusCode.PERMISSION_DENIED: "You may not use this app.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Too many wrong passwords. Wait a minute.",
    grpc.StatusCode.UNAVAILABLE: "Nobody can say at this time. Try again later.",
}
STATES = {
    "DISABLED": "Your account is disabled.",
    "EXPIRED": "Your account or your password has expired.",
    "LOCKED": "Your account is locked for some time.",
    "MUST_CHANGE_PASSWORD": "Change your password first.",
}


def sign_in(channel, name, password, remote_host):
    login = login_pb2_grpc.LoginServiceStub(channel)
    # Once: every call is a password tried. It may take as long as a domain
    # controller does.
    answer = login.Authenticate(login_pb2.AuthenticateRequest(
        name=name, password=password.encode(), service="photos", remote_host=remote_host), timeout=15)
    return answer.session


def main(name):
    with grpc.insecure_channel("unix:///run/latchkey/api.sock") as channel:
        try:
            session = sign_in(channel, name, getpass.getpass(), remote_host="192.0.2.1")
        except grpc.RpcError as e:
            reason = dict(e.trailing_metadata() or ()).get("latchkey-reason", "")
            print(STATES.get(reason) or TEXTS.get(e.code()) or e.details(), file=sys.stderr)
            return 1
    # Remember the object id, or the SID where there is none: names change.
    print(f"{session.user.username} is in: {session.user.oid or session.user.sid}, {len(session.gids)} groups")
    for warning in session.warnings:
        print(warning)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: signin.py NAME")
    sys.exit(main(sys.argv[1]))
