"""A fleet of clients, each with a service: what is to go leaves DNS at once, and what is killed the catalog soon."""

import datetime
import re
import socket
import struct
import threading
import time

from .. import network
from ..conftest import healthy
from ..waiting import until
from . import kills
from .checker import Limits
from .group import HOOK
from .scenarios import Bounds, finish

WEB = "web"
USER_DATA = (
    "#!/bin/sh\nexec consul-bootstrap --role client --group consul --start-jitter 1ms --sidecar-interval 5s "
    f"--termination-hook {HOOK}\n"
)
REGISTER = """
import json, urllib.request
body = json.dumps({"Name": "web", "Port": 80}).encode()
request = urllib.request.Request("http://127.0.0.1:8500/v1/agent/service/register", body, method="PUT")
urllib.request.urlopen(request, timeout=30).read()
"""
# A silence in which it can be killed.
DRAIN = " --drain 4s\n"
# Boots at a time.
BATCH = 5
LEAVING = re.compile(r"^(\S+) warning leaving the cluster", re.MULTILINE)


def query(name):
    """Of addresses (RFC 1035)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    message = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    return struct.pack(">H", len(message)) + message


def addresses(message, name):
    """Of an answer whose records name the question by a pointer."""
    _, _, _, count, _, _ = struct.unpack(">6H", message[:12])
    at = 12 + len(name) + 2 + 4
    found = set()
    for _ in range(count):
        kind, _, _, length = struct.unpack(">HHIH", message[at + 2 : at + 12])
        at += 12 + length
        if kind == 1 and length == 4:
            found.add(socket.inet_ntoa(message[at - 4 : at]))
    return found


class Resolver(threading.Thread):
    """Asks a server for the addresses of a service twenty times a second, over TCP: all of them fit."""

    def __init__(self, member, name="web.service.consul"):
        super().__init__(daemon=True)
        self.namespace, self.name = member.namespace, name
        # By address, the last time it was in an answer, on the wall clock.
        self.last, self.now = {}, set()
        self.ended, self.errors = threading.Event(), []

    def run(self):
        network.enter_namespace(self.namespace)
        while not self.ended.wait(0.05):
            try:
                # What is not in an answer was out before the question was asked.
                asked, found = time.time(), self._ask()
            except OSError as error:
                self.errors.append(error)
                continue
            self.now = found
            self.last |= dict.fromkeys(found, asked)

    def _ask(self):
        with socket.create_connection(("127.0.0.1", 8600), 5) as connection:
            connection.sendall(query(self.name))
            with connection.makefile("rb") as file:
                (length,) = struct.unpack(">H", file.read(2))
                return addresses(file.read(length), self.name)

    def close(self):
        self.ended.set()
        self.join()


def launch(run, count):
    aws, engine = run.sandbox.aws, run.engine
    aws.create_group(WEB, desired=count)
    fleet = []
    for start in range(0, count, BATCH):
        batch = [run.sandbox.launch(group=WEB, user_data=USER_DATA) for _ in range(min(BATCH, count - start))]
        healthy(*batch)
        fleet += batch
    engine.manage(WEB, USER_DATA)
    engine.put_hook(WEB, heartbeat=run.heartbeat, name=HOOK)
    for client in fleet:
        client.run("/usr/bin/python3", "-c", REGISTER, check=True)
    return fleet


def noticed(client):
    """When it logged the notice, on the wall clock."""
    found = LEAVING.search(client.log)
    return datetime.datetime.fromisoformat(found[1]).timestamp() if found else None


def catalog(member):
    nodes = member.consul("/v1/catalog/nodes?consistent")
    return {node["Node"] for node in nodes} if nodes is not None else None


def s13_clients(run, count=20):
    """Half of the fleet is to go, then the other half is killed."""
    bounds = Bounds(run)
    begun = time.monotonic()
    fleet = launch(run, count)
    print(f"{'':8}   {count} clients after {time.monotonic() - begun:.1f} s", flush=True)
    going, killed = fleet[: count // 2], fleet[count // 2 :]
    member = run.followers()[0]
    resolver = Resolver(member)
    resolver.start()
    every = {client.address for client in fleet}
    until(lambda: resolver.now >= every, lambda: f"{resolver.now} {resolver.errors[-3:]}")

    noticed_at, told = {}, time.time()
    run.terminate_in_group(*going, decrement=True)
    done = lambda: run.results(*going) == ["CONTINUE"] * len(going)
    run.measure("their hooks are completed", lambda: note_notices(going, noticed_at) and done(), run.events[-1].begun)
    out = [resolver.last[client.address] - noticed_at[client.id] for client in going]
    print(f"{'':8}   noticed after {max(noticed_at.values()) - told:.1f} s at most", flush=True)
    bounds.check("out of DNS after the notice, s", max(0, *out), 1)
    names = {client.id for client in going}
    run.measure("they are out of the catalog", lambda: not names & (catalog(member) or names), run.events[-1].begun)

    names = {client.id for client in killed}
    with run.event(f"kill {len(killed)} clients"):
        for client in killed:
            run.sandbox.terminate(client)
        run.sandbox.aws.set_desired(WEB, 0)
    seconds = run.measure(
        "the catalog is clean", lambda: not names & (catalog(member) or names), run.events[-1].begun, timeout=400
    )
    bounds.check("killed clients are out of the catalog, s", seconds, 120)
    resolver.close()
    assert not resolver.now & every, resolver.now
    finish(run, bounds, run.finish("S13"))


def note_notices(going, noticed_at):
    """Notes when each of them had its notice: the log ends with the machine."""
    for client in going:
        if client.id not in noticed_at and client.pid and (at := noticed(client)):
            noticed_at[client.id] = at
    return True


def s12_client(run):
    """A recorded departure of a client, then one for each point of it. The group replaces each of them."""

    def user_data(instance):
        kills.prepare(instance)
        return USER_DATA.rstrip("\n") + DRAIN

    run.sandbox.aws.create_group(WEB, desired=0)
    run.engine.manage(WEB, user_data, systemd=True)
    run.engine.put_hook(WEB, heartbeat=run.heartbeat, name=HOOK)
    run.engine.set_desired(WEB, 1)
    found = kills.points(depart(run))
    print(f"{'':8}   {len(found)} points", flush=True)
    for point in found:
        depart(run, point)
    with run.event("no clients"):
        run.engine.set_desired(WEB, 0)
    finish(run, Bounds(run), run.finish("S12", Limits(floor=run.count)))


def depart(run, point=None):
    """Returns what it has logged since the notice."""
    listening = []

    def is_there():
        """A pipe without a reader keeps its unit from starting."""
        found = run.engine.members(WEB, "Pending", "InService")
        if found and found[0].pid and not listening:
            listening.extend(kills.follow(found[0], command) for command in kills.PIPES)
        return found and found[0].id in (catalog(run.servers[0]) or ()) and " healthy leader=" in found[0].log

    until(is_there, run.describe, every=0.5)
    (client,) = run.engine.members(WEB, "InService")
    client.run("/usr/bin/python3", "-c", REGISTER, check=True)
    sidecar = listening[0]
    mark = len(sidecar.lines)
    sidecar.kill_at(*[point] if point else [])
    run.terminate_in_group(client)
    done = lambda: run.results(client) == ["CONTINUE"]
    run.measure("its hook is completed", done, run.events[-1].begun)
    out = lambda: client.id not in (catalog(run.servers[0]) or {client.id})
    run.measure("it is out of the catalog", out, run.events[-1].begun)
    if point:
        kills.note_kills(run, client, "client", [point], sidecar.kills)
    lines = sidecar.lines[mark:]
    for follower in listening:
        follower.close()
    return lines
