"""Instance refreshes: the order, the checkpoints, the roll-back. None of it needs the program."""

import pytest
from botocore.exceptions import ClientError

from .lifecycle_api import LAUNCHING
from .refresh import Refresh
from .test_lifecycle import IDLE, complete, group_of
from .waiting import until

NEW = "#!/bin/sh\nexec sleep 2000\n"


@pytest.fixture
def engine(sandbox):
    sandbox.lifecycle.shutdown = (0, 0.1)
    return sandbox.lifecycle


def counts(engine, start):
    """The instances that count, the most and the least at any time."""
    change = {"launch": 1, "Terminating": -1}
    counted = [start]
    for event in engine.events:
        counted.append(counted[-1] + change.get(event["event"], 0))
    return max(counted), min(counted)


def leaving(engine):
    """The most instances that were terminated at the same time."""
    change = {"Terminating": 1, "left-group": -1}
    counted = [0]
    for event in engine.events:
        counted.append(counted[-1] + change.get(event["event"], 0))
    return max(counted)


def test_it_launches_before_it_terminates_one_at_a_time(sandbox, engine):
    old = group_of(sandbox, 4)
    refresh = Refresh(engine, "g", NEW, warmup=0.1)
    until(lambda: refresh.has_ended)
    assert refresh.status == "Successful", refresh.reason
    assert engine.settled("g") and not set(engine.in_service("g")) & set(old)
    assert counts(engine, 4) == (5, 4) and leaving(engine) == 1
    for member in engine.in_service("g"):
        assert "sleep 2000" in member.run("ps", "-eo", "args").stdout


def test_it_terminates_before_it_launches_where_there_is_no_room(sandbox, engine):
    group_of(sandbox, 4)
    refresh = Refresh(engine, "g", NEW, least=50, most=100)
    until(lambda: refresh.has_ended)
    assert refresh.status == "Successful" and engine.settled("g")
    assert counts(engine, 4) == (4, 2) and leaving(engine) == 2


def test_it_need_not_wait_for_the_hooks_of_the_batch_before(sandbox, engine):
    old = group_of(sandbox, 3)
    engine.put_hook("g", heartbeat=60)
    refresh = Refresh(engine, "g", NEW, waits=False)
    until(lambda: refresh.has_ended)
    assert refresh.status == "Successful" and leaving(engine) == 3
    assert {engine.state(member) for member in old} == {"Terminating:Wait"}


def test_a_checkpoint_holds_it(sandbox, engine):
    group_of(sandbox, 5)
    refresh = Refresh(engine, "g", NEW, most=200, checkpoints=[20, 100], delay=600)
    until(lambda: refresh.reached == [20])
    until(lambda: engine.settled("g"))
    assert [engine.versions[m.id] for m in engine.in_service("g")].count(2) == 1 and not refresh.has_ended
    refresh.proceed()
    until(lambda: refresh.has_ended)
    assert refresh.status == "Successful" and refresh.reached == [20, 100]
    # All of the others at once, as 200 percent allow.
    assert counts(engine, 5)[0] == 9


def held(engine):
    return engine.members("g", "Pending:Wait")


def test_an_abandoned_launch_rolls_back(sandbox, engine):
    old = group_of(sandbox, 3)
    engine.put_hook("g", LAUNCHING, heartbeat=60)
    refresh = Refresh(engine, "g", NEW)
    # The first new one is fine, the second is not.
    for result in ("CONTINUE", "ABANDON"):
        until(lambda: len(held(engine)) == 1)
        complete(sandbox, held(engine)[0], result)
        until(lambda: not held(engine))
    # The first one's replacement is of the old template.
    until(lambda: refresh.status == "RollbackInProgress" and len(held(engine)) == 1)
    complete(sandbox, held(engine)[0])
    until(lambda: refresh.has_ended and engine.settled("g"))
    assert refresh.status == "RollbackSuccessful" and "abandoned" in refresh.reason
    assert {engine.versions[member.id] for member in engine.in_service("g")} == {1}
    assert len(set(engine.in_service("g")) & set(old)) == 2 and engine.groups["g"].user_data == IDLE


def test_a_broken_version_touches_none_of_the_old_ones(sandbox, engine):
    old = group_of(sandbox, 3)
    engine.put_hook("g", LAUNCHING, heartbeat=0.3, default="ABANDON")
    refresh = Refresh(engine, "g", NEW)
    until(lambda: refresh.has_ended and engine.settled("g"))
    assert refresh.status == "RollbackSuccessful" and set(engine.in_service("g")) == set(old)
    refresh = Refresh(engine, "g", NEW, rollback=False)
    until(lambda: refresh.has_ended and engine.settled("g"))
    assert refresh.status == "Failed" and set(engine.in_service("g")) == set(old)


def test_it_fails_without_progress_and_can_be_cancelled(sandbox, engine):
    old = group_of(sandbox, 2)
    engine.put_hook("g", LAUNCHING, heartbeat=60)
    refresh = Refresh(engine, "g", NEW, patience=0.5)
    until(lambda: refresh.has_ended)
    assert refresh.status == "RollbackSuccessful" and "no progress" in refresh.reason
    until(lambda: engine.settled("g"))
    refresh = Refresh(engine, "g", NEW)
    until(lambda: held(engine))
    refresh.cancel()
    until(lambda: refresh.has_ended and engine.settled("g"))
    assert refresh.status == "Cancelled" and set(engine.in_service("g")) == set(old)
    with pytest.raises(ClientError, match="No active Lifecycle Action"):
        complete(sandbox, old[0])
