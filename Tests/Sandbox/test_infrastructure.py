"""userdata/cloudformation and userdata/terraform: linted, held against what the program needs, and the stack brought up for real."""

import json
import os
import re
import shlex
import subprocess

import pytest

from .aws import ACCOUNT, REGION, lifecycle_actions
from .conftest import healthy, servers, until, wan
from .sandbox import BINARY, BUILD, ROOT, ZONES

TEMPLATE = os.path.join(ROOT, "userdata", "cloudformation", "consul.yaml")
PARAMETERS = {
    "ImageId": "ami-12345678", "Zones": ",".join(ZONES), "PrivateCidrs": "10.0.1.0/24,10.0.2.0/24", "PublicCidrs": "10.0.101.0/24,10.0.102.0/24",
}  # fmt: skip
# FACTS: who must reach whom. (target, source, protocol, port)
PORTS = {("servers", "servers", "tcp", 8300), ("servers", "servers", "tcp", 8301), ("servers", "servers", "udp", 8301), ("servers", "servers", "tcp", 8500)}
PORTS |= {("servers", "clients", "tcp", 8300), ("servers", "load balancer", "tcp", 8500), ("load balancer", "10.0.0.0/16", "tcp", 8500)}
PORTS |= {(a, b, p, 8301) for a, b in (("servers", "clients"), ("clients", "servers"), ("clients", "clients")) for p in ("tcp", "udp")}
WAN = {("servers", "servers", "tcp", 8302), ("servers", "servers", "udp", 8302)}


def policy(command):
    """What the program says that a run with this user-data needs."""
    options = command[command.index("consul-bootstrap") + 1 :]
    result = subprocess.run([BINARY, "iam-policy", "--account", ACCOUNT, *options], capture_output=True, text=True, env={"AWS_REGION": REGION})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def normalized(document):
    return sorted((s["Sid"], sorted(s["Action"]), sorted(s["Resource"])) for s in document["Statement"])


def test_cfn_lint_finds_nothing():
    lint = os.path.join(BUILD, "venv", "bin", "cfn-lint")
    result = subprocess.run([lint, "--non-zero-exit-code", "informational", TEMPLATE], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def rules(sandbox, resources):
    names = {resources[f"{kind}SecurityGroup"]: name for kind, name in (("Server", "servers"), ("Client", "clients"), ("LoadBalancer", "load balancer"))}
    found = set()
    for group in sandbox.aws.client("ec2").describe_security_groups(GroupIds=list(names))["SecurityGroups"]:
        for rule in group["IpPermissions"]:
            assert rule["FromPort"] == rule["ToPort"]
            sources = [names[pair["GroupId"]] for pair in rule["UserIdGroupPairs"]] + [block["CidrIp"] for block in rule["IpRanges"]]
            found |= {(names[group["GroupId"]], source, rule["IpProtocol"], rule["FromPort"]) for source in sources}
    return found


def check(sandbox, resources, groups):
    """What a stack has, whatever the layout: policies that are the program's own, IMDSv2, the load balancer's question, hooks."""
    for group, kind in groups.items():
        template = sandbox.aws.launch_template(group)
        command = shlex.split(template["user_data"].replace("\\\n", " ").partition("exec ")[2])
        assert normalized(sandbox.aws.policy_of(template["role"])) == normalized(policy(command))
        options = template["data"]["MetadataOptions"]
        assert options["HttpTokens"] == "required" and int(options["HttpPutResponseHopLimit"]) == 2
        assert template["role"] == resources[f"{kind}Role"]
    target = sandbox.aws.client("elbv2").describe_target_groups(TargetGroupArns=[resources["TargetGroup"]])["TargetGroups"][0]
    assert (target["HealthCheckPath"], target["Port"], target["Matcher"]) == ("/v1/status/leader", 8500, {"HttpCode": "200"})
    assert sandbox.aws.client("elbv2").describe_load_balancers()["LoadBalancers"][0]["Scheme"] == "internal"
    assert sandbox.aws.log_group("/consul/prod").retention_in_days == 30


@pytest.fixture
def stack(sandbox):
    yield lambda **parameters: sandbox.aws.create_stack("prod", TEMPLATE, **PARAMETERS, **parameters)
    client = sandbox.aws.client("elbv2")
    for balancer in client.describe_load_balancers()["LoadBalancers"]:
        client.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])


def test_the_stack_becomes_one_datacenter(sandbox, stack):
    resources = stack(Layout="single", Servers=3, Clients=1)
    check(sandbox, resources, {"prod-servers": "Server", "prod-clients": "Client"})
    assert rules(sandbox, resources) == PORTS
    members = sandbox.adopt("prod-servers")
    clients = sandbox.adopt("prod-clients")
    healthy(*members, *clients, seconds=60)
    assert servers(clients[0]) == sorted(m.address for m in members)
    assert sorted(a["instance"] for a in lifecycle_actions) == sorted(m.id for m in members)
    assert {(a["hook"], a["group"], a["result"]) for a in lifecycle_actions} == {("launching", "prod-servers", "CONTINUE")}
    # Encrypted, by a key that one of them made.
    assert len({m.configuration["encrypt"] for m in [*members, *clients]}) == 1
    for member in [*members, *clients]:
        until(lambda: sandbox.aws.log_events("/consul/prod", f"{member.id}/consul"))
    # Nothing was refused that the policy should have allowed.
    refused = {c["action"] for c in sandbox.aws.calls if c.get("status", 200) >= 400}
    assert refused <= {"CreateLogStream", "GetParameter", "PutParameter"}


def test_the_stack_becomes_two_datacenters(sandbox, stack):
    resources = stack(Layout="datacenter-per-az", Servers=1, Clients=1)
    check(sandbox, resources, {"prod-servers-a": "Server", "prod-servers-b": "Server", "prod-clients": "Client"})
    assert rules(sandbox, resources) == PORTS | WAN
    members = [sandbox.adopt(f"prod-servers-{zone[-1]}", zone=zone)[0] for zone in ZONES]
    client = sandbox.adopt("prod-clients", zone=ZONES[0])[0]
    healthy(*members, client, seconds=90)
    until(lambda: all(len(wan(m)) == 2 for m in members), 60)
    assert [m.configuration["datacenter"] for m in [*members, client]] == [*ZONES, ZONES[0]]
    assert servers(client) == [members[0].address]
