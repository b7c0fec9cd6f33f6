"""The scenarios: seed 000's five spanners, and cuts of the network. `test_chaos.py` runs each of them.

Every one ends with a cluster of the same number of voters, and with a clean verdict of the checker. The bounds of the
design are for two idle cores: the report compares with them; a run fails beyond `SLACK` times a bound.
"""

import collections
import itertools
import os
import time

from ..waiting import until
from . import checker, footprints, history, report

SLACK = float(os.environ.get("CHAOS_SLACK", "3"))


def clean(run, verdict):
    """Fails with the operations around each violation."""
    print(f"seed {run.seed}: {verdict.figures}", flush=True)
    if not verdict.is_clean:
        operations = history.read(run.path("operations.jsonl"), history.Operation)
        raise AssertionError(f"seed {run.seed}\n{report.violations(verdict, operations)}")


class Bounds:
    """Compares figures with bounds, and fails at the end with all of those that are beyond them."""

    def __init__(self, run):
        self.run, self.missed = run, []

    def check(self, what, value, bound, slack=SLACK):
        self.run.bounds.append({"what": what, "value": round(value, 3), "bound": bound, "met": value <= bound})
        print(f"{'':8}   {what}: {value:.2f}, bound {bound}", flush=True)
        if value > bound * slack:
            self.missed.append(f"{what}: {value:.2f}, bound {bound}, times {slack}")

    def end(self):
        assert not self.missed, f"seed {self.run.seed}: " + "; ".join(self.missed)


def longest_gap(operations, begun, ended):
    """Without an acknowledged write, of the gaps that touch a time."""
    return max((length for length, at in checker.gaps(operations) if at < ended and at + length > begun), default=0.0)


def unknown_of_a_writer(operations, begun, ended):
    """The most writes of one thread, invoked in a time, whose outcome is unknown."""
    within = [o for o in operations if o.kind in history.CHANGES and o.outcome == history.UNKNOWN]
    counts = collections.Counter(o.thread for o in within if begun <= o.returned and o.invoked <= ended)
    return max(counts.values(), default=0)


def without_leader(samples, begun, ended):
    """The longest time in which no server was the leader by its own account."""
    ended = min(ended, max(sample.time for sample in samples))
    times = [s.time for s in samples if begun <= s.time <= ended and checker.leads(s)]
    return max(b - a for a, b in itertools.pairwise([begun, *sorted(times), ended]))


def kill(run, kind, member):
    """One server, by one of seed 000's ways; those that do not come back are replaced."""
    {"kill": run.kill_agent, "terminate": run.terminate, "panic": run.panic}[kind](member)
    if kind != "kill":
        run.replace()


KINDS = ("kill", "terminate", "panic")
# A machine that is gone refuses nothing: Consul's agents dial it for 10 s, and their callers wait that long with them.
LOST_MACHINE = 12


def _one_by_one(run, name, choose, rounds, gap_bound, leader_stays):
    """Kills one server after the other; the next one when the cluster is whole again."""
    bounds = Bounds(run)
    windows = []
    for number in range(rounds):
        kind = KINDS[number % len(KINDS)]
        before, member = run.leader(), choose()
        begun = time.monotonic()
        kill(run, kind, member)
        launched = run.events[-1].begun
        seconds = run.measure("all voters", run.is_settled, launched)
        bounds.check(f"{kind}: all voters, s", seconds, 30)
        if leader_stays and member is not before:
            assert run.leader() is before, "a follower's end has moved the leader"
        windows.append((kind, begun, time.monotonic()))
    verdict = run.finish(name)
    for kind, begun, ended in windows:
        bound = LOST_MACHINE if kind == "panic" and not leader_stays else gap_bound
        bounds.check(f"{kind}: gap without a write, s", longest_gap(run.operations, begun, ended), bound)
        bounds.check(f"{kind}: without a leader, s", without_leader(run.samples, begun, ended), 3)
    return bounds, verdict, windows


def s1_followers(run, rounds=5):
    """Kill a Consul node: does it build a new quorum automatically?"""
    bounds, verdict, _ = _one_by_one(
        run, "S1", lambda: run.random.choice(run.followers()), rounds, gap_bound=1, leader_stays=True
    )
    finish(run, bounds, verdict)


def s2_leaders(run, rounds=5):
    """Kill the leader: the same questions."""
    bounds, verdict, windows = _one_by_one(run, "S2", run.leader, rounds, gap_bound=5, leader_stays=False)
    for kind, begun, ended in windows:
        # One in flight when the leader dies; another one where a pooled connection turns out to be closed, too.
        bounds.check(
            f"{kind}: unknown writes of a writer", unknown_of_a_writer(run.operations, begun, ended), 1, slack=2
        )
    finish(run, bounds, verdict)


def s3a_most_with_their_data(run):
    """Kill four of five at once, and boot them again."""
    bounds = Bounds(run)
    victims = run.random.sample(run.servers, run.count - 1)
    run.power_off(*victims)
    until(lambda: run.watch.now() and run.watch.leader() is None, run.describe)
    run.boot(*victims)
    seconds = run.measure("a leader", run.watch.leader, run.events[-1].ended)
    bounds.check("leader after the boot, s", seconds, 5)
    run.measure("all voters", run.is_settled, run.events[-1].ended)
    finish(run, bounds, run.finish("S3a"))


def s4_random(run, minutes):
    """Kill random nodes, one or two each time: a quorum whenever it is possible."""
    bounds = Bounds(run)
    ends = time.monotonic() + 60 * minutes
    interval = 60 * minutes / 12
    while (now := time.monotonic()) < ends:
        for member in run.random.sample(run.servers, run.random.choice((1, 1, 2) if run.count > 3 else (1,))):
            kill(run, run.random.choice(KINDS), member)
        # The dead are gone, and their replacements vote, before the next ones die.
        run.measure("all voters", run.is_settled, run.events[-1].begun)
        due = min(now + interval, ends)
        until(lambda due=due: time.monotonic() > due, every=0.2, timeout=interval + 60)
    verdict = run.finish("S4")
    # The same dozen of kills fills an hour, or less.
    bounds.check("without a leader, % of an hour", (100 - verdict.figures["leader present %"]) * minutes / 60, 1)
    leaves_nothing(run)
    finish(run, bounds, verdict)
    does_not_grow(run)


def s5_all_with_their_data(run):
    """Kill every node, and boot them again."""
    bounds = Bounds(run)
    run.power_off(*run.servers)
    run.boot(*run.servers)
    seconds = run.measure("a leader", run.watch.leader, run.events[-1].ended)
    bounds.check("leader after the boot, s", seconds, 5)
    run.measure("all voters", run.is_settled, run.events[-1].ended)
    finish(run, bounds, run.finish("S5"))


def s10_partition(run, leader_in, seconds=90):
    """The zones are cut from each other, with the leader on either side, and joined again."""
    bounds = Bounds(run)
    leader = run.leader()
    others = run.random.sample(run.followers(), run.count - 1)
    minority = others[: run.count // 2]
    if leader_in == "minority":
        minority = [leader, *minority[1:]]
    majority = [server for server in run.servers if server not in minority]
    begun = time.monotonic()
    # One client on each side: the load of both goes on.
    run.cut(minority + run.clients[:1], majority + run.clients[1:])
    addresses = {server.address for server in majority}
    leads = lambda: any(s.address in addresses and s.leader == f"{s.address}:8300" for s in run.watch.now())
    bounds.check("leader of the majority, s", run.measure("a leader of the majority", leads, begun), 5)
    until(lambda: time.monotonic() > begun + seconds, every=0.2, timeout=seconds + 60)
    assert leads(), run.describe()
    run.heal()
    seconds = run.measure("one leader", run.follow_one_leader, run.events[-1].ended)
    bounds.check("one leader after the heal, s", seconds, 5)
    # Autopilot has removed the cut ones meanwhile: they join again.
    seconds = run.measure("all voters", run.is_settled, run.events[-1].ended)
    bounds.check("all voters after the heal, s", seconds, 30)
    finish(run, bounds, run.finish("S10"))


def finish(run, bounds, verdict):
    figures = verdict.figures
    print(f"{'':8}   lost {sum(v.check == 'lost' for v in verdict.violations)}, unknown {figures['writes unknown']}")
    report.write(run, run.name, run.operations, run.samples, verdict)
    clean(run, verdict)
    bounds.end()


def does_not_grow(run):
    """The sidecars that live on use as much memory, and as many descriptors, as at their beginning."""
    judged = footprints.summaries(run.footprints.samples)
    for summary in judged:
        print(f"{'':8}   sidecar {summary}", flush=True)
    assert not footprints.growing(judged), footprints.growing(judged)


def left_over(run):
    """What a run must not leave behind: dead members, sessions, a lock, recovery files."""
    found = []
    for server in run.servers:
        failed = [m["Name"] for m in server.consul("/v1/agent/members") or [] if m["Status"] == 4]
        found += [f"{server.address} lists {name} as failed" for name in failed]
        found += [f"{server.address} has a peers.json"] * server.exists("/opt/consul/raft/peers.json")
    sessions = run.servers[0].consul("/v1/session/list?consistent")
    found += [f"session {session['ID']} {session['Name']} of {session['Node']}" for session in sessions or []]
    locks = run.servers[0].consul("/v1/kv/consul-bootstrap/leave?consistent")
    return found + [f"lock {lock['Key']} of session {lock['Session']}" for lock in locks or [] if lock.get("Session")]


def leaves_nothing(run, timeout=180):
    """A session ends within twice its time of 30 s, and a dead member is removed within 90 s."""
    begun = run.events[-1].ended
    return run.measure("nothing is left", lambda: not left_over(run), begun, timeout, lambda: "\n".join(left_over(run)))
