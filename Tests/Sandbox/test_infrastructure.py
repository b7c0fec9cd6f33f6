"""userdata/cloudformation and userdata/terraform: linted, held against what the program needs, and the stack brought
up for real."""

import json
import os
import re
import shlex
import subprocess

import cfnlint.decode.cfn_yaml
import hcl2
import pytest

from .aws import ACCOUNT, REGION, lifecycle_actions
from .conftest import healthy, servers, wan
from .sandbox import BINARY, BUILD, ROOT, ZONES
from .waiting import until

TEMPLATE = os.path.join(ROOT, "userdata", "cloudformation", "consul.yaml")
PARAMETERS = {
    "ImageId": "ami-12345678",
    "Zones": ",".join(ZONES),
    "PrivateCidrs": "10.0.1.0/24,10.0.2.0/24",
    "PublicCidrs": "10.0.101.0/24,10.0.102.0/24",
}
# Ports that must be open: (target, source, protocol, port).
PORTS = {
    ("servers", "servers", "tcp", 8300),
    ("servers", "servers", "tcp", 8301),
    ("servers", "servers", "udp", 8301),
}
PORTS |= {
    ("servers", "clients", "tcp", 8300),
    ("servers", "load balancer", "tcp", 8500),
    ("load balancer", "10.0.0.0/16", "tcp", 8500),
}
PORTS |= {
    (a, b, p, 8301)
    for a, b in (("servers", "clients"), ("clients", "servers"), ("clients", "clients"))
    for p in ("tcp", "udp")
}
WAN = {("servers", "servers", "tcp", 8302), ("servers", "servers", "udp", 8302)}


def policy(command):
    """The policy that `iam-policy` prints for this user-data."""
    options = command[command.index("consul-bootstrap") + 1 :]
    result = subprocess.run(
        [BINARY, "iam-policy", "--account", ACCOUNT, *options],
        capture_output=True,
        text=True,
        env={"AWS_REGION": REGION},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def normalized(document):
    return sorted((s["Sid"], sorted(s["Action"]), sorted(s["Resource"])) for s in document["Statement"])


def test_cfn_lint_finds_nothing():
    lint = os.path.join(BUILD, "venv", "bin", "cfn-lint")
    result = subprocess.run([lint, "--non-zero-exit-code", "informational", TEMPLATE], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


LAUNCH, TERMINATE = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
# Name, transition, default result, time-out in seconds: a server that cannot leave is retained, a client is not.
SERVER_HOOKS = {("launching", LAUNCH, "ABANDON", 900), ("terminating", TERMINATE, "ABANDON", 300)}
CLIENT_HOOKS = {("terminating", TERMINATE, "CONTINUE", 300)}


def test_the_stack_replaces_servers_without_a_loss():
    """A hook without retention, or a batch of two, would take a vote before its replacement has one."""
    resources = cfnlint.decode.cfn_yaml.load(TEMPLATE)["Resources"]
    for name in ("ServerLaunchTemplate", "ClientLaunchTemplate"):
        data = resources[name]["Properties"]["LaunchTemplateData"]
        assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    hooks = lambda properties: {
        (h["LifecycleHookName"], h["LifecycleTransition"], h["DefaultResult"], h["HeartbeatTimeout"])
        for h in properties["LifecycleHookSpecificationList"]
    }
    assert hooks(resources["ClientGroup"]["Properties"]) == CLIENT_HOOKS
    most = max(cfnlint.decode.cfn_yaml.load(TEMPLATE)["Parameters"]["Servers"]["AllowedValues"])
    for name in ("ServerGroup", "ServerGroupA", "ServerGroupB"):
        properties, update = resources[name]["Properties"], resources[name]["UpdatePolicy"]["AutoScalingRollingUpdate"]
        assert hooks(properties) == SERVER_HOOKS
        assert properties["InstanceLifecyclePolicy"] == {"RetentionTriggers": {"TerminateHookAbandon": "retain"}}
        assert properties["InstanceMaintenancePolicy"] == {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 120}
        assert properties["HealthCheckType"] == "EC2" and properties["MaxSize"] > most
        assert (update["MinInstancesInService"], update["MaxBatchSize"]) == ({"Ref": "Servers"}, 1)
        # Launch and Terminate are what an update consists of; no signal is sent.
        assert not {"Launch", "Terminate"} & set(update["SuspendProcesses"]) and "WaitOnResourceSignals" not in update


def rules(sandbox, resources):
    names = {
        resources[f"{kind}SecurityGroup"]: name
        for kind, name in (("Server", "servers"), ("Client", "clients"), ("LoadBalancer", "load balancer"))
    }
    found = set()
    for group in sandbox.aws.client("ec2").describe_security_groups(GroupIds=list(names))["SecurityGroups"]:
        for rule in group["IpPermissions"]:
            assert rule["FromPort"] == rule["ToPort"]
            sources = [names[pair["GroupId"]] for pair in rule["UserIdGroupPairs"]] + [
                block["CidrIp"] for block in rule["IpRanges"]
            ]
            found |= {(names[group["GroupId"]], source, rule["IpProtocol"], rule["FromPort"]) for source in sources}
    return found


def check(sandbox, resources, groups):
    """Common to every layout: the program's own policies, IMDSv2, and the health check of the load balancer."""
    for group, kind in groups.items():
        template = sandbox.aws.launch_template(group)
        command = shlex.split(template["user_data"].replace("\\\n", " ").partition("exec ")[2])
        assert normalized(sandbox.aws.policy_of(template["role"])) == normalized(policy(command))
        options = template["data"]["MetadataOptions"]
        assert options["HttpTokens"] == "required" and int(options["HttpPutResponseHopLimit"]) == 2
        assert template["role"] == resources[f"{kind}Role"]
    target = sandbox.aws.client("elbv2").describe_target_groups(TargetGroupArns=[resources["TargetGroup"]])[
        "TargetGroups"
    ][0]
    assert (target["HealthCheckPath"], target["Port"], target["Matcher"]) == (
        "/v1/status/leader",
        8500,
        {"HttpCode": "200"},
    )
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
    healthy(*members, *clients)
    assert servers(clients[0]) == sorted(m.address for m in members)
    assert sorted(a["instance"] for a in lifecycle_actions) == sorted(m.id for m in members)
    assert {(a["hook"], a["group"], a["result"]) for a in lifecycle_actions} == {
        ("launching", "prod-servers", "CONTINUE")
    }
    # Encrypted, by a key that one of them created.
    assert len({m.configuration["encrypt"] for m in [*members, *clients]}) == 1
    for member in [*members, *clients]:
        until(lambda member=member: sandbox.aws.log_events("/consul/prod", f"{member.id}/consul"))
    # Nothing was refused that the policy should have allowed.
    assert sandbox.aws.refused_actions() <= {"CreateLogStream", "GetParameter", "PutParameter"}


def test_the_stack_becomes_two_datacenters(sandbox, stack):
    resources = stack(Layout="datacenter-per-az", Servers=1, Clients=1)
    check(sandbox, resources, {"prod-servers-a": "Server", "prod-servers-b": "Server", "prod-clients": "Client"})
    assert rules(sandbox, resources) == PORTS | WAN
    members = [sandbox.adopt(f"prod-servers-{zone[-1]}", zone=zone)[0] for zone in ZONES]
    client = sandbox.adopt("prod-clients", zone=ZONES[0])[0]
    healthy(*members, client)
    until(lambda: all(len(wan(m)) == 2 for m in members))
    assert [m.configuration["datacenter"] for m in [*members, client]] == [*ZONES, ZONES[0]]
    assert servers(client) == [members[0].address]


# Terraform: neither its binary nor its AWS provider can be had here. Its language can: Packer formats it by the same
# library, and python-hcl2 reads it.

MODULE = os.path.join(ROOT, "userdata", "terraform")
SOURCES = [
    os.path.join(directory, name)
    for directory, _, names in os.walk(MODULE)
    for name in sorted(names)
    if name.endswith(".tf")
]


def test_terraforms_formatter_changes_nothing(tmp_path):
    for index, source in enumerate(SOURCES):
        with open(source) as file:
            (tmp_path / f"{index}.pkr.hcl").write_text(file.read())
    packer = os.path.join(BUILD, "packer", "usr", "bin", "packer")
    check = lambda: subprocess.run(
        [packer, "fmt", "-check", "-diff", tmp_path],
        capture_output=True,
        text=True,
        env={"CHECKPOINT_DISABLE": "1", "HOME": "/nonexistent"},
    )
    result = check()
    assert result.returncode == 0, result.stdout
    (tmp_path / "0.pkr.hcl").write_text("a   = 1\nbcd = 2\nef = 3\n")
    assert check().returncode != 0


def plain(value):
    """Without the marks that python-hcl2 leaves on names and texts."""
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items() if not str(k).startswith("__")}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value[1:-1] if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"' else value


def module(directory=MODULE):
    blocks = {}
    for source in SOURCES:
        if os.path.dirname(source) == directory:
            with open(source) as file:
                for kind, found in plain(hcl2.load(file)).items():
                    blocks.setdefault(kind, []).extend(found)
    return blocks


def test_every_name_that_the_module_uses_is_there():
    for directory in sorted({os.path.dirname(source) for source in SOURCES}):
        blocks = module(directory)
        known = {f"var.{name}" for block in blocks.get("variable", []) for name in block}
        known |= {f"local.{name}" for block in blocks.get("locals", []) for name in block}
        known |= {f"module.{name}" for block in blocks.get("module", []) for name in block}
        known |= {
            f"{kind}.{name}" for block in blocks.get("resource", []) for kind, found in block.items() for name in found
        }
        known |= {
            f"data.{kind}.{name}" for block in blocks.get("data", []) for kind, found in block.items() for name in found
        }
        used = set()
        for source in SOURCES:
            if os.path.dirname(source) == directory:
                with open(source) as file:
                    text = re.sub(r"#.*", "", file.read())
                used |= set(
                    re.findall(r"\b(?:var|local|module)\.\w+|(?<![\w.])data\.aws_\w+\.\w+|(?<![\w.])aws_\w+\.\w+", text)
                )
        assert used <= known, used - known
        assert {name for name in known if name.startswith(("var.", "local."))} <= used, "unused"


def test_terraforms_rules_and_policies_are_the_same():
    blocks = module()
    values = {name: value for block in blocks["locals"] for name, value in block.items()}
    name = lambda text: text.replace("_", " ")
    rules = lambda table: {(name(r["to"]), name(r["from"]), r["protocol"], r["port"]) for r in table.values()}
    assert (
        rules(values["ingress"]) | {("load balancer", "10.0.0.0/16", "tcp", 8500)} == PORTS
        and rules(values["ingress_wan"]) == WAN
    )
    resources = [
        (kind, label, body)
        for block in blocks["resource"]
        for kind, found in block.items()
        for label, body in found.items()
    ]
    [api] = [
        body for kind, label, body in resources if kind == "aws_vpc_security_group_ingress_rule" and label == "api"
    ]
    assert (api["from_port"], api["to_port"], api["cidr_ipv4"]) == (8500, 8500, "${var.cidr}")
    assert len([kind for kind, _, _ in resources if kind == "aws_vpc_security_group_ingress_rule"]) == 2
    for kind, label, body in resources:
        if kind == "aws_launch_template":
            [options] = body["metadata_options"]
            assert (options["http_tokens"], options["http_put_response_hop_limit"]) == ("required", 2), label
    # The user data, with the names of this example filled in, against what the program wants for it.
    documents = {
        label: body["statement"]
        for block in blocks["data"]
        for kind, found in block.items()
        for label, body in found.items()
        if kind == "aws_iam_policy_document"
    }
    for kind in ("server", "client"):
        text = values[f"{kind}_user_data"]
        for field, value in (
            ("layout_options", ""),
            ("group_options", "--group consul-servers"),
            ("gossip", "/consul/consul/gossip"),
            ("record", "/consul/consul/cluster/vpc-1"),
            ("log_options", values["log_options"].replace("${local.log_group}", "/consul/consul")),
        ):
            text = text.replace(f"${{local.{field}}}", value)
        line = next(line for line in text.splitlines() if "exec " in line)
        wanted = policy(shlex.split(line.partition("exec ")[2]))
        assert {s["Sid"]: s["Action"] for s in wanted["Statement"]} == {
            s["sid"]: s["actions"] for s in documents[f"{kind}s"]
        }
        narrow = {s["sid"] for s in documents[f"{kind}s"] if s["resources"] != ["*"]}
        assert narrow == {s["Sid"] for s in wanted["Statement"] if s["Resource"] != ["*"]}


def test_terraform_replaces_servers_without_a_loss():
    found = {(k, n): b for block in module()["resource"] for k, named in block.items() for n, b in named.items()}
    for name in ("servers", "clients"):
        assert found["aws_launch_template", name]["instance_initiated_shutdown_behavior"] == "terminate"
    fields = ("name", "lifecycle_transition", "default_result", "heartbeat_timeout")
    hooks = lambda group: {tuple(hook[field] for field in fields) for hook in group["initial_lifecycle_hook"]}
    servers, clients = (found["aws_autoscaling_group", name] for name in ("servers", "clients"))
    assert hooks(servers) == SERVER_HOOKS and hooks(clients) == CLIENT_HOOKS
    assert servers["instance_lifecycle_policy"] == [{"retention_triggers": [{"terminate_hook_abandon": "retain"}]}]
    healthy = {"min_healthy_percentage": 100, "max_healthy_percentage": 120}
    assert servers["instance_maintenance_policy"] == [healthy]
    assert (servers["health_check_type"], servers["max_size"]) == ("EC2", "${var.servers + 1}")
    [refresh] = servers["instance_refresh"]
    assert refresh["preferences"] == [
        healthy
        | {"instance_warmup": 60, "checkpoint_percentages": [20, 100], "checkpoint_delay": 600}
        | {"auto_rollback": True, "skip_matching": True, "scale_in_protected_instances": "Refresh"}
    ]
