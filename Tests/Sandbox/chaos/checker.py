"""The checker: what must hold for every recorded history, whatever was killed or cut.

1. `lost`: an acknowledged write is there at the end, or a later one has replaced it.
2. `linearizable`: a consistent read returns the last write; of several cas on one index at most one succeeds.
3. `stale`: what one server returns to stale reads never goes back, and was written.
4. `exclusion`: a lock has one holder at a time.
5. `cluster`: there is one cluster, one leader for each raft index, and one raft configuration that changes in steps.
6. `available`: how long no write succeeded, and how many failed or have an unknown outcome: numbers for the bounds.

Each write is unique, and ModifyIndex orders what was written, so that a sort and a pass over each key decide. The
operations of a short history are also searched for an order (`search.py`).
"""

import bisect
import itertools
from collections import defaultdict
from dataclasses import dataclass, field

from .history import ACQUIRE, CHANGES, FAIL, FINAL, OK, READ, RELEASE, STALE, UNKNOWN
from .registers import Register, Violation
from .search import search


@dataclass
class Limits:
    """What a scenario allows of the raft configuration.

    - floor: the fewest voters at any time; 0 does not limit them.
    - shrink: by how many voters it may shrink from one to the next; None does not limit it."""

    floor: int = 0
    shrink: int | None = None


@dataclass
class Verdict:
    violations: list = field(default_factory=list)
    figures: dict = field(default_factory=dict)

    @property
    def is_clean(self):
        return not self.violations


def check(operations, samples=(), events=(), limits=None):
    """Every check; those that need what was not recorded find nothing."""
    verdict = Verdict()
    for found in (
        lost(operations),
        linearizable(operations, verdict.figures),
        stale(operations, events, verdict.figures),
        exclusion(operations),
        cluster(operations, samples, limits or Limits()),
    ):
        verdict.violations += found
    begun = min((o.invoked for o in operations), default=0.0)
    verdict.figures |= availability(operations) | leadership([s for s in samples if s.time >= begun])
    return verdict


def by_key(operations, *kinds):
    keys = defaultdict(list)
    for operation in operations:
        if operation.kind in kinds:
            keys[operation.key].append(operation)
    return keys


# 1.


def lost(operations):
    """Of keys that one thread writes."""
    found = []
    for key, all in by_key(operations, *CHANGES, FINAL).items():
        changes = sorted((o for o in all if o.kind in CHANGES), key=lambda o: o.invoked)
        if len({o.thread for o in changes}) > 1:
            continue
        acknowledged = [o for o in changes if o.outcome == OK]
        if not acknowledged:
            continue
        last = acknowledged[-1]
        # An unknown write of earlier may take effect later.
        allowed = {last.value} | {o.value for o in changes if o.outcome == UNKNOWN}
        for final in (o for o in all if o.kind == FINAL and o.outcome == OK):
            if final.value not in allowed:
                found.append(Violation("lost", f"{key}: {last.value} was acknowledged, and is lost", (last, final)))
    return found


# 2.


def linearizable(operations, figures):
    found = []
    undecided = searched = 0
    for key, all in by_key(operations, *CHANGES, READ, FINAL, STALE).items():
        register = Register(key, all)
        of_this = [*register.check(), *register.refusals()]
        found += of_this
        answer = search([o for o in all if o.kind != STALE])
        undecided += answer is None
        searched += answer is not None
        if answer is False and not of_this:
            found.append(Violation("linearizable", f"{key}: no order of its operations explains what was read"))
    figures |= {"keys searched": searched, "keys not searched": undecided}
    return found


# 3.


def stale(operations, events, figures):
    found, lags = [], []
    stops = defaultdict(list)
    for event in events:
        if event.stops:
            stops[event.server].append((event.begun, event.ended))
    for key, all in by_key(operations, STALE, *CHANGES, READ, FINAL).items():
        reads = [o for o in all if o.kind == STALE and o.outcome == OK]
        for server, of_server in itertools.groupby(sorted(reads, key=lambda o: o.server), key=lambda o: o.server):
            # Through a client, the server is not known.
            if server:
                found += _goes_back(key, sorted(of_server, key=lambda o: o.invoked), stops[server])
        lags += _lags(reads, all)
    lags.sort()
    if lags:
        figures |= {"stale reads": len(lags), "stale lag p99 s": round(lags[len(lags) * 99 // 100], 3)}
    return found


def _goes_back(key, reads, stops):
    """A process that was started again applies its log from the start."""
    found = []
    lives = defaultdict(list)
    for read in reads:
        if not any(begun < read.returned and read.invoked < ended for begun, ended in stops):
            lives[sum(ended <= read.invoked for _, ended in stops)].append(read)
    for life in lives.values():
        returned = sorted(life, key=lambda o: o.returned)
        latest, at = None, 0
        for read in life:
            while at < len(returned) and returned[at].returned < read.invoked:
                if latest is None or returned[at].index > latest.index:
                    latest = returned[at]
                at += 1
            if latest and read.index < latest.index:
                text = f"{key}: {read.server} went back from index {latest.index} to {read.index}"
                found.append(Violation("stale", text, (latest, read)))
    return found


def _lags(reads, all):
    """For how long a value had been replaced when a read returned it."""
    replaced = sorted((o.index, o.returned) for o in all if o.kind in CHANGES and o.outcome == OK and o.index)
    # By position: the earliest return of a change with an index from there on.
    earliest = list(itertools.accumulate((returned for _, returned in reversed(replaced)), min))[::-1]
    lags = []
    for read in reads:
        at = bisect.bisect_right(replaced, (read.index, float("inf")))
        lags.append(max(0.0, read.invoked - earliest[at]) if at < len(replaced) else 0.0)
    return lags


# 4.


def exclusion(operations):
    found = []
    for key, all in by_key(operations, ACQUIRE, RELEASE).items():
        held = _holdings(all)
        found += [Violation("exclusion", f"{key}: one index, two holders", pair) for pair in _same_index(held)]
        held.sort(key=lambda holding: holding[0].index)
        # Those that were released: nothing else was acquired from their first index to their last.
        for (acquire, release), (other, _) in itertools.pairwise(held):
            if release and other.index < release.index:
                found.append(Violation("exclusion", f"{key}: two holders", (acquire, other, release)))
        # In real time: one that begins and ends its acquisition within the other's.
        whole = sorted(((a, r) for a, r in held if r), key=lambda holding: holding[0].returned)
        acquired = sorted((a for a, _ in held), key=lambda acquire: acquire.invoked)
        at = 0
        for acquire, release in whole:
            while at < len(acquired) and acquired[at].invoked <= acquire.returned:
                at += 1
            for other in acquired[at:]:
                if other.invoked >= release.invoked:
                    break
                if other.returned < release.invoked:
                    text = f"{key}: acquired while another session held it"
                    found.append(Violation("exclusion", text, (acquire, other, release)))
    return found


def _holdings(all):
    """Pairs of an acquisition and its release; None if it was not acknowledged."""
    releases = {o.value: o for o in all if o.kind == RELEASE and o.outcome == OK}
    return [(o, releases.get(o.value)) for o in all if o.kind == ACQUIRE and o.outcome == OK]


def _same_index(held):
    first = {}
    for acquire, _ in held:
        other = first.setdefault(acquire.index, acquire)
        if other is not acquire:
            yield other, acquire


# 5.


def cluster(operations, samples, limits):
    found = []
    identities = {}
    for sample in samples:
        if sample.cluster:
            identities.setdefault(sample.cluster, sample)
    if len(identities) > 1:
        found.append(Violation("cluster", f"two clusters: {sorted(identities)}", tuple(identities.values())))
    # One log gives each index once.
    places = {}
    for operation in operations:
        if not operation.index or operation.outcome != OK:
            continue
        if operation.kind in (*CHANGES, READ, FINAL, STALE, ACQUIRE):
            place = (operation.key, operation.value)
            other = places.setdefault(operation.index, (place, operation))
            if other[0][0] != place[0]:
                text = f"two logs: index {operation.index} wrote {other[0][0]} and {place[0]}"
                found.append(Violation("cluster", text, (other[1], operation)))
    return found + _configurations(samples, limits)


def _configurations(samples, limits):
    """As each leader gave it: a follower may have an older one."""
    found, before = [], None
    for sample in sorted(samples, key=lambda s: s.time):
        if not sample.voters or not leads(sample):
            continue
        count = len(sample.voters)
        if limits.floor and count < limits.floor:
            found.append(Violation("cluster", f"{count} voters, {limits.floor} are the fewest allowed", (sample,)))
        if before and limits.shrink is not None:
            gone = set(before.voters) - set(sample.voters)
            if len(gone) > limits.shrink:
                text = f"{len(gone)} voters left at once: {sorted(gone)}"
                found.append(Violation("cluster", text, (before, sample)))
        before = sample
    return found


# 6.


def gaps(operations, at_least=0.0):
    """Times without an acknowledged write: from the return of one to the return of the next, or of the last attempt;
    longest first."""
    changes = [o for o in operations if o.kind in CHANGES]
    returned = sorted(o.returned for o in changes if o.outcome == OK)
    returned += [max((o.returned for o in changes), default=0.0)] if returned else []
    found = [(b - a, a) for a, b in itertools.pairwise(returned) if b - a >= at_least]
    return sorted(found, reverse=True)


def availability(operations):
    changes = [o for o in operations if o.kind in CHANGES]
    acknowledged = [o for o in changes if o.outcome == OK]
    longest = gaps(changes)[:1]
    unknown = defaultdict(int)
    for operation in changes:
        unknown[operation.thread] += operation.outcome == UNKNOWN
    return {
        "operations": len(operations),
        "writes acknowledged": len(acknowledged),
        "writes failed": sum(o.outcome == FAIL and o.error != "false" for o in changes),
        "cas refused": sum(o.outcome == FAIL and o.error == "false" for o in changes),
        "writes unknown": sum(unknown.values()),
        "unknown per writer": max(unknown.values(), default=0),
        "longest gap s": round(longest[0][0], 3) if longest else 0.0,
        "slowest write s": round(max((o.returned - o.invoked for o in acknowledged), default=0.0), 3),
    }


def leads(sample):
    """The leader by its own account: a follower may still name one that is gone."""
    return sample.leader.startswith(sample.address + ":")


def leadership(samples):
    """How much of the time some server was the leader by its own account, in steps of 100 ms."""
    steps = defaultdict(bool)
    for sample in samples:
        steps[int(sample.time * 10)] |= leads(sample)
    if not steps:
        return {}
    return {"leader present %": round(100 * sum(steps.values()) / len(steps), 2)}


def around(operations, violation, count=10):
    """The operations on the same keys around those of a violation, for a report."""
    culprits = [o for o in violation.operations if hasattr(o, "invoked")]
    if not culprits:
        return []
    keys = {o.key for o in culprits}
    nearby = sorted((o for o in operations if o.key in keys), key=lambda o: o.invoked)
    last = max(culprits, key=lambda o: o.invoked)
    at = next(i for i, o in enumerate(nearby) if o is last)
    return nearby[max(0, at - count // 2) : at + count // 2]
