"""Histories with one fault each, and valid ones that look faulty."""

from .history import ACQUIRE, CAS, FAIL, FINAL, OK, READ, REFUSED, RELEASE, STALE, UNKNOWN, WRITE, Operation

UNSURE = {"outcome": UNKNOWN}


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


# By name: the check that finds it, and words of what this reports.
FORGED = {
    "an acknowledged write is not there at the end": (
        "lost",
        "0-2 was acknowledged, and is lost",
        [(0, WRITE, "own", "0-1", None), (0, WRITE, "own", "0-2", None), (9, FINAL, "own", "0-1", 5)],
    ),
    "an acknowledged write is not there at the end, through one server of two": (
        "lost",
        "0-2 was acknowledged, and is lost",
        [
            (0, WRITE, "own", "0-1", None),
            (0, WRITE, "own", "0-2", None),
            (9, FINAL, "own", "0-2", 6, {"server": "a"}),
            (9, FINAL, "own", "0-1", 5, {"server": "b"}),
        ],
    ),
    "the only write is not there at the end": (
        "lost",
        "0-1 was acknowledged, and is lost",
        [(0, WRITE, "own", "0-1", None), (9, FINAL, "own", None, 0)],
    ),
    "an acknowledged write of a shared key has no place": (
        "lost",
        "in none of the places",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", None),
            (0, READ, "shared", "0-1", 5),
        ],
    ),
    "two acknowledged writes, and a place for one": (
        "lost",
        "in none of the places",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", None, {"at": (1, 2)}),
            (2, WRITE, "shared", "2-1", None, {"at": (1, 2)}),
            (3, WRITE, "shared", "3-1", 7, {"at": (3, 4)}),
        ],
    ),
    "two acknowledged writes, one after the other, and a place for one": (
        "lost",
        "in none of the places",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", None),
            (1, WRITE, "shared", "1-2", None),
            (3, WRITE, "shared", "3-1", 7),
        ],
    ),
    "a register read returns what was replaced": (
        "linearizable",
        "a read is stale",
        [(0, WRITE, "shared", "0-1", 5), (1, WRITE, "shared", "1-1", 6), (2, READ, "shared", "0-1", 5)],
    ),
    "a register read goes back": (
        "linearizable",
        "a read is stale",
        [
            (0, WRITE, "shared", "0-1", None, {"at": (0, 1)}),
            (1, WRITE, "shared", "1-1", None, {"at": (0, 9)}),
            (2, READ, "shared", "1-1", 6, {"at": (2, 3)}),
            (3, READ, "shared", "0-1", 5, {"at": (4, 5)}),
        ],
    ),
    "a read returns a value that was never written": (
        "linearizable",
        "7-7 was read and never written",
        [(0, WRITE, "shared", "0-1", 5), (1, READ, "shared", "7-7", 6)],
    ),
    "a read returns a value before it was written": (
        "linearizable",
        "before it was written",
        [(1, READ, "shared", "0-1", 5), (0, WRITE, "shared", "0-1", None)],
    ),
    "a failed write took effect": (
        "linearizable",
        "though its write failed",
        [(0, WRITE, "shared", "0-1", None, {"outcome": FAIL}), (1, READ, "shared", "0-1", 5)],
    ),
    "two cas on one index succeed": (
        "linearizable",
        "two cas on index 5 succeeded",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, CAS, "shared", "1-1", None, {"expected": 5, "at": (1, 2)}),
            (2, CAS, "shared", "2-1", None, {"expected": 5, "at": (1, 2)}),
        ],
    ),
    "a cas overwrites what it has not seen": (
        "linearizable",
        "though the key had changed",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", 6, {"at": (1, 3)}),
            (2, CAS, "shared", "2-1", 7, {"expected": 5, "at": (1, 3)}),
        ],
    ),
    "an unknown cas overwrites what it has not seen": (
        "linearizable",
        "though the key had changed",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", 6, {"at": (1, 3)}),
            (2, CAS, "shared", "2-1", None, {"expected": 5, "at": (1, 3), "outcome": UNKNOWN}),
            (3, READ, "shared", "2-1", 8),
        ],
    ),
    "an acknowledged cas is lost": (
        "lost",
        "0-2 was acknowledged, and is lost",
        [
            (0, WRITE, "own", "0-1", 5),
            (0, CAS, "own", "0-2", None, {"expected": 5}),
            (9, FINAL, "own", "0-1", 5),
        ],
    ),
    "a cas on the current index is refused": (
        "linearizable",
        "on the current index was refused",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, CAS, "shared", "1-1", None, {"expected": 5, "outcome": FAIL, "error": REFUSED}),
        ],
    ),
    "an old value comes back with a new index": (
        "linearizable",
        "0-1 has the indexes 5 and 9",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", 6),
            (2, READ, "shared", "0-1", 9),
        ],
    ),
    "an old value comes back at the end": (
        "lost",
        "0-2 was acknowledged, and is lost",
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
        "never written",
        [(0, WRITE, "shared", "0-1", 5), (1, STALE, "shared", "7-7", 6, {"server": "a"})],
    ),
    "stale reads of one server go back": (
        "stale",
        "a went back from index 6 to 5",
        [
            (0, WRITE, "shared", "0-1", 5),
            (0, WRITE, "shared", "0-2", 6),
            (1, STALE, "shared", "0-2", 6, {"server": "a"}),
            (1, STALE, "shared", "0-1", 5, {"server": "a"}),
        ],
    ),
    "a lock is held twice, by its indexes": (
        "exclusion",
        "two holders",
        [
            (0, ACQUIRE, "lock", "0-1", 5, {"at": (0, 9)}),
            (1, ACQUIRE, "lock", "1-1", 6, {"at": (0, 9)}),
            (0, RELEASE, "lock", "0-1", 7, {"at": (10, 11)}),
        ],
    ),
    "a lock is held twice, by one index": (
        "exclusion",
        "one index, two holders",
        [(0, ACQUIRE, "lock", "0-1", 5), (1, ACQUIRE, "lock", "1-1", 5)],
    ),
    "a lock is held twice, by the clock": (
        "exclusion",
        "while another session held it",
        [
            (0, ACQUIRE, "lock", "0-1", 5),
            (1, ACQUIRE, "lock", "1-1", 9),
            (0, RELEASE, "lock", "0-1", 7),
        ],
    ),
    "a read returns the one index of another value": (
        "linearizable",
        "index 5 has the values 0-1 and 1-1",
        [
            (0, WRITE, "shared", "0-1", 5, {"at": (0, 9)}),
            (1, WRITE, "shared", "1-1", None, {"at": (0, 9)}),
            (2, READ, "shared", "1-1", 5, {"at": (0, 9)}),
        ],
    ),
    "a write takes effect before an earlier one": (
        "linearizable",
        "a write took effect at 6, before 7",
        [(0, WRITE, "shared", "0-1", 7), (1, WRITE, "shared", "1-1", 6)],
    ),
    "an unknown write takes effect before its invocation": (
        "linearizable",
        "a write took effect at 6, before 7",
        [(0, WRITE, "shared", "0-1", 7), (1, WRITE, "shared", "1-1", None, UNSURE), (2, STALE, "shared", "1-1", 6)],
    ),
    "a cas takes effect before what it compares with": (
        "linearizable",
        "before the index that it expects",
        [
            (0, WRITE, "shared", "0-1", 5, {"at": (0, 9)}),
            (1, CAS, "shared", "1-1", 4, {"expected": 5, "at": (0, 9)}),
        ],
    ),
    "an acknowledged write has a place only between a cas and what this compares with": (
        "lost",
        "in none of the places",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, WRITE, "shared", "1-1", None),
            (2, CAS, "shared", "2-1", 9, {"expected": 5}),
        ],
    ),
    "an acknowledged cas that was never read has no place": (
        "lost",
        "in none of the places",
        [
            (0, WRITE, "shared", "0-1", 5),
            (1, CAS, "shared", "1-1", None, {"expected": 5, "at": (1, 9)}),
            (2, WRITE, "shared", "2-1", 6, {"at": (1, 9)}),
        ],
    ),
    "two logs use one index": (
        "cluster",
        "index 5 wrote",
        [(0, WRITE, "own/0", "0-1", 5), (1, WRITE, "own/1", "1-1", 5)],
    ),
}

# What only the indexes tell.
ORDER = {
    "a cas overwrites what it has not seen",
    "an unknown cas overwrites what it has not seen",
    "two acknowledged writes, and a place for one",
    "two acknowledged writes, one after the other, and a place for one",
    "a read returns the one index of another value",
    "a write takes effect before an earlier one",
    "an unknown write takes effect before its invocation",
    "a cas takes effect before what it compares with",
    "an acknowledged cas that was never read has no place",
}

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
