# SPDX-License-Identifier: Apache-2.0
"""One client of a share, in one process: python3 - HOST MODE COUNT NAME:PASSWORD...

Prints one line of milliseconds for each NAME: connect, session setup and tree
connect, COUNT times. MODE is ntlm, or ticket with tickets in /tmp/cc_NAME.
MODE list prints one line: listing a folder of the share "many", and asking for
the owner of each FILE that is named instead of people (after one NAME:PASSWORD).
"""
import os
import sys
import time

from samba import credentials
from samba.dcerpc import security
from samba.samba3 import libsmb_samba_internal as libsmb
from samba.samba3 import param

host, mode, count, people = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
lp = param.get_context()
lp.load("/tmp/client.conf")


def connect(share, name, password):
    who = credentials.Credentials()
    if mode == "ticket":
        os.environ["KRB5CCNAME"] = "FILE:/tmp/cc_" + name
    who.guess(lp)
    who.set_username(name)
    if mode == "ticket":
        who.set_kerberos_state(credentials.MUST_USE_KERBEROS)
    else:
        who.set_domain(lp.get("workgroup"))
        who.set_password(password)
        who.set_kerberos_state(credentials.DONT_USE_KERBEROS)
    began = time.monotonic()
    conn = libsmb.Conn(host, share, lp=lp, creds=who)
    return conn, (time.monotonic() - began) * 1e3


if mode == "list":
    conn, _ = connect("many", *people[0].split(":", 1))
    began = time.monotonic()
    found = conn.list("", mask="*")
    listed = (time.monotonic() - began) * 1e3
    files = [f["name"] for f in found if f["name"].startswith("f")]
    began = time.monotonic()
    owners = {str(conn.get_acl(f, security.SECINFO_OWNER).owner_sid) for f in sorted(files)[:500]}
    print("%.3f %.3f %d %d" % (listed, (time.monotonic() - began) * 1e3, len(files), len(owners)))
else:
    for person in people:
        took = []
        for _ in range(count):
            conn, ms = connect("data", *person.split(":", 1))
            took.append(ms)
            del conn
        print(" ".join("%.3f" % ms for ms in took))
