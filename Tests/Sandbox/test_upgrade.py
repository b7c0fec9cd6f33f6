"""A rolling upgrade: an instance refresh replaces every server of a cluster, which is written to meanwhile."""

import threading
import time

import pytest

from .aws import lifecycle_actions
from .conftest import healthy
from .lifecycle_api import LAUNCHING, TERMINATING
from .refresh import Refresh
from .test_departure import Writing, addresses, logs, shrinks
from .test_one_cluster import one_cluster, put
from .test_return import voters
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
