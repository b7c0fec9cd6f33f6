"""`doctor`: each dependency of a boot is broken on purpose, and reported."""

import json
import signal
import subprocess

import pytest

from .aws import Fault, lifecycle_actions
from .conftest import healthy
from .waiting import until

ONE = ["--expect", "1"]
LOGS = [*ONE, "--log", "bootstrap", "--log-retention", "7"]


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul")


def examine(instance, *options, **keywords):
    result = instance.bootstrap("doctor", "--json", *options, **keywords)
    assert result.returncode in (0, 1), result.stderr
    report = json.loads(result.stdout)
    assert (
        report["healthy"]
        == (result.returncode == 0)
        == (not [f for f in report["findings"] if f["severity"] == "problem"])
    )
    return report["findings"]


def problems(findings):
    return {f["subject"]: f["message"] + " " + str(f["hint"]) for f in findings if f["severity"] == "problem"}


def of_subject(findings, subject):
    return [(f["severity"], f["message"]) for f in findings if f["subject"] == subject]


def test_all_is_well(sandbox, instance):
    sandbox.aws.client("ssm").put_parameter(
        Name="/consul/fixed", Value="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", Type="SecureString"
    )
    sandbox.aws.client("autoscaling").put_lifecycle_hook(
        LifecycleHookName="ready",
        AutoScalingGroupName="consul",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
    )
    result = instance.bootstrap("doctor", *LOGS, "--lifecycle-hook", "ready", "--gossip-key", "ssm:/consul/fixed")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("all checks passed\n") and "\x1b" not in result.stdout
    for line in (
        "ok      consul: version 1.8.7",
        f"ok      metadata: {instance.id} in eu-west-1a, {instance.address}, IMDSv2",
        "ok      credentials: from instance role",
        "ok      endpoint ec2: https://ec2.eu-west-1.amazonaws.com",
        "ok      clock: in sync with AWS",
        "ok      autoscaling:DescribeAutoScalingInstances: allowed",
        "ok      autoscaling:DescribeAutoScalingGroups: allowed",
        "ok      ec2:DescribeInstances: allowed",
        "ok      autoscaling:CompleteLifecycleAction: allowed",
        "ok      secret: ssm:/consul/fixed",
        "ok      logs:CreateLogStream: allowed",
        "ok      logs:PutLogEvents: allowed",
        "ok      group: 1 of 1 servers are eligible",
        f"ok      names: node {instance.id} in datacenter dc1",
        "ok      disk: ",
        "ok      data: /opt/consul is empty",
        "ok      ports: the agent's ports are free",
        "ok      dns: 10.0.0.2 answers",
        "ok      configuration: Consul accepts the configuration that a run would write",
        "ok      plan: a run would decide now: new cluster",
    ):
        assert line in result.stdout, (line, result.stdout)
    # It creates the log group and stream as a run would. The hook is not completed, and the machine is unchanged.
    assert sandbox.aws.log_group("/consul/dc1").retention_in_days == 7
    assert not lifecycle_actions
    assert not instance.exists("/etc/consul.d/00-consul-bootstrap.json") and not instance.exists("/opt/consul")


def test_a_run_that_goes_on_meanwhile_keeps_its_file(instance):
    """The doctor neither overwrites nor removes the file that a run has written for validation."""
    instance.write("/var/lib/consul-bootstrap/staged.json", "a run's")
    assert not problems(examine(instance, *ONE))
    assert instance.read("/var/lib/consul-bootstrap/staged.json") == "a run's"
    assert instance.run("ls", "-A", "/var/lib/consul-bootstrap").stdout == "staged.json\n"


BROKEN = {
    "no-consul": (["--consul", "/opt/nothing"], lambda s, i: None, "consul", "there is no Consul at /opt/nothing"),
    "no-metadata": (ONE, lambda s, i: setattr(i.metadata, "disabled", True), "metadata", "enable the HTTP endpoint"),
    "hop-limit": (ONE, lambda s, i: setattr(i.metadata, "hang_token", True), "metadata", "hop limit"),
    "no-role": (ONE, lambda s, i: setattr(i.metadata, "no_role", True), "credentials", "attach an instance profile"),
    "clock": (ONE, lambda s, i: setattr(s.aws, "clock_offset", 900), "clock", "s behind AWS;"),
    "instances-denied": (
        ONE,
        lambda s, i: s.aws.faults.append(Fault("denied", "DescribeAutoScalingInstances")),
        "autoscaling:DescribeAutoScalingInstances",
        "allow autoscaling:DescribeAutoScalingInstances for role consul-server",
    ),
    "groups-denied": (
        ONE,
        lambda s, i: s.aws.faults.append(Fault("denied", "DescribeAutoScalingGroups")),
        "autoscaling:DescribeAutoScalingGroups",
        "allow autoscaling:DescribeAutoScalingGroups",
    ),
    "ec2-denied": (
        ONE,
        lambda s, i: s.aws.faults.append(Fault("denied", "DescribeInstances")),
        "ec2:DescribeInstances",
        "allow ec2:DescribeInstances",
    ),
    "hook-denied": (
        [*ONE, "--lifecycle-hook", "h"],
        lambda s, i: s.aws.faults.append(Fault("denied", "CompleteLifecycleAction")),
        "autoscaling:CompleteLifecycleAction",
        "allow autoscaling:CompleteLifecycleAction",
    ),
    "log-group-denied": (
        LOGS,
        lambda s, i: s.aws.faults.append(Fault("denied", "CreateLogGroup")),
        "logs:CreateLogGroup",
        "allow logs:CreateLogGroup",
    ),
    "log-stream-denied": (
        LOGS,
        lambda s, i: s.aws.faults.append(Fault("denied", "CreateLogStream")),
        "logs:CreateLogStream",
        "allow logs:CreateLogStream",
    ),
    "log-retention-denied": (
        LOGS,
        lambda s, i: s.aws.faults.append(Fault("denied", "PutRetentionPolicy")),
        "logs:PutRetentionPolicy",
        "allow logs:PutRetentionPolicy",
    ),
    "log-events-denied": (
        LOGS,
        lambda s, i: s.aws.faults.append(Fault("denied", "PutLogEvents")),
        "logs:PutLogEvents",
        "allow logs:PutLogEvents",
    ),
    "secret-denied": (
        [*ONE, "--gossip-key", "ssm:/k"],
        lambda s, i: s.aws.faults.append(Fault("denied", "GetParameter")),
        "secret",
        "allow ssm:GetParameter",
    ),
    "secret-missing": ([*ONE, "--gossip-key", "ssm:/k"], lambda s, i: None, "secret", "there is no parameter /k"),
    "no-such-group": (
        ["--group", "consol", "--expect", "1"],
        lambda s, i: None,
        "group",
        "did you mean --group 'consul'?",
    ),
    "group-short": (["--expect", "3"], lambda s, i: None, "group", "1 of 3 servers are eligible"),
    "no-server": (["--role", "client", "--tag", "Name=other"], lambda s, i: None, "group", "no server is eligible"),
    "names": ([*ONE, "--node-name", "node_{az}"], lambda s, i: None, "names", "not a DNS label"),
    "configuration": ([*ONE, "--set", "bogus=1"], lambda s, i: None, "configuration", "bogus"),
    "baked-bootstrap": (
        ONE,
        lambda s, i: i.write("/etc/consul.d/zz.json", '{"bootstrap_expect": 3}'),
        "configuration",
        "/etc/consul.d/zz.json sets bootstrap",
    ),
    "disk-full": (
        ONE,
        lambda s, i: i.run("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", "/opt", check=True),
        "disk",
        "MiB are free for /opt/consul",
    ),
    "disk-read-only": (
        ONE,
        lambda s, i: i.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/opt", check=True),
        "disk",
        "read-only",
    ),
    "dns": (ONE, lambda s, i: setattr(s.names, "broken", True), "dns", "name server 10.0.0.2 does not resolve"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_dependency_is_reported(sandbox, instance, what):
    options, spoil, subject, words = BROKEN[what]
    spoil(sandbox, instance)
    found = problems(examine(instance, *options))
    assert subject in found and words in found[subject], found


def test_no_way_to_an_endpoint(sandbox, instance):
    found = problems(examine(instance, *ONE, environment={"AWS_REGION": "eu-north-1"}))
    assert "name not found" in found["endpoint ec2"] and "name not found" in found["endpoint autoscaling"]
    found = problems(examine(instance, *ONE, environment={"AWS_ENDPOINT_URL_EC2": "http://10.0.0.2:81"}))
    assert "connection refused" in found["endpoint ec2"] and "endpoint autoscaling" not in found


def test_a_port_that_another_program_uses(sandbox, instance):
    code = (
        "import socket,time;s=socket.socket();s.bind(('0.0.0.0',8300));s.listen();"
        "u=socket.socket(socket.AF_INET,"
        "socket.SOCK_DGRAM);"
        "u.bind(('0.0.0.0',"
        "8301));"
        "print('up',"
        "flush=True);"
        "time.sleep(3600)"
    )
    other = instance.start("/usr/bin/python3", "-c", code)
    until(lambda: other.output == "up\n")
    messages = [m for v, m in of_subject(examine(instance, *ONE), "ports") if v == "problem"]
    other.signal(signal.SIGKILL)
    assert len(messages) == 2 and "8300 tcp" in messages[0] + messages[1] and "8301 udp" in messages[0] + messages[1]


def test_state_that_was_baked_in(sandbox, instance):
    instance.write("/opt/consul/node-id", "11111111-2222-3333-4444-555555555555")
    assert any(v == "note" and "baked state" in m for v, m in of_subject(examine(instance, *ONE), "data"))


def filter(instance, rule):
    rules = f"table ip firewall {{ chain incoming {{ type filter hook input priority 0; {rule}\n}}\n}}\n"
    subprocess.run(["ip", "netns", "exec", instance.namespace, "nft", "-f", "-"], input=rules, text=True, check=True)


def test_peers_ports_open_refused_and_filtered(sandbox):
    """The common mistake, a security group without udp: every server joins, and then members flap."""
    sandbox.aws.create_group("consul", desired=3)
    here, booting, filtered = (sandbox.launch(group="consul") for _ in range(3))
    options = ["--expect", "3"]
    findings = examine(here, *options)
    for peer in (booting, filtered):
        assert of_subject(findings, f"peer {peer.address}") == [
            ("ok", "refused, nothing listens yet: 8300 tcp, 8301 tcp, 8301 udp")
        ]
    # Linux limits the rate of its refusals: repeated probes must not report a firewall.
    for _ in range(8):
        assert not problems(examine(here, *options))
    filter(filtered, "udp dport 8301 drop; tcp dport 8300 drop;")
    found = problems(examine(here, *options))
    message = found[f"peer {filtered.address}"]
    assert (
        "filtered: 8300 tcp (server RPC), 8301 udp (LAN gossip): no answer" in message and "security groups" in message
    )
    assert f"peer {booting.address}" not in found


def test_peers_that_run(sandbox):
    """A listening agent answers on udp, too; without an answer its datagrams are dropped."""
    members = sandbox.launch_group(3, options="--layout datacenter-per-az --wan-wait 1s", zone="eu-west-1a")
    healthy(*members)
    here, good, bad = members
    layout = ["--layout", "datacenter-per-az", "--expect", "3"]
    findings = examine(here, *layout)
    assert not problems(findings) and ("ok", "an agent is running here") in of_subject(findings, "ports")
    everything = ("ok", "open: 8300 tcp, 8301 tcp, 8301 udp, 8302 tcp, 8302 udp")
    assert of_subject(findings, f"peer {good.address}") == [everything]
    filter(bad, "udp dport 8302 drop;")
    findings = examine(here, *layout)
    assert "filtered: 8302 udp (WAN gossip)" in problems(findings)[f"peer {bad.address}"]
    assert of_subject(findings, f"peer {good.address}") == [everything]


def test_units(sandbox):
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul", systemd=True)
    assert ("ok", "consul.service is not started yet; a run starts it") in of_subject(examine(instance, *ONE), "unit")
    instance.run("systemctl", "mask", "consul.service", check=True)
    assert "consul.service is masked" in problems(examine(instance, *ONE))["unit"]
    instance.run("systemctl", "unmask", "consul.service", check=True)
    assert instance.bootstrap(*ONE).returncode == 0
    # It checks the options of the last run.
    findings = examine(instance)
    assert not problems(findings) and ("ok", "consul.service is active") in of_subject(findings, "unit")
    instance.run("systemctl", "stop", "consul.service")
    instance.write("/etc/consul.d/bad.json", "{")
    instance.run("systemctl", "start", "consul.service")
    state = lambda: problems(examine(instance))
    assert "bad.json" in until(lambda: (f := state()).get("configuration") and f)["configuration"]


def test_not_root(instance):
    found = problems(examine(instance, *ONE, user=1000))
    assert "a run needs root" in found["user"]
