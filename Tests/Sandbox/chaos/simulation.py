"""A register service in virtual time, for tests of the checker: histories that are valid by construction, and histories
with one known fault. Nothing of it waits, and a seed gives the same history again.
"""

import heapq
import random
from dataclasses import dataclass, field

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
    Operation,
)

SERVERS = ("a", "b", "c")


@dataclass
class Simulation:
    """Each operation takes effect at one time between its invocation and its return; an unknown one at any time after
    its invocation, or never."""

    seed: int
    threads: int = 4
    operations: int = 300
    unknown: float = 0.05
    history: list = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.index = 10
        # By key: every (value, index) in order.
        self.values = {}
        self.holders = {}
        self.applied = {}
        self.last_index = {}
        self._counter = 0

    def run(self):
        ready = [(self.random.random(), thread) for thread in range(self.threads)]
        heapq.heapify(ready)
        pending = []
        for _ in range(self.operations):
            now, thread = heapq.heappop(ready)
            operation, effect = self._invoke(thread, now)
            heapq.heappush(pending, (effect, len(self.history), operation))
            self.history.append(operation)
            # What takes effect before the next invocation.
            heapq.heappush(ready, (operation.returned + self.random.expovariate(20), thread))
            while pending and pending[0][0] < ready[0][0]:
                self._apply(heapq.heappop(pending)[2])
        while pending:
            self._apply(heapq.heappop(pending)[2])
        self._finish()
        return self.history

    def _invoke(self, thread, now):
        random = self.random
        duration = random.expovariate(15)
        kind = random.choice((WRITE, WRITE, CAS, READ, READ, STALE, ACQUIRE))
        key = f"own/{thread}/{random.randrange(3)}" if random.random() < 0.4 else f"shared/{random.randrange(2)}"
        self._counter += 1
        operation = Operation(thread, kind, key, f"{thread}-{self._counter}", None, now, now + duration, OK)
        effect = now + random.random() * duration
        if kind == CAS:
            operation.expected = self.last_index.get((thread, key), 0)
        if kind in (READ, STALE):
            operation.value = None
        if kind == STALE:
            operation.server = random.choice(SERVERS)
        if kind == ACQUIRE:
            operation.key = "lock"
            if thread in self.holders.values():
                operation.kind, operation.value = RELEASE, next(v for v, t in self.holders.items() if t == thread)
        if random.random() < self.unknown and operation.kind in (WRITE, CAS):
            operation.outcome = UNKNOWN
            effect = now + random.random() * duration * 20 if random.random() < 0.5 else float("inf")
        return operation, effect

    def _apply(self, operation):
        """The operation takes effect now; the client learns the index of every second write."""
        if operation.kind in (ACQUIRE, RELEASE):
            self._apply_lock(operation)
            return
        values = self.values.setdefault(operation.key, [(None, 0)])
        if operation.kind == READ:
            operation.value, operation.index = values[-1]
            self.last_index[operation.thread, operation.key] = operation.index
        elif operation.kind == STALE:
            place = (operation.server, operation.key)
            at = self.random.randint(self.applied.get(place, 0), len(values) - 1)
            self.applied[place] = at
            operation.value, operation.index = values[at]
        elif operation.kind == CAS and operation.expected != values[-1][1]:
            if operation.outcome == OK:
                operation.outcome, operation.error = FAIL, REFUSED
        else:
            self.index += self.random.randint(1, 3)
            values.append((operation.value, self.index))
            if operation.outcome == OK and self.random.random() < 0.5:
                operation.index = self.index

    def _apply_lock(self, operation):
        self.index += 1
        if operation.kind == ACQUIRE and not self.holders:
            self.holders[operation.value] = operation.thread
            operation.index = self.index
        elif operation.kind == RELEASE and self.holders.pop(operation.value, None) is not None:
            operation.index = self.index
        else:
            operation.outcome, operation.error = FAIL, REFUSED

    def _finish(self):
        now = max(o.returned for o in self.history) + 1000
        for key, values in self.values.items():
            for server in SERVERS:
                value, index = values[-1]
                self.history.append(Operation(-1, FINAL, key, value, index, now, now + 0.01, OK, server=server))
