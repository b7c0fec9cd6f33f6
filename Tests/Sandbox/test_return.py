"""Servers that come back after the others have changed: without help, and without disturbing the living.

Every test writes a key before, and reads it through every server afterwards."""

import json
import time

import pytest

from .conftest import healthy, peers
from .test_one_cluster import one_cluster, put, replace
from .waiting import until

WRITER = """
import os, sys, time, urllib.request
count = failed = 0
# A leader that is lost answers no write; the last one is after the return.
while count == 0 or not os.path.exists("/tmp/returned"):
    count += 1
    body = b"%d" % count
    request = urllib.request.Request(f"http://127.0.0.1:8500/v1/kv/{sys.argv[1]}/{count}", body, method="PUT")
    try:
        if urllib.request.urlopen(request, timeout=10).read().strip() != b"true":
            raise OSError("false")
    except OSError as error:
        failed += 1
        print("failed", count, error)
    time.sleep(0.02)
print("written", count, "failed", failed)
"""


def raft(member):
    """The leader and the term, as a server knows them; the term counts every campaign that reached it."""
    return member.consul("/v1/status/leader"), member.consul("/v1/agent/self")["Stats"]["raft"]["term"]


def voters(member):
    servers = (member.consul("/v1/operator/raft/configuration") or {}).get("Servers", [])
    return sorted(server["Address"] for server in servers if server["Voter"])


def replace_all(sandbox, old):
    """Replaces these servers of a living cluster by as many others; they leave in order."""
    fresh = replace(sandbox, len(old), group="consul")
    healthy(*fresh)
    living = [*old, *fresh]
    for member in old:
        # A server that is off still counts until it is removed: an earlier leave would take the quorum.
        wanted = sorted(f"{m.address}:8300" for m in living)
        until(lambda wanted=wanted: voters(fresh[0]) == wanted, lambda: voters(fresh[0]))
        member.run("consul", "leave")
        living.remove(member)
        sandbox.terminate(member)
    gone(old[-1], fresh)
    return fresh


def gone(member, fresh):
    """The cluster has removed a server that is off."""
    until(lambda: f"{member.address}:8300" not in peers(fresh[0]), lambda: peers(fresh[0]))


def renamed(member):
    return member.run("sh", "-c", "ls -d /opt/consul/raft.*").stdout.split()


def returned(member, fresh, since):
    """Waits until a server is a voter of the cluster of the others, and prints how long it took."""
    wanted = sorted(f"{m.address}:8300" for m in [member, *fresh])
    until(lambda: peers(fresh[0]) == wanted and member.consul("/v1/status/leader"), lambda: told(member, fresh))
    named = time.monotonic() - since
    until(lambda: voters(fresh[0]) == wanted and peers(member) == wanted, lambda: told(member, fresh))
    # Autopilot promotes a server after 10 s, at its next look, which comes every 10 s.
    print(f"in raft after {named:.1f} s, a voter after {time.monotonic() - since:.1f} s")
    one_cluster(member, *fresh)


def told(member, fresh):
    journal = member.run("journalctl", "--no-pager", "-u", "consul*").stdout if member.systemd else ""
    return voters(fresh[0]), member.log[-3000:], journal[-6000:]


class Undisturbed:
    """Writes through living servers, and none of them fails, while another one returns; no leadership is lost."""

    def __init__(self, living):
        self.living = living

    def __enter__(self):
        until(lambda: raft(self.living[0])[0])
        self.before = raft(self.living[0])
        self.writers = [m.start("/usr/bin/python3", "-c", WRITER, f"by-{m.id}") for m in self.living]
        return self

    def __exit__(self, error, *_):
        for member in self.living:
            member.write("/tmp/returned", "")
        outputs = [writer.finish() for writer in self.writers]
        if error:
            return
        assert all("failed 0" in output.splitlines()[-1] for output in outputs), outputs
        assert raft(self.living[0]) == self.before
        counts = [int(output.splitlines()[-1].split()[1]) for output in outputs]
        self.keys = {f"by-{m.id}": count for m, count in zip(self.living, counts, strict=True)}


def systemd_group(sandbox, count):
    sandbox.aws.create_group("consul", desired=count)
    members = [sandbox.launch(group="consul", boot=False, systemd=True) for _ in range(count)]
    for member in members:
        member.boot()
    for run in [m.start("/usr/local/bin/consul-bootstrap", "--expect", str(count)) for m in members]:
        output = run.finish()
        assert run.returncode == 0, output
    return members


def test_a_server_that_was_off_while_all_others_were_replaced_returns_by_itself(sandbox):
    """A plain boot: user-data does not run again."""
    *others, member = systemd_group(sandbox, 3)
    put(others[0])
    member.kill()
    fresh = replace_all(sandbox, others)
    gone(member, fresh)
    with Undisturbed(fresh):
        since = time.monotonic()
        member.boot()
        returned(member, fresh, since)
    assert len(renamed(member)) == 1 and "raft.removed." in renamed(member)[0]
    assert "bootstrap_expect" not in member.configuration
    until(lambda: member.configuration["retry_join"] == sorted(m.address for m in fresh))


def test_a_server_that_has_left_runs_its_user_data_again(sandbox):
    members = sandbox.launch_group(3)
    healthy(*members)
    put(members[0])
    member, *living = members
    assert member.run("consul", "leave").returncode == 0
    until(lambda: member.status == 0)
    gone(member, living)
    with Undisturbed(living) as writing:
        since = time.monotonic()
        run = member.start_bootstrap("--expect", "3")
        until(lambda: " healthy leader=" in run.output or run.poll() is not None, lambda: run.output)
        print(f"healthy after {time.monotonic() - since:.1f} s")
        assert run.poll() is None, run.output
    one_cluster(*members)
    # What was written is there, through the server that has returned.
    for prefix, count in writing.keys.items():
        assert len(member.consul(f"/v1/kv/{prefix}?keys&consistent")) == count


def test_a_server_that_was_cut_off_while_all_others_were_replaced_returns_by_itself(sandbox):
    members = sandbox.launch_group(3)
    healthy(*members)
    put(members[0])
    *others, member = members
    sandbox.network.set_link(member.port, False)
    # The new servers hear of it as of one that left: their leader adds it again only after another word of it.
    gone(member, others)
    fresh = replace_all(sandbox, others)
    with Undisturbed(fresh):
        since = time.monotonic()
        sandbox.network.set_link(member.port, True)
        returned(member, fresh, since)
    assert len(renamed(member)) == 1 and "raft.removed." in renamed(member)[0]
    assert "the leader has not added this server" in member.log
    assert json.loads(member.run("cat", "/var/lib/consul-bootstrap/instance.json").stdout)["instance_id"] == member.id


def identity(member):
    return json.loads(member.read("/var/lib/consul-bootstrap/cluster.json"))["cluster"]


def is_named(*members):
    """Every server knows the name of its cluster."""
    until(lambda: all(m.exists("/var/lib/consul-bootstrap/cluster.json") for m in members))
    assert len({identity(m) for m in members}) == 1


def test_a_server_with_the_data_of_another_cluster_is_noticed_before_it_starts(sandbox):
    """raft would take it back as a voter: the name in its state directory says that its data is foreign."""
    members = systemd_group(sandbox, 3)
    put(members[0])
    is_named(*members)
    leader = members[0].consul("/v1/status/leader")
    member = next(m for m in members if f"{m.address}:8300" != leader)
    living = [m for m in members if m is not member]
    member.run("systemctl", "disable", "--now", "consul-bootstrap", check=True)
    member.run("systemctl", "kill", "--signal=SIGKILL", "consul", check=True)
    name = identity(member)
    path = "/var/lib/consul-bootstrap/cluster.json"
    member.write(path, member.read(path).replace(name, "00000000-0000-4000-8000-000000000000"))
    with Undisturbed(living):
        member.run("systemctl", "restart", "consul", check=True)
        returned(member, living, time.monotonic())
    assert len(renamed(member)) == 1 and "raft.diverged." in renamed(member)[0]
    journal = member.run("journalctl", "--no-pager", "-u", "consul").stdout
    assert "it held the data of cluster 00000000-0000-4000-8000-000000000000" in journal
    member.run("systemctl", "start", "consul-bootstrap", check=True)
    until(lambda: member.exists(path) and identity(member) == name)


@pytest.mark.long
def test_a_server_with_the_data_of_another_cluster_is_noticed_and_joins_empty(sandbox):
    """raft itself takes it as a voter, with its old keys and without the new ones."""
    sandbox.aws.create_group("consul", desired=3)
    member = sandbox.launch(group="consul", boot=False, systemd=True)
    others = [sandbox.launch(group="consul", boot=False) for _ in range(2)]
    for other in others:
        other.boot("#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    member.boot()
    assert member.bootstrap("--expect", "3").returncode == 0
    assert member.run("consul", "kv", "put", "precious", "foreign").returncode == 0
    is_named(member, *others)
    foreign = identity(member)
    # What would notice it earlier: the sidecar's look at the servers, and the gate of the unit.
    member.run("systemctl", "disable", "--now", "consul-bootstrap", check=True)
    member.run("sh", "-c", "systemctl cat consul | grep -q before-start", check=True)
    for other in others:
        sandbox.terminate(other)
    until(lambda: member.consul("/v1/status/leader") == "")
    fresh = sandbox.launch_group(2, group="fresh")
    healthy(*fresh)
    put(fresh[0])
    is_named(*fresh)
    assert identity(fresh[0]) != foreign
    # As a human would do it.
    member.run("consul", "join", fresh[0].address, check=True)
    wanted = sorted(f"{m.address}:8300" for m in [member, *fresh])
    until(lambda: voters(fresh[0]) == wanted, lambda: voters(fresh[0]))
    assert member.run("consul", "kv", "get", "-stale", "precious").stdout.strip() == "foreign"
    since = time.monotonic()
    member.run("systemctl", "start", "consul-bootstrap", check=True)
    journal = lambda: member.run("journalctl", "--no-pager", "-u", "consul*").stdout
    # `status` reports it, too, until the server has joined empty, which may be sooner than the next look.
    until(lambda: "error this server has diverged from its cluster" in journal(), lambda: journal()[-6000:])
    noticed = time.monotonic() - since
    print(f"noticed after {noticed:.1f} s")
    until(lambda: len(renamed(member)) == 1, lambda: renamed(member))
    assert "raft.diverged." in renamed(member)[0]
    returned(member, fresh, time.monotonic())
    until(
        lambda: member.exists("/var/lib/consul-bootstrap/cluster.json") and identity(member) == identity(fresh[0]),
    )
    until(lambda: member.bootstrap("status", "--check").returncode == 0, lambda: member.bootstrap("status", "--check"))
