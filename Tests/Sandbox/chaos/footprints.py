"""Samples the memory and the open descriptors of every sidecar during a run: neither may grow."""

import statistics
import threading
import time
from collections import defaultdict

from .. import footprint

INTERVAL = 5.0
# Its first polls are over, and its first connections are open.
WARM_UP = 60.0
# A process is judged that has lived for so long after that.
LIVED = 120.0
# Of the memory that is no program text, MiB; between the beginning and the end of what is judged.
GROWTH = 2.0
# MiB of memory in all.
MOST = 24.0
# A call to AWS, to the agent and to the metadata service that are open at the same time in one part only.
DESCRIPTORS = 3


class Footprints(threading.Thread):
    """- members: returns the servers of now."""

    def __init__(self, members):
        super().__init__(daemon=True)
        self.members = members
        # By address and process: time, MiB, descriptors, MiB without program text.
        self.samples = defaultdict(list)
        self.ended = threading.Event()
        self._known = {}

    def run(self):
        while not self.ended.wait(INTERVAL):
            for member in list(self.members()):
                self._sample(member)

    def _sample(self, member):
        try:
            process = self._known.get(member.id)
            if process is None or not self._is(process):
                pid = footprint.sidecar(member)
                if pid is None:
                    return
                process = self._known[member.id] = (pid, footprint.start(pid))
            pid = process[0]
            memory = footprint.resident(pid), footprint.anonymous(pid)
            figures = (time.monotonic(), memory[0], footprint.descriptors(pid), memory[1])
        except (OSError, IndexError, StopIteration):
            # It has ended meanwhile.
            return
        self.samples[member.address, process].append(figures)

    def _is(self, process):
        try:
            return footprint.start(process[0]) == process[1]
        except OSError:
            return False

    def finish(self):
        self.ended.set()
        if self.is_alive():
            self.join()


def summaries(samples):
    """One for each process that has lived long enough.

    Peaks of single calls are not growth: the median of the first third is compared with that of the last one."""
    found = []
    for (address, _), figures in samples.items():
        warm = [f for f in figures if f[0] >= figures[0][0] + WARM_UP]
        if not warm or warm[-1][0] - warm[0][0] < LIVED:
            continue
        third = max(1, len(warm) // 3)
        growth = [
            statistics.median(f[at] for f in warm[-third:]) - statistics.median(f[at] for f in warm[:third])
            for at in (3, 2)
        ]
        found.append(
            {
                "server": address,
                "seconds": round(warm[-1][0] - warm[0][0]),
                "MiB": [round(f(x[1] for x in warm), 2) for f in (min, statistics.median, max)],
                "MiB grown": round(growth[0], 2),
                "descriptors": [f(x[2] for x in warm) for f in (min, statistics.median, max)],
                "descriptors grown": growth[1],
            }
        )
    return found


def growing(summaries):
    return [
        s for s in summaries if s["MiB grown"] > GROWTH or s["descriptors grown"] > DESCRIPTORS or s["MiB"][2] > MOST
    ]
