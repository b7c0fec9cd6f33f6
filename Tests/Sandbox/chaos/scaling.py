"""Scenarios of groups that shrink to nothing, grow, and replace each other: blue and green."""

import os
import time

from ..sandbox import ROOT
from ..waiting import until
from .checker import Limits, leads
from .cluster import GROUP
from .departures import EACH, one_at_a_time
from .group import HOOK, GroupChaos
from .scenarios import Bounds, finish, longest_gap, without_leader

GREEN = "consul-green"
# A teardown is believed once the desired capacity was 0 twice, 15 s apart.
TEARDOWN = 30
# Longer than a run lasts: the machine is off, and its disk can still be read.
NEVER = (3600, 3600)
AGENT = "#!/bin/sh\nexec consul agent -config-dir=/etc/consul.d\n"
EXAMPLE = os.path.join(ROOT, "userdata", "rolling-upgrade.sh")


def powered_off(run, member):
    return any(e["event"] == "powered-off" and e["instance"] == member.id for e in run.engine.events)


def s7_teardown(run):
    """The group is to be empty: the servers leave one after the other, and the last one keeps what was written."""
    bounds = Bounds(run)
    run.scale(0)
    begun = run.events[-1].begun
    only = lambda: (run.follow(), len(run.voters()) == 1)[1]
    bounds.check("all but one have left, s", run.measure("one is left", only, begun), EACH * (run.count - 1))
    run.engine.shutdown = NEVER
    (address,) = run.voters()
    last = next(member for member in run.members() if member.address == address)
    run.measure("the last one's hook ends", lambda: run.results(last), begun)
    ended = time.monotonic()
    # The agent of the one before may still end.
    completed = lambda: len(run.results()) == run.count
    bounds.check("every hook ends, s", run.measure("every hook ends", completed, begun), EACH * 4 + TEARDOWN)
    assert run.results() == ["CONTINUE"] * run.count, run.results()
    until(lambda: powered_off(run, last), run.describe)
    # What is on its disk, as one server that is alone reads it.
    with run.event("start the last one's agent", last, stops=True):
        last.boot(AGENT)
    until(lambda: last.consul("/v1/status/leader"), lambda: last.log[-3000:])
    verdict = run.finish("S7", Limits(floor=1, shrink=1), is_whole=False, readers=[last])
    one_at_a_time(run)
    bounds.check("without a leader until then, s", without_leader(run.samples, begun, ended - 1), 3)
    finish(run, bounds, verdict)


def s7_in_and_out(run):
    """Two are too many, and then too few."""
    bounds = Bounds(run)
    run.scale(run.count - 2)
    bounds.check("two have left, s", run.measure("two have left", run.is_settled, run.events[-1].begun), 2 * EACH)
    run.scale(run.count)
    bounds.check("all voters, s", run.measure("all voters", run.is_settled, run.events[-1].begun), 30)
    assert run.results() == ["CONTINUE"] * 2, run.results()
    verdict = run.finish("S7", Limits(floor=run.count - 2, shrink=1))
    one_at_a_time(run)
    finish(run, bounds, verdict)


def replace_the_only_one(run, bounds, act):
    """The only server holds all data: it goes once another one votes."""
    (last,) = run.servers
    act(last)
    begun = run.events[-1].begun
    run.measure("another one votes", lambda: (run.follow(), len(run.voters()) == 2)[1], begun)
    assert run.results(last) == []
    seconds = run.measure("replaced", lambda: run.is_settled() and last not in run.servers, begun)
    bounds.check("the only one is replaced, s", seconds, 60)
    assert run.results(last) == ["CONTINUE"], run.results(last)


def s7_the_only_one(run):
    """A group of one: its server is terminated, and then unhealthy with a policy that launches first."""
    bounds = Bounds(run)
    run.scale(1)
    run.measure("one is left", run.is_settled, run.events[-1].begun)
    replace_the_only_one(run, bounds, run.terminate_in_group)
    run.engine.maintain(GROUP, 100, 200)
    replace_the_only_one(run, bounds, run.unhealthy)
    verdict = run.finish("S7", Limits(floor=1, shrink=1))
    one_at_a_time(run)
    finish(run, bounds, verdict)


class BlueGreen(GroupChaos):
    """Two groups of one datacenter, as `docs/upgrades.md` has them.

    - by: `tag`, with the user data of the example; or `group`."""

    def __init__(self, sandbox, directory, seed, by, **keywords):
        super().__init__(sandbox, directory, seed, **keywords)
        both = f"--group {GROUP} --group {GREEN}"
        self.green_data = self.user_data.rstrip("\n") + f" {both}\n"
        self.client_data = self.client_data.replace(f"--group {GROUP}", both)
        if by == "tag":
            with open(EXAMPLE) as file:
                example = file.read().replace("--expect 3", f"--expect {self.count}")
            self.user_data = self.green_data = example.rstrip("\n") + f" --termination-hook {HOOK}\n"
            self.client_data = self.client_data.replace(both, "--tag Name=consul")


def healthy(member):
    """As the document has it checked."""
    return member.bootstrap("status", "--check").returncode == 0


def end_blue(run, bounds, blue):
    run.scale(0, GROUP)
    begun = run.events[-1].begun
    seconds = run.measure("blue has left", run.is_settled, begun)
    bounds.check("blue has left, s", seconds, EACH * len(blue))
    assert run.results(*blue) == ["CONTINUE"] * len(blue), run.results(*blue)
    run.delete_group(GROUP)
    return begun


def s7_blue_green(run):
    """A second group joins the first one's cluster, and the first one goes."""
    bounds = Bounds(run)
    blue = list(run.servers)
    run.create_group(GREEN, run.count, run.green_data)
    run.measure("both vote", run.is_settled, run.events[-1].begun)
    green = [member for member in run.servers if member not in blue]
    for member in green:
        until(lambda member=member: healthy(member), lambda member=member: member.bootstrap("status").stdout)
    begun = end_blue(run, bounds, blue)
    # The other one's name is still in its options.
    run.terminate_in_group(green[0])
    run.measure("a green one is replaced", run.is_settled, run.events[-1].begun)
    assert run.results(green[0]) == ["CONTINUE"]
    verdict = run.finish("S7 blue/green", Limits(floor=run.count - 1, shrink=1))
    one_at_a_time(run)
    voters = [set(sample.voters) for sample in run.samples if sample.time > begun and sample.voters and leads(sample)]
    addresses = {f"{member.address}:8300" for member in green[1:]}
    assert all(addresses <= of_sample for of_sample in voters), "green has lost a voter"
    bounds.check("gap without a write, s", longest_gap(run.operations, begun, time.monotonic()), 5)
    finish(run, bounds, verdict)


def s7_blue_goes_too_early(run):
    """The old group is emptied in the second in which the new one launches."""
    bounds = Bounds(run)
    blue = list(run.servers)
    run.create_group(GREEN, run.count, run.green_data)
    end_blue(run, bounds, blue)
    verdict = run.finish("S7 blue/green", Limits(floor=1, shrink=1))
    one_at_a_time(run)
    finish(run, bounds, verdict)
