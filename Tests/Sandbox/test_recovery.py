"""A cluster that has lost its quorum for good comes back from the server with the longest log."""

import json
import time

import pytest

from .conftest import healthy
from .test_departure import addresses
from .test_one_cluster import one_cluster, put, replace
from .test_return import systemd_group, voters
from .waiting import until

OPTIONS = "--leader-wait 3s"


def lose(sandbox, *members):
    for member in members:
        sandbox.terminate(member)


def notices(survivor, *lost):
    """Gossip knows them as failed, and nothing leads."""
    dead = {member.address for member in lost}
    failed = lambda: {m["Addr"] for m in survivor.consul("/v1/agent/members") if m["Status"] == 4}
    until(lambda: dead <= failed() and survivor.consul("/v1/status/leader") == "", lambda: survivor.log[-3000:])


@pytest.mark.long
@pytest.mark.parametrize("start", ["systemd", "supervise"])
def test_the_survivor_of_five_leads_five_again(sandbox, start):
    if start == "systemd":
        members = systemd_group(sandbox, 5)
    else:
        members = sandbox.launch_group(5, options=OPTIONS)
        healthy(*members)
    put(members[0])
    survivor, *others = members
    lose(sandbox, *others)
    fresh = replace(sandbox, 4, "--expect 5", group="consul")
    until(lambda: "has raft data and no leader" in fresh[0].log, lambda: fresh[0].log[-3000:])
    notices(survivor, *others)
    shown = survivor.bootstrap("recover", "--dry-run", "--json")
    assert shown.returncode == 0, shown.stderr
    report = json.loads(shown.stdout)
    assert report["decision"] == "recover" and sum(s["is_gone"] for s in report["servers"]) == 4, report
    elsewhere = fresh[0].bootstrap("recover")
    assert elsewhere.returncode == 16, elsewhere
    assert f"recover on {survivor.id} ({survivor.address}), which has" in elsewhere.stderr, elsewhere.stderr
    begun = time.monotonic()
    recovered = survivor.bootstrap("recover")
    assert recovered.returncode == 0, recovered.stderr + survivor.log[-3000:]
    until(lambda: voters(survivor) == addresses(survivor, *fresh), lambda: survivor.log[-3000:])
    print(f"five voters {time.monotonic() - begun:.1f} s after the command")
    one_cluster(survivor, *fresh)
    assert not survivor.exists("/opt/consul/raft/peers.json")


def test_a_server_that_is_only_stopped_is_waited_for(sandbox):
    members = sandbox.launch_group(3, options=OPTIONS)
    healthy(*members)
    put(members[0])
    survivor, stopped, lost = members
    sandbox.vanish(stopped)
    lose(sandbox, lost)
    notices(survivor, stopped, lost)
    refused = survivor.bootstrap("recover")
    assert refused.returncode == 16 and stopped.id in refused.stderr, refused.stderr
    assumed = survivor.bootstrap("recover", "--assume-dead", stopped.id)
    assert assumed.returncode == 0, assumed.stderr + survivor.log[-3000:]
    assert voters(survivor) == addresses(survivor)
    one_cluster(survivor)
