"""A cluster under load: the servers and clients of a run, its load, its samples, and what the scenario does to it."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time

from ..sandbox import ROOT, ZONES
from ..waiting import TIMEOUT, until
from . import checker, footprints, history, report

USER_DATA = "#!/bin/sh\nexec consul-bootstrap --expect {expect} {options}\n"
CLIENT = "#!/bin/sh\nexec consul-bootstrap --role client --group consul --start-jitter 1ms --sidecar-interval 5s\n"
GROUP = "consul"
# A sample that is older says nothing about now.
FRESH = 1.0


class Process:
    """One of the programs beside the scenario, controlled by lines of JSON."""

    def __init__(self, module, **options):
        self.log = options["output"] + ".log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"Tests.Sandbox.chaos.{module}"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        self.tell(**options)

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def finish(self):
        self.process.stdin.close()
        status = self.process.wait(300)
        with open(self.log) as log:
            text = log.read()
        assert status == 0 and not text, f"{self.process.args} ended with {status}: {text}"

    def kill(self):
        self.process.kill()
        self.process.wait()


class Watch:
    """The latest sample of every server, read from the sampler's file while it grows."""

    def __init__(self, path):
        self.path, self.latest, self.since = path, {}, 0.0
        self._file, self._rest = None, ""

    def _update(self):
        if self._file is None:
            if not os.path.exists(self.path):
                return
            self._file = open(self.path)  # noqa: SIM115, closed by `close`
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            sample = history.Sample(*json.loads(line))
            self.latest[sample.server] = sample

    def now(self):
        """Fresh samples of servers that answer, taken since the last event."""
        self._update()
        oldest = max(time.monotonic() - FRESH, self.since)
        return [s for s in self.latest.values() if s.time > oldest and s.state == "up"]

    def leader(self):
        """The sample of the server that is the leader by its own account; of two, that with the newer configuration."""
        leaders = [s for s in self.now() if checker.leads(s)]
        return max(leaders, key=lambda s: (s.index, s.time), default=None)

    def close(self):
        if self._file:
            self._file.close()


class Chaos:
    """- through: `clients` or `servers`: where the load enters.
    - systemd: whether the servers boot it, with cloud-init and a sidecar of their own."""

    def __init__(
        self, sandbox, directory, seed, servers=5, clients=2, through="clients", options="", rate=6, systemd=False
    ):
        self.sandbox, self.directory, self.seed, self.count = sandbox, str(directory), seed, servers
        self.through, self.rate, self.client_count = through, rate, clients
        # As keywords of `sandbox.launch`.
        self.machine = {"systemd": systemd}
        self.random = random.Random(seed)
        self.user_data, self.client_data = USER_DATA.format(expect=servers, options=options), CLIENT
        self.events, self.measured, self.bounds = [], [], []
        self.footprints = footprints.Footprints(self.members)
        self.servers, self.clients = [], []
        self._processes = []
        os.makedirs(self.directory, exist_ok=True)
        self.watch = Watch(self.path("samples.jsonl"))

    def path(self, name):
        return os.path.join(self.directory, name)

    # Begin and end.

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        self._end()

    def _start(self):
        self.sandbox.kept_logs = self.directory
        self.sandbox.aws.create_group(GROUP, desired=self.count)
        self._prepare()
        self.servers = [self.sandbox.launch(group=GROUP, boot=False, **self.machine) for _ in range(self.count)]
        for server in self.servers:
            self._boot(server)
        self.sampler = self._run("sampler", output=self.watch.path, datacenter="dc1", interval=0.1)
        self._retarget()
        self.footprints.start()
        until(self.is_settled, self.describe)
        tags = {"Name": "client"}
        self.clients = [self.sandbox.launch(user_data=self.client_data, tags=tags) for _ in range(self.client_count)]
        until(lambda: all(" healthy leader=" in c.log for c in self.clients), lambda: self.clients[0].log[-3000:])
        self.load = self._run(
            "workload",
            output=self.path("operations.jsonl"),
            seed=self.seed,
            threads=8,
            rate=self.rate,
            through=self.through,
        )
        self._retarget()
        until(lambda: self._recorded() > 200 or self._problems(), self.describe)

    def _prepare(self):
        """Before the first launch."""

    def _boot(self, server):
        server.boot(self.user_data)

    def _run(self, module, **options):
        process = Process(module, **options)
        self._processes.append(process)
        return process

    def _end(self):
        for server in self.members():
            server.keep_log(self.directory)
        for process in self._processes:
            process.kill()
        self.footprints.finish()
        self.watch.close()

    def _recorded(self):
        path = self.path("operations.jsonl")
        if not os.path.exists(path):
            return 0
        with open(path) as file:
            return sum(1 for _ in file)

    def members(self):
        """The servers that are there, whether they stay or not."""
        return self.servers

    def _targets(self, members):
        return [{"name": m.id, "namespace": m.namespace, "address": m.address} for m in members]

    def _retarget(self):
        """After a change of the servers."""
        self.sampler.tell(targets=self._targets(self.servers))
        if self.clients and len(self._processes) > 1:
            self.load.tell(targets=self._targets(self.servers if self.through == "servers" else self.clients))

    # The state of the cluster.

    def voters(self):
        leader = self.watch.leader()
        return {voter.rpartition(":")[0] for voter in leader.voters} if leader else set()

    def is_settled(self):
        """Every server follows one leader, and exactly the servers of the group are voters."""
        now = {s.server: s for s in self.watch.now()}
        addresses = {server.address for server in self.servers}
        return (
            set(now) >= {server.id for server in self.servers}
            and len({now[server.id].leader for server in self.servers}) == 1
            and self.voters() == addresses
        )

    def follow_one_leader(self):
        now = {s.server: s.leader for s in self.watch.now()}
        return set(now) >= {s.id for s in self.servers} and len(set(now.values())) == 1 and self.watch.leader()

    def describe(self):
        lines = [str(sample) for sample in self.watch.latest.values()]
        logs = [f"--- {s.id} {s.address}\n{s.log[-1500:]}" for s in self.servers]
        return "\n".join([*lines, *logs, *self._problems()])

    def _problems(self):
        """What the programs beside the scenario report; they print nothing else."""
        logs = []
        for process in self._processes:
            with open(process.log) as log:
                logs.append(log.read())
        return [log for log in logs if log]

    def leader(self):
        """The server that leads."""
        leading = until(lambda: self.watch.leader(), self.describe)
        return next(server for server in self.servers if server.address == leading.address)

    def followers(self):
        leader = self.leader()
        return [server for server in self.servers if server is not leader]

    # What happens to it.

    @contextlib.contextmanager
    def event(self, kind, *members, stops=False):
        begun = time.monotonic()
        yield
        ended = self.watch.since = time.monotonic()
        for id, address in [(m.id, m.address) for m in members] or [("", "")]:
            self.events.append(history.Event(begun, ended, kind, id, stops, address))
        print(f"{ended - self.events[0].begun:8.1f} s  {kind} {' '.join(m.address for m in members)}", flush=True)

    def kill_agent(self, member):
        """SIGKILL; its supervisor starts it again."""
        with self.event("kill -9", member, stops=True):
            assert self.sandbox.faults.kill_agent(member) == 1

    def power_off(self, *members):
        """A power failure: the disks are kept."""
        with self.event("power off", *members, stops=True):
            for member in members:
                member.kill()

    def boot(self, *members):
        with self.event("boot", *members):
            for member in members:
                member.boot(self.user_data)

    def panic(self, *members):
        """The machines are gone from one moment to the next, with their disks; EC2 reports them as terminated."""
        with self.event("panic", *members, stops=True):
            for member in members:
                self._remove(member)
        self._retarget()

    def terminate(self, *members):
        """EC2 terminates them: the operating system shuts down first."""
        with self.event("terminate", *members, stops=True):
            for member in members:
                member.signal_run(15)
            until(lambda: all(m.status is not None for m in members), self.describe)
            for member in members:
                self._remove(member)
        self._retarget()

    def cut(self, these, those):
        """No packet passes between two sets of machines; both reach AWS."""
        with self.event("cut", *these):
            self.sandbox.faults.partition(these, those)

    def heal(self):
        with self.event("heal"):
            self.sandbox.faults.heal()

    def _remove(self, member):
        self.servers.remove(member)
        self.sandbox.terminate(member)

    def replace(self, count=1):
        """The group launches as many as it has lost."""
        fresh = []
        for _ in range(count):
            zones = [member.zone for member in [*self.servers, *fresh]]
            fresh.append(self.sandbox.launch(zone=min(ZONES, key=zones.count), group=GROUP, boot=False, **self.machine))
        with self.event("launch", *fresh):
            for member in fresh:
                member.boot(self.user_data)
        self.servers += fresh
        self._retarget()
        return fresh

    def measure(self, what, condition, since, timeout=TIMEOUT, describe=None):
        """Waits for a condition, and notes after what time it held."""
        until(condition, describe or self.describe, timeout=timeout)
        seconds = time.monotonic() - since
        self.measured.append({"what": what, "seconds": round(seconds, 2)})
        print(f"{'':8}   {what} after {seconds:.2f} s", flush=True)
        return seconds

    def finish(self, name, limits=None, is_whole=True, readers=()):
        """Ends the load, reads every key through every server, checks, and writes the report. Returns the verdict.

        - is_whole: whether the cluster can be read, and is waited for.
        - readers: servers to read from where it is not."""
        if is_whole:
            until(self.is_settled, self.describe)
        self.load.tell(finish=self._targets(self.servers if is_whole else readers))
        self.load.finish()
        self.sampler.finish()
        self.name = name
        self.operations = history.read(self.path("operations.jsonl"), history.Operation)
        self.samples = history.read(self.watch.path, history.Sample)
        verdict = checker.check(self.operations, self.samples, self.events, limits)
        report.write(self, name, self.operations, self.samples, verdict)
        return verdict
