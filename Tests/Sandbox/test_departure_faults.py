"""Bad input and faults while machines are to go: each is logged and bounded, nothing is lost, and none leaves without
the lock and the guard."""

import calendar
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from .faults import nft
from .lifecycle import TARGET
from .metadata import GARBAGE
from .test_departure import HOOK, SPOT, Writing, addresses, completed, logs, report, shrinks, supervised_group
from .test_one_cluster import put
from .test_reaper import leader
from .test_return import voters
from .waiting import until

REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
SCHEDULED = "/latest/meta-data/events/maintenance/scheduled"
# More than the client reads.
OVERSIZED = "[" * 300_000


def says(member, words):
    until(lambda: words in member.log, lambda: f"{words!r} is missing\n{logs(member)}")


def refused_documents(*members):
    """No document can be read; the instance's state is read as before afterwards."""
    states = {m.id: m.metadata.documents[TARGET] for m in members}
    for member in members:
        member.metadata.documents.update({TARGET: GARBAGE, SPOT: OVERSIZED})
    for member in members:
        says(member, "cannot watch for the termination of this instance")
        says(member, "cannot read the scheduled events of this instance")
        assert not report(member)
        member.metadata.documents[TARGET] = states[member.id]
        member.metadata.documents.pop(SPOT)


def test_two_of_three_go_at_once_each_with_faults_of_its_own(sandbox):
    members = sandbox.launch_group(3, expect=3, options=f"{HOOK} --leave-wait 5s", boot=False)
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.put_hook("consul")
    for member in members:
        member.metadata.documents.update({REBALANCE: GARBAGE, SCHEDULED: OVERSIZED})
        member.boot(sandbox.lifecycle.groups["consul"].user_data)
    until(lambda: all(" healthy leader=" in m.log for m in members), lambda: logs(*members))
    put(members[0])
    *going, last = members
    slow, elsewhere = going
    refused_documents(*going)
    slow.metadata.slow = 2.5
    faults = {elsewhere.id: sandbox.faults.aws("other-region", source=elsewhere)}
    elsewhere.metadata.freeze()
    observed = []

    def have_left():
        observed.append(voters(last) or (observed or [[]])[-1])
        # From the notice on.
        elsewhere.metadata.away |= "leaving the cluster" in elsewhere.log and elsewhere.id in faults
        for member in going:
            if member.id in faults and "cannot complete lifecycle hook hook; retrying" in member.log:
                assert not completed(member)
                sandbox.faults.end_aws(faults.pop(member.id))
                member.metadata.away, member.metadata.slow = False, 0
        return not faults and observed[-1] == addresses(last)

    with Writing(last) as writing:
        for member in going:
            sandbox.lifecycle.terminate_in_group(member, decrement=True)
        until(lambda: "leaving the cluster" in slow.log, lambda: logs(*members))
        faults[slow.id] = sandbox.faults.aws("throttle", source=slow)
        # Its documents are those of before.
        assert "leaving the cluster" not in elsewhere.log
        elsewhere.metadata.thaw()
        until(have_left, lambda: logs(*members))
    assert shrinks(observed)
    until(lambda: completed(*going) == ["CONTINUE"] * 2, lambda: f"{completed(*going)}\n{logs(*members)}")
    assert writing.failed <= 2, writing.outputs
    writing.acknowledged_are_there(last)


def lock(member):
    """Takes the lock to leave by hand, without an end; returns its session."""
    call = lambda path, body: (
        member.run(
            "curl", "-sS", "-X", "PUT", "-d", json.dumps(body), f"http://127.0.0.1:8500{path}", check=True
        ).stdout
    )
    session = json.loads(call("/v1/session/create", {"Name": "by hand", "LockDelay": "0s"}))["ID"]
    taken = call(f"/v1/kv/consul-bootstrap/leave?acquire={session}", {"instance": "i-by-hand"})
    assert taken.strip() == "true"
    return session


def journal(member):
    if not member.pid:
        return "it is off"
    return (
        f"{member.sandbox.lifecycle.events[-6:]}\n{report(member)}\n"
        + member.run("journalctl", "--no-pager", "-u", "consul-bootstrap", "-o", "cat").stdout
    )


def systemd_group(sandbox, count):
    sandbox.aws.create_group("consul", desired=count)
    members = [sandbox.launch(group="consul", boot=False, systemd=True) for _ in range(count)]
    sandbox.lifecycle.manage("consul")
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.put_hook("consul")
    for member in members:
        member.boot()
    # Autopilot would remove one that is cut off, and that is as good as a leave.
    options = [*HOOK.split(), "--cleanup-dead-servers", "false", "--leave-wait", "5s"]
    command = ["/usr/local/bin/consul-bootstrap", "--expect", str(count), *options]
    for run in [m.start(*command) for m in members]:
        output = run.finish()
        assert run.returncode == 0, output
    return members


def test_announcements_are_no_departure_and_a_departure_survives_its_faults(sandbox):
    members = systemd_group(sandbox, 3)
    put(members[0])
    first = leader(members)
    going, other = [m for m in members if m is not first]

    # What EC2 announces, where it is read at once.
    first.metadata.rebalance()
    first.metadata.scheduled("instance-retirement", 300)
    going.metadata.scheduled("system-reboot", 2 * 86_400)
    for member in (first, going):
        member.run("systemctl", "restart", "consul-bootstrap", check=True)
    until(lambda: "its release of Consul cannot hand leadership over" in journal(first), lambda: journal(first)[-2000:])
    status = first.bootstrap("status", "--check")
    assert status.returncode == 1 and "EC2 has scheduled instance-retirement" in status.stdout, status
    assert "hint: terminate the instance in its Auto Scaling group before then" in status.stdout, status
    found = json.loads(first.bootstrap("status", "--json").stdout)
    assert [n["kind"] for n in found["sidecar"]["report"]["notices"]] == ["rebalance", "scheduled"], found
    assert any("recommends to replace this spot instance" in note for note in found["notes"]), found
    until(lambda: "EC2 has scheduled system-reboot" in going.bootstrap("status").stdout, lambda: journal(going))
    assert going.bootstrap("status", "--check").returncode == 0
    assert not any(m.exists("/var/lib/consul-bootstrap/departure.json") for m in members)
    assert leader(members) is first and voters(first) == addresses(*members)

    # The lock is held by hand: nothing of what follows is a leave.
    session = lock(other)
    denied = sandbox.faults.aws("denied", source=going)
    sandbox.lifecycle.terminate_in_group(going, decrement=True)
    until(lambda: report(going).get("reason") == "i-by-hand leaves", lambda: journal(going))
    going.run("systemctl", "kill", "--signal", "KILL", "consul-bootstrap", check=True)
    assert sandbox.faults.pause_agent(going) == 1
    going.run("systemctl", "restart", "consul-bootstrap", check=True)
    until(lambda: "does not answer" in report(going).get("reason", ""), lambda: journal(going))
    sandbox.faults.resume(going)
    until(lambda: report(going).get("reason") == "i-by-hand leaves", lambda: journal(going))
    sandbox.faults.cut(going, aws=True)
    until(lambda: "knows no leader" in report(going).get("reason", ""), lambda: journal(going))
    assert addresses(going)[0] in voters(other) and not completed(going)
    sandbox.faults.heal()
    until(lambda: report(going).get("reason") == "i-by-hand leaves", lambda: journal(going))

    # The agent hangs once the leave has begun.
    other.run("curl", "-sS", "-X", "PUT", f"http://127.0.0.1:8500/v1/session/destroy/{session}", check=True)
    until(lambda: "this server leaves" in journal(going), lambda: journal(going))
    sandbox.faults.pause_agent(going, 2)
    until(lambda: "cannot complete lifecycle hook hook; retrying" in journal(going), lambda: journal(going))
    assert not completed(going)
    sandbox.faults.end_aws(denied)
    until(lambda: completed(going) == ["CONTINUE"], lambda: journal(going))
    assert voters(other) == addresses(first, other)


@pytest.fixture(scope="session")
def with_clock(tmp_path_factory):
    """Runs a program with a wall clock of its own."""
    path = tmp_path_factory.mktemp("clock") / "with-clock"
    source = pathlib.Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", path, source], check=True)
    return path


@pytest.mark.long
def test_a_clock_that_is_set_during_a_departure_changes_no_wait(sandbox, with_clock):
    """By ten minutes and by a year, in both directions. Only the program has this clock."""
    clock, binary = "/run/clock", "/usr/local/bin/consul-bootstrap"
    options = f"{HOOK} --leave-wait 60s --cleanup-dead-servers false"
    members = sandbox.launch_group(3, expect=3, options=options, boot=False)
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.put_hook("consul")
    user_data = sandbox.lifecycle.groups["consul"].user_data
    going, *others = members
    os.makedirs(os.path.dirname(going.path("/usr/local/bin/with-clock")), exist_ok=True)
    shutil.copy(with_clock, going.path("/usr/local/bin/with-clock"))
    going.boot(user_data.replace("exec consul-bootstrap", f"exec /usr/local/bin/with-clock {clock} {binary}"))
    for member in others:
        member.boot(user_data)
    until(lambda: all(" healthy leader=" in m.log for m in members), lambda: logs(*members))
    put(members[0])
    # The group wants another in its place, and launches none that votes.
    sandbox.lifecycle.groups["consul"].user_data = "#!/bin/sh\nexec sleep 1000\n"
    since = time.monotonic()
    sandbox.lifecycle.terminate_in_group(going)
    until(lambda: "waiting for a replacement" in report(going).get("reason", ""), lambda: logs(going))
    for offset in (600, -600, 31_536_000, -31_536_000):
        going.write(clock, str(offset))
        # A report that is written with the clock of now.
        year = time.gmtime(time.time() + offset).tm_year
        told = lambda year=year, offset=offset: (
            (seen := report(going).get("time", ""))
            and seen.startswith(str(year))
            and abs(calendar.timegm(time.strptime(seen[:19], "%Y-%m-%dT%H:%M:%S")) - time.time() - offset) < 60
        )
        until(told, lambda: f"{report(going)}\n{logs(going)}")
        assert "departure   waiting (termination)" in going.bootstrap("status").stdout
        assert addresses(going)[0] in voters(others[0])
    # The clock of 2025: the certificates of AWS are not valid yet.
    until(lambda: voters(others[0]) == addresses(*others), lambda: logs(going))
    assert time.monotonic() - since >= 60
    going.write(clock, "0")
    until(lambda: completed(going) == ["CONTINUE"], lambda: logs(going))


@pytest.mark.long
def test_an_agent_whose_api_hangs_may_still_have_the_vote_that_is_needed(sandbox):
    members = supervised_group(sandbox, 3, "--cleanup-dead-servers false --reap false")
    leads = leader(members)
    going, paused = [m for m in members if m is not leads]
    nft(going.namespace, "table inet api { chain in { type filter hook input priority 0; tcp dport 8500 drop; }; }")
    sandbox.faults.pause_agent(paused)
    sandbox.lifecycle.terminate_in_group(going, decrement=True)
    until(lambda: "it may still vote, and 1 of the others" in report(going).get("reason", ""), lambda: logs(going))
    assert not completed(going)
    sandbox.faults.resume(paused)
    # It ends as it would by itself; its vote is not needed any more.
    until(lambda: completed(going) == ["CONTINUE"], lambda: logs(*members))
    assert addresses(going)[0] in voters(leads)
