# SPDX-License-Identifier: Apache-2.0
"""Lets two ntlm_auth helpers sign in to each other.

talk.py USER DOMAIN PASSWORD SERVER-PROTOCOL CLIENT-PROTOCOL
"""
import subprocess
import sys

user, domain, password, server_protocol, client_protocol = sys.argv[1:]


def start(*args):
    return subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def say(helper, words):
    helper.stdin.write(words + "\n")
    helper.stdin.flush()
    return helper.stdout.readline().strip()


server = start("ntlm_auth", "--helper-protocol=" + server_protocol)
client = start("ntlm_auth", "--helper-protocol=" + client_protocol,
               "--username=" + user, "--domain=" + domain, "--password=" + password)
if client_protocol == "gss-spnego-client":
    token = say(client, "TT " + say(server, "YR").split()[1]).split()[1]
    heard = say(server, "KK " + token)
else:
    heard = say(server, "YR " + say(client, "YR").split()[1])
while heard.startswith("TT"):
    heard = say(server, "KK " + say(client, "TT " + heard.split()[1]).split()[1])
print(heard)
