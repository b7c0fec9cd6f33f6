"""S18: a nemesis that breaks a random part of the cluster every few seconds, by the schedule of a seed.

With its limit, a majority of the voters is always whole. Without it, any number of servers is killed, paused or cut off
at once, and any number is to leave in order; only machines whose disks are lost are never a majority, since then
nothing could come back. In both, everything has to be well again at the end.
"""

import contextlib
import json
import math
import subprocess
import time

from ..lifecycle_api import LAUNCHING
from ..test_record import entries, names
from ..waiting import until
from . import history
from .checker import leads
from .cluster import FRESH, GROUP
from .group import GroupChaos
from .scenarios import Bounds, does_not_grow, finish, leaves_nothing
from .schedule import AWS, schedule

# A killed agent is not taken for one that runs, which its last sample says.
KILLED = 1.5
# The notice that EC2 gives to a spot instance.
SPOT_NOTICE = 120
# The machines that this one can hold.
SPARE = 4
LAUNCH_HOOK = "launching"
RECORD = "/chaos/cluster"
OPTIONS = f"--cluster-record ssm:{RECORD} --sidecar-interval 10s"
# A run that has failed is started again so often: what fails for good is found.
RESTARTS = 40
RESTART_AFTER = 3
# Of a shell, for a command that SIGKILL has ended; and Python's.
KILLED_STATUS = (137, -9)
LAUNCHES = ("Pending", "Pending:Wait")


class NemesisChaos(GroupChaos):
    """Servers whose system restarts what has failed, in a group that launches before it terminates."""

    def _prepare(self):
        super()._prepare()
        # Those of the start are in service at once.
        hooked = self.user_data.rstrip("\n") + f" --lifecycle-hook {LAUNCH_HOOK}\n"
        self.engine.groups[GROUP].user_data = hooked
        self.engine.put_hook(GROUP, LAUNCHING, heartbeat=120, name=LAUNCH_HOOK)
        self.engine.maintain(GROUP, 100, 120)

    def note(self, kind, *members, text=""):
        """An event that takes no time."""
        now = time.monotonic()
        for id in [member.id for member in members] or [""]:
            self.events.append(history.Event(now, now, kind, id, False, text))
        names = " ".join(member.address for member in members)
        print(f"{now - self.events[0].begun:8.1f} s  {kind} {names} {text}", flush=True)


class Active:
    """A fault that goes on.

    - breaks: whether its servers are not to be counted on.
    - destroys: whether they are gone with their data, now or at its end."""

    def __init__(self, kind, members, ends, end=lambda: None, breaks=True, destroys=False):
        self.kind, self.members, self.ends, self.end = kind, members, ends, end
        self.breaks, self.destroys = breaks, destroys


class Nemesis:
    """- limited: whether a majority of the voters stays whole."""

    def __init__(self, run, limited=True):
        self.run, self.limited = run, limited
        self.active, self.counts, self.skipped = [], {}, {}
        # Runs started again: by instance, the process and how often.
        self.restarted = {}
        # Those whose run has ended, and is started again at this time.
        self.ended = {}
        self.lost = set()

    def strike(self, seconds):
        """All faults of the schedule, and the end of each."""
        begun = time.monotonic()
        for fault in schedule(self.run.seed, seconds):
            self._work(lambda due=begun + fault.at: time.monotonic() >= due, 60)
            reason = self._try(fault)
            if reason:
                self.skipped[fault.kind] = self.skipped.get(fault.kind, 0) + 1
                self.run.note(f"skipped: {fault.kind}", text=reason)
            else:
                self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        self._work(lambda: not self.active, SPOT_NOTICE + 60)

    def await_recovery(self, condition, timeout):
        self._work(condition, timeout)

    def _work(self, condition, timeout):
        """Ends what is due, and restarts what has ended, until a condition holds."""

        def look():
            for active in [a for a in self.active if a.ends <= time.monotonic()]:
                self.active.remove(active)
                active.end()
            self.run.follow()
            self._restart()
            return condition()

        until(look, self.run.describe, every=0.2, timeout=timeout)

    # Systems restart a run that has failed.

    def _restart(self):
        now = time.monotonic()
        for member in self.run.members():
            if member.pid is None or member.id in self.lost or self.run.engine.ec2_state(member) != "running":
                continue
            process, count = self.restarted.get(member.id, (None, 0))
            with contextlib.suppress(OSError, ValueError):
                status = process.poll() if process else member.status
                # A run that has left is over, and one that has failed abandons its launch.
                if status in (None, 0) or (status not in KILLED_STATUS and self.run.engine.state(member) in LAUNCHES):
                    continue
                due = self.ended.setdefault(member.id, now + RESTART_AFTER)
                if now >= due and count < RESTARTS:
                    self.ended.pop(member.id)
                    self.run.note("restart", member, text=f"status {status}")
                    script = "exec /var/lib/cloud/user-data >> /var/log/cloud-init-output.log 2>&1"
                    self.restarted[member.id] = (member.start("/bin/sh", "-c", script), count + 1)

    # Which servers may be chosen.

    def _leader(self):
        """Its latest sample, whatever has happened since."""
        self.run.watch.now()
        fresh = [s for s in self.run.watch.latest.values() if s.time > time.monotonic() - FRESH and s.state == "up"]
        return max((s for s in fresh if leads(s)), key=lambda s: (s.index, s.time), default=None)

    def _broken(self, voters, destroys, only_destroyed=False):
        """Addresses of the voters that are not to be counted on."""
        chosen = [a for a in self.active if a.destroys or (a.breaks and not only_destroyed)]
        found = {member.address for active in chosen for member in active.members}
        if destroys:
            # The leave of one takes Consul seconds: what is lost in these is not back when it is gone.
            found |= {member.address for member in self.run.leaving}
        servers = {member.address for member in self.run.members() if member.pid and member.id not in self.lost}
        found |= voters - servers
        if not only_destroyed:
            oldest = time.monotonic() - FRESH
            found |= voters - {s.address for s in self.run.watch.latest.values() if s.time > oldest and s.state == "up"}
        return found & voters

    def _room(self, destroys):
        """How many more servers may be broken, and those that are broken already."""
        leader = self._leader()
        if self.limited or destroys:
            if not leader:
                return 0, set()
            voters = {voter.rpartition(":")[0] for voter in leader.voters}
            # One of two that is lost is no minority.
            broken = self._broken(voters, destroys, only_destroyed=not self.limited)
            return (len(voters) - 1) // 2 - len(broken), broken
        return len(self.run.servers), set()

    def _running(self):
        """Servers that have booted, in the order of their launches."""
        members = [m for m in self.run.members() if m.pid and m.id not in self.lost]
        members = [m for m in members if self.run.engine.ec2_state(m) == "running"]
        return sorted(members, key=list(self.run.sandbox.instances.values()).index)

    def _in_service(self):
        """Servers that the group counts, and that are not to go yet."""
        noticed = {m.id for active in self.active for m in active.members if active.destroys}
        return [m for m in self._running() if self.run.engine.state(m) == "InService" and m.id not in noticed]

    # The faults.

    def _try(self, fault):
        """Returns why it was left out; None if it was not."""
        if fault.kind == "aws":
            return self._aws(fault)
        if fault.kind == "metadata":
            return self._apply(fault, fault.choose(self._running(), self.run.count))
        if fault.kind in ("terminate", "replace"):
            if len(self.run.members()) >= self.run.count + SPARE:
                return "too many machines"
            victims = fault.choose(self._in_service(), 1 if self.limited else self.run.count)
            return self._apply(fault, victims)
        destroys = fault.kind in ("lose", "spot")
        room, broken = self._room(destroys)
        if room < 1:
            return f"no minority is whole: broken {sorted(broken)}" if self._leader() else "no leader"
        if fault.kind == "partition" and any(a.kind == "partition" for a in self.active):
            return "there is a partition"
        candidates = self._in_service() if destroys else self._running()
        if fault.kind == "sidecar":
            # Nothing restarts the boot of a machine with systemd, which starts its sidecar.
            candidates = [m for m in candidates if not m.systemd or self.run.engine.state(m) not in LAUNCHES]
        touched = {m.id for a in self.active if a.kind in (fault.kind, "pause", "lose") for m in a.members}
        candidates = [m for m in candidates if m.id not in touched]
        # At least one of two sides needs another one.
        most = min(room, len(candidates) - 1) if fault.kind == "partition" else room
        return self._apply(fault, fault.choose(candidates, most)) if most > 0 else "nothing to cut"

    def _apply(self, fault, victims):
        if not victims:
            return "no server to choose"
        try:
            getattr(self, "_" + fault.kind)(fault, victims)
        except (OSError, subprocess.SubprocessError) as error:
            # Auto Scaling has ended one meanwhile.
            if all(m.pid and self.run.engine.ec2_state(m) == "running" for m in victims):
                raise
            return f"too late: {error}"
        return None

    def _begin(self, fault, victims, seconds, end=lambda: None, **options):
        self.active.append(Active(fault.kind, victims, time.monotonic() + seconds, end, **options))

    def _kill(self, fault, victims):
        with self.run.event("kill -9", *victims, stops=True):
            for member in victims:
                self.run.sandbox.faults.kill_agent(member)
        self._begin(fault, victims, KILLED)

    def _pause(self, fault, victims):
        def resume():
            with self.run.event("resume", *victims):
                for member in victims:
                    self.run.sandbox.faults.resume(member)

        self._begin(fault, victims, fault.seconds, resume)
        with self.run.event(f"pause {fault.seconds:.0f} s", *victims):
            for member in victims:
                self.run.sandbox.faults.pause_agent(member)

    def _partition(self, fault, victims):
        others = [m for m in self._running() if m not in victims]
        # One client on each side: the load of both goes on.
        ones, others = victims + self.run.clients[:1], others + self.run.clients[1:]
        with self.run.event(f"cut {fault.detail} {fault.seconds:.0f} s", *victims):
            self.run.sandbox.faults.partition(ones, others, one_way=fault.detail == "one way")
        self._begin(fault, victims, fault.seconds, self.run.heal)

    def _terminate(self, fault, victims):
        self.run.terminate_in_group(*victims)

    def _replace(self, fault, victims):
        """A health check, or a refresh, replaces them: the group launches first."""
        with self.run.event("replace", *victims):
            for member in victims:
                self.run.engine.unhealthy(member)

    def _spot(self, fault, victims):
        # One at a time with the limit, so that most of the notices are those of a group that is whole.
        victims = victims[:1] if self.limited else victims

        def end():
            self.run.end_by_ec2(*[m for m in victims if self.run.engine.ec2_state(m) == "running"])
            # Until the group's own end of them they are in its list.
            self.lost.update(m.id for m in victims)

        self.run.spot(*victims, seconds=SPOT_NOTICE)
        self._begin(fault, victims, SPOT_NOTICE, end, destroys=True)

    def _lose(self, fault, victims):
        self.lost.update(m.id for m in victims)
        self.run.vanish(*victims)
        self.run.end_by_ec2(*victims)

    def _aws(self, fault):
        if any(a.kind == "aws" for a in self.active):
            return "AWS fails already"
        kind = "hang" if fault.detail == "away" else fault.detail
        # Half of the time one server's calls only.
        source = None if fault.count < 0.5 else next(iter(fault.choose(self._running(), 1)), None)
        with self.run.event(f"AWS {fault.detail} {fault.seconds:.0f} s", *([source] if source else [])):
            condition = self.run.sandbox.faults.aws(kind, source=source, value=AWS[fault.detail])

        def end():
            with self.run.event("AWS back"):
                self.run.sandbox.faults.end_aws(condition)

        self._begin(fault, [], fault.seconds, end, breaks=False)
        return None

    def _metadata(self, fault, victims):
        """Their agents run on; their notices, and the boots of new ones, are late."""
        services = [member.metadata for member in victims]
        with self.run.event(f"metadata {fault.detail} {fault.seconds:.0f} s", *victims):
            for service in services:
                break_metadata(service, fault.detail)

        def end():
            with self.run.event("metadata back", *victims):
                for service in services:
                    repair_metadata(service)

        self._begin(fault, [], fault.seconds, end, breaks=False)

    def _sidecar(self, fault, victims):
        """With the agent that it supervises; the system starts it again."""
        with self.run.event("kill -9 of the sidecar", *victims, stops=True):
            for member in victims:
                self.run.sandbox.faults.kill_sidecar(member)
                self.ended[member.id] = time.monotonic() + fault.seconds
        self._begin(fault, victims, fault.seconds + KILLED)


def break_metadata(service, way):
    service.fail, service.throttle = (math.inf if way == kind else 0 for kind in ("fail", "throttle"))
    service.slow = 3 if way == "slow" else 0
    service.away, service.garbage = way == "away", way == "garbage"
    if way == "frozen":
        service.freeze()


def repair_metadata(service):
    break_metadata(service, None)
    service.thaw()


def is_healthy(run):
    """Autopilot counts every server of the group as a healthy voter."""
    if not run.is_settled():
        return False
    leader = next((s for s in run.servers if s.address == getattr(run.watch.leader(), "address", None)), None)
    # It answers 429 as long as one is not.
    health = leader and leader.run("curl", "-sm5", "http://127.0.0.1:8500/v1/operator/autopilot/health").stdout
    try:
        servers = json.loads(health or "{}").get("Servers") or []
    except ValueError:
        return False
    return len(servers) == run.count and all(s["Healthy"] and s["Voter"] for s in servers)


def is_recorded(run):
    """The newest entry of the cluster's record names the servers of now."""
    newest = max(entries(run.sandbox, RECORD).items())[1]
    return names(newest) == sorted(server.id for server in run.servers)


def s18(run, minutes, limited=True):
    """Random faults for so many minutes; then everything has to come back by itself."""
    bounds = Bounds(run)
    nemesis = Nemesis(run, limited)
    nemesis.strike(60 * minutes)
    run.sandbox.faults.heal()
    run.note("the last fault has ended")
    healed = run.events[-1].begun
    print(f"{'':8}   faults {nemesis.counts}, left out {nemesis.skipped}", flush=True)
    seconds = run.measure("healthy", lambda: (nemesis.await_recovery(lambda: is_healthy(run), 600), True)[1], healed)
    bounds.check("all healthy after the last fault, s", seconds, 120)
    verdict = run.finish("S18" if limited else "S18, without a limit")
    verdict.figures |= {"faults": nemesis.counts, "faults left out": nemesis.skipped}
    leaves_nothing(run)
    run.measure("the record is current", lambda: is_recorded(run), healed, timeout=600)
    finish(run, bounds, verdict)
    does_not_grow(run)
