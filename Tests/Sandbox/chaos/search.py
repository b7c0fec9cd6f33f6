"""Linearizability by search, after Wing and Gong: a second opinion on short histories that uses no order of indexes.

All orders are tried that respect real time; states that were reached before are not searched again. A history is cut
at its quiet points, where no operation runs: each part starts in every state in which the one before can end.
"""

import math
from dataclasses import dataclass

from .history import CAS, CHANGES, CONSISTENT, FAIL, OK, REFUSED

LONGEST = 2000
# Of pairs of a set of operations and a state. A part that needs more is left undecided.
STATES = 200_000


@dataclass
class _Step:
    """One operation for the search: what the key must be before, and is after.

    - value: of a write; the value that a read saw."""

    invoked: float
    returned: float
    kind: str
    value: str | None
    expected: str | None = None

    def after(self, state):
        """The state after this step, as a list of none or one."""
        if self.kind == "write":
            return [self.value]
        if self.kind == "cas":
            return [self.value] if state == self.expected else []
        if self.kind == "refused":
            return [state] if state != self.expected else []
        return [state] if state == self.value else []


def search(operations):
    """Whether the operations of one key are linearizable; None if it is too long a search."""
    if len(operations) > LONGEST:
        return None
    steps = _steps(operations)
    states = {None}
    for part in _parts(steps):
        states = _ends(part, states)
        if states is None:
            return None
        if not states:
            return False
    return True


def _steps(operations):
    reads = [o for o in operations if o.kind in CONSISTENT and o.outcome == OK]
    seen = {}
    for read in reads:
        seen[read.value] = min(seen.get(read.value, math.inf), read.returned)
    values = {o.index: o.value for o in operations if o.index is not None and o.outcome == OK}
    values[0] = None
    steps = [_Step(o.invoked, o.returned, "read", o.value) for o in reads]
    has_unseen = False
    for operation in operations:
        if operation.kind not in CHANGES:
            continue
        expected = values.get(operation.expected, f"index {operation.expected}")
        if operation.outcome == FAIL:
            if operation.error == REFUSED:
                steps.append(_Step(operation.invoked, operation.returned, "refused", operation.value, expected))
            continue
        returned = operation.returned if operation.outcome == OK else seen.get(operation.value)
        if returned is None:
            # Whether it took effect, nothing tells, but perhaps a cas that was refused.
            has_unseen = True
            continue
        kind = "cas" if operation.kind == CAS else "write"
        steps.append(_Step(operation.invoked, returned, kind, operation.value, expected))
    if has_unseen:
        steps = [step for step in steps if step.kind != "refused"]
    return sorted(steps, key=lambda step: step.invoked)


def _parts(steps):
    part, end = [], -math.inf
    for step in steps:
        if part and step.invoked > end:
            yield part
            part = []
        part.append(step)
        end = max(end, step.returned)
    if part:
        yield part


def _ends(part, states):
    """The states in which all steps of a part can have been taken."""
    everything = (1 << len(part)) - 1
    stack = [(0, state) for state in states]
    visited, ends = set(stack), set()
    while stack:
        done, state = stack.pop()
        if done == everything:
            ends.add(state)
            continue
        # Only what was invoked before the first return of what is left can be next.
        first = math.inf
        for at in range((~done & (done + 1)).bit_length() - 1, len(part)):
            if done >> at & 1:
                continue
            step = part[at]
            if step.invoked > first:
                break
            first = min(first, step.returned)
            for after in step.after(state):
                reached = (done | 1 << at, after)
                if reached not in visited:
                    visited.add(reached)
                    stack.append(reached)
        if len(visited) > STATES:
            return None
    return ends
