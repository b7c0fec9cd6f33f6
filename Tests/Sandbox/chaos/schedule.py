"""The faults of a random run: what, when, how many and for how long. It depends on the seed alone, and a longer run
begins with the faults of a shorter one."""

import random
from dataclasses import dataclass

# Seconds between two faults.
PAUSE = (5, 20)
# Kinds, and how often each comes. `lose` is a machine without its disk, `replace` one step of an instance refresh.
KINDS = {
    "kill": 3,
    "pause": 3,
    "partition": 3,
    "terminate": 2,
    "spot": 1,
    "lose": 1,
    "replace": 2,
    "aws": 3,
    "sidecar": 3,
    "metadata": 1,
}
# The ways in which AWS fails, and what of each; `away` answers nothing at all.
AWS = {"5xx": None, "throttle": None, "denied": None, "slow": 3, "away": None}
# The ways in which the metadata services fail.
METADATA = ("fail", "throttle", "slow", "away", "garbage", "frozen")


@dataclass(frozen=True)
class Fault:
    """- at: seconds after the start.
    - count, which: how many servers of all that may be chosen, and which, both as draws between 0 and 1.
    - seconds: how long it lasts.
    - detail: the way in which AWS or the metadata fails; whether a cut is of one way."""

    at: float
    kind: str
    count: float
    which: tuple
    seconds: float
    detail: str = ""

    def choose(self, candidates, most):
        """As many of the candidates as it draws, and at most so many."""
        candidates, chosen = list(candidates), []
        for draw in self.which[: 1 + int(self.count * most)]:
            if candidates:
                chosen.append(candidates.pop(int(draw * len(candidates))))
        return chosen


def schedule(seed, seconds):
    """Every kind once, in a random order, and then by their weights."""
    drawn = random.Random(f"nemesis/{seed}")
    first = drawn.sample(list(KINDS), len(KINDS))
    at, faults = 0.0, []
    while (at := at + drawn.uniform(*PAUSE)) < seconds:
        kind = first.pop() if first else drawn.choices(list(KINDS), KINDS.values())[0]
        # The same number of draws for each kind.
        count, which, lasts = drawn.random(), tuple(drawn.random() for _ in range(9)), drawn.uniform(1, 60)
        ways = {"aws": drawn.choice(list(AWS)), "metadata": drawn.choice(METADATA)}
        ways["partition"] = "one way" if drawn.random() < 0.3 else ""
        # A restart by the system comes within seconds.
        faults.append(Fault(at, kind, count, which, lasts / 6 if kind == "sidecar" else lasts, ways.get(kind, "")))
    return faults
