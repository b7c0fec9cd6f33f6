"""The main flow: the static binary, real Consul, and moto with signatures checked."""

import ipaddress
import os
import stat

from .aws import Fault, lifecycle_actions
from .conftest import healthy, peers
from .waiting import until

HOUR = 3600


def numeric(addresses):
    return sorted(addresses, key=ipaddress.ip_address)


def test_five_instances_become_one_datacenter(sandbox):
    members = sandbox.launch_group(5)
    healthy(*members)
    addresses = numeric(m.address for m in members)
    # Guards against sorting as text: 10.0.1.9 comes before 10.0.1.10.
    assert "10.0.1.9" in addresses and addresses.index("10.0.1.9") < addresses.index("10.0.1.10")
    for member in members:
        configuration = member.configuration
        assert configuration["retry_join"] == [a for a in addresses if a != member.address]
        assert configuration["bootstrap_expect"] == 5
        assert configuration["node_name"] == member.id
        assert configuration["client_addr"] == "127.0.0.1"
        status = os.stat(member.path("/etc/consul.d/00-consul-bootstrap.json"))
        assert stat.S_IMODE(status.st_mode) == 0o640 and (status.st_uid, status.st_gid) == (8500, 8500)
        until(lambda member=member: peers(member) == sorted(f"{a}:8300" for a in addresses), lambda: peers(members[0]))
    until(lambda: len(leaders := {member.consul("/v1/status/leader") for member in members}) == 1 and leaders.pop())
    # Exactly what the design allows: the own group once, then two calls a poll.
    actions = sorted(call["action"] for call in sandbox.aws.calls_from(members[0].address))
    assert actions == ["DescribeAutoScalingGroups", "DescribeAutoScalingInstances", "DescribeInstances"]
    # The agent runs as its own user, in a process group of its own.
    agent = members[0].run("ps", "-eo", "user:20,pid,pgid,args").stdout
    line = next(line for line in agent.splitlines() if "/usr/bin/consul agent" in line).split()
    assert line[0] in ("consul", "8500") and line[1] == line[2]


def test_join_leader_names_the_numerically_lowest_address_everywhere(sandbox):
    members = sandbox.launch_group(5, options="--join leader")
    healthy(*members)
    assert {tuple(m.configuration["retry_join"]) for m in members} == {("10.0.1.9",)}
    until(lambda: len(leaders := {m.consul("/v1/status/leader") for m in members}) == 1 and leaders.pop())


def test_a_terminated_member_is_replaced_without_bootstrap_expect(sandbox):
    for style in ("all", "leader"):
        sandbox.clear()
        members = sandbox.launch_group(5, options=f"--join {style}")
        healthy(*members)
        lowest = next(m for m in members if m.address == "10.0.1.9")
        sandbox.terminate(lowest)
        # With --join leader the replacement's own address may be the lowest: it must not join itself.
        replacement = sandbox.launch(
            group="consul",
            address="10.0.1.5",
            user_data=f"#!/bin/sh\nexec consul-bootstrap --expect 5 --join {style}\n",
        )
        healthy(replacement)
        assert "decision: join " in replacement.log
        configuration = replacement.configuration
        assert "bootstrap_expect" not in configuration
        assert "10.0.1.5" not in configuration["retry_join"] and configuration["retry_join"]
        until(lambda members=members: "10.0.1.5:8300" in peers(members[1]))


def test_a_joining_server_does_not_wait_for_a_full_group(sandbox):
    members = sandbox.launch_group(3)
    healthy(*members)
    sandbox.terminate(members[0])
    sandbox.aws.set_desired("consul", 5)
    replacement = sandbox.launch(group="consul", user_data="#!/bin/sh\nexec consul-bootstrap --expect 5\n")
    healthy(replacement)
    assert "waiting for the group" not in replacement.log


def test_a_reboot_rejoins_without_waiting_even_when_aws_is_away(sandbox):
    members = sandbox.launch_group(3)
    healthy(*members)
    member = members[2]
    # The leader may list a voter that has nothing on its own disk yet.
    until(lambda: member.consul("/v1/agent/self")["Stats"]["raft"]["last_log_index"] != "0")
    sandbox.aws.faults.append(Fault("5xx", source=member.address))
    member.reboot("#!/bin/sh\nAWS_MAX_ATTEMPTS=1 exec consul-bootstrap --expect 3\n")
    healthy(member)
    assert "decision: rejoin" in member.log
    assert "bootstrap_expect" not in member.configuration
    assert len(member.configuration["retry_join"]) == 2


def test_a_group_that_was_killed_before_its_first_election_still_becomes_a_cluster(sandbox):
    # The raft database exists by then, with an empty log: that is no state.
    members = sandbox.launch_group(3, boot=False)
    first = members[0]
    first.boot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    until(lambda: first.exists("/opt/consul/raft/raft.db") and first.consul("/v1/status/peers") == [])
    first.reboot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    for member in members[1:]:
        member.boot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    healthy(*members)
    assert first.log.count("decision: new cluster") == 1


def test_no_second_cluster_beside_a_survivor_that_has_lost_its_quorum(sandbox):
    members = sandbox.launch_group(3)
    healthy(*members)
    assert members[0].run("consul", "kv", "put", "precious", "data").returncode == 0
    stale = ("consul", "kv", "get", "-stale", "precious")
    # Committed is not yet applied everywhere.
    until(lambda: members[0].run(*stale).stdout.strip() == "data")
    sandbox.terminate(members[1])
    sandbox.terminate(members[2])
    until(lambda: members[0].consul("/v1/status/leader") == "")
    options = "--expect 3 --leader-wait 3s --verify-timeout 8s"
    fresh = [
        sandbox.launch(group="consul", user_data=f"#!/bin/sh\nexec consul-bootstrap {options}\n") for _ in range(2)
    ]
    until(lambda: all(m.status is not None for m in fresh))
    for member in fresh:
        assert member.status == 16
        decisions = [line for line in member.log.splitlines() if "decision:" in line]
        assert "decision: join without a leader" in decisions[0] and "lost its quorum" in member.log, decisions
        assert "consul-bootstrap recover" in member.log and "the agent knows no leader" in member.log
        assert "bootstrap_expect" not in member.configuration
    # Nothing was lost: the survivor still has the data.
    assert members[0].run(*stale).stdout.strip() == "data"


def test_a_replacement_whose_cluster_loses_its_quorum_meanwhile_waits_for_the_recovery(sandbox):
    """It ended at --verify-timeout with ABANDON, and so did each instance in its place."""
    members = sandbox.launch_group(3)
    healthy(*members)
    assert members[0].run("consul", "kv", "put", "precious", "data").returncode == 0
    fresh = sandbox.launch(group="consul", lifecycle="Pending:Wait", boot=False)
    fresh.boot("#!/bin/sh\nexec consul-bootstrap --expect 3 --verify-timeout 10s --lifecycle-hook boot\n")
    until(lambda: "decision: join" in fresh.log)
    for member in members[1:]:
        member.kill()
    until(lambda: "this boot waits for the recovery of its cluster" in fresh.log, lambda: fresh.log[-3000:])
    assert f"{members[0].address} has raft data and no leader" in fresh.log
    assert fresh.status is None and lifecycle_actions == []
    for member in members[1:]:
        member.boot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    until(lambda: [a["result"] for a in lifecycle_actions] == ["CONTINUE"], lambda: fresh.log[-3000:])
    healthy(*members, fresh)
    assert fresh.run("consul", "kv", "get", "precious").stdout.strip() == "data"


def test_members_held_by_a_launch_hook_count_and_the_hook_is_completed(sandbox):
    members = sandbox.launch_group(3, lifecycle="Pending:Wait", options="--lifecycle-hook boot")
    healthy(*members)
    until(lambda: len(lifecycle_actions) == 3)
    assert {a["instance"] for a in lifecycle_actions} == {m.id for m in members}
    assert {(a["hook"], a["group"], a["result"]) for a in lifecycle_actions} == {("boot", "consul", "CONTINUE")}


def test_a_failed_boot_abandons_its_launch_hook(sandbox):
    sandbox.aws.create_group("consul", desired=3)
    member = sandbox.launch(group="consul", lifecycle="Pending:Wait")
    result = member.bootstrap("--expect", "3", "--wait-timeout", "2s", "--lifecycle-hook", "boot")
    assert result.returncode == 13
    assert [a["result"] for a in lifecycle_actions] == ["ABANDON"]


def test_a_rolling_upgrade_by_tag_keeps_the_data(sandbox):
    """Seed 002: a second group beside the first, found by tag, takes over while the first one leaves."""
    options = "--tag Name=consul --tag Stage=prod --expect 3 --hostname consul-{instance_suffix}"
    user_data = f"#!/bin/sh\nexec consul-bootstrap {options}\n"
    tags = {"Name": "consul", "Stage": "prod"}
    # One tag of two, and the other VPC: neither is a member.
    sandbox.launch(tags={"Name": "consul"}, boot=False)
    sandbox.aws.run_instance("eu-west-1a", "10.0.1.77", tags=tags, subnet=sandbox.aws.other_subnet)
    blue = [sandbox.launch(tags=tags, boot=False) for _ in range(3)]
    for member in blue:
        member.boot(user_data)
    healthy(*blue)
    assert blue[0].run("hostname").stdout.strip() == "consul-" + blue[0].id.removeprefix("i-")
    assert blue[0].read("/etc/hostname") == blue[0].run("hostname").stdout
    assert blue[0].run("consul", "kv", "put", "precious", "data").returncode == 0
    green = [sandbox.launch(tags=tags, user_data=user_data) for _ in range(3)]
    healthy(*green)
    assert all("bootstrap_expect" not in m.configuration for m in green)
    until(lambda: len(peers(green[0])) == 6)
    for member in blue:
        # A shutdown: the supervisor gets SIGTERM, the agent leaves gracefully, its status is returned.
        assert member.signal_run(15)
        until(lambda member=member: member.status is not None)
        assert member.status == 0, member.log[-2000:]
        sandbox.terminate(member)
    until(lambda: len(peers(green[0])) == 3)
    assert green[0].run("consul", "kv", "get", "precious").stdout.strip() == "data"


def test_the_wait_reports_which_members_are_missing_and_why(sandbox):
    sandbox.aws.create_group("consul", desired=3)
    first = sandbox.launch(group="consul", boot=False)
    standby = sandbox.launch(group="consul", boot=False, lifecycle="Standby")
    late = sandbox.launch(group="consul", boot=False, hidden_for=HOUR)
    user_data = "#!/bin/sh\nexec consul-bootstrap --expect 3 --log-format json\n"
    first.boot(user_data)
    until(lambda: "waiting for the group" in first.log and first.log.endswith("\n"))
    assert f"{standby.id} (lifecycle state Standby)" in first.log
    assert f"{late.id} (not known to EC2 yet)" in first.log
    assert '"eligible":1' in first.log and '"expected":3' in first.log and '"elapsed":' in first.log
    sandbox.aws.set_lifecycle(standby.id, "InService")
    sandbox.aws.hidden.clear()
    standby.boot(user_data)
    late.boot(user_data)
    until(lambda: all('"message":"healthy"' in m.log for m in (first, standby, late)), lambda: first.log)


def test_the_default_for_expect_is_the_desired_capacity(sandbox):
    sandbox.aws.create_group("consul", desired=3)
    members = [sandbox.launch(group="consul", boot=False) for _ in range(3)]
    for member in members:
        member.boot("#!/bin/sh\nexec consul-bootstrap\n")
    healthy(*members)
    assert members[0].configuration["bootstrap_expect"] == 3


def test_several_groups_make_one_cluster(sandbox):
    for zone in ("a", "b"):
        sandbox.aws.create_group(f"consul-{zone}")
    members = [sandbox.launch(zone=f"eu-west-1{zone}", group=f"consul-{zone}", boot=False) for zone in "aab"]
    for member in members:
        member.boot("#!/bin/sh\nexec consul-bootstrap --group consul-a --group consul-b\n")
    healthy(*members)
    until(lambda: {len(peers(m)) for m in members} == {3})


def test_supervising_takes_little_memory(sandbox):
    members = sandbox.launch_group(3)
    healthy(*members)
    until(lambda: members[0].resident() <= 20, lambda: members[0].resident())
