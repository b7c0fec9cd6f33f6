"""The checker finds each kind of fault in a forged history, and rejects no valid one."""

from dataclasses import replace

import pytest

from .checker import Limits, around, check, gaps
from .history import (
    ACQUIRE,
    CAS,
    FAIL,
    FINAL,
    OK,
    READ,
    REFUSED,
    RELEASE,
    STALE,
    UNKNOWN,
    WRITE,
    Event,
    Operation,
    Sample,
)


def history(*rows):
    """Operations, one after the other unless a row says from when to when.

    - rows: thread, kind, key, value, index, then any of: outcome, `expected`, `at`, `server`."""
    operations = []
    for number, (thread, kind, key, value, index, *options) in enumerate(rows):
        options = options[0] if options else {}
        invoked, returned = options.get("at", (number, number + 0.5))
        operations.append(
            Operation(
                thread,
                kind,
                key,
                value,
                index,
                invoked,
                returned,
                options.get("outcome", OK),
                options.get("expected"),
                options.get("server", ""),
                options.get("error", ""),
            )
        )
    return operations


def checks(operations, *arguments, **keywords):
    return {violation.check for violation in check(operations, *arguments, **keywords).violations}


UNSURE = {"outcome": UNKNOWN}

FORGED = {
    "an acknowledged write is not there at the end": (
        "lost",
        [(0, WRITE, "own", "0-1", None), (0, WRITE, "own", "0-2", None), (9, FINAL, "own", "0-1", 5)],
    ),
    "an acknowledged write is not there at the end, through one server of two": (
        "lost",
        [
            (0, WRITE, "own", "0-1", None),
            (0, WRITE, "own", "0-2", None),
            (9, FINAL, "own", "0-2", 6, {"server": "a"}),
            (9, FINAL, "own", "0-1", 5, {"server": "b"}),
        ],
    ),
    "the only write is not there at the end": (
        "lost",
        [(0, WRITE, "own", "0-1", None), (9, FINAL, "own", None, 0)],
    ),
    "an acknowledged write of a shared key has no place": (
        "lost",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", None),
            (0, READ, "shared", "0-1", 5),
        ],
    ),
    "two acknowledged writes, and a place for one": (
        "lost",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", None, {"at": (1, 2)}),
            (2, WRITE, "shared", "2-1", None, {"at": (1, 2)}),
            (3, WRITE, "shared", "3-1", 7, {"at": (3, 4)}),
        ],
    ),
    "two acknowledged writes, one after the other, and a place for one": (
        "lost",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", None),
            (1, WRITE, "shared", "1-2", None),
            (3, WRITE, "shared", "3-1", 7),
        ],
    ),
    "a register read returns what was replaced": (
        "linearizable",
        [(0, WRITE, "shared", "0-1", 5), (1, WRITE, "shared", "1-1", 6), (2, READ, "shared", "0-1", 5)],
    ),
    "a register read goes back": (
        "linearizable",
        [
            (0, WRITE, "shared", "0-1", None, {"at": (0, 1)}),
            (1, WRITE, "shared", "1-1", None, {"at": (0, 9)}),
            (2, READ, "shared", "1-1", 6, {"at": (2, 3)}),
            (3, READ, "shared", "0-1", 5, {"at": (4, 5)}),
        ],
    ),
    "a read returns a value that was never written": (
        "linearizable",
        [(0, WRITE, "shared", "0-1", 5), (1, READ, "shared", "7-7", 6)],
    ),
    "a read returns a value before it was written": (
        "linearizable",
        [(1, READ, "shared", "0-1", 5), (0, WRITE, "shared", "0-1", None)],
    ),
    "a failed write took effect": (
        "linearizable",
        [(0, WRITE, "shared", "0-1", None, {"outcome": FAIL}), (1, READ, "shared", "0-1", 5)],
    ),
    "two cas on one index succeed": (
        "linearizable",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, CAS, "shared", "1-1", None, {"expected": 5, "at": (1, 2)}),
            (2, CAS, "shared", "2-1", None, {"expected": 5, "at": (1, 2)}),
        ],
    ),
    "a cas overwrites what it has not seen": (
        "linearizable",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", 6, {"at": (1, 3)}),
            (2, CAS, "shared", "2-1", 7, {"expected": 5, "at": (1, 3)}),
        ],
    ),
    "an unknown cas overwrites what it has not seen": (
        "linearizable",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", 6, {"at": (1, 3)}),
            (2, CAS, "shared", "2-1", None, {"expected": 5, "at": (1, 3), "outcome": UNKNOWN}),
            (3, READ, "shared", "2-1", 8),
        ],
    ),
    "an acknowledged cas is lost": (
        "lost",
        [
            (0, WRITE, "own", "0-1", 5),
            (0, CAS, "own", "0-2", None, {"expected": 5}),
            (9, FINAL, "own", "0-1", 5),
        ],
    ),
    "a cas on the current index is refused": (
        "linearizable",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, CAS, "shared", "1-1", None, {"expected": 5, "outcome": FAIL, "error": REFUSED}),
        ],
    ),
    "an old value comes back with a new index": (
        "linearizable",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", 6),
            (2, READ, "shared", "0-1", 9),
        ],
    ),
    "an old value comes back at the end": (
        "lost",
        [
            (0, WRITE, "own", "0-1", None),
            (0, READ, "own", "0-1", 5),
            (0, WRITE, "own", "0-2", None),
            (0, READ, "own", "0-2", 6),
            (9, FINAL, "own", "0-1", 9),
        ],
    ),
    "a stale read returns what was never written": (
        "stale",
        [(0, WRITE, "shared", "0-1", 5), (1, STALE, "shared", "7-7", 6, {"server": "a"})],
    ),
    "stale reads of one server go back": (
        "stale",
        [
            (0, WRITE, "shared", "0-1", 5),
            (0, WRITE, "shared", "0-2", 6),
            (1, STALE, "shared", "0-2", 6, {"server": "a"}),
            (1, STALE, "shared", "0-1", 5, {"server": "a"}),
        ],
    ),
    "a lock is held twice, by its indexes": (
        "exclusion",
        [
            (0, ACQUIRE, "lock", "0-1", 5, {"at": (0, 9)}),
            (1, ACQUIRE, "lock", "1-1", 6, {"at": (0, 9)}),
            (0, RELEASE, "lock", "0-1", 7, {"at": (10, 11)}),
        ],
    ),
    "a lock is held twice, by one index": (
        "exclusion",
        [(0, ACQUIRE, "lock", "0-1", 5), (1, ACQUIRE, "lock", "1-1", 5)],
    ),
    "a lock is held twice, by the clock": (
        "exclusion",
        [
            (0, ACQUIRE, "lock", "0-1", 5),
            (1, ACQUIRE, "lock", "1-1", 9),
            (0, RELEASE, "lock", "0-1", 7),
        ],
    ),
    "two logs use one index": (
        "cluster",
        [(0, WRITE, "own/0", "0-1", 5), (1, WRITE, "own/1", "1-1", 5)],
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_history_is_found(name):
    expected, rows = FORGED[name]
    assert expected in checks(history(*rows))


VALID = {
    "nothing": [],
    "an unknown write is not there": [(0, WRITE, "own", "0-1", None, UNSURE), (9, FINAL, "own", None, 0)],
    "an unknown write is there": [(0, WRITE, "own", "0-1", None, UNSURE), (9, FINAL, "own", "0-1", 5)],
    "an unknown write takes effect after a later one": [
        (0, WRITE, "own", "0-1", None, UNSURE),
        (0, WRITE, "own", "0-2", 6),
        (0, READ, "own", "0-2", 6),
        (9, FINAL, "own", "0-1", 7),
    ],
    "an unknown cas has taken effect, and a second one is refused": [
        (0, WRITE, "shared", "0-1", 5),
        (1, CAS, "shared", "1-1", None, {"expected": 5, "outcome": UNKNOWN}),
        (2, CAS, "shared", "2-1", None, {"expected": 5, "outcome": FAIL, "error": REFUSED}),
    ],
    "a cas is refused beside an acknowledged write that was never read": [
        (0, WRITE, "shared", "0-1", 5),
        (1, WRITE, "shared", "1-1", None),
        (2, CAS, "shared", "2-1", None, {"expected": 5, "outcome": FAIL, "error": REFUSED}),
    ],
    "a write that was not sent, and a cas that was not either": [
        (0, WRITE, "shared", "0-1", None, {"outcome": FAIL}),
        (1, CAS, "shared", "1-1", None, {"expected": 0, "outcome": FAIL, "error": "connection refused"}),
        (9, FINAL, "shared", None, 0),
    ],
    "reads beside a write return either value, in order": [
        (0, WRITE, "shared", "0-1", 5, {"at": (0, 1)}),
        (0, WRITE, "shared", "0-2", None, {"at": (2, 9)}),
        (1, READ, "shared", "0-1", 5, {"at": (3, 4)}),
        (2, READ, "shared", "0-2", 6, {"at": (3, 8)}),
        (1, READ, "shared", "0-2", 6, {"at": (5, 7)}),
    ],
    "stale reads of two servers": [
        (0, WRITE, "shared", "0-1", 5),
        (0, WRITE, "shared", "0-2", 6),
        (1, STALE, "shared", "0-2", 6, {"server": "a"}),
        (1, STALE, "shared", "0-1", 5, {"server": "b"}),
    ],
    "the session of a holder ends, and the next one holds the lock": [
        (0, ACQUIRE, "lock", "0-1", 5),
        (1, ACQUIRE, "lock", "1-1", 9),
        (0, RELEASE, "lock", "0-1", None, {"outcome": FAIL, "error": REFUSED}),
        (1, RELEASE, "lock", "1-1", 12),
        (0, ACQUIRE, "lock", "0-2", 13),
    ],
}


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
