"""SIGKILL at every line that a departure logs: the next process goes on, and the end is the same.

Which lines there are is found by a recorded departure in which nothing is killed.
"""

import contextlib
import itertools
import json
import os
import re
import select
import signal
import stat
import subprocess
import threading
import time
from dataclasses import dataclass

from .. import network
from ..waiting import until
from . import history
from .checker import Limits
from .departures import one_at_a_time
from .group import GroupChaos
from .scenarios import Bounds, finish

# By command; a unit's other commands write to it, too.
PIPES = {"sidecar": "/var/log/sidecar.pipe", "leave": "/var/log/leave.pipe"}
UNITS = {"sidecar": "consul-bootstrap", "leave": "consul"}
LOGGING = "Environment=CONSUL_BOOTSTRAP_LOG_LEVEL=debug\nEnvironment=CONSUL_BOOTSTRAP_LOG_FORMAT=json\n"
# Ten seconds pass otherwise before systemd starts it again.
RESTART = {"sidecar": "RestartSec=100ms\n", "leave": ""}
LAST = "completed lifecycle hook"
LOCK = "/v1/kv/consul-bootstrap/leave?consistent"
# Of lines that come again and again.
MOST_OF_ONE = 2
# A silence of so many seconds has a middle.
SILENCE = 1


def prepare(instance):
    """Before its boot."""
    for command, unit in UNITS.items():
        target = instance.path(f"/etc/systemd/system/{unit}.service.d/sandbox.conf")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w") as file:
            file.write(f"[Service]\nStandardError=file:{PIPES[command]}\n{LOGGING}{RESTART[command]}")
        pipe = instance.path(PIPES[command])
        os.makedirs(os.path.dirname(pipe), exist_ok=True)
        # A power failure leaves it.
        if not os.path.exists(pipe):
            os.mknod(pipe, stat.S_IFIFO | 0o600)


def text_of(line):
    """Without what differs from one departure to the next."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    words = f"{record['message']} {record.get('reason', '')}"
    return re.sub(r"\bi-[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]+|\d+(\.\d+)*", "N", words).strip()


@dataclass(frozen=True)
class Point:
    """Where a process may be killed: a line, or its begin, the how-manieth of it, and so many seconds later."""

    text: str
    number: int = 1
    delay: float = 0


# One of each phase; the third is the first line of the process after the leave has begun.
SAMPLE = tuple(map(Point, ("leaving the cluster", "this server leaves", "leaving the cluster", "this server has left")))


def points(lines, last=LAST):
    """Every line to the end of the departure, and the middle of every silence.

    - lines: each with its time.
    - last: how the line begins at which the departure ends."""
    counts, found = {}, []
    for (at, text), (later, _) in itertools.pairwise([*lines, lines[-1]]):
        counts[text] = counts.get(text, 0) + 1
        if counts[text] <= MOST_OF_ONE:
            found.append(Point(text, counts[text]))
            if later - at >= SILENCE:
                found.append(Point(text, counts[text], round((later - at) / 2, 1)))
        if text.startswith(last):
            break
    return found


class Follower(threading.Thread):
    """Reads what a process logs, and kills it at points, one after the other.

    - handle: returns a handle of the process that logs now, or None."""

    def __init__(self, file, handle):
        super().__init__(daemon=True)
        self.file, self.handle = file, handle
        # Each with its time; and the times of the kills.
        self.lines, self.kills = [], []
        self._points, self._seen, self._due = [], 0, None
        self._process = None
        self._ending, self._end = os.pipe()
        self._lock = threading.Lock()

    def kill_at(self, *points):
        """At lines of now on; without a point none."""
        with self._lock:
            self._points, self._seen, self._due, self.kills = list(points), 0, None, []
            if points:
                # Found in advance: it is killed before it has done much more.
                self._find()

    def run(self):
        rest = b""
        while True:
            left = None if self._due is None else max(0, self._due - time.monotonic())
            ready = select.select([self.file, self._ending], [], [], left)[0]
            if self._ending in ready:
                return
            with self._lock:
                if self._due is not None and time.monotonic() >= self._due:
                    self._kill()
            if self.file not in ready:
                continue
            received = os.read(self.file, 65536)
            if not received:
                return
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                self._take(line.decode(errors="replace"))

    def _take(self, line):
        text = text_of(line)
        if text is None:
            return
        with self._lock:
            if self._points and self._due is None and text.startswith(self._points[0].text):
                self._seen += 1
                if self._seen == self._points[0].number:
                    self._due = time.monotonic() + self._points[0].delay
                    if self._points[0].delay == 0:
                        self._kill()
        self.lines.append((time.monotonic(), text))

    def _kill(self):
        self._due, self._seen = None, 0
        self._points.pop(0)
        for _ in range(2):
            with contextlib.suppress(ProcessLookupError):
                if self._process is not None:
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)
                    self.kills.append(time.monotonic())
                    return
            self._find()

    def _find(self):
        if self._process is not None:
            os.close(self._process)
        self._process = self.handle()

    def close(self):
        os.write(self._end, b".")
        self.join()
        for file in (self.file, self._ending, self._end, self._process):
            if file is not None:
                os.close(file)


def follow(instance, command):
    """What this command logs in its unit, of a prepared instance that has booted."""

    def handle():
        for pid in network.processes_in(instance.namespace):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
                if words[0].endswith(b"/consul-bootstrap") and words[1:2] == [command.encode()]:
                    return os.pidfd_open(pid)
        return None

    # For writing, too: it never ends.
    follower = Follower(os.open(instance.path(PIPES[command]), os.O_RDWR), handle)
    follower.start()
    return follower


def leave(run, instance, point=None):
    """Runs `leave` on an instance, and kills it at a line. Returns its exit status and its lines."""
    arguments = ["/usr/local/bin/consul-bootstrap", "leave", "--log-level", "debug", "--log-format", "json"]
    process = subprocess.Popen(instance.command(arguments), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def handle():
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            child = next(iter(file.read().split()), None)
        return os.pidfd_open(int(child)) if child else None

    follower = Follower(os.dup(process.stderr.fileno()), handle)
    follower.kill_at(*[point] if point else [])
    follower.start()
    try:
        run.follow_until(lambda: process.poll() is not None)
    finally:
        process.stderr.close()
        follower.join()
        follower.close()
    return process.returncode, follower.lines, follower.kills


class SystemdGroup(GroupChaos):
    """Servers whose agent and sidecar are units; the sidecar's log is read while it is written."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.machine = {"systemd": True}
        self.followers_of = {}

    def _prepare(self):
        super()._prepare()
        # What the engine launches, too.
        self.engine.manage(self.engine.groups.popitem()[0], self._user_data, systemd=True)

    def _user_data(self, instance):
        prepare(instance)
        return self.user_data

    def _boot(self, member):
        member.boot(self._user_data(member))
        self.listen(member)

    def listen(self, member):
        """A pipe without a reader keeps its unit from starting."""
        if member.id not in self.followers_of:
            self.followers_of[member.id] = {command: follow(member, command) for command in PIPES}
        return self.followers_of[member.id]

    def follow(self):
        super().follow()
        for member in self.members():
            if member.pid and all(os.path.exists(member.path(pipe)) for pipe in PIPES.values()):
                self.listen(member)

    def follow_until(self, condition):
        until(lambda: (self.follow(), condition())[1], self.describe)

    def _end(self):
        super()._end()
        for id, followers in self.followers_of.items():
            for command, follower in followers.items():
                follower.close()
                with open(self.path(f"{id}.{command}.log"), "w") as file:
                    file.write("\n".join(f"{at:.3f} {text}" for at, text in follower.lines))


def note_kills(run, member, name, points, times):
    for point, at in itertools.zip_longest(points, times):
        kind = f"kill -9, {name}" if at else f"no line, {name}"
        at = at or time.monotonic()
        run.events.append(history.Event(at, at, kind, member.id, False, member.address))
        print(f"{'':8}   {kind}: {point.text} ({point.number}, {point.delay} s)", flush=True)


# What must hold.


def is_free(run):
    """No lock of a departure is held, and no session of one is left."""
    member = run.servers[0]
    (entry,) = member.consul(LOCK) or [{"Session": None}]
    sessions = member.consul("/v1/session/list?consistent")
    return sessions is not None and not entry.get("Session") and not [s for s in sessions if "leave" in s["Name"]]


def agents(members):
    return {member.id: member.run("pgrep", "-o", "-x", "consul").stdout.strip() for member in members}


def depart(run, role=None, *points):
    """The leader and another server are to go at once, and the group replaces them.

    - role: of the `leader` or the `follower`, of which the sidecar is killed at these points.
    Returns what each of them has logged since the notice."""
    leader = run.leader()
    going = {"leader": leader, "follower": run.random.choice([s for s in run.servers if s is not leader])}
    others = [server for server in run.servers if server not in going.values()]
    before = agents(others)
    followers = {role: run.listen(member)["sidecar"] for role, member in going.items()}
    marks = {role: len(follower.lines) for role, follower in followers.items()}
    for name, follower in followers.items():
        follower.kill_at(*points if name == role else [])
    run.terminate_in_group(*going.values())
    await_departure(run, list(going.values()), others, before)
    if role:
        note_kills(run, going[role], role, points, followers[role].kills)
    return {role: follower.lines[marks[role] :] for role, follower in followers.items()}


def await_departure(run, going, others, before):
    """Until the group is whole again. Each hook is completed once, and no other server was disturbed."""
    begun = run.events[-1].begun
    run.measure("they have left", lambda: run.have_left(*going), begun)
    run.measure("settled", run.is_settled, begun)
    until(lambda: is_free(run), run.describe, every=0.5)
    assert run.results(*going) == ["CONTINUE"] * len(going), run.results()
    assert agents(others) == before, "a server that was not to go was disturbed"


def s12_departure(run):
    """A recorded departure of the leader and a follower, then one for each point of either of them."""
    found = [(role, point) for role, lines in depart(run).items() for point in points(lines)]
    print(f"{'':8}   {len(found)} points", flush=True)
    for role, point in found:
        depart(run, role, point)
    conclude(run)


def conclude(run):
    verdict = run.finish("S12", Limits(shrink=1))
    one_at_a_time(run)
    missed = [event for event in run.events if event.kind.startswith("no line")]
    print(f"{'':8}   {len(missed)} points were not reached", flush=True)
    finish(run, Bounds(run), verdict)


def s12_leave(run, depart):
    """The same for `leave`, while the group terminates another server.

    - depart: by hand, or by a stop of the unit."""
    found = points(depart(run))
    print(f"{'':8}   {len(found)} points", flush=True)
    for point in found:
        depart(run, point)
    conclude(run)


@contextlib.contextmanager
def another_goes(run):
    """Gives one that the other has to wait for. A leader has other lines each time."""
    member, other = run.random.sample(run.followers(), 2)
    others = [server for server in run.servers if server not in (member, other)]
    before = agents(others)
    run.terminate_in_group(other)
    yield member
    await_departure(run, [other], others, before)


def by_hand(run, point=None):
    """A person repeats it. Returns what it has logged."""
    with another_goes(run) as member:
        status, lines, kills = leave(run, member, point)
        if point:
            note_kills(run, member, "leave", [point], kills)
        if status:
            assert kills, (status, lines)
            status, again, _ = leave(run, member)
            assert status == 0, again
        run.measure("it has left", lambda: run.have_left(member), run.events[-1].begun)
        until(lambda: not agents([member])[member.id], run.describe, every=0.5)
        run.terminate_in_group(member)
    assert run.results(member) == ["CONTINUE"], run.results(member)
    return lines


def by_stop(run, point=None):
    """What is killed leaves, or stays a voter; the unit is started again. Returns what it has logged."""
    with another_goes(run) as member:
        follower = run.listen(member)["leave"]
        mark = len(follower.lines)
        follower.kill_at(*[point] if point else [])
        stop = member.start("systemctl", "stop", "consul")
        run.follow_until(lambda: stop.poll() is not None)
        if point:
            note_kills(run, member, "leave --stopping", [point], follower.kills)
        lines = follower.lines[mark:]
        assert not agents([member])[member.id]
        member.run("systemctl", "start", "consul", check=True)
    return lines
