"""What a run records: operations of the workload, samples of the servers, and events of the scenario.

Times are seconds of the monotonic clock, which all processes of a machine share. Files have one JSON array a line.
"""

import json
from dataclasses import astuple, dataclass

# Outcomes. An unknown operation may take effect at any time after its invocation, or never.
OK, FAIL, UNKNOWN = "ok", "fail", "unknown"
# Kinds of operations. A `final` read is a consistent read through one server after the end of the load.
WRITE, CAS, READ, STALE, FINAL, ACQUIRE, RELEASE = "write", "cas", "read", "stale", "final", "acquire", "release"
CHANGES = (WRITE, CAS)
CONSISTENT = (READ, FINAL)
# The error of an operation that the leader itself has answered with false: it was evaluated, and did not apply.
REFUSED = "false"


@dataclass(slots=True)
class Operation:
    """- value: written or read; None is an absent key. For a lock, the session.
    - index: the key's ModifyIndex as read, or as acknowledged; None if not known, 0 for an absent key.
    - expected: the index that a cas compares with.
    - server: through which agent; empty if the agent is a client."""

    thread: int
    kind: str
    key: str
    value: str | None
    index: int | None
    invoked: float
    returned: float
    outcome: str
    expected: int | None = None
    server: str = ""
    error: str = ""

    def __str__(self):
        compared = f" expected={self.expected}" if self.expected is not None else ""
        through = f" through {self.server}" if self.server else ""
        error = f" ({self.error[:120]})" if self.error else ""
        return (
            f"{self.invoked:.3f}-{self.returned:.3f} thread {self.thread} {self.kind} {self.key} {self.value} "
            f"index={self.index}{compared}{through}: {self.outcome}{error}"
        )


@dataclass(slots=True)
class Sample:
    """What one server answered at one time.

    - state: `up`, `refused` (no agent) or `timeout`; without `up` the rest is empty.
    - leader: its address, as this server knows it.
    - voters, peers: addresses in the raft configuration that this server has.
    - index: of that configuration.
    - cluster: the cluster's identity, where it was asked for and exists."""

    time: float
    server: str
    address: str
    state: str
    leader: str = ""
    voters: tuple = ()
    peers: tuple = ()
    index: int = 0
    cluster: str | None = None

    def __post_init__(self):
        self.voters, self.peers = tuple(self.voters), tuple(self.peers)


@dataclass(slots=True)
class Event:
    """What the scenario did, from `begun` to `ended`: kill, terminate, boot, cut, heal.

    - stops: whether the process of the server ended: what it had applied, it applies again."""

    begun: float
    ended: float
    kind: str
    server: str
    stops: bool = False
    text: str = ""


def write(file, record):
    file.write(json.dumps(astuple(record)) + "\n")


def read(path, kind):
    """The records of a file. The last line of a process that was killed may be incomplete."""
    records = []
    with open(path) as file:
        for line in file:
            if line.endswith("\n"):
                records.append(kind(*json.loads(line)))
    return records
