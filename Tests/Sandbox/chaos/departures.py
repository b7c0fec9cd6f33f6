"""Scenarios of machines that are to go: they leave one at a time, and only while the others keep their quorum."""

import itertools
import time

from ..waiting import until
from .checker import Limits, leads
from .group import HOOK
from .scenarios import Bounds, finish, longest_gap, without_leader

# A leave takes Consul 5 s to drain, and the lock is free 5 s after its holder is gone.
EACH = 15
# For five servers; two more of it are a limit.
REFRESH = 360
# A removal that is seen 100 ms late, and the next one not, are that much closer.
APART = 4.5


def removals(samples):
    """When the leader's configuration had fewer voters than before."""
    found, before = [], None
    for sample in sorted(samples, key=lambda s: s.time):
        if sample.voters and leads(sample):
            if before and set(before) - set(sample.voters):
                found.append(sample.time)
            before = sample.voters
    return found


def one_at_a_time(run):
    times = removals(run.samples)
    print(f"{'':8}   removals after {[round(t - run.events[0].begun, 1) for t in times]} s", flush=True)
    assert all(b - a >= APART for a, b in itertools.pairwise(times)), times


def s6_refresh(run):
    """An instance refresh replaces the whole group: it launches before it terminates."""
    bounds = Bounds(run)
    refresh = run.refresh()
    ended = lambda: (run.follow(), refresh.has_ended)[1]
    run.measure("the refresh has ended", ended, run.events[-1].begun, timeout=3 * REFRESH)
    assert refresh.status == "Successful", refresh.reason
    seconds = run.measure("all voters", run.is_settled, run.events[-1].begun)
    bounds.check("the refresh, s", seconds, REFRESH)
    assert run.results(hook=HOOK) == ["CONTINUE"] * run.count, run.results()
    verdict = run.finish("S6", Limits(floor=run.count, shrink=1))
    most = max(len(sample.voters) for sample in run.samples)
    assert most <= run.count + 2, most
    one_at_a_time(run)
    bounds.check("slowest acknowledged write, s", verdict.figures["slowest write s"], 5)
    bounds.check("unknown writes", verdict.figures["writes unknown"], 5)
    finish(run, bounds, verdict)


def s7_scale_in(run, desired):
    """Several servers are to go at once."""
    bounds = Bounds(run)
    count = run.count - desired
    run.scale(desired)
    seconds = run.measure("the others have left", run.is_settled, run.events[-1].begun)
    bounds.check("all have left, s", seconds, EACH * count)
    assert run.results() == ["CONTINUE"] * count, run.results()
    verdict = run.finish("S7", Limits(floor=desired, shrink=1))
    one_at_a_time(run)
    bounds.check("without a leader, % of the time", 100 - verdict.figures["leader present %"], 1, slack=10)
    finish(run, bounds, verdict)


def s7_replaced(run, count):
    """Several are terminated in the same second, and the group replaces them."""
    bounds = Bounds(run)
    victims = run.random.sample(run.servers, count)
    run.terminate_in_group(*victims)
    bounds.check("they have left, s", run.measure("left", lambda: run.have_left(*victims), run.events[-1].begun), 60)
    run.measure("all voters", run.is_settled, run.events[-1].begun)
    assert run.results(*victims) == ["CONTINUE"] * count, run.results()
    verdict = run.finish("S7", Limits(shrink=1))
    one_at_a_time(run)
    finish(run, bounds, verdict)


def await_failed(run, dead):
    """Waits until gossip has noticed that they are dead."""
    leader, addresses = run.leader(), {member.address for member in dead}
    failed = lambda: {m["Addr"] for m in leader.consul("/v1/agent/members") if m["Status"] == 4}
    until(lambda: failed() == addresses, run.describe, every=0.5)


def s8_the_dead_are_counted(run, proof, at_once=False):
    """Two of five are dead and still voters, and a third is to go: with it the quorum would.

    - proof: whether EC2 says that the dead are gone (`gone`), that they run (`running`), or nothing (`away`).
    - at_once: before gossip has noticed that they are dead."""
    bounds = Bounds(run)
    dead = run.random.sample(run.followers(), 2)
    if proof == "away":
        run.aws_away()
    if proof == "running":
        run.vanish(*dead)
    else:
        run.panic(*dead)
    leader = run.leader()
    if not at_once:
        await_failed(run, dead)
    third = run.random.choice([server for server in run.servers if server not in (leader, *dead)])
    run.terminate_in_group(third, decrement=True)
    notice = run.events[-1].begun
    if proof != "gone":
        # Longer than a departure takes that may go on.
        until(lambda: time.monotonic() > notice + 60, every=0.2, timeout=120)
        assert third.address in run.voters() and len(run.voters()) == run.count, run.describe()
        assert run.results() == [], run.results()
        notice = time.monotonic()
        if proof == "running":
            run.panic(*dead)
        else:
            run.aws_back()
    seconds = run.measure("the third has left", lambda: run.have_left(third), notice)
    bounds.check("from the proof to the end of the leave, s", seconds, 45)
    run.measure("settled", run.is_settled, notice)
    assert run.results(third) == ["CONTINUE"]
    finish(run, bounds, run.finish("S8", Limits(floor=2)))


def s9_spot(run, count):
    """EC2 takes back some of five at once, with a notice of two minutes."""
    bounds = Bounds(run)
    victims = run.random.sample(run.servers, count)
    run.spot(*victims)
    seconds = run.measure("they have left", lambda: run.have_left(*victims), run.events[-1].begun)
    bounds.check("all have left, s", seconds, 45 if count == 1 else 90)
    run.end_by_ec2(*victims)
    run.measure("all voters", run.is_settled, run.events[-1].begun)
    verdict = run.finish("S9", Limits(floor=run.count - count, shrink=1))
    one_at_a_time(run)
    finish(run, bounds, verdict)


def plain(run, name, act, seconds=90):
    """What Consul alone makes of it: only recorded, and safe in any case."""
    act(run)
    begun = run.events[-1].begun
    ended = lambda: run.is_settled() or time.monotonic() > begun + seconds
    until(ended, run.describe, every=0.2, timeout=seconds + 60)
    is_whole = run.is_settled()
    verdict = run.finish(name, is_whole=is_whole)
    bounds = Bounds(run)
    bounds.check("without a leader at the end, s", without_leader(run.samples, begun, time.monotonic()), 5, slack=1e9)
    bounds.check("gap without a write, s", longest_gap(run.operations, begun, time.monotonic()), 5, slack=1e9)
    print(f"{'':8}   settled: {is_whole}, voters {sorted(run.voters())}", flush=True)
    finish(run, bounds, verdict)
