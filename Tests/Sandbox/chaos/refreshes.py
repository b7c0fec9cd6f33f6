"""Scenarios of instance refreshes that do not go through: a new version that is broken, and one that is looked at."""

import itertools
import time

from ..waiting import until
from .checker import Limits
from .cluster import GROUP
from .departures import REFRESH, one_at_a_time
from .group import HOOK, LAUNCH_HOOK
from .scenarios import Bounds, finish, longest_gap

# With these the servers boot.
OPTIONS = f"--lifecycle-hook {LAUNCH_HOOK} --verify-timeout 30s"
# Says its version, takes its configuration, and does not run.
NO_START = """mv /usr/bin/consul /usr/bin/consul.real
cat > /usr/bin/consul << 'END'
#!/bin/sh
case $1 in agent) echo 'panic: this release is broken' >&2; exit 2;; esac
exec /usr/bin/consul.real "$@"
END
chmod 755 /usr/bin/consul
"""
# It runs and joins, and autopilot waits for an hour before it lets a new server vote.
NO_VOTE = "--server-stabilization-time 1h"


def with_script(user_data, script):
    return user_data.replace("#!/bin/sh\n", "#!/bin/sh\n" + script, 1)


def broken(user_data, kind):
    if kind == "no start":
        return with_script(user_data, NO_START)
    return user_data.rstrip("\n") + f" {NO_VOTE}\n"


def has_ended(run, refresh):
    return lambda: (run.follow(), refresh.has_ended)[1]


def s6_broken_version(run, kind, rollback):
    """No old server is touched."""
    bounds = Bounds(run)
    old = list(run.servers)
    refresh = run.refresh(broken(run.user_data, kind), rollback=rollback)
    begun = run.events[-1].begun
    bounds.check("the refresh has failed, s", run.measure("it has failed", has_ended(run, refresh), begun), 90)
    assert refresh.status == ("RollbackSuccessful" if rollback else "Failed"), refresh.reason
    run.measure("as before", run.is_settled, begun)
    launched = [event for event in run.engine.events if event["event"] == "launch"]
    assert run.servers == old and len(launched) == 1, launched
    assert run.results(hook=LAUNCH_HOOK) == ["ABANDON"]
    # It has nothing that the others need: Auto Scaling does not keep it.
    assert run.results(hook=HOOK) == ["CONTINUE"] and run.engine.settled(GROUP)
    verdict = run.finish("S6", Limits(floor=run.count, shrink=1))
    bounds.check("gap without a write, s", longest_gap(run.operations, begun, time.monotonic()), 1)
    finish(run, bounds, verdict)


def s6_checkpoint(run, seconds=20):
    """One new server is looked at before the others follow."""
    bounds = Bounds(run)
    old = list(run.servers)
    refresh = run.refresh(checkpoints=[20, 100], delay=600)
    begun = run.events[-1].begun
    run.measure("the checkpoint", lambda: (run.follow(), refresh.reached == [20])[1], begun)
    run.measure("settled", run.is_settled, begun)
    (new,) = set(run.servers) - set(old)
    until(lambda: new.bootstrap("status", "--check").returncode == 0, lambda: new.bootstrap("status").stdout)
    held = list(run.servers)
    ends = time.monotonic() + seconds
    until(lambda: time.monotonic() > ends, every=0.2, timeout=seconds + 60)
    run.follow()
    assert run.servers == held and not refresh.has_ended, run.describe()
    refresh.proceed()
    ended = time.monotonic()
    run.measure("the refresh has ended", has_ended(run, refresh), ended, timeout=3 * REFRESH)
    assert refresh.status == "Successful" and refresh.reached == [20, 100], refresh.reason
    bounds.check("the rest of the refresh, s", run.measure("all voters", run.is_settled, ended), REFRESH)
    assert not set(run.servers) & set(old)
    assert run.results(*old) == ["CONTINUE"] * run.count, run.results(*old)
    verdict = run.finish("S6", Limits(floor=run.count, shrink=1))
    one_at_a_time(run)
    finish(run, bounds, verdict)


def s6_rollback(run, good=2):
    """The third new server is broken: those that were replaced are replaced again, by the old version."""
    bounds = Bounds(run)
    old = list(run.servers)
    number, before = itertools.count(), run.user_data
    refresh = run.refresh(lambda _: before if next(number) < good else broken(before, "no start"))
    begun = run.events[-1].begun
    run.measure("the roll-back has ended", has_ended(run, refresh), begun, timeout=3 * REFRESH)
    assert refresh.status == "RollbackSuccessful" and "abandoned" in refresh.reason, refresh.reason
    bounds.check("refresh and roll-back, s", run.measure("all voters", run.is_settled, begun), REFRESH)
    versions = {run.engine.versions[member.id] for member in run.servers}
    assert versions == {1} and len(set(run.servers) & set(old)) == run.count - good, run.describe()
    # Two of the old ones, the two that had replaced them, and the broken one.
    assert run.results(hook=HOOK) == ["CONTINUE"] * (2 * good + 1), run.results()
    verdict = run.finish("S6", Limits(floor=run.count, shrink=1))
    one_at_a_time(run)
    bounds.check("slowest acknowledged write, s", verdict.figures["slowest write s"], 5)
    finish(run, bounds, verdict)
