# SPDX-License-Identifier: Apache-2.0
"""Changes the domain's database on its own DC: one JSON request per line on
stdin, one JSON answer per line on stdout. Values are base64.

  {"op": "add", "dn": DN, "set": {ATTR: [VALUE...]}}
  {"op": "modify", "dn": DN, "set": {..}, "add": {..}, "del": {..}}     an empty list in "set" removes the attribute
  {"op": "delete", "dn": DN, "tree": BOOL}
  {"op": "rename", "dn": DN, "to": DN}
  {"op": "search", "base": DN, "scope": "base"|"one"|"sub", "filter": TEXT, "attrs": [..]}
  {"op": "batch", "all": [REQUEST...], "bulk": BOOL}                    all in one transaction, or none
  {"op": "reopen"}                                                      see a changed schema

"controls" may be added to any of them. The answer is {"ok": true, "found": [..]}
or {"error": TEXT, "code": LDAP RESULT CODE}.
"""
import base64
import json
import sys

import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

lp = LoadParm()
lp.load("/etc/samba/smb.conf")
lp.set("dsdb:schema update allowed", "true")


def connect(options=[]):
    return SamDB(url="/var/lib/samba/private/sam.ldb", session_info=system_session(), lp=lp, options=options)


def values(raw):
    return [base64.b64decode(v) for v in raw]


def message(request):
    msg = ldb.Message()
    msg.dn = ldb.Dn(db, request["dn"])
    for field, flag in (("set", ldb.FLAG_MOD_REPLACE), ("del", ldb.FLAG_MOD_DELETE), ("add", ldb.FLAG_MOD_ADD)):
        for attr, raw in (request.get(field) or {}).items():
            msg.add(ldb.MessageElement(values(raw), flag, attr))
    return msg


SCOPES = {"base": ldb.SCOPE_BASE, "one": ldb.SCOPE_ONELEVEL, "sub": ldb.SCOPE_SUBTREE}


def apply(request):
    global db
    op = request["op"]
    controls = request.get("controls") or []
    if op == "add":
        msg = ldb.Message()
        msg.dn = ldb.Dn(db, request["dn"])
        for attr, raw in request["set"].items():
            msg[attr] = ldb.MessageElement(values(raw), 0, attr)
        db.add(msg, controls=controls)
    elif op == "modify":
        db.modify(message(request), controls=controls)
    elif op == "delete":
        if request.get("tree"):
            controls = controls + ["tree_delete:1"]
        db.delete(request["dn"], controls)
    elif op == "rename":
        db.rename(request["dn"], request["to"], controls=controls)
    elif op == "search":
        found = db.search(base=request["base"], scope=SCOPES[request["scope"]], expression=request.get("filter") or None,
                          attrs=request.get("attrs") or None, controls=controls)
        return [{"dn": str(m.dn), "attrs": {a: [base64.b64encode(bytes(v)).decode() for v in m[a]] for a in m if a != "dn"}}
                for m in found]
    elif op == "batch":
        # batch_mode keeps index pages in memory for the length of a
        # transaction: thousands of additions take a third of the time. It
        # does not forgive a refused operation, as Samba's own code expects.
        if request.get("bulk"):
            db = connect(["batch_mode:1"])
        db.transaction_start()
        try:
            for one in request["all"]:
                apply(one)
        except BaseException:
            db.transaction_cancel()
            raise
        else:
            db.transaction_commit()
        finally:
            if request.get("bulk"):
                db = connect()
    elif op == "reopen":
        pass
    else:
        raise ValueError("unknown op %r" % op)
    return None


db = connect()
print(json.dumps({"ok": True}), flush=True)
for line in sys.stdin:
    try:
        request = json.loads(line)
        if request["op"] == "reopen":
            db = connect()
        answer = {"ok": True, "found": apply(request)}
    except ldb.LdbError as e:
        answer = {"error": e.args[1], "code": e.args[0]}
    except Exception as e:
        answer = {"error": "%s: %s" % (type(e).__name__, e), "code": -1}
    print(json.dumps(answer), flush=True)
