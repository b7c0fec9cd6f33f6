"""Random histories: the checker accepts every valid one, and finds one fault in any of them."""

import os
import random
from dataclasses import replace

import pytest

from .checker import check
from .history import ACQUIRE, CAS, CHANGES, FAIL, FINAL, OK, READ, RELEASE, STALE
from .search import search
from .simulation import Simulation

# A longer run is `CHAOS_HISTORIES=5000 pytest -k random`.
SEEDS = range(int(os.environ.get("CHAOS_HISTORIES", "150")))


@pytest.mark.parametrize("unknown", [0, 0.1])
def test_random_valid_histories_are_accepted(unknown):
    for seed in SEEDS:
        operations = Simulation(seed, unknown=unknown).run()
        verdict = check(operations)
        assert verdict.is_clean, (seed, verdict.violations)
        assert verdict.figures["keys not searched"] == 0


def test_a_long_history_takes_seconds():
    operations = Simulation(1, threads=8, operations=30_000).run()
    assert check(operations).is_clean


def forget(operations, random):
    """The last acknowledged change of a key of one thread is not there at the end."""
    finals = {o.key: o for o in operations if o.kind == FINAL and o.key.startswith("own/")}
    for key in random.sample(sorted(finals), len(finals)):
        changes = [o for o in operations if o.key == key and o.kind in CHANGES and o.outcome != FAIL]
        if len(changes) > 1 and all(o.outcome == OK for o in changes):
            for final in (o for o in operations if o.kind == FINAL and o.key == key):
                final.value, final.index = changes[-2].value, final.index - 1
            return True
    return False


def rewind(operations, random):
    """A consistent read returns what an acknowledged write had replaced before its invocation."""
    indexes = {(o.key, o.value): o.index for o in operations if o.kind in (READ, FINAL)}
    reads = [o for o in operations if o.kind == READ and o.index]
    random.shuffle(reads)
    for read in reads:
        for old in operations:
            index = indexes.get((old.key, old.value))
            if old.key != read.key or old.kind not in CHANGES or index is None or index >= read.index:
                continue
            between = [
                o
                for o in operations
                if o.key == read.key
                and o.kind in CHANGES
                and o.outcome == OK
                and index < indexes.get((o.key, o.value), 0)
                and o.returned < read.invoked
            ]
            if between:
                read.value, read.index = old.value, index
                return True
    return False


def double(operations, random):
    """Two cas on one index succeed."""
    succeeded = [o for o in operations if o.kind == CAS and o.outcome == OK and o.expected]
    refused = [o for o in operations if o.kind == CAS and o.outcome == FAIL]
    random.shuffle(refused)
    for second in refused:
        for first in succeeded:
            if first.key == second.key:
                second.outcome, second.error, second.expected = OK, "", first.expected
                return True
    return False


def resurrect(operations, random):
    """A value comes back after another had replaced it, with a new index."""
    reads = sorted((o for o in operations if o.kind == READ and o.value), key=lambda o: o.invoked)
    for read in random.sample(reads, len(reads)):
        later = [o for o in reads if o.key == read.key and o.invoked > read.returned and o.index > read.index]
        if later:
            later[-1].value = read.value
            return True
    return False


def share(operations, random):
    """A lock is acquired while another thread holds it."""
    held = [o for o in operations if o.kind == RELEASE and o.outcome == OK]
    if not held:
        return False
    release = random.choice(held)
    acquire = next(o for o in operations if o.kind == ACQUIRE and o.value == release.value)
    operations.append(replace(acquire, thread=99, value="99-1", index=release.index - 1, outcome=OK))
    return acquire.index <= release.index - 1


def step_back(operations, random):
    """A server returns to a stale read less than before."""
    reads = sorted((o for o in operations if o.kind == STALE), key=lambda o: o.invoked)
    for read in random.sample(reads, len(reads)):
        later = [o for o in reads if (o.key, o.server) == (read.key, read.server) and o.invoked > read.returned]
        if later and read.index and later[-1].index:
            later[-1].value, later[-1].index = None, 0
            return True
    return False


@pytest.mark.parametrize("corrupt", [forget, rewind, double, resurrect, share, step_back], ids=lambda f: f.__name__)
def test_one_corruption_of_a_random_history_is_found(corrupt):
    tried = 0
    for seed in SEEDS:
        operations = Simulation(seed, unknown=0.02).run()
        if corrupt(operations, random.Random(seed)):
            tried += 1
            assert not check(operations).is_clean, seed
    assert tried > len(SEEDS) // 3


def test_the_search_agrees():
    """The second opinion, on its own: it does not compare indexes."""
    tried = 0
    for seed in SEEDS:
        operations = Simulation(seed, operations=120).run()
        keys = {o.key for o in operations}
        assert all(search([o for o in operations if o.key == key]) for key in keys), seed
        if rewind(operations, random.Random(seed)):
            tried += 1
            assert not all(search([o for o in operations if o.key == key]) for key in keys), seed
    assert tried > len(SEEDS) // 3
