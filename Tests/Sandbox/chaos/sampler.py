"""Asks every server ten times a second what it knows of the cluster: a process of its own, controlled by lines of JSON
on standard input, with whose end it ends.

    {"output": PATH, "datacenter": "dc1", "interval": 0.1}
    {"targets": [{"name": ID, "namespace": NAMESPACE, "address": ADDRESS}, ...]}
"""

import json
import sys
import threading
import time

from .. import network
from . import history
from .rpc import Connection, RPCError

IDENTITY_KEY = "consul-bootstrap/cluster"
# The identity is a read of the key-value store, and never changes: every tenth sample asks for it.
IDENTITY_EVERY = 10


class Server(threading.Thread):
    """Samples one server, from within its own network: a partition does not keep the sampler out."""

    def __init__(self, target, datacenter, interval, record):
        super().__init__(daemon=True)
        self.target_name, self.namespace, self.address = target["name"], target["namespace"], target["address"]
        self.datacenter, self.interval, self.record = datacenter, interval, record
        self.ended = threading.Event()
        self._connection = None
        self._count = 0

    def run(self):
        try:
            network.enter_namespace(self.namespace)
        except OSError:
            return
        due = time.monotonic()
        while not self.ended.wait(max(0, due - time.monotonic())):
            sample = self._sample()
            if not self.ended.is_set():
                self.record(sample)
            due = max(due + self.interval, time.monotonic())

    def _sample(self):
        sample = history.Sample(time.monotonic(), self.target_name, self.address, "up")
        try:
            self._ask(sample)
        except TimeoutError:
            self._close()
            sample.state = "timeout"
        except RPCError as error:
            # Such as a server without a leader: it runs, and has no answer. One that shuts down closes connections.
            sample.state = "refused" if error.is_closed else "up"
            self._close()
        except OSError:
            self._close()
            sample.state = "refused"
        return sample

    def _ask(self, sample):
        if self._connection is None:
            self._connection = Connection(self.address)
        sample.leader = self._connection.call("Status.Leader")
        sample.peers = tuple(self._connection.call("Status.Peers") or ())
        options = {"Datacenter": self.datacenter, "AllowStale": True}
        reply = self._connection.call("Operator.RaftGetConfiguration", options)
        sample.index = reply["Index"]
        sample.voters = tuple(sorted(server["Address"] for server in reply["Servers"] or () if server["Voter"]))
        self._count += 1
        if self._count % IDENTITY_EVERY == 1:
            entries = self._connection.call("KVS.Get", {**options, "Key": IDENTITY_KEY})["Entries"]
            sample.cluster = entries[0]["Value"] if entries else None

    def _close(self):
        if self._connection:
            self._connection.close()
        self._connection = None


def main():
    options = json.loads(sys.stdin.readline())
    lock = threading.Lock()
    servers = {}
    with open(options["output"], "w", buffering=1) as file:

        def record(sample):
            with lock:
                history.write(file, sample)

        for line in sys.stdin:
            targets = {target["name"]: target for target in json.loads(line)["targets"]}
            for name in list(servers):
                if name not in targets:
                    servers.pop(name).ended.set()
            for name, target in targets.items():
                if name not in servers:
                    servers[name] = Server(target, options["datacenter"], options["interval"], record)
                    servers[name].start()
        for server in servers.values():
            server.ended.set()
        for server in servers.values():
            server.join(3)


if __name__ == "__main__":
    main()
