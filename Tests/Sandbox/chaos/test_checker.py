"""The checker finds each kind of fault in a forged history, and rejects no valid one."""

from dataclasses import replace

import pytest

from .checker import Limits, around, check, gaps
from .forged_histories import FORGED, ORDER, VALID, history
from .history import (
    CAS,
    FAIL,
    FINAL,
    REFUSED,
    STALE,
    UNKNOWN,
    WRITE,
    Event,
    Sample,
)
from .registers import Register


def checks(operations, *arguments, **keywords):
    return {violation.check for violation in check(operations, *arguments, **keywords).violations}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_history_is_found(name):
    expected, text, rows = FORGED[name]
    found = check(history(*rows)).violations
    assert any(violation.check == expected and text in violation.text for violation in found), found


@pytest.mark.parametrize("name", sorted(FORGED.keys() - ORDER))
def test_the_search_finds_it_alone(name, monkeypatch):
    expected, _, rows = FORGED[name]
    monkeypatch.setattr(Register, "check", lambda _: [])
    monkeypatch.setattr(Register, "refusals", lambda _: [])
    if expected in ("lost", "linearizable"):
        assert any("no order" in violation.text for violation in check(history(*rows)).violations)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_history_is_accepted(name):
    verdict = check(history(*VALID[name]))
    assert verdict.is_clean, verdict.violations


def test_a_restarted_server_may_go_back():
    operations = history(
        (0, WRITE, "shared", "0-1", 5),
        (0, WRITE, "shared", "0-2", 6),
        (1, STALE, "shared", "0-2", 6, {"server": "a"}),
        (1, STALE, "shared", "0-1", 5, {"server": "a", "at": (10, 11)}),
        (1, STALE, "shared", "0-2", 6, {"server": "a"}),
    )
    assert checks(operations, events=[Event(8, 9, "kill", "b", stops=True)]) == {"stale"}
    assert checks(operations, events=[Event(8, 9, "cut", "a")]) == {"stale"}
    assert checks(operations, events=[Event(8, 9, "kill", "a", stops=True)]) == set()


def sample(time, voters, server="a", cluster="one", leader="a"):
    addresses = [f"{voter}:8300" for voter in voters]
    return Sample(time, server, server, "up", f"{leader}:8300", addresses, addresses, 1, cluster)


def test_two_clusters_are_found():
    assert checks([], [sample(1, "abc"), sample(2, "abc", "b")]) == set()
    assert checks([], [sample(1, "abc"), sample(2, "abc", "b", cluster=None)]) == set()
    assert checks([], [sample(1, "abc"), sample(2, "abc", "b", cluster="two")]) == {"cluster"}


def test_the_raft_configuration_shrinks_in_steps_and_not_below_the_floor():
    steps = [sample(1, "abcde"), sample(2, "abcd"), sample(3, "abc")]
    assert checks([], steps, limits=Limits(floor=3, shrink=1)) == set()
    assert checks([], steps, limits=Limits(floor=4)) == {"cluster"}
    assert checks([], [steps[0], steps[2]], limits=Limits(shrink=1)) == {"cluster"}
    # A follower may have missed a configuration.
    assert checks([], [steps[0], sample(2, "abc", "b")], limits=Limits(floor=5, shrink=1)) == set()
    # One that joins does not make up for one that leaves.
    assert checks([], [steps[0], sample(2, "abcxy")], limits=Limits(shrink=1)) == {"cluster"}


def test_availability_is_measured():
    operations = history(
        (0, WRITE, "own", "0-1", None, {"at": (0, 1)}),
        (0, WRITE, "own", "0-2", None, {"at": (1, 2), "outcome": UNKNOWN}),
        (0, WRITE, "own", "0-3", None, {"at": (2, 3), "outcome": FAIL}),
        (0, CAS, "own", "0-4", None, {"at": (3, 4), "outcome": FAIL, "error": REFUSED, "expected": 1}),
        (0, WRITE, "own", "0-5", None, {"at": (4, 6)}),
        (1, WRITE, "other", "1-1", None, {"at": (4, 7), "outcome": UNKNOWN}),
    )
    figures = check(operations, [sample(0.0, "abc"), sample(0.1, "abc", leader="b")]).figures
    assert figures["longest gap s"] == 5 and figures["slowest write s"] == 2
    assert gaps(operations, at_least=6) == []
    assert (figures["writes acknowledged"], figures["writes failed"], figures["cas refused"]) == (2, 1, 1)
    assert (figures["writes unknown"], figures["unknown per writer"]) == (2, 1)
    assert figures["leader present %"] == 50


def test_the_operations_around_a_violation_are_those_of_its_keys():
    operations = history(*((0, WRITE, f"own/{n % 2}", f"0-{n}", None) for n in range(60)))
    operations[30].key = operations[31].key = "own/0"
    operations.append(replace(operations[30], kind=FINAL, index=9, invoked=100, returned=101, value="0-0"))
    violations = check(operations).violations
    shown = around(operations, violations[0])
    assert 0 < len(shown) <= 10 and {o.key for o in shown} == {"own/0"}
