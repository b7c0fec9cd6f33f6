"""Clusters whose ACLs deny by default, and the rules that the documents give the agents."""

import json
import pathlib
import re

from .conftest import healthy
from .waiting import until

TOKEN = "22222222-3333-4444-5555-666666666666"
MASTER = "33333333-4444-5555-6666-777777777777"
OPERATIONS = pathlib.Path(__file__).parents[2] / "docs/operations.md"


def rules(heading):
    """The rules below a heading of the document."""
    text = OPERATIONS.read_text()
    block = re.search(r"needs\n\n((?:    .*\n)+)", text[text.index(heading) :]).group(1)
    return "\n".join(line.strip() for line in block.splitlines())


def denying_group(sandbox, count, options=""):
    """Servers whose agents' token, TOKEN, may do nothing yet."""
    sandbox.aws.client("secretsmanager").create_secret(Name="agent", SecretString=TOKEN)
    acl = "--acl-default-policy deny --agent-token secretsmanager:agent --merge /etc/master.json"
    members = sandbox.launch_group(count, boot=False)
    for member in members:
        member.write("/etc/master.json", json.dumps({"acl": {"tokens": {"master": MASTER}}}), mode=0o600)
        member.boot(f"#!/bin/sh\nexec consul-bootstrap --expect {count} {acl} {options}\n")
    healthy(*members)
    return members


def api(member, method, path, body):
    result = member.run(
        "curl", "-sS", "-f", "-X", method, "-H", f"X-Consul-Token: {MASTER}", "-d", json.dumps(body),
        f"http://127.0.0.1:8500{path}",
    )  # fmt: skip
    return result.returncode == 0


def grant(member, rules):
    """Gives the agents' token these rules."""
    until(lambda: api(member, "PUT", "/v1/acl/policy", {"Name": "agents", "Rules": rules}), every=1)
    token = {"SecretID": TOKEN, "Policies": [{"Name": "agents"}]}
    until(lambda: api(member, "PUT", "/v1/acl/token", token), every=1)


def change(member, rules):
    """Gives it others."""
    policies = member.consul(f"/v1/acl/policies?token={MASTER}")
    (id,) = [p["ID"] for p in policies if p["Name"] == "agents"]
    assert api(member, "PUT", f"/v1/acl/policy/{id}", {"Name": "agents", "Rules": rules})
