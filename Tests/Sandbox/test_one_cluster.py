"""One cluster: servers with data that do not count, that cannot be reached, or that come back late.

Every test writes a key before, and reads it through every server afterwards."""

import json

import pytest

from .conftest import healthy, peers
from .waiting import until

OPTIONS = "--leader-wait 3s"


def put(member, value="data"):
    assert member.run("consul", "kv", "put", "precious", value).returncode == 0


def read_everywhere(*members):
    """Through the leader, and from each server's own copy."""
    for options in ((), ("-stale",)):
        command = ("consul", "kv", "get", *options, "precious")
        for member in members:
            until(
                lambda member=member, command=command: member.run(*command).stdout.strip() == "data",
                lambda member=member, command=command: f"{member.address}: {member.run(*command)}",
            )


def one_cluster(*members):
    """All have the same leader and the same raft peers."""
    until(
        lambda: (
            len({member.consul("/v1/status/leader") or None for member in members}) == 1
            and len({tuple(peers(member)) for member in members}) == 1
            and peers(members[0]) != []
        ),
        lambda: [(m.address, m.consul("/v1/status/leader"), peers(m)) for m in members],
    )
    read_everywhere(*members)


def decision(member):
    return next((line for line in member.log.splitlines() if "decision:" in line), "")


def replace(sandbox, count, options="--expect 3", **keywords):
    user_data = f"#!/bin/sh\nexec consul-bootstrap {options} {OPTIONS}\n"
    fresh = [sandbox.launch(boot=False, **keywords) for _ in range(count)]
    for member in fresh:
        member.boot(user_data)
    return fresh


def test_servers_that_do_not_count_still_hold_their_cluster(sandbox):
    old = sandbox.launch_group(3)
    healthy(*old)
    put(old[0])
    states = ["Standby", "EnteringStandby", "Detaching", "Terminating", "Terminating:Wait"]
    for state in states:
        for member in old:
            sandbox.aws.set_lifecycle(member.id, state)
        probe = sandbox.launch(group="consul", boot=False)
        probe.boot()
        result = probe.bootstrap("--dry-run", "--expect", "1")
        assert "Decision: join the cluster of" in result.stdout, f"{state}: {result.stdout}{result.stderr}"
        sandbox.terminate(probe)
    fresh = replace(sandbox, 3, group="consul")
    healthy(*fresh)
    for member in fresh:
        assert "decision: join " in decision(member) and "bootstrap_expect" not in member.configuration
        assert all(o.address in decision(member) for o in old)
    one_cluster(*old, *fresh)


def test_two_of_three_on_standby_and_the_third_replaced(sandbox):
    old = sandbox.launch_group(3)
    healthy(*old)
    put(old[0])
    for member in old[:2]:
        sandbox.aws.set_lifecycle(member.id, "Standby")
    sandbox.terminate(old[2])
    sandbox.aws.set_desired("consul", 1)
    (fresh,) = replace(sandbox, 1, "--expect 1", group="consul")
    healthy(fresh)
    assert "bootstrap_expect" not in fresh.configuration
    one_cluster(*old[:2], fresh)


def test_survivors_that_boot_seconds_after_their_replacements(sandbox):
    """Five servers, three expected, a power cut, three replaced: the two survivors must be waited for."""
    old = sandbox.launch_group(5, expect=3)
    healthy(*old)
    put(old[0])
    read_everywhere(*old)
    survivors, lost = old[:2], old[2:]
    for member in survivors:
        member.kill()
    for member in lost:
        sandbox.terminate(member)
    fresh = replace(sandbox, 3, "--expect 3 --verify-timeout 10s", group="consul")
    # The machines run, and refuse connections: Consul itself must wait for all five.
    until(lambda: all(m.exists("/etc/consul.d/00-consul-bootstrap.json") for m in fresh), lambda: fresh[0].log)
    assert {m.configuration.get("bootstrap_expect") for m in fresh} == {5}
    for member in survivors:
        member.boot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    until(lambda: all("decision: rejoin" in m.log for m in survivors))
    until(lambda: all(m.status == 16 for m in fresh), lambda: fresh[0].log[-2000:])
    # A lost quorum, and not a new cluster.
    assert not any(member.consul("/v1/status/leader") for member in survivors)
    # So an operator can recover it, and nothing is lost.
    chosen = survivors[0]
    chosen.kill()
    id, address = chosen.read("/opt/consul/node-id").strip(), f"{chosen.address}:8300"
    chosen.write("/opt/consul/raft/peers.json", json.dumps([{"id": id, "address": address, "non_voter": False}]))
    chosen.boot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    for member in fresh:
        member.reboot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    healthy(*survivors, *fresh)
    one_cluster(*survivors, *fresh)


def test_stopped_servers_with_the_tag_are_waited_for(sandbox):
    tags = {"Name": "consul"}
    options = "--tag Name=consul --expect 3"
    old = replace(sandbox, 3, options, tags=tags)
    healthy(*old)
    put(old[0])
    read_everywhere(*old)
    ec2 = sandbox.aws.client("ec2")
    for member in old:
        member.kill()
    ec2.stop_instances(InstanceIds=[m.id for m in old])
    fresh = replace(sandbox, 3, f"{options} --wait-timeout 3s", tags=tags)
    until(lambda: all(m.status is not None for m in fresh))
    for member in fresh:
        assert member.status == 13, member.log
        assert "no new cluster was formed in" in member.log and "--assume-dead INSTANCE" in member.log
        assert all(f"{o.id} (instance state stopped)" in member.log for o in old)
        assert not member.exists("/etc/consul.d/00-consul-bootstrap.json")
    # They come back, and the new ones join them.
    ec2.start_instances(InstanceIds=[m.id for m in old])
    for member in old:
        member.boot(f"#!/bin/sh\nexec consul-bootstrap {options}\n")
    healthy(*old)
    for member in fresh:
        member.reboot(f"#!/bin/sh\nexec consul-bootstrap {options}\n")
    healthy(*fresh)
    one_cluster(*old, *fresh)


def test_data_that_will_not_come_back_is_left_out_on_request_only(sandbox):
    old = sandbox.launch_group(1)
    healthy(*old)
    sandbox.vanish(old[0])
    sandbox.aws.set_lifecycle(old[0].id, "Standby")
    fresh = sandbox.launch(group="consul", boot=False)
    fresh.boot()
    refused = fresh.bootstrap("--expect", "1", "--wait-timeout", "1s", "--start", "none")
    assert refused.returncode == 13 and f"{old[0].id} (lifecycle state Standby)" in refused.stderr
    allowed = fresh.bootstrap("--expect", "1", "--assume-dead", old[0].id, "--start", "none")
    assert allowed.returncode == 0 and fresh.configuration["bootstrap_expect"] == 1
    # What an operator said once is not said again by the sidecar.
    assert "assume-dead" not in (
        fresh.read("/var/lib/consul-bootstrap/options.json")
        if fresh.exists("/var/lib/consul-bootstrap/options.json")
        else ""
    )


def test_a_network_cut_between_zones_during_a_rolling_upgrade(sandbox):
    tags = {"Name": "consul"}
    options = "--tag Name=consul --expect 3"
    old = replace(sandbox, 3, options, tags=tags, zone="eu-west-1a")
    healthy(*old)
    put(old[0])
    for member in old:
        sandbox.network.set_link(member.port, False)
    fresh = replace(sandbox, 3, options, tags=tags, zone="eu-west-1b")
    until(lambda: all("not known whether" in m.log for m in fresh), lambda: fresh[0].log)
    assert all(old[0].id in m.log and m.status is None for m in fresh)
    for member in old:
        sandbox.network.set_link(member.port, True)
    healthy(*fresh)
    assert all("decision: join " in decision(m) for m in fresh)
    one_cluster(*old, *fresh)


@pytest.mark.parametrize("start", ["supervise", "systemd"])
def test_a_desired_capacity_that_changes_while_the_servers_boot(sandbox, start):
    """Servers that wait for different numbers of others would never elect a leader."""
    systemd = start == "systemd"
    members = sandbox.launch_group(3, boot=False, systemd=systemd)
    user_data = "#!/bin/sh\nexec consul-bootstrap --verify-timeout 120s\n"
    for member in members[:2]:
        member.boot(user_data)
    until(lambda: all(m.exists("/etc/consul.d/00-consul-bootstrap.json") for m in members[:2]))
    assert {m.configuration["bootstrap_expect"] for m in members[:2]} == {3}
    sandbox.aws.set_desired("consul", 5)
    members += [sandbox.launch(group="consul", boot=False, systemd=systemd) for _ in range(2)]
    for member in members[2:]:
        member.boot(user_data)
    healthy(*members)
    assert {m.configuration["bootstrap_expect"] for m in members} == {5}
    assert any("the number of servers has changed" in m.log for m in members[:2])
    put(members[0])
    one_cluster(*members)
