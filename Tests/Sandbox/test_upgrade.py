"""Upgrades as `docs/upgrades.md` has them: by an instance refresh and by hand, under writes; releases beside each
other; a new server that is never healthy."""

import json
import os
import threading
import time

import pytest

from .aws import lifecycle_actions
from .conftest import healthy
from .lifecycle_api import LAUNCHING, TERMINATING
from .refresh import Refresh
from .sandbox import CONSUL
from .test_departure import Writing, addresses, logs, shrinks
from .test_one_cluster import one_cluster, put
from .test_return import systemd_group, voters
from .waiting import until

OPTIONS = "--lifecycle-hook launching --termination-hook terminating"
CLIENT = "#!/bin/sh\nexec consul-bootstrap --role client --group consul --start-jitter 0s\n"


def group_with_hooks(sandbox, count):
    members = sandbox.launch_group(count, expect=count, options=OPTIONS)
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.put_hook("consul", LAUNCHING, heartbeat=300, name="launching")
    sandbox.lifecycle.put_hook("consul", TERMINATING, heartbeat=300, name="terminating")
    sandbox.lifecycle.retain("consul")
    healthy(*members)
    put(members[0])
    return members


def completions(transition):
    return {a["instance"]: a for a in lifecycle_actions if a["hook"] == transition}


@pytest.mark.long
def test_a_refresh_replaces_every_server_and_loses_no_write(sandbox):
    """Launch before terminate: never fewer voters than before, and no old server goes before a new one is well."""
    old = group_with_hooks(sandbox, 3)
    client = sandbox.launch(user_data=CLIENT)
    healthy(client)
    observed, done = [voters(old[0])], threading.Event()

    def watch():
        while not done.wait(0.2):
            observed.append(voters(client) or observed[-1])

    watcher = threading.Thread(target=watch)
    watcher.start()
    since = time.monotonic()
    try:
        with Writing(client) as writing:
            refresh = Refresh(sandbox.lifecycle, "consul", warmup=1)
            until(lambda: refresh.has_ended and sandbox.lifecycle.settled("consul"), lambda: logs(*old), timeout=300)
    finally:
        done.set()
        watcher.join()
    new = sandbox.lifecycle.in_service("consul")
    print(f"three servers replaced in {time.monotonic() - since:.1f} s, {writing.failed} of {writing.written} failed")
    assert refresh.status == "Successful" and len(new) == 3 and not set(new) & set(old)
    launched, left = completions("launching"), completions("terminating")
    assert {i: a["result"] for i, a in launched.items()} == {m.id: "CONTINUE" for m in new}
    assert {i: a["result"] for i, a in left.items()} == {m.id: "CONTINUE" for m in old}
    # Each departure came after a launch.
    ends = sorted(a["time"] for a in left.values())
    assert all(a < b for a, b in zip(sorted(a["time"] for a in launched.values()), ends, strict=True))
    assert shrinks(observed) and min(map(len, observed)) == 3 and max(map(len, observed)) == 4
    assert voters(new[0]) == addresses(*new)
    one_cluster(*new)
    # An election for each leader that leaves: the outcome of the write that it interrupts is unknown.
    assert writing.failed <= 3, writing.outputs
    writing.acknowledged_are_there(client)


def is_healthy(member):
    return member.bootstrap("status", "--check").returncode == 0


@pytest.mark.long
def test_servers_are_replaced_by_hand(sandbox):
    """Seeds 002 and 003: a new one first; then leave, terminate, next; the leader is the last."""
    old = systemd_group(sandbox, 3)
    put(old[0])
    sandbox.lifecycle.manage("consul", "#!/bin/sh\nexec consul-bootstrap --expect 3\n", systemd=True)
    sandbox.lifecycle.shutdown = (0, 0.1)
    client = sandbox.launch(user_data=CLIENT)
    healthy(client)
    new = lambda: [m for m in sandbox.lifecycle.in_service("consul") if m not in old]
    sandbox.lifecycle.set_desired("consul", 4)
    remaining, observed = list(old), [voters(old[0])]
    with Writing(client) as writing:
        while remaining:
            until(lambda: sandbox.lifecycle.settled("consul") and all(map(is_healthy, new())), lambda: logs(*new()))
            observed.append(voters(client))
            assert len(observed[-1]) == 4
            leader = client.consul("/v1/status/leader")
            remaining.sort(key=lambda m: leader == f"{m.address}:8300")
            going = remaining.pop(0)
            preview = json.loads(going.bootstrap("leave", "--dry-run", "--json").stdout)
            assert (preview["decision"], preview["voters"]) == ("leave", 4), preview
            left = going.bootstrap("leave", "--wait", "10m")
            assert left.returncode == 0, left
            observed.append(voters(client))
            assert addresses(going)[0] not in observed[-1] and len(observed[-1]) == 3
            # Its agent ends some seconds later.
            state = lambda going=going: going.run("systemctl", "is-active", "consul").stdout.strip()
            until(lambda state=state: state() == "inactive", state)
            sandbox.lifecycle.terminate_in_group(going, decrement=not remaining)
    until(lambda: sandbox.lifecycle.settled("consul"), lambda: logs(*new()))
    assert len(new()) == 3 and voters(client) == addresses(*new()) and shrinks(observed)
    one_cluster(*new())
    assert writing.failed <= 3, writing.outputs
    writing.acknowledged_are_there(client)


def release(version):
    """Consul that says that it is another release: no second one can be had."""
    with open(CONSUL, "rb") as file:
        program = file.read()
    own = os.popen(f"{CONSUL} version").readline().split()[1].removeprefix("v").encode()
    assert program.count(own) == 1 and len(own) == len(version)
    return program.replace(own, version.encode())


def test_releases_beside_each_other_are_shown(sandbox):
    """In the middle of an upgrade by hand; a jump over a minor release is noted."""
    members = sandbox.launch_group(2, expect=3, boot=False)
    members.append(sandbox.launch(group="consul", boot=False))
    for member, version in zip(members, ("1.8.7", "1.7.9", "1.6.9"), strict=True):
        path = member.path("/usr/bin/consul")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(release(version))
        os.chmod(path, 0o755)
        member.boot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    healthy(*members)
    newest, middle, oldest = (m.id for m in members)
    text = f"1.6.9: {oldest}; 1.7.9: {middle}; 1.8.7: {newest}"
    for member in members:
        until(lambda member=member: text in member.bootstrap("status").stdout, member.bootstrap("status").stdout)
        status = member.bootstrap("status", "--json")
        assert f"more than one minor release apart ({text})" in json.loads(status.stdout)["notes"][0], status
        assert status.returncode == 0 and is_healthy(member)


@pytest.mark.long
def test_a_voter_that_is_not_healthy_does_not_complete_its_launch_hook(sandbox):
    """Once it votes, no follower hears from the leader often enough for autopilot: within a microsecond."""
    members = group_with_hooks(sandbox, 3)
    # The time that it would have to be healthy keeps its hook until then.
    waits = f"{OPTIONS} --server-stabilization-time 1h --verify-timeout 40s"
    sandbox.lifecycle.manage("consul", f"#!/bin/sh\nexec consul-bootstrap --expect 3 {waits}\n")
    sandbox.lifecycle.set_desired("consul", 4)
    (new,) = until(lambda: [m for m in sandbox.lifecycle.members("consul", "Pending") if m not in members])
    until(lambda: addresses(new)[0] in voters(members[0]), lambda: logs(new))
    command = ("consul", "operator", "autopilot", "set-config", "-last-contact-threshold")
    members[0].run(*command, "1us", check=True)
    until(lambda: "autopilot does not call this server healthy yet" in new.log, lambda: logs(new))
    # The group tries no other one.
    sandbox.aws.set_desired("consul", 3)
    until(lambda: new.id in completions("launching") or "has not left" in new.log, lambda: logs(new))
    # So that this one may leave: the others are healthy again.
    members[0].run(*command, "200ms", check=True)
    until(lambda: sandbox.lifecycle.settled("consul"), lambda: logs(*members))
    assert completions("launching")[new.id]["result"] == "ABANDON"
    assert completions("terminating")[new.id]["result"] == "CONTINUE"
    until(lambda: voters(members[0]) == addresses(*members), lambda: logs(*members))
    one_cluster(*members)
