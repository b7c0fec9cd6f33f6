"""A machine that is to go leaves its cluster first: one at a time, and only while the others keep their quorum."""

import itertools
import json
import time

import pytest

from .acls import MASTER, change, denying_group, grant, rules
from .aws import lifecycle_actions
from .conftest import healthy
from .test_one_cluster import one_cluster, put
from .test_reaper import leader
from .test_return import WRITER, systemd_group, voters
from .waiting import until

HOOK = "--termination-hook hook"
SPOT = "/latest/meta-data/spot/instance-action"
REPORT = "/var/lib/consul-bootstrap/departure.json"


def supervised_group(sandbox, count, options="", **hook):
    members = sandbox.launch_group(count, expect=count, options=f"{HOOK} {options}")
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.put_hook("consul", **hook)
    healthy(*members)
    put(members[0])
    return members


def completed(*members):
    """The results of the hooks of these instances, in order."""
    ids = [m.id for m in members]
    return [a["result"] for a in lifecycle_actions if a["instance"] in ids]


def addresses(*members):
    return sorted(f"{m.address}:8300" for m in members)


def report(member):
    return json.loads(member.read(REPORT)) if member.exists(REPORT) else {}


def logs(*members):
    return "\n".join(f"--- {m.id} {m.address}\n{m.log[-3000:]}" for m in members)


def failed(member):
    """Addresses of those that gossip takes for dead; one that has left is not."""
    return [m["Addr"] for m in member.consul("/v1/agent/members") if m["Status"] == 4]


def shrinks(observed):
    """The raft configuration never lost two servers between two looks."""
    return all(len(set(before) - set(after)) <= 1 for before, after in itertools.pairwise(observed))


class Writing:
    """Writes through members, and counts those that fail."""

    def __init__(self, *members):
        self.members = members

    def __enter__(self):
        self.writers = [m.start("/usr/bin/python3", "-c", WRITER, f"by-{m.id}") for m in self.members]
        return self

    def __exit__(self, error, *_):
        for member in self.members:
            member.write("/tmp/returned", "")
        self.outputs = [writer.finish() for writer in self.writers]
        ends = [output.splitlines()[-1].split() for output in self.outputs]
        self.written = {m.id: int(end[1]) for m, end in zip(self.members, ends, strict=True)}
        self.failed = sum(int(end[3]) for end in ends)

    def acknowledged_are_there(self, member):
        for m, output in zip(self.members, self.outputs, strict=True):
            failed = {int(line.split()[1]) for line in output.splitlines() if line.startswith("failed ")}
            keys = {int(key.split("/")[1]) for key in member.consul(f"/v1/kv/by-{m.id}?keys&consistent")}
            assert set(range(1, self.written[m.id] + 1)) - failed <= keys


def test_four_of_five_go_one_after_the_other(sandbox):
    """Four that leave at once end the cluster for good: the fifth has five voters and no leader."""
    members = supervised_group(sandbox, 5)
    since = time.monotonic()
    sandbox.lifecycle.set_desired("consul", 1)
    going = sandbox.lifecycle.members("consul", "Terminating")
    (last,) = [m for m in members if m not in going]
    observed = []

    def watch():
        observed.append(voters(last) or (observed or [[]])[-1])
        return len(completed(*going)) == 4

    with Writing(last) as writing:
        until(watch, lambda: logs(*members))
    print(f"four left in {time.monotonic() - since:.1f} s, {writing.failed} writes failed of {writing.written}")
    assert completed(*going) == ["CONTINUE"] * 4 and shrinks(observed)
    until(lambda: voters(last) == addresses(last))
    assert not failed(last)
    assert writing.failed <= 4, writing.outputs
    writing.acknowledged_are_there(last)


def test_a_leave_that_would_take_the_quorum_waits(sandbox):
    members = supervised_group(sandbox, 3, "--cleanup-dead-servers false")
    going, dead, other = members
    pid = dead.run("pgrep", "-x", "consul").stdout.strip()
    dead.run("kill", "-STOP", pid, check=True)
    until(lambda: any(m["Status"] == 4 for m in other.consul("/v1/agent/members")))
    sandbox.lifecycle.terminate_in_group(going, decrement=True)
    until(lambda: "1 of 2 voters are well" in report(going).get("reason", ""), lambda: logs(going))
    assert addresses(going)[0] in voters(going) and not completed(going)
    status = going.bootstrap("status")
    assert "1 of 2 voters are well" in status.stdout, status
    dead.run("kill", "-CONT", pid, check=True)
    until(lambda: completed(going) == ["CONTINUE"], lambda: logs(*members))
    assert voters(other) == addresses(dead, other)
    assert [c for c in sandbox.aws.calls if c["action"] == "RecordLifecycleActionHeartbeat"]


@pytest.mark.long
@pytest.mark.parametrize("noticed", ["as they die", "once they have failed", "once they are terminated"])
def test_dead_voters_are_removed_to_make_room_for_a_leave(sandbox, noticed):
    """Two of five are dead, and still voters: a third that left would take the quorum. 45 s from the notice on; gossip
    needs some seconds more to notice a death, and has to be sure for 30 s."""
    members = supervised_group(sandbox, 5, "--cleanup-dead-servers false")
    first = leader(members)
    *dead, going, other = [m for m in members if m is not first]
    sandbox.aws.group("consul").desired_capacity -= 2
    since = time.monotonic()
    for member in dead:
        sandbox.terminate(member)
        if noticed == "once they are terminated":
            sandbox.aws.set_state(member.id, "shutting-down")
    noted = lambda: len(failed(other)) == 2
    if noticed != "as they die":
        until(noted)
    if noticed == "once they are terminated":
        # Gossip is sure, and EC2 takes longer.
        until(lambda: time.monotonic() - since > 40)
        for member in dead:
            sandbox.aws.set_state(member.id, "terminated")
    notice = time.monotonic()
    sandbox.lifecycle.terminate_in_group(going, decrement=True)
    seconds = lambda: time.monotonic() - notice
    found = {}

    def has_left():
        seen = voters(other)
        if seen and len(seen) < 5:
            found.setdefault("removed", seconds())
        if seen and addresses(going)[0] not in seen:
            found.setdefault("left", seconds())
        return completed(going)

    until(has_left, lambda: logs(*members))
    print(f"{noticed}: {found}, completed after {seconds():.1f} s")
    assert completed(going) == ["CONTINUE"]
    assert found["left"] <= (60 if noticed == "as they die" else 45), found


def test_a_server_that_may_not_leave_is_abandoned_and_retained(sandbox):
    """Near the end of the hook's global time-out; with the retention trigger the instance stays, and its vote."""
    members = supervised_group(sandbox, 2, heartbeat=30, global_timeout=75)
    sandbox.lifecycle.retain("consul")
    going, other = members
    pid = other.run("pgrep", "-x", "consul").stdout.strip()
    other.run("kill", "-STOP", pid, check=True)
    sandbox.lifecycle.terminate_in_group(going, decrement=True)
    until(lambda: completed(going) == ["ABANDON"], lambda: logs(going))
    assert sandbox.lifecycle.state(going) == "Terminating:Retained"
    # The others are back: it leaves, and ends.
    other.run("kill", "-CONT", pid, check=True)
    until(lambda: voters(other) == addresses(other), lambda: logs(*members))


def test_a_spot_instance_leaves_before_it_ends(sandbox):
    members = supervised_group(sandbox, 3)
    going, *others = members
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
    since = time.monotonic()
    going.metadata.documents[SPOT] = json.dumps({"action": "terminate", "time": end})
    until(lambda: voters(others[0]) == addresses(*others), lambda: logs(going))
    print(f"left {time.monotonic() - since:.1f} s after the notice")
    until(lambda: report(going).get("phase") == "left", lambda: report(going))


def test_servers_whose_units_stop_at_once_leave_one_after_the_other(sandbox):
    """The unit's stop goes through the guard: what would take the quorum stays a voter, and returns with its data."""
    members = systemd_group(sandbox, 3)
    put(members[0])
    *stopping, last = members
    stops = [m.start("systemctl", "stop", "consul") for m in stopping]
    for stop in stops:
        stop.finish()
    # The end by SIGTERM is no failure of the unit.
    assert {m.run("systemctl", "is-failed", "consul").stdout.strip() for m in stopping} == {"inactive"}
    kept = [m for m in stopping if report(m)["phase"] == "kept"]
    gone = [m.address for m in stopping if m not in kept]
    assert not set(failed(last)) & set(gone), logs(*members)
    for member in kept:
        member.run("systemctl", "start", "consul", check=True)
    until(lambda: voters(last) == addresses(last, *kept), lambda: voters(last))
    one_cluster(last, *kept)


def test_a_reboot_is_no_departure(sandbox):
    members = systemd_group(sandbox, 3)
    put(members[0])
    member = members[0]
    member.restart()
    until(lambda: member.consul("/v1/status/leader") and voters(member) == addresses(*members))
    assert not member.exists(REPORT)
    one_cluster(*members)


def test_a_server_without_its_configuration_stays_when_its_unit_restarts(sandbox):
    """It took the raft configuration for one that does not name it, and left without the lock and the guard."""
    members = systemd_group(sandbox, 3)
    put(members[0])
    member, other, _ = members
    member.run("rm", "/etc/consul.d/00-consul-bootstrap.json", check=True)
    member.run("systemctl", "restart", "consul")
    assert report(member)["phase"] == "kept" and "does not tell the address" in report(member)["reason"], report(member)
    assert voters(other) == addresses(*members)


def test_a_person_asks_for_it(sandbox):
    members = supervised_group(sandbox, 3, "--cleanup-dead-servers false")
    member, other, third = members
    preview = json.loads(member.bootstrap("leave", "--dry-run", "--json").stdout)
    assert (preview["decision"], preview["voters"], preview["quorum_after"]) == ("leave", 3, 2), preview
    assert [o["well"] for o in preview["others"]] == [True, True]
    pid = third.run("pgrep", "-x", "consul").stdout.strip()
    third.run("kill", "-STOP", pid, check=True)
    until(lambda: any(m["Status"] == 4 for m in other.consul("/v1/agent/members")))
    refused = member.bootstrap("leave", "--wait", "1s")
    assert refused.returncode == 19 and "1 of 2 voters are well" in refused.stderr, refused
    third.run("kill", "-CONT", pid, check=True)
    result = member.bootstrap("leave", "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["outcome"] == "left", result
    assert voters(other) == addresses(other, third)
    # Its agent has ended, and nothing starts it again.
    until(lambda: member.status == 0, lambda: member.log[-2000:])


def test_a_person_ends_a_server_that_is_held_without_a_leader(sandbox):
    """Its agent hung up by itself, no other confirmed that, and the hook was held to its end, and abandoned."""
    members = supervised_group(sandbox, 2, "--cleanup-dead-servers false")
    going, dead = members
    dead.run("kill", "-STOP", dead.run("pgrep", "-x", "consul").stdout.strip(), check=True)
    sandbox.lifecycle.terminate_in_group(going, decrement=True)
    until(lambda: "the agent knows no leader" in report(going).get("reason", ""), lambda: logs(going))
    assert not completed(going)
    result = going.bootstrap("leave", "--force", "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["outcome"] == "left", result
    until(lambda: completed(going) == ["CONTINUE"], lambda: logs(going))


def test_by_force_the_only_server_leaves(sandbox):
    (member,) = supervised_group(sandbox, 1)
    result = member.bootstrap("leave", "--force")
    assert result.returncode == 0 and "voters      1, a quorum is 1" in result.stdout, result
    until(lambda: member.status == 0, lambda: logs(member))


def test_a_client_leaves_the_catalog_before_its_hook_is_completed(sandbox):
    servers = sandbox.launch_group(1, expect=1)
    healthy(*servers)
    sandbox.aws.create_group("web", desired=2)
    user_data = f"#!/bin/sh\nexec consul-bootstrap --role client --group consul --start-jitter 0s {HOOK}\n"
    clients = [sandbox.launch(group="web", user_data=user_data) for _ in range(2)]
    sandbox.lifecycle.manage("web", user_data)
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.put_hook("web")
    healthy(*clients)
    going, stays = clients
    sandbox.lifecycle.terminate_in_group(going, decrement=True)
    until(lambda: completed(going) == ["CONTINUE"], lambda: logs(going))
    nodes = [node["Address"] for node in servers[0].consul("/v1/catalog/nodes")]
    assert stays.address in nodes
    until(lambda: going.address not in [n["Address"] for n in servers[0].consul("/v1/catalog/nodes")])


def test_with_acls_the_documented_rules_are_enough(sandbox):
    members = denying_group(sandbox, 3)
    going, *others = members
    documented = rules("## Leaving")
    assert "session_prefix" in documented
    grant(going, "\n".join(line for line in documented.splitlines() if "session" not in line))
    refused = going.bootstrap("leave", "--wait", "3s")
    assert refused.returncode == 19 and "its token needs session:write" in refused.stderr, refused
    change(going, documented)
    # Agents keep what they know of a token for 30 s.
    until(lambda: going.bootstrap("leave", "--wait", "10s").returncode == 0, lambda: logs(going))
    wanted = addresses(*others)
    raft = lambda: others[0].consul(f"/v1/operator/raft/configuration?token={MASTER}") or {}
    until(lambda: sorted(s["Address"] for s in raft().get("Servers", [])) == wanted, raft)
