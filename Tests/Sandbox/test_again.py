"""A second run on a machine that a run has set up: its options, what cannot change, and what has been lost."""

import json
import os
import shutil
import stat

import pytest

from .conftest import healthy, peers
from .waiting import until

OPTIONS = "/var/lib/consul-bootstrap/options.json"
AUTOPILOT = "/v1/operator/autopilot/configuration"


def options(instance):
    return json.loads(instance.read(OPTIONS))


def agent(instance):
    return instance.run("pgrep", "-o", "-x", "consul").stdout.strip()


def put(instance, value):
    instance.run("consul", "kv", "put", "again", value, check=True)


def get(instance):
    return instance.run("consul", "kv", "get", "again").stdout.strip()


@pytest.fixture
def server(sandbox, request):
    """A healthy server, alone in its group."""
    systemd = request.param == "systemd"
    server = sandbox.launch_group(1, options="--datacenter east --consul-log-level warn", systemd=systemd)[0]
    healthy(server)
    put(server, "before")
    return server


@pytest.mark.parametrize("server", ["systemd", "supervise"], indirect=True)
def test_a_run_without_options_uses_those_of_the_last_run(server):
    """It once configured another datacenter, `dc1`, over the server's data."""
    assert options(server) == {"consul-log-level": "warn", "datacenter": "east", "expect": "1"}
    assert stat.S_IMODE(os.stat(server.path(OPTIONS)).st_mode) == 0o640
    before, pid = server.configuration, agent(server)
    again = server.bootstrap()
    assert again.returncode == 0, again.stderr
    assert "using options of the last run" in again.stderr and "--datacenter" in again.stderr
    assert server.configuration["datacenter"] == "east" and server.configuration["log_level"] == "WARN"
    assert {**before, "bootstrap_expect": None} == {**server.configuration, "bootstrap_expect": None}
    # What is given is laid over them, and recorded.
    given = server.bootstrap("--consul-log-level", "err")
    assert given.returncode == 0, given.stderr
    assert options(server) == {"consul-log-level": "err", "datacenter": "east", "expect": "1"}
    assert server.configuration["log_level"] == "ERR"
    look = server.bootstrap("--dry-run")
    assert f"Options of the last run, from {OPTIONS}" in look.stdout and '--datacenter "east"' in look.stdout
    assert agent(server) == pid and get(server) == "before"


@pytest.mark.parametrize("server", ["supervise"], indirect=True)
def test_another_datacenter_or_role_is_refused_while_the_server_has_data(server):
    before, pid = server.configuration, agent(server)
    for refused in (
        ["--datacenter", "west"],
        ["--fresh", "--expect", "1"],
        ["--fresh", "--role", "client", "--group", "consul"],
        ["--fresh", "--layout", "datacenter-per-az", "--expect", "1"],
    ):
        result = server.bootstrap(*refused)
        assert result.returncode == 14, (refused, result.stderr)
        assert "this server has raft state as " in result.stderr and "replace the instance" in result.stderr
    assert server.configuration == before and agent(server) == pid and get(server) == "before"
    assert options(server)["datacenter"] == "east"


@pytest.mark.parametrize("server", ["supervise"], indirect=True)
def test_a_run_beside_a_supervised_agent_reloads_it(server):
    """It once ended with status 17, and advised to kill the supervisor, and so the agent."""
    pid = agent(server)
    supervisor = server.read("/var/lib/consul-bootstrap/supervisor.lock").strip()
    result = server.bootstrap("--consul-log-level", "debug", "--ui")
    assert result.returncode == 0, result.stderr
    assert f"reload the agent and its supervisor, process {supervisor} (ui at the agent's next start)" in result.stderr
    until(lambda: "the options have changed; restarting with the new ones" in server.log, lambda: server.log)
    until(lambda: "Reloading configuration" in server.log or "[DEBUG]" in server.log, lambda: server.log)
    assert agent(server) == pid and server.status is None and get(server) == "before"
    # A second one changes nothing, and ends well, too.
    again = server.bootstrap()
    assert again.returncode == 0, again.stderr
    # Once the supervisor has ended, its lock proves nothing: a run supervises the agent itself.
    server.run("sh", "-c", f"kill -TERM {supervisor}", check=True)
    until(lambda: server.status is not None)
    run = server.start_bootstrap()
    until(lambda: "healthy leader=" in run.output, lambda: run.output)
    assert get(server) == "before"


def test_a_run_while_another_one_still_boots_ends_with_17(sandbox):
    """Only a supervisor that is verified makes room."""
    sandbox.aws.create_group("consul", desired=2)
    instance = sandbox.launch(group="consul", boot=False)
    instance.boot("#!/bin/sh\nexec consul-bootstrap --expect 2 --wait-timeout 120s\n")
    until(lambda: "waiting" in instance.log, lambda: instance.log)
    result = instance.bootstrap("--expect", "2")
    assert result.returncode == 17, result.stderr


@pytest.mark.parametrize("server", ["supervise"], indirect=True)
def test_damaged_options_stop_a_run_without_options_only(server):
    server.write(OPTIONS, '{"datacenter"')
    result = server.bootstrap()
    assert result.returncode == 2 and "the options of the last run are damaged" in result.stderr
    assert "--fresh" in result.stderr
    check = server.run("consul-bootstrap", "status", "--check")
    assert check.returncode == 1 and "the options of the last run are lost" in check.stdout, check.stdout
    given = server.bootstrap("--datacenter", "east", "--expect", "1")
    assert given.returncode == 0 and "the options of the last run are damaged" in given.stderr, given.stderr
    assert options(server) == {"datacenter": "east", "expect": "1"}
    fresh = server.bootstrap("--fresh", "--datacenter", "east")
    assert fresh.returncode == 0 and options(server) == {"datacenter": "east"}, fresh.stderr


@pytest.mark.parametrize("server", ["systemd"], indirect=True)
@pytest.mark.parametrize("loss", ["damaged", "deleted"])
def test_the_sidecar_starts_although_its_options_are_lost(server, loss):
    """The unit was skipped, or started again every 10 seconds; the next run renamed the data of a healthy server."""

    def state():
        return server.run("systemctl", "is-active", "consul-bootstrap").stdout.strip()

    if loss == "damaged":
        server.write(OPTIONS, "{")
    else:
        server.run("systemctl", "stop", "consul-bootstrap", check=True)
        shutil.rmtree(server.path("/var/lib/consul-bootstrap"))
    restart = server.run("systemctl", "restart", "consul-bootstrap")
    assert restart.returncode == 0, server.run("journalctl", "-u", "consul-bootstrap").stdout
    until(lambda: state() == "active", lambda: server.run("journalctl", "-u", "consul-bootstrap").stdout)
    journal = server.run("journalctl", "-u", "consul-bootstrap", "-o", "cat").stdout
    assert "the options of the last run are lost" in journal and "log forwarding" in journal, journal
    check = server.run("consul-bootstrap", "status", "--check")
    assert check.returncode == 1 and "the options of the last run are lost" in check.stdout
    # With its options, the next run keeps the data and repairs the rest.
    pid = agent(server)
    result = server.bootstrap("--expect", "1", "--datacenter", "east")
    assert result.returncode == 0, result.stderr
    assert agent(server) == pid and get(server) == "before"
    assert server.run("consul-bootstrap", "status", "--check").returncode == 0


def test_an_existing_cluster_takes_autopilot_options_from_a_second_run(sandbox):
    members = sandbox.launch_group(3)
    healthy(*members)
    until(lambda: len(peers(members[0])) == 3)
    put(members[0], "before")
    result = members[0].bootstrap("--cleanup-dead-servers", "false", "--last-contact-threshold", "90s")
    assert result.returncode == 0, result.stderr
    assert "set autopilot's CleanupDeadServers of the cluster" in result.stderr
    for member in members:
        found = member.consul(AUTOPILOT)
        assert (found["CleanupDeadServers"], found["LastContactThreshold"]) == (False, "1m30s")
        # A default, and what no option names, stay.
        assert (found["ServerStabilizationTime"], found["MaxTrailingLogs"]) == ("1s", 250)
    again = members[0].bootstrap()
    assert again.returncode == 0 and "set autopilot's" not in again.stderr, again.stderr
    # A member without these options does not set others.
    assert members[1].bootstrap().returncode == 0
    assert members[2].consul(AUTOPILOT)["CleanupDeadServers"] is False
    assert [get(member) for member in members] == ["before"] * 3
