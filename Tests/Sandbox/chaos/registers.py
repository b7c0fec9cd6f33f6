"""Linearizability of a key, from the order that Consul's ModifyIndex gives its values.

Every value is written once, so that a read names the write that it saw, and the index at which that took effect. What
remains is to compare the order of the indexes with the order in real time: an operation that returned before another
one was invoked must not have the greater index. A sort and two passes.
"""

import bisect
import math
from dataclasses import dataclass

from .history import CAS, CHANGES, CONSISTENT, FAIL, OK, REFUSED, STALE, UNKNOWN

# Of operations that belong to one violation.
FORGOTTEN = "an acknowledged write is in none of the places that later operations leave for it"


@dataclass
class Violation:
    """- check: the check of the list in `checker.py`.
    - operations: those that contradict each other, or none."""

    check: str
    text: str
    operations: tuple = ()


class Register:
    """One key's operations, other than those of locks, and what they tell about its order."""

    def __init__(self, key, operations):
        self.key = key
        self.operations = sorted(operations, key=lambda operation: operation.invoked)
        self.writes = {o.value: o for o in self.operations if o.kind in CHANGES}
        self.violations = []
        # By value: the index at which its write took effect.
        self.indexes = {None: 0}
        self._learn_indexes()
        self.order = sorted((index, value) for value, index in self.indexes.items() if value is not None)

    def check(self):
        self._check_comparisons()
        self._check_real_time()
        self._check_unseen_writes()
        return self.violations

    def _report(self, text, *operations, check="linearizable"):
        self.violations.append(Violation(check, f"{self.key}: {text}", operations))

    def _learn_indexes(self):
        values = {}
        for operation in self.operations:
            changes = operation.kind in CHANGES
            if operation.index is None or (changes and operation.outcome != OK):
                continue
            if not changes and operation.outcome != OK:
                continue
            value, index = operation.value, operation.index
            if not changes and value is not None:
                write = self.writes.get(value)
                check = "stale" if operation.kind == STALE else "linearizable"
                if write is None:
                    self._report(f"{value} was read and never written", operation, check=check)
                    continue
                if write.outcome == FAIL:
                    self._report(f"{value} was read, though its write failed", write, operation, check=check)
                if operation.returned < write.invoked:
                    self._report(f"{value} was read before it was written", operation, write, check=check)
            if value is None:
                continue
            known = self.indexes.setdefault(value, index)
            if known != index:
                self._report(f"{value} has the indexes {known} and {index}", self.writes[value], operation)
            other = values.setdefault(index, value)
            if other != value:
                self._report(f"index {index} has the values {other} and {value}", self.writes[value], operation)

    def position(self, operation):
        """The index at which an operation saw the key or changed it; None if it is not known."""
        if operation.kind in CONSISTENT:
            return operation.index if operation.outcome == OK else None
        if operation.kind in CHANGES and operation.outcome != FAIL:
            return self.indexes.get(operation.value)
        return None

    def _check_comparisons(self):
        """A cas takes effect on the very value that it compares with."""
        succeeded = {}
        for operation in self.operations:
            if operation.kind != CAS:
                continue
            if operation.outcome == OK:
                if first := succeeded.get(operation.expected):
                    self._report(f"two cas on index {operation.expected} succeeded", first, operation)
                succeeded[operation.expected] = operation
            index = self.indexes.get(operation.value)
            if operation.outcome == FAIL or index is None:
                continue
            if index <= operation.expected:
                self._report("a cas took effect before the index that it expects", operation)
            between = self._between(operation.expected, index)
            if between is not None:
                self._report(
                    f"a cas took effect though the key had changed since index {operation.expected}",
                    self.writes[between],
                    operation,
                )

    def _between(self, low, high):
        """A value whose index is between these two."""
        at = bisect.bisect_right(self.order, low, key=lambda entry: entry[0])
        return self.order[at][1] if at < len(self.order) and self.order[at][0] < high else None

    def _check_real_time(self):
        known = [(o, p) for o in self.operations if (p := self.position(o)) is not None]
        returned = sorted((pair for pair in known if pair[0].outcome == OK), key=lambda pair: pair[0].returned)
        latest, at = (None, -1), 0
        for operation, position in known:
            while at < len(returned) and returned[at][0].returned < operation.invoked:
                latest = max(latest, returned[at], key=lambda pair: pair[1])
                at += 1
            earlier, reached = latest
            if earlier is None:
                continue
            if operation.kind in CHANGES:
                if position <= reached:
                    self._report(f"a write took effect at {position}, before {reached}", earlier, operation)
            elif position < reached:
                self._report(f"a read is stale: index {position} after {reached}", earlier, operation)

    def _check_unseen_writes(self):
        """An acknowledged write whose index is not known has one between what was seen before and after it; not one
        that another write has, and not one between a cas and what this compared with."""
        unseen = [o for o in self.operations if o.kind in CHANGES and o.outcome == OK and o.value not in self.indexes]
        if not unseen:
            return
        known = [(o, p) for o in self.operations if (p := self.position(o)) is not None]
        lower = self._bounds_before(unseen, known)
        upper = self._bounds_after(unseen, known)
        taken = {index for index, _ in self.order}
        closed = sorted(
            (o.expected, self.indexes[o.value])
            for o in self.operations
            if o.kind == CAS and o.outcome != FAIL and o.value in self.indexes
        )
        # The one with the least room first; each takes the lowest place that is left for it.
        for operation in sorted(unseen, key=lambda o: (upper[id(o)], lower[id(o)])):
            if operation.kind == CAS:
                # Right after the value that it compares with.
                at = bisect.bisect_right(self.order, operation.expected, key=lambda entry: entry[0])
                if at < len(self.order):
                    upper[id(operation)] = min(upper[id(operation)], self.order[at][0])
                lower[id(operation)] = max(lower[id(operation)], operation.expected)
            place = self._place(lower[id(operation)] + 1, taken, closed)
            if place >= upper[id(operation)]:
                self._report(FORGOTTEN, operation, check="lost")
            else:
                taken.add(place)

    @staticmethod
    def _place(place, taken, closed):
        while True:
            at = bisect.bisect_left(closed, (place, -1)) - 1
            if at >= 0 and closed[at][0] < place < closed[at][1]:
                place = closed[at][1]
            elif place in taken:
                place += 1
            else:
                return place

    @staticmethod
    def _bounds_before(unseen, known):
        """By operation: the greatest index of anything that returned before its invocation. (Of two unseen writes the
        later one has no lower bound: if both have a place, they have places in their order.)"""
        bounds, reached, at = {}, 0, 0
        returned = sorted((pair for pair in known if pair[0].outcome == OK), key=lambda pair: pair[0].returned)
        for operation in unseen:
            while at < len(returned) and returned[at][0].returned < operation.invoked:
                reached, at = max(reached, returned[at][1]), at + 1
            bounds[id(operation)] = reached
        return bounds

    @staticmethod
    def _bounds_after(unseen, known):
        """By operation: the least index of anything that was invoked after its return. A read may not see what was
        there before, so that its index is greater than that of the write."""
        bounds = {}
        later = sorted(known, key=lambda pair: pair[0].invoked)
        least = [math.inf] * (len(later) + 1)
        for at in range(len(later) - 1, -1, -1):
            least[at] = min(least[at + 1], later[at][1])
        for operation in unseen:
            at = bisect.bisect_right(later, operation.returned, key=lambda pair: pair[0].invoked)
            bounds[id(operation)] = least[at]
        return bounds

    def refusals(self):
        """A cas that the leader refused, although its index, which its thread has seen before, was still the key's."""
        if any(o.kind in CHANGES and o.outcome == UNKNOWN and o.value not in self.indexes for o in self.operations):
            return  # one of these may have been there for a moment
        unseen = [o for o in self.operations if o.kind in CHANGES and o.outcome == OK and o.value not in self.indexes]
        for operation in self.operations:
            if operation.kind != CAS or operation.outcome != FAIL or operation.error != REFUSED:
                continue
            at = bisect.bisect_left(self.order, operation.expected, key=lambda entry: entry[0])
            if at == len(self.order) or self.order[at][0] != operation.expected:
                continue
            follower = self.writes[self.order[at + 1][1]] if at + 1 < len(self.order) else None
            kept = follower is None or follower.invoked > operation.returned
            if kept and not any(o.invoked < operation.returned for o in unseen):
                yield Violation("linearizable", f"{self.key}: a cas on the current index was refused", (operation,))
