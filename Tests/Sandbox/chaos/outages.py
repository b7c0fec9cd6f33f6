"""Answers that would do harm if they were believed: a load balancer's check in an outage, and the nine lies of AWS."""

import re
import time

from ..conftest import healthy
from ..lies import OF_ALL, reuse
from ..waiting import until
from . import kills
from .checker import Limits, leads
from .clients import catalog
from .cluster import CLIENT, GROUP
from .departures import await_failed
from .group import HOOK
from .scenarios import Bounds, finish

REMOVED = re.compile(r'removed a dead (?:server|member).* node="?([^ "]+)')
# Gossip has to call a member failed for 30 s, and EC2 to answer twice in that time.
LONG = 75
ABANDONED = 90


def s14_health_check(run):
    """A load balancer that asks `/v1/status/leader` calls every survivor of an outage unhealthy."""
    bounds = Bounds(run)
    group = run.sandbox.aws.group(GROUP)
    group.health_check_type = "ELB"
    said = run.servers[0].bootstrap("doctor").stdout
    assert "the health check type of Auto Scaling group consul is ELB" in said, said
    # Until the hook is abandoned: half a minute.
    run.engine.put_hook(GROUP, heartbeat=30, global_timeout=ABANDONED, name=HOOK)
    dead = run.random.sample(run.servers, run.count // 2 + 1)
    survivors = [server for server in run.servers if server not in dead]
    run.power_off(*dead)
    run.measure("no leader", lambda: run.watch.leader() is None, run.events[-1].begun)
    with run.event("unhealthy", *survivors):
        for member in survivors:
            run.engine.unhealthy(member)
    notice = run.events[-1].begun
    retained = lambda: {run.engine.state(member) for member in survivors} == {"Terminating:Retained"}
    bounds.check("the survivors are retained, s", run.measure("they are retained", retained, notice), ABANDONED)
    # The group has launched others, which have no data and found no other cluster.
    assert run.results(*survivors) == ["ABANDON"] * len(survivors), run.results()
    assert run.watch.leader() is None and all(member.pid for member in survivors)
    run.follow()
    run.boot(*dead)
    bounds.check("leader after the boot, s", run.measure("a leader", run.watch.leader, run.events[-1].ended), 5)
    # Those that were retained leave now that it is safe, and their end is the operator's.
    run.measure("the retained have left", lambda: run.have_left(*survivors), run.events[-1].ended)
    with run.event("end the retained", *survivors):
        for member in survivors:
            run.engine.terminate_in_group(member)
    run.measure("all voters", run.is_settled, run.events[-1].ended)
    assert run.results(*survivors) == ["ABANDON"] * len(survivors), run.results()
    finish(run, bounds, run.finish("S14", Limits(shrink=1)))


def s12_retained(run):
    """A server that may not leave is abandoned and retained, leaves once it may, and powers itself off: a recorded
    departure, then one for each point of it."""
    run.engine.put_hook(GROUP, heartbeat=30, global_timeout=ABANDONED, name=HOOK)
    found = kills.points(retain(run), last="this instance has left")
    print(f"{'':8}   {len(found)} points", flush=True)
    for point in found:
        retain(run, point)
    finish(run, Bounds(run), run.finish("S12", Limits(shrink=1)))


def retain(run, point=None):
    """Returns what its sidecar has logged since the notice."""
    member, *paused = run.random.sample(run.followers(), run.count // 2 + 1)
    sidecar = run.listen(member)["sidecar"]
    with run.event("pause", *paused, stops=True):
        for other in paused:
            run.sandbox.faults.pause_agent(other)
        await_failed(run, paused)
    mark = len(sidecar.lines)
    sidecar.kill_at(*[point] if point else [])
    run.terminate_in_group(member, decrement=True)
    begun = run.events[-1].begun
    run.measure("it is retained", lambda: run.engine.state(member) == "Terminating:Retained", begun)
    assert run.results(member) == ["ABANDON"] and member.address in run.voters(), run.results(member)
    with run.event("resume", *paused):
        for other in paused:
            run.sandbox.faults.resume(other)
    run.measure("it has left", lambda: run.have_left(member), run.events[-1].begun)
    run.measure("it has ended", lambda: run.engine.state(member) is None, run.events[-1].begun)
    assert run.results(member) == ["ABANDON"], run.results(member)
    if point:
        kills.note_kills(run, member, "retained", [point], sidecar.kills)
    run.scale(run.count)
    run.measure("settled", run.is_settled, run.events[-1].begun)
    until(lambda: kills.is_free(run), run.describe, every=0.5)
    return sidecar.lines[mark:]


def removed(members):
    """The members that their reapers have removed."""
    return {node for member in members for node in REMOVED.findall(member.log)}


def pause(run, members, since):
    """Their agents, for long enough that a reaper would act that believed the answers."""
    with run.event("pause", *members, stops=True):
        for member in members:
            run.sandbox.faults.pause_agent(member)
        until(lambda: time.monotonic() > since + LONG, every=0.5, timeout=2 * LONG)
        for member in members:
            run.sandbox.faults.resume(member)
    failed = lambda: {m["Name"] for m in run.leader().consul("/v1/agent/members") if m["Status"] == 4}
    until(lambda: not failed() & {member.id for member in members}, run.describe, every=0.5)


def s15_lies(run):
    """AWS answers falsely, of one instance or of all, while some are dead and some are only paused."""
    bounds = Bounds(run)
    sandbox, lies = run.sandbox, run.sandbox.aws.lies
    fleet = [sandbox.launch(user_data=CLIENT) for _ in range(5)]
    healthy(*fleet)
    unknown, running, forgotten, replaced, gone = fleet
    # Of five servers a majority lives.
    paused, listed = run.random.sample(run.followers(), 2)
    lived = run.leader()
    with run.event("lies of one", paused, listed):
        lies.tell("terminated", lived)
        lies.tell("terminated", paused)
        lies.tell("not-found", unknown)
        lies.tell("in-service", listed)
        lies.tell("running", running)
        lies.tell("forgotten", forgotten)
    run.panic(listed)
    for client in (running, forgotten, replaced):
        sandbox.terminate(client)
    new = reuse(sandbox, replaced, user_data=CLIENT)
    healthy(new)
    pause(run, [paused, unknown], run.events[-1].ended)
    assert removed(run.servers) == set(), removed(run.servers)
    for kind in OF_ALL:
        with run.event(kind):
            lies.clear()
            lies.tell(kind)
        pause(run, [paused, unknown], run.events[-1].ended)
        assert removed(run.servers) == set(), (kind, removed(run.servers))
    with run.event("the truth"):
        lies.clear()
    sandbox.terminate(gone)
    dead = {member.id for member in (listed, running, forgotten, gone)}
    left = lambda: not dead & (catalog(run.leader()) or dead)
    run.measure("the dead are out of the catalog", left, run.events[-1].begun)
    until(lambda: removed(run.servers) >= dead, run.describe)
    # `replaced` is out by its name: its address is that of a living one.
    assert removed(run.servers) <= dead | {replaced.id}, removed(run.servers)
    assert {unknown.id, new.id} <= catalog(run.leader())
    run.measure("settled", run.is_settled, run.events[-1].begun)
    verdict = run.finish("S15", Limits(shrink=1))
    told = next(event.begun for event in run.events if event.kind == "the truth")
    for sample in run.samples:
        if sample.time < told and sample.voters and leads(sample):
            assert len(sample.voters) == run.count, sample
    finish(run, bounds, verdict)
