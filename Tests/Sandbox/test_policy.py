"""`iam-policy`: with exactly what it prints every feature works, and without any one action something breaks."""

import json
import subprocess

import pytest

from .aws import ACCOUNT, POLICY, REGION
from .conftest import healthy
from .sandbox import BINARY
from .waiting import until


def policy(*options):
    result = subprocess.run(
        [BINARY, "iam-policy", "--account", ACCOUNT, *options],
        capture_output=True,
        text=True,
        env={"AWS_REGION": REGION, "PATH": "/usr/bin"},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def actions(document):
    return [action for statement in document["Statement"] for action in statement["Action"]]


def without(document, action):
    statements = [dict(s, Action=[a for a in s["Action"] if a != action]) for s in document["Statement"]]
    # No policy may be empty.
    nothing = {"Effect": "Allow", "Action": ["sts:GetCallerIdentity"], "Resource": ["*"]}
    return dict(document, Statement=[nothing, *(s for s in statements if s["Action"])])


def dry(sandbox, instance, *options):
    result = instance.bootstrap("--dry-run", *options)
    return result.returncode == 0, result.stderr


def written(sandbox, instance, *options):
    """A run without an agent: everything up to its start, and the launch hook."""
    result = instance.bootstrap("--start", "none", "--wait-timeout", "1s", *options)
    return result.returncode == 0, result.stderr


def key(sandbox, instance, *options):
    """The first server of all: there is no key yet."""
    try:
        sandbox.aws.client("ssm").delete_parameter(Name="/consul/gossip")
    except sandbox.aws.client("ssm").exceptions.ParameterNotFound:
        pass
    return written(sandbox, instance, *options)


def logged(sandbox, instance, *options):
    """The log group has the requested settings, and the events arrive."""
    logs = sandbox.aws.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        logs.delete_log_group(logGroupName=group["logGroupName"])
    instance.run("rm", "-rf", "/var/log/consul-bootstrap.log", "/var/lib/consul-bootstrap/log-checkpoints.json")
    result = instance.bootstrap("--start", "none", "--flush-timeout", "1s", "--wait-timeout", "1s", *options)
    groups = logs.describe_log_groups()["logGroups"]
    good = result.returncode == 0 and [g.get("retentionInDays") for g in groups] == [7]
    good = good and logs.list_tags_log_group(logGroupName=groups[0]["logGroupName"])["tags"] == {"team": "platform"}
    good = good and any(
        "this is i-" in e for e in sandbox.aws.log_events(groups[0]["logGroupName"], f"{instance.id}/bootstrap")
    )
    return good, result.stderr


ONLY_FOR_LONG_BOOTS = {"autoscaling:DescribeLifecycleHooks", "autoscaling:RecordLifecycleActionHeartbeat"}
LOGS = ["--log", "bootstrap", "--log-retention", "7", "--log-tag", "team=platform"]
FEATURES = {
    "own-group": (dry, ["--expect", "1"]),
    "named-group": (dry, ["--group", "consul", "--expect", "1"]),
    "tag": (dry, ["--tag", "Name=consul", "--expect", "1"]),
    "client": (dry, ["--role", "client", "--group", "consul"]),
    "zones": (dry, ["--layout", "datacenter-per-az", "--group", "consul", "--expect", "1"]),
    "hook": (written, ["--group", "consul", "--expect", "1", "--lifecycle-hook", "ready"]),
    "tag-and-hook": (written, ["--tag", "Name=consul", "--expect", "1", "--lifecycle-hook", "ready"]),
    "parameter": (dry, ["--group", "consul", "--expect", "1", "--gossip-key", "ssm:/consul/fixed"]),
    "new-key": (key, ["--group", "consul", "--expect", "1", "--gossip-key-create", "ssm:/consul/gossip"]),
    "secrets": (
        dry,
        [
            "--group",
            "consul",
            "--expect",
            "1",
            "--acl-default-policy",
            "deny",
            "--agent-token",
            "secretsmanager:consul/token#value",
        ],
    ),
    "logs": (logged, ["--group", "consul", "--expect", "1", *LOGS]),
    "logs-by-group": (logged, ["--tag", "Name=consul", "--expect", "1", *LOGS, "--log-group", "/x/{group}/{az}"]),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_no_action_is_missing_and_none_is_too_many(sandbox, feature):
    attempt, options = FEATURES[feature]
    sandbox.aws.create_group("consul")
    sandbox.aws.client("ssm").put_parameter(
        Name="/consul/fixed", Value="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", Type="SecureString"
    )
    sandbox.aws.client("secretsmanager").create_secret(
        Name="consul/token", SecretString='{"value": "11111111-2222-3333-4444-555555555555"}'
    )
    instance = sandbox.launch(group="consul", lifecycle="Pending:Wait")
    document = policy(*options)
    sandbox.aws.set_policy(document)
    good, words = attempt(sandbox, instance, *options)
    assert good, words
    used = {f"{c['service']}:{c['action']}" for c in sandbox.aws.calls_from(instance.address)}
    assert used <= set(actions(document))
    for action in set(actions(document)) - ONLY_FOR_LONG_BOOTS:
        sandbox.aws.set_policy(without(document, action))
        good, words = attempt(sandbox, instance, *options)
        assert not good, f"{action} is not needed"
        # The missing action is named. (AWS reports only one permission of a call.)
        assert action in words or action == "logs:TagResource", words


def test_an_external_log_agent_and_its_monitoring(sandbox):
    """The agent creates and writes; this program only describes."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    options = ["--group", "consul", "--expect", "1", "--log", "file:/var/log/app.log", "--log-agent", "awslogs"]
    document = policy(*options)
    assert {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"} < set(
        actions(document)
    )
    look = lambda: {
        f["subject"]: f["severity"]
        for f in json.loads(instance.bootstrap("doctor", "--json", *options).stdout)["findings"]
    }
    sandbox.aws.set_policy(document)
    assert look()["logs:DescribeLogStreams"] == "ok"
    sandbox.aws.set_policy(without(document, "logs:DescribeLogStreams"))
    assert look()["logs:DescribeLogStreams"] == "problem"


def test_resources_are_narrow(sandbox):
    """Permissions for one group, parameter and log group do not cover another."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul", lifecycle="Pending:Wait")
    hook = ["--group", "consul", "--expect", "1", "--lifecycle-hook", "ready"]
    document = policy(*hook)
    assert document["Statement"][1]["Resource"] == [
        f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/consul"
    ]
    sandbox.aws.set_policy(policy("--group", "another", *hook[2:]))
    result = instance.bootstrap("--start", "none", "--wait-timeout", "1s", *hook)
    assert result.returncode == 12 and "allow autoscaling:CompleteLifecycleAction" in result.stderr
    keys = ["--group", "consul", "--expect", "1", "--gossip-key-create"]
    sandbox.aws.set_policy(policy(*keys, "ssm:/another"))
    result = instance.bootstrap("--dry-run", *keys, "ssm:/consul/gossip")
    assert result.returncode == 12 and "allow ssm:GetParameter" in result.stderr
    describing = {
        "ec2:DescribeInstances",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLifecycleHooks",
    }
    for _, options in FEATURES.values():
        for statement in policy(*options)["Statement"]:
            assert statement["Resource"] != ["*"] or set(statement["Action"]) <= describing, (
                "AWS knows no resources for these, and for these only"
            )


def test_a_whole_cluster_lives_on_it(sandbox):
    """Not only a dry run: agents, sidecar, logs, keys."""
    options = [
        "--group",
        "consul",
        "--gossip-key-create",
        "ssm:/consul/gossip",
        "--log",
        "consul",
        "--log",
        "bootstrap",
        "--log-retention",
        "7",
    ]
    sandbox.aws.set_policy(policy(*options))
    assert set(actions(policy(*options))) < set(POLICY["Statement"][0]["Action"])
    members = sandbox.launch_group(3, options=" ".join(options))
    healthy(*members)
    until(
        lambda: all(
            any("New leader elected" in e for e in sandbox.aws.log_events("/consul/dc1", f"{m.id}/consul"))
            for m in members
        )
    )
    # Resources that do not exist yet, or exist since another instance was first; no other call was denied.
    assert sandbox.aws.refused_actions() <= {"CreateLogStream", "CreateLogGroup", "GetParameter", "PutParameter"}
