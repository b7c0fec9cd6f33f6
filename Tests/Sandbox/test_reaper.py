"""Dead members are removed by the leader's sidecar: from raft and from the catalog, and never one that may run."""

import re
import time

import pytest

from .acls import MASTER, change, denying_group, grant, rules
from .conftest import healthy
from .lies import reuse
from .test_return import voters
from .waiting import until

CLIENT = "#!/bin/sh\nexec consul-bootstrap --role client --group consul --start-jitter 0s {}\n"


def servers(sandbox, count=3, options=""):
    """Autopilot would remove a dead server by itself."""
    members = sandbox.launch_group(count, options=f"--cleanup-dead-servers false {options}")
    healthy(*members)
    return members


def clients(sandbox, count, options=""):
    launched = [sandbox.launch(user_data=CLIENT.format(options)) for _ in range(count)]
    healthy(*launched)
    return launched


def leader(members):
    def find():
        found = [m.consul("/v1/status/leader") for m in members]
        return next((m for m in members if found and f"{m.address}:8300" in found), None)

    return until(find)


def nodes(member, token=""):
    """Names in the catalog, and those of the members, also of those that have failed."""
    found = member.consul(f"/v1/catalog/nodes?token={token}") or []
    known = member.consul(f"/v1/agent/members?token={token}") or []
    return {n["Node"] for n in found}, {m["Name"] for m in known}


def named(member, token=""):
    """Instance and zone, as the catalog has them for each node."""
    found = member.consul(f"/v1/catalog/nodes?token={token}") or []
    metas = {n["Node"]: n["Meta"] or {} for n in found}
    return {node: (meta.get("instance_id"), meta.get("availability_zone")) for node, meta in metas.items()}


def failed(member, *others):
    found = {m["Name"] for m in member.consul("/v1/agent/members") or [] if m["Status"] == 4}
    return {o.id for o in others} <= found


def logs(*members):
    return "\n".join(f"--- {m.id} {m.address}\n{m.log[-3000:]}" for m in members)


def is_out(dead, member):
    return f"{dead.address}:8300" not in voters(member) and all(dead.id not in names for names in nodes(member))


def removed(dead, member, since):
    """Waits until a member is neither in raft, nor in the catalog, nor in gossip, and prints after how long."""
    until(lambda: is_out(dead, member), lambda: f"{voters(member)} {nodes(member)}\n{logs(member)}")
    seconds = time.monotonic() - since
    print(f"{dead.id} is out of raft, members and catalog after {seconds:.1f} s")


def evidence(member, dead):
    (line,) = [line for line in member.log.splitlines() if "removed a dead" in line and dead.id in line]
    return line


@pytest.mark.parametrize("victim", ["follower", pytest.param("leader", marks=pytest.mark.long)])
def test_a_terminated_server_and_a_client_are_out_soon_and_a_stopped_one_stays(sandbox, victim):
    members = servers(sandbox, 5)
    gone, stopped = clients(sandbox, 2)
    before = leader(members)
    # Each agent registers its own.
    wanted = {m.id: (m.id, m.zone) for m in [*members, gone, stopped]}
    until(lambda: named(before) == wanted, lambda: f"{named(before)}")
    dead = before if victim == "leader" else next(m for m in members if m is not before)
    rest = [m for m in members if m is not dead]
    calls = len(sandbox.aws.calls)
    sandbox.vanish(stopped)
    sandbox.aws.client("ec2").stop_instances(InstanceIds=[stopped.id])
    since = time.monotonic()
    sandbox.terminate(dead)
    sandbox.terminate(gone)
    now = leader(rest)
    removed(dead, now, since)
    removed(gone, now, since)
    # The stopped one has failed for as long.
    until(lambda: f'node="{stopped.id}"' in now.log or "is not proven dead" in now.log, lambda: logs(now))
    assert failed(now, stopped) and stopped.id in nodes(now)[0]
    for one in (dead, gone):
        line = evidence(now, one)
        assert f"{one.id} is terminated by two answers that report {now.id} as running" in line
    assert not any("removed a dead" in m.log for m in rest if m is not now)
    asked = [c for c in sandbox.aws.calls[calls:] if c["action"] == "DescribeInstances"]
    print(f"{len(asked)} calls of DescribeInstances by {len(rest)} servers")
    assert len(voters(now)) == 4


@pytest.mark.long
def test_a_fleet_of_clients_is_out_in_two_minutes(sandbox):
    """72 hours without it."""
    members = servers(sandbox, 3)
    fleet = clients(sandbox, 8)
    since = time.monotonic()
    for client in fleet:
        sandbox.terminate(client)
    now = leader(members)
    for client in fleet:
        removed(client, now, since)
    assert nodes(now)[0] == {m.id for m in members}


# False answers of AWS. Every one has to be withdrawn before the dead are removed: it was the answer that kept them.


def reasons(member):
    """Why each suspect stays, by node; the last one."""
    lines = re.findall(r'not proven dead, and stays .*node="?([^ "]+).* reason="([^"]*)"', member.log)
    return dict(lines)


def stay(member, expected):
    """Waits until the leader has judged every one of these with the reason that is expected."""
    until(
        lambda: all(words in reasons(member).get(one.id, "") for one, words in expected.items()),
        lambda: f"{ {m.id: w for m, w in expected.items()} }\n{reasons(member)}\n{logs(member)}",
    )
    assert "removed a dead" not in member.log
    known = nodes(member)
    assert all(one.id in known[0] and one.id in known[1] for one in expected)


@pytest.mark.long
def test_false_answers_about_an_instance_remove_nothing(sandbox):
    members = servers(sandbox, 5)
    now = leader(members)
    listed = next(m for m in members if m is not now)
    lived, paused, unknown, dead, forgotten, replaced = clients(sandbox, 6)
    lies = sandbox.aws.lies
    # Those that run.
    lies.tell("terminated", lived)
    lies.tell("terminated", paused)
    lies.tell("not-found", unknown)
    for one in (paused, unknown):
        sandbox.faults.pause_agent(one, 3600)
    # Those that do not.
    lies.tell("in-service", listed)
    lies.tell("running", dead)
    lies.tell("forgotten", forgotten)
    for one in (listed, dead, forgotten, replaced):
        sandbox.terminate(one)
    new = reuse(sandbox, replaced, user_data=CLIENT.format(""))
    healthy(new)
    stay(
        now,
        {
            paused: "its gossip port accepts connections",
            unknown: f"EC2 has never known {unknown.id}: it may be of another account or region",
            listed: f"Auto Scaling lists {listed.id} as InService",
            dead: f"EC2 reports {dead.id} as running",
            forgotten: f"EC2 has never known {forgotten.id}: it may be of another account or region",
            replaced: f"{new.id} is alive and has its address or its instance ID",
        },
    )
    assert lived.id in nodes(now)[0] and f"{listed.address}:8300" in voters(now)
    for one in (paused, unknown):
        sandbox.faults.resume(one)
    until(lambda: not failed(now, paused) and not failed(now, unknown), lambda: logs(now))
    lies.clear()
    until(lambda: all(is_out(one, now) for one in (listed, dead, forgotten)), lambda: f"{nodes(now)}\n{logs(now)}")
    assert {one.id for one in (lived, paused, unknown, new)} <= nodes(now)[0]


@pytest.mark.long
@pytest.mark.parametrize("lie", ["empty", "other-region", "own-missing"])
def test_an_answer_without_the_asking_instance_removes_nothing(sandbox, lie):
    members = servers(sandbox, 3)
    now = leader(members)
    dead = next(m for m in members if m is not now)
    gone, paused = clients(sandbox, 2)
    sandbox.aws.lies.tell(lie)
    sandbox.faults.pause_agent(paused, 3600)
    for one in (dead, gone):
        sandbox.terminate(one)
    words = f"EC2 reports this instance, {now.id}, not at all: its answer proves nothing"
    stay(now, dict.fromkeys((dead, gone, paused), words))
    assert f"{dead.address}:8300" in voters(now)
    sandbox.faults.resume(paused)
    until(lambda: not failed(now, paused), lambda: logs(now))
    sandbox.aws.lies.clear()
    until(lambda: is_out(dead, now) and is_out(gone, now), lambda: f"{nodes(now)}\n{logs(now)}")
    assert paused.id in nodes(now)[0]


@pytest.mark.long
def test_with_acls_the_documented_rules_are_enough_and_what_is_missing_is_named(sandbox):
    members = denying_group(sandbox, 3, "--cleanup-dead-servers false")
    now = leader(members)
    dead = next(m for m in members if m is not now)
    documented = rules("## Dead members")
    assert "operator" in documented
    grant(now, documented.replace('operator = "write"', 'operator = "read"'))
    wanted = {m.id: (m.id, m.zone) for m in members}
    until(lambda: named(now, MASTER) == wanted, lambda: f"{named(now, MASTER)}")
    since = time.monotonic()
    sandbox.terminate(dead)
    until(lambda: "cannot remove dead members" in now.log, lambda: logs(now))
    assert "hint: set --agent-token to a token with operator:write" in now.log, logs(now)
    # The report is written every 30 s.
    until(
        lambda: "cannot remove dead members" in now.bootstrap("status").stdout,
        lambda: f"{now.bootstrap('status').stdout}\n{logs(now)}",
        every=1,
    )
    change(now, documented)
    until(lambda: dead.id not in nodes(now, MASTER)[0] | nodes(now, MASTER)[1], lambda: logs(now))
    print(f"out {time.monotonic() - since:.1f} s after its end")
