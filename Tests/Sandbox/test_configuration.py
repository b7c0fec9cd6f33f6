"""What Consul reads in its configuration directory, and what a run makes of the files beside its own."""

import json
import os
from pathlib import Path

import pytest

from .waiting import until

CASES = json.loads((Path(__file__).parent / "configuration_files.json").read_text())
OWN = "/etc/consul.d/00-consul-bootstrap.json"
ONE = ["--expect", "1", "--start", "none"]
PACKAGED = """# Full configuration options can be found at https://www.consul.io/docs/agent/config

# data_dir
# This flag provides a data directory for the agent to store state.
data_dir = "/opt/consul"

#bind_addr = "0.0.0.0" # Listen on all IPv4
#bootstrap_expect=3
"""
# Where the agent reports what it reads of a key.
REPORTED = {
    "autopilot.cleanup_dead_servers": "AutopilotCleanupDeadServers",
    "bootstrap_expect": "BootstrapExpect",
    "client_addr": "ClientAddrs",
    "datacenter": "Datacenter",
    "node_meta": "NodeMeta",
    "node_name": "NodeName",
    "ports.dns": "DNSPort",
    "recursors": "DNSRecursors",
    "rejoin_after_leave": "RejoinAfterLeave",
    "retry_join": "RetryJoinLAN",
    "server": "ServerMode",
}


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul")


def put(instance, name, text):
    path = instance.path(f"/etc/consul.d/{name}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text(text, newline="")


def readings(instance, case):
    """What the real agent makes of the files; None if it refuses them."""
    directory = instance.run("mktemp", "-d", check=True).stdout.strip()
    # Before every file of a case.
    for name, text in {"!.json": json.dumps({"data_dir": directory + "/data"}), **case["files"]}.items():
        Path(instance.path(f"{directory}/{name}")).write_text(text, newline="")
    if instance.run("consul", "validate", directory).returncode:
        return None
    agent = instance.start("consul", "agent", "-config-dir", directory, "-bind", "127.0.0.1")
    try:
        report = until(
            lambda: instance.consul("/v1/agent/self") or agent.poll() is not None, lambda: agent.output, every=0.02
        )
        assert isinstance(report, dict), agent.output
        return {key: report["DebugConfig"][REPORTED[key]] for key in case["reads"] or {}}
    finally:
        agent.signal(9)
        agent.finish()


def test_the_table_of_configuration_files_is_what_consul_reads(instance):
    """The table from which the fast tests take what this program reads."""
    wrong = {case["name"]: got for case in CASES if (got := readings(instance, case)) != case["reads"]}
    assert wrong == {}


def test_a_packaged_configuration_beside_another_data_directory_is_refused(instance):
    put(instance, "consul.hcl", PACKAGED)
    result = instance.bootstrap("--expect", "1", "--data-dir", "/data/consul")
    assert result.returncode == 14
    for word in (OWN, "/etc/consul.d/consul.hcl", '"/opt/consul"', '"/data/consul"', "--data-dir /opt/consul"):
        assert word in result.stderr, result.stderr
    assert not instance.exists(OWN) and not instance.exists("/opt/consul") and not instance.exists("/data/consul")
    run = instance.start_bootstrap("--expect", "1")
    until(lambda: " healthy leader=" in run.output or run.poll() is not None, lambda: run.output)
    assert instance.consul("/v1/agent/self")["DebugConfig"]["DataDir"] == "/opt/consul", run.output


@pytest.mark.parametrize(
    "name,text,status",
    [
        ("a.json", '{"Bootstrap_Expect": 3}', 14),
        ("b.hcl", "server = true, bootstrap_expect = 3", 14),
        ("c.hcl", "server = true bootstrap_expect = 3", 14),
        ("d.hcl", "bootstrap_expect = 0", 0),
        ("e.hcl", "/* bootstrap_expect = 3 */", 0),
        ("z.json", '{"node_name": "web"}', 14),
    ],
)
def test_a_file_beside_ours(instance, name, text, status):
    put(instance, name, text)
    result = instance.bootstrap(*ONE)
    assert result.returncode == status, result.stderr
    assert instance.exists(OWN) == (status == 0)
    if status:
        assert f"/etc/consul.d/{name}" in result.stderr


def test_a_later_zero_of_bootstrap_expect_is_refused_where_a_cluster_would_form(instance):
    """Consul takes the zero of the last file, and such a server never elects a leader. An earlier zero does no harm."""
    put(instance, "d.hcl", "bootstrap_expect = 0")
    result = instance.bootstrap("--expect", "1")
    assert result.returncode == 14 and "would override bootstrap_expect" in result.stderr, result.stderr
    assert "remove bootstrap_expect from /etc/consul.d/d.hcl" in result.stderr and not instance.exists(OWN)
    plan = instance.bootstrap("--expect", "1", "--dry-run")
    assert plan.returncode == 0 and "A run would stop here, with status 14" in plan.stdout
    os.rename(instance.path("/etc/consul.d/d.hcl"), instance.path("/etc/consul.d/!d.hcl"))
    run = instance.start_bootstrap("--expect", "1")
    until(lambda: " healthy leader=" in run.output or run.poll() is not None, lambda: run.output)
    assert " healthy leader=" in run.output, run.output
    # With raft state nothing writes a number that a later zero could replace.
    run.signal(15)
    run.finish()
    os.rename(instance.path("/etc/consul.d/!d.hcl"), instance.path("/etc/consul.d/d.hcl"))
    run = instance.start_bootstrap("--expect", "1")
    until(lambda: " healthy leader=" in run.output or run.poll() is not None, lambda: run.output)
    assert "decision: rejoin" in run.output and " healthy leader=" in run.output, run.output


def test_an_agent_whose_ports_another_file_sets_is_healthy_and_reported(instance):
    put(instance, "image.hcl", 'ports { http = 8501, dns = 8601 }\nnode_meta { tier = "web" }')
    run = instance.start_bootstrap("--expect", "1")
    until(lambda: " healthy leader=" in run.output or run.poll() is not None, lambda: run.output)
    assert " healthy leader=" in run.output, run.output
    assert instance.bootstrap("status", "--check").returncode == 0
    assert "answers on 127.0.0.1:8501" in instance.bootstrap("status").stdout
    assert "an agent is running here" in instance.bootstrap("doctor", "--expect", "1").stdout
    # What is on disk is not what the agent uses until it restarts.
    put(instance, "zz.json", '{"Datacenter": "dc2"}')
    assert instance.bootstrap("status", "--check").returncode == 1
    for command in (["status"], ["doctor", "--expect", "1"]):
        result = instance.bootstrap(*command)
        assert "does not use its configuration: datacenter is dc1, not dc2" in result.stdout, result.stdout


def test_an_agent_that_ignores_the_plan_is_no_success(sandbox):
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul", systemd=True)
    drop_in = "/etc/systemd/system/consul.service.d/override.conf"
    flags = "-config-dir=/etc/consul.d -datacenter=elsewhere -data-dir=/tmp/elsewhere"
    text = f"[Service]\nExecStart=\nExecStart=/usr/bin/consul agent {flags}\n"
    instance.run("mkdir", "-p", os.path.dirname(drop_in), check=True)
    instance.write(drop_in, text)
    result = instance.bootstrap("--expect", "1")
    assert result.returncode == 16, result.stderr
    for line in ("datacenter is elsewhere, not dc1", "data_dir is /tmp/elsewhere, not /opt/consul"):
        assert line in result.stderr, result.stderr
